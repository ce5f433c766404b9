"""Lines of the audit log are whole or an error: after a full disk, beside other writers, and when nobody reads."""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from service.monitoring import audit_log_file
from service.monitoring.audit_log_file import AuditLogFile

ROOT = Path(__file__).parents[3]


@pytest.fixture
def path(tmp_path, monkeypatch) -> Path:
    path = tmp_path / "audit.jsonl"
    monkeypatch.setenv("NERVEMASK_AUDIT", str(path))
    return path


@pytest.fixture
def writer(path: Path) -> AuditLogFile:
    return AuditLogFile()


@pytest.fixture
def limited_file_size(path: Path):
    """Let this process write no file longer than the audit file and 30 bytes, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 30, limits[1]))

    def free() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    yield limit, free
    free()
    signal.signal(signal.SIGXFSZ, handler)


def test_after_a_full_disk_the_next_line_stands_alone(writer, path, limited_file_size) -> None:
    fill, free = limited_file_size
    writer.write({"number": 1})
    fill()
    for number in (2, 3):
        with pytest.raises(OSError, match=r"bytes could be written|too large"):
            writer.write({"number": number})
    assert writer.find_problem()
    free()
    writer.write({"number": 4})
    first, torn, lost, last = path.read_text().splitlines()
    assert json.loads(first)["number"] == 1
    assert len(torn) == 30
    assert (json.loads(lost)["event"], json.loads(lost)["lines"]) == ("lost_lines", 2)
    assert json.loads(last)["number"] == 4
    assert writer.find_problem() is None


def test_lost_lines_are_recorded_without_another_request(writer, path, limited_file_size) -> None:
    fill, free = limited_file_size
    writer.write({"number": 1})
    fill()
    with pytest.raises(OSError):
        writer.write({"number": 2})
    free()
    assert writer.find_problem() is None
    assert json.loads(path.read_text().splitlines()[-1])["lines"] == 1


def test_a_line_never_continues_an_incomplete_one(writer, path) -> None:
    """Another process left it, before the start or between two lines."""
    path.write_text('{"incomplete')
    writer.write({"number": 1})
    with path.open("a") as file:
        file.write('{"incomplete')
    writer.write({"number": 2})
    lines = path.read_text().splitlines()
    assert [json.loads(line)["number"] for line in lines[1::2]] == [1, 2]


def test_a_line_that_lost_the_race_is_written_again(writer, path, monkeypatch) -> None:
    """Another worker tears a line between this worker's look at the file and its own line."""
    writer.write({"number": 1})

    def look_and_tear(self: AuditLogFile, descriptor: int) -> bool:
        monkeypatch.undo()
        os.environ["NERVEMASK_AUDIT"] = str(path)
        with path.open("a") as file:
            file.write('{"incomplete')
        return False

    monkeypatch.setattr(AuditLogFile, "_ends_inside_line", look_and_tear)
    writer.write({"number": 2})
    assert json.loads(path.read_text().splitlines()[-1])["number"] == 2


def test_lines_of_several_processes_do_not_mix(path) -> None:
    code = (
        "from service.monitoring.audit_log import write\nfor n in range(300): write({'number': n, 'text': 'x' * 300})"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) for _ in range(3)]
    assert [writer.wait() for writer in writers] == [0] * 3
    numbers = [json.loads(line)["number"] for line in path.read_text().splitlines()]
    assert sorted(numbers) == sorted([*range(300)] * 3)


def test_a_pipe_that_nobody_reads_gives_errors_and_is_a_problem(path, monkeypatch) -> None:
    monkeypatch.setattr(audit_log_file, "MAX_WRITE_SECONDS", 0.2)
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer, written = AuditLogFile(), 0
    with pytest.raises(OSError, match="nobody reads"):
        while True:
            writer.write({"text": "x" * 1000})
            written += 1
    assert "nobody reads" in str(writer.find_problem())
    os.set_blocking(reader, True)
    lines: list[bytes] = []

    def read() -> None:
        with os.fdopen(reader, "rb") as file:
            lines.extend(file)

    thread = threading.Thread(target=read)
    descriptor = os.open(path, os.O_WRONLY)  # the pipe stays open between two lines
    thread.start()
    while writer.find_problem():
        pass
    writer.write({"text": "last"})
    os.close(descriptor)
    thread.join()
    assert all(json.loads(line) for line in lines)
    assert len(lines) >= written + 1
    assert json.loads(lines[-1])["text"] == "last"


@pytest.mark.parametrize("target", ["a folder", "a missing folder"])
def test_a_file_that_cannot_be_opened_is_a_problem(writer, path, monkeypatch, target) -> None:
    if target == "a folder":
        path.mkdir()
    else:
        monkeypatch.setenv("NERVEMASK_AUDIT", str(path / "audit.jsonl"))
    assert writer.find_problem()
    with pytest.raises(OSError):
        audit_log_file.check_opens()
