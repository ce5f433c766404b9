"""Versions of `card.json`. A card of an earlier release is upgraded when it is read: no network is trained again.

1: Nervemask 0.1.0. The card does not state its version.
2: Nervemask 0.2.0. The card states `schema_version`, and why `commit` is empty (`commit_error`).

Cards of before 0.1.0 have other field names. They have version 1 too, and are refused with the names of the fields.
"""

import json
from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

CardSchema = Literal[2]
CARD_SCHEMA: CardSchema = 2


class CardSchemaError(Exception):
    """The card was written by a newer version. The message says what to do."""


class _StatedVersion(BaseModel):
    schema_version: int = 1


def upgrade(data: bytes) -> bytes:
    """Return the bytes of a card in the form of CARD_SCHEMA. Only a valid card stays valid.

    data: of card.json, by any version.

    Raises CardSchemaError.
    """
    try:
        version = _StatedVersion.model_validate_json(data).schema_version
    except ValidationError:  # no JSON object, or no number: the check of the fields describes it
        return data
    if version > CARD_SCHEMA:
        raise CardSchemaError(
            f"was written by a newer version of Nervemask (card schema {version}; this version reads up to "
            f"{CARD_SCHEMA}): install that version, or use an older model folder"
        )
    if version == CARD_SCHEMA or version not in UPGRADES:
        return data
    card = json.loads(data)
    for older in range(version, CARD_SCHEMA):
        UPGRADES[older](card)
    return json.dumps(card).encode()


def _from_1(card: dict[str, Any]) -> None:
    card["schema_version"] = 2
    card.setdefault("commit_error", "")


UPGRADES: dict[int, Callable[[dict[str, Any]], None]] = {1: _from_1}
