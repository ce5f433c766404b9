"""Open uploads as cines, and select a frame."""

import io

import numpy as np
import pytest

from service.decoding import cine as cine_module
from service.decoding.cine import PictureCine, open_cine, select_frame
from service.decoding.dicom.dicom_cine import DicomCine
from service.decoding.frame import Frame
from service.errors import FrameError
from tests.dicoms import make_ultrasound, to_bytes
from tests.frames import png


class StubCine:
    """A cine of 12 frames without pixels."""

    frame_count = 12

    def read_encoded(self, index: int) -> bytes:
        return b""

    def decode(self, encoded: bytes, index: int) -> Frame:
        return Frame(np.zeros((32, 32), np.uint8), index=index)


def test_the_type_of_a_cine_follows_from_its_first_bytes(grey, cine) -> None:
    picture, ultrasound = open_cine(io.BytesIO(png(grey))), open_cine(io.BytesIO(to_bytes(make_ultrasound(cine))))
    assert isinstance(picture, PictureCine)
    assert isinstance(ultrasound, DicomCine)
    assert (picture.frame_count, ultrasound.frame_count) == (1, 3)
    assert np.array_equal(picture.decode(picture.read_encoded(0), 0).pixels, grey)


def test_a_picture_of_too_many_bytes_is_refused(monkeypatch, grey) -> None:
    data = png(grey)
    monkeypatch.setattr(cine_module, "MAX_IMAGE_BYTES", len(data))
    assert open_cine(io.BytesIO(data)).frame_count == 1
    with pytest.raises(FrameError) as error:
        open_cine(io.BytesIO(data + b"\0"))
    assert (error.value.code, error.value.status) == ("too_large", 413)


def test_a_dicom_cine_is_read_one_frame_at_a_time(cine) -> None:
    class RecordingFile(io.BytesIO):
        longest_read = 0

        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            self.longest_read = max(self.longest_read, len(data))
            return data

    file = RecordingFile(to_bytes(make_ultrasound(cine)))
    opened = open_cine(file)
    for index in range(opened.frame_count):
        opened.decode(opened.read_encoded(index), index)
    assert file.longest_read <= cine[0].nbytes


@pytest.mark.parametrize(
    ("index", "status", "code"),
    [
        (None, 422, "several_frames"),
        ("12", 422, "no_such_frame"),
        ("9" * 30, 422, "no_such_frame"),
        ("-1", 400, "index"),
        ("x", 400, "index"),
        ("", 400, "index"),
        ("٣", 400, "index"),  # a digit, but not of ASCII
    ],
)
def test_an_index_that_selects_no_frame_is_refused(index, status, code) -> None:
    with pytest.raises(FrameError) as error:
        select_frame(StubCine(), index)
    assert (error.value.status, error.value.code) == (status, code)


def test_an_index_selects_its_frame_and_a_single_frame_needs_none(grey) -> None:
    assert [select_frame(StubCine(), index) for index in ("0", "7", "11", "0007")] == [0, 7, 11, 7]
    assert select_frame(PictureCine(png(grey)), None) == 0
