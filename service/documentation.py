"""What /docs.json tells: every route, both ways to upload, every status with its body (OpenAPI 3.1)."""

from typing import Any

import numpy as np

from service import answers
from service.card import WORST, Card
from service.cine import LIMIT_PICTURE_BYTES
from service.errors import FrameError
from service.frame import Frame
from service.guard import AT_ONCE, SECONDS, SILENT_SECONDS
from service.segmenter import Seen, Segmentation, Unseen
from service.upload import FIELD, LIMIT_BYTES, RAW_TYPES

Schema = dict[str, Any]

MESSAGE_BYTES = 16 * 2**20  # uvicorn's limit

ABOUT = f"""Upload an ultrasound frame or cine, either as the file in the field `{FIELD}` of multipart/form-data, or
as the raw body with its type. PNG, JPEG and TIFF up to {LIMIT_PICTURE_BYTES // 2**20} MiB, DICOM up to
{LIMIT_BYTES // 2**20} MiB; 8 or 16 bits, grey or colour. Frames of a cine are numbered from 0.

`/stream` is a WebSocket: a binary message with a frame's file in, the JSON of /segment as text out, with the number
of the `message` it answers, from 0; where that was a cine, as many answers as it has frames. With `?drop=true` (else
`false`) frames that wait when a newer one comes are answered `"dropped": true`; `?picture=` is as for /segment; of
other settings the error `settings` is told. A message may have {MESSAGE_BYTES // 2**20} MiB. The stream is closed with
1009 over a larger one, 1008 over settings or another site's page, 1001 when nothing came for {SILENT_SECONDS:.0f}
seconds, and 1013 where there is no room for it now.

Research software, not a medical device."""

ERRORS = {
    400: ("malformed", "The frame's file is damaged or cut short: it cannot be decoded."),
    401: ("key", "Send a key as `Authorization: Bearer KEY` or `X-API-Key: KEY`."),
    404: ("not_found", "There is no such route: see /docs.json."),
    413: ("too_large", f"The upload is larger than {LIMIT_BYTES // 2**20} MiB."),
    415: ("unknown_type", "The upload is none of the types read here (PNG, JPEG, TIFF and DICOM)."),
    422: ("too_small", "The picture can be read, but not used: it is 8x8 pixels; 16x16 are the least."),
    429: ("too_many", "Too many requests at once: try again in a second."),
    500: ("internal", "The service failed on this request; its log says why."),
    503: ("not_ready", "The service is not ready: try again shortly."),
    504: ("too_slow", f"No answer within {SECONDS:.0f} seconds."),
}
CODES = {
    400: "broke_off, decoder_ended, empty, index, malformed, multipart, not_a_file, one_frame, picture, "
    "unknown_parameter",
    401: "key",
    404: "not_found",
    413: "header, too_large, too_many_fragments, too_many_frames, too_many_pixels",
    415: "content_type, unknown_type",
    422: "header, no_identity, no_pixels, no_such_frame, not_dicom, not_ultrasound, pixel_type, several_frames, "
    "several_pages, too_small, transfer_syntax",
    429: "too_many, wrong_keys",
    500: "internal",
    503: "no_audit, no_room, not_ready",
    504: "too_slow",
}
ANY_CODE = sorted({code for codes in CODES.values() for code in codes.split(", ")} | {"settings", "method_not_allowed"})
WORDS = {
    400: "malformed or truncated, or what its decoder does not survive; or an unknown parameter",
    401: "no key, or one that is not known",
    404: "switched off, or not to be shown",
    413: "too many bytes, pixels or frames",
    415: "not a type that is read",
    422: "a frame that can be read, but not used",
    429: f"more than {AT_ONCE} requests wait, or too many wrong keys: Retry-After says when to try again",
    500: "a fault of the service",
    503: "not ready, no room on the disk, or the audit cannot be written",
    504: f"no answer within {SECONDS:.0f} seconds, or an upload that came too slowly",
}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(required: Schema, optional: Schema | None = None) -> Schema:
    """An object with these members and no others."""
    members = required | (optional or {})
    return {"type": "object", "properties": members, "required": [*required], "additionalProperties": False}


