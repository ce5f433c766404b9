"""The client of the soak test, and the faults that it injects. `benchmarks.soak` documents the outcomes."""

import asyncio
import base64
import hashlib
import itertools
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydicom.uid import JPEG2000Lossless

from benchmarks.compared_servers import decode_upload
from benchmarks.load_generator import Connection, encode_request, run_at_rate
from benchmarks.mutations import make_seeds, mutate
from benchmarks.process_monitor import MAX_GAP_SECONDS, ProcessMonitor
from benchmarks.sample_uploads import encode_image
from service.inference.segmenter import Segmenter
from service.model.card import Card
from service.rendering.image_encoding import encode_png
from tests.dicoms import make_compressed_ultrasound, make_ultrasound, to_bytes
from tests.frames import speckle

MAX_IN_FLIGHT, CAPACITY_SECONDS = 8, 10.0  # of a capacity measurement
MUTATED_UPLOAD_INTERVAL = 20
MAX_ATTEMPTS = 10
# Two workers take 1,024 each. Above that they close connections whose request has not come yet, and a client as busy as
# this one sends it late.
MAX_CONNECTIONS = 1000
MIN_PAUSE_SECONDS, MAX_DOUBLINGS = 0.1, 4  # of the pause before the next attempt
OUTCOMES = CORRECT, WRONG, LOST, NEVER_ACCEPTED = "correct", "wrong", "lost", "never accepted"
INTERRUPTED, REFUSED, INCOMPLETE = "interrupted", "refused", "incomplete request"
REFUSALS = ("429", "503", INCOMPLETE)


@dataclass
class ExpectedMask:
    """A complete request, base64, and the SHA-256 of the PNG mask that is its correct response."""

    request: str
    mask_sha256: str


def expected_masks(model: Path) -> list[ExpectedMask]:
    """Return PNG, JPEG and DICOM uploads of different frames, with the masks that the model gives in this process."""
    segmenter, requests = Segmenter(model), []
    for seed in range(8):
        grey = speckle(seed, 420, 580)
        dicom = make_compressed_ultrasound(grey, JPEG2000Lossless) if seed % 2 else make_ultrasound(grey)
        for content_type, data in {
            "image/png": encode_image(".png", grey),
            "image/jpeg": encode_image(".jpg", grey),
            "application/dicom": to_bytes(dicom),
        }.items():
            mask = encode_png(segmenter.segment(decode_upload(data)).mask)
            request = encode_request("/mask", content_type, data)
            requests.append(ExpectedMask(request, hashlib.sha256(mask).hexdigest()))
    return requests


def link_two_models(model: Path, folder: Path) -> Path:
    """Return a link to a copy of the model folder. A second copy beside it differs only in its version."""
    for name in ("a", "b"):
        shutil.copytree(model, folder / name)
        replace(Card.read(model), version=name).write(folder / name)
    (folder / "champion").symlink_to(folder / "a")
    return folder / "champion"


