"""A long run at 80 % of capacity with faults thrown in: each frame gets its own mask all the same.

`python -m benchmarks.soak --minutes 30`. A worker is killed every minute, the champion swapped between those, and each
twentieth upload is hostile. Capacity is reckoned anew every ROUND_SECONDS, and the least so far is what counts:
machines that are shared do not keep their pace. Of the well-formed requests, whose masks are known beforehand from the
same network in this process, it is counted how often they were

    right              answered with their mask, at once or when asked again
    wrong              answered with another mask or a refusal
    accepted and lost  without their mask after TRIES, in one of which they were accepted
    never accepted     without their mask after TRIES, all of which were sent away

and of their tries, how many were

    cut                accepted, and broken off: whole, but without a whole answer, as what a killed worker has in hand
    sent away          answered 429 or 503, or broken off before they were whole

Both are asked again, as a client does: not before the answer told to, not all at once, and ever more seldom.
"""

import argparse
import asyncio
import base64
import hashlib
import itertools
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from pydicom.uid import JPEG2000Lossless
from rich.progress import track

from benchmarks import load, watch
from benchmarks.contenders import OURS, frame_of, started
from benchmarks.hostile import DOCUMENTED
from benchmarks.mutants import mutant, seeds
from benchmarks.report import FOLDER, keep, table
from benchmarks.uploads import encoded
from benchmarks.watch import GAP_SECONDS, Watch
from service.card import Card, champion_folder
from service.pictures import png
from service.segmenter import Segmenter
from tests.dicoms import compressed, ultrasound, written
from tests.frames import speckle

MINUTES = 30.0
FAULT_SECONDS, ROUND_SECONDS = 60.0, 300.0
SHARE = 0.8  # of capacity
AT_ONCE, CAPACITY_SECONDS = 8, 10.0
HOSTILE_EVERY = 20
TRIES = 10
LEAST_PAUSE_SECONDS, MOST_DOUBLED = 0.1, 4  # before a request is asked again
LOOK_SECONDS = 0.2
PICTURE = FOLDER / "soak.png"
REQUESTS = ("right", "wrong", "accepted and lost", "never accepted")
NEVER = ("wrong", "accepted and lost")
SENT_AWAY = ("429", "503", "not whole")


@dataclass
class Known:
    """A whole request, base64, and the sha256 of the mask that answers it."""

    request: str
    mask: str


def known(model: Path) -> list[Known]:
    """PNG, JPEG and DICOM of frames that differ, with the masks that the model folder's network gives here."""
    segmenter, made = Segmenter(model), []
    for seed in range(8):
        grey = speckle(seed, 420, 580)
        for kind, data in {
            "image/png": encoded(".png", grey),
            "image/jpeg": encoded(".jpg", grey),
            "application/dicom": written(compressed(grey, JPEG2000Lossless) if seed % 2 else ultrasound(grey)),
        }.items():
            mask = png(segmenter.segment(frame_of(data)).mask)
            made.append(Known(load.request("/mask", kind, data), hashlib.sha256(mask).hexdigest()))
    return made


def link_of_two(model: Path, folder: Path) -> Path:
    """A link to a copy of the model folder, with another beside it that differs in its version alone."""
    for name in ("a", "b"):
        shutil.copytree(model, folder / name)
        replace(Card.read(model), version=name).write(folder / name)
    (folder / "champion").symlink_to(folder / "a")
    return folder / "champion"


