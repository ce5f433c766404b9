"""Model folders side by side: how long each takes over HTTP for a PNG of 580x420, asked in turns.

`python -m benchmarks.nets FOLDER...`, the first of which is what the others are compared with. `dvc exp run -S
'nerve.race=[light]' package` makes a folder models/champion of a candidate's own; copy it before the next.
"""

import statistics
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import httpx

from benchmarks.contenders import OURS, Started, started
from benchmarks.uploads import Upload, uploads
from service.card import Card

ROUNDS, BEGUN = 12, 10  # every folder's turn in a round begins with answers that are not counted
ASKED = 40  # in a turn


def turn(server: Started, client: httpx.Client, upload: Upload) -> list[float]:
    """Milliseconds of a turn's answers, those at its beginning left out."""
    taken = []
    for asked in range(ASKED):
        file = upload.files[asked % len(upload.files)]
        start = time.perf_counter()
        answer = client.post(
            f"http://127.0.0.1:{server.port}/mask", content=file, headers={"Content-Type": upload.kind}
        )
        answer.raise_for_status()
        taken.append((time.perf_counter() - start) * 1000)
    return taken[BEGUN:]


def main(folders: list[str]) -> None:
    if not folders:
        sys.exit(__doc__)
    upload = uploads()[0]
    taken: dict[str, list[float]] = {folder: [] for folder in folders}
    with ExitStack() as stack:
        client = stack.enter_context(httpx.Client())
        servers = {folder: stack.enter_context(started(OURS, NERVEMASK_MODEL=folder)) for folder in folders}
        for _ in range(ROUNDS):
            for folder, server in servers.items():
                taken[folder] += turn(server, client, upload)
    first = statistics.median(taken[folders[0]])
    print("| model | network | asked | median | of the first |\n| --- | --- | --- | --- | --- |")
    for folder, times in taken.items():
        card, median = Card.read(Path(folder)), statistics.median(times)
        asked = "twice" if card.mirrored else "once"
        print(f"| {folder} | {card.candidate}, {card.precision} | {asked} | {median:.1f} ms | {median / first:.2f} |")


if __name__ == "__main__":
    main(sys.argv[1:])
