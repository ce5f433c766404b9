"""A simulated data set: B-mode ultrasound frames of nerves, as large as the Kaggle competition's.

    anatomy, placement   draw a subject: scanner settings, tissue layers, nerve, other structures   (seed, subject)
    probe                draw a probe pose and its imaging plane                           (seed, subject, frame number)
    layers, structures   paint the tissue in that plane
    hard_subject         makes a subject harder to segment
    consoles             other settings of the scanner
    bmode_simulation     turn the tissue into echoes: speckle, beam, attenuation, time-gain and log compression

Each frame has its own random numbers. It can be simulated alone, in any order and in any process.
"""

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from functools import lru_cache
from itertools import product
from multiprocessing import get_context
from typing import Literal, NamedTuple

import cv2
import numpy as np

from training.data.frame_mask_pair import FrameMaskPair
from training.data.sources.phantom.anatomy import Subject, draw_subject
from training.data.sources.phantom.bmode_simulation import detect_envelope, log_compress
from training.data.sources.phantom.consoles import CONSOLES
from training.data.sources.phantom.hard_subject import make_hard
from training.data.sources.phantom.probe import MARGIN_PX, build_medium, draw_pose, imaging_plane, shows_nerve

LICENCE = "Apache-2.0 (made by this project)"
TIFF_LZW = 5  # TIFF's code of LZW, the compression of Kaggle's frames
QUEUED_PER_PROCESS = 4  # frames in flight for each process: bounds the memory
MIN_FRAMES_PER_PROCESS = 8  # below this the start of another process costs more than it saves


class PhantomKind(NamedTuple):
    """What is simulated.

    difficulty: easy, or hard: see `hard_subject`. consoles: each subject is examined with one of these, at random; see
        `consoles`.
    """

    difficulty: Literal["easy", "hard"] = "easy"
    consoles: tuple[str, ...] = ("standard",)


EASY = PhantomKind()


def simulate_frame(
    seed: int, subject_number: int, number: int, kind: PhantomKind = EASY
) -> tuple[np.ndarray, np.ndarray]:
    """Return pixels and labels of one frame, both uint8 (420, 580), rows (depth) down axis 0.

    labels: 0 background, 1 nerve with its epineurium, 2 vessel with its wall. Both numbers count from 1.
    """
    subject = _subject(seed, subject_number, kind)
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(subject_number, number)))
    with_nerve = shows_nerve(subject, number)
    pose = draw_pose(subject, with_nerve, rng)
    medium = build_medium(subject, imaging_plane(subject, pose), with_nerve)
    scanner = replace(subject.scanner, gain_db=subject.scanner.gain_db + pose.gain_db)
    pixels = log_compress(detect_envelope(medium, scanner, rng), scanner)
    return pixels[:, MARGIN_PX:-MARGIN_PX].copy(), medium.labels[:, MARGIN_PX:-MARGIN_PX].copy()


def simulate_pair(seed: int, subject_number: int, number: int, kind: PhantomKind = EASY) -> FrameMaskPair:
    """Return one frame as an 8-bit LZW TIFF file with its labels. The same arguments give the same bytes."""
    pixels, labels = simulate_frame(seed, subject_number, number, kind)
    written, tiff = cv2.imencode(".tif", pixels, [cv2.IMWRITE_TIFF_COMPRESSION, TIFF_LZW])
    assert written, "this OpenCV has no TIFF support"
    spacing_mm = round(_subject(seed, subject_number, kind).scanner.spacing_mm, 4)
    return FrameMaskPair(
        frame_file=tiff.tobytes(),
        suffix=".tif",
        labels=labels,
        subject=str(subject_number),
        number=number,
        spacing_mm=spacing_mm,
        vessels=True,
        licence=LICENCE,
    )


def simulate_pairs(subjects: int, frames: int, seed: int, kind: PhantomKind = EASY) -> Iterator[FrameMaskPair]:
    """Yield `frames` frames of each of `subjects` subjects, in order. Subjects are named "1", "2", ...

    It uses all CPU cores.
    """
    numbers = product(range(1, subjects + 1), range(1, frames + 1))
    processes = max(1, min(os.cpu_count() or 1, subjects * frames // MIN_FRAMES_PER_PROCESS))
    if processes == 1:
        for subject_number, number in numbers:
            yield simulate_pair(seed, subject_number, number, kind)
        return
    # Spawn, not fork: the caller can have threads (of TensorFlow, say), and a fork would copy their locks.
    pool = ProcessPoolExecutor(processes, get_context("spawn"), initializer=cv2.setNumThreads, initargs=(1,))
    with pool:
        in_flight: deque[Future[FrameMaskPair]] = deque()
        try:
            for subject_number, number in numbers:
                in_flight.append(pool.submit(simulate_pair, seed, subject_number, number, kind))
                if len(in_flight) >= QUEUED_PER_PROCESS * processes:
                    yield in_flight.popleft().result()
            while in_flight:
                yield in_flight.popleft().result()
        finally:
            for future in in_flight:
                future.cancel()


@lru_cache(maxsize=4)
def _subject(seed: int, number: int, kind: PhantomKind) -> Subject:
    """Return subject `number`, from 1, of the phantom with this seed."""
    subject = draw_subject(np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number,))))
    # Random numbers of their own, so that the easy phantom stays as it is. No frame has the number 0.
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number, 0)))
    if kind.difficulty == "hard":
        subject = make_hard(subject, rng)
    console = CONSOLES[kind.consoles[rng.integers(len(kind.consoles))]]
    return replace(subject, scanner=console(subject.scanner, rng))
