"""The section `digits` of params.yaml."""

from typing import Any

from pydantic import NonNegativeFloat, PositiveInt

from training.workspace.nerve_parameters import Fraction, PhasedTraining
from training.workspace.parameter_validation import Name, ParameterError, Section, read_section

KerasObject = str | dict[str, dict[str, Any]]  # the name of a Keras class, or {name: its arguments}


class DigitAugmentation(Section):
    """Random changes of training digits."""

    shift: NonNegativeFloat
    """Maximum translation, as a fraction of the image's side."""
    zoom: NonNegativeFloat
    """Maximum of the scale's natural logarithm."""
    shear: NonNegativeFloat
    """Maximum horizontal shift from row to row, as a fraction of the row's distance."""
    rotate: NonNegativeFloat
    """Maximum rotation, degrees."""


class DigitNet(PhasedTraining):
    """One entry of `digits.nets`: a sequential network and its training."""

    about: str = ""
    """A description for readers."""
    layers: list[KerasObject]
    """Classes of keras.layers, from the input image (28, 28, 1) to 10 probabilities."""
    loss: KerasObject
    """A class of keras.losses."""
    optimizer: KerasObject
    """A class of keras.optimizers."""
    batch_size: PositiveInt
    """Digits in a batch."""
    augment: DigitAugmentation | None = None
    """Augmentation of training digits. None: no augmentation."""
    ema_momentum: Fraction | None = None
    """Momentum of the exponential moving average of the weights. The average is the result. None: no average."""


class DigitsParameters(Section):
    """The section `digits`."""

    path: str
    """A folder with MNIST's four files; a relative path starts at the project's root. Without them MNIST is fetched."""
    seed: int
    """Seed of the initial weights, of the order of digits and of the augmentation."""
    nets: dict[Name, DigitNet]
    """Networks by name."""
    lessons: dict[Name, dict[str, Any]]
    """Arguments of each lesson of training.digits, by the lesson's name."""

    def net(self, name: str) -> DigitNet:
        """Return the network of this name. Raises ParameterError if there is none."""
        if name not in self.nets:
            raise ParameterError(f"params.yaml: digits.nets has no {name!r}; it has {', '.join(self.nets)}")
        return self.nets[name]


def read_digits_parameters() -> DigitsParameters:
    """Return the section `digits` of params.yaml. Raises ParameterError for an invalid entry."""
    return read_section(DigitsParameters, "digits")
