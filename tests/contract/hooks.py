"""What schemathesis sends as a frame: the test's real files, whole and damaged."""

import os
from pathlib import Path

import schemathesis
from hypothesis import strategies as st

FRAMES_FOLDER = Path(os.environ["NERVEMASK_FRAMES"])
MEDIA_TYPES = {"png": "image/png", "jpg": "image/jpeg", "tif": "image/tiff", "dcm": "application/dicom"}


def damaged(data: bytes) -> st.SearchStrategy[bytes]:
    """The file truncated, or with one byte replaced."""
    offsets = st.integers(0, len(data) - 1)
    truncated = offsets.map(lambda end: data[:end])
    replaced = st.builds(
        lambda offset, byte: data[:offset] + bytes([byte]) + data[offset + 1 :], offsets, st.integers(0, 255)
    )
    return st.one_of(truncated, replaced)


def uploads(*suffixes: str) -> st.SearchStrategy[bytes]:
    files = [path.read_bytes() for suffix in suffixes for path in sorted(FRAMES_FOLDER.glob(f"*.{suffix}"))]
    return st.one_of(st.sampled_from(files), *map(damaged, files), st.binary(max_size=200))


for suffix, media_type in MEDIA_TYPES.items():
    schemathesis.openapi.media_type(media_type, uploads(suffix))
schemathesis.openapi.media_type("application/octet-stream", uploads(*MEDIA_TYPES))
schemathesis.openapi.format("binary", uploads(*MEDIA_TYPES))
