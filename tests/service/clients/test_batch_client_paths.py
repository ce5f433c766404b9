"""`python -m service.client`: input and output paths. No output replaces a frame or an existing file."""

from pathlib import Path

import pytest

from tests.privileges import without_privileges
from tests.service.clients.conftest import CINE_FRAMES, list_files, post, write_file

pytestmark = pytest.mark.server

CINE_OUTPUTS = [f"cine_{index:04d}.png" for index in range(CINE_FRAMES)]


def test_a_folder_of_frames(run_client, frame_files) -> None:
    for name in ("a.png", "b/a.PNG", "b/c.jpg", "b/d/e.tif", "f.dcm"):
        write_file(f"in/{name}", frame_files[Path(name).suffix.lower()])
    write_file("in/1.2.840.1", frame_files[".dcm"])
    write_file("in/1.2.841.1", frame_files[".dcm"])
    write_file("in/notes.txt", b"no frame")
    write_file("in/.hidden.png", b"no frame")
    run_client("in", "--out", "out")
    expected = {"a.png", "b/a.png", "b/c.png", "b/d/e.png", "f.png", "1.2.840.1.png", "1.2.841.1.png"}
    assert list_files("out") == expected


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        (["a/x.png", "b/x.png"], ["a/x.png", "b/x.png"]),
        (["a", "b"], ["a/x.png", "b/x.png"]),
        (["a/x.png", "a"], ["x.png"]),
        (["c"], ["x.png.png", "x.tif.png", "y.png"]),
        (["a/x.png"], ["x.png"]),
    ],
    ids=str,
)
def test_output_names_do_not_collide(run_client, frame_files, inputs, outputs) -> None:
    for name in ("a/x.png", "b/x.png", "c/x.png", "c/x.tif", "c/y.tif"):
        write_file(name, frame_files[Path(name).suffix])
    run_client(*inputs, "--out", "out")
    assert list_files("out") == set(outputs)


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]], ids=str)
def test_a_cine_does_not_replace_the_output_of_a_frame(run_client, client, frame_files, cine_file, overwrite) -> None:
    write_file("in/x.dcm", cine_file)
    write_file("in/x_0002.png", frame_files[".png"])
    output = run_client("in", "--out", "out", *overwrite, status=1)
    assert "in/x.dcm: out/x_0002.png is" in output.stderr
    assert Path("out/x_0002.png").read_bytes() == post(client, "/mask", frame_files[".png"]).content


def test_an_output_folder_inside_the_input_folder_is_no_input(run_client, frame_files) -> None:
    write_file("in/x.tif", frame_files[".tif"])
    run_client("in", "--out", "in/masks")
    run_client("in", "--out", "in/masks", "--overwrite")
    assert list_files("in") == {"x.tif", "masks/x.png"}


def test_an_existing_file_is_replaced_only_with_overwrite(run_client, frame_files) -> None:
    write_file("frame.png", frame_files[".png"])
    write_file("o.png", b"mine")
    output = run_client("frame.png", "--out", "o.png", status=2)
    assert "o.png already exists" in output.stderr and "--overwrite" in output.stderr
    assert Path("o.png").read_bytes() == b"mine"
    run_client("frame.png", "--out", "o.png", "--overwrite")
    assert Path("o.png").read_bytes() != b"mine"


@pytest.mark.parametrize(
    ("existing", "arguments", "written"),
    [
        ("out/frame.png", [], ["frame.png", *CINE_OUTPUTS]),
        ("out/cine_0000.png", [], ["frame.png", *CINE_OUTPUTS]),
        ("out/cine.jsonl", ["--as", "json"], ["cine.jsonl", "frame.json"]),
    ],
    ids=["frame.png", "cine_0000.png", "cine.jsonl"],
)
def test_an_interrupted_batch_goes_on(run_client, frame_files, cine_file, existing, arguments, written) -> None:
    write_file("frame.png", frame_files[".png"])
    write_file("cine.dcm", cine_file)
    write_file(existing, b"from the first run")
    output = run_client("frame.png", "cine.dcm", "--out", "out", *arguments)
    assert "kept" in output.stderr and "--overwrite" in output.stderr
    assert list_files("out") == set(written)
    assert Path(existing).read_bytes() == b"from the first run"
    run_client("frame.png", "cine.dcm", "--out", "out", *arguments, "--overwrite")
    assert Path(existing).read_bytes() != b"from the first run"


def test_what_cannot_be_read_is_named_and_the_rest_is_segmented(run_client, frame_files, tmp_path) -> None:
    write_file("in/a.png", frame_files[".png"])
    write_file("in/b.png", frame_files[".png"])
    write_file("in/closed/c.png", frame_files[".png"])
    Path("in/link.png").symlink_to("nowhere.png")
    Path("in/b.png").chmod(0)
    Path("in/closed").chmod(0)
    with without_privileges(tmp_path):
        output = run_client("in", "--out", "out", status=1)
    for name in ("in/b.png", "in/closed", "in/link.png"):
        assert f"{name}: " in output.stderr
    assert list_files("out") == {"a.png"}


@pytest.mark.parametrize("arguments", [["frame.png", "--out", "frame.png"], ["frame.png", "--out", "."]], ids=str)
def test_a_frame_is_never_overwritten(run_client, frame_files, arguments) -> None:
    write_file("frame.png", frame_files[".png"])
    run_client(*arguments, "--overwrite", status=2)
    assert Path("frame.png").read_bytes() == frame_files[".png"]


def test_other_files_in_a_folder_are_skipped_with_a_message(run_client, frame_files) -> None:
    write_file("in/frame.png", frame_files[".png"])
    write_file("in/notes.webp", b"x")
    write_file("in/.hidden", b"x")
    output = run_client("in", "--out", "out")
    assert output.stderr.count("skipped") == 1
    assert "in/notes.webp is skipped: not a PNG, JPEG, TIFF, DICOM, MP4 or AVI file" in output.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.png", "--out", "o.png"], "nowhere.png does not exist"),
        (["empty", "--out", "out"], "empty holds no PNG"),
        (["frame.png", "--out", "o.gif"], "o.gif has the wrong suffix: use one of .png, "),
        (["frame.png", "--out", "o.dcm", "--as", "overlay"], "o.dcm has the wrong suffix: use .png for overlay"),
        (["frame.png", "frame.tif", "--out", "frame.tif"], "frame.tif is a file"),
        (["frame.png", "frame.tif", "--out", "o.json"], "need a folder"),
        (["frame.png", "--out", "o.png", "--at-once", "0"], "--at-once"),
        (["frame.png", "--out", "o.png", "--as", "video"], "video"),
        (["frame.png"], "--out"),
    ],
    ids=str,
)
def test_wrong_arguments(run_client, frame_files, arguments, message) -> None:
    write_file("frame.png", frame_files[".png"])
    write_file("frame.tif", frame_files[".tif"])
    Path("empty").mkdir()
    assert message in run_client(*arguments, status=2).stderr
    assert list_files(".") == {"frame.png", "frame.tif"}
