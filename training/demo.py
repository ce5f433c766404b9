"""`make demo`: train a model on phantom frames, serve it over HTTP, segment held-out frames, print a table.

The demo trains only one candidate, and with a shorter schedule, so it ends within minutes. It changes params.yaml while
its stages run. `dvc repro package` then trains all candidates with their own schedules.
"""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import yaml
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from service.clients.http_connection import open_http_client
from service.decoding.image_file import decode_image
from training.data.manifest import ManifestRow, read_frame, read_nerve_mask
from training.data.split_table import rows_of_split
from training.evaluation.segmentation_metrics import dice
from training.workspace import nerve_parameters, paths
from training.workspace.plotting import draw_outlines, to_rgb

CANDIDATE = "light"
CANDIDATE_STAGES = [f"{stage}@{CANDIDATE}" for stage in ("prepare", "train_unet", "evaluate")]
STAGES = ["ingest", "split", *CANDIDATE_STAGES, "champion", "refit", "report", "package"]
PARAMS_FILE = Path("params.yaml")
PICTURE = Path("reports/demo.png")
SERVER_LOG = Path("reports/demo-server.log")
EPOCHS = 18  # of the last phase of CANDIDATE's schedule; params.yaml has more
MAX_FRAMES = 20  # held-out frames to segment
MAX_START_SECONDS = 60
REQUEST_SECONDS = 30


