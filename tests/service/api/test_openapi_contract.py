"""/docs.json describes every response: a fuzzer that knows only the document finds no response that is not in it."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from jsonschema import Draft202012Validator
from starlette.routing import Route
from websockets.sync.client import connect

from service.api.routes import starlette_app
from service.errors import ErrorCode, FrameError
from service.route_table import FRAME_ROUTES
from tests.conftest import serving
from tests.dicoms import make_ultrasound, to_bytes

pytestmark = pytest.mark.server

ROOT = Path(__file__).parents[3]
SCHEMATHESIS = ROOT / ".venv" / "contract" / "bin" / "schemathesis"
needs_schemathesis = pytest.mark.skipif(
    not SCHEMATHESIS.exists(), reason="schemathesis is not installed: `make test` installs it"
)
# Without positive_data_acceptance: the schema of a file cannot say whether the frame in it can be used.
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance,negative_data_rejection,unsupported_method,allow_header_conformance"
)
CHECKS_WITH_KEYS = (
    "status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance"
)
EXAMPLES = os.environ.get("NERVEMASK_EXAMPLES", "15")  # of each route, in each phase


def fuzz(document: str, frames_folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*(SCHEMATHESIS, "run", document, "--seed", "1", "--no-color", "--continue-on-failure"), *options],
        cwd=frames_folder,
        env={
            **os.environ,
            "NERVEMASK_FRAMES": str(frames_folder),
            "SCHEMATHESIS_HOOKS": "hooks",
            "PYTHONPATH": str(ROOT / "tests" / "contract"),
        },
        capture_output=True,
        text=True,
        timeout=280,
    )


@pytest.fixture(scope="module")
def frames_folder(speckle, tmp_path_factory) -> Path:
    """A folder with a frame in every file type, and a cine."""
    folder, pixels = tmp_path_factory.mktemp("frames"), speckle(1, 40, 48)
    cv2.imwrite(str(folder / "a.png"), pixels)
    cv2.imwrite(str(folder / "a.jpg"), pixels)
    cv2.imwrite(str(folder / "a.tif"), pixels.astype(np.uint16) * 257)
    (folder / "a.dcm").write_bytes(to_bytes(make_ultrasound(pixels)))
    (folder / "cine.dcm").write_bytes(to_bytes(make_ultrasound(np.stack([pixels] * 3))))
    return folder


@pytest.fixture(scope="module")
def document(client) -> dict:
    return client.get("/docs.json").json()


def validate(document: dict, response: object, schema: str | dict) -> None:
    """Raises ValidationError when the response does not have the form of a schema, given itself or by its name."""
    reference = {"$ref": f"#/components/schemas/{schema}"} if isinstance(schema, str) else schema
    Draft202012Validator(reference | {"components": document["components"]}).validate(response)


def json_contents(document: dict, method: str) -> list[tuple[str, str, str, dict]]:
    """Return the route, status, media type and content of every JSON response of a method."""
    return [
        (route, status, media_type, content)
        for route, operations in document["paths"].items()
        for status, response in operations.get(method, {"responses": {}})["responses"].items()
        for media_type, content in response["content"].items()
        if media_type == "application/json" or media_type.endswith("+json")
    ]


@needs_schemathesis
def test_a_fuzzer_finds_no_response_that_is_not_documented(address, frames_folder) -> None:
    options = ("--checks", CHECKS, "--phases", "examples,coverage,fuzzing", "--max-examples", EXAMPLES)
    run = fuzz(f"{address}/docs.json", frames_folder, *options)
    assert run.returncode == 0, run.stdout[-6000:]


@needs_schemathesis
@pytest.mark.parametrize(
    ("key", "phases"),
    # The service delays every response to a wrong key, and all are alike: a few requests are enough.
    [("right", "examples,coverage,fuzzing"), ("wrong", "examples,fuzzing")],
    ids=["right", "wrong"],
)
def test_a_fuzzer_finds_no_response_that_is_not_documented_with_api_keys(
    document, model_folder, frames_folder, tmp_path, key, phases
) -> None:
    (tmp_path / "docs.json").write_text(json.dumps(document))
    keys = tmp_path / "keys"
    right_key = subprocess.run(
        [sys.executable, "-m", "service.keys", "add", "fuzzer"],
        env={**os.environ, "NERVEMASK_KEYS": str(keys)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    header = f"x-api-key: {right_key if key == 'right' else 'another'}"
    with serving(model_folder, tmp_path, NERVEMASK_KEYS=str(keys), NERVEMASK_METRICS="off") as server:
        options = ("--url", server.address, "-H", header, "--max-examples", "3", "--phases", phases)
        run = fuzz(str(tmp_path / "docs.json"), frames_folder, "--checks", CHECKS_WITH_KEYS, *options)
    assert run.returncode == 0, run.stdout[-6000:]


def test_every_route_is_documented(document) -> None:
    routes = {route.path for route in starlette_app.routes if isinstance(route, Route)}
    assert set(document["paths"]) == routes | set(FRAME_ROUTES) | {"/livez", "/readyz"}


def test_the_examples_have_the_form_of_their_schemas(document) -> None:
    contents = json_contents(document, "get") + json_contents(document, "post")
    for route, status, _, content in contents:
        assert status == "200" or content["schema"] == {"$ref": "#/components/schemas/Error"}, route
        if status != "200" or "example" in content:
            validate(document, content["example"], content["schema"])
    lines = document["paths"]["/segment"]["post"]["responses"]["200"]["content"]["application/jsonl"]["example"]
    frame, failed_frame = map(json.loads, lines.splitlines())
    validate(document, frame, "Segmentation")
    validate(document, failed_frame, "FailedFrame")


def test_the_json_of_every_route_has_the_form_of_its_schema(client, document, frames_folder) -> None:
    """Also of a new route, whatever it is: without an entry here."""
    dicom = (frames_folder / "a.dcm").read_bytes()
    compared = set()
    for method in ("get", "post"):
        for route, status, media_type, content in json_contents(document, method):
            if status == "200":
                headers = {"accept": media_type} | ({"content-type": "application/dicom"} if method == "post" else {})
                response = client.request(method, route, content=dicom if method == "post" else None, headers=headers)
                assert (response.status_code, response.headers["content-type"]) == (200, media_type), route
                validate(document, response.json(), content["schema"])
                compared.add((route, media_type))
    assert {("/segment", "application/json"), ("/segment", "application/geo+json"), ("/model", "application/json")} <= (
        compared
    )


@pytest.mark.parametrize(
    ("accept", "schema"), [("application/json", "Segmentation"), ("application/geo+json", "Feature")]
)
def test_the_lines_for_a_cine_have_the_form_of_their_schemas(client, document, frames_folder, accept, schema) -> None:
    cine = (frames_folder / "cine.dcm").read_bytes()
    response = client.post("/segment", files={"frame": cine}, headers={"accept": accept})
    lines = response.text.splitlines()
    assert len(lines) == 3
    for line in lines:
        validate(document, json.loads(line), schema)


def test_the_responses_of_a_stream_have_the_form_of_their_schema(address, document, frames_folder) -> None:
    png, cine = (frames_folder / "a.png").read_bytes(), (frames_folder / "cine.dcm").read_bytes()
    response_counts = {png: 1, cine: 3, "text": 1, b"not a frame": 1}
    with connect(address.replace("http", "ws") + "/stream?picture=mask") as socket:
        for message in response_counts:
            socket.send(message)
        responses = [json.loads(socket.recv(timeout=60)) for _ in range(sum(response_counts.values()))]
    for response in responses:
        validate(document, response, "StreamResponse")
    assert [response["message"] for response in responses] == [0, 1, 1, 1, 2, 3]
    assert ["error" in response for response in responses] == [False, False, False, False, True, True]


def test_every_error_in_the_code_has_a_code_of_the_table_with_its_status() -> None:
    """Also where no test reaches: all calls FrameError(ErrorCode.X, message) and FrameError(ErrorCode.X, ..., 400)."""
    errors = set()
    for file in (ROOT / "service").rglob("*.py"):
        for call in ast.walk(ast.parse(file.read_text())):
            if not (isinstance(call, ast.Call) and ast.unparse(call.func) == "FrameError" and len(call.args) > 1):
                continue
            code, *_, last = call.args
            if isinstance(code, ast.Attribute):
                status = last.value if len(call.args) == 3 and isinstance(last, ast.Constant) else None
                errors.add((ErrorCode[code.attr], status))
    assert len(errors) > 25
    for code, status in errors:
        FrameError(code, "A message.", status)  # else it raises ValueError


def test_every_error_code_is_documented_with_its_statuses(document) -> None:
    assert set(document["components"]["schemas"]["ErrorCode"]["enum"]) == set(ErrorCode)
    responses = document["paths"]["/segment"]["post"]["responses"] | document["paths"]["/metrics"]["get"]["responses"]
    for code in set(ErrorCode) - {ErrorCode.SETTINGS, ErrorCode.METHOD_NOT_ALLOWED}:  # of a stream; of no route
        for status in code.statuses:
            assert f"- `{code}`: {code.description}" in responses[str(status)]["description"]


@pytest.mark.parametrize("route", FRAME_ROUTES)
def test_the_headers_of_responses_are_the_documented_ones(client, document, frames_folder, route) -> None:
    documented = document["paths"][route]["post"]["responses"]["200"].get("headers", {})
    dicom = (frames_folder / "a.dcm").read_bytes()
    response = client.post(route, content=dicom, headers={"content-type": "application/dicom"})
    assert response.status_code == 200
    assert {name for name in response.headers if name.startswith("x-")} == set(documented)