@dataclass
class Soak:
    """One run against a server on `port`, which serves `link`. counts: as the module tells; of hostile, by status.

    capacities: requests a second. kills, swaps, cuts: seconds from the start.
    """

    port: int
    link: Path
    watched: Watch
    known: list[Known]
    counts: Counter[str] = field(default_factory=Counter)
    hostile: Counter[str] = field(default_factory=Counter)
    capacities: list[float] = field(default_factory=list)
    kills: list[float] = field(default_factory=list)
    swaps: list[float] = field(default_factory=list)
    cuts: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.start = time.perf_counter()
        self.free: list[load.Connection] = []
        self.chance, self.seeds = random.Random(0), seeds()

    async def run(self, rate: float, seconds: float, fault_seconds: float) -> None:
        """rate: requests a second; every `fault_seconds` a worker is killed, and between two such the link turned."""
        faults = [
            asyncio.create_task(self._again(self._kill, fault_seconds, fault_seconds / 2)),
            asyncio.create_task(self._again(self._swap, fault_seconds, fault_seconds)),
        ]
        await load.paced(rate, seconds, self.ask)
        for fault in faults:
            fault.cancel()

    async def capacity(self) -> None:
        """One more of `capacities`: while AT_ONCE requests are always under way, hostile ones among them, and this
        client takes its share of the machine too."""
        before, end, numbers = self._answers(), time.perf_counter() + CAPACITY_SECONDS, itertools.count()

        async def asking() -> None:
            while time.perf_counter() < end:
                await self.ask(next(numbers))

        await asyncio.gather(*(asking() for _ in range(AT_ONCE)))
        self.capacities.append((self._answers() - before) / CAPACITY_SECONDS)

    def _answers(self) -> int:
        return self.counts["right"] + self.hostile.total()

    async def ask(self, number: int, due: float = 0.0) -> None:
        """One request, as often as it takes; every HOSTILE_EVERY-th is hostile, and asked once."""
        if number % HOSTILE_EVERY == 0:
            await self._ask_hostile()
            return
        which, accepted = self.known[number % len(self.known)], False
        for tried in range(TRIES):
            status, body, retry_after = await self._answer(which.request)
            if status not in ("cut", *SENT_AWAY):
                right = status == "200" and hashlib.sha256(body).hexdigest() == which.mask
                self.counts["right" if right else "wrong"] += 1
                return
            accepted |= status == "cut"
            self.counts["cut" if status == "cut" else "sent away"] += 1
            # Those that were sent away together shall not come back together.
            pause = max(retry_after, LEAST_PAUSE_SECONDS) * 2 ** min(tried, MOST_DOUBLED)
            await asyncio.sleep(pause * self.chance.uniform(1, 2))
        self.counts["accepted and lost" if accepted else "never accepted"] += 1

    async def _ask_hostile(self) -> None:
        one = self.chance.choice(self.seeds)
        data = mutant(one.data, self.chance.choice(self.seeds).data, self.chance)
        status, *_ = await self._answer(load.request(self.chance.choice(one.routes), one.type, data))
        self.hostile[status] += 1

    async def _answer(self, request: str) -> tuple[str, bytes, float]:
        """Status, body, and seconds until it may be asked again."""
        connection = self.free.pop() if self.free else load.Connection(self.port)
        try:
            status, body = await connection.ask(base64.b64decode(request))
        except (OSError, EOFError):
            self.cuts.append(time.perf_counter() - self.start)
            return "cut" if connection.whole else "not whole", b"", 0.0
        self.free.append(connection)
        return status, body, connection.retry_after

    async def _again(self, fault: Any, every: float, first: float) -> None:
        await asyncio.sleep(first)
        while True:
            await fault()
            await asyncio.sleep(every)

    async def _kill(self) -> None:
        os.kill(self.chance.choice(sorted(self.watched.looks[-1].workers)), signal.SIGKILL)
        self.kills.append(time.perf_counter() - self.start)

    async def _swap(self) -> None:
        other = self.link.with_name("b" if self.link.resolve().name == "a" else "a")
        environment = os.environ | {"NERVEMASK_MODEL": str(self.link)}
        command = [sys.executable, "-m", "service.champion", "use", str(other)]
        done = await asyncio.create_subprocess_exec(*command, env=environment, stdout=asyncio.subprocess.DEVNULL)
        if await done.wait():
            raise RuntimeError(f"the champion {other} was not taken")
        self.swaps.append(time.perf_counter() - self.start)

    def figures(self, round_seconds: float) -> dict[str, Any]:
        """round_seconds: from one kill to the next. cut: connections that no kill of the second before explains, cut_at
        so many seconds after the start."""
        explained = [any(0 <= cut - kill <= GAP_SECONDS for kill in self.kills) for cut in self.cuts]
        return {
            "counts": self.counts,
            "hostile": self.hostile,
            "capacities": [round(one, 1) for one in self.capacities],
            "cut": explained.count(False),
            "cut_at": [round(cut, 1) for cut, known in zip(self.cuts, explained, strict=True) if not known],
            "kills": [round(at) for at in self.kills],
            "swaps": [round(at) for at in self.swaps],
            **self.watched.figures(round_seconds),
        }