@dataclass
class Responses:
    """The served masks of held-out frames: one Dice and one response time for each frame."""

    rows: list[ManifestRow]
    dice: list[float] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)

    def median_index(self) -> int:
        """Return the index of the frame with the median Dice of those with a nerve; 0 if no frame has one."""
        with_nerve = sorted((score, index) for index, score in enumerate(self.dice) if self.rows[index].nerve_px)
        return with_nerve[len(with_nerve) // 2][1] if with_nerve else 0


@contextmanager
def serve(log: Path) -> Iterator[str]:
    """Serve the champion on a free port; yields the address, and stops the service at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    with log.open("w") as output:
        command = [sys.executable, "-m", "service", "--port", str(port)]
        server = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            wait_until_ready(server, address, log)
            yield address
        finally:
            server.terminate()
            server.wait()


def wait_until_ready(server: subprocess.Popen[bytes], address: str, log: Path) -> None:
    """Return when the service is ready. Exit with the end of its log if it ends, or after MAX_START_SECONDS."""
    deadline = time.monotonic() + MAX_START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            if httpx.get(f"{address}/readyz", trust_env=False).is_success:
                return
        except httpx.TransportError:
            pass  # it does not listen yet
        time.sleep(0.1)
    sys.exit(f"demo: the service did not become ready. The end of its log, {log}:\n{log.read_text()[-2000:]}")


def request_mask(client: httpx.Client, row: ManifestRow) -> np.ndarray:
    """Return the service's mask of a frame: bool (height, width)."""
    file = paths.FRAMES / row.frame
    response = client.post("/mask", files={"frame": (file.name, file.read_bytes())})
    response.raise_for_status()
    return decode_image(response.content).pixels > 0


def segment_frames(client: httpx.Client, rows: list[ManifestRow]) -> Responses:
    """Request the mask of each frame, one after the other."""
    responses = Responses(rows)
    for row in rows:
        start = time.perf_counter()
        mask = request_mask(client, row)
        responses.milliseconds.append((time.perf_counter() - start) * 1000)
        responses.dice.append(dice(mask, read_nerve_mask(row)))
    return responses


def draw(row: ManifestRow, mask: np.ndarray, score: float) -> None:
    """Write PICTURE: the frame, the frame with the true outline, the frame with the outline of the served mask."""
    frame, truth = read_frame(row).pixels, read_nerve_mask(row)
    figure = Figure(figsize=(13, 3.6), layout="constrained")
    panels = {
        "frame": to_rgb(frame),
        "truth": draw_outlines(frame, truth=truth),
        f"served mask, Dice {score:.2f}": draw_outlines(frame, mask=mask),
    }
    for axis, (title, image) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        axis.imshow(image)
        axis.set_title(title)
        axis.set_axis_off()
    figure.savefig(PICTURE, dpi=110)


def closing_table(responses: Responses, seconds: dict[str, float]) -> Table:
    """Return the table at the end of the demo.

    seconds: of each part of the demo, by its name.
    """
    champion, version = (json.loads(file.read_text()) for file in (paths.CHAMPION, paths.REFIT_RUN))
    test = champion["candidates"][champion["candidate"]]["test"]
    table = Table(title="Results", show_header=False, title_justify="left")
    table.add_row("frames", describe_frames(nerve_parameters.read_nerve_parameters()))
    table.add_row("champion", f"{champion['candidate']}, version {version['version']}")
    table.add_row("Dice on held-out subjects", f"{test['dice']:.3f} ({test['frames']} frames)")
    table.add_row("  frames with a nerve only", f"{test['dice_with_nerve']:.3f}")
    table.add_row("  baseline: empty mask", f"{test['baseline_empty']:.3f}")
    table.add_row("  baseline: mean mask", f"{test['baseline_mean_mask']:.3f}")
    table.add_row(f"  {len(responses.dice)} frames, over HTTP", f"{np.mean(responses.dice):.3f}")
    table.add_row("response time over HTTP", f"{np.median(responses.milliseconds):.0f} ms (median)")
    for part, duration in seconds.items():
        table.add_row(part, f"{duration:.0f} s")
    table.add_section()
    table.add_row("picture", str(PICTURE))
    table.add_row("report on the champion", str(paths.CHAMPION_PAGE))
    table.add_row("compare the runs", "make ui     then http://127.0.0.1:5000")
    table.add_row("serve the champion", "make serve  then http://127.0.0.1:3000")
    table.add_row("train all candidates", "dvc repro package (. .venv/bin/activate)")
    return table


def describe_frames(nerve: nerve_parameters.NerveParameters) -> str:
    """Return what the frames are; of simulated ones, how hard they are."""
    if nerve.source != "phantom":
        return nerve.source
    return f"simulated, {nerve.phantom.difficulty}; console: {', '.join(nerve.phantom.consoles)}"


@contextmanager
def shorter_schedule() -> Iterator[None]:
    """Write EPOCHS into params.yaml, and restore the file at the end, also after SIGTERM."""
    original = PARAMS_FILE.read_bytes()
    params = yaml.safe_load(original)
    params["nerve"]["unets"][CANDIDATE]["recipe"]["phases"][-1]["epochs"] = EPOCHS
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        PARAMS_FILE.write_text(yaml.safe_dump(params, sort_keys=False, allow_unicode=True), encoding="utf-8")
        yield
    finally:
        PARAMS_FILE.write_bytes(original)


def run_pipeline(console: Console) -> dict[str, float]:
    """Run the demo's stages; return the seconds of each. Exits with DVC's exit code if DVC fails."""
    from dvc.cli import main as dvc  # loads for seconds; in this process it does so once, and not for each stage

    seconds = {}
    for number, stage in enumerate(STAGES, 1):
        console.print(f"[bold]Stage {number} of {len(STAGES)}: {stage}[/bold]")
        start = time.monotonic()
        # --single-item runs only this stage; without it, DVC would train all candidates.
        if code := dvc(["repro", "--quiet", "--single-item", stage]):
            sys.exit(code)
        seconds[f"stage {stage}"] = time.monotonic() - start
    return seconds


def segment_over_http() -> tuple[Responses, float]:
    """Serve the champion, segment held-out frames, draw the frame with the median Dice; also returns the seconds."""
    start = time.monotonic()
    rows = rows_of_split("test")[:MAX_FRAMES]
    with serve(SERVER_LOG) as address, open_http_client(address, timeout=REQUEST_SECONDS) as client:
        responses = segment_frames(client, rows)
        index = responses.median_index()
        draw(rows[index], request_mask(client, rows[index]), responses.dice[index])
    return responses, time.monotonic() - start


def main() -> None:
    if nerve_parameters.read_nerve_parameters().refits:
        sys.exit(
            "demo: params.yaml lists this source in nerve.refit, so the served model would be trained on the held-out "
            "frames that the demo segments. Restore the file with `git checkout HEAD params.yaml`."
        )
    console = Console()
    with shorter_schedule():
        seconds = run_pipeline(console)
    responses, seconds["serving"] = segment_over_http()
    console.print(closing_table(responses, seconds))


if __name__ == "__main__":
    main()
