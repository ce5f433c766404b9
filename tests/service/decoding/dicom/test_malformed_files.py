"""DICOM files that are refused: not ultrasound, not supported, damaged, or with a header that does not fit."""

import io
import struct

import numpy as np
import pytest
from pydicom import uid
from pydicom.encaps import encapsulate, generate_frames

from service.decoding.cine import open_cine
from service.decoding.dicom.header_checks import MAX_FRAMES
from service.errors import FrameError
from tests.dicoms import decode_frames, make_compressed_ultrasound, make_ultrasound, to_bytes

PIXEL_DATA_HEAD = b"\xe0\x7f\x10\x00OB\0\0"


def decode_error(data: bytes, status: int, code: str) -> str:
    """Return the message of the error that opening the file, or decoding one of its frames, raises."""
    with pytest.raises(FrameError) as error:
        decode_frames(data)
    assert (error.value.status, error.value.code) == (status, code), error.value.message
    return error.value.message


def open_error(data: bytes, status: int, code: str) -> str:
    """Return the message of the error that opening the file raises."""
    with pytest.raises(FrameError) as error:
        open_cine(io.BytesIO(data))
    assert (error.value.status, error.value.code) == (status, code), error.value.message
    return error.value.message


@pytest.mark.parametrize(
    ("attributes", "status", "code"),
    [
        ({"Modality": "IVUS"}, 422, "not_ultrasound"),
        ({"SOPClassUID": uid.CTImageStorage, "Modality": "CT"}, 422, "not_ultrasound"),
        ({"SOPClassUID": uid.SecondaryCaptureImageStorage, "Modality": "CR"}, 422, "not_ultrasound"),
        ({"Rows": 0}, 422, "no_pixels"),
        ({"Rows": 8, "Columns": 8}, 422, "too_small"),
        ({"Rows": 65535, "Columns": 65535}, 413, "too_many_pixels"),
        ({"NumberOfFrames": 1_000_000}, 413, "too_many_frames"),
        ({"NumberOfFrames": MAX_FRAMES}, 400, "malformed"),
        ({"NumberOfFrames": -1}, 400, "malformed"),
        ({"Rows": 101}, 400, "malformed"),
        ({"BitsAllocated": 32, "BitsStored": 32}, 422, "pixel_type"),
        ({"BitsAllocated": 1, "BitsStored": 1}, 422, "pixel_type"),
        ({"SamplesPerPixel": 4}, 422, "pixel_type"),
        ({"PhotometricInterpretation": "NONSENSE"}, 400, "malformed"),
        ({"BitsStored": 0}, 400, "malformed"),
        ({"BitsStored": 99}, 400, "malformed"),
    ],
    ids=str,
)
def test_a_header_that_does_not_fit_is_refused(grey, attributes, status, code) -> None:
    decode_error(to_bytes(make_ultrasound(grey, **attributes)), status, code)


def test_a_file_without_pixel_data_is_refused(grey) -> None:
    dataset = make_ultrasound(grey)
    del dataset.PixelData
    decode_error(to_bytes(dataset), 422, "no_pixels")


def test_the_error_of_another_transfer_syntax_names_it(grey) -> None:
    dataset = make_ultrasound(grey)
    syntax = uid.UID("1.2.840.10008.1.2.7.1")  # SMPTE ST 2110-20
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([b"a stream"])
    dataset["PixelData"].is_undefined_length = True
    assert syntax.name in decode_error(to_bytes(dataset), 422, "transfer_syntax")


@pytest.mark.parametrize("compressed", [False, True])
def test_a_file_cut_anywhere_is_refused(cine, compressed) -> None:
    data = to_bytes(make_compressed_ultrasound(cine, uid.RLELossless) if compressed else make_ultrasound(cine))
    for end in [*range(132, 1200, 7), *range(1200, len(data) - 8, 997)]:
        with pytest.raises(FrameError) as error:
            decode_frames(data[:end])
        assert error.value.status in (400, 422), (end, error.value.message)


def test_a_wrong_length_of_the_pixel_data(grey) -> None:
    data = bytearray(to_bytes(make_ultrasound(grey)))
    length_position = data.index(PIXEL_DATA_HEAD) + len(PIXEL_DATA_HEAD)
    struct.pack_into("<L", data, length_position, 0xFFFFFFF0)
    assert np.array_equal(decode_frames(bytes(data))[0].pixels, grey)  # too long, but every pixel is in the file
    struct.pack_into("<L", data, length_position, 10)
    decode_error(bytes(data), 400, "malformed")


def test_a_codestream_with_another_size_is_not_decoded(cine) -> None:
    data = bytearray(to_bytes(make_compressed_ultrasound(cine, uid.JPEGLSLossless)))
    struct.pack_into(">HH", data, data.index(b"\xff\xf7") + 5, 60000, 60000)
    assert "another size" in decode_error(bytes(data), 400, "malformed")


def test_frames_without_a_border_are_refused(cine) -> None:
    """Two fragments for each frame, no offset table, and RLE has no end-of-image marker."""
    dataset = make_compressed_ultrasound(cine, uid.RLELossless)
    codestreams = list(generate_frames(dataset.PixelData, number_of_frames=3))
    dataset.PixelData = encapsulate(codestreams, fragments_per_frame=2, has_bot=False)
    assert "3 frame(s)" in open_error(to_bytes(dataset), 400, "malformed")


@pytest.mark.parametrize(
    "syntax", [uid.JPEGLSLossless, uid.JPEG2000Lossless, uid.RLELossless], ids=lambda syntax: syntax.name
)
@pytest.mark.parametrize("has_table", [True, False], ids=["table", "no table"])
@pytest.mark.parametrize(("frame_count", "declared"), [(5, 2), (5, 4), (2, 3), (3, 5)])
def test_another_number_of_frames_than_declared_is_refused(speckle, syntax, has_table, frame_count, declared) -> None:
    """(2, 3) without a table: two fragments and the empty table are three items; these must not pass for frames."""
    dataset = make_compressed_ultrasound(np.stack([speckle(seed, 64, 80) for seed in range(frame_count)]), syntax)
    codestreams = list(generate_frames(dataset.PixelData, number_of_frames=frame_count))
    dataset.PixelData = encapsulate(codestreams, has_bot=has_table)
    dataset.NumberOfFrames = declared
    assert f"{declared} frame(s)" in open_error(to_bytes(dataset), 400, "malformed")


@pytest.mark.parametrize("has_table", [True, False], ids=["table", "no table"])
def test_frames_in_several_fragments_are_read(cine, has_table) -> None:
    dataset = make_compressed_ultrasound(cine, uid.JPEGLSLossless)
    codestreams = list(generate_frames(dataset.PixelData, number_of_frames=3))
    dataset.PixelData = encapsulate(codestreams, fragments_per_frame=3, has_bot=has_table)
    assert np.array_equal([frame.pixels for frame in decode_frames(to_bytes(dataset))], cine)
