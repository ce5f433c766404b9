"""Decoders in a process of their own: what kills one costs its request, and nothing else."""

import io
import os
import threading

import cv2
import httpx
import numpy as np
import psutil
import pytest
from pydicom.uid import JPEG2000Lossless

from service import isolation
from service.cine import open_cine
from service.errors import FrameError
from service.frame import LIMIT_PX
from service.isolation import isolated
from service.pictures import png
from tests import decoders
from tests.conftest import patched
from tests.dicoms import compressed, written

pytestmark = pytest.mark.alone

PNG = {"content-type": "image/png"}


@pytest.mark.parametrize("decoder", [decoders.aborted, decoders.lost, decoders.left, decoders.greedy, decoders.endless])
def test_what_ends_a_decoder_is_refused_and_the_next_call_finds_another(monkeypatch, decoder) -> None:
    monkeypatch.setattr(isolation, "SECONDS", 1 if decoder is decoders.endless else 20)
    before = isolated(decoders.process)
    with pytest.raises(FrameError) as fault:
        isolated(decoder)
    assert (fault.value.code, fault.value.status) == ("decoder_ended", 400)
    assert isolated(decoders.process) not in (before, os.getpid())


def test_what_a_decoder_raises_comes_back_and_it_goes_on() -> None:
    before = isolated(decoders.process)
    with pytest.raises(FrameError) as fault:
        isolated(decoders.refusing)
    assert vars(fault.value) == {"code": "too_small", "message": "It is too small.", "status": 422}
    with pytest.raises(RuntimeError, match="a fault of ours"):
        isolated(decoders.faulty)
    assert isolated(decoders.process) == before


def test_a_decoder_is_told_nothing_of_the_workers_environment(monkeypatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=secret")
    with pytest.raises(FrameError):
        isolated(decoders.aborted)  # the next one is started with this environment around
    assert not isolated(decoders.knows, "OTEL_EXPORTER_OTLP_HEADERS")
    assert isolated(decoders.knows, "OPENBLAS_NUM_THREADS")


@pytest.mark.parametrize("kind", [".png", ".tif"])
def test_the_largest_pictures_fit_into_a_decoders_memory(kind) -> None:
    """As many pixels as are let in, of the deepest kind that is read."""
    side = int(LIMIT_PX**0.5)
    data = cv2.imencode(kind, np.full((side, side, 4), 40000, np.uint16))[1].tobytes()
    assert isolated(decoders.decoded, data).shape == (side, side)


def test_the_largest_compressed_frame_fits_into_a_decoders_memory() -> None:
    side = int(LIMIT_PX**0.5)
    made = compressed(np.zeros((1, side, side, 3), np.uint8), JPEG2000Lossless)
    cine = open_cine(io.BytesIO(written(made)))
    assert cine.decode(cine.encoded_at(0), 0).pixels.shape == (side, side)


PATCH = "import service.cine, tests.decoders; service.cine.decoded = tests.decoders.decoded"


def test_others_in_the_same_worker_are_answered_while_decoders_die(model_folder, tmp_path, speckle) -> None:
    good = png(speckle(1))
    with patched(PATCH, model_folder, tmp_path) as server, httpx.Client(base_url=server.address, timeout=30) as client:
        right = client.post("/mask", content=good, headers=PNG)
        answers: list[httpx.Response] = []
        stop = threading.Event()

        def ask() -> None:
            while not stop.is_set():
                answers.append(client.post("/mask", content=good, headers=PNG))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        [thread.start() for thread in threads]
        deadly = [client.post("/mask", content=good + decoders.DEADLY, headers=PNG) for _ in range(10)]
        stop.set()
        [thread.join() for thread in threads]
        assert server.process.poll() is None
        children = psutil.Process(server.process.pid).children()
    assert [answer.json()["error"]["code"] for answer in deadly] == ["decoder_ended"] * 10
    assert {answer.status_code for answer in deadly} == {400}
    assert len(answers) > 10
    assert {answer.content for answer in answers} == {right.content}
    assert server.log.read_text().count("a decoder ended over a frame: SIGABRT") == 10
    psutil.wait_procs(children, timeout=10)
    assert not any(child.is_running() for child in children)
