"""The OpenAPI 3.1 document at /docs.json, built from the response models, the route table and ErrorCode."""

from typing import Any

import numpy as np
from pydantic import TypeAdapter

from service import VERSION
from service.api import response_bodies
from service.api import response_schemas as models
from service.api.fair_concurrency_limiter import MAX_RUNNING_OR_QUEUED
from service.api.request_queue_timeout import MAX_QUEUE_SECONDS, MAX_RESPONSE_SECONDS
from service.api.upload import MAX_UPLOAD_BYTES, RAW_CONTENT_TYPES, UPLOAD_FIELD
from service.api.websocket import MAX_IDLE_SECONDS, MAX_STREAMS, MAX_STREAMS_PER_CLIENT
from service.api.websocket_protocol import MAX_MESSAGE_BYTES
from service.decoding.frame import Frame
from service.decoding.image_file import MAX_IMAGE_BYTES
from service.decoding.video_decoder import MAX_VIDEO_BYTES
from service.errors import ErrorCode, FrameError
from service.inference.segmentation_result import MIN_CONFIDENCE, FrameFailure, FrameResult, FrameSegmentation
from service.model.card import WORST_FRAMES_IMAGE, Card
from service.route_table import FRAME_ROUTES

Json = dict[str, Any]

MAX_FRAME_INDEX = 9999

MIB = 2**20
DESCRIPTION = f"""Upload an ultrasound frame or cine: either as the file in the field `{UPLOAD_FIELD}` of
multipart/form-data, or as the raw body with its Content-Type. Pictures may have up to
{MAX_IMAGE_BYTES // MIB} MiB, MP4 and AVI videos up to {MAX_VIDEO_BYTES // MIB} MiB, DICOM files up to
{MAX_UPLOAD_BYTES // MIB} MiB. Pixels have 8 or 16 bits, grey or colour.
Frames of a cine are numbered from 0.

A request waits while the service is busy; clients take turns. The service returns 429 while {MAX_RUNNING_OR_QUEUED}
requests of one client run or wait in one of its processes, and for a request that waits for
{MAX_QUEUE_SECONDS:.0f} seconds; 503 while its memory is full; 504 when no response begins within
{MAX_RESPONSE_SECONDS:.0f} more seconds.

`/stream` is a WebSocket. A binary message holds a frame's file; the response is JSON text, described by the schema
StreamResponse. A cine gets a response for each frame. Parameters: `?picture=`, `?min_confidence=`, `?smooth=` and
`?outlines=` as for /segment; `?drop=true` (default `false`) drops waiting messages and returns `"dropped": true` when a
newer one arrives. Other parameters get the error `settings`. A message may have up to
{MAX_MESSAGE_BYTES // MIB} MiB. The service closes the stream with 1009 after a larger message, 1008 after a wrong
parameter or when its API key was removed, 1001 after {MAX_IDLE_SECONDS:.0f} seconds without a message, and 1013 when
its messages hold too many bytes. A handshake gets HTTP 403 for another site's page.
It gets 429 while {MAX_STREAMS_PER_CLIENT} streams of the client, or {MAX_STREAMS} of all, are open in one process.

Research software, not a medical device."""

UPLOAD_STATUSES = (400, 401, 413, 414, 415, 422, 429, 431, 500, 503, 504)
KEY_STATUSES = (401, 429)  # where the service requires keys

SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "browser": {"type": "http", "scheme": "basic", "description": "the key is the password"},
}
PARAMETERS: dict[str, Json] = {
    "index": {
        "description": "frame of a cine, from 0; routes that return one frame require it for a cine",
        "schema": {"type": "integer", "minimum": 0, "maximum": MAX_FRAME_INDEX},
    },
    "picture": {
        "description": "picture to add to the JSON as a data URL",
        "schema": {"enum": [*response_bodies.PICTURE_KINDS]},
    },
    "min_confidence": {
        "description": "the answer for a frame is left out if its confidence is lower: the mask is empty, and whether "
        f"the frame shows a nerve is null. Default: 0, which leaves nothing out; for /dicom, {MIN_CONFIDENCE}",
        "schema": {"type": "number", "minimum": 0, "maximum": 1},
    },
    "smooth": {
        "description": "smooth the masks of a cine over time, along the motion of the tissue; a frame that `index` "
        "chooses is segmented alone. Default: false",
        "schema": {"type": "boolean"},
    },
    "outlines": {
        "description": "add an inner and an outer outline with a guarantee (schema Outlines): to the JSON, to the "
        "picture of the overlay, to the DICOM Segmentation as two more segments. GeoJSON cannot contain them. "
        "Default: false",
        "schema": {"type": "boolean"},
    },
}
MODEL_HEADERS = {
    "x-model": "name of the model",
    "x-model-version": "version of the model",
    "x-model-run": "MLflow run of the model",
    "x-warnings": "warnings about the model and the frame, separated by '; '",
}
PICTURE_HEADERS = MODEL_HEADERS | {
    "x-nerve-present": "true or false; null if the answer is left out",
    "x-nerve-presence": models.PRESENCE,
    "x-mask-confidence": "the Dice that the mask is likely to reach",
}

TEXT, OBJECT, BINARY = {"type": "string"}, {"type": "object"}, {"type": "string", "format": "binary"}


