"""Compare model folders by their latency over HTTP for a PNG of 580x420, measured in turns.

`python -m benchmarks.model_latency FOLDER...` compares the folders with the first one. To get the folder of another
candidate, run `dvc exp run -S 'nerve.candidates=[light]' package` and copy models/champion before the next run.
"""

import statistics
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import httpx

from benchmarks.compared_servers import NERVEMASK, RunningServer, run_server
from benchmarks.report import table
from benchmarks.sample_uploads import SampleUploads, make_sample_uploads
from service.model.card import Card

ROUNDS = 12
REQUESTS_PER_ROUND = 40
WARM_UP_REQUESTS = 10  # of each round


def measure_round(server: RunningServer, client: httpx.Client, uploads: SampleUploads) -> list[float]:
    """Return the latencies of one round in milliseconds, without those of the warm-up."""
    milliseconds = []
    for number in range(REQUESTS_PER_ROUND):
        file = uploads.files[number % len(uploads.files)]
        start = time.perf_counter()
        response = client.post(f"{server.url}/mask", content=file, headers={"Content-Type": uploads.content_type})
        response.raise_for_status()
        milliseconds.append((time.perf_counter() - start) * 1000)
    return milliseconds[WARM_UP_REQUESTS:]


def main(folders: list[str]) -> None:
    if not folders:
        sys.exit(__doc__)
    uploads = make_sample_uploads()[0]
    latencies: dict[str, list[float]] = {folder: [] for folder in folders}
    with ExitStack() as stack:
        client = stack.enter_context(httpx.Client())
        servers = {folder: stack.enter_context(run_server(NERVEMASK, NERVEMASK_MODEL=folder)) for folder in folders}
        for _ in range(ROUNDS):
            for folder, server in servers.items():
                latencies[folder] += measure_round(server, client, uploads)
    print(table([_row(folder, latencies[folder], latencies[folders[0]]) for folder in folders]))


def _row(folder: str, milliseconds: list[float], reference: list[float]) -> dict[str, str]:
    card, median = Card.read(Path(folder)), statistics.median(milliseconds)
    return {
        "model folder": folder,
        "network": f"{card.candidate}, {card.precision}",
        "TTA": card.tta,
        "median ms": f"{median:.1f}",
        "relative to the first": f"{median / statistics.median(reference):.2f}",
    }


if __name__ == "__main__":
    main(sys.argv[1:])
