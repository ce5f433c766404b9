"""Fixtures of the archive's tests: sources with every kind of file, and a segmenter of files without Ray."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from ray.cluster_utils import Cluster

from service.archive.result_store import ResultStore, model_key
from service.archive.segment_files import FileSegmenter
from service.inference.segmenter import Segmenter
from tests import frames
from tests.dicoms import make_ultrasound, to_bytes


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with two pictures, one of them twice, a cine of three frames, a damaged picture, and other files."""
    folder = tmp_path / "Doe^Jane"
    (folder / "nested").mkdir(parents=True)
    for name, seed in (("a.png", 1), ("nested/b.png", 2), ("nested/a again.png", 1)):
        (folder / name).write_bytes(frames.png(frames.speckle(seed, 60, 80)))
    cine = np.stack([frames.speckle(seed, 60, 80) for seed in range(3)])
    (folder / "nested" / "IM0001").write_bytes(to_bytes(make_ultrasound(cine)))
    (folder / "damaged.png").write_bytes(frames.png(frames.speckle(5))[:100])
    (folder / "notes.txt").write_text("not a frame")
    (folder / ".hidden.png").write_bytes(frames.png(frames.speckle(6, 60, 80)))
    return folder


@pytest.fixture(scope="session")
def archive_segmenter(model_folder: Path) -> Segmenter:
    return Segmenter(model_folder)


@pytest.fixture
def open_store(tmp_path: Path, archive_segmenter: Segmenter) -> Callable[..., ResultStore]:
    """open_store(kind): the results below `tmp_path / "out"`."""

    def open_store(kind: str = "mask") -> ResultStore:
        return ResultStore(tmp_path / "out", model_key(archive_segmenter.card), kind)

    return open_store


@pytest.fixture
def segment_all(archive_segmenter: Segmenter) -> Callable[..., list]:
    """segment_all(store, locations, keep_paths): segment files without Ray; return their outcomes."""

    def segment_all(store: ResultStore, locations: list, keep_paths: bool = False) -> list:
        files = FileSegmenter(archive_segmenter, store, keep_paths)
        return [files.segment(str(location)) for location in locations]

    return segment_all


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head without cores, and a worker node with two cores that no test ends."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    cluster.add_node(num_cpus=2)
    yield cluster
    cluster.shutdown()
