"""The phantom: ultrasound frames made from anatomy and acoustics, as large as the Kaggle competition's.

    anatomy, placement   a subject: scanner settings, layers, nerve and neighbours   (seed, subject)
    probe                a frame's plane through the subject                         (seed, subject, number)
    layers, structures   paint the tissue of that plane
    acoustics            the tissue's echo: speckle, beam, attenuation, log compression

Every frame has random numbers of its own, so it can be made alone, in any order and in any process.
"""

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from functools import lru_cache
from itertools import product
from multiprocessing import get_context

import cv2
import numpy as np

from training.sources.layout import Pair
from training.sources.phantom.acoustics import envelope, log_compress
from training.sources.phantom.anatomy import Subject, draw_subject
from training.sources.phantom.probe import MARGIN, draw_pose, meet, nerve_is_met, plane_of

LICENCE = "Apache-2.0 (made by this project)"
LZW = 5  # TIFF's number for the compression of Kaggle's frames
AHEAD = 4  # frames under way for each process: bounds the memory


@lru_cache(maxsize=4)
def subject(seed: int, number: int) -> Subject:
    """Subject `number` (from 1) of the phantom with this seed."""
    return draw_subject(np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number,))))


def frame(seed: int, subject_number: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    """One frame: pixels and labels, both uint8 (420, 580), rows down axis 0.

    labels: 0 background, 1 nerve, its epineurium included, 2 vessel, its wall included. Numbers count from 1.
    """
    someone = subject(seed, subject_number)
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(subject_number, number)))
    met = nerve_is_met(someone, number)
    pose = draw_pose(someone, met, rng)
    medium = meet(someone, plane_of(someone, pose), met)
    scanner = replace(someone.scanner, gain_db=someone.scanner.gain_db + pose.gain_db)
    shown = log_compress(envelope(medium, scanner, rng), scanner)
    return shown[:, MARGIN:-MARGIN].copy(), medium.labels[:, MARGIN:-MARGIN].copy()


def pair(seed: int, subject_number: int, number: int) -> Pair:
    """One frame as its file: an 8-bit LZW TIFF, the same bytes for the same three numbers."""
    pixels, labels = frame(seed, subject_number, number)
    written, tiff = cv2.imencode(".tif", pixels, [cv2.IMWRITE_TIFF_COMPRESSION, LZW])
    assert written, "OpenCV was built without TIFF"
    spacing_mm = round(subject(seed, subject_number).scanner.spacing_mm, 4)
    key = (str(subject_number), number)
    return Pair(tiff.tobytes(), ".tif", labels, *key, spacing_mm, vessels=True, licence=LICENCE)


def pairs(subjects: int, frames: int, seed: int) -> Iterator[Pair]:
    """`frames` frames of each of `subjects` subjects, named "1", "2", ..., in order; made on all cores."""
    wanted = product(range(1, subjects + 1), range(1, frames + 1))
    processes = max(1, min(os.cpu_count() or 1, subjects * frames // 8))
    if processes == 1:
        for subject_number, number in wanted:
            yield pair(seed, subject_number, number)
        return
    # Spawned, not forked: the caller may hold threads (TensorFlow does), and a fork would copy their locks.
    pool = ProcessPoolExecutor(processes, get_context("spawn"), initializer=cv2.setNumThreads, initargs=(1,))
    with pool:
        under_way: deque[Future[Pair]] = deque()
        try:
            for subject_number, number in wanted:
                under_way.append(pool.submit(pair, seed, subject_number, number))
                if len(under_way) >= AHEAD * processes:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()
