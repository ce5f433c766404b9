"""The card of a model folder: the network's input, its postprocessing, its metrics, and where it comes from."""

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from service.errors import ModelFolderError
from service.model.card_schema import CARD_SCHEMA, CardSchema, CardSchemaError, upgrade
from service.model.platt_scaling import STRICT
from service.model.postprocessing_config import PostprocessingConfig, Share

CARD_FILE = "card.json"
NETWORK_FILE = "unet.onnx"
WORST_FRAMES_IMAGE = "worst.png"  # the worst test frames with masks; absent if their licence forbids to show them
REMEDY = "make the model folder again with `dvc repro package` (or with `make demo`, which trains on phantom frames)"

SidePx = Annotated[int, Field(ge=16, le=4096)]
GreyValue = Annotated[float, Field(ge=0, le=255)]
HeaderText = Annotated[str, Field(pattern="^[ -~]+$")]  # printable ASCII: it is sent in HTTP headers
FileName = Annotated[str, Field(pattern=r"^[^/\\]+$")]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Tta = Literal["none", "flip"]  # test-time augmentation
CpuPrecision = Literal["float32", "bfloat16", "int8"]
GpuPrecision = Literal["float32", "float16"]
Precision = CpuPrecision | GpuPrecision
# The network of each precision. int8 is in OpenVINO's format, with its weights in unet.int8.bin.
NETWORK_FILES: dict[Precision, str] = {
    "float32": NETWORK_FILE,
    "bfloat16": NETWORK_FILE,
    "int8": "unet.int8.xml",
    "float16": "unet.float16.onnx",
}


@dataclass(frozen=True, config=STRICT)
class Normalization:
    """How grey values are normalised before the network.

    kind: "frame" uses the mean and standard deviation of the frame itself; "dataset" uses those of the training frames.
    mean, std: of the training frames' grey values, 0 to 255; None for kind "frame".
    """

    kind: Literal["frame", "dataset"]
    mean: GreyValue | None = None
    std: Annotated[float, Field(gt=0, le=255)] | None = None

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        if {self.mean is not None, self.std is not None} != {self.kind == "dataset"}:
            raise ValueError('kind "dataset" needs mean and std; kind "frame" must have neither')
        return self


@dataclass(frozen=True, config=STRICT)
class NetworkInput:
    """The network's input: one grey image.

    height, width: in pixels, 16 to 4096.
    normalization: of the grey values.
    """

    height: SidePx
    width: SidePx
    normalization: Normalization


FEATURE_COUNT = 11
Features = Annotated[list[float], Field(min_length=FEATURE_COUNT, max_length=FEATURE_COUNT)]


@dataclass(frozen=True, config=STRICT)
class OutOfDistributionStats:
    """Statistics of the training frames' 11 features, which `service.inference.out_of_distribution` computes.

    mean: of each feature.
    whitening: 11 x 11 matrix that makes the features uncorrelated, each with standard deviation 1.
    limit: Mahalanobis distance above which a frame is out of distribution, in standard deviations, above 0.
    """

    mean: Features
    whitening: Annotated[list[Features], Field(min_length=FEATURE_COUNT, max_length=FEATURE_COUNT)]
    limit: Annotated[float, Field(gt=0)]


@dataclass(frozen=True, config=STRICT)
class TrainedOn:
    """The training data.

    source: "phantom", "usgra" or "kaggle".
    licence: of the source.
    frames, subjects: how many. subjects None: unknown.
    frames_without_nerve: how many of the frames. None: unknown; an earlier release wrote the card.
    """

    source: str
    licence: str
    frames: int
    subjects: int | None
    frames_without_nerve: int | None = None


@dataclass(frozen=True, config=STRICT)
class MeanStd:
    """Mean of a value over many frames, and its standard deviation between frames, in the unit of the value."""

    mean: float
    std: Annotated[float, Field(ge=0)]


@dataclass(frozen=True, config=STRICT)
class ReferenceStats:
    """Values of the frames that the network was trained and evaluated on; the service reports drift from them.

    intensity_mean, intensity_deviation: mean and standard deviation of a frame's grey values, 0 to 255, over the
        training frames.
    presence_rate: share of the validation frames with a mask, 0 to 1.
    confidence: of the validation frames' masks, 0 to 1; None if all masks are empty.
    """

    intensity_mean: MeanStd
    intensity_deviation: MeanStd
    presence_rate: Share
    confidence: MeanStd | None


@dataclass(frozen=True, config=STRICT)
class FailureMode:
    """A way in which masks of test frames are wrong.

    kind: its name.
    frames: number of test frames.
    meaning: one sentence.
    """

    kind: str
    frames: int
    meaning: str


