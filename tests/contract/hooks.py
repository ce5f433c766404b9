"""What the fuzzer sends as a frame: real files that the test has laid ready, whole and spoilt."""

import os
from pathlib import Path

import schemathesis
from hypothesis import strategies as st

FILES = Path(os.environ["NERVEMASK_FRAMES"])
KINDS = {"png": "image/png", "jpg": "image/jpeg", "tif": "image/tiff", "dcm": "application/dicom"}


def spoilt(data: bytes) -> st.SearchStrategy[bytes]:
    """The file cut short, or with one byte changed."""
    places = st.integers(0, len(data) - 1)
    cut = places.map(lambda end: data[:end])
    changed = st.builds(lambda at, byte: data[:at] + bytes([byte]) + data[at + 1 :], places, st.integers(0, 255))
    return st.one_of(cut, changed)


def frames(*suffixes: str) -> st.SearchStrategy[bytes]:
    files = [path.read_bytes() for suffix in suffixes for path in sorted(FILES.glob(f"*.{suffix}"))]
    return st.one_of(st.sampled_from(files), *map(spoilt, files), st.binary(max_size=200))


for suffix, kind in KINDS.items():
    schemathesis.openapi.media_type(kind, frames(suffix))
schemathesis.openapi.media_type("application/octet-stream", frames(*KINDS))
schemathesis.openapi.format("binary", frames(*KINDS))
