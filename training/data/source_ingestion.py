"""Read the frames and masks of a data source, check them, and write them in the layout of data/frames."""

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

from rich.progress import track

from training.data.frame_mask_pair import FrameMaskPair
from training.data.manifest import ManifestRow, write_pairs
from training.data.source_errors import IngestLog
from training.data.sources import folder, phantom
from training.workspace import paths
from training.workspace.nerve_parameters import NerveParameters
from training.workspace.output_checksums import output_folder


def ingest_source(nerve: NerveParameters, target: Path) -> tuple[list[ManifestRow], IngestLog]:
    """Write the data set of `nerve.source` to `target`, which is complete or unchanged afterwards.

    Returns the rows of the manifest, and the log of the files left out. Raises ParameterError, and SourceError for data
    that cannot be used.
    """
    log = IngestLog(skip=nerve.on_error == "skip")
    pairs = source_pairs(nerve, log)
    total = nerve.phantom.subjects * nerve.phantom.frames if nerve.source == "phantom" else None
    with output_folder(target) as unfinished:
        progress = track(pairs, f"frames of {nerve.source}", total=total)
        rows = write_pairs(progress, unfinished, nerve.source, log)
    return rows, log


def source_pairs(nerve: NerveParameters, log: IngestLog) -> Iterable[FrameMaskPair]:
    """Return the frame-mask pairs of `nerve.source`: those of the module of that name in training.data.sources.

    Raises ParameterError, SourceError.
    """
    if nerve.source == "phantom":
        kind = phantom.PhantomKind(nerve.phantom.difficulty, tuple(nerve.phantom.consoles))
        return phantom.simulate_pairs(nerve.phantom.subjects, nerve.phantom.frames, nerve.phantom.seed, kind)
    path = paths.project_root() / nerve.path if nerve.path else None
    if nerve.source == "folder":
        return folder.pairs(path, log, nerve.classes)
    return import_module(f"training.data.sources.{nerve.source}").pairs(path, log)
