"""Decoder processes: a file that ends one costs its own request, and nothing else."""

import io
import os
import signal
import threading
import time

import cv2
import httpx
import numpy as np
import psutil
import pytest
from pydicom.uid import JPEG2000Lossless

from service.decoding import decoder_process
from service.decoding.cine import open_cine
from service.decoding.declared_size import DeclaredSize
from service.decoding.decoder_process import CallLimits, run_in_decoder_process
from service.decoding.frame import MAX_PIXELS
from service.errors import FrameError
from service.rendering.image_encoding import encode_png
from tests import decoders
from tests.conftest import patched
from tests.dicoms import make_compressed_ultrasound, to_bytes

pytestmark = pytest.mark.serial

PNG = {"content-type": "image/png"}
MAX_SIDE_PX = int(MAX_PIXELS**0.5)
UNLIMITED_SECONDS = 600  # for tests of memory: a slow machine must not fail them


@pytest.mark.parametrize(
    "decoder",
    [decoders.abort, decoders.read_null_pointer, decoders.leave, decoders.exceed_memory, decoders.loop_forever],
)
def test_a_call_that_ends_its_decoder_is_refused_and_the_next_call_gets_another(monkeypatch, decoder) -> None:
    before = run_in_decoder_process(decoders.process_id).pixels
    with monkeypatch.context() as patch, pytest.raises(FrameError) as error:
        if decoder is decoders.loop_forever:
            patch.setattr(decoder_process, "MAX_CALL_SECONDS", 1)
        run_in_decoder_process(decoder)
    assert (error.value.code, error.value.status) == ("decoder_ended", 400)
    assert run_in_decoder_process(decoders.process_id).pixels not in (before, os.getpid())


@pytest.mark.parametrize("first", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT], ids=lambda first: first.name)
def test_a_decoder_that_ends_once_is_replaced_and_the_call_succeeds(tmp_path, first) -> None:
    assert run_in_decoder_process(decoders.end_by_signals, str(tmp_path), first).pixels == 1


@pytest.mark.parametrize(
    ("signals", "code", "status"),
    [
        ((signal.SIGKILL, signal.SIGKILL), "no_decoder", 503),
        ((signal.SIGSEGV, signal.SIGKILL), "no_decoder", 503),
        ((signal.SIGKILL, signal.SIGABRT), "no_decoder", 503),
        ((signal.SIGHUP, signal.SIGHUP), "no_decoder", 503),
        ((signal.SIGSEGV, signal.SIGABRT), "decoder_ended", 400),
    ],
)
def test_a_file_is_to_blame_only_if_it_ends_two_decoders(tmp_path, signals, code, status) -> None:
    """Whoever kills a decoder from outside, such as the kernel when memory is short, uses another signal."""
    with pytest.raises(FrameError) as error:
        run_in_decoder_process(decoders.end_by_signals, str(tmp_path), *signals)
    assert (error.value.code, error.value.status) == (code, status)


def test_the_limit_on_time_grows_with_the_pixels_and_counts_processor_time(monkeypatch) -> None:
    """A machine that is busy refuses no sound frame."""
    monkeypatch.setattr(decoder_process, "MIN_CALL_SECONDS", 0.3)
    size = DeclaredSize(16, 16, 1)
    assert run_in_decoder_process(decoders.sleep, 1.0, size=size).pixels == 0
    with pytest.raises(FrameError) as error:
        run_in_decoder_process(decoders.loop_forever, size=size)
    assert error.value.code == "decoder_ended"
    seconds = [CallLimits.of_size(DeclaredSize(1000, 1000, samples)).processor_seconds for samples in (1, 3)]
    assert 0.3 < seconds[0] < seconds[1] < decoder_process.MAX_CALL_SECONDS


def test_a_decoder_that_waits_for_ever_is_ended(monkeypatch) -> None:
    monkeypatch.setattr(decoder_process, "MIN_CALL_SECONDS", 0.01)
    monkeypatch.setattr(decoder_process, "MIN_WAIT_SECONDS", 0.2)
    with pytest.raises(FrameError) as error:
        run_in_decoder_process(decoders.sleep, 1e6, size=DeclaredSize(1, 1, 1))
    assert error.value.code == "decoder_ended"