@dataclass(frozen=True, config=STRICT)
class Card:
    """What the service must know about a network, and what users should know about it.

    schema_version: of the card's form (`service.model.card_schema`).
    name, version: of the registered model.
    candidate: its name in params.yaml.
    run_id: MLflow run of the served model.
    commit, dirty: Git commit of the training, and whether uncommitted changes were used.
    commit_error: why `commit` is empty, for users.
    data: hash of the data set.
    trained_on: the training data.
    input, postprocessing: how the service prepares a frame, and makes the mask.
    precision: the fastest on a CPU whose masks are as good as those of float32.
    gpu_precision: float16 on a GPU if its masks are as good as those of float32.
    tta: test-time augmentation. "flip" averages the outputs for the frame and for its left-right flip.
    refit: whether the served model is a refit on all labelled frames. Metrics and postprocessing then belong to the
        model evaluated before the refit, which was trained without the held-out frames.
    metrics, baselines: by split ("validation", "test"), then by metric.
    intended_use: in a sentence, for users.
    method: network and training recipe, with the names of params.yaml.
    groups: test metrics by kind of frame.
    failures: of the test frames, the most frequent first.
    reference_stats: None: the service reports no drift.
    self_test_presence: by precision, the presence of each self-test frame in the folder, 0 to 1.
    out_of_distribution: None: the service detects no frame that is out of distribution.
    files: SHA-256 of each file beside the card.
    """

    schema_version: CardSchema = dataclasses.field(default=CARD_SCHEMA, kw_only=True)
    name: HeaderText
    version: HeaderText
    candidate: str
    run_id: HeaderText
    commit: str
    dirty: bool
    data: str
    trained_on: TrainedOn
    input: NetworkInput
    postprocessing: PostprocessingConfig
    precision: CpuPrecision
    tta: Tta
    refit: bool
    metrics: dict[str, Any]
    baselines: dict[str, Any]
    commit_error: str = ""
    gpu_precision: GpuPrecision = "float32"
    intended_use: str = ""
    method: dict[str, Any] = dataclasses.field(default_factory=dict)
    groups: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    failures: tuple[FailureMode, ...] = ()
    reference_stats: ReferenceStats | None = None
    self_test_presence: dict[Precision, tuple[Share, ...]] = dataclasses.field(default_factory=dict)
    out_of_distribution: OutOfDistributionStats | None = None
    files: dict[FileName, Sha256] = dataclasses.field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Return the card of `folder`, after a check of every field and of the SHA-256 of every file beside it.

        A card of an earlier release is upgraded.
        Raises ModelFolderError, which names the file and the remedy.
        """
        path = Path(folder) / CARD_FILE
        try:
            card = TypeAdapter(cls).validate_json(upgrade(path.read_bytes()))
        except FileNotFoundError:
            missing = path if path.parent.is_dir() else path.parent
            raise ModelFolderError(f"{missing} is missing: {REMEDY}.") from None
        except OSError as error:
            raise ModelFolderError(f"{path} cannot be read ({error.strerror}): {REMEDY}.") from error
        except CardSchemaError as error:
            raise ModelFolderError(f"{path} {error}.") from error
        except ValidationError as error:
            raise ModelFolderError(f"{path} {_describe(error)}: {REMEDY}.") from error
        for network in {NETWORK_FILE, NETWORK_FILES[card.precision], NETWORK_FILES[card.gpu_precision]}:
            if network not in card.files:
                raise ModelFolderError(f"{path} has no SHA-256 of {network}: {REMEDY}.")
        for name, digest in card.files.items():
            _check_digest(path.with_name(name), digest)
        return card

    def write(self, folder: Path) -> Self:
        """Write this card into `folder` with the SHA-256 of the files there. Return the card as written."""
        folder = Path(folder)
        paths = sorted(p for p in folder.iterdir() if p.is_file() and p.name != CARD_FILE and p.name[0] != ".")
        card = dataclasses.replace(self, files={path.name: _sha256(path) for path in paths})
        # Renamed into place, so that no reader meets an unfinished card.
        unfinished = folder / f".{CARD_FILE}"
        unfinished.write_bytes(card.to_json())
        os.replace(unfinished, folder / CARD_FILE)
        return card

    def to_dict(self) -> dict[str, Any]:
        """Return the card as the JSON object of `card.json`."""
        fields = dataclasses.asdict(self)
        if self.input.normalization.kind == "frame":
            fields["input"]["normalization"] = {"kind": "frame"}
        return fields

    def to_json(self) -> bytes:
        """Return the bytes of `card.json`. Equal cards give equal bytes."""
        return (json.dumps(self.to_dict(), indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode()


def _describe(error: ValidationError) -> str:
    """Return what is wrong with a card, in one line with the name of each field."""
    details = [(".".join(map(str, detail["loc"])), detail["type"], detail["msg"]) for detail in error.errors()]
    unknown = [name for name, kind, _ in details if kind == "unexpected_keyword_argument"]
    missing = [name for name, kind, _ in details if kind == "missing"]
    if unknown and missing:  # a renamed field appears as both
        fields = f"unknown fields: {', '.join(unknown)}; missing fields: {', '.join(missing)}"
        return f"was written by another version of Nervemask ({fields})"
    return "is not a valid card: " + "; ".join(f"{name}: {text}" if name else text for name, _, text in details)


def _check_digest(path: Path, digest: str) -> None:
    try:
        matches = _sha256(path) == digest
    except OSError as error:
        raise ModelFolderError(f"{path} cannot be read ({error.strerror}): {REMEDY}.") from error
    if not matches:
        raise ModelFolderError(f"{path} is not the file that its card describes (the SHA-256 differs): {REMEDY}.")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
