"""The card of a model folder is read as it was written; an invalid one is refused with the name of its field."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from service.errors import ModelFolderError
from service.model.card import Card, NetworkInput, Normalization
from service.model.postprocessing_config import PostprocessingConfig


@pytest.fixture
def folder(model_folder: Path, tmp_path: Path) -> Path:
    """A copy of the model folder, which a test may damage."""
    return Path(shutil.copytree(model_folder, tmp_path / "champion"))


def test_a_written_card_is_read_unchanged(card: Card, folder: Path) -> None:
    written = card.write(folder)
    assert set(written.files) == {
        "unet.onnx",
        "unet.keras",
        "self_test_frames.npy",
        "self_test_masks.float32.npy",
        "worst.png",
    }
    assert Card.read(folder) == written
    assert replace(written, files={}) == card


def test_equal_cards_give_equal_bytes(card: Card, folder: Path) -> None:
    card.write(folder)
    first = (folder / "card.json").read_bytes()
    Card.read(folder).write(folder)
    assert (folder / "card.json").read_bytes() == first
    assert first.endswith(b"}\n")
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("normalization", [Normalization("frame"), Normalization("dataset", 90.1, 50.2)])
def test_both_normalizations_are_written_and_read(card: Card, folder: Path, normalization: Normalization) -> None:
    replace(card, input=replace(card.input, normalization=normalization)).write(folder)
    assert Card.read(folder).input.normalization == normalization
    written = json.loads((folder / "card.json").read_text())["input"]["normalization"]
    assert written == {key: value for key, value in asdict(normalization).items() if value is not None}


def test_an_unknown_number_of_subjects_is_written_and_read(card: Card, folder: Path) -> None:
    replace(card, trained_on=replace(card.trained_on, subjects=None)).write(folder)
    assert Card.read(folder).trained_on.subjects is None


def change(**fields: Any) -> Callable[[dict[str, Any]], None]:
    """Return a function that changes fields of a card."""
    return lambda card: card.update(fields)


def change_part(part: str, **fields: Any) -> Callable[[dict[str, Any]], None]:
    """Return a function that changes fields of one part of a card."""
    return lambda card: card[part].update(fields)


INVALID_CARDS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no data": (lambda card: card.pop("data"), "data"),
    "no minimum area": (lambda card: card["postprocessing"].pop("min_area_share"), "postprocessing.min_area_share"),
    "unknown field": (change(colour="red"), "colour"),
    "unknown field in a part": (change_part("input", depth=3), "input.depth"),
    "number for a text": (change(version=3), "version"),
    "text for a number": (change_part("input", height="160"), "input.height"),
    "text for a boolean": (change(dirty="no"), "dirty"),
    "list for an object": (change(trained_on=[]), "trained_on"),
    "presence above 1": (change_part("postprocessing", min_presence=1.5), "postprocessing.min_presence"),
    "area below 0": (change_part("postprocessing", min_area_share=-0.1), "postprocessing.min_area_share"),
    "NaN": (change_part("postprocessing", min_presence=float("nan")), "postprocessing.min_presence"),
    "height of 8": (change_part("input", height=8), "input.height"),
    "width of 100000": (change_part("input", width=100_000), "input.width"),
    "unknown normalization": (change_part("input", normalization={"kind": "image"}), "input.normalization.kind"),
    "dataset without a mean": (
        change_part("input", normalization={"kind": "dataset", "std": 1.0}),
        "input.normalization",
    ),
    "standard deviation of 0": (
        change_part("input", normalization={"kind": "dataset", "mean": 1.0, "std": 0.0}),
        "input.normalization.std",
    ),
    "line break in a header": (change(run_id="1\r\nSet-Cookie: a=b"), "run_id"),
    "not a SHA-256": (change_part("files", **{"unet.onnx": "abc"}), "files.unet.onnx"),
    "file in another folder": (change_part("files", **{"../../secret": "0" * 64}), "files"),
    "no SHA-256 of the network": (lambda card: card["files"].pop("unet.onnx"), "unet.onnx"),
}


@pytest.mark.parametrize("name", INVALID_CARDS)
def test_the_error_of_an_invalid_card_names_the_field(folder: Path, name: str) -> None:
    make_invalid, field = INVALID_CARDS[name]
    path = folder / "card.json"
    card = json.loads(path.read_text())
    make_invalid(card)
    path.write_text(json.dumps(card))
    assert field in read_error(folder, path)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"not JSON"])
def test_a_file_that_is_no_json_object_is_refused(folder: Path, text: bytes) -> None:
    (folder / "card.json").write_bytes(text)
    read_error(folder, folder / "card.json")


def test_the_error_of_an_older_card_says_so_and_names_its_fields(folder: Path) -> None:
    path = folder / "card.json"
    card = json.loads(path.read_text())
    card["decision"] = card.pop("postprocessing")
    card["input"]["normalisation"] = card["input"].pop("normalization")
    del card["tta"]
    path.write_text(json.dumps(card))
    message = read_error(folder, path)
    assert "was written by another version of Nervemask" in message
    assert "unknown fields: input.normalisation, decision" in message
    assert "missing fields: input.normalization, postprocessing, tta" in message


def change_one_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "one bit changed": change_one_bit,
    "last byte missing": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "empty": lambda path: path.write_bytes(b""),
    "missing": Path.unlink,
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("file", ["unet.onnx", "unet.keras"])
@pytest.mark.parametrize("name", DAMAGE)
def test_a_file_that_differs_from_its_card_is_refused(folder: Path, name: str, file: str) -> None:
    DAMAGE[name](folder / file)
    read_error(folder, folder / file)


def test_a_folder_without_a_card_is_refused(tmp_path: Path) -> None:
    assert "missing" in read_error(tmp_path, tmp_path / "card.json")
    assert "card.json" not in read_error(tmp_path / "nowhere", tmp_path / "nowhere")


def read_error(folder: Path, path: Path) -> str:
    """Return the error of reading the folder's card: one line that names the file at `path` and the remedy."""
    with pytest.raises(ModelFolderError) as error:
        Card.read(folder)
    message = str(error.value)
    assert str(path) in message
    assert "make demo" in message
    assert "\n" not in message
    return message


def test_values_out_of_range_are_refused_in_python_too() -> None:
    with pytest.raises(ValueError, match="min_presence"):
        PostprocessingConfig(min_presence=1.5, min_area_share=0.0)
    with pytest.raises(ValueError, match="height"):
        NetworkInput(height=8, width=160, normalization=Normalization("frame"))
    with pytest.raises(ValueError, match="must have neither"):
        Normalization("frame", 1.0, 2.0)