def test_a_decoder_gets_the_memory_of_the_declared_pixels_and_no_more() -> None:
    small, large = DeclaredSize(16, 16, 1), DeclaredSize(4096, 4096, 3)
    assert run_in_decoder_process(decoders.allocate, large.decoder_bytes, size=large).pixels == 0
    with pytest.raises(FrameError) as error:
        run_in_decoder_process(decoders.allocate, large.decoder_bytes, size=small)
    assert error.value.code == "decoder_ended"
    assert run_in_decoder_process(decoders.allocate, large.decoder_bytes, size=large).pixels == 0


def test_an_exception_of_a_decoder_reaches_the_caller_and_the_decoder_goes_on() -> None:
    before = run_in_decoder_process(decoders.process_id).pixels
    with pytest.raises(FrameError) as error:
        run_in_decoder_process(decoders.raise_frame_error)
    assert (error.value.code, error.value.message, error.value.status) == ("too_small", "It is too small.", 422)
    with pytest.raises(RuntimeError, match="a bug in the decoder"):
        run_in_decoder_process(decoders.raise_key_error)
    assert run_in_decoder_process(decoders.process_id).pixels == before


def test_a_decoder_does_not_get_the_workers_environment(monkeypatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=secret")
    with pytest.raises(FrameError):
        run_in_decoder_process(decoders.abort)  # the next decoder starts while the variable is set
    assert not run_in_decoder_process(decoders.has_variable, "OTEL_EXPORTER_OTLP_HEADERS").pixels
    assert run_in_decoder_process(decoders.has_variable, "OPENBLAS_NUM_THREADS").pixels


@pytest.mark.parametrize("extension", [".png", ".tif"])
def test_the_largest_picture_fits_into_a_decoders_memory(monkeypatch, extension) -> None:
    """The maximum number of pixels, each of four 16-bit samples."""
    monkeypatch.setattr(decoder_process, "MAX_CALL_SECONDS", UNLIMITED_SECONDS)
    data = cv2.imencode(extension, np.full((MAX_SIDE_PX, MAX_SIDE_PX, 4), 40000, np.uint16))[1].tobytes()
    assert run_in_decoder_process(decoders.decode_or_abort, data).pixels.shape == (MAX_SIDE_PX, MAX_SIDE_PX)


def test_the_largest_compressed_frame_fits_into_a_decoders_memory(monkeypatch) -> None:
    monkeypatch.setattr(decoder_process, "MAX_CALL_SECONDS", UNLIMITED_SECONDS)
    pixels = np.zeros((1, MAX_SIDE_PX, MAX_SIDE_PX, 3), np.uint8)
    cine = open_cine(io.BytesIO(to_bytes(make_compressed_ultrasound(pixels, JPEG2000Lossless))))
    assert cine.decode(cine.read_encoded(0), 0).pixels.shape == (MAX_SIDE_PX, MAX_SIDE_PX)


PATCH = """
import service.api.decoder_penalties, service.decoding.cine, tests.decoders
service.api.decoder_penalties.PENALTIES.backoff.free_faults = 1000
service.decoding.cine.decode_picture = tests.decoders.decode_or_abort"""


@pytest.mark.server
def test_other_requests_of_the_worker_succeed_while_decoders_end(model_folder, tmp_path, speckle) -> None:
    data = encode_png(speckle(1))
    with patched(PATCH, model_folder, tmp_path) as server, httpx.Client(base_url=server.address, timeout=120) as client:
        expected = client.post("/mask", content=data, headers=PNG)
        answers: list[httpx.Response] = []
        stop = threading.Event()

        def send_until_stopped() -> None:
            while not stop.is_set():
                answers.append(client.post("/mask", content=data, headers=PNG))

        threads = [threading.Thread(target=send_until_stopped) for _ in range(4)]
        [thread.start() for thread in threads]
        aborted = [client.post("/mask", content=data + decoders.ABORT_MARK, headers=PNG) for _ in range(10)]
        while len(answers) < 10 and any(thread.is_alive() for thread in threads):
            time.sleep(0.05)
        stop.set()
        [thread.join() for thread in threads]
        assert server.process.poll() is None
        children = psutil.Process(server.process.pid).children()
    assert [answer.json()["error"]["code"] for answer in aborted] == ["decoder_ended"] * 10
    assert {answer.status_code for answer in aborted} == {400}
    assert len(answers) >= 10
    assert {answer.content for answer in answers} == {expected.content}
    assert server.log.read_text().count("a decoder process ended over a frame: SIGABRT") == 20
    psutil.wait_procs(children, timeout=60)
    assert not any(child.is_running() for child in children)
