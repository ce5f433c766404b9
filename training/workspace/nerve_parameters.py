"""The section `nerve` of params.yaml: one model for each mapping, each parameter with its unit, range and meaning.

training/workspace/digits_parameters.py documents the section `digits`.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from training.workspace.parameter_validation import Name, ParameterError, Section, read_section, validate_section

# The data sources. Each name is a module of training.data.sources with a function `pairs`.
Source = Literal["phantom", "usgra", "kaggle", "folder"]
Head = Literal["mask", "presence", "vessel", "deep_supervision"]
Loss = Literal["soft_dice", "cross_entropy_dice", "focal_tversky", "edge_weighted", "boundary"]
Tta = Literal["none", "flip"]
Encoder = Literal["efficientnet_lite0"]
# The encoder whose pre-trained weights each value of `Net.encoder_weights` is, apart from random.
PRETRAINED_ENCODERS: dict[str, Encoder] = {"imagenet": "efficientnet_lite0"}
Console = Literal["standard", "cart", "portable", "high_contrast"]  # training/data/sources/phantom/consoles.py
Fraction = Annotated[float, Field(gt=0, lt=1)]


class Phantom(Section):
    """The size and the seed of the simulated data set."""

    subjects: PositiveInt
    """Number of simulated subjects."""
    frames: PositiveInt
    """Number of frames of each subject."""
    seed: int
    """Seed of all random numbers. The same seed gives the same frames, byte for byte."""
    difficulty: Literal["easy", "hard"] = "easy"
    """hard: nerves of all sizes, several nerves, structures that look like nerves, anisotropy."""
    consoles: list[Console] = Field(["standard"], min_length=1)
    """Each subject is examined with one of these console styles, at random."""


class Split(Section):
    """How the labelled frames are divided into training, validation and test. Groups (subjects) stay whole."""

    validation: Fraction
    """Fraction of the groups in the validation split."""
    test: Fraction
    """Fraction of the groups in the test split."""
    blocks: PositiveInt
    """Number of groups where the source records no subjects. A group is then a run of neighbouring frame numbers."""
    seed: int
    """Seed of the random choice of groups."""


class Resources(Section):
    """What a training takes of Ray's resources. It does not change with the machine, and so results do not either."""

    num_cpus: PositiveInt
    """CPU cores."""
    num_gpus: NonNegativeInt
    """GPUs."""


class NerveParameters(Section):
    """The section `nerve`."""

    source: Source
    """Where frames and masks come from."""
    path: str
    """The source's folder or zip file. A relative path starts at the project's root. kaggle and folder require a path.
    If it is empty, usgra downloads its public data set. phantom ignores it."""
    classes: dict[str, Literal["nerve", "vessel", "ignore"]]
    """What each class of the source folder is. A class is a name, a grey value ("255") or a colour ("#ff0000")."""
    on_error: Literal["stop", "skip"]
    """What an invalid frame-mask pair does. stop: it ends the stage ingest. skip: it is listed in left_out.csv."""
    phantom: Phantom
    split: Split
    candidates: Annotated[list[Name], Field(min_length=1)]
    """The entries of `unets` to train and compare. The champion has the best validation Dice."""
    seed: int
    """Seed of the initial weights, of the order of frames and of the augmentation."""
    refit: list[Source]
    """For these sources, the champion's recipe is trained again on training, validation and test frames. The result is
    the served model."""
    unets: dict[Name, dict[str, Any]]
    """U-nets and their training recipes by name. `read_candidate` validates an entry as a `Candidate`."""
    resources: Resources
    """What each training of a cross-validation, an ablation or a search takes of the machine or cluster."""
    ablations: dict[str, Any]
    """Ablations of one candidate. training.experiments.ablation_parameters validates them."""
    search: dict[str, Any]
    """A search for better values of one candidate. training.experiments.search.parameters validates it."""

    @model_validator(mode="after")
    def _candidates_are_in_unets(self) -> Self:
        if unknown := set(self.candidates) - self.unets.keys():
            raise ValueError(f"candidates: unets has no {', '.join(sorted(unknown))}; it has {', '.join(self.unets)}")
        return self

    @property
    def refits(self) -> bool:
        """Whether the served model is a refit of the champion on all labelled frames."""
        return self.source in self.refit


class InputParameters(Section):
    """The network input. `NetworkInput` in service/model/card.py adds the mean and the deviation for normalisation."""

    height: PositiveInt
    """Pixels, axis 0. It is a multiple of 2 ** `Net.halvings`."""
    width: PositiveInt
    """Pixels, axis 1. It is a multiple of 2 ** `Net.halvings`."""
    normalization: Literal["frame", "dataset"]
    """Which mean and standard deviation of grey values normalise a frame: its own, or those of all training frames."""


