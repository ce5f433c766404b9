"""A short run of the fuzzer of HTTP and WebSocket framing, and what the fuzzer finds."""

import random
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from benchmarks import framing_fuzz
from benchmarks.framing_mutations import make_stream_seeds, mutate_stream, websocket_frame
from benchmarks.process_monitor import ProcessMonitor
from tests.conftest import serving

pytestmark = [pytest.mark.server, pytest.mark.serial]


@pytest.fixture(autouse=True)
def failures_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(framing_fuzz, "FAILURES_FOLDER", tmp_path / "failures")
    return tmp_path / "failures"


def test_mutated_framing_ends_no_worker_and_gets_no_server_error(model_folder, tmp_path) -> None:
    with serving(model_folder, tmp_path) as server, ProcessMonitor(server.process.pid) as monitor:
        results = framing_fuzz.fuzz(int(server.address.rpartition(":")[2]), seed=1, seconds=600, max_batches=6)
    figures = framing_fuzz.summarize(results, monitor)
    assert framing_fuzz.violated_limits(figures) == []
    assert results.counts.total() == 6 * framing_fuzz.BATCH_STREAMS
    statuses = {status for _, status in results.counts}
    assert {"101", "200", "400", framing_fuzz.NO_RESPONSE} <= statuses


@contextmanager
def stub_server(status: int):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_a_server_error_and_a_silent_livez_are_failures(monkeypatch, failures_folder) -> None:
    monkeypatch.setattr(framing_fuzz, "BATCH_STREAMS", 40)
    with stub_server(500) as port:
        results = framing_fuzz.fuzz(port, max_batches=1)
    assert results.silent_batches == 1
    assert results.failures.keys() == {path.name for path in failures_folder.iterdir()}
    figures = framing_fuzz.summarize(results, ProcessMonitor(0, samples=[framing_fuzz.process_monitor.take_sample(0)]))
    violations = framing_fuzz.violated_limits(figures)
    assert [violation.partition(":")[0] for violation in violations] == [
        f"{len(results.failures)} streams failed",
        "/livez did not answer after 1 batches",
    ]


def test_the_same_seed_gives_the_same_streams() -> None:
    seeds = make_stream_seeds()
    streams = [[mutate_stream(seed.data, seeds[0].data, random.Random(3)) for seed in seeds] for _ in range(2)]
    assert streams[0] == streams[1]
    assert all(stream != seed.data for stream, seed in zip(streams[0], seeds, strict=True))


@pytest.mark.parametrize(("size", "head"), [(0, 2), (125, 2), (126, 4), (2**16 - 1, 4), (2**16, 10)])
def test_a_frame_states_its_size(size, head) -> None:
    frame = websocket_frame(2, bytes(size))
    assert len(frame) == head + 4 + size and frame[0] == 0x82 and frame[1] & 0x80
