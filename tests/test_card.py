"""The card of a model folder: what is written is read, and what does not fit is refused by name."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from service.card import Card, Decision, Input, Normalisation
from service.errors import ModelFolderError


@pytest.fixture
def folder(model_folder: Path, tmp_path: Path) -> Path:
    """A model folder to be spoilt."""
    return Path(shutil.copytree(model_folder, tmp_path / "champion"))


def test_what_is_written_is_read(card: Card, folder: Path) -> None:
    written = card.write(folder)
    assert set(written.files) == {"unet.onnx", "unet.keras", "known_frames.npy", "known_masks.float32.npy", "worst.png"}
    assert Card.read(folder) == written
    assert replace(written, files={}) == card


def test_the_same_card_gives_the_same_bytes(card: Card, folder: Path) -> None:
    card.write(folder)
    first = (folder / "card.json").read_bytes()
    Card.read(folder).write(folder)
    assert (folder / "card.json").read_bytes() == first
    assert first.endswith(b"}\n")
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("normalisation", [Normalisation("frame"), Normalisation("dataset", 90.1, 50.2)])
def test_both_normalisations_go_round(card: Card, folder: Path, normalisation: Normalisation) -> None:
    replace(card, input=replace(card.input, normalisation=normalisation)).write(folder)
    assert Card.read(folder).input.normalisation == normalisation
    kept = json.loads((folder / "card.json").read_text())["input"]["normalisation"]
    assert kept == {key: value for key, value in asdict(normalisation).items() if value is not None}


def test_frames_of_unrecorded_subjects_go_round(card: Card, folder: Path) -> None:
    replace(card, trained_on=replace(card.trained_on, subjects=None)).write(folder)
    assert Card.read(folder).trained_on.subjects is None


def change(**fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda card: card.update(fields)


def within(part: str, **fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda card: card[part].update(fields)


FAULTS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no data": (lambda card: card.pop("data"), "data"),
    "no least area": (lambda card: card["decision"].pop("min_area"), "decision.min_area"),
    "unknown key": (change(colour="red"), "colour"),
    "unknown key within": (within("input", depth=3), "input.depth"),
    "number for a text": (change(version=3), "version"),
    "text for a number": (within("input", height="160"), "input.height"),
    "text for a truth": (change(dirty="no"), "dirty"),
    "list for an object": (change(trained_on=[]), "trained_on"),
    "presence above 1": (within("decision", presence=1.5), "decision.presence"),
    "area below 0": (within("decision", min_area=-0.1), "decision.min_area"),
    "NaN": (within("decision", presence=float("nan")), "decision.presence"),
    "height of 8": (within("input", height=8), "input.height"),
    "width of 100000": (within("input", width=100_000), "input.width"),
    "unknown normalisation": (within("input", normalisation={"kind": "whim"}), "input.normalisation.kind"),
    "data set without a mean": (
        within("input", normalisation={"kind": "dataset", "deviation": 1.0}),
        "input.normalisation",
    ),
    "deviation of 0": (
        within("input", normalisation={"kind": "dataset", "mean": 1.0, "deviation": 0.0}),
        "input.normalisation.deviation",
    ),
    "line break in a header": (change(run_id="1\r\nSet-Cookie: a=b"), "run_id"),
    "no sha256": (within("files", **{"unet.onnx": "abc"}), "files.unet.onnx"),
    "file elsewhere": (within("files", **{"../../secret": "0" * 64}), "files"),
    "no sum of the network": (lambda card: card["files"].pop("unet.onnx"), "unet.onnx"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_card_is_refused_by_the_name_of_its_field(folder: Path, name: str) -> None:
    spoil, field = FAULTS[name]
    path = folder / "card.json"
    card = json.loads(path.read_text())
    spoil(card)
    path.write_text(json.dumps(card))
    assert field in refusal(folder, path)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"not JSON"])
def test_what_is_no_card_is_refused(folder: Path, text: bytes) -> None:
    (folder / "card.json").write_bytes(text)
    refusal(folder, folder / "card.json")


def tamper(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


SPOILT = {
    "tampered": tamper,
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "empty": lambda path: path.write_bytes(b""),
    "missing": Path.unlink,
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("file", ["unet.onnx", "unet.keras"])
@pytest.mark.parametrize("name", SPOILT)
def test_a_file_that_is_not_the_cards_is_refused(folder: Path, name: str, file: str) -> None:
    SPOILT[name](folder / file)
    refusal(folder, folder / file)


def test_a_folder_without_a_card_is_refused(tmp_path: Path) -> None:
    assert "missing" in refusal(tmp_path, tmp_path / "card.json")
    assert "card.json" not in refusal(tmp_path / "nowhere", tmp_path / "nowhere")


def refusal(folder: Path, file: Path) -> str:
    """What is said of the folder: one line that names the file and the remedy."""
    with pytest.raises(ModelFolderError) as refused:
        Card.read(folder)
    told = str(refused.value)
    assert str(file) in told
    assert "make demo" in told
    assert "\n" not in told
    return told


def test_numbers_out_of_range_are_refused_in_python_too() -> None:
    with pytest.raises(ValueError, match="presence"):
        Decision(presence=1.5, min_area=0.0)
    with pytest.raises(ValueError, match="height"):
        Input(height=8, width=160, normalisation=Normalisation("frame"))
    with pytest.raises(ValueError, match="belong to kind"):
        Normalisation("frame", 1.0, 2.0)
