"""Make a server wait before it decodes the last frame of a cine, so that a test controls the order of events."""

from pathlib import Path

PATCH = """
import pathlib, time
from service.decoding.dicom.dicom_cine import DicomCine
decode = DicomCine.decode
def decode_after_gate(self, encoded, index):
    deadline = time.monotonic() + 300
    while index == self.frame_count - 1 and not pathlib.Path({gate!r}).exists():
        if time.monotonic() > deadline:
            raise RuntimeError("the test did not open the gate")
        time.sleep(0.01)
    return decode(self, encoded, index)
DicomCine.decode = decode_after_gate"""


def gate_last_frame(gate: Path) -> str:
    """Return a patch for `tests.conftest.patched`: the last frame of every cine waits until the file `gate` exists."""
    return PATCH.format(gate=str(gate))