def _array(items: Schema, count: int | None = None) -> Schema:
    return {"type": "array", "items": items} | ({"minItems": count, "maxItems": count} if count else {})


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


TEXT, WHOLE, FLAG = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}
NUMBER = {"type": "number", "minimum": 0}
SHARE = {"type": "number", "minimum": 0, "maximum": 1}
BINARY = {"type": "string", "format": "binary"}

PRESENCE = (
    "probability that the frame holds a nerve; where all frames of training and validation do, not that, but how sure "
    "the network is of the mask where it is surest (then validation's presence_auc is null in /model)"
)
NERVE = {
    "present": FLAG,
    "presence": SHARE | {"description": PRESENCE},
    "area_px": WHOLE,
    "area_mm2": _or_null(NUMBER),
    "box": _or_null(_array(WHOLE, 4) | {"description": "x, y, width, height in pixels"}),
    "size_mm": _or_null(_array(NUMBER, 2) | {"description": "width and height of the box"}),
}
MODEL = _object(dict.fromkeys(("name", "version", "run_id", "data", "commit"), TEXT))
CONFIDENCE = _object({"mask": _or_null(SHARE)})
POSITION = {
    "type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2,
}  # fmt: skip
RINGS = _array(_array(POSITION))
SCHEMAS = {
    "Error": _object({"error": _object({"code": {"enum": ANY_CODE}, "message": TEXT})}),
    "Segmentation": _object(
        {
            "frame": _object(
                {
                    "height": WHOLE,
                    "width": WHOLE,
                    "index": WHOLE,
                    "area": _or_null(_array(WHOLE, 4) | {"description": "the scan area: x, y, width, height"}),
                    "spacing_mm": _or_null(_array(NUMBER, 2) | {"description": "from column to column, row to row"}),
                    "rate_hz": _or_null(NUMBER | {"description": "of the cine, frames a second, where the file tells"}),
                }
            ),
            "nerve": _object(
                NERVE
                | {
                    "contours": _array(_array(_array(WHOLE, 2)))
                    | {"description": "closed polygons of x, y through the outermost pixels, to be filled by even-odd"},
                    "rle": TEXT | {"description": "1-based start and length, column by column, as Kaggle's"},
                }
            ),
            "confidence": CONFIDENCE,
            "model": MODEL,
            "milliseconds": _object({"decode": NUMBER, "network": NUMBER, "answer": NUMBER}),
            "warnings": _array(TEXT),
        },
        {"picture": TEXT | {"description": "a data URL"}},
    ),
    "Feature": _object(
        {
            "type": {"const": "Feature"},
            "geometry": _or_null(
                {
                    "oneOf": [
                        _object({"type": {"const": "Polygon"}, "coordinates": RINGS}),
                        _object({"type": {"const": "MultiPolygon"}, "coordinates": _array(RINGS)}),
                    ]
                }
            ),
            "properties": _object(
                {"classification": _object({"name": TEXT}), "index": WHOLE}
                | NERVE
                | {"confidence": CONFIDENCE, "model": MODEL, "warnings": _array(TEXT)}
            ),
        }
    ),
}
LOCKED = (401, 429)  # where the service wants keys
UPLOAD_ERRORS = tuple(status for status in ERRORS if status != 404)  # what takes frames is never switched off
KEYS = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "browser": {"type": "http", "scheme": "basic", "description": "the key is the password"},
}
INDEX = {
    "name": "index",
    "in": "query",
    "description": "which frame of a cine, from 0: needed where the answer is of one frame (/mask, /overlay)",
    "schema": {"type": "integer", "minimum": 0, "maximum": 9999},
}
PICTURE = {
    "name": "picture",
    "in": "query",
    "description": "a picture to come with the JSON as a data URL",
    "schema": {"enum": ["mask", "overlay", "frame"]},
}
MODEL_HEADERS = {
    "x-model": "name of the model",
    "x-model-version": "its version",
    "x-model-run": "its MLflow run",
    "x-warnings": "what the answer has to say against itself, sentences parted by '; '",
}
PICTURE_HEADERS = MODEL_HEADERS | {
    "x-nerve-present": "true or false",
    "x-nerve-presence": PRESENCE,
    "x-mask-confidence": "the Dice that the mask is likely to reach",
}


