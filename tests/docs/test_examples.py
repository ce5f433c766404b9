"""The examples of docs/serving.md, run as they stand against a real server."""

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

ROOT = Path(__file__).parents[2]
HOST = "127.0.0.1:3000"  # as the page writes it
BLOCK = re.compile(r"^(?:<!-- not run: (?P<reason>.+?) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S)
WRITTEN = re.compile(r"-o (\S+)|# writes (.+)")
FILE = re.compile(r"\b[\w/]+\.\w+\b")


class Block(NamedTuple):
    """A fenced block of a Markdown page. not_run: the reason in the comment above it, if there is one."""

    language: str
    text: str
    not_run: str | None = None

    @property
    def files(self) -> list[str]:
        """Files that the block writes: after `-o`, and in comments that begin with `writes`."""
        return [file for match in WRITTEN.finditer(self.text) for file in FILE.findall(match[1] or match[2])]


def read_blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page."""
    return [Block(match["language"], match["text"], match["reason"]) for match in BLOCK.finditer(page.read_text())]


BLOCKS = read_blocks(ROOT / "docs" / "serving.md")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, speckle) -> Path:
    """A project folder as the demo leaves it. The first block makes `try` in it, where the others run."""
    root = tmp_path_factory.mktemp("reader")
    (root / "data/frames/frames").mkdir(parents=True)
    cv2.imwrite(str(root / "data/frames/frames/10_1.tif"), speckle(1, 240, 320))
    (root / ".venv/bin").mkdir(parents=True)
    (root / ".venv/bin/activate").touch()  # the tests' environment is active already
    return root / "try"


def run(block: Block, folder: Path, address: str) -> str:
    """Run a block and return what it prints. It must succeed and write the files that it names."""
    if block.language == "sh" and "curl" in block.text and not shutil.which("curl"):
        pytest.skip("curl is not installed")
    assert not any((folder / file).exists() for file in block.files)
    text = block.text.replace(HOST, address.removeprefix("http://"))
    commands = {"sh": ["bash", "-eo", "pipefail", "-c", text], "python": [sys.executable, "-W", "error", "-c", text]}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "NERVEMASK_SERVER": address}
    done = subprocess.run(
        commands[block.language],
        cwd=folder if folder.exists() else folder.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, f"{text}\nprints: {done.stdout}{done.stderr}"
    for file in block.files:
        check_file(folder / file)
    return done.stdout


def check_file(path: Path) -> None:
    """Check that a file holds what its suffix says."""
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
            raise AssertionError(f"{path} has an unknown suffix")


@pytest.fixture(scope="module")
def outcomes(folder, address) -> list[str | BaseException]:
    """The outcome of each block, run in the page's order: what it printed, or the error."""

    def outcome(block: Block) -> str | BaseException:
        try:
            return "" if block.not_run else run(block, folder, address)
        except (Exception, pytest.skip.Exception) as error:
            return error

    return [outcome(block) for block in BLOCKS]


@pytest.mark.parametrize("number", range(len(BLOCKS)), ids=[f"{n}-{b.language}" for n, b in enumerate(BLOCKS)])
def test_example_runs(number, outcomes) -> None:
    block, outcome = BLOCKS[number], outcomes[number]
    if block.not_run:
        pytest.skip(block.not_run)
    if isinstance(outcome, BaseException):
        raise outcome
    assert block.files or outcome


def test_examples_agree(folder, outcomes) -> None:
    """The files that different examples write for one frame hold the same mask."""
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
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


def test_examples_cover_every_route() -> None:
    assert {block.language for block in BLOCKS} == {"sh", "python"}
    text = "".join(block.text for block in BLOCKS if not block.not_run)
    for example in ("/mask", "/overlay", "/segment", "/dicom", "/stream", "service.client", "geo+json", "index="):
        assert example in text
    for line in re.findall(r"^curl .*$", text, re.M):
        assert line.startswith("curl --fail-with-body "), "without this option curl exits with 0 on an error"


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
def test_wrong_example_fails(wrong, folder, address) -> None:
    with pytest.raises((AssertionError, OSError)):
        run(wrong, folder, address)


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= 900


@pytest.mark.parametrize("page", sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]), ids=lambda page: page.name)
def test_page_links_to_existing_files(page) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target
