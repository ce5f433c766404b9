"""Recognise a DICOM file by its first bytes. This module does not import pydicom, which takes 0.25 seconds to load."""

import re
import struct

PREAMBLE_BYTES = 128
SIGNATURE = b"DICM"  # after the preamble (PS3.10 7.1)
HEAD_BYTES = PREAMBLE_BYTES + len(SIGNATURE)  # of a file are enough for `find_start`
FILE_META_GROUP, IDENTIFYING_GROUP = 0x0002, 0x0008
MAX_FIRST_ELEMENT, MAX_FIRST_LENGTH = 0x0100, 64  # of a file without preamble


def find_start(head: bytes) -> int | None:
    """Return where the first element of a DICOM file begins; None if the file is not DICOM.

    Old programs and some archives write files without the preamble. Such a file begins with an element of the group
    0002 or 0008.

    head: the first HEAD_BYTES of the file.
    """
    if head[PREAMBLE_BYTES:HEAD_BYTES] == SIGNATURE:
        return HEAD_BYTES
    if len(head) < 8:
        return None
    group, element, length = struct.unpack_from("<HHL", head)
    if group not in (FILE_META_GROUP, IDENTIFYING_GROUP) or element > MAX_FIRST_ELEMENT:
        return None
    return 0 if has_explicit_vr(head) or length <= MAX_FIRST_LENGTH else None


def has_explicit_vr(element: bytes) -> bool:
    """Return whether an element names its value representation."""
    return re.fullmatch(rb"[A-Z]{2}", element[4:6]) is not None
