"""The card of a model folder: what the network takes, how its output is decided upon, where it comes from."""

import dataclasses
import hashlib
import json
import math
import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import ConfigDict, Field, PositiveInt, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from service.errors import ModelFolderError

CARD = "card.json"
NETWORK = "unet.onnx"
WORST = "worst.png"  # the worst test frames with their masks, where their licence lets them be shown
REMEDY = "make the model folder anew with `dvc repro package` (or `make demo`, on the phantom)"

STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
Side = Annotated[int, Field(ge=16, le=4096)]  # pixels
Share = Annotated[float, Field(ge=0, le=1)]
HeaderText = Annotated[str, Field(pattern="^[ -~]+$")]  # travels in HTTP headers
LEAST = 1e-6  # the probability that a network's 0 stands for: odds of a million
FileName = Annotated[str, Field(pattern=r"^[^/\\]+$")]
Precision = Literal["float32", "bfloat16", "int8"]
# What a CPU reads in each; int8 in OpenVINO's own format, with its weights in unet.int8.bin.
NETWORKS: dict[Precision, str] = {"float32": NETWORK, "bfloat16": NETWORK, "int8": "unet.int8.xml"}
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


def champion_folder() -> Path:
    """NERVEMASK_MODEL, or models/champion beside the package: at the project's root, and inside the Bento."""
    return Path(os.environ.get("NERVEMASK_MODEL") or Path(__file__).parent.parent / "models" / "champion")


@dataclass(frozen=True, config=STRICT)
class Normalisation:
    """How a frame's grey values (0..255) are normalised: by its "frame" or by the "dataset" it was trained on."""

    kind: Literal["frame", "dataset"]
    mean: Annotated[float, Field(ge=0, le=255)] | None = None  # of the training set
    deviation: Annotated[float, Field(gt=0, le=255)] | None = None

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        given = {self.mean is not None, self.deviation is not None}
        if given != {self.kind == "dataset"}:
            raise ValueError('mean and deviation belong to kind "dataset", and to no other')
        return self


@dataclass(frozen=True, config=STRICT)
class Input:
    """The network's input: height and width in pixels, and the normalisation."""

    height: Side
    width: Side
    normalisation: Normalisation


@dataclass(frozen=True, config=STRICT)
class Logistic:
    """A monotone map of probabilities, a line upon their log-odds (Platt 1999); as it stands, the identity."""

    slope: Annotated[float, Field(ge=0)] = 1.0
    offset: float = 0.0

    def __call__(self, probability: float) -> float:
        """0..1 to 0..1."""
        return (1 + math.tanh((self.slope * log_odds(probability) + self.offset) / 2)) / 2

    def of_all(self, probability: np.ndarray) -> np.ndarray:
        """The same of float (N,), as float64 (N,)."""
        kept = np.clip(probability.astype(np.float64), LEAST, 1 - LEAST)
        return (1 + np.tanh((self.slope * np.log(kept / (1 - kept)) + self.offset) / 2)) / 2


def log_odds(probability: float) -> float:
    """ln p / (1 - p); a network's 0 and 1 stand for odds of a million."""
    kept = min(max(probability, LEAST), 1 - LEAST)
    return math.log(kept / (1 - kept))


@dataclass(frozen=True, config=STRICT)
class Decision:
    """What makes a nerve of a network's answer, and what that nerve is worth; fitted on validation.

    presence, min_area: the least calibrated presence, the mask's least share of the frame. components: how many of
    the mask's largest parts are kept, None for all. faint: the share of the frame's greatest calibrated probability
    that a part has to reach somewhere, or it is left out.
    presence_calibration, pixel_calibration: what the network says of presence, and of a pixel, to the probability of
    a nerve; certainty_calibration: how certain the mask's pixels are to the Dice that such masks reached. Each is the
    identity where there was nothing to fit it on.
    """

    presence: Share
    min_area: Share
    components: PositiveInt | None = None
    presence_calibration: Logistic = Logistic()
    pixel_calibration: Logistic = Logistic()
    certainty_calibration: Logistic = Logistic()
    faint: Share = 0.0


LOOKS = 11
Looks = Annotated[list[float], Field(min_length=LOOKS, max_length=LOOKS)]


@dataclass(frozen=True, config=STRICT)
class Familiar:
    """How training frames look, in the LOOKS numbers of `service.familiar`: their mean, what makes them of deviation 1
    and uncorrelated, and the distance in deviations from which a frame is unlike them."""

    mean: Looks
    whitening: Annotated[list[Looks], Field(min_length=LOOKS, max_length=LOOKS)]
    limit: Annotated[float, Field(gt=0)]


@dataclass(frozen=True, config=STRICT)
class TrainedOn:
    """The data behind the network: its source ("phantom", "usgra", ...), licence, and how much of it.

    subjects: None where the source does not tell them.
    """

    source: str
    licence: str
    frames: int
    subjects: int | None


