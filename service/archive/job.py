"""Run an archive's job on Ray: list the sources, segment the files in actors, write the table."""

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.data import ActorPoolStrategy, DataContext
from ray.exceptions import RayError

from service.archive.locations import SourceError, list_source
from service.archive.progress import Progress
from service.archive.report import write_report
from service.archive.result_store import PARTS, OutputError, ResultStore, model_key
from service.archive.segmentation_actor import CREDENTIALS, ArchiveJob, SegmentationActor, pack_folder, unpack_segmenter
from service.archive.table import write_part
from service.errors import ModelFolderError
from service.model.card import Card
from service.model.model_folder import model_folder
from service.resources import ray_cluster
from service.resources.machine import cpu_cores
from service.resources.worker_count import MAX_WORKERS, WORKERS_VARIABLE

FILES_PER_TASK = 64
THREADS_PER_CORE = 2  # one frame is decoded in a decoder process while another is in the network
LISTING_CPUS = 0  # listing waits for disks and servers; a share of a core would keep an actor from its core


class JobError(Exception):
    """A job that cannot go on. The message says why."""


def run_job(sources: list[str], out: Path, kind: str, address: str | None, keep_paths: bool) -> int:
    """Segment all files of the sources and write the table. Return the number of failures.

    Raises ConnectionError without a cluster, and JobError if the job cannot go on.

    address: of a Ray cluster; None: Ray starts on this machine. The others: see `ArchiveJob`.
    """
    connect(address)
    credentials = {name: os.environ[name] for name in CREDENTIALS if name in os.environ}
    gpus = int(ray.cluster_resources().get("GPU", 0))
    cores = int(ray.cluster_resources()["CPU"])
    threads = THREADS_PER_CORE * max(1, cores // (gpus or cores))
    model = ray.put(pack_folder(model_folder()))
    job = ArchiveJob(model, out.resolve(), kind, keep_paths, threads, credentials)
    card = Card.read(model_folder())
    store = ResultStore(job.out, model_key(card), kind)
    progress = Progress()
    try:
        ray.get(ray.remote(num_gpus=1 if gpus else 0)(check_model).remote(model))
        total = count_files(sources)
        for counts in segment_archive(sources, job, gpus, cores):
            progress.update(counts, total)
        write = ray.remote(write_part)
        ray.get([write.remote(store, digit) for digit in PARTS])
        report = ray.get(ray.remote(write_report).remote(store, card))
    except (RayError, OSError) as error:
        raise JobError(explain(error)) from error
    progress.finish(store, report)
    return progress.counts["failed"]


def check_model(model: bytes) -> None:
    """Raise ModelFolderError if a node cannot use the packed model folder."""
    unpack_segmenter(model)


def explain(error: BaseException) -> str:
    """Return why a job stopped: the first error of this program that caused it, else the last line of Ray's."""
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, SourceError | OutputError | ModelFolderError):
            return str(cause).splitlines()[-1]
        cause = getattr(cause, "cause", None) or cause.__cause__
    return f"Ray stopped the job ({str(error).strip().splitlines()[-1]})"


def connect(address: str | None) -> None:
    """Connect to a Ray cluster, or start Ray on this machine. Raises ConnectionError."""
    # Decoders and memory are shared by the actors of a node, as by the workers of the service.
    environment = {WORKERS_VARIABLE: str(min(cpu_cores(), MAX_WORKERS)), "OPENBLAS_NUM_THREADS": "1"}
    ray_cluster.connect(address, environment, show_output=False)
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.target_max_block_size = 1  # each row, a list of files or of counts, is a task of its own


def count_files(sources: list[str]) -> Any:
    """Return the future number of the sources' locations."""
    return ray.remote(num_cpus=LISTING_CPUS)(_count_files).remote(sources)


def _count_files(sources: list[str]) -> int:
    return sum(1 for source in sources for _ in list_source(source))


def segment_archive(sources: list[str], job: ArchiveJob, gpus: int, cores: int) -> Iterator[dict[str, Any]]:
    """Segment all files of the sources. Yield the counts of each task, as `SegmentationActor` returns them.

    gpus, cores: of the cluster. There is an actor for each GPU, or without one for each core.
    """
    listed = ray.data.from_items([{"source": source} for source in sources], override_num_blocks=len(sources))
    tasks = listed.flat_map(list_tasks, num_cpus=LISTING_CPUS)
    counts = tasks.map_batches(
        SegmentationActor,
        fn_constructor_args=(job,),
        batch_size=None,
        compute=ActorPoolStrategy(min_size=1, max_size=gpus or cores, initial_size=gpus or cores),
        num_cpus=cores // gpus if gpus else 1,
        num_gpus=1 if gpus else 0,
    )
    yield from counts.iter_rows()


def list_tasks(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the locations of a source, FILES_PER_TASK at a time."""
    locations = list_source(row["source"])
    while chunk := list(islice(locations, FILES_PER_TASK)):
        yield {"locations": np.array(chunk)}
