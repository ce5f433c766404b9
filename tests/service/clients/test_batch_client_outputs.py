"""`python -m service.client`: kinds of output, console output, start-up time, against the real service."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydicom import dcmread

from tests.dicoms import make_region, make_ultrasound, to_bytes
from tests.frames import moving_tissue
from tests.service.clients.client_process import ROOT, start_client
from tests.service.clients.conftest import CINE_FRAMES, list_files, post, write_file

pytestmark = pytest.mark.server


@pytest.mark.parametrize(
    ("arguments", "route"),
    [
        (["--out", "new/o.png"], "/mask"),
        (["--out", "o.PNG"], "/mask"),
        (["--out", "o.png", "--as", "overlay"], "/overlay"),
    ],
    ids=str,
)
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".dcm"])
def test_one_frame_to_png(run_client, client, frame_files, suffix, arguments, route) -> None:
    write_file(f"frame{suffix}", frame_files[suffix])
    run_client(f"frame{suffix}", *arguments)
    assert list_files(".") == {f"frame{suffix}", arguments[1]}
    assert Path(arguments[1]).read_bytes() == post(client, route, frame_files[suffix]).content


def test_one_frame_to_json(run_client, client, frame_files) -> None:
    write_file("frame.png", frame_files[".png"])
    run_client("frame.png", "--out", "o.json")
    output, expected = json.loads(Path("o.json").read_text()), post(client, "/segment", frame_files[".png"]).json()
    assert output.pop("milliseconds") and expected.pop("milliseconds")
    assert output == expected


def test_one_frame_to_geojson(run_client, client, frame_files) -> None:
    write_file("frame.png", frame_files[".png"])
    run_client("frame.png", "--out", "o.geojson")
    expected = post(client, "/segment", frame_files[".png"], accept="application/geo+json").json()
    assert json.loads(Path("o.geojson").read_text()) == expected


def test_a_cine_to_a_dicom_segmentation(run_client, client, cine_file) -> None:
    write_file("cine.dcm", cine_file)
    output = run_client("cine.dcm", "--out", "seg.dcm")
    masks = dcmread("seg.dcm").pixel_array
    assert masks.shape == (CINE_FRAMES, 120, 160)
    areas = [json.loads(line)["nerve"]["area_px"] for line in post(client, "/segment", cine_file).text.splitlines()]
    assert [np.count_nonzero(mask) for mask in masks] == areas
    assert "simulated" in output.stderr


def test_a_cine_to_png_files_takes_one_request(run_client, proxy, client, cine_file) -> None:
    write_file("cine.dcm", cine_file)
    output = run_client("cine.dcm", "--out", "masks/a.png", server=proxy.address)
    assert list_files("masks") == {f"a_{index:04d}.png" for index in range(CINE_FRAMES)}
    for index in range(CINE_FRAMES):
        expected = post(client, f"/mask?index={index}", cine_file).content
        assert Path(f"masks/a_{index:04d}.png").read_bytes() == expected
    names = [line.split("\t")[0] for line in output.stdout.splitlines()]
    assert names == [f"cine.dcm[{index}]" for index in range(CINE_FRAMES)]
    assert len(proxy.post_times) == 1


@pytest.mark.parametrize(
    ("out", "lines_file"),
    [
        ("o.json", "o.jsonl"),
        ("o.jsonl", "o.jsonl"),
        ("o.geojson", "o.geojsonl"),
        ("o.geojsonl", "o.geojsonl"),
    ],
)
def test_a_cine_to_json_lines(run_client, cine_file, out, lines_file) -> None:
    write_file("cine.dcm", cine_file)
    output = run_client("cine.dcm", "--out", out)
    assert list_files(".") == {"cine.dcm", lines_file}
    assert (f"go to {lines_file}" in output.stderr) == (out != lines_file)  # a warning if the name is another
    outcomes = [json.loads(line) for line in Path(lines_file).read_text().splitlines()]
    key = "properties" if "geo" in out else "frame"
    assert [outcome[key]["index"] for outcome in outcomes] == list(range(CINE_FRAMES))


def test_each_frame_prints_one_line(run_client, client, frame_files) -> None:
    black = cv2.imencode(".png", np.zeros((64, 64), np.uint8))[1].tobytes()
    for name, content in {"a.png": frame_files[".png"], "b.dcm": frame_files[".dcm"], "c.png": black}.items():
        write_file(f"in/{name}", content)
    output = run_client("in", "--out", "out")
    lines = dict(line.split("\t", 1) for line in output.stdout.splitlines())
    png = post(client, "/segment", frame_files[".png"]).json()
    area_mm2 = post(client, "/segment", frame_files[".dcm"]).json()["nerve"]["area_mm2"]
    confidence, area_px = png["confidence"]["mask"], png["nerve"]["area_px"]
    assert lines["in/a.png"].startswith(f"nerve\tconfidence {confidence:.2f}\t{area_px} px\t")
    assert f"\t{area_mm2} mm2\t" in lines["in/b.dcm"]
    assert lines["in/c.png"].startswith("no nerve\tpresence 0.")
    assert all(line.endswith(" ms") for line in lines.values())
    assert output.stderr.count("simulated") == 1
    assert output.stderr.count("\n") == 1  # no progress bar without a terminal


@pytest.mark.parametrize("kind", ["mask", "json", "geojson"])
def test_less_certain_masks_are_left_out_on_request(run_client, frame_files, kind) -> None:
    write_file("a.png", frame_files[".png"])
    output = run_client("a.png", "--out", "out", "--as", kind, "--min-confidence", "1")
    assert output.stdout.startswith("a.png\tnot sure\tpresence ")
    assert "below 1" in output.stderr


def test_the_masks_of_a_cine_can_be_smoothed(run_client) -> None:
    write_file("cine.dcm", to_bytes(make_ultrasound(np.stack([moving_tissue(number) for number in range(6)]))))
    presences = []
    for out, arguments in (("alone", []), ("smoothed", ["--smooth"])):
        run_client("cine.dcm", "--out", out, "--as", "json", *arguments)
        text = "".join(path.read_text() for path in sorted(Path(out).iterdir()))
        presences.append(re.findall(r'"presence": ?([0-9.]+)', text))
    alone, smoothed = presences
    assert len(alone) == len(smoothed) == 6
    assert alone[0] == smoothed[0]
    assert alone[1:] != smoothed[1:]


def test_outlines_are_asked_for_where_the_output_can_hold_them(run_client, frame_files) -> None:
    write_file("a.png", frame_files[".png"])
    output = run_client("a.png", "--out", "a.json", "--outlines")
    assert "the model has no outlines" in output.stderr  # the service's warning: it was asked
    for out, kind in (("masks", "mask"), ("shapes", "geojson")):
        output = run_client("a.png", "--out", out, "--as", kind, "--outlines", status=2)
        assert "cannot contain outlines" in output.stderr
        assert not Path(out).exists()


def test_a_min_confidence_above_1_is_a_wrong_argument(run_client, frame_files) -> None:
    write_file("a.png", frame_files[".png"])
    output = run_client("a.png", "--out", "out", "--min-confidence", "1.5", status=2)
    assert "--min-confidence must be from 0 to 1" in output.stderr


def test_a_warning_about_a_frame_names_the_file(run_client, frame_files, speckle) -> None:
    regions = [make_region(0, 0, 79, 119), make_region(80, 0, 159, 119)]
    write_file("in/plain.png", frame_files[".png"])
    two_regions = make_ultrasound(speckle(3, 120, 160), SequenceOfUltrasoundRegions=regions)
    write_file("in/two.dcm", to_bytes(two_regions))
    lines = run_client("in", "--out", "out").stderr.splitlines()
    assert sorted(line.partition(": ")[0] for line in lines) == ["in/two.dcm", "nervemask"]
    assert any("2 scan areas" in line for line in lines)


def test_a_terminal_shows_a_progress_bar(address, frame_files, tmp_path) -> None:
    (tmp_path / "frame.png").write_bytes(frame_files[".png"])
    terminal, terminal_end = os.openpty()
    arguments = ["-m", "service.client", "frame.png", "--out", "o.png"]
    process = start_client(tmp_path, address, *arguments, stdout=subprocess.PIPE, stderr=terminal_end)
    stdout, _ = process.communicate(timeout=60)
    os.close(terminal_end)
    shown = os.read(terminal, 100_000).decode()
    os.close(terminal)
    assert process.returncode == 0
    assert "━" in shown
    assert stdout.startswith(b"frame.png\tnerve\t")


def test_all_files_are_written_when_stdout_is_closed_early(address, frame_files, tmp_path) -> None:
    """As with `| head -1`."""
    for number in range(3):
        write_file(str(tmp_path / f"in/{number}.png"), frame_files[".png"])
    read_end, write_end = os.pipe()
    os.close(read_end)
    arguments = ["-m", "service.client", "in", "--out", "out"]
    process = start_client(tmp_path, address, *arguments, stdout=write_end, stderr=subprocess.PIPE)
    os.close(write_end)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr.count(b"\n")) == (0, 1), stderr  # one line: the model's warning
    assert list_files(str(tmp_path / "out")) == {"0.png", "1.png", "2.png"}


def test_help_loads_no_heavy_library() -> None:
    heavy = "{'httpx', 'rich', 'numpy', 'cv2', 'openvino', 'bentoml'}"
    code = f"import sys, service.client; print(*{heavy} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True) == "\n"


def test_the_client_loads_no_image_library(address, frame_files, tmp_path) -> None:
    (tmp_path / "frame.dcm").write_bytes(frame_files[".dcm"])
    arguments = ["-X", "importtime", "-m", "service.client", "frame.dcm", "--out", "o.png"]
    process = start_client(tmp_path, address, *arguments, stderr=subprocess.PIPE)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0
    modules = {line.rpartition("|")[2].strip() for line in stderr.decode().splitlines()}
    assert "httpx" in modules
    assert not modules & {"numpy", "cv2", "openvino", "bentoml", "pydicom"}