@dataclass(frozen=True, config=STRICT)
class Spread:
    """A figure over many frames: its mean, and its standard deviation from frame to frame."""

    mean: float
    deviation: Annotated[float, Field(ge=0)]


@dataclass(frozen=True, config=STRICT)
class Usual:
    """What frames are like on which the network can be trusted, for the service to hold against those it sees.

    intensity_mean, intensity_deviation: of a training frame's grey values, 0..255. presence_rate: share of held-out
    frames in which a nerve is shown. confidence: of their masks; None where no nerve is shown.
    """

    intensity_mean: Spread
    intensity_deviation: Spread
    presence_rate: Share
    confidence: Spread | None


@dataclass(frozen=True, config=STRICT)
class Failure:
    """A way in which masks of test frames went wrong: in a word, in how many frames, and what it means."""

    kind: str
    frames: int
    meaning: str


@dataclass(frozen=True, config=STRICT)
class Card:
    """Everything the service must know of a network, and everything a reader of its answers may ask."""

    name: HeaderText
    version: HeaderText
    candidate: str
    run_id: HeaderText
    commit: str
    dirty: bool
    data: str
    trained_on: TrainedOn
    input: Input
    decision: Decision
    precision: Precision  # of a CPU: the quickest whose masks are as good as float32's
    mirrored: bool  # asked twice, once left for right, for the mean of both answers
    # Trained anew on every labelled frame: metrics and decision are those of the net that was judged, without some.
    refit: bool
    metrics: dict[str, Any]
    baselines: dict[str, Any]
    intended_use: str = ""
    method: dict[str, Any] = dataclasses.field(default_factory=dict)  # net and recipe, by params.yaml's own names
    groups: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)  # test figures by kind of frame
    failures: tuple[Failure, ...] = ()
    usual: Usual | None = None
    # Presence in each of the frames that the folder carries for its self-test, by what they are computed in.
    known: dict[Precision, tuple[Share, ...]] = dataclasses.field(default_factory=dict)
    familiar: Familiar | None = None
    files: dict[FileName, Sha256] = dataclasses.field(default_factory=dict)  # of the files beside the card

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The card of `folder`, every field of it checked, and the files beside it held against their sums.

        Raises ModelFolderError, which names the file and the remedy.
        """
        path = Path(folder) / CARD
        try:
            card = TypeAdapter(cls).validate_json(path.read_bytes())
        except FileNotFoundError:
            missing = path if path.parent.is_dir() else path.parent
            raise ModelFolderError(f"{missing} is missing: {REMEDY}.") from None
        except OSError as fault:
            raise ModelFolderError(f"{path} cannot be read ({fault.strerror}): {REMEDY}.") from fault
        except ValidationError as fault:
            raise ModelFolderError(f"{path} is no card: {_told(fault)}. {REMEDY.capitalize()}.") from fault
        for network in {NETWORK, NETWORKS[card.precision]}:
            if network not in card.files:
                raise ModelFolderError(f"{path} lists no sum of {network}: {REMEDY}.")
        for name, digest in card.files.items():
            _check_sum(path.with_name(name), digest)
        return card

    def write(self, folder: Path) -> Self:
        """Put this card into `folder` with the sums of the files that lie there; gives back the card as written."""
        folder = Path(folder)
        beside = sorted(p for p in folder.iterdir() if p.is_file() and p.name != CARD and p.name[0] != ".")
        card = dataclasses.replace(self, files={path.name: _sha256(path) for path in beside})
        # Renamed into place: a reader never meets half a card.
        unfinished = folder / f".{CARD}"
        unfinished.write_bytes(card.to_json())
        os.replace(unfinished, folder / CARD)
        return card

    def to_dict(self) -> dict[str, Any]:
        """The card as the JSON object that `card.json` holds."""
        fields = dataclasses.asdict(self)
        if self.input.normalisation.kind == "frame":
            fields["input"]["normalisation"] = {"kind": "frame"}
        return fields

    def to_json(self) -> bytes:
        """The bytes of `card.json`: the same card, the same bytes."""
        return (json.dumps(self.to_dict(), indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode()


def _told(fault: ValidationError) -> str:
    """The faults of a card in one line, each with the name of its field."""
    found = ((".".join(map(str, error["loc"])), error["msg"]) for error in fault.errors())
    return "; ".join(f"{field}: {message}" if field else message for field, message in found)


def _check_sum(path: Path, digest: str) -> None:
    try:
        fits = _sha256(path) == digest
    except OSError as fault:
        raise ModelFolderError(f"{path} cannot be read ({fault.strerror}): {REMEDY}.") from fault
    if not fits:
        raise ModelFolderError(f"{path} is not the file its card was written for (sha256 differs): {REMEDY}.")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
