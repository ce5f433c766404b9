"""Run an archive's job on Ray: list the sources, segment the files in actors, write the table."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import ray
from ray.data import ActorPoolStrategy, DataContext
from ray.exceptions import RayError

from service.archive.locations import SourceError, list_source
from service.archive.progress import Progress
from service.archive.report import write_report
from service.archive.result_store import OutputError, ResultStore, model_key
from service.archive.segmentation_actor import CREDENTIALS, ArchiveJob, SegmentationActor, pack_folder, unpack_segmenter
from service.archive.table import write_table
from service.errors import ModelFolderError
from service.model.card import Card
from service.model.model_folder import model_folder
from service.resources import ray_cluster
from service.resources.gpu_detection import has_gpu

# One driver hands out all tasks, so they grow with the cluster: benchmarks/archive.md has a simulation.
MIN_FILES_PER_TASK, FILES_PER_TASK_AND_ACTOR, MAX_FILES_PER_TASK = 64, 4, 4096
BYTES_PER_FILE = 2**18  # of a task, for each of its files: a task with long cines has fewer of them
UNKNOWN_FILE_BYTES = 2**20  # of a remote file
MAX_LISTING_TASKS = 4  # at a time
# Tasks that wait for disks and servers. A share of a core would keep an actor from its core.
NO_CPU = 0


class JobError(RuntimeError):
    """A job that cannot go on. The message says why."""


class Actors(NamedTuple):
    """How many actors the cluster has room for, and the cores and GPUs of each."""

    number: int
    cores: int
    gpus: int


def run_job(sources: list[str], out: Path, kind: str, address: str | None, keep_paths: bool) -> int:
    """Segment all files of the sources and write the table. Return the number of failures.

    Raises ConnectionError without a cluster, and JobError if the job cannot go on.

    sources: of `resolve_source`. address: of a Ray cluster; None: Ray starts on this machine.
    out, kind, keep_paths: see `ArchiveJob`.
    """
    credentials = {name: os.environ[name] for name in CREDENTIALS if name in os.environ}
    card = Card.read(model_folder())
    store = ResultStore(out.absolute(), model_key(card), kind)
    mark = store.mark()
    try:
        with connection(address):
            nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            model = ray.put(pack_folder(model_folder()))
            gpu = any(node.get("GPU", 0) >= 1 for node in nodes)
            uses_gpu = ray.get(ray.remote(num_cpus=NO_CPU, num_gpus=int(gpu))(check_model).remote(model))
            actors = plan_actors(nodes, uses_gpu)
            files = files_per_task(actors.number)
            job = ArchiveJob(model, store.folder, kind, keep_paths, mark, actors.cores, files, credentials)
            progress = Progress()
            total = ray.remote(num_cpus=NO_CPU)(count_files).remote(sources, job)
            for counts in segment_archive(sources, job, actors):
                progress.update(counts, total)
            report = ray.get(ray.remote(num_cpus=NO_CPU)(write_table_and_report).remote(store, card, mark))
            progress.finish(store, report)
    except ConnectionError:
        raise
    except (RayError, OSError, RuntimeError) as error:
        raise JobError(explain(error)) from error
    finally:
        store.remove_mark(mark)
    return progress.counts["failed"]


def write_table_and_report(store: ResultStore, card: Card, mark: str) -> Path | None:
    """Write the table and the page; return the path of the page. Raises OutputError."""
    store.check_mark(mark)
    write_table(store)
    return write_report(store, card)


def check_model(model: bytes) -> bool:
    """Return whether the network runs on a GPU here. Raises ModelFolderError if the packed model cannot be used."""
    unpack_segmenter(model)
    return has_gpu()


def explain(error: BaseException) -> str:
    """Return why a job stopped: the error of this program that Ray's text quotes, else the last line of that text."""
    if isinstance(error, JobError):
        return str(error)
    lines = str(error).strip().splitlines() or [type(error).__name__]
    for kind in (SourceError, OutputError, ModelFolderError):
        name = f"{kind.__module__}.{kind.__name__}: "
        for line in lines:
            if name in line:
                return line.partition(name)[2]
    return f"Ray stopped the job ({lines[-1]})"


@contextmanager
def connection(address: str | None) -> Iterator[None]:
    """Connect to a Ray cluster, or start Ray on this machine, until the block ends. Raises ConnectionError."""
    with ray_cluster.connection(address, {"OPENBLAS_NUM_THREADS": "1"}, show_output=False):
        context = DataContext.get_current()
        context.enable_progress_bars = False
        context.target_max_block_size = 1  # each row, a list of files or of counts, is a task of its own
        yield


def plan_actors(nodes: list[dict[str, float]], uses_gpu: bool) -> Actors:
    """Return the actors for a cluster: one for each GPU, or one for each core. Raises JobError.

    nodes: the resources of each node. uses_gpu: whether the network runs on GPUs.
    """
    if uses_gpu:
        with_gpus = [node for node in nodes if node.get("GPU", 0) >= 1]
        cores = min(int(node.get("CPU", 0) // node["GPU"]) for node in with_gpus)
        return Actors(sum(int(node["GPU"]) for node in with_gpus), cores, 1)
    count = sum(int(node.get("CPU", 0)) for node in nodes)
    if not count:
        raise JobError("the Ray cluster has no core")
    return Actors(count, 1, 0)


def files_per_task(actors: int) -> int:
    """Return the largest number of files of a task."""
    return min(max(MIN_FILES_PER_TASK, FILES_PER_TASK_AND_ACTOR * actors), MAX_FILES_PER_TASK)


def segment_archive(sources: list[str], job: ArchiveJob, actors: Actors) -> Iterator[dict[str, Any]]:
    """Segment all files of the sources. Yield the counts of each task, as `SegmentationActor` returns them."""
    rows = [{"source": source} for source in sources]
    listing_tasks = min(len(rows), MAX_LISTING_TASKS)
    listed = ray.data.from_items(rows, override_num_blocks=listing_tasks)
    tasks = listed.flat_map(partial(list_tasks, job=job), num_cpus=NO_CPU, concurrency=listing_tasks)
    counts = tasks.map_batches(
        SegmentationActor,
        fn_constructor_args=(job,),
        batch_size=None,
        compute=ActorPoolStrategy(min_size=1, max_size=actors.number, initial_size=actors.number),
        num_cpus=actors.cores,
        num_gpus=actors.gpus,
    )
    yield from counts.iter_rows()


def list_tasks(row: dict[str, Any], job: ArchiveJob) -> Iterator[dict[str, Any]]:
    """Yield the locations of a source, as many at a time as make a task. Each is in the bytes of the file system."""
    os.environ.update(job.credentials)
    chunk: list[bytes] = []
    size = 0
    for location in list_source(row["source"], job.out):
        chunk.append(os.fsencode(location))
        size += file_bytes(location)
        if len(chunk) == job.files_per_task or size >= job.files_per_task * BYTES_PER_FILE:
            yield {"locations": chunk}
            chunk, size = [], 0
    if chunk:
        yield {"locations": chunk}


def file_bytes(location: str) -> int:
    """Return the size of a local file; of others, UNKNOWN_FILE_BYTES."""
    try:
        return UNKNOWN_FILE_BYTES if "://" in location else os.stat(location).st_size
    except (OSError, ValueError):
        return 0


def count_files(sources: list[str], job: ArchiveJob) -> int:
    """Return the number of locations of all sources."""
    os.environ.update(job.credentials)
    return sum(1 for source in sources for _ in list_source(source, job.out))
