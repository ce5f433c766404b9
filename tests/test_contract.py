"""/docs.json tells the truth: a fuzzer that knows nothing but the document finds no answer that is not in it."""

import os
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.dicoms import ultrasound, written

ROOT = Path(__file__).parent.parent
FUZZER = ROOT / ".venv" / "contract" / "bin" / "schemathesis"
# Whether a frame can be used does not stand in its type: positive_data_acceptance cannot be asked.
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance,negative_data_rejection,unsupported_method,allow_header_conformance"
)
EXAMPLES = os.environ.get("NERVEMASK_EXAMPLES", "15")  # of each route, in each phase


@pytest.mark.skipif(not FUZZER.exists(), reason="schemathesis is not installed: make test does")
def test_every_answer_is_documented(address, speckle, tmp_path) -> None:
    pixels = speckle(1, 40, 48)
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    cv2.imwrite(str(tmp_path / "a.jpg"), pixels)
    cv2.imwrite(str(tmp_path / "a.tif"), pixels.astype(np.uint16) * 257)
    (tmp_path / "a.dcm").write_bytes(written(ultrasound(pixels)))
    (tmp_path / "cine.dcm").write_bytes(written(ultrasound(np.stack([pixels] * 3))))
    done = subprocess.run(
        [
            *(FUZZER, "run", f"{address}/docs.json", "--checks", CHECKS, "--max-examples", EXAMPLES),
            *("--phases", "examples,coverage,fuzzing", "--seed", "1", "--no-color", "--continue-on-failure"),
        ],
        cwd=tmp_path,
        env={
            **os.environ,
            "NERVEMASK_FRAMES": str(tmp_path),
            "SCHEMATHESIS_HOOKS": "hooks",
            "PYTHONPATH": str(ROOT / "tests" / "contract"),
        },
        capture_output=True,
        text=True,
        timeout=280,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-6000:]
