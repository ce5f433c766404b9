"""`make demo`: from nothing to a mask on a frame, served over HTTP, and a table of what came out.

Trains one candidate, so that it is over in minutes; `dvc repro package` then runs the whole race from there.
"""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
from rich.console import Console
from rich.table import Table

from service.frame import decode
from training import parameters
from training.champion import CHAMPION
from training.explain import PAGE
from training.metrics import dice
from training.refit import RUN
from training.sources.layout import FRAMES, NERVE, Row, read_frame, read_labels
from training.split import rows_of

NET = "light"
OF_NET = [f"{stage}@{NET}" for stage in ("prepare", "train_unet", "evaluate")]
STAGES = ["ingest", "split", *OF_NET, "champion", "refit", "explain", "package"]
PICTURE = Path("reports/demo.png")
ASKED = 20  # held-out frames
READY_SECONDS = 60


@contextmanager
def served(log: Path) -> Iterator[str]:
    """The service with the champion on a free port, its address; stopped at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    with log.open("w") as out:
        server = subprocess.Popen(
            [sys.executable, "-m", "service", "--port", str(port)], stdout=out, stderr=subprocess.STDOUT
        )
        try:
            _wait(server, address, log)
            yield address
        finally:
            server.terminate()
            server.wait()


def _wait(server: subprocess.Popen[bytes], address: str, log: Path) -> None:
    until = time.monotonic() + READY_SECONDS
    while time.monotonic() < until and server.poll() is None:
        try:
            if httpx.get(f"{address}/readyz").is_success:
                return
        except httpx.TransportError:
            pass  # not listening yet
        time.sleep(0.1)
    sys.exit(f"the service did not become ready; {log} says why:\n{log.read_text()[-2000:]}")


def ask(client: httpx.Client, row: Row) -> np.ndarray:
    """The mask that the service answers for a frame: bool (height, width)."""
    file = FRAMES / row.frame
    answer = client.post("/mask", files={"frame": (file.name, file.read_bytes())})
    answer.raise_for_status()
    return decode(answer.content).pixels > 0


def draw(row: Row, mask: np.ndarray, score: float) -> None:
    """reports/demo.png: the frame, the truth on it, the served mask on it."""
    from matplotlib.figure import Figure

    from training.pictures import grey, outlined

    frame, truth = read_frame(FRAMES, row).pixels, read_labels(FRAMES, row) == NERVE
    figure = Figure(figsize=(13, 3.6), layout="constrained")
    panels = {
        "frame": grey(frame),
        "truth": outlined(frame, truth=truth),
        f"served mask, Dice {score:.2f}": outlined(frame, mask=mask),
    }
    for axis, (title, picture) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        axis.imshow(picture)
        axis.set_title(title)
        axis.set_axis_off()
    figure.savefig(PICTURE, dpi=110)


def report(scores: list[float], milliseconds: list[float], seconds: dict[str, float]) -> None:
    """The closing table."""
    champion, run = (json.loads(file.read_text()) for file in (CHAMPION, RUN))
    test = champion["race"][champion["candidate"]]["test"]
    table = Table(title="what came out", show_header=False, title_justify="left")
    table.add_row("champion", f"{champion['candidate']}, version {run['version']}")
    table.add_row("Dice on held-out subjects", f"{test['dice']:.3f} ({test['frames']} frames)")
    table.add_row("  of frames with a nerve", f"{test['dice_with_nerve']:.3f}")
    table.add_row("  of the empty mask", f"{test['baseline_empty']:.3f}")
    table.add_row("  of the mean mask", f"{test['baseline_mean_mask']:.3f}")
    table.add_row(f"  of {len(scores)} of them, over HTTP", f"{np.mean(scores):.3f}")
    table.add_row("an answer over HTTP", f"{np.median(milliseconds):.0f} ms (median)")
    for step, took in seconds.items():
        table.add_row(step, f"{took:.0f} s")
    table.add_section()
    table.add_row("the picture", str(PICTURE))
    table.add_row("the champion, explained", str(PAGE))
    table.add_row("compare the runs", "make ui     then http://127.0.0.1:5000")
    table.add_row("serve the champion", "make serve  then http://127.0.0.1:3000")
    table.add_row("the whole race", "dvc repro package (. .venv/bin/activate)")
    Console().print(table)


def main() -> None:
    if parameters.nerve().learns_all:
        sys.exit(
            "demo: it asks for masks of held-out frames, and what is served would have learnt them (nerve.refit): "
            "`git checkout HEAD params.yaml` takes back what was chosen there"
        )
    started = time.monotonic()
    # -s: these stages and no others; `dvc repro` would train every candidate.
    if code := subprocess.run(["dvc", "repro", "-s", *STAGES]).returncode:
        sys.exit(code)
    seconds = {"pipeline": time.monotonic() - started}
    started = time.monotonic()
    rows = rows_of("test")[:ASKED]
    scores, milliseconds = [], []
    with (
        served(Path("reports/demo-server.log")) as address,
        httpx.Client(base_url=address, timeout=30) as client,
    ):
        for row in rows:
            asked = time.perf_counter()
            mask = ask(client, row)
            milliseconds.append((time.perf_counter() - asked) * 1000)
            scores.append(dice(mask, read_labels(FRAMES, row) == NERVE))
        shown = _shown(rows, scores)
        draw(rows[shown], ask(client, rows[shown]), scores[shown])
    seconds["serving"] = time.monotonic() - started
    report(scores, milliseconds, seconds)


def _shown(rows: list[Row], scores: list[float]) -> int:
    """The frame with a nerve whose Dice is the median of them: neither the best nor the worst."""
    with_nerve = sorted((score, i) for i, score in enumerate(scores) if rows[i].nerve_px)
    return with_nerve[len(with_nerve) // 2][1] if with_nerve else 0


if __name__ == "__main__":
    main()
