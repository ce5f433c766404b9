"""The WebSocket /stream: answers in order, dropped frames, errors, and limits."""

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from service.api.openapi import MAX_MESSAGE_BYTES
from service.api.websocket import MAX_STREAMS, MAX_STREAMS_PER_CLIENT, OpenStreams
from service.decoding.frame import Frame
from service.errors import FrameError
from service.inference.temporal_smoothing import TemporalSmoother
from service.rendering.image_encoding import encode_png
from service.resources.worker_count import worker_count
from tests.conftest import patched
from tests.dicoms import make_ultrasound, to_bytes
from tests.frames import moving_tissue
from tests.service.api.conftest import FRAME_COUNT
from tests.service.api.gated_decoder import gate_last_frame
from tests.service.continuous_client import wait_until

pytestmark = pytest.mark.server

MAX_WAIT_SECONDS = 120  # for an answer; only a stream that hangs needs more


def stream_url(address: str, query: str = "") -> str:
    return address.replace("http", "ws") + "/stream" + query


async def receive(socket: ClientConnection) -> dict[str, Any]:
    return json.loads(await asyncio.wait_for(socket.recv(), MAX_WAIT_SECONDS))


async def receive_until(socket: ClientConnection, last_message: int) -> list[dict[str, Any]]:
    """Return all answers up to the first to message number `last_message`."""
    answers = [await receive(socket)]
    while answers[-1]["message"] < last_message:
        answers.append(await receive(socket))
    return answers


def send_all(address: str, query: str, messages: list[bytes | str]) -> list[dict[str, Any]]:
    """Send all messages, then return the answers to all of them."""

    async def run() -> list[dict[str, Any]]:
        async with connect(stream_url(address, query)) as socket:
            for message in messages:
                await socket.send(message)
            return await receive_until(socket, len(messages) - 1)

    return asyncio.run(run())


def area_px(answer: dict[str, Any]) -> int:
    return answer["nerve"]["area_px"]


def test_frames_are_answered_in_order(address, cine_pixels, cine_masks) -> None:
    answers = send_all(address, "", [encode_png(frame) for frame in cine_pixels])
    assert [answer["message"] for answer in answers] == list(range(FRAME_COUNT))
    assert [area_px(answer) for answer in answers] == [np.count_nonzero(mask) for mask in cine_masks]


def test_the_frames_of_a_stream_can_be_smoothed_over_time(address, segmenter) -> None:
    frames, alone = [Frame(moving_tissue(number)) for number in range(6)], TemporalSmoother()
    expected = []
    for frame in frames:
        expected.append(segmenter._segment_in_flight(frame, turn=alone.next_frame(segmenter)).presence)
    answers = send_all(address, "?smooth=true", [encode_png(frame.pixels) for frame in frames])
    assert [answer["nerve"]["presence"] for answer in answers] == pytest.approx(expected, abs=1e-4)
    assert answers[5]["nerve"]["presence"] != pytest.approx(segmenter.segment(frames[5]).presence, abs=1e-4)


def test_smoothing_starts_again_after_a_message_that_cannot_be_read(address, segmenter) -> None:
    frames = [Frame(moving_tissue(number)) for number in range(4)]
    messages = [encode_png(frame.pixels) for frame in frames]
    answers = send_all(address, "?smooth=true", [*messages[:3], b"nonsense", messages[3]])
    assert answers[3]["error"]["code"] == "unknown_type"
    alone = segmenter.segment(frames[3]).presence
    assert answers[4]["nerve"]["presence"] == pytest.approx(alone, abs=1e-4)


def test_drop_skips_all_but_the_newest_waiting_frame(model_folder, tmp_path, speckle) -> None:
    """Twenty frames arrive while the server works on a cine."""
    gate = tmp_path / "gate"
    cine = to_bytes(make_ultrasound(np.stack([speckle(1, 120, 160)] * 2)))

    async def run(address: str) -> list[dict[str, Any]]:
        async with connect(stream_url(address, "?drop=true")) as socket:
            await socket.send(cine)
            for seed in range(20):
                await socket.send(encode_png(speckle(seed, 120, 160)))
            await (await socket.ping())  # the server answers it after it has read the messages before
            gate.touch()
            return await receive_until(socket, 20)

    with patched(gate_last_frame(gate), model_folder, tmp_path) as server:
        answers = asyncio.run(run(server.address))[2:]
    assert [answer["message"] for answer in answers] == list(range(1, 21))
    dropped = [answer for answer in answers if answer.get("dropped")]
    assert dropped
    assert all(answer == {"message": answer["message"], "dropped": True} for answer in dropped)
    assert "nerve" in answers[-1]


def test_an_invalid_message_gets_an_error_and_the_stream_goes_on(address, cine_pixels) -> None:
    answers = send_all(address, "", ["hello", b"nonsense", b"", encode_png(cine_pixels[0])])
    codes = [answer.get("error", {}).get("code") for answer in answers]
    assert codes == ["not_a_file", "unknown_type", "empty", None]
    assert "nerve" in answers[-1]


def test_a_cine_in_one_message_gets_an_answer_for_each_frame(address, cine_file, cine_pixels) -> None:
    answers = send_all(address, "?picture=mask", [cine_file, encode_png(cine_pixels[0])])
    assert [answer["frame"]["index"] for answer in answers] == [*range(FRAME_COUNT), 0]
    assert [answer["message"] for answer in answers] == [0] * FRAME_COUNT + [1]
    assert all(answer["picture"].startswith("data:image/png") for answer in answers)


