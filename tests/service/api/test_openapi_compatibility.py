"""The API breaks no client of the last release: its OpenAPI document is compared with that release's."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.api.openapi import openapi_document
from tests.service.api.openapi_compatibility import breaking_changes

DOCS = Path(__file__).parents[3] / "docs"
(LAST_RELEASE,) = DOCS.glob("openapi-*.json")


# Changes that only a client meets who sends a parameter that the last release did not have.
ONLY_WITH_A_NEW_PARAMETER = (".present: null is possible",)  # min_confidence


def test_no_client_of_the_last_release_breaks(card) -> None:
    changes = breaking_changes(json.loads(LAST_RELEASE.read_text()), openapi_document(card))
    assert [change for change in changes if not change.endswith(ONLY_WITH_A_NEW_PARAMETER)] == []


def test_the_document_has_another_version_than_the_last_release(card) -> None:
    last = json.loads(LAST_RELEASE.read_text())
    assert LAST_RELEASE.stem == f"openapi-{last['info']['version']}"
    assert openapi_document(card)["info"]["version"] != last["info"]["version"]


def schemas(document: dict[str, Any]) -> dict[str, Any]:
    return document["components"]["schemas"]


def segment(document: dict[str, Any]) -> dict[str, Any]:
    return document["paths"]["/segment"]["post"]


BREAKING: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "route": (lambda d: d["paths"].pop("/overlay"), "POST /overlay is removed"),
    "method": (lambda d: d["paths"]["/model"].pop("get"), "GET /model is removed"),
    "status": (lambda d: segment(d)["responses"].pop("422"), "POST /segment 422 is removed"),
    "response's type": (
        lambda d: segment(d)["responses"]["200"]["content"].pop("application/geo+json"),
        "POST /segment 200 application/geo+json is removed",
    ),
    "header": (
        lambda d: d["paths"]["/mask"]["post"]["responses"]["200"]["headers"].pop("x-warnings"),
        "POST /mask 200 header x-warnings is removed",
    ),
    "upload's type": (
        lambda d: segment(d)["requestBody"]["content"].pop("video/mp4"),
        "POST /segment request video/mp4 is removed",
    ),
    "form field": (
        lambda d: segment(d)["requestBody"]["content"]["multipart/form-data"]["schema"]["required"].append("consent"),
        "POST /segment request multipart/form-data.consent is required",
    ),
    "parameter": (lambda d: segment(d)["parameters"].pop(0), "POST /segment parameter index is removed"),
    "required parameter": (
        lambda d: segment(d)["parameters"].append({"name": "unit", "in": "query", "required": True, "schema": {}}),
        "POST /segment requires the parameter unit",
    ),
    "parameter's value": (
        lambda d: segment(d)["parameters"][1]["schema"]["enum"].remove("overlay"),
        "POST /segment ?picture value overlay is removed",
    ),
    "parameter's maximum": (
        lambda d: segment(d)["parameters"][0]["schema"].update(maximum=99),
        "POST /segment ?index has maximum 99, not 9999",
    ),
    "field": (lambda d: schemas(d)["Nerve"]["properties"].pop("rle"), ".rle is removed"),
    "optional field": (lambda d: schemas(d)["Nerve"]["required"].remove("rle"), ".rle is optional"),
    "field's type": (
        lambda d: schemas(d)["Nerve"]["properties"]["area_px"].update(type="number"),
        ".area_px has type number, not integer",
    ),
    "null": (
        lambda d: schemas(d)["Nerve"]["properties"].update(area_px={"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        ".area_px: null is possible",
    ),
    "no null": (lambda d: schemas(d)["Nerve"]["properties"].update(area_mm2={"type": "string"}), ".area_mm2"),
    "items": (
        lambda d: schemas(d)["Segmentation"]["properties"]["warnings"]["items"].update(type="object"),
        ".warnings[] has type object, not string",
    ),
    "length": (
        lambda d: schemas(d)["FrameProperties"]["properties"]["area"]["anyOf"][0].update(maxItems=5),
        ".area has maxItems 5, not 4",
    ),
    "bound": (
        lambda d: schemas(d)["Nerve"]["properties"]["presence"].update(maximum=100),
        ".presence has maximum 100, not 1",
    ),
    "error code": (
        lambda d: schemas(d)["ErrorCode"]["enum"].remove("too_small"),
        "value too_small is removed",
    ),
    "constant": (lambda d: schemas(d)["Feature"]["properties"]["type"].update(const="feature"), ".type has const"),
    "schema": (lambda d: schemas(d).pop("DroppedMessage"), "components/schemas/DroppedMessage is removed"),
    "a stream's response": (
        lambda d: schemas(d)["StreamResponse"]["anyOf"].pop(),
        "StreamResponse: DroppedMessage is removed",
    ),
    "authentication": (
        lambda d: d["components"]["securitySchemes"].pop("bearer"),
        "components/securitySchemes/bearer is removed",
    ),
}


@pytest.mark.parametrize("name", BREAKING)
def test_a_breaking_change_is_found(card, name) -> None:
    change, message = BREAKING[name]
    old = openapi_document(card)
    new = copy.deepcopy(old)
    change(new)
    if name == "schema":
        schemas(new)["StreamResponse"]["anyOf"].pop()
    found = breaking_changes(old, new)
    assert any(message in line for line in found), found


COMPATIBLE: dict[str, Callable[[dict[str, Any]], object]] = {
    "route": lambda d: d["paths"].update({"/studies": d["paths"]["/model"]}),
    "status": lambda d: segment(d)["responses"].update({"418": segment(d)["responses"]["422"]}),
    "parameter": lambda d: segment(d)["parameters"].append({"name": "unit", "in": "query", "schema": {}}),
    "parameter's value": lambda d: segment(d)["parameters"][1]["schema"]["enum"].append("contour"),
    "field": lambda d: schemas(d)["Nerve"]["properties"].update(side={"type": "string"}),
    "error code": lambda d: schemas(d)["ErrorCode"]["enum"].append("too_dark"),
    "upload's type": lambda d: segment(d)["requestBody"]["content"].update({"image/webp": {"schema": {}}}),
    "description": lambda d: d["info"].update(description="other words"),
}


@pytest.mark.parametrize("name", COMPATIBLE)
def test_an_addition_is_compatible(card, name) -> None:
    old = openapi_document(card)
    new = copy.deepcopy(old)
    COMPATIBLE[name](new)
    assert breaking_changes(old, new) == []