def openapi_document(card: Card) -> Json:
    """Return the OpenAPI document. Its examples are responses of the model with this card."""
    png = {"image/png": {"schema": BINARY}}
    dicom = {"application/dicom": {"schema": BINARY}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Nervemask", "version": VERSION, "description": DESCRIPTION},
        "paths": {
            "/mask": _post("/mask", "The mask, 0 or 255, in the frame's size", png, PICTURE_HEADERS),
            "/overlay": _post("/overlay", "The frame with the mask's outline and tint", png, PICTURE_HEADERS),
            "/segment": _post("/segment", "The mask as JSON or GeoJSON", _segment_content(card), {}),
            "/dicom": _post("/dicom", "The DICOM Segmentation of a DICOM ultrasound", dicom, MODEL_HEADERS),
            "/model": _get("The model's card, device and warnings", "application/json", OBJECT, *KEY_STATUSES, 503),
            f"/model/{WORST_FRAMES_IMAGE}": _get(
                "The worst test frames with masks", "image/png", BINARY, *KEY_STATUSES, 404, 503
            ),
            "/": _get("The page for people", "text/html", TEXT, *KEY_STATUSES),
            "/docs.json": _get("This document", "application/json", OBJECT, *KEY_STATUSES, 503),
            "/livez": _get("Whether the service is alive", "text/plain", TEXT, 503),
            "/readyz": _get("The served model, and a line for each warning", "text/plain", TEXT, 503),
            "/metrics": _get("Prometheus metrics", "text/plain", TEXT, *KEY_STATUSES, 404),
        },
        "components": {"schemas": _schemas(), "securitySchemes": SECURITY_SCHEMES},
        "security": [{name: []} for name in SECURITY_SCHEMES] + [{}],  # a service on loopback may need no key
    }


def _schemas() -> Json:
    """Return the JSON schemas of all response models, by name."""
    roots: list[Any] = [models.Segmentation, models.Feature, models.Error, models.FailedFrame, models.StreamResponse]
    _, schemas = TypeAdapter.json_schemas(
        [(root, "serialization", TypeAdapter(root)) for root in roots], ref_template="#/components/schemas/{model}"
    )
    return dict(schemas["$defs"])


def _segment_content(card: Card) -> Json:
    result = _example_result()
    failure = FrameFailure(1, FrameError(ErrorCode.MALFORMED, ErrorCode.MALFORMED.description))
    lines = "".join(
        response_bodies.encode_line(response_bodies.build_outcome(outcome, card)) for outcome in (result, failure)
    )
    return {
        "application/json": {
            "schema": _ref("Segmentation"),
            "example": response_bodies.build_segmentation(result, card),
        },
        "application/geo+json": {"schema": _ref("Feature"), "example": response_bodies.build_feature(result, card)},
        "application/jsonl": {
            "schema": TEXT | {"description": "for a cine: each frame's Segmentation, Feature or FailedFrame in a line"},
            "example": lines,
        },
    }


def _example_result() -> FrameResult:
    """Return the result for a frame of 16x16 pixels with a nerve of 5x3 pixels."""
    mask = np.zeros((16, 16), np.uint8)
    mask[8:11, 4:9] = 255
    return FrameResult(Frame(np.zeros_like(mask)), FrameSegmentation(mask, 0.93, 0.88, 8.7), 2.2)


def _post(path: str, summary: str, content: Json, headers: dict[str, str]) -> Json:
    """Return the description of a route that takes a frame.

    path: one of FRAME_ROUTES.
    summary: what the response holds.
    content: the response's schema by Content-Type.
    headers: the descriptions of the response's headers, by name.
    """
    form = {
        "type": "object",
        "properties": {UPLOAD_FIELD: BINARY},
        "required": [UPLOAD_FIELD],
        "additionalProperties": False,
    }
    file = {"schema": form, "encoding": {UPLOAD_FIELD: {"contentType": ", ".join(RAW_CONTENT_TYPES)}}}
    success: Json = {"description": summary, "content": content}
    if headers:
        success["headers"] = {name: {"schema": TEXT, "description": text} for name, text in headers.items()}
    return {
        "post": {
            "summary": summary,
            "parameters": [{"name": name, "in": "query", **PARAMETERS[name]} for name in FRAME_ROUTES[path]],
            "requestBody": {
                "required": True,
                "content": {"multipart/form-data": file} | {kind: {"schema": BINARY} for kind in RAW_CONTENT_TYPES},
            },
            "responses": {"200": success} | _errors(*UPLOAD_STATUSES),
        }
    }


def _get(summary: str, media_type: str, schema: Json, *statuses: int) -> Json:
    success = {"description": summary, "content": {media_type: {"schema": schema}}}
    return {"get": {"summary": summary, "responses": {"200": success} | _errors(*statuses)}}


def _errors(*statuses: int) -> Json:
    return {str(status): _error(status) for status in statuses}


def _error(status: int) -> Json:
    """Return the description of a status: its error codes with their descriptions, and an example."""
    codes = [code for code in ErrorCode if status in code.statuses and code is not ErrorCode.SETTINGS]  # a stream's
    example: models.Error = {"error": {"code": codes[0], "message": codes[0].description}}
    return {
        "description": "Codes:\n" + "\n".join(f"- `{code}`: {code.description}" for code in codes),
        "content": {"application/json": {"schema": _ref("Error"), "example": example}},
    }


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}
