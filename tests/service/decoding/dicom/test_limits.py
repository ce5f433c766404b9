"""Hostile DICOM files: their reads, their bytes and the memory they take stay within bounds.

The tests count work instead of measuring time, so that a slow machine cannot fail them.
"""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pydicom.filereader
import pytest
from pydicom import uid

from service.decoding.cine import Cine, open_cine
from service.decoding.dicom.dicom_header import MAX_HEADER_BYTES, MAX_READS
from service.decoding.dicom.frame_locations import MAX_FRAGMENTS
from service.errors import FrameError
from service.rendering.dicom_segmentation import build_dicom_segmentation
from service.resources.worker_memory import RequestMemory
from tests.dicoms import make_compressed_ultrasound, make_ultrasound, to_bytes

pytestmark = pytest.mark.slow

MIB = 2**20
UNDEFINED_LENGTH = 0xFFFFFFFF
FIRST_ELEMENT = b"\x08\x00\x16\x00"  # the SOP class, the first element after group 2
PIXEL_DATA_HEAD = b"\xe0\x7f\x10\x00OB\0\0"
EMPTY_ITEM = b"\xfe\xff\x00\xe0\0\0\0\0"
ITEM_OF_UNDEFINED_LENGTH = struct.pack("<HHL", 0xFFFE, 0xE000, UNDEFINED_LENGTH)
ITEM_DELIMITER = struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
SEQUENCE_DELIMITER = b"\xfe\xff\xdd\xe0\0\0\0\0"
# Beside the limits: the file's first bytes, the element of the pixels, and a read that exceeds a limit.
OTHER_READS, OTHER_BYTES = 20, 64 * 1024


class CountingFile(io.BytesIO):
    """A file that counts the reads, and the bytes they return."""

    reads = bytes_read = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.reads += 1
        self.bytes_read += len(data)
        return data


def open_within_limits(data: bytes, max_memory_mib: int) -> Cine | FrameError:
    """Return the cine, or the error that opening it raises, after a check of the work and of the peak memory."""
    file = CountingFile(data)
    tracemalloc.start()
    try:
        result: Cine | FrameError = open_cine(file)
    except FrameError as error:
        result = error
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert file.reads <= MAX_READS + MAX_FRAGMENTS + OTHER_READS
    assert file.bytes_read <= MAX_HEADER_BYTES + 8 * MAX_FRAGMENTS + OTHER_BYTES
    assert peak < max_memory_mib * MIB
    return result


def error_within_limits(data: bytes, max_memory_mib: int) -> tuple[int, str, str]:
    """Return status, code and message of the error that opening the file raises."""
    error = open_within_limits(data, max_memory_mib)
    assert isinstance(error, FrameError)
    return error.status, error.code, error.message


def insert_element(data: bytes, element: bytes) -> bytes:
    """Return the file with the element as the first after group 2."""
    position = data.index(FIRST_ELEMENT)
    return data[:position] + element + data[position:]