def broken(of: dict[str, Any]) -> list[str]:
    """Promises that did not hold."""
    undocumented = of["hostile"].keys() - {*DOCUMENTED, "cut", "not whole"}
    promises = {f"{of['counts'].get(name, 0)} {name}": not of["counts"].get(name, 0) for name in NEVER}
    promises[f"hostile uploads were answered {undocumented}"] = not undocumented
    return [what for what, held in promises.items() if not held] + watch.broken(of)


def measure(minutes: float) -> dict[str, Any]:
    seconds = minutes * 60
    rounds = max(1, round(seconds / ROUND_SECONDS))
    with tempfile.TemporaryDirectory() as folder:
        link = link_of_two(champion_folder(), Path(folder))
        frames = known(link)
        every = min(FAULT_SECONDS, seconds / 3)
        with (
            started(OURS, NERVEMASK_MODEL=str(link)) as server,
            Watch(server.process.pid, LOOK_SECONDS) as watched,
        ):
            soak = Soak(server.port, link, watched, frames)

            async def run() -> None:
                await soak.capacity()  # to warm up
                soak.capacities.clear()
                for _ in track(range(rounds), "soak"):
                    await soak.capacity()
                    await soak.run(SHARE * min(soak.capacities), seconds / rounds, every)

            asyncio.run(run())
    memory = [[round(look.at, 1), round(look.all_mib), round(look.worker_mib)] for look in watched.looks[::10]]
    return {"minutes": minutes, "memory": memory, **soak.figures(every)}


def tell(of: dict[str, Any]) -> str:
    times, whole, worker = zip(*of["memory"], strict=True)
    figure = Figure(figsize=(9, 3), layout="constrained")
    axis = figure.subplots()
    axis.plot(times, whole, label="all processes")
    axis.plot(times, worker, label="largest worker")
    for marks, colour, name in ((of["kills"], "red", "worker killed"), (of["swaps"], "green", "champion swapped")):
        for index, at in enumerate(marks):
            axis.axvline(at, color=colour, linewidth=0.8, label=None if index else name)
    axis.set(xlabel="seconds", ylabel="MiB resident", ylim=(0, None))
    axis.legend(loc="lower right")
    figure.savefig(PICTURE, dpi=80, metadata={"Software": None})
    said = [
        f"{of['minutes']} minutes at {SHARE:.0%} of capacity: {of['capacities']} requests a second, by round, of which "
        "the least so far counts.",
        f"{len(of['kills'])} workers killed, {len(of['swaps'])} times another champion.",
        f"Hostile uploads by status: {dict(sorted(of['hostile'].items()))}.",
        f"Tries that were cut: {of['counts'].get('cut', 0)}; sent away: {of['counts'].get('sent away', 0)}. "
        f"Connections cut that no kill explains: {of['cut']}.",
        *watch.told(of),
        "Promises broken: " + ("; ".join(broken(of)) or "none") + ".",
    ]
    counts = table([{"well-formed requests": name, "count": of["counts"].get(name, 0)} for name in REQUESTS])
    return "\n".join(said) + f"\n\n{counts}\n\n![Memory over time]({PICTURE.name})"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=MINUTES, help=f"how long ({MINUTES:.0f})")
    minutes = parser.parse_args().minutes
    of = keep("soak", lambda: measure(minutes), "A soak with faults thrown in", tell, "soak")
    sys.exit("; ".join(broken(of)) or 0)


if __name__ == "__main__":
    main()
