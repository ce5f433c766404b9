"""Coverage-guided fuzzing of the decoders: each file must give a frame or a FrameError.

`python -m benchmarks.coverage_fuzz --seconds 300`. Atheris measures the branch coverage of the service, pydicom and
Pillow. The native decoders have no coverage instrumentation; only the image decoders run in the fuzzer's process. A
file that raises another exception, ends the process, or exceeds a decoder's time or memory limit is stored in
reports/upload_fuzz.
"""

import argparse
import io
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.mutations import MAX_MUTANT_BYTES, make_seeds
from benchmarks.report import record
from benchmarks.upload_fuzz import FAILURES_FOLDER
from service.decoding.decoder_process import MAX_CALL_SECONDS, MAX_DECODER_BYTES

TITLE = "Coverage-guided fuzzing of the decoders"
RUN_SECONDS = 300
INSTRUMENTED = ["service", "pydicom", "PIL"]
FUZZER_OPTION = "--fuzzer"
LOG_TAIL_LINES = 20


def run_fuzzer(options: list[str]) -> None:
    """Fuzz in this process, which ends with the fuzzing. options: libFuzzer's command line options."""
    import atheris

    for name in [name for name in sys.modules if name.split(".")[0] in INSTRUMENTED]:
        del sys.modules[name]
    with atheris.instrument_imports(include=INSTRUMENTED):
        import service.decoding.cine
        import service.decoding.decoder_process
        import service.decoding.dicom.dicom_cine
        from service.errors import FrameError
    # Image decoders run in this process: coverage of a child process is not measured. DICOM decoders stay in their
    # child process, because mutated files crash them within seconds.
    service.decoding.cine.run_in_decoder_process = service.decoding.decoder_process.call_decoder

    def decode(data: bytes) -> None:
        try:
            cine = service.decoding.cine.open_cine(io.BytesIO(data))
            for index in range(min(cine.frame_count, 2)):
                cine.decode(cine.read_encoded(index), index)
        except FrameError:
            pass

    atheris.Setup([sys.argv[0], *options], decode)
    atheris.Fuzz()


def measure(seconds: int = RUN_SECONDS) -> dict[str, Any]:
    FAILURES_FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(make_seeds()):
            (Path(corpus) / f"{number}").write_bytes(seed.data)
        returncode, lines = _fuzz_corpus(corpus, seconds)
        corpus_files = len(list(Path(corpus).iterdir()))
    branches = [int(match[1]) for line in lines if (match := re.search(r"cov: (\d+)", line))]
    executions = re.search(r"number_of_executed_units: *(\d+)", "".join(lines))
    return {
        "seconds": seconds,
        "executions": int(executions[1]) if executions else 0,
        "branches": [branches[0], branches[-1]] if branches else [],
        "corpus_files": corpus_files,
        "failed": returncode != 0,
        "log_tail": [line.strip() for line in lines[-LOG_TAIL_LINES:]] if returncode else [],
    }


def _fuzz_corpus(corpus: str, seconds: int) -> tuple[int, list[str]]:
    """Run the fuzzer in a child process. Return its exit code and its log, which also goes to standard error."""
    limits = [f"-max_total_time={seconds}", f"-max_len={MAX_MUTANT_BYTES}", f"-timeout={MAX_CALL_SECONDS:.0f}"]
    limits += [f"-rss_limit_mb={MAX_DECODER_BYTES // 2**20}"]
    outputs = [f"-artifact_prefix={FAILURES_FOLDER}/", "-print_final_stats=1"]
    command = [sys.executable, "-m", "benchmarks.coverage_fuzz", FUZZER_OPTION, corpus, *limits, *outputs]
    lines = []
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace") as process:
        assert process.stderr
        for line in process.stderr:
            print(line, end="", file=sys.stderr)
            lines.append(line)
    return process.returncode, lines


def to_markdown(figures: dict[str, Any]) -> str:
    first, last = figures["branches"] or ("?", "?")
    return (
        f"{figures['executions']} files in {figures['seconds']} s. Covered branches: {first} at the start, {last} at "
        f"the end. The corpus holds {figures['corpus_files']} files.\n"
        f"Failures: {'; '.join(figures['log_tail']) or 'none'}."
    )


def main() -> None:
    if sys.argv[1:2] == [FUZZER_OPTION]:
        run_fuzzer(sys.argv[2:])
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coverage_fuzz", description=TITLE)
    parser.add_argument("--seconds", type=int, default=RUN_SECONDS, help="duration in seconds (%(default)s)")
    seconds = parser.parse_args().seconds
    figures = record("coverage_fuzz", lambda: measure(seconds), "upload_fuzz")
    sys.exit(f"coverage_fuzz: the fuzzer failed. See {FAILURES_FOLDER}." if figures["failed"] else 0)


if __name__ == "__main__":
    main()
