"""Many at once, broken off, failed, too slow: nothing is mixed up, nothing left waiting, and the shape is kept."""

import asyncio
import http.client
import io
import select
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from typing import Any

import httpx
import numpy as np
import pytest
from bentoml._internal.server.http.traffic import TimeoutMiddleware
from pydicom import dcmread
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.connections import ALL_UNREAD, MOST, UNREAD, Idle, Unread
from service.frame import Frame
from service.guard import AT_ONCE, OF_ONE_CLIENT, Gradual, Turns, without_bentomls_limit
from service.machine import cores
from service.pictures import png
from service.refusals import Shaped
from service.upload import Upload
from tests.conftest import patched
from tests.dicoms import ultrasound, written

pytestmark = pytest.mark.alone

PNG = {"content-type": "image/png"}
HEAD = b"POST /mask HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n"


async def ask_all(address: str, frames: list[bytes]) -> list[httpx.Response]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=address, timeout=60, limits=limits) as client:
        return await asyncio.gather(*(client.post("/mask", content=frame, headers=PNG) for frame in frames))


def test_of_a_hundred_at_once_each_gets_its_own_mask(address, segmenter, speckle) -> None:
    frames = [speckle(seed) for seed in range(100)]
    own = [png(segmenter.segment(Frame(pixels)).mask) for pixels in frames]
    assert len(set(own)) == 100
    answers = asyncio.run(ask_all(address, [png(pixels) for pixels in frames]))
    for answer, mask in zip(answers, own, strict=True):
        if answer.status_code == 429:
            assert answer.json()["error"]["code"] == "too_many"
        else:
            assert answer.content == mask
    assert sum(answer.status_code == 200 for answer in answers) >= AT_ONCE


def test_slow_uploads_keep_nobody_waiting(address, client, segmenter, speckle) -> None:
    """More of them than may wait for a turn: a whole frame is answered meanwhile, and so are they in the end."""
    frames = [speckle(seed) for seed in range(AT_ONCE + 1)]
    own = [png(segmenter.segment(Frame(pixels)).mask) for pixels in frames]

    async def scene() -> list[httpx.Response]:
        sent = asyncio.Event()

        async def slowly(data: bytes) -> AsyncIterator[bytes]:
            yield data[:100]
            await sent.wait()
            yield data[100:]

        async with httpx.AsyncClient(base_url=address, timeout=60, limits=httpx.Limits(max_connections=None)) as many:
            async with asyncio.TaskGroup() as group:
                asked = [group.create_task(many.post("/mask", content=slowly(png(f)), headers=PNG)) for f in frames]
                await asyncio.sleep(1)
                whole = await many.post("/mask", content=png(frames[0]), headers=PNG)
                sent.set()
            assert whole.content == own[0]
            return [task.result() for task in asked]

    for answer, mask in zip(asyncio.run(scene()), own, strict=True):
        assert answer.status_code == 429 or answer.content == mask


def test_bentomls_limit_ends_nothing_and_keeps_nothing(monkeypatch) -> None:
    monkeypatch.setattr(TimeoutMiddleware, "__call__", TimeoutMiddleware.__call__)  # as it was, afterwards
    without_bentomls_limit()
    sent: list[Any] = []

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0.05)
        sent.append(asyncio.get_running_loop()._scheduled)  # type: ignore[attr-defined]

    asyncio.run(TimeoutMiddleware(slow, 0.01)({"type": "http"}, None, None))  # type: ignore[arg-type]
    assert sent == [[]]


def test_one_client_does_not_hold_all_places(address) -> None:
    """What it holds too much is sent away at once, with the time of the next try."""
    host, port = address.removeprefix("http://").split(":")
    held = []
    try:
        for _ in range(2 * OF_ONE_CLIENT + 2):  # of two workers
            held.append(socket.create_connection((host, int(port))))
            held[-1].sendall(HEAD % 99 + b"x")
        answered = select.select(held, [], [], 10)[0]
        told = answered[0].recv(4096)
        assert told.startswith(b"HTTP/1.1 429 ")
        assert b"retry-after: 1" in told
        assert b"connection: close" in told  # the next one may lead to the other worker
        assert httpx.get(f"{address}/readyz").status_code == 200
    finally:
        for one in held:
            one.close()


