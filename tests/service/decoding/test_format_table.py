"""The table of formats is true, and docs/formats.md shows it."""

import io
from pathlib import Path

import pytest

from service.decoding import format_table
from service.decoding.cine import open_cine
from service.decoding.format_table import Row
from service.errors import FrameError
from tests.service.decoding import format_samples

PAGE = Path(__file__).parents[3] / "docs/formats.md"
SAMPLES = {
    row: samples[row.kind, row.variant]
    for rows, samples in (
        (format_table.PICTURES_AND_VIDEOS, format_samples.PICTURES_AND_VIDEOS),
        (format_table.DICOM, format_samples.DICOM),
    )
    for row in rows
}


@pytest.mark.parametrize("row", SAMPLES, ids=lambda row: f"{row.kind}, {row.variant}")
def test_a_row_of_the_table_is_true(row: Row) -> None:
    file = io.BytesIO(SAMPLES[row]())
    if row.support == "refused":
        with pytest.raises(FrameError) as error:
            open_and_decode(file)
        assert error.value.code not in ("malformed", "decoder_ended", "empty")
    else:
        assert (row.support == "read with a note") is bool(open_and_decode(file))


def open_and_decode(file: io.BytesIO) -> tuple[str, ...]:
    """Decode all frames; return the notes on the first one."""
    cine = open_cine(file)
    frames = [cine.decode(cine.read_encoded(index), index) for index in range(cine.frame_count)]
    return frames[0].notes


def test_the_page_shows_the_table() -> None:
    assert PAGE.read_text() == render_page(), "run: python -m tests.service.decoding.test_format_table"


def render_page() -> str:
    return "\n".join(
        [
            "# Which files are read",
            "",
            "The content of a file decides its type, never its name. A note in the answer says what was repaired or",
            "assumed. A refusal says what to send instead. `python -m tests.service.decoding.test_format_table` writes",
            "this page.",
            "",
            "## Pictures and videos",
            "",
            *render_table("format", format_table.PICTURES_AND_VIDEOS),
            "",
            "## DICOM ultrasound",
            "",
            *render_table("transfer syntax", format_table.DICOM),
            "",
        ]
    )


def render_table(first_column: str, rows: tuple[Row, ...]) -> list[str]:
    lines = [f"| {row.kind} | {row.variant} | {row.support} | {row.remark} |" for row in rows]
    return [f"| {first_column} | variant | | remark |", "| --- | --- | --- | --- |", *lines]


if __name__ == "__main__":
    PAGE.write_text(render_page())
