"""A service with faults, and clients that send frames to it without a pause, for `benchmarks.service_kills`."""

import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import psutil

from benchmarks.compared_servers import decode_upload
from benchmarks.process_monitor import DECODER, WORKER
from service.api.model_reload import previous_link
from service.inference.segmenter import Segmenter
from service.model.card import NETWORK_FILES, Card
from service.monitoring.audit_log import digest
from service.rendering.image_encoding import encode_png
from tests.dicoms import make_region, make_ultrasound, to_bytes
from tests.frames import speckle

CLIENTS = 3
FRAMES = 12
MAX_REPAIR_SECONDS = 600.0  # more is an error, also on a busy machine
FULL_DISK_SECONDS = 0.5
NO_CONNECTION = "no response"


class FaultedService:
    """A context manager: a running service, and the faults that happen to it.

    folder: for all that it writes; empty. model: a model folder, which is copied. rng: chooses workers and moments.
    """

    def __init__(self, folder: Path, model: Path, rng: random.Random):
        self.folder, self.rng = folder, rng
        self.audit, self.spool, self.link = folder / "audit.jsonl", folder / "spool", folder / "champion"
        for version in ("a", "b"):
            shutil.copytree(model, folder / version)
            replace(Card.read(model), version=version).write(folder / version)
        self._point_to("a")
        previous_link(self.link).symlink_to(folder / "b")
        self.network = NETWORK_FILES[Card.read(model).precision]
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self.rotations = 0

    def __enter__(self) -> "FaultedService":
        self._start()
        self.wait_until_repaired()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()

    def _start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "service", "--port", self.url.rpartition(":")[2]],
                env={
                    **os.environ,
                    "NERVEMASK_MODEL": str(self.link),
                    "NERVEMASK_AUDIT": str(self.audit),
                    "NERVEMASK_SPOOL": str(self.spool),
                    "NERVEMASK_SPOOL_MIB": "4",
                    "BENTOML_HOME": str(self.folder / "home"),
                },
                stdout=log,
                stderr=log,
            )

    def audit_files(self) -> list[Path]:
        """Return the audit log and the files that it was before."""
        return sorted(self.folder.glob("audit*.jsonl"))

    def wait_until_repaired(self) -> float:
        """Wait until every worker serves the linked model and /readyz has no warning. Return the seconds.

        Raises TimeoutError.
        """
        began, answers = time.monotonic(), 0
        while answers < 8:  # each may come from either worker
            if time.monotonic() - began > MAX_REPAIR_SECONDS:
                raise TimeoutError(f"the service is not ready again: {(self.folder / 'log').read_text()[-2000:]}")
            answers = answers + 1 if self._is_ready() else 0
            time.sleep(0 if answers else 0.05)
        return time.monotonic() - began

    def _is_ready(self) -> bool:
        try:
            response = httpx.get(f"{self.url}/readyz", timeout=3)
        except httpx.TransportError:
            return False
        return response.text == f"ready: {Card.read(self.link).name} {self.link.resolve().name}\n"

    def _processes(self, command: str) -> list[psutil.Process]:
        processes = []
        for process in psutil.Process(self.process.pid).children(recursive=True):
            try:
                if command in process.cmdline():
                    processes.append(process)
            except psutil.NoSuchProcess:
                continue
        return processes

    def _signal(self, command: str, number: int) -> None:
        self._pause()
        if processes := self._processes(command):
            os.kill(self.rng.choice(processes).pid, number)

    def _pause(self) -> None:
        time.sleep(self.rng.uniform(0, 0.3))

    def kill_worker(self) -> None:
        """Kill one worker."""
        self._signal(WORKER, signal.SIGKILL)

    def stop_worker(self) -> None:
        """Stop one worker: it hangs until the supervisor replaces it."""
        self._signal(WORKER, signal.SIGSTOP)
        time.sleep(10)

    def kill_decoder(self) -> None:
        """Kill one decoder process."""
        self._signal(DECODER, signal.SIGKILL)

    def kill_supervisor(self) -> None:
        """Kill the supervisor, wait until its workers have ended, and start the service again."""
        self._pause()
        processes = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        self.process.wait()
        psutil.wait_procs(processes, MAX_REPAIR_SECONDS)
        self._start()

    @contextmanager
    def _full_disk(self, max_file_bytes: int) -> Any:
        """Let no worker write a file beyond this size."""
        workers = self._processes(WORKER)
        try:
            for worker in workers:
                worker.rlimit(psutil.RLIMIT_FSIZE, (max_file_bytes, resource.RLIM_INFINITY))
            yield
        finally:
            for worker in workers:
                if worker.is_running():
                    worker.rlimit(psutil.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    def fill_disk_after_audit(self) -> None:
        """Leave room for a part of the next audit lines."""
        with self._full_disk(self.audit.stat().st_size + self.rng.randrange(1500)):
            time.sleep(FULL_DISK_SECONDS)

    def fill_disk(self) -> None:
        """Leave no room for any file."""
        with self._full_disk(self.rng.randrange(200)):
            time.sleep(FULL_DISK_SECONDS)

    def kill_worker_with_full_disk(self) -> None:
        """Kill a worker while the disk is full."""
        with self._full_disk(self.audit.stat().st_size + self.rng.randrange(1500)):
            time.sleep(FULL_DISK_SECONDS)
            self.kill_worker()

    def rotate_audit(self) -> None:
        """Move the audit log away, as log rotation does."""
        self._pause()
        self.rotations += 1
        self.audit.rename(self.audit.with_name(f"audit.{self.rotations}.jsonl"))

    def spoil_champion(self, during: Callable[[], None] = lambda: time.sleep(3)) -> None:
        """Truncate the network of the served model for some seconds."""
        network = self.link.resolve() / self.network
        data = network.read_bytes()
        network.write_bytes(data[: self.rng.randrange(len(data))])
        during()
        network.write_bytes(data)

    def spoil_champion_and_kill_worker(self) -> None:
        """Let a worker start while the champion is spoilt: it serves the previous one."""

        def kill_and_wait() -> None:
            self.kill_worker()
            time.sleep(5)

        self.spoil_champion(kill_and_wait)

    def dangle_link(self) -> None:
        """Let the link point to nothing for some seconds."""
        version = self.link.resolve().name
        self._point_to("nowhere")
        time.sleep(3)
        self._point_to(version)

    def kill_promotion(self) -> None:
        """Promote the other model, and kill that command at a random moment."""
        other = "b" if self.link.resolve().name == "a" else "a"
        command = [sys.executable, "-m", "service.champion", "promote", str(self.folder / other)]
        promotion = subprocess.Popen(
            command, env={**os.environ, "NERVEMASK_MODEL": str(self.link)}, stdout=subprocess.DEVNULL
        )
        time.sleep(self.rng.uniform(0, 4))
        promotion.kill()
        promotion.wait()

    def _point_to(self, version: str) -> None:
        new = self.link.with_name("new")
        new.symlink_to(self.folder / version)
        new.replace(self.link)


class MaskClients:
    """A context manager: CLIENTS threads that send pictures and DICOM files to /mask.

    masks: how often each digest of a frame and of its mask was received. statuses: responses by status.
    errors: masks that differ from those of the model in this process.
    """

    def __init__(self, service: FaultedService):
        self.service = service
        self.masks, self.statuses = Counter[tuple[str, str]](), Counter[str]()
        self.errors: list[str] = []
        self.lock, self.stop = threading.Lock(), threading.Event()
        segmenter = Segmenter(service.link.resolve())
        self.uploads: list[tuple[bytes, tuple[str, str]]] = []
        for seed in range(FRAMES):
            grey = speckle(seed, 240, 320)
            regions = [make_region(20, 30, 299, 219)]  # so that the review spool keeps the frame
            data = (
                to_bytes(make_ultrasound(grey, SequenceOfUltrasoundRegions=regions)) if seed % 2 else encode_png(grey)
            )
            frame = decode_upload(data)
            self.uploads.append((data, (digest(frame.pixels), digest(segmenter.segment(frame).mask))))

    def __enter__(self) -> "MaskClients":
        self.threads = [threading.Thread(target=self._run, args=(number,)) for number in range(CLIENTS)]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def wait_for_mask(self) -> None:
        """Wait until a client has received another mask. Raises TimeoutError."""
        count, began = self.masks.total(), time.monotonic()
        while self.masks.total() == count:
            if time.monotonic() - began > MAX_REPAIR_SECONDS:
                raise TimeoutError("the service is ready and returns no mask")
            time.sleep(0.01)

    def _run(self, number: int) -> None:
        while not self.stop.is_set():
            number += 1
            data, expected = self.uploads[number % FRAMES]
            try:
                response = httpx.post(f"{self.service.url}/mask", files={"frame": data}, timeout=60)
            except httpx.TransportError:
                with self.lock:
                    self.statuses[NO_CONNECTION] += 1
                self.stop.wait(0.1)
                continue
            with self.lock:
                self._count(response, expected)
            if response.status_code != 200:
                self.stop.wait(0.1)

    def _count(self, response: httpx.Response, expected: tuple[str, str]) -> None:
        self.statuses[str(response.status_code)] += 1
        if response.status_code != 200:
            return
        mask = cv2.imdecode(np.frombuffer(response.content, np.uint8), cv2.IMREAD_UNCHANGED)
        received = expected[0], digest(np.asarray(mask))
        self.masks[received] += 1
        if received != expected:
            self.errors.append(f"the mask of frame {expected[0][:12]} is wrong")
