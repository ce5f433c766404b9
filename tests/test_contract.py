"""/docs.json tells the truth: a fuzzer that knows nothing but the document finds no answer that is not in it."""

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

from tests.conftest import serving
from tests.dicoms import ultrasound, written

ROOT = Path(__file__).parent.parent
FUZZER = ROOT / ".venv" / "contract" / "bin" / "schemathesis"
# Whether a frame can be used does not stand in its type: positive_data_acceptance cannot be asked.
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance,negative_data_rejection,unsupported_method,allow_header_conformance"
)
EXAMPLES = os.environ.get("NERVEMASK_EXAMPLES", "15")  # of each route, in each phase


def fuzzed(document: str, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*(FUZZER, "run", document, "--seed", "1", "--no-color", "--continue-on-failure"), *more],
        cwd=folder,
        env={
            **os.environ,
            "NERVEMASK_FRAMES": str(folder),
            "SCHEMATHESIS_HOOKS": "hooks",
            "PYTHONPATH": str(ROOT / "tests" / "contract"),
        },
        capture_output=True,
        text=True,
        timeout=280,
    )


@pytest.fixture(scope="module")
def folder(speckle, tmp_path_factory) -> Path:
    """Frames to be sent."""
    folder, pixels = tmp_path_factory.mktemp("frames"), speckle(1, 40, 48)
    cv2.imwrite(str(folder / "a.png"), pixels)
    cv2.imwrite(str(folder / "a.jpg"), pixels)
    cv2.imwrite(str(folder / "a.tif"), pixels.astype(np.uint16) * 257)
    (folder / "a.dcm").write_bytes(written(ultrasound(pixels)))
    (folder / "cine.dcm").write_bytes(written(ultrasound(np.stack([pixels] * 3))))
    return folder


@pytest.mark.skipif(not FUZZER.exists(), reason="schemathesis is not installed: make test does")
def test_every_answer_is_documented(address, folder) -> None:
    phases = ("--phases", "examples,coverage,fuzzing", "--max-examples", EXAMPLES)
    done = fuzzed(f"{address}/docs.json", folder, "--checks", CHECKS, *phases)
    assert done.returncode == 0, done.stdout[-6000:]


@pytest.mark.skipif(not FUZZER.exists(), reason="schemathesis is not installed: make test does")
@pytest.mark.parametrize(
    ("key", "phases"),
    # A wrong key is answered late, whatever comes with it: few requests tell as much as hundreds.
    [("right", "examples,coverage,fuzzing"), ("wrong", "examples,fuzzing")],
    ids=["right", "wrong"],
)
def test_every_answer_of_a_service_with_keys_is_documented(client, model_folder, folder, tmp_path, key, phases) -> None:
    (tmp_path / "docs.json").write_text(client.get("/docs.json").text)
    keys = tmp_path / "keys"
    right = subprocess.run(
        [sys.executable, "-m", "service.keys", "add", "fuzzer"],
        env={**os.environ, "NERVEMASK_KEYS": str(keys)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    checks = "status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance"
    sent = f"x-api-key: {right if key == 'right' else 'another'}"
    with serving(model_folder, tmp_path, NERVEMASK_KEYS=str(keys), NERVEMASK_METRICS="off") as server:
        at = ("--url", server.address, "-H", sent, "--max-examples", "3", "--phases", phases)
        done = fuzzed(str(tmp_path / "docs.json"), folder, "--checks", checks, *at)
    assert done.returncode == 0, done.stdout[-6000:]


def test_the_examples_are_of_their_schemas(client) -> None:
    document = client.get("/docs.json").json()
    content = document["paths"]["/segment"]["post"]["responses"]["200"]["content"]
    lines = content["application/jsonl"]["example"].splitlines()
    examples = [(kind["example"], kind["schema"]["$ref"]) for kind in content.values() if "$ref" in kind["schema"]]
    examples.append((json.loads(lines[0]), "#/components/schemas/Segmentation"))
    assert len(examples) == 3 and "error" in json.loads(lines[1])
    for example, schema in examples:
        Draft202012Validator({"$ref": schema, "components": document["components"]}).validate(example)


def test_every_code_is_told_under_its_status(client) -> None:
    """All that stand in the code as words, beside their status."""
    told = [
        [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
        for file in (ROOT / "service").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "FrameError"
    ]
    raised = {(words[0], words[-1]) for words in told if len(words) > 1 and isinstance(words[0], str)}
    assert len(raised) > 25
    document = client.get("/docs.json").json()
    known = document["components"]["schemas"]["Error"]["properties"]["error"]["properties"]["code"]["enum"]
    answers = document["paths"]["/segment"]["post"]["responses"]
    for code, status in raised - {("settings", 400)}:  # a stream's
        assert code in answers[str(status)]["description"].partition("Codes: ")[2]
    assert {code for code, _ in raised} <= set(known)


@pytest.mark.parametrize("route", ["/mask", "/overlay", "/segment", "/dicom"])
def test_the_headers_that_come_are_those_that_are_documented(client, folder, route) -> None:
    told = client.get("/docs.json").json()["paths"][route]["post"]["responses"]["200"].get("headers", {})
    kind = {"content-type": "application/dicom"}
    answer = client.post(route, content=(folder / "a.dcm").read_bytes(), headers=kind)
    assert answer.status_code == 200
    assert {name for name in answer.headers if name.startswith("x-")} == set(told)