def test_who_is_sent_away_before_his_body_was_read_gets_the_whole_answer(model_folder, tmp_path) -> None:
    """And not a reset connection, as where it is closed upon bytes that nobody took."""
    none = "import service.guard as guard\nguard.IN_HAND = 0"
    with patched(none, model_folder, tmp_path) as server:
        host, port = server.address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as client:
            client.sendall(HEAD % 20_000_000 + bytes(20_000_000))
            said = b"".join(iter(lambda: client.recv(4096), b""))
    assert said.startswith(b"HTTP/1.1 429 ")
    assert said.endswith(b"}")


def test_after_a_burst_of_ten_times_too_many_it_answers_as_before(address, client, segmenter, speckle) -> None:
    """None waits for ever or gets a wrong mask; who is sent away is told when to try again."""
    frame = png(speckle(5))
    own = png(segmenter.segment(Frame(speckle(5))).mask)
    answers = asyncio.run(ask_all(address, [frame] * (10 * AT_ONCE)))
    assert {answer.status_code for answer in answers} <= {200, 429}
    for answer in answers:
        if answer.status_code == 200:
            assert answer.content == own
        else:
            assert answer.headers["retry-after"] == "1"
    assert [client.post("/mask", content=frame, headers=PNG).content for _ in range(20)] == [own] * 20


def test_an_upload_that_breaks_off_leaves_nothing_behind(address, client) -> None:
    host, port = address.removeprefix("http://").split(":")
    for _ in range(5):
        with socket.create_connection((host, int(port))) as broken:
            broken.sendall(b"POST /mask HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\nContent-Length: 99\r\n\r\nx")
    for _ in range(600):
        time.sleep(0.05)
        told = client.get("/metrics").text.splitlines()
        held = [line for line in told if line.startswith(("nervemask_under_way ", "nervemask_waiting "))]
        if len(held) == 2 and all(line.endswith(" 0.0") for line in held):
            return
    raise AssertionError(f"requests are under way for ever: {held}")


# The rooms alone, around applications that are slow or fail


