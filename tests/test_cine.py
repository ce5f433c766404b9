"""A cine over HTTP and over a stream: every frame answered, in order, at once; a damaged one does not stop the rest."""

import asyncio
import io
import json
import re
import threading
from itertools import chain

import httpx
import numpy as np
import pytest
from pydicom import dcmread, uid
from pydicom.encaps import encapsulate, generate_frames
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from service.cine import open_cine
from service.documentation import MESSAGE_BYTES
from service.frame import Frame
from service.pictures import png
from service.stream import STREAMS_AT_ONCE
from tests.conftest import patched
from tests.dicoms import ultrasound, written

DICOM = {"content-type": "application/dicom"}
FRAMES = 12


@pytest.fixture(scope="module")
def pixels(speckle) -> np.ndarray:
    return np.stack([speckle(seed, 120, 160) for seed in range(FRAMES)])


@pytest.fixture(scope="module")
def masks(pixels, segmenter) -> list[np.ndarray]:
    """What the server has to answer."""
    found = [segmenter.segment(Frame(frame)).mask for frame in pixels]
    assert len({mask.tobytes() for mask in found}) == FRAMES
    return found


@pytest.fixture(scope="module")
def cine(pixels) -> bytes:
    return written(ultrasound(pixels))


@pytest.fixture(scope="module")
def damaged(pixels) -> bytes:
    """A compressed cine whose frame 5 is nonsense."""
    made = ultrasound(pixels)
    made.compress(uid.JPEGLSLossless, generate_instance_uid=False)
    coded = list(generate_frames(made.PixelData, number_of_frames=FRAMES))
    coded[5] = coded[5][:40] + bytes(len(coded[5]) - 40)
    made.PixelData = encapsulate(coded)
    return written(made)


def area(line: dict) -> int:
    return line["nerve"]["area_px"]


def test_each_frame_gets_its_line_in_order(client, cine, masks) -> None:
    answer = client.post("/segment", content=cine, headers=DICOM)
    assert answer.headers["content-type"].startswith("application/jsonl")
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["frame"]["index"] for line in lines] == list(range(FRAMES))
    assert [area(line) for line in lines] == [np.count_nonzero(mask) for mask in masks]


@pytest.mark.parametrize("index", [0, 7, FRAMES - 1])
def test_one_frame_of_a_cine_may_be_chosen(client, cine, masks, index) -> None:
    answer = client.post("/segment", params={"index": index}, content=cine, headers=DICOM)
    assert answer.headers["content-type"] == "application/json"
    assert (answer.json()["frame"]["index"], area(answer.json())) == (index, np.count_nonzero(masks[index]))
    assert client.post("/mask", params={"index": index}, content=cine, headers=DICOM).content == png(masks[index])


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ({}, 422, "several_frames"),
        ({"index": FRAMES}, 422, "no_such_frame"),
        ({"index": "9" * 30}, 422, "no_such_frame"),
        ({"index": -1}, 400, "index"),
        ({"index": "x"}, 400, "index"),
        ({"index": ""}, 400, "index"),
    ],
    ids=str,
)
def test_a_picture_of_a_cine_wants_to_know_of_which_frame(client, cine, query, status, code) -> None:
    for route in ("/mask", "/overlay"):
        answer = client.post(route, params=query, content=cine, headers=DICOM)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_a_damaged_frame_is_named_and_the_others_are_answered(client, damaged, masks) -> None:
    lines = [json.loads(line) for line in client.post("/segment", content=damaged, headers=DICOM).text.splitlines()]
    assert lines[5]["frame"] == {"index": 5}
    assert lines[5]["error"]["code"] == "malformed"
    for index in set(range(FRAMES)) - {5}:
        assert area(lines[index]) == np.count_nonzero(masks[index])


def test_a_segmentation_object_of_a_damaged_cine_is_refused(client, damaged) -> None:
    answer = client.post("/dicom", content=damaged, headers=DICOM)
    assert answer.status_code == 400
    assert "Frame 5" in answer.json()["error"]["message"]


def test_the_segmentation_object_holds_the_masks(client, card, cine, masks) -> None:
    answer = client.post("/dicom", content=cine, headers=DICOM)
    assert answer.headers["content-type"] == "application/dicom"
    assert answer.headers["x-model-run"] == card.run_id
    assert np.array_equal(dcmread(io.BytesIO(answer.content)).pixel_array * 255, masks)


