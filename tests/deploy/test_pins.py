"""Images and tools are pinned by digest, and `make pin` renews the digests of images."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.test_compose import SERVICES
from tests.deploy.test_manifests import DEPLOY, IMAGES, ROOT

DIGEST = "sha256:" + "5" * 64
# A fake `skopeo`. It prints $DIGEST, or fails.
FAKE_SKOPEO = """#!/bin/sh
echo "$*" >> "$CALLS"
[ "$DIGEST" ] || { echo "no route to the registry" >&2; exit 1; }
echo "$DIGEST"
"""


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_that_is_pulled_has_a_digest(name) -> None:
    image = SERVICES[name]["image"]
    if image.startswith("nervemask"):
        assert any(service["image"] == image and "build" in service for service in SERVICES.values())
    else:
        assert re.fullmatch(r"[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}", image)


@pytest.mark.parametrize("dockerfile", IMAGES, ids=lambda path: path.stem)
def test_every_base_of_an_image_has_a_digest(dockerfile) -> None:
    text = dockerfile.read_text()
    assert re.search(r"^ARG PYTHON=python:[\w.-]+@sha256:[0-9a-f]{64}$", text, re.M)
    assert set(re.findall(r"^FROM (\S+)", text, re.M)) == {"${PYTHON}"}
    assert "# syntax=" not in text  # it would pull another image


def test_every_tool_of_the_makefile_is_installed_with_its_hash() -> None:
    text = (ROOT / "Makefile").read_text()
    assert "uv tool run" not in text
    for line in re.findall(r"^.*(?:pip install|pip sync).*$", text, re.M):
        assert "--require-hashes" in line


def run_pin(folder: Path, digest: str) -> subprocess.CompletedProcess[str]:
    """Run `make pin` on a copy of deploy/ with the fake skopeo."""
    shutil.copytree(DEPLOY, folder / "deploy", ignore=shutil.ignore_patterns("secrets"), dirs_exist_ok=True)
    (folder / "skopeo").write_text(FAKE_SKOPEO)
    (folder / "skopeo").chmod(0o755)
    environment = os.environ | {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "CALLS": str(folder / "calls"),
        "DIGEST": digest,
    }
    return subprocess.run(
        [sys.executable, folder / "deploy/pin_images.py"], env=environment, capture_output=True, text=True
    )


def test_pin_writes_the_registrys_digest_of_each_image(tmp_path) -> None:
    completed = run_pin(tmp_path, DIGEST)
    assert completed.returncode == 0, completed.stderr
    for file in ("compose.yaml", *(f"images/{image.name}" for image in IMAGES)):
        before, after = (DEPLOY / file).read_text(), (tmp_path / "deploy" / file).read_text()
        assert after == re.sub("sha256:[0-9a-f]{64}", DIGEST, before)
        assert after != before
    calls = (tmp_path / "calls").read_text().splitlines()
    assert len(calls) == len(set(calls)) == 6
    assert any(call.endswith("docker://prom/prometheus:v3.5.0") for call in calls)


def test_pin_changes_nothing_without_a_registry(tmp_path) -> None:
    completed = run_pin(tmp_path, "")
    assert completed.returncode and "no route to the registry" in completed.stderr
    assert (tmp_path / "deploy/compose.yaml").read_text() == (DEPLOY / "compose.yaml").read_text()