def _example() -> Seen:
    """A frame of 16x16, and a nerve of 5x3 in it."""
    mask = np.zeros((16, 16), np.uint8)
    mask[8:11, 4:9] = 255
    return Seen(Frame(np.zeros_like(mask)), Segmentation(mask, 0.93, 0.88, 8.7), 2.2)


def documentation(card: Card) -> Schema:
    """The OpenAPI document; its examples are answers of the champion with this card."""
    png = {"image/png": {"schema": BINARY}}
    seen, unseen = _example(), Unseen(1, FrameError(*ERRORS[400], 400))
    lines = "".join(answers.line(answers.outcome(of, card)) for of in (seen, unseen))
    segmentation = {
        "application/json": {"schema": _ref("Segmentation"), "example": answers.segment(seen, card)},
        "application/geo+json": {"schema": _ref("Feature"), "example": answers.geojson(seen, card)},
        "application/jsonl": {
            "schema": TEXT | {"description": "of a cine: a line for each frame, as the JSON or an error"},
            "example": lines,
        },
    }
    dicom = {"application/dicom": {"schema": BINARY}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Nervemask", "version": "0.1.0", "description": ABOUT},
        "paths": {
            "/mask": _upload("The nerve's mask, 0 or 255, of the frame's own size", png, [INDEX]),
            "/overlay": _upload("The frame with the mask's outline and tint upon it", png, [INDEX]),
            "/segment": _upload("The mask as JSON or GeoJSON", segmentation, [INDEX, PICTURE], {}),
            "/dicom": _upload("Of a DICOM ultrasound: a DICOM Segmentation of it", dicom, [], MODEL_HEADERS),
            "/model": _get(
                "The model's card, its device, and what each of its answers warns of",
                "application/json",
                {"type": "object"},
                *LOCKED,
            ),
            f"/model/{WORST}": _get(
                "Test frames on which the model does worst, with their masks; 404 where they may not be shown",
                "image/png",
                BINARY,
                *LOCKED,
                404,
            ),
            "/": _get("The page to try it", "text/html", TEXT, *LOCKED),
            "/docs.json": _get("This document", "application/json", {"type": "object"}, *LOCKED),
            "/livez": _get("Whether the service is alive", "text/plain", TEXT, 503),
            "/readyz": _get("Whether it is ready: 503 until then", "text/plain", TEXT, 503),
            "/metrics": _get("Prometheus metrics", "text/plain", TEXT, *LOCKED, 404),
        },
        "components": {"schemas": SCHEMAS, "securitySchemes": KEYS},
        "security": [{name: []} for name in KEYS] + [{}],  # a service on loopback may ask for none
    }


def _upload(summary: str, answers: Schema, parameters: list[Schema], told: dict[str, str] = PICTURE_HEADERS) -> Schema:
    """A POST route that takes a frame. told: the headers of its answers, and what they hold."""
    file = {"schema": _object({FIELD: BINARY}), "encoding": {FIELD: {"contentType": ", ".join(RAW_TYPES)}}}
    body = {"multipart/form-data": file} | {kind: {"schema": BINARY} for kind in RAW_TYPES}
    headers = {name: {"schema": TEXT, "description": what} for name, what in told.items()}
    answered = {"description": summary, "content": answers} | ({"headers": headers} if headers else {})
    return {
        "post": {
            "summary": summary,
            "parameters": parameters,
            "requestBody": {"required": True, "content": body},
            "responses": _responses(answered, UPLOAD_ERRORS),
        }
    }


def _get(summary: str, kind: str, schema: Schema, *errors: int) -> Schema:
    answered = {"description": summary, "content": {kind: {"schema": schema}}}
    return {"get": {"summary": summary, "responses": _responses(answered, errors)}}


def _responses(answered: Schema, errors: tuple[int, ...]) -> Schema:
    return {"200": answered} | {str(status): _error(status) for status in errors}


def _error(status: int) -> Schema:
    code, message = ERRORS[status]
    example = {"error": {"code": code, "message": message}}
    return {
        "description": f"{WORDS[status]}. Codes: {CODES[status]}.",
        "content": {"application/json": {"schema": _ref("Error"), "example": example}},
    }
