"""This version reads the model folders of earlier releases without training, and refuses those of later ones."""

import json
import shutil
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.api.model_reload import load_and_test
from service.decoding.frame import Frame
from service.errors import ModelFolderError
from service.inference.segmenter import Segmenter
from service.model.card import Card
from service.model.card_schema import CARD_SCHEMA, UPGRADES, upgrade

# The card of each earlier release, as its pipeline wrote it on phantom frames.
OLD_CARDS = sorted((Path(__file__).parent / "cards").glob("*.json"))


def without_statement(card: dict[str, Any]) -> dict[str, Any]:
    """Return a card as version 0.1.0 wrote it."""
    return {name: value for name, value in card.items() if name not in ("schema_version", "commit_error")}


@pytest.fixture
def folder(model_folder: Path, tmp_path: Path) -> Path:
    """A copy of the model folder, with the card that version 0.1.0 would have written."""
    folder = Path(shutil.copytree(model_folder, tmp_path / "champion"))
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(without_statement(card)))
    return folder


@pytest.mark.parametrize("old_card", OLD_CARDS, ids=lambda path: path.stem)
def test_the_card_of_an_earlier_release_is_read(tmp_path: Path, old_card: Path) -> None:
    old = json.loads(old_card.read_text())
    for name in old["files"]:  # the networks are too large for this repository
        (tmp_path / name).write_bytes(name.encode())
        old["files"][name] = sha256(name.encode()).hexdigest()
    (tmp_path / "card.json").write_text(json.dumps(old))
    card = Card.read(tmp_path)
    assert card.schema_version == CARD_SCHEMA
    read = json.loads(card.to_json())
    assert read["trained_on"].pop("frames_without_nerve") is None  # unknown
    assert read["postprocessing"].pop("outlines") is None
    assert {name: read[name] for name in old if name != "schema_version"} == old
    assert Card.read(tmp_path) == card.write(tmp_path)  # it is written with this version's schema


def test_each_schema_has_an_upgrade_and_a_card_of_a_release() -> None:
    assert sorted(UPGRADES) == list(range(1, CARD_SCHEMA))
    assert len(OLD_CARDS) >= len(UPGRADES)


def test_the_model_folder_of_the_last_release_is_served_with_the_same_masks(
    folder: Path, segmenter: Segmenter, grey: np.ndarray
) -> None:
    old = load_and_test(folder)
    assert replace(old.card, files={}) == replace(segmenter.card, files={})
    assert np.array_equal(old.segment(Frame(grey)).mask, segmenter.segment(Frame(grey)).mask)


def test_the_error_of_a_newer_card_says_which_version_to_install(folder: Path) -> None:
    card = json.loads((folder / "card.json").read_text()) | {"schema_version": CARD_SCHEMA + 1, "novelty": 1}
    (folder / "card.json").write_text(json.dumps(card))
    with pytest.raises(ModelFolderError) as error:
        Card.read(folder)
    message = str(error.value)
    assert f"card schema {CARD_SCHEMA + 1}; this version reads up to {CARD_SCHEMA}" in message
    assert str(folder / "card.json") in message and "install that version" in message and "\n" not in message


@pytest.mark.parametrize("version", [0, -1, "2", None, True, 1.5, [], {}])
def test_an_invalid_schema_version_is_named(folder: Path, version: object) -> None:
    card = json.loads((folder / "card.json").read_text()) | {"schema_version": version, "name": 7}
    (folder / "card.json").write_text(json.dumps(card))
    with pytest.raises(ModelFolderError, match=r"card\.json is not a valid card: .*name"):
        Card.read(folder)


@pytest.mark.parametrize("data", [b"", b"[]", b"7", b"{", b'{"schema_version": NaN}', b"[" * 100_000, b"\xff"])
def test_what_is_no_card_is_not_changed(data: bytes) -> None:
    assert upgrade(data) == data
