"""The README's examples of the service, run as they stand against the real server."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

ROOT = Path(__file__).parent.parent
HOST = "127.0.0.1:3000"  # as it stands in the README
BLOCK = re.compile(r"^(?:<!-- not run: (?P<reason>.+?) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S)
WRITTEN = re.compile(r"-o (\S+)|# writes (.+)")
FILE = re.compile(r"\b[\w/]+\.\w+\b")


class Block(NamedTuple):
    """A fenced block. not_run: why, where it is marked so."""

    language: str
    text: str
    not_run: str | None = None

    @property
    def files(self) -> list[str]:
        """What it says that it writes: after `-o`, and in comments that begin with `writes`."""
        return [file for match in WRITTEN.finditer(self.text) for file in FILE.findall(match[1] or match[2])]


def blocks(section: str) -> list[Block]:
    """All fenced blocks of one of the README's sections."""
    text = (ROOT / "README.md").read_text().partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return [Block(found["language"], found["text"], found["reason"]) for found in BLOCK.finditer(text)]


BLOCKS = blocks("Serving")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, speckle) -> Path:
    """The project's folder, as the demo leaves it; the first block makes `try` in it, where the others are run."""
    root = tmp_path_factory.mktemp("reader")
    (root / "data/frames/frames").mkdir(parents=True)
    cv2.imwrite(str(root / "data/frames/frames/10_1.tif"), speckle(1, 240, 320))
    (root / ".venv/bin").mkdir(parents=True)
    (root / ".venv/bin/activate").touch()  # the tests' environment is active
    return root / "try"


def run(block: Block, folder: Path, address: str) -> str:
    """What a block prints. It must end well, and leave the files that it says."""
    if block.language == "sh" and "curl" in block.text and not shutil.which("curl"):
        pytest.skip("there is no curl here")
    assert not any((folder / file).exists() for file in block.files)
    text = block.text.replace(HOST, address.removeprefix("http://"))
    call = {"sh": ["bash", "-eo", "pipefail", "-c", text], "python": [sys.executable, "-W", "error", "-c", text]}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "NERVEMASK_SERVER": address}
    at = folder if folder.exists() else folder.parent
    done = subprocess.run(call[block.language], cwd=at, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{text}\nsays: {done.stdout}{done.stderr}"
    for file in block.files:
        check(folder / file)
    return done.stdout


def check(path: Path) -> None:
    """Whether a file is what its name says."""
    match path.suffix:
        case ".png":
            Image.open(path).verify()
        case ".dcm":
            assert dcmread(path).Modality == "SEG"
        case ".json" | ".geojson":
            json.loads(path.read_text())
        case ".jsonl":
            assert all("nerve" in json.loads(line) for line in path.read_text().splitlines())
        case _:
            raise AssertionError(f"who knows what {path} is?")


@pytest.fixture(scope="module")
def outcomes(folder, address) -> list[str | BaseException]:
    """What came of each block, one after another: what it printed, or what was wrong with it."""

    def outcome(block: Block) -> str | BaseException:
        try:
            return "" if block.not_run else run(block, folder, address)
        except (Exception, pytest.skip.Exception) as fault:
            return fault

    return [outcome(block) for block in BLOCKS]


@pytest.mark.parametrize("number", range(len(BLOCKS)), ids=[f"{n}-{b.language}" for n, b in enumerate(BLOCKS)])
def test_an_example_does_what_it_says(number, outcomes) -> None:
    block, outcome = BLOCKS[number], outcomes[number]
    if block.not_run:
        pytest.skip(block.not_run)
    if isinstance(outcome, BaseException):
        raise outcome
    assert block.files or outcome


def test_the_examples_tell_the_same(folder, outcomes) -> None:
    """The files of different ways belong to the same frames."""
    if not shutil.which("curl"):
        pytest.skip("there is no curl here")
    mask = np.array(Image.open(folder / "mask.png"))
    assert mask.shape == (240, 320) and set(np.unique(mask)) == {0, 255}
    assert Image.open(folder / "overlay.png").mode == "RGB"
    assert json.loads((folder / "frame.geojson").read_text())["properties"]["area_px"] == np.count_nonzero(mask)
    lines = [json.loads(line) for line in (folder / "cine.jsonl").read_text().splitlines()]
    assert [line["frame"]["index"] for line in lines] == list(range(30))
    third = np.array(Image.open(folder / "cine3.png"))
    assert np.count_nonzero(third) == lines[3]["nerve"]["area_px"]
    assert np.array_equal(dcmread(folder / "seg.dcm").pixel_array[3] * 255, third)
    assert np.array_equal(np.array(Image.open(folder / "cine" / "mask_0003.png")), third)


def test_every_way_is_shown() -> None:
    assert {block.language for block in BLOCKS} == {"sh", "python"}
    text = "".join(block.text for block in BLOCKS if not block.not_run)
    for way in ("/mask", "/overlay", "/segment", "/dicom", "/stream", "service.client", "geo+json", "index="):
        assert way in text
    for line in re.findall(r"^curl .*$", text, re.M):
        assert line.startswith("curl --fail-with-body "), "curl ends with 0 on an error, unless told otherwise"


@pytest.mark.parametrize(
    "wrong",
    [
        Block("sh", f"curl --fail-with-body -F frame=@frame.png http://{HOST}/maks -o wrong.png\n"),
        Block("sh", f"curl --fail-with-body -F frame=@absent.png http://{HOST}/mask -o wrong.png\n"),
        Block("sh", f"curl --fail-with-body -F frame=@frame.png http://{HOST}/segment -o wrong.png\n"),
        Block("sh", "false\ntrue\n"),
        Block("sh", "true  # writes wrong.png\n"),
        Block("python", "import httpx\nhttpx.post('/mask')\n"),
    ],
    ids=lambda block: block.text.strip(),
)
def test_a_wrong_example_is_noticed(wrong, folder, address) -> None:
    with pytest.raises((AssertionError, OSError)):
        run(wrong, folder, address)