async def broken(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError("a secret of the inside")


async def slow(scope: Scope, receive: Receive, send: Send) -> None:
    await asyncio.sleep(0.5)


async def wordy(scope: Scope, receive: Receive, send: Send) -> None:
    await JSONResponse([{"error": "a secret of the inside"}], 503)(scope, receive, send)


async def long(scope: Scope, receive: Receive, send: Send) -> None:
    """A cine: a line now and then, for longer than anybody would wait for one."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(6):
        await asyncio.sleep(0.05)
        await send({"type": "http.response.body", "body": b"line\n", "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def ask(*apps: ASGIApp) -> list[httpx.Response]:
    """What is answered where these share one turn, each with an upload of its own, all at once."""

    async def one(app: ASGIApp) -> httpx.Response:
        transport = httpx.ASGITransport(Shaped(Upload(app)))
        async with httpx.AsyncClient(transport=transport, base_url="http://inside") as client:
            return await client.post("/mask", content=b"x", headers=PNG)

    return await asyncio.gather(*map(one, apps))


@pytest.fixture
def one_turn(monkeypatch) -> Turns:
    turns = Turns(1)
    monkeypatch.setattr("service.upload.TURNS", turns)
    return turns


@pytest.mark.parametrize(
    ("app", "status", "code"), [(broken, 500, "internal"), (slow, 504, "too_slow"), (wordy, 503, "not_ready")]
)
def test_who_fails_inside_is_spoken_for(monkeypatch, one_turn, app, status, code) -> None:
    monkeypatch.setattr("service.guard.SECONDS", 0.1)
    answer = asyncio.run(ask(app))[0]
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code
    assert "secret" not in answer.text
    assert (one_turn.present, one_turn.in_hand.total()) == (0, 0)


def test_an_answer_that_is_made_step_by_step_lets_others_have_their_turn(one_turn) -> None:
    ended = []

    def made(step: Callable[[], None]) -> Response:
        for _ in range(6):
            time.sleep(0.05)
            step()
        ended.append("long")
        return Response()

    async def short(scope: Scope, receive: Receive, send: Send) -> None:
        ended.append("short")
        await Response()(scope, receive, send)

    asyncio.run(ask(Gradual(made), short))
    assert ended == ["short", "long"]
    assert (one_turn.present, one_turn.in_hand.total()) == (0, 0)


def test_an_answer_that_is_made_step_by_step_ends_with_its_client(one_turn) -> None:
    steps = []

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        def made(step: Callable[[], None]) -> Response:
            while not scope["state"].get("given_up"):
                steps.append(time.sleep(0.02))
                step()
                assert len(steps) < 500
            return Response()

        await Gradual(made)(scope, receive, send)

    async def scene() -> None:
        body = [{"type": "http.request", "body": b"x", "more_body": False}]

        async def receive() -> Message:
            if body:
                return body.pop()
            await asyncio.sleep(0.2)
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            pass

        headers = [(b"content-type", b"application/dicom")]
        scope = {"type": "http", "method": "POST", "path": "/dicom", "query_string": b"", "headers": headers}
        await Upload(endless)(scope, receive, send)

    asyncio.run(scene())
    assert (one_turn.present, one_turn.in_hand.total()) == (0, 0)


def test_an_answer_that_goes_on_is_not_too_slow(monkeypatch, one_turn) -> None:
    monkeypatch.setattr("service.guard.SECONDS", 0.15)
    assert asyncio.run(ask(long))[0].text == "line\n" * 6


def test_a_slow_reader_is_given_its_time_and_then_given_up(monkeypatch, one_turn) -> None:
    """And holds no turn: another is answered meanwhile. Its answer stays without an end."""
    monkeypatch.setattr("service.guard.SECONDS", 0.2)

    async def scene() -> None:
        said: list[Message] = []
        bodies = iter([{"type": "http.request", "body": b"x", "more_body": False}])

        async def receive() -> Message:
            return next(bodies, None) or await asyncio.Future()

        async def send(message: Message) -> None:
            said.append(message)
            if message.get("body"):
                await asyncio.sleep(0.15)

        headers = [(b"content-type", b"image/png")]
        scope: Scope = {"type": "http", "path": "/mask", "method": "POST", "headers": headers, "query_string": b""}
        reading = asyncio.create_task(Upload(long)(scope, receive, send))
        await asyncio.sleep(0.1)
        assert one_turn.present == 0
        await reading
        assert 2 <= len([message for message in said if message.get("body")]) < 6
        assert said[-1]["more_body"]
        assert (one_turn.present, one_turn.in_hand.total()) == (0, 0)

    asyncio.run(scene())


def test_what_has_waited_too_long_is_not_computed(monkeypatch, one_turn) -> None:
    monkeypatch.setattr("service.guard.SECONDS", 0.1)
    computed = []

    async def late(scope: Scope, receive: Receive, send: Send) -> None:
        computed.append(scope)

    first, second = asyncio.run(ask(slow, late))
    assert (first.status_code, second.status_code) == (504, 504)
    assert computed == []


def test_one_more_than_may_wait_is_sent_away_at_once(monkeypatch, one_turn) -> None:
    monkeypatch.setattr("service.guard.AT_ONCE", 2)

    async def answering(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0.05)
        await JSONResponse({})(scope, receive, send)

    async def burst() -> None:
        found = [answer.status_code for answer in await ask(*[answering] * 20)]
        assert sorted(found) == [200] * 2 + [429] * 18
        assert [answer.status_code for answer in await ask(answering, answering)] == [200, 200]

    asyncio.run(burst())


def test_who_goes_away_while_waiting_is_not_computed(one_turn) -> None:
    computed: list[Scope] = []

    async def scene() -> list[Message]:
        said: list[Message] = []
        bodies = iter([{"type": "http.request", "body": b"x", "more_body": False}])

        async def receive() -> Message:
            return next(bodies, {"type": "http.disconnect"})

        async def send(message: Message) -> None:
            said.append(message)

        async def never(scope: Scope, receive: Receive, send: Send) -> None:
            computed.append(scope)

        await one_turn.take()
        headers = [(b"content-type", b"image/png")]
        scope: Scope = {"type": "http", "path": "/mask", "method": "POST", "headers": headers, "query_string": b""}
        await Upload(never)(scope, receive, send)
        one_turn.give_back()
        return said

    assert asyncio.run(scene())[0]["status"] == 400
    assert computed == []
    assert one_turn.present == 0


def test_a_cine_lets_others_have_their_turn(one_turn) -> None:
    """Between two of its frames, and while its reader is slow."""
    order: list[str] = []

    async def cine(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(3):
            order.append("cine")
            await asyncio.sleep(0.05)
            await send({"type": "http.response.body", "body": b"line\n", "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def single(scope: Scope, receive: Receive, send: Send) -> None:
        order.append("single")
        await JSONResponse({})(scope, receive, send)

    asyncio.run(ask(cine, single))
    assert order == ["cine", "single", "cine", "cine"]


SLOW_NETWORK = """
import time
import service.guard
from service.segmenter import Segmenter

service.guard.SECONDS = 2.0
segment = Segmenter._segment
Segmenter._segment = lambda self, frame: time.sleep(0.2) or segment(self, frame)
"""


def test_a_segmentation_object_may_take_longer_than_the_limit(model_folder, speckle, tmp_path) -> None:
    """Six seconds of frames, where nothing may be silent for two."""
    frames = 30 * cores()
    cine = written(ultrasound(np.stack([speckle(1, 64, 64)] * frames)))
    with (
        patched(SLOW_NETWORK, model_folder, tmp_path) as server,
        httpx.Client(headers={"content-type": "application/dicom"}, timeout=60) as client,
    ):
        dicom = f"{server.address}/dicom"
        while client.post(dicom, content=written(ultrasound(speckle(1)))).status_code == 504:
            pass  # the first one loads highdicom, which takes long itself
        answer = client.post(dicom, content=cine)
    assert answer.status_code == 200, answer.text
    assert dcmread(io.BytesIO(answer.content)).NumberOfFrames == frames


def test_a_connection_that_is_used_is_not_taken_for_one_that_idles(model_folder, tmp_path) -> None:
    """Though whoever looks finds it idle each time: its requests are short."""
    brisk = "import service.connections as connections\nconnections.HEAD_SECONDS, connections.LOOK_SECONDS = 1, 0.1"
    with patched(brisk, model_folder, tmp_path) as server:
        host, port = server.address.removeprefix("http://").split(":")
        used = http.client.HTTPConnection(host, int(port), timeout=10)
        with closing(used), socket.create_connection((host, int(port)), 10) as silent:
            for _ in range(30):
                used.request("GET", "/livez")
                assert used.getresponse().read() == b"\n"
                time.sleep(0.1)
            assert silent.recv(1) == b""  # which is ended


def test_what_nobody_has_read_yet_is_bounded_for_all_connections_together() -> None:
    idle = Idle()
    unread = Unread(idle)
    for count in (1, 16, 100, MOST):
        idle.connections = set(range(count))
        limit = max(size for size in range(0, UNREAD + 2**16, 2**14) if not size > unread)
        assert 2**16 <= limit <= UNREAD
        assert count * limit <= ALL_UNREAD
