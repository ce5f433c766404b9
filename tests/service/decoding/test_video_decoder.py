"""Videos: their frames, their frame rate, and what a damaged or unusual one gets."""

import io
import math
import struct

import numpy as np
import pytest

from service.decoding.cine import open_cine
from service.decoding.frame import MAX_PIXELS, Frame
from service.decoding.video_decoder import decode_video, to_milli_rate
from service.errors import FrameError
from tests.service.decoding.format_samples import GREY, avi_of_jpegs, damaged_mp4, rotated_mp4, video

AVI = video(".avi", "MJPG")
PLAYLISTS = {
    "HLS": b"#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:1,\n{path}\n#EXT-X-ENDLIST\n",
    "concat": b"ffconcat version 1.0\nfile {path}\n",
}


def read(data: bytes) -> list[Frame]:
    cine = open_cine(io.BytesIO(data))
    return [cine.decode(cine.read_encoded(index), index) for index in range(cine.frame_count)]


def test_a_video_gives_its_frames_in_order() -> None:
    frames = read(AVI)
    assert [frame.frame_rate_hz for frame in frames] == [25.0] * 3
    for shift, frame in enumerate(frames):
        assert np.abs(frame.pixels.astype(int) - np.roll(GREY, shift, axis=1)).mean() < 3
        assert frame.notes == ()


@pytest.mark.parametrize("sizes", [(96, 64), (64, 96), (96, 96, 64)], ids=str)
def test_a_video_whose_frames_change_their_size_is_refused(sizes) -> None:
    """OpenCV would stretch all frames to the size of the first one."""
    assert len(read(avi_of_jpegs(*[GREY] * 3))) == 3
    with pytest.raises(FrameError, match="several sizes") as error:
        read(avi_of_jpegs(*(GREY[:rows] for rows in sizes)))
    assert error.value.status == 422


@pytest.mark.parametrize(
    ("scale", "rate", "expected"),
    [(1, 25, 25.0), (1001, 30000, 29.97), (1, 0xFFFFFFFF, None), (0xFFFFFFFF, 1, None), (1, 1001, None)],
    ids=str,
)
def test_a_frame_rate_that_no_scanner_reaches_is_unknown(scale, rate, expected) -> None:
    """The stream header of AVI declares the rate as a fraction."""
    data = bytearray(AVI)
    struct.pack_into("<LL", data, data.index(b"strh") + 28, scale, rate)
    assert {frame.frame_rate_hz for frame in read(bytes(data))} == {expected}


@pytest.mark.parametrize(("scale", "rate"), [(0, 25), (1, 0), (0, 0)])
def test_a_frame_rate_of_zero_does_not_stop_the_video(scale, rate) -> None:
    data = bytearray(AVI)
    struct.pack_into("<LL", data, data.index(b"strh") + 28, scale, rate)
    assert len(read(bytes(data))) == 3


@pytest.mark.parametrize(
    ("rate", "expected"),
    [(25.0, 25000), (0.0, 0), (-25.0, 0), (math.nan, 0), (math.inf, 0), (-math.inf, 0), (1e300, 0), (0.1, 100)],
)
def test_a_rate_that_is_not_a_number_is_unknown(rate, expected) -> None:
    assert to_milli_rate(rate) == expected


def test_a_rotation_is_applied_with_a_note() -> None:
    frame = read(rotated_mp4())[0]
    assert np.abs(frame.pixels.astype(int) - np.rot90(GREY, -1)).mean() < 3
    assert "rotation of 90 degrees" in frame.notes[0]


def test_frames_that_the_decoder_guesses_have_a_note() -> None:
    assert "parts of its frames are guesses" in read(damaged_mp4())[0].notes[0]
    assert read(video(".mp4", "mp4v"))[0].notes == ()


@pytest.mark.parametrize("kind", PLAYLISTS)
def test_a_playlist_is_not_read(tmp_path, kind) -> None:
    """It names another file of this machine."""
    (tmp_path / "other.avi").write_bytes(AVI)
    source = tmp_path / "source"
    source.write_bytes(PLAYLISTS[kind].replace(b"{path}", str(tmp_path / "other.avi").encode()))
    with pytest.raises(FrameError, match="damaged or truncated"):
        decode_video(str(source), str(tmp_path / "target"), MAX_PIXELS)


def test_a_container_that_is_not_expected_is_not_read(tmp_path) -> None:
    """FFmpeg knows hundreds; the fewer meet a hostile file, the better."""
    source = tmp_path / "source"
    source.write_bytes(video(".mkv", "VP80"))
    with pytest.raises(FrameError, match="damaged or truncated"):
        decode_video(str(source), str(tmp_path / "target"), MAX_PIXELS)


def test_a_full_disk_is_named(tmp_path) -> None:
    source = tmp_path / "source"
    source.write_bytes(AVI)
    with pytest.raises(FrameError) as error:
        decode_video(str(source), "/dev/full", MAX_PIXELS)
    assert (error.value.code, error.value.status) == ("no_room", 503)
