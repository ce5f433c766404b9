"""Videos in DICOM files: H.264, HEVC and MPEG-2 streams of three frames, the frame GREY moved by a pixel each time."""

import io

import numpy as np
import pytest
from pydicom import dcmread, uid

from service.decoding.cine import open_cine
from service.errors import FrameError
from service.rendering.dicom_segmentation import build_dicom_segmentation
from tests.dicoms import decode_frames, make_region
from tests.service.decoding.format_samples import GREY, case, dicom_video

STREAMS = {
    uid.MPEG4HP41: "video.h264",
    uid.MPEG4HP42STEREO: "video.h264",
    uid.HEVCMP51: "video.hevc",
    uid.MPEG2MPML: "video.m2v",
}


@pytest.mark.parametrize("syntax", STREAMS, ids=lambda syntax: syntax.name)
def test_a_video_gives_the_frames_of_its_stream(syntax) -> None:
    region = make_region(20, 10, 99, 89)
    frames = decode_frames(dicom_video(case(STREAMS[syntax]), syntax, SequenceOfUltrasoundRegions=[region]))
    assert len(frames) == 3
    for index, frame in enumerate(frames):
        assert np.abs(frame.pixels.astype(int) - np.roll(GREY, index, axis=1)).mean() < 3
        assert (frame.notes, frame.frame_rate_hz, frame.spacing_mm) == ((), 30.03, (0.1, 0.2))


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"NumberOfFrames": 2}, r"declares 2 frame\(s\)\. Its video has 3"),
        ({"NumberOfFrames": 4}, r"declares 4 frame\(s\)\. Its video has 3"),
        ({"Rows": 95}, "another size"),
        ({"Columns": 130}, "another size"),
    ],
    ids=str,
)
def test_a_video_that_its_header_does_not_fit_is_refused(attributes, message) -> None:
    with pytest.raises(FrameError, match=message):
        decode_frames(dicom_video(case("video.h264"), uid.MPEG4HP41, **attributes))


def test_a_number_of_frames_that_the_header_does_not_have_is_counted() -> None:
    frames = decode_frames(dicom_video(case("video.h264"), uid.MPEG4HP41, NumberOfFrames=None))
    assert len(frames) == 3
    assert "those of 3 frames" in frames[0].notes[0]


@pytest.mark.parametrize("stream", [b"a video", b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n"], ids=["text", "playlist"])
def test_anything_else_than_a_video_is_refused(stream) -> None:
    with pytest.raises(FrameError) as error:
        decode_frames(dicom_video(stream, uid.MPEG4HP41))
    assert error.value.code == "malformed"


def test_a_segmentation_refers_to_the_frames_of_a_video(card) -> None:
    cine = open_cine(io.BytesIO(dicom_video(case("video.h264"), uid.MPEG4HP41)))
    masks = [np.zeros((96, 128), np.uint8) for _ in range(3)]
    masks[1][20:40, 30:60] = 255
    segmentation = dcmread(io.BytesIO(build_dicom_segmentation(cine.header, masks, card)))
    assert segmentation.NumberOfFrames == 3
    assert np.array_equal(segmentation.pixel_array[1] > 0, masks[1] > 0)
    (source,) = segmentation.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert source.ReferencedSOPInstanceUID == cine.header.SOPInstanceUID
