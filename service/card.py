"""The card of a model folder: what the network takes, how its output is decided upon, where it comes from."""

import dataclasses
import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any, Self, get_origin

from service.errors import ModelFolderError

CARD = "card.json"
NETWORK = "unet.onnx"
REMEDY = "run `make demo` or `dvc repro package` to make the model folder anew"


@dataclasses.dataclass(frozen=True)
class Normalisation:
    """How a frame's grey values (0..255) are normalised: by its "frame" or by the "dataset" it was trained on."""

    kind: str
    mean: float | None = None  # of the training set; both only where kind is "dataset"
    deviation: float | None = None

    def __post_init__(self) -> None:
        _require(self.kind in ("frame", "dataset"), f'kind is "frame" or "dataset", not "{self.kind}"')
        given = {self.mean is not None, self.deviation is not None}
        _require(given == {self.kind == "dataset"}, 'mean and deviation belong to kind "dataset", and to no other')
        _require(self.mean is None or 0 <= self.mean <= 255, f"mean lies in 0..255, not at {self.mean}")
        fits = self.deviation is None or 0 < self.deviation <= 255
        _require(fits, f"deviation is above 0 and at most 255, not {self.deviation}")


@dataclasses.dataclass(frozen=True)
class Input:
    """The network's input: height and width in pixels, and the normalisation."""

    height: int
    width: int
    normalisation: Normalisation

    def __post_init__(self) -> None:
        for side in (self.height, self.width):
            _require(16 <= side <= 4096, f"height and width are 16 to 4096 pixels, not {side}")


@dataclasses.dataclass(frozen=True)
class Decision:
    """What makes a nerve of probabilities: least presence, least probability of a pixel, least share of the frame."""

    presence: float
    mask: float
    min_area: float

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            _require(0 <= value <= 1, f"{name} lies in 0..1, not at {value}")


@dataclasses.dataclass(frozen=True)
class TrainedOn:
    """The data behind the network: its source ("phantom", "usgra", ...), licence, and how much of it."""

    source: str
    licence: str
    frames: int
    subjects: int


@dataclasses.dataclass(frozen=True)
class Card:
    """Everything the service must know of a network, and everything a reader of its answers may ask."""

    name: str
    version: str
    candidate: str
    run_id: str
    commit: str
    dirty: bool
    data: str
    trained_on: TrainedOn
    input: Input
    decision: Decision
    metrics: dict[str, Any]
    baselines: dict[str, Any]
    files: dict[str, str] = dataclasses.field(default_factory=dict)  # sha256 of each file beside the card

    def __post_init__(self) -> None:
        for name in ("name", "version", "run_id"):
            # They travel in HTTP headers.
            text = getattr(self, name)
            plain = text.isascii() and text.isprintable() and text != ""
            _require(plain, f"{name} is plain text, not {text!r}")
        for name, digest in self.files.items():
            _require(Path(name).name == name, f'files holds plain names, not "{name}"')
            _require(isinstance(digest, str) and len(digest) == 64, f'files["{name}"] is no sha256')

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The card of `folder`, every field of it checked, and the files beside it held against their sums.

        Raises ModelFolderError, which names the file and the remedy.
        """
        path = Path(folder) / CARD
        try:
            card: Self = _parse(cls, json.loads(path.read_bytes()), "")
        except FileNotFoundError:
            raise ModelFolderError(f"{path} is missing: {REMEDY}.") from None
        except (OSError, ValueError) as fault:  # JSON and Unicode faults are ValueErrors
            raise ModelFolderError(f"{path} is no card: {fault}. {REMEDY.capitalize()}.") from fault
        if NETWORK not in card.files:
            raise ModelFolderError(f"{path} lists no sum of {NETWORK}: {REMEDY}.")
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


def _parse(kind: Any, value: Any, name: str) -> Any:
    """`value`, read from JSON, as `kind`: a dataclass (from an object with exactly its fields) or a plain type."""
    if dataclasses.is_dataclass(kind):
        return _parse_object(kind, value, name)
    plain = float if kind == float | None else get_origin(kind) or kind
    if plain is float and type(value) is int:
        value = float(value)
    _require(type(value) is plain, f"{name} is {json.dumps(value)}, which is no {plain.__name__}")
    _require(plain is not float or math.isfinite(value), f"{name} is not finite")
    return value


def _parse_object(kind: Any, value: Any, name: str) -> Any:
    _require(isinstance(value, dict), f"{name or 'the whole'} is no JSON object")
    fields = {field.name: field for field in dataclasses.fields(kind)}
    prefix = f"{name}." if name else ""
    unknown = sorted(set(value) - set(fields))
    _require(not unknown, f"unknown field {prefix}{', '.join(unknown)}")
    missing = [key for key, field in fields.items() if key not in value and _is_required(field)]
    _require(not missing, f"missing field {prefix}{', '.join(missing)}")
    parsed = {key: _parse(fields[key].type, value[key], prefix + key) for key in value}
    try:
        return kind(**parsed)
    except ValueError as fault:
        raise ValueError(f"{prefix}{fault}") from fault


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _require(holds: bool, fault: str) -> None:
    if not holds:
        raise ValueError(fault)


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
