"""params.yaml, read once and held against what the code knows: a misspelt name is an error, not a default."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError, model_validator

Head = Literal["mask", "presence", "vessel", "coarse"]
Source = Literal["phantom", "usgra", "kaggle"]
Share = Annotated[float, Field(gt=0, lt=1)]


class ParameterError(SystemExit):
    """A value of params.yaml that cannot be used; the message names its key. It ends a stage, and is all it says."""


class Section(BaseModel):
    """A mapping of params.yaml, of which each key is known."""

    model_config = ConfigDict(frozen=True, extra="forbid")


S = TypeVar("S", bound=Section)


class Phantom(Section):
    """How many simulated subjects, and frames of each."""

    subjects: PositiveInt
    frames: PositiveInt
    seed: int


class Split(Section):
    """Shares of the groups that are held out. blocks: how many groups there are where subjects are not recorded."""

    validation: Share
    test: Share
    blocks: PositiveInt
    seed: int


class Nerve(Section):
    """The section `nerve`. The entries of unets and ablations are held against what they must be where they are used.

    path: "" is the source's own home. on_fault: what a faulty pair does. race: the candidates, by their names in unets.
    refit: the sources whose champion, once judged, is trained anew on every labelled frame.
    """

    source: Source
    path: str
    on_fault: Literal["stop", "leave_out"]
    phantom: Phantom
    split: Split
    race: Annotated[list[str], Field(min_length=1)]
    seed: int
    refit: list[Source]
    unets: dict[str, dict[str, Any]]
    ablations: dict[str, Any]

    @model_validator(mode="after")
    def _race_is_of_its_unets(self) -> Self:
        if unknown := set(self.race) - self.unets.keys():
            raise ValueError(f"race: unets has no {', '.join(sorted(unknown))}; it has {', '.join(self.unets)}")
        return self

    @property
    def learns_all(self) -> bool:
        """Whether what is served learns every labelled frame."""
        return self.source in self.refit


class InputSize(Section):
    """What the network takes: pixels, and whose mean and deviation normalise them."""

    height: PositiveInt
    width: PositiveInt
    normalisation: Literal["frame", "dataset"]


class Net(Section):
    """A U-net: filters level by level, the first convolution's stride, and what it answers.

    heads: "mask" always; "presence" learns whether the frame holds a nerve (without it, and where all training frames
    do or none does, presence is read off the mask); "vessel" learns vessels as a second task where the source labels
    them; "coarse" draws the mask at each coarser level of the way up, too, while it learns. encoder: instead of a way
    down of its own, EfficientNet-Lite0 at a half of the input's resolution and less; filters are then those of the way
    up, the widest level first. start: of that encoder's weights: as ImageNet taught them, or as every net's. gated:
    attention gates weigh what each level hands across.
    """

    filters: list[PositiveInt]
    stem: Literal[1, 2, 4]
    batch_norm: bool
    heads: list[Head]
    encoder: Literal["efficientnet_lite0"] | None = None
    start: Literal["random", "imagenet"] = "random"
    gated: bool = False

    @property
    def halvings(self) -> int:
        """How often an input is halved on the way down."""
        return 5 if self.encoder else len(self.filters) - 1 + self.stem.bit_length() - 1

    @model_validator(mode="after")
    def _can_be_built(self) -> Self:
        if "mask" not in self.heads:
            raise ValueError('heads: "mask" is always one of them')
        if self.encoder and (self.stem != 2 or len(self.filters) != 4):
            raise ValueError(f"{self.encoder} hands across four levels, the widest at a stem of 2")
        if self.start == "imagenet" and not self.encoder:
            raise ValueError("ImageNet has taught an encoder's weights only: name one, or start at random")
        return self


class Augment(Section):
    """How far training frames are moved and changed; 0 leaves a thing as it is.

    shift, zoom: shares of the frame; rotate: degrees; gain: share by which contrast and brightness change;
    speckle: deviation of a multiplicative noise; elastic: deviation of smooth moves, share of the frame; gamma: of the
    grey curve's exponent, its logarithm at most; sliders: deviation of the gain's logarithm over the depth; shadow:
    share of frames that get one; blur: deviation of a Gaussian at most, pixels, on every second frame.
    """

    shift: float
    zoom: float
    rotate: float
    gain: float
    speckle: float
    elastic: float = 0.0
    gamma: float = 0.0
    sliders: float = 0.0
    shadow: float = 0.0
    blur: float = 0.0


class Phase(Section):
    """Epochs at one learning rate, or falling from it to zero along half a cosine."""

    epochs: PositiveInt
    learning_rate: float
    decay: Literal["none", "cosine"] = "none"


class _Phased(Section):
    phases: list[Phase]

    @property
    def epochs(self) -> int:
        """Epochs of all phases together."""
        return sum(phase.epochs for phase in self.phases)


class Recipe(_Phased):
    """How a net is trained.

    steps: batches in an epoch; None is once through the frames. average: momentum of the weights' moving average,
    which is then what is kept. patience: epochs without a better validation Dice before training stops and the best
    epoch's weights are kept; None trains to the end and keeps the last. encoder_rate: share of the learning rate at
    which an encoder's weights move: what ImageNet has taught is not to be lost while the rest is still noise.
    restored: epochs of drawing hidden parts of the training frames, without their masks, that come before all others.
    simulated: epochs on phantom frames that come before those on real ones. teachers: nets of this recipe that are
    trained before, whose mean answer is half of what this one is taught.
    """

    loss: Literal[
        "soft_dice", "cross_entropy_dice", "cross_entropy_frame_dice", "focal_tversky", "outlines", "boundary"
    ]
    batch: PositiveInt
    steps: PositiveInt | None = None
    augment: Augment | None = None
    average: Share | None = None
    patience: PositiveInt | None = None
    encoder_rate: float = 1.0
    restored: NonNegativeInt = 0
    simulated: NonNegativeInt = 0
    teachers: NonNegativeInt = 0


class Candidate(Section):
    """One entry of `nerve.unets`. mirrored: it is asked twice, once left for right, for the mean of both answers."""

    input: InputSize
    mirrored: bool
    net: Net
    recipe: Recipe

    @model_validator(mode="after")
    def _takes_its_input(self) -> Self:
        unit, (height, width) = 2**self.net.halvings, (self.input.height, self.input.width)
        if height % unit or width % unit:
            raise ValueError(
                f"input: {height}x{width} cannot be halved {self.net.halvings} times, take multiples of {unit}"
            )
        return self


class Move(Section):
    """How far a training digit is moved at most: shift, zoom and shear as shares of its side, rotate in degrees."""

    shift: float
    zoom: float
    shear: float
    rotate: float


Named = str | dict[str, dict[str, Any]]  # of Keras: a name, or a name with its arguments


class DigitNet(_Phased):
    """One entry of `digits.nets`: a net as the list of its layers, and how it is trained.

    Layers, losses and optimizers have Keras' own names and arguments. average: momentum of the weights' moving
    average, which is then what is kept. about: for people.
    """

    about: str = ""
    layers: list[Named]
    loss: Named
    optimizer: Named
    batch: PositiveInt
    augment: Move | None = None
    average: Share | None = None


class Digits(Section):
    """The section `digits`: where MNIST lies, the nets, and what each lesson is given."""

    path: str
    seed: int
    nets: dict[str, DigitNet]
    lessons: dict[str, dict[str, Any]]

    def net(self, name: str) -> DigitNet:
        """The net of that name. Raises ParameterError."""
        if name not in self.nets:
            raise ParameterError(f"params.yaml: digits.nets has no {name!r}; it has {', '.join(self.nets)}")
        return self.nets[name]


def root() -> Path:
    """The project's root, where the MLflow store lies and from which relative paths of params.yaml are taken.

    In `dvc exp run --temp` the working directory is a copy, while DVC_ROOT stays the original's.
    """
    return Path(os.environ.get("DVC_ROOT", os.getcwd()))


def nerve() -> Nerve:
    """The section `nerve` of params.yaml. Raises ParameterError where an entry is faulty."""
    return held(Nerve, _read()["nerve"], "nerve")


def digits() -> Digits:
    """The section `digits` of params.yaml. Raises ParameterError where an entry is faulty."""
    return held(Digits, _read()["digits"], "digits")


def candidate(name: str) -> Candidate:
    """The candidate `name` of `nerve.unets`. Raises ParameterError where it is missing or has a faulty entry."""
    unets = nerve().unets
    if name not in unets:
        raise ParameterError(f"params.yaml: nerve.unets has no {name!r}; it has {', '.join(unets)}")
    return held(Candidate, unets[name], f"nerve.unets.{name}")


def _read() -> dict[str, Any]:
    return yaml.safe_load(Path("params.yaml").read_text())


def held(section: type[S], entry: dict[str, Any], key: str) -> S:
    """An entry of params.yaml as what it must be. Raises ParameterError, which names `key`."""
    try:
        return section(**entry)
    except ValidationError as fault:
        faults = "; ".join(f"{'.'.join(map(str, (key, *e['loc'])))}: {e['msg']}" for e in fault.errors())
        raise ParameterError(f"params.yaml: {faults}") from fault