def test_a_segmentation_object_needs_dicom(client, pixels) -> None:
    answer = client.post("/dicom", content=png(pixels[0]), headers={"content-type": "image/png"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "not_dicom")


def test_geojson_of_a_frame_and_of_a_cine(client, cine, masks, pixels) -> None:
    accept = {"accept": "application/geo+json"}
    one = client.post("/segment", content=png(pixels[3]), headers={"content-type": "image/png", **accept})
    assert one.headers["content-type"] == "application/geo+json"
    assert one.json()["properties"]["area_px"] == np.count_nonzero(masks[3])
    lines = client.post("/segment", content=cine, headers=DICOM | accept).text.splitlines()
    assert [json.loads(line)["properties"]["area_px"] for line in lines] == [np.count_nonzero(mask) for mask in masks]


def test_the_first_line_comes_before_the_last_is_made(address, client, speckle) -> None:
    """Not how fast, but in which order: the answer begins while most of it is still to be computed."""

    def looked_at() -> float:
        told = httpx.get(f"{address}/metrics").text
        return sum(float(count) for count in re.findall(r"^nervemask_frames_total{.*} (\S+)", told, re.M))

    long = written(ultrasound(np.stack([speckle(1, 480, 640)] * 400)))
    before = looked_at()
    with client.stream("POST", "/segment", content=long, headers=DICOM) as answer:
        lines = answer.iter_lines()
        next(lines)
        assert looked_at() - before < 400
        assert sum(1 for _ in lines) == 399
    assert looked_at() - before == 400


def test_a_done_frame_does_not_wait_for_the_next(segmenter) -> None:
    """The second frame takes as long as the first is not answered."""
    answered = threading.Event()

    class Slow:
        count = 3

        def encoded_at(self, index):
            return b""

        def decode(self, encoded, index):
            assert index < 2 or answered.wait(20)
            return Frame(np.zeros((32, 32), np.uint8), index=index)

    outcomes = chain.from_iterable(segmenter.see_all(Slow()))
    assert [next(outcomes).frame.index, next(outcomes).frame.index] == [0, 1]
    answered.set()
    assert next(outcomes).frame.index == 2


def test_a_cine_may_be_given_up_in_the_thread_that_looks_at_it(segmenter) -> None:
    """Garbage is collected wherever memory is asked for: a pool that waits for its own thread would fail there."""
    left, given_up = threading.Event(), threading.Event()

    class Leaving:
        count = 3

        def encoded_at(self, index):
            return b""

        def decode(self, encoded, index):
            if index == 2 and left.wait(20):
                outcomes.close()
                given_up.set()
            return Frame(np.zeros((32, 32), np.uint8), index=index)

    outcomes = segmenter.see_all(Leaving())
    assert [len(next(outcomes)), len(next(outcomes))] == [1, 1]
    left.set()
    assert given_up.wait(5)


def test_the_cine_is_read_a_frame_at_a_time(cine) -> None:
    class Watched(io.BytesIO):
        most = 0

        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            self.most = max(self.most, len(data))
            return data

    file = Watched(cine)
    opened = open_cine(file)
    for index in range(opened.count):
        opened.decode(opened.encoded_at(index), index)
    assert file.most <= 120 * 160


# The stream


def ask(address: str, query: str, messages: list[bytes | str], pause: float = 0.0) -> list[dict]:
    """Send all messages, then read the answers to all of them."""

    async def scene() -> list[dict]:
        async with connect(address.replace("http", "ws") + "/stream" + query) as socket:
            for message in messages:
                await socket.send(message)
                await asyncio.sleep(pause)
            answers: list[dict] = []
            while not answers or answers[-1]["message"] < len(messages) - 1:
                answers.append(json.loads(await asyncio.wait_for(socket.recv(), 20)))
            return answers

    return asyncio.run(scene())


def test_frames_are_answered_in_order(address, pixels, masks) -> None:
    answers = ask(address, "", [png(frame) for frame in pixels])
    assert [answer["message"] for answer in answers] == list(range(FRAMES))
    assert [area(answer) for answer in answers] == [np.count_nonzero(mask) for mask in masks]


def test_told_to_drop_it_drops_the_older_and_answers_the_newest(address, speckle) -> None:
    """Twenty frames come while a cine is under way."""
    long = written(ultrasound(np.stack([speckle(1, 300, 400)] * 100)))
    told = ask(address, "?drop=true", [long, *(png(speckle(seed)) for seed in range(20))])
    answers = told[100:]
    assert [answer["message"] for answer in answers] == list(range(1, 21))
    dropped = [answer for answer in answers if answer.get("dropped")]
    assert dropped
    assert all(answer == {"message": answer["message"], "dropped": True} for answer in dropped)
    assert "nerve" in answers[-1]


def test_what_is_no_frame_gets_an_error_and_the_stream_goes_on(address, pixels) -> None:
    answers = ask(address, "", ["hello", b"nonsense", b"", png(pixels[0])])
    assert [answer.get("error", {}).get("code") for answer in answers] == ["not_a_file", "unknown_type", "empty", None]
    assert "nerve" in answers[-1]


def test_a_cine_in_one_message_is_answered_frame_by_frame(address, cine, pixels) -> None:
    answers = ask(address, "?picture=mask", [cine, png(pixels[0])])
    assert [answer["frame"]["index"] for answer in answers] == [*range(FRAMES), 0]
    assert [answer["message"] for answer in answers] == [0] * FRAMES + [1]
    assert all(answer["picture"].startswith("data:image/png") for answer in answers)


@pytest.mark.parametrize("query", ["?picture=nonsense", "?drop=True", "?drop=1", "?dorp=true"])
def test_a_stream_with_unknown_settings_is_told_so_and_ended(address, query) -> None:
    async def scene() -> None:
        async with connect(address.replace("http", "ws") + "/stream" + query) as socket:
            assert json.loads(await socket.recv())["error"]["code"] == "settings"
            await socket.recv()

    with pytest.raises(ConnectionClosed, match="1008"):
        asyncio.run(scene())


def test_a_message_larger_than_the_documentation_allows_ends_the_stream(address) -> None:
    async def scene() -> int | None:
        async with connect(address.replace("http", "ws") + "/stream") as socket:
            with pytest.raises(ConnectionClosed) as closed:
                await socket.send(bytes(MESSAGE_BYTES + 1))
                await socket.recv()
            return closed.value.rcvd and closed.value.rcvd.code

    assert asyncio.run(scene()) == 1009


def test_another_sites_page_gets_no_stream(address) -> None:
    async def scene() -> None:
        headers = {"origin": "https://elsewhere.example"}
        async with connect(address.replace("http", "ws") + "/stream", additional_headers=headers):
            pass

    with pytest.raises(InvalidStatus, match="403"):
        asyncio.run(scene())


def test_streams_have_places_and_give_them_back(address, pixels) -> None:
    url = address.replace("http", "ws") + "/stream"

    async def scene() -> None:
        opened = []
        with pytest.raises(InvalidStatus, match="403"):
            for _ in range(2 * STREAMS_AT_ONCE + 1):  # of two workers
                opened.append(await connect(url))
        for socket in opened:
            await socket.close()
        for _ in range(50):
            try:
                async with connect(url) as socket:
                    await socket.send(png(pixels[0]))
                    assert "nerve" in json.loads(await socket.recv())
                    return
            except (InvalidStatus, ConnectionClosed):
                await asyncio.sleep(0.1)
        raise AssertionError("no place was given back")

    asyncio.run(scene())


def test_a_stream_that_breaks_off_disturbs_nobody(address, client, speckle) -> None:
    async def scene() -> None:
        socket = await connect(address.replace("http", "ws") + "/stream")
        for seed in range(8):
            await socket.send(png(speckle(seed, 1500, 2000)))
        socket.transport.abort()

    asyncio.run(scene())
    assert httpx.get(f"{address}/readyz").status_code == 200
    assert ask(address, "", [png(speckle(1))])[0]["nerve"]["area_px"]


def closed(model_folder, tmp_path, patch: str, messages: list[bytes]) -> tuple[int, str]:
    """How a stream of a server with other limits ends: code and reason."""

    async def scene(address: str) -> tuple[int, str]:
        async with connect(address.replace("http", "ws") + "/stream") as socket:
            with pytest.raises(ConnectionClosed) as ended:
                for message in messages:
                    await socket.send(message)
                while True:
                    await asyncio.wait_for(socket.recv(), 20)
            assert ended.value.rcvd
            return ended.value.rcvd.code, ended.value.rcvd.reason

    with patched(patch, model_folder, tmp_path) as server:
        return asyncio.run(scene(server.address))


def test_a_silent_stream_gives_its_place_back(model_folder, tmp_path) -> None:
    patch = "import service.stream\nservice.stream.SILENT_SECONDS = 0.5"
    assert closed(model_folder, tmp_path, patch, []) == (1001, "nothing came for 0 seconds")


def test_streams_hold_no_more_together_than_there_is_room_for(model_folder, tmp_path) -> None:
    patch = "import service.stream\nservice.stream.ROOM_BYTES = 1000"
    assert closed(model_folder, tmp_path, patch, [bytes(1001)]) == (1013, "too much is sent at once")


def test_a_stream_survives_a_fault_of_the_service(model_folder, tmp_path, speckle) -> None:
    patch = """
import service.stream
opened = service.stream.open_cine
def open_cine(file):
    if file.read(4) == b"trap":
        raise RuntimeError("a decoder's own fault")
    return opened(file)
service.stream.open_cine = open_cine"""
    with patched(patch, model_folder, tmp_path) as server:
        answers = ask(server.address, "", [b"trap", png(speckle(1))])
        assert "a decoder's own fault" in server.log.read_text()
    assert answers[0]["error"]["code"] == "internal"
    assert "decoder" not in answers[0]["error"]["message"]
    assert "nerve" in answers[1]