@dataclass
class SoakRun:
    """A run against the server on `port`, which serves the model folder behind `link`.

    counts: requests by outcome, and attempts INTERRUPTED and REFUSED. mutated_uploads: responses by status.
    capacities: requests per second. kills, exchanges, interruptions: seconds since the start.
    """

    port: int
    link: Path
    monitor: ProcessMonitor
    requests: list[ExpectedMask]
    counts: Counter[str] = field(default_factory=Counter)
    mutated_uploads: Counter[str] = field(default_factory=Counter)
    capacities: list[float] = field(default_factory=list)
    kills: list[float] = field(default_factory=list)
    exchanges: list[float] = field(default_factory=list)
    interruptions: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.start = time.perf_counter()
        self.idle_connections: list[Connection] = []
        self.free_connections = asyncio.Semaphore(MAX_CONNECTIONS)
        self.rng, self.seeds = random.Random(0), make_seeds()

    async def run(self, rate: float, seconds: float, fault_seconds: float) -> None:
        """Send requests and inject faults.

        rate: requests per second. fault_seconds: interval of the kills. The champion is exchanged between two kills.
        No fault starts after `seconds`. Raises the error of a fault that could not be injected.
        """
        faults = [
            asyncio.create_task(_inject_repeatedly(self._kill_worker, fault_seconds / 2, fault_seconds, seconds)),
            asyncio.create_task(_inject_repeatedly(self._exchange_champion, fault_seconds, fault_seconds, seconds)),
        ]
        await run_at_rate(rate, seconds, self.send)
        await asyncio.gather(*faults)

    async def measure_capacity(self) -> None:
        """Append to `capacities`: the throughput while MAX_IN_FLIGHT requests are always in flight.

        Every MUTATED_UPLOAD_INTERVAL-th of them is a mutated upload. The client's own load on the machine counts too.
        """
        before, end, numbers = self._response_count(), time.perf_counter() + CAPACITY_SECONDS, itertools.count()

        async def send_until_end() -> None:
            while time.perf_counter() < end:
                await self.send(next(numbers))

        await asyncio.gather(*(send_until_end() for _ in range(MAX_IN_FLIGHT)))
        self.capacities.append((self._response_count() - before) / CAPACITY_SECONDS)

    def _response_count(self) -> int:
        return self.counts[CORRECT] + self.mutated_uploads.total()

    async def send(self, number: int, scheduled: float = 0.0) -> None:
        """Send request `number` until it has an outcome, or one mutated upload, which is not repeated."""
        if number % MUTATED_UPLOAD_INTERVAL == 0:
            await self._send_mutated_upload()
            return
        expected, accepted = self.requests[number % len(self.requests)], False
        for attempt in range(MAX_ATTEMPTS):
            status, body, retry_after = await self._attempt(expected.request)
            if status not in (INTERRUPTED, *REFUSALS):
                correct = status == "200" and hashlib.sha256(body).hexdigest() == expected.mask_sha256
                self.counts[CORRECT if correct else WRONG] += 1
                return
            accepted |= status == INTERRUPTED
            self.counts[INTERRUPTED if status == INTERRUPTED else REFUSED] += 1
            # A random factor: requests that were refused together must not come back together.
            pause = max(retry_after, MIN_PAUSE_SECONDS) * 2 ** min(attempt, MAX_DOUBLINGS)
            await asyncio.sleep(pause * self.rng.uniform(1, 2))
        self.counts[LOST if accepted else NEVER_ACCEPTED] += 1

    async def _send_mutated_upload(self) -> None:
        seed = self.rng.choice(self.seeds)
        data = mutate(seed.data, self.rng.choice(self.seeds).data, self.rng)
        request = encode_request(self.rng.choice(seed.routes), seed.content_type, data)
        status, *_ = await self._attempt(request)
        self.mutated_uploads[status] += 1

    async def _attempt(self, request: str) -> tuple[str, bytes, float]:
        """Return the status, the body, and Retry-After in seconds."""
        async with self.free_connections:
            connection = self.idle_connections.pop() if self.idle_connections else Connection(self.port)
            try:
                status, body = await connection.send(base64.b64decode(request))
            except (OSError, EOFError):
                self.interruptions.append(time.perf_counter() - self.start)
                return INTERRUPTED if connection.request_complete else INCOMPLETE, b"", 0.0
            self.idle_connections.append(connection)
            return status, body, connection.retry_after

    async def _kill_worker(self) -> None:
        os.kill(self.rng.choice(sorted(self.monitor.samples[-1].workers)), signal.SIGKILL)
        self.kills.append(time.perf_counter() - self.start)

    async def _exchange_champion(self) -> None:
        model = self.link.with_name("b" if self.link.resolve().name == "a" else "a")
        environment = os.environ | {"NERVEMASK_MODEL": str(self.link)}
        command = [sys.executable, "-m", "service.champion", "promote", str(model)]
        process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=asyncio.subprocess.DEVNULL)
        if await process.wait():
            raise RuntimeError(f"service.champion did not promote {model}.")
        self.exchanges.append(time.perf_counter() - self.start)

    def figures(self, round_seconds: float) -> dict[str, Any]:
        """Return the figures of the run.

        round_seconds: interval of the kills. interrupted_connections: number of connections that broke without a kill
        in the second before; interrupted_at_seconds: their times.
        """
        unexplained = [
            interruption
            for interruption in self.interruptions
            if not any(0 <= interruption - kill <= MAX_GAP_SECONDS for kill in self.kills)
        ]
        return {
            "counts": self.counts,
            "mutated_uploads": self.mutated_uploads,
            "capacities_per_second": [round(capacity, 1) for capacity in self.capacities],
            "interrupted_connections": len(unexplained),
            "interrupted_at_seconds": [round(seconds, 1) for seconds in unexplained],
            "kills_at_seconds": [round(seconds) for seconds in self.kills],
            "exchanges_at_seconds": [round(seconds) for seconds in self.exchanges],
            **self.monitor.figures(round_seconds),
        }


async def _inject_repeatedly(
    inject_fault: Callable[[], Awaitable[None]], first: float, interval: float, end: float
) -> None:
    """Call `inject_fault` after `first` seconds and then at every `interval`, before `end` seconds have passed."""
    start = time.perf_counter()
    for scheduled in itertools.takewhile(lambda seconds: seconds < end, itertools.count(first, interval)):
        await asyncio.sleep(max(0.0, start + scheduled - time.perf_counter()))
        await inject_fault()
