"""The licences of frames. Each source has the constant LICENCE; a manifest has the licence of each frame."""

from training.data.manifest import ManifestRow
from training.data.sources import phantom, usgra

SHOWABLE_LICENCES = (phantom.LICENCE, usgra.LICENCE)  # a model folder may contain images of frames with these licences


def describe_licences(rows: list[ManifestRow]) -> str:
    """Return the licences of the rows' frames, separated by semicolons."""
    return "; ".join(sorted({row.licence or "licence not known" for row in rows}))
