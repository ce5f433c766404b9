"""DICOM uploads that are refused: what is no ultrasound, what lies, and what would cost more than a frame may."""

import io
import struct
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from pydicom import uid
from pydicom.encaps import encapsulate, generate_frames

from service.cine import open_cine
from service.dicom.cine import LIMIT_FRAMES
from service.dicom.segmentation_object import segmentation_object
from service.dicom.structure import LIMIT_FRAGMENTS, LIMIT_HEADER_BYTES, LIMIT_READS
from service.errors import FrameError
from tests.dicoms import compressed, frames, ultrasound, written

MIB = 2**20
FIRST = b"\x08\x00\x16\x00"  # the SOP class, the first element behind group 2
PIXELS = b"\xe0\x7f\x10\x00OB\0\0"
EMPTY_ITEM = b"\xfe\xff\x00\xe0\0\0\0\0"
DELIMITER = b"\xfe\xff\xdd\xe0\0\0\0\0"


def refused(data: bytes, status: int, code: str) -> str:
    with pytest.raises(FrameError) as fault:
        frames(data)
    assert (fault.value.status, fault.value.code) == (status, code), fault.value.message
    return fault.value.message


def unopened(data: bytes, status: int, code: str) -> str:
    """Refused before the first frame is asked for."""
    with pytest.raises(FrameError) as fault:
        open_cine(io.BytesIO(data))
    assert (fault.value.status, fault.value.code) == (status, code), fault.value.message
    return fault.value.message


