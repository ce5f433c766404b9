"""Files grown by a coverage-guided fuzzer, straight into the decoding: a frame or a FrameError, and nothing else.

`python -m benchmarks.guided --seconds 300`. Atheris follows the branches of our code, pydicom's and Pillow's. The
native decoders behind them are not built to be followed; only those of pictures run in the fuzzer's own process. What
ends in another exception, ends the process, takes longer or more memory than a decoder may, is kept in reports/hostile.
"""

import argparse
import io
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.hostile import KEPT
from benchmarks.mutants import MOST_BYTES, seeds
from benchmarks.report import keep
from service.isolation import MEMORY_BYTES, SECONDS

RUN_SECONDS = 300
FOLLOWED = ["service", "pydicom", "PIL"]


def fuzz(options: list[str]) -> None:
    """In a process of its own: it ends with the fuzzing. options: libFuzzer's."""
    import atheris

    for name in [name for name in sys.modules if name.split(".")[0] in FOLLOWED]:
        del sys.modules[name]
    with atheris.instrument_imports(include=FOLLOWED):
        import service.cine
        import service.dicom.cine
        from service.errors import FrameError
    # Not in a child, where nothing could be followed. Those of DICOM stay there: mutants kill them within seconds.
    service.cine.isolated = lambda decoder, *arguments: decoder(*arguments)

    def decoded(data: bytes) -> None:
        try:
            cine = service.cine.open_cine(io.BytesIO(data))
            for index in range(min(cine.count, 2)):
                cine.decode(cine.encoded_at(index), index)
        except FrameError:
            pass

    atheris.Setup([sys.argv[0], *options], decoded)
    atheris.Fuzz()


def measure(seconds: int) -> dict[str, Any]:
    KEPT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(seeds()):
            (Path(corpus) / f"{number}").write_bytes(seed.data)
        limits = [f"-max_total_time={seconds}", f"-max_len={MOST_BYTES}", f"-timeout={SECONDS}"]
        limits += [f"-rss_limit_mb={MEMORY_BYTES // 2**20}", f"-artifact_prefix={KEPT}/", "-print_final_stats=1"]
        command = [sys.executable, "-m", "benchmarks.guided", "--inside", corpus, *limits]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace") as fuzzing:
            assert fuzzing.stderr
            said = []
            for line in fuzzing.stderr:
                print(line, end="", file=sys.stderr)
                said.append(line)
        grown = len(list(Path(corpus).iterdir()))
    covered = [int(found[1]) for line in said if (found := re.search(r"cov: (\d+)", line))]
    executed = re.search(r"number_of_executed_units: *(\d+)", "".join(said))
    return {
        "seconds": seconds,
        "executed": int(executed[1]) if executed else 0,
        "covered": [covered[0], covered[-1]] if covered else [],
        "corpus": grown,
        "failed": fuzzing.returncode != 0,
        "last": [line.strip() for line in said[-20:]] if fuzzing.returncode else [],
    }


def tell(of: dict[str, Any]) -> str:
    return (
        f"{of['executed']} files in {of['seconds']} s; branches covered, at first and at last: {of['covered']}; "
        f"{of['corpus']} files in the corpus.\nWhat decoding did not answer as it should: "
        + ("; ".join(of["last"]) or "nothing")
        + "."
    )


def main() -> None:
    if sys.argv[1:2] == ["--inside"]:
        fuzz(sys.argv[2:])
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guided", description=__doc__)
    parser.add_argument("--seconds", type=int, default=RUN_SECONDS, help=f"how long ({RUN_SECONDS})")
    seconds = parser.parse_args().seconds
    of = keep("guided", lambda: measure(seconds), "Files grown by a coverage-guided fuzzer", tell, "hostile")
    sys.exit("see reports/hostile" if of["failed"] else 0)


if __name__ == "__main__":
    main()
