"""The largest files against small machines: no process may be ended by the memory limit.

`python -m benchmarks.memory_limits`. For each number of cores and each memory limit, a server runs in a control group,
with its temporary files in memory. CONNECTIONS connections of CLIENTS clients send the largest files that the service
reads, all at the same time. Then one client sends each file alone. A response is a mask, or a refusal with status 413,
429 or 503.
"""

import argparse
import asyncio
import io
import itertools
import json
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import tifffile
from pydicom.uid import JPEG2000Lossless
from rich.progress import track

from benchmarks.cgroup import ControlGroup, limit_memory, limited
from benchmarks.compared_servers import NERVEMASK, RunningServer, run_server
from benchmarks.process_monitor import ProcessMonitor
from benchmarks.report import record, table
from service.api.api_key_file import hash_key, write_key_hashes
from service.api.upload import ENOUGH_UPLOAD_BYTES
from service.resources.worker_count import MIN_WORKERS
from service.resources.worker_memory import FREE_SHARES, MIB, SharedLimit, share_memory
from tests.dicoms import make_compressed_ultrasound, make_ultrasound, to_bytes

TITLE = "The largest files against small machines"
CORES, MEMORY_GIB = (1, 2, 4), (2, 4, 8)
SECONDS = 40.0  # of the load of all clients together, for each machine
CLIENTS, CONNECTIONS = 4, 8
SIDE_PX, CINE_SIDE_PX, VIDEO_FRAMES, MAX_CINE_FRAMES = 4096, 2048, 12, 1000
REFUSALS = ("413", "429", "503")
MAX_ATTEMPTS = 30  # of a client that is alone
BROKEN = "broken connection"
SHARED_MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class LargestFile:
    """A file: its name for the report, its route, and its bytes."""

    name: str
    route: str
    data: bytes


