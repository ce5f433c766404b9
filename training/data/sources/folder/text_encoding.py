"""Decode texts: JSON and CSV files."""

ENCODINGS = ("utf-8-sig", "gb18030")  # tried in this order; the second is China's


def decode_text(data: bytes) -> str:
    """Return the text of a file in one of ENCODINGS. Raises ValueError for another encoding."""
    for encoding in ENCODINGS[:-1]:
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    return data.decode(ENCODINGS[-1])