def test_a_stream_leaves_out_uncertain_answers_on_request(address, cine_pixels) -> None:
    frame = encode_png(cine_pixels[0])
    kept, left_out = (send_all(address, f"?min_confidence={value}", [frame])[0] for value in (0, 1))
    assert (kept["nerve"]["present"], left_out["nerve"]["present"]) == (True, None)


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("?picture=nonsense", "settings"),
        ("?drop=True", "settings"),
        ("?drop=1", "settings"),
        ("?dorp=true", "settings"),
        ("?min_confidence=2", "min_confidence"),
        ("?smooth=yes", "settings"),
        ("?outlines=1", "settings"),
    ],
)
def test_a_stream_with_an_invalid_parameter_gets_an_error_and_ends(address, query, code) -> None:
    async def run() -> None:
        async with connect(stream_url(address, query)) as socket:
            assert (await receive(socket))["error"]["code"] == code
            await socket.recv()

    with pytest.raises(ConnectionClosed, match="1008"):
        asyncio.run(run())


def test_a_message_over_the_documented_size_ends_the_stream(address) -> None:
    async def run() -> int | None:
        async with connect(stream_url(address)) as socket:
            with pytest.raises(ConnectionClosed) as closed:
                await socket.send(bytes(MAX_MESSAGE_BYTES + 1))
                await socket.recv()
            return closed.value.rcvd and closed.value.rcvd.code

    assert asyncio.run(run()) == 1009


def test_a_page_of_another_site_gets_no_stream(address) -> None:
    async def run() -> None:
        async with connect(stream_url(address), additional_headers={"origin": "https://elsewhere.example"}):
            pass

    with pytest.raises(InvalidStatus, match="403"):
        asyncio.run(run())


def test_the_streams_of_a_client_are_limited_and_a_closed_stream_frees_its_place(address, cine_pixels) -> None:
    async def run() -> None:
        sockets = []
        with pytest.raises(InvalidStatus) as refused:
            for _ in range(worker_count() * MAX_STREAMS_PER_CLIENT + 1):
                sockets.append(await connect(stream_url(address)))
        assert refused.value.response.status_code == 429
        assert refused.value.response.headers["retry-after"] == "1"
        assert json.loads(refused.value.response.body)["error"]["code"] == "too_many"
        for socket in sockets:
            await socket.close()
        async with asyncio.timeout(MAX_WAIT_SECONDS):
            while not await is_answered():
                await asyncio.sleep(0.1)

    async def is_answered() -> bool:
        try:
            async with connect(stream_url(address)) as socket:
                await socket.send(encode_png(cine_pixels[0]))
                return "nerve" in await receive(socket)
        except (InvalidStatus, ConnectionClosed):
            return False

    asyncio.run(run())


def test_silent_streams_of_one_client_leave_places_for_others() -> None:
    streams = OpenStreams()
    clients = [f"client {number % 9}" for number in range(9 * MAX_STREAMS_PER_CLIENT)]
    accepted: list[str] = []
    for client in ["greedy"] * MAX_STREAMS + clients:
        try:
            streams.check_room(client)
        except FrameError as error:
            assert error.status == 429
        else:
            streams.clients[object()] = client  # type: ignore[index]
            accepted.append(client)
    assert accepted.count("greedy") == MAX_STREAMS_PER_CLIENT
    assert len(accepted) == MAX_STREAMS


def test_a_stream_that_breaks_off_does_not_disturb_others(address, client, speckle) -> None:
    async def run() -> None:
        socket = await connect(stream_url(address))
        for seed in range(8):
            await socket.send(encode_png(speckle(seed, 1500, 2000)))
        socket.transport.abort()

    asyncio.run(run())
    assert client.get("/readyz").status_code == 200
    assert area_px(send_all(address, "", [encode_png(speckle(1))])[0])


def close_reason(model_folder: Path, folder: Path, patch: str, messages: list[bytes]) -> tuple[int, str]:
    """Return the code and the reason with which a server with `patch` closes a stream after these messages."""

    async def run(address: str) -> tuple[int, str]:
        async with connect(stream_url(address)) as socket:
            with pytest.raises(ConnectionClosed) as closed:
                for message in messages:
                    await socket.send(message)
                while True:
                    await receive(socket)
            assert closed.value.rcvd
            return closed.value.rcvd.code, closed.value.rcvd.reason

    with patched(f"import service.api.websocket\nservice.api.websocket.{patch}", model_folder, folder) as server:
        return asyncio.run(run(server.address))


def test_an_idle_stream_is_closed(model_folder, tmp_path) -> None:
    reason = close_reason(model_folder, tmp_path, "MAX_IDLE_SECONDS = 0.5", [])
    assert reason == (1001, "no message for 0 seconds")


def test_a_stream_that_exceeds_the_byte_budget_is_closed(model_folder, tmp_path) -> None:
    reason = close_reason(model_folder, tmp_path, "STREAM_BUDGET_BYTES = 1000", [bytes(1001)])
    assert reason == (1013, "the streams hold too many bytes at once")


def test_an_unexpected_exception_gives_an_error_and_the_stream_goes_on(model_folder, tmp_path, speckle) -> None:
    patch = """
import service.api.websocket
open_cine = service.api.websocket.open_cine
def open_or_fail(file, *arguments):
    if file.read(4) == b"trap":
        raise RuntimeError("a bug in the decoder")
    return open_cine(file, *arguments)
service.api.websocket.open_cine = open_or_fail"""
    with patched(patch, model_folder, tmp_path) as server:
        answers = send_all(server.address, "", [b"trap", encode_png(speckle(1))])
        wait_until(lambda: "a bug in the decoder" in server.log.read_text())
    assert answers[0]["error"]["code"] == "internal"
    assert "decoder" not in answers[0]["error"]["message"]
    assert "nerve" in answers[1]
