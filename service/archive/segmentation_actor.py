"""The actor that Ray Data starts on each core or GPU: it holds the network and segments lists of files.

The module imports nothing that reads NERVEMASK_WORKERS: the actor sets it first.
"""

import io
import os
import tarfile
import tempfile
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import ray

from service.resources.container_limits import cpu_cores
from service.resources.malloc_options import return_freed_memory
from service.resources.worker_count import MAX_WORKERS, WORKERS_VARIABLE

if TYPE_CHECKING:
    from service.inference.segmenter import Segmenter

# What the nodes need to read the sources. A value that the driver has replaces the node's own.
CREDENTIALS = (
    *("DICOMWEB_USER", "DICOMWEB_PASSWORD", "DICOMWEB_TOKEN"),
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_ENDPOINT_URL"),
)
THREADS_PER_CORE = 2  # one frame is decoded in a decoder process while another is in the network


class ArchiveJob(NamedTuple):
    """What the actors are to do.

    model: reference of what `pack_folder` returns for the model folder.
    out: the output folder. kind: of the output files. keep_paths: write the files' locations into the table.
    mark: of the output folder. cores: of each actor. files_per_task: at most.
    credentials: environment variables of the driver.
    """

    model: ray.ObjectRef
    out: Path
    kind: str
    keep_paths: bool
    mark: str
    cores: int
    files_per_task: int
    credentials: dict[str, str]


def pack_folder(folder: Path) -> bytes:
    """Return the files of a folder as a tar archive. It goes to nodes that do not have the folder."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", dereference=True) as archive:
        for path in sorted(folder.resolve().iterdir()):
            archive.add(path, path.name)
    return buffer.getvalue()


def unpack_segmenter(model: bytes) -> "Segmenter":
    """Return the segmenter of a packed model folder that passes its self-test. Raises ModelFolderError."""
    from service.inference.segmenter import Segmenter
    from service.inference.self_test import run_self_test

    with tempfile.TemporaryDirectory(prefix="nervemask-") as folder:
        with tarfile.open(fileobj=io.BytesIO(model)) as archive:
            archive.extractall(folder, filter="data")
        segmenter = Segmenter(Path(folder))
        run_self_test(Path(folder), segmenter)
        return segmenter


class SegmentationActor:
    """Segments the files of each batch."""

    def __init__(self, job: ArchiveJob):
        os.environ.update(job.credentials)
        # The actors of a node share its memory and decoder processes, as the workers of the service do.
        os.environ[WORKERS_VARIABLE] = str(min(max(1, cpu_cores() // max(1, job.cores)), MAX_WORKERS))
        return_freed_memory()
        import cv2

        from service.archive.result_store import ResultStore, model_key
        from service.archive.segment_files import FileSegmenter

        cv2.setNumThreads(1)  # the other cores have actors of their own
        segmenter = unpack_segmenter(ray.get(job.model))
        # One frame more is always in flight: on the other cores. So the network uses one core.
        segmenter.in_flight.__enter__()
        store = ResultStore(job.out, model_key(segmenter.card), job.kind)
        store.check_mark(job.mark)
        self.files = FileSegmenter(segmenter, store, job.keep_paths)
        self.pool = ThreadPoolExecutor(THREADS_PER_CORE * max(1, job.cores))

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[Any]]:
        """Segment the files of a batch. Return one row of counts.

        batch: `locations`, an array of lists of locations, each as the bytes that the file system has.
        """
        from service.archive.segment_files import FileOutcome, printable_location

        locations = [os.fsdecode(location) for location in chain.from_iterable(batch["locations"])]
        outcomes = list(self.files.segment_all(locations, self.pool))
        failures = [
            f"{printable_location(location)}: {reason}" for location, outcome in outcomes for reason in outcome.reasons
        ]
        counts = {name: [sum(getattr(outcome, name) for _, outcome in outcomes)] for name in FileOutcome._fields[:-1]}
        return {"files": [len(locations)], **counts, "failures": [failures]}