class Net(Section):
    """The architecture of a U-net."""

    filters: list[PositiveInt]
    """Convolution filters of each level, the level of the highest resolution first. With `encoder`: of the decoder."""
    stem: Literal[1, 2, 4]
    """Stride of the first convolution. The U-net works at 1/stem of the input resolution."""
    batch_norm: bool
    """Whether batch normalisation follows each convolution."""
    heads: list[Head]
    """The outputs. mask: required. presence: whether the frame shows a nerve; without this head, and where all training
    frames or none show a nerve, presence is the mask's peak probability. vessel: a second mask, where the source labels
    vessels. deep_supervision: masks at each coarser decoder level, for training only."""
    encoder: Encoder | None = None
    """A standard encoder in place of the U-net's own. It works at 1/2 to 1/32 of the input resolution."""
    encoder_weights: Literal["random", "imagenet"] = "random"
    """Initial weights of `encoder`: random, or pre-trained on ImageNet (only the encoders of PRETRAINED_ENCODERS)."""

    @property
    def halvings(self) -> int:
        """How many times the encoder halves the input resolution."""
        return 5 if self.encoder else len(self.filters) - 1 + self.stem.bit_length() - 1

    @property
    def decoder_filters(self) -> list[int]:
        """Convolution filters of each decoder level, the level of the highest resolution first."""
        return self.filters if self.encoder else self.filters[:-1]  # the U-net's own last level is the bottleneck

    @model_validator(mode="after")
    def _can_be_built(self) -> Self:
        if "mask" not in self.heads:
            raise ValueError('heads: "mask" is required')
        if self.encoder and (self.stem != 2 or len(self.filters) != 4):
            raise ValueError(f"{self.encoder} has four skip connections: set stem to 2 and give four filters")
        pretrained = PRETRAINED_ENCODERS.get(self.encoder_weights, self.encoder)
        if pretrained != self.encoder:
            raise ValueError(
                f"encoder_weights: {self.encoder_weights} are weights of {pretrained}, and encoder is "
                f"{self.encoder or 'null'}: set encoder to {pretrained}, or encoder_weights to random"
            )
        return self


class Augmentation(Section):
    """Random changes of training frames. 0 switches a change off. A left-right flip is always among them."""

    shift: NonNegativeFloat
    """Maximum translation, as a fraction of the frame's width and height."""
    zoom: NonNegativeFloat
    """Maximum of the scale's natural logarithm, for width and height separately."""
    rotate: NonNegativeFloat
    """Maximum rotation, degrees."""
    gain: NonNegativeFloat
    """Maximum of the contrast factor's natural logarithm, and of the brightness offset in standard deviations."""
    speckle: NonNegativeFloat
    """Standard deviation of multiplicative noise."""
    elastic: NonNegativeFloat = 0.0
    """Standard deviation of a smooth displacement field, as a fraction of the frame's width and height."""
    gamma: NonNegativeFloat = 0.0
    """Maximum of the gamma exponent's natural logarithm."""
    tgc: NonNegativeFloat = 0.0
    """Standard deviation of the time-gain compensation's natural logarithm over depth; across the frame, half of it."""
    shadow: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Fraction of the frames with an acoustic shadow."""
    blur: NonNegativeFloat = 0.0
    """Maximum standard deviation of a Gaussian blur on every second frame, pixels."""


class Phase(Section):
    """Epochs with one learning-rate schedule."""

    epochs: PositiveInt
    """Number of epochs."""
    learning_rate: PositiveFloat
    """The learning rate of the first epoch."""
    decay: Literal["none", "cosine"] = "none"
    """none: constant. cosine: falls to 0 along half a cosine."""


class PhasedTraining(Section):
    """A training with one or more learning-rate phases."""

    phases: list[Phase]
    """The phases, in their order."""

    @property
    def epochs(self) -> int:
        """Epochs of all phases together."""
        return sum(phase.epochs for phase in self.phases)


class Recipe(PhasedTraining):
    """How a U-net is trained."""

    loss: Loss
    """The loss of all masks, a function of training.models.losses."""
    batch_size: PositiveInt
    """Frames in a batch."""
    steps_per_epoch: PositiveInt | None = None
    """Batches in an epoch. None: an epoch uses each training frame once."""
    augment: Augmentation | None = None
    """Augmentation of training frames. None: no augmentation."""
    ema_momentum: Fraction | None = None
    """Momentum of the exponential moving average of the weights. The average is the result. None: no average."""
    patience: PositiveInt | None = None
    """Epochs without a better validation Dice before the training stops. The weights of the best epoch are the result.
    None: train all epochs and keep the last weights."""
    phantom_pretraining_epochs: NonNegativeInt = 0
    """Epochs of synthetic pre-training on phantom frames, before the training on real frames."""


class Candidate(Section):
    """One entry of `nerve.unets`."""

    input: InputParameters
    tta: Tta
    """Test-time augmentation. flip: average the predictions for a frame and for its left-right mirror image."""
    net: Net
    recipe: Recipe

    @model_validator(mode="after")
    def _input_can_be_halved(self) -> Self:
        halvings, height, width = self.net.halvings, self.input.height, self.input.width
        if height % 2**halvings or width % 2**halvings:
            raise ValueError(
                f"input: the network halves {height}x{width} {halvings} times: use multiples of {2**halvings}"
            )
        return self


def read_nerve_parameters() -> NerveParameters:
    """Return the section `nerve` of params.yaml. Raises ParameterError for an invalid entry."""
    return read_section(NerveParameters, "nerve")


def read_candidate(name: str) -> Candidate:
    """Return the entry `name` of `nerve.unets`. Raises ParameterError if it is missing or invalid."""
    unets = read_nerve_parameters().unets
    if name not in unets:
        raise ParameterError(f"params.yaml: nerve.unets has no {name!r}; it has {', '.join(unets)}")
    return validate_section(Candidate, unets[name], f"nerve.unets.{name}")