def long_element(group: int, element: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    """Return an element with a length of 4 bytes; length: None for that of the value."""
    return struct.pack("<HH2s2xL", group, element, vr, len(value) if length is None else length) + value


def replace_pixel_data(data: bytes, items: bytes) -> bytes:
    """Return the compressed file with `items` as its pixel data."""
    return data[: data.index(PIXEL_DATA_HEAD) + len(PIXEL_DATA_HEAD) + 4] + items


def test_a_header_of_many_elements_is_refused(grey) -> None:
    elements = struct.pack("<HH2sH", 9, 0x1001, b"LO", 0) * (2 * MAX_READS)
    status, code, message = error_within_limits(insert_element(to_bytes(make_ultrasound(grey)), elements), 200)
    assert (status, code) == (413, "header")
    assert "parts" in message


def test_deeply_nested_sequences_are_refused(grey) -> None:
    nested = long_element(9, 0x1001, b"SQ", ITEM_OF_UNDEFINED_LENGTH, UNDEFINED_LENGTH) * 5000
    status, _, _ = error_within_limits(insert_element(to_bytes(make_ultrasound(grey)), nested), 200)
    assert status in (400, 413, 422)


def test_a_long_private_value_is_skipped(grey, card) -> None:
    """Scanners keep raw data in such values. They are neither read for the frames nor copied into a segmentation."""
    element = long_element(9, 0x1001, b"OB", bytes(64 * MIB))
    cine = open_within_limits(insert_element(to_bytes(make_ultrasound(grey)), element), 16)
    assert np.array_equal(cine.decode(cine.read_encoded(0), 0).pixels, grey)
    assert build_dicom_segmentation(cine.header, [grey], card)


@pytest.mark.parametrize("length", [64 * MIB, UNDEFINED_LENGTH], ids=["declared", "undefined"])
@pytest.mark.parametrize("vr", [b"OB", b"UN", b"SQ"])
def test_a_long_value_in_a_sequence_is_refused(grey, vr, length) -> None:
    value = bytes(64 * MIB) if vr == b"OB" else EMPTY_ITEM * (8 * MIB)
    item = ITEM_OF_UNDEFINED_LENGTH + long_element(9, 0x1002, vr, value, length)
    sequence = long_element(9, 0x1001, b"SQ", item, UNDEFINED_LENGTH)
    status, _, _ = error_within_limits(insert_element(to_bytes(make_ultrasound(grey)), sequence), 200)
    assert status in (400, 413)


def test_each_item_of_a_header_is_parsed_once(grey, monkeypatch) -> None:
    """Items are parsed when their sequence is first used, which no limit of the header counts.

    A header full of items takes at most 200 times its size in memory, and a time in proportion. A part of the
    largest header shows both.
    """
    parsed_items = 0
    read_sequence_item = pydicom.filereader.read_sequence_item

    def count_item(*arguments, **options):
        nonlocal parsed_items
        parsed_items += 1
        return read_sequence_item(*arguments, **options)

    monkeypatch.setattr(pydicom.filereader, "read_sequence_item", count_item)
    items_bytes = MAX_HEADER_BYTES // 32
    item_count = items_bytes // len(EMPTY_ITEM)
    region_format = long_element(0x0018, 0x6012, b"SQ", EMPTY_ITEM * item_count)  # a number belongs there
    region = ITEM_OF_UNDEFINED_LENGTH + region_format + ITEM_DELIMITER + SEQUENCE_DELIMITER
    regions = long_element(0x0018, 0x6011, b"SQ", region, UNDEFINED_LENGTH)
    cine = open_within_limits(insert_element(to_bytes(make_ultrasound(grey)), regions), 200 * items_bytes // MIB)
    assert "malformed" in cine.notes[0]
    assert item_count <= parsed_items <= item_count + 10


def test_millions_of_fragments_are_refused(cine) -> None:
    data = to_bytes(make_compressed_ultrasound(cine, uid.JPEGLSLossless))
    status, code, message = error_within_limits(replace_pixel_data(data, EMPTY_ITEM * (8 * MIB)), 100)
    assert (status, code) == (413, "too_many_fragments")
    assert str(MAX_FRAGMENTS) in message


@pytest.mark.parametrize("length", [64 * MIB, 0xFFFFFFF0])
def test_an_offset_table_longer_than_its_frames_need_is_refused(cine, length) -> None:
    data = to_bytes(make_compressed_ultrasound(cine, uid.JPEGLSLossless))
    table = struct.pack("<HHL", 0xFFFE, 0xE000, length) + bytes(64 * MIB)
    status, code, message = error_within_limits(replace_pixel_data(data, table), 16)
    assert (status, code) == (400, "malformed")
    assert "table" in message


@pytest.mark.parametrize("fragments", [1, 64])
def test_a_compressed_frame_larger_than_its_pixels_is_refused(grey, fragments) -> None:
    data = to_bytes(make_compressed_ultrasound(grey, uid.JPEGLSLossless))
    fragment = struct.pack("<HHL", 0xFFFE, 0xE000, MIB) + bytes(MIB)
    items = [EMPTY_ITEM, *[fragment] * fragments, SEQUENCE_DELIMITER]
    status, code, message = error_within_limits(replace_pixel_data(data, b"".join(items)), 16)
    assert (status, code) == (400, "malformed")
    assert "A compressed frame has more than" in message


@pytest.mark.parametrize("padding", [b"", b"\0", bytes(100)], ids=len)
def test_bytes_after_the_deflated_data_reserve_no_memory(padding) -> None:
    """The inflated file has more than one part, so that the decompressor ends in another call than it begins."""
    data = to_bytes(make_ultrasound(np.zeros((6, 420, 580), np.uint8)))
    meta, dataset = data[: data.index(FIRST_ELEMENT)], data[data.index(FIRST_ELEMENT) :]
    meta = meta.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99")
    meta = meta.replace(b"\x10\0UI\x14\0", b"\x10\0UI\x16\0")
    length = struct.unpack_from("<L", meta, 140)[0] + 2
    meta = meta[:140] + struct.pack("<L", length) + meta[144:]
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    deflated = compressor.compress(dataset) + compressor.flush()
    memory = RequestMemory("client")
    cine = open_cine(io.BytesIO(meta + deflated + padding), memory)
    assert cine.frame_count == 6
    assert memory.file_bytes <= len(dataset) + 2 * MIB
    memory.release()
