"""params.yaml, read once and held against what the code knows: a misspelt name is an error, not a default."""

import os
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError

Head = Literal["mask", "presence", "vessel"]


class ParameterError(ValueError):
    """A value of params.yaml that cannot be used; the message names its key."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class InputSize(_Section):
    """What the network takes: pixels, and whose mean and deviation normalise them."""

    height: PositiveInt
    width: PositiveInt
    normalisation: Literal["frame", "dataset"]


class Net(_Section):
    """A U-net: filters level by level, the first convolution's stride, and what it answers.

    heads: "mask" always; "presence" learns whether the frame holds a nerve (without it presence is read off the
    mask); "vessel" learns vessels as a second task where the source labels them.
    """

    filters: list[PositiveInt]
    stem: Literal[1, 2]
    batch_norm: bool
    heads: list[Head]


class Augment(_Section):
    """How far training frames are moved and changed; 0 leaves a thing as it is.

    shift, zoom: shares of the frame; rotate: degrees; gain: share by which contrast and brightness change;
    speckle: deviation of a multiplicative noise.
    """

    shift: float
    zoom: float
    rotate: float
    gain: float
    speckle: float


class Phase(_Section):
    """Epochs at one learning rate, or falling from it to zero along half a cosine."""

    epochs: PositiveInt
    learning_rate: float
    decay: Literal["none", "cosine"] = "none"


class Recipe(_Section):
    """How a net is trained.

    steps: batches in an epoch; None is once through the frames. average: momentum of the weights' moving average,
    which is then what is kept. patience: epochs without a better validation Dice before training stops and the best
    epoch's weights are kept; None trains to the end and keeps the last.
    """

    loss: Literal["soft_dice", "cross_entropy_dice"]
    batch: PositiveInt
    phases: list[Phase]
    steps: PositiveInt | None = None
    augment: Augment | None = None
    average: float | None = None
    patience: PositiveInt | None = None

    @property
    def epochs(self) -> int:
        """Epochs of all phases together."""
        return sum(phase.epochs for phase in self.phases)


class Candidate(_Section):
    """One entry of `nerve.unets`."""

    input: InputSize
    net: Net
    recipe: Recipe


def root() -> Path:
    """The project's root, where the MLflow store lies and from which relative paths of params.yaml are taken.

    In `dvc exp run --temp` the working directory is a copy, while DVC_ROOT stays the original's.
    """
    return Path(os.environ.get("DVC_ROOT", os.getcwd()))


def nerve() -> dict[str, Any]:
    """The section `nerve` of params.yaml."""
    return yaml.safe_load(Path("params.yaml").read_text())["nerve"]


def candidate(name: str) -> Candidate:
    """The candidate `name` of `nerve.unets`. Raises ParameterError where it is missing or has a faulty entry."""
    unets = nerve()["unets"]
    if name not in unets:
        raise ParameterError(f"params.yaml: nerve.unets has no {name!r}; it has {', '.join(unets)}")
    try:
        return Candidate(**unets[name])
    except ValidationError as fault:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in fault.errors())
        raise ParameterError(f"params.yaml: nerve.unets.{name}.{faults}") from fault