def largest_files(memory_bytes: int, cores: int) -> list[LargestFile]:
    """Return the largest files that a service reads with this memory and these cores."""
    grey = _grey(SIDE_PX)
    words = grey.astype(np.uint16) * 257
    limit = SharedLimit(share_memory(memory_bytes, cores, MIN_WORKERS).uploads, free_shares=FREE_SHARES)
    uploads = min(ENOUGH_UPLOAD_BYTES, limit.largest)
    cine_frame = _grey(CINE_SIDE_PX).astype(np.uint16) * 257
    cine = np.stack([cine_frame] * min(MAX_CINE_FRAMES, max(1, uploads // cine_frame.nbytes - 1)))
    tifffile.imwrite(tiff := io.BytesIO(), words, compression="zlib")
    colour = cv2.applyColorMap(grey, cv2.COLORMAP_JET)
    return [
        LargestFile("PNG, 16-bit RGBA", "/overlay", cv2.imencode(".png", np.stack([words] * 4, axis=-1))[1].tobytes()),
        LargestFile("TIFF, 16-bit", "/mask", tiff.getvalue()),
        LargestFile("DICOM, 16-bit, uncompressed", "/mask", to_bytes(make_ultrasound(words))),
        LargestFile("DICOM, JPEG 2000", "/mask", to_bytes(make_compressed_ultrasound(colour[None], JPEG2000Lossless))),
        LargestFile("MP4", "/segment", _video(colour)),
        LargestFile("DICOM cine, 16-bit", "/segment", to_bytes(make_ultrasound(cine))),
    ]


def _grey(side: int) -> np.ndarray:
    """Return a picture of large blobs, uint8 (side, side)."""
    blobs = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
    return cv2.resize(blobs, (side, side), interpolation=cv2.INTER_CUBIC)


def _video(colour: np.ndarray) -> bytes:
    with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
        writer = cv2.VideoWriter(file.name, cv2.VideoWriter.fourcc(*"mp4v"), 25, colour.shape[1::-1])
        for number in range(VIDEO_FRAMES):
            writer.write(np.roll(colour, 7 * number, axis=1))
        writer.release()
        return Path(file.name).read_bytes()


def measure(
    seconds: float = SECONDS, cores: tuple[int, ...] = CORES, memory_gib: tuple[int, ...] = MEMORY_GIB
) -> list[dict[str, Any]]:
    """Return a row for each machine."""
    machines = list(itertools.product(cores, memory_gib))
    return [measure_machine(count, gib * 2**30, seconds) for count, gib in track(machines, "memory limits")]


def measure_machine(cores: int, memory_bytes: int, seconds: float) -> dict[str, Any]:
    """Send the files to a server with these cores and this memory. Raises OSError without control groups."""
    files = largest_files(memory_bytes, cores)
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory(dir=SHARED_MEMORY) as uploads:
        write_key_hashes(Path(folder, "keys"), {name: hash_key(name) for name in _client_names()})
        with limit_memory(memory_bytes) as group:
            peer, environment = limited(NERVEMASK, group, cores, Path(folder))
            environment |= {"NERVEMASK_KEYS": f"{folder}/keys", "TMPDIR": uploads}
            with run_server(peer, **environment) as server, ProcessMonitor(server.process.pid) as monitor:
                together = asyncio.run(_send_together(server, files, seconds))
                alone = asyncio.run(_send_each_alone(server, files))
                figures = _figures(group, monitor)
    machine = {"cores": cores, "memory_gib": round(memory_bytes / 2**30, 1)}
    return machine | {"together": together, "alone": alone} | figures


def _figures(group: ControlGroup, monitor: ProcessMonitor) -> dict[str, Any]:
    return {
        "peak_mib": group.peak_bytes() // MIB,
        "killed_processes": group.killed_processes(),
        "lost_workers": monitor.lost_workers(),
    }


def _client_names() -> list[str]:
    return [f"client-{number}" for number in range(CLIENTS)]


async def _send_together(server: RunningServer, files: list[LargestFile], seconds: float) -> dict[str, Counter[str]]:
    """Return the number of responses by file and status."""
    statuses: dict[str, Counter[str]] = {file.name: Counter() for file in files}
    end = time.perf_counter() + seconds

    async def send(number: int) -> None:
        name = _client_names()[number % CLIENTS]
        async with _client(server, name) as client:
            for file in itertools.cycle(files[number % len(files) :] + files[: number % len(files)]):
                if time.perf_counter() > end:
                    return
                statuses[file.name][await _post(client, file)] += 1

    await asyncio.gather(*(send(number) for number in range(CONNECTIONS)))
    return statuses


async def _send_each_alone(server: RunningServer, files: list[LargestFile]) -> dict[str, str]:
    """Return the status of each file."""
    statuses = {}
    async with _client(server, _client_names()[0]) as client:
        for file in files:
            for _ in range(MAX_ATTEMPTS):
                statuses[file.name] = await _post(client, file)
                if statuses[file.name] not in ("429", "503"):
                    break
                await asyncio.sleep(1)
    return statuses


def _client(server: RunningServer, name: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=server.url, headers={"x-api-key": name}, timeout=300)


async def _post(client: httpx.AsyncClient, file: LargestFile) -> str:
    """Return the status of the response; of a cine with a frame without a mask, the error code of the frame."""
    try:
        response = await client.post(
            file.route, content=file.data, headers={"content-type": "application/octet-stream"}
        )
    except httpx.TransportError:
        return BROKEN
    if response.is_success and file.route == "/segment":
        lines = map(json.loads, response.text.splitlines())
        return next((line["error"]["code"] for line in lines if "error" in line), "200")
    return str(response.status_code)


def violated_limits(rows: list[dict[str, Any]]) -> list[str]:
    """Return a message for each violated limit."""
    violations = []
    for row in rows:
        machine = f"{row['cores']} cores, {row['memory_gib']} GiB"
        statuses = sum(map(Counter, row["together"].values()), Counter(row["alone"].values()))
        undocumented = sorted(statuses.keys() - {"200", *REFUSALS})
        limits = {
            f"{row['killed_processes']} processes were ended": not row["killed_processes"],
            f"{row['lost_workers']} workers were lost": not row["lost_workers"],
            f"other responses: {undocumented}": not undocumented,
        }
        violations += [f"{machine}: {message}" for message, is_met in limits.items() if not is_met]
    return violations


def to_markdown(rows: list[dict[str, Any]]) -> str:
    lines = [
        f"{CONNECTIONS} connections of {CLIENTS} clients send the largest files together; then one client sends each "
        "alone. The columns of files show the status when it is sent alone. Temporary files are in memory, and count.",
        f"Where a machine has more cores than this one ({', '.join(map(str, sorted({row['cores'] for row in rows})))} "
        "are measured), the service runs as many threads and decoder processes as for those cores, but no faster.",
        "Violated limits: " + ("; ".join(violated_limits(rows)) or "none") + ".",
    ]
    return "\n".join(lines) + "\n\n" + table([_describe_row(row) for row in rows])


def _describe_row(row: dict[str, Any]) -> dict[str, Any]:
    together = sum(map(Counter, row["together"].values()), Counter[str]())
    return {
        "cores": row["cores"],
        "memory, GiB": row["memory_gib"],
        "peak, MiB": row["peak_mib"],
        "processes ended": row["killed_processes"],
        "together": ", ".join(f"{status}: {count}" for status, count in sorted(together.items())),
        **row["alone"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory_limits", description=TITLE)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of load for each machine (%(default)s)")
    seconds = parser.parse_args().seconds
    rows = record("memory_limits", lambda: measure(seconds), "soak")
    sys.exit("; ".join(violated_limits(rows)) or 0)


if __name__ == "__main__":
    main()