@pytest.mark.parametrize(
    ("changed", "status", "code"),
    [
        ({"Modality": "IVUS"}, 422, "not_ultrasound"),
        ({"SOPClassUID": uid.CTImageStorage, "Modality": "CT"}, 422, "not_ultrasound"),
        ({"SOPClassUID": uid.SecondaryCaptureImageStorage, "Modality": "CR"}, 422, "not_ultrasound"),
        ({"Rows": 0}, 422, "no_pixels"),
        ({"Rows": 8, "Columns": 8}, 422, "too_small"),
        ({"Rows": 65535, "Columns": 65535}, 413, "too_many_pixels"),
        ({"NumberOfFrames": 1_000_000}, 413, "too_many_frames"),
        ({"NumberOfFrames": LIMIT_FRAMES}, 400, "malformed"),
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
def test_a_header_that_does_not_fit(grey, changed, status, code) -> None:
    refused(written(ultrasound(grey, **changed)), status, code)


def test_without_pixels(grey) -> None:
    made = ultrasound(grey)
    del made.PixelData
    refused(written(made), 422, "no_pixels")


@pytest.mark.parametrize("compressed", [False, True])
def test_cut_anywhere_it_is_refused_or_whole(cine, compressed) -> None:
    made = ultrasound(cine)
    if compressed:
        made.compress(uid.RLELossless, generate_instance_uid=False)
    data = written(made)
    for end in [*range(132, 1200, 7), *range(1200, len(data) - 8, 997)]:
        with pytest.raises(FrameError) as fault:
            frames(data[:end])
        assert fault.value.status in (400, 422), (end, fault.value.message)


def test_a_length_that_lies(grey) -> None:
    data = bytearray(written(ultrasound(grey)))
    at = data.index(b"\xe0\x7f\x10\x00OB\0\0") + 8
    struct.pack_into("<L", data, at, 0xFFFFFFF0)
    assert np.array_equal(frames(bytes(data))[0].pixels, grey)  # more is declared than is needed, and all is there
    struct.pack_into("<L", data, at, 10)
    refused(bytes(data), 400, "malformed")


def test_a_codestream_of_another_size_is_not_decoded(cine) -> None:
    made = ultrasound(cine)
    made.compress(uid.JPEGLSLossless, generate_instance_uid=False)
    data = bytearray(written(made))
    at = data.index(b"\xff\xf7") + 5
    struct.pack_into(">HH", data, at, 60000, 60000)
    assert "another size" in refused(bytes(data), 400, "malformed")


@pytest.fixture
def borderless(cine) -> bytes:
    """Two fragments to a frame, and nothing that tells which."""
    made = ultrasound(cine)
    made.compress(uid.RLELossless, generate_instance_uid=False)
    coded = list(generate_frames(made.PixelData, number_of_frames=3))
    made.PixelData = encapsulate(coded, fragments_per_frame=2, has_bot=False)
    return written(made)


def test_frames_without_borders_are_refused(borderless) -> None:
    assert "3 frame(s)" in unopened(borderless, 400, "malformed")


@pytest.mark.parametrize("syntax", [uid.JPEGLSLossless, uid.JPEG2000Lossless, uid.RLELossless], ids=lambda of: of.name)
@pytest.mark.parametrize("table", [True, False])
@pytest.mark.parametrize(("held", "declared"), [(5, 2), (5, 4), (2, 3), (3, 5)])
def test_other_frames_than_are_declared(speckle, syntax, table, held, declared) -> None:
    """One too few, without a table, are as many fragments as there should be, if the empty table counts as one."""
    made = compressed(np.stack([speckle(seed, 64, 80) for seed in range(held)]), syntax)
    coded = list(generate_frames(made.PixelData, number_of_frames=held))
    made.PixelData = encapsulate(coded, has_bot=table)
    made.NumberOfFrames = declared
    assert f"{declared} frame(s)" in unopened(written(made), 400, "malformed")


@pytest.mark.parametrize("table", [True, False])
def test_frames_in_several_fragments(cine, table) -> None:
    made = compressed(cine, uid.JPEGLSLossless)
    coded = list(generate_frames(made.PixelData, number_of_frames=3))
    made.PixelData = encapsulate(coded, fragments_per_frame=3, has_bot=table)
    assert np.array_equal([frame.pixels for frame in frames(written(made))], cine)


@pytest.mark.parametrize("syntax", [uid.DeflatedExplicitVRLittleEndian, uid.MPEG4HP41], ids=lambda syntax: syntax.name)
def test_other_transfer_syntaxes_are_named(grey, syntax) -> None:
    made = ultrasound(grey)
    made.file_meta.TransferSyntaxUID = syntax
    if syntax.is_encapsulated:
        made.PixelData = encapsulate([b"a film"])
        made["PixelData"].is_undefined_length = True
    assert syntax.name in refused(written(made), 422, "transfer_syntax")


# What would cost more than a frame may


@contextmanager
def soon_and_small(mebibytes: int) -> Iterator[None]:
    """What is done within takes at most so much memory, and no more seconds than a slow machine needs."""
    tracemalloc.start()
    start = time.perf_counter()
    try:
        yield
        assert time.perf_counter() - start < 60
        assert tracemalloc.get_traced_memory()[1] < mebibytes * MIB
    finally:
        tracemalloc.stop()


def with_element(data: bytes, element: bytes) -> bytes:
    """The element as the first behind group 2."""
    at = data.index(FIRST)
    return data[:at] + element + data[at:]


def long_element(group: int, element: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    return struct.pack("<HH2s2xL", group, element, vr, len(value) if length is None else length) + value


def with_pixels(data: bytes, value: bytes) -> bytes:
    """`value` in place of what stands behind the head of compressed pixels."""
    return data[: data.index(PIXELS) + 12] + value


def test_a_header_of_a_million_parts(grey) -> None:
    bomb = with_element(written(ultrasound(grey)), struct.pack("<HH2sH", 9, 0x1001, b"LO", 0) * (2 * LIMIT_READS))
    with soon_and_small(200):
        assert "parts" in unopened(bomb, 413, "header")


def test_sequences_nested_without_end(grey) -> None:
    deeper = long_element(9, 0x1001, b"SQ", struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF), 0xFFFFFFFF)
    with pytest.raises(FrameError) as fault:
        frames(with_element(written(ultrasound(grey)), deeper * 5000))
    assert fault.value.status in (400, 413, 422)


def test_a_scanners_own_long_value_is_passed_over(grey, card) -> None:
    """As some scanners keep raw data: neither is it read for the frames, nor copied for a segmentation."""
    data = with_element(written(ultrasound(grey)), long_element(9, 0x1001, b"OB", bytes(64 * MIB)))
    with soon_and_small(16):
        opened = open_cine(io.BytesIO(data))
        assert np.array_equal(opened.decode(opened.encoded_at(0), 0).pixels, grey)
    assert segmentation_object(opened.header, [grey], card)


@pytest.mark.parametrize("length", [64 * MIB, 0xFFFFFFFF], ids=["declared", "undefined"])
@pytest.mark.parametrize("vr", [b"OB", b"UN", b"SQ"])
def test_a_long_value_in_a_sequence(grey, vr, length) -> None:
    value = bytes(64 * MIB) if vr == b"OB" else EMPTY_ITEM * (8 * MIB)
    item = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF) + long_element(9, 0x1002, vr, value, length)
    bomb = with_element(written(ultrasound(grey)), long_element(9, 0x1001, b"SQ", item, 0xFFFFFFFF))
    with soon_and_small(200):
        with pytest.raises(FrameError) as fault:
            open_cine(io.BytesIO(bomb))
        assert fault.value.status in (400, 413)


def test_as_many_items_as_a_header_may_hold(grey) -> None:
    """They are taken apart when they are asked for, and then count no more."""
    items = EMPTY_ITEM * ((LIMIT_HEADER_BYTES - 16384) // len(EMPTY_ITEM))
    told = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF) + long_element(0x0018, 0x6012, b"SQ", items)  # its format
    told += struct.pack("<HHL", 0xFFFE, 0xE00D, 0) + DELIMITER
    bomb = with_element(written(ultrasound(grey)), long_element(0x0018, 0x6011, b"SQ", told, 0xFFFFFFFF))
    with soon_and_small(400):
        assert "malformed" in open_cine(io.BytesIO(bomb)).notes[0]


def test_millions_of_fragments(cine) -> None:
    bomb = with_pixels(written(compressed(cine, uid.JPEGLSLossless)), EMPTY_ITEM * (8 * MIB))
    with soon_and_small(100):
        assert str(LIMIT_FRAGMENTS) in unopened(bomb, 413, "too_many_fragments")


@pytest.mark.parametrize("length", [64 * MIB, 0xFFFFFFF0])
def test_a_table_longer_than_its_frames_need(cine, length) -> None:
    value = struct.pack("<HHL", 0xFFFE, 0xE000, length) + bytes(64 * MIB)
    bomb = with_pixels(written(compressed(cine, uid.JPEGLSLossless)), value)
    with soon_and_small(16):
        assert "table" in unopened(bomb, 400, "malformed")


@pytest.mark.parametrize("fragments", [1, 64])
def test_a_frame_larger_than_its_pixels(grey, fragments) -> None:
    held = [EMPTY_ITEM, *[EMPTY_ITEM[:4] + struct.pack("<L", MIB) + bytes(MIB)] * fragments, DELIMITER]
    bomb = with_pixels(written(compressed(grey, uid.JPEGLSLossless)), b"".join(held))
    with soon_and_small(16):
        assert "larger than its pixels" in unopened(bomb, 400, "malformed")
