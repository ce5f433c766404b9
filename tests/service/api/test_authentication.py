"""Without a valid API key only the probes respond. Keys come and go while the service runs."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.responses import Response
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from service.api.api_key_file import hash_key, write_key_hashes
from service.api.authentication import (
    MAX_REFUSAL_DELAY_SECONDS,
    ApiKeyMiddleware,
)
from service.api.wrong_key_limiter import MAX_FREE_WRONG_KEYS
from service.rendering.image_encoding import encode_png
from service.resources.worker_count import worker_count
from tests.conftest import RunningServer, serving
from tests.service.api.asgi import PNG
from tests.service.api.virtual_time import VirtualTimeLoop, run_in_virtual_time

ROOT = Path(__file__).parents[3]
KEY, OTHER_KEY = "the key of the PACS", "the key of ward 3"


# The middleware alone


def test_after_too_many_wrong_keys_a_client_waits_for_its_response(tmp_path, monkeypatch) -> None:
    write_key_hashes(tmp_path / "keys.txt", {"pacs": hash_key(KEY)})
    monkeypatch.setenv("NERVEMASK_KEYS", str(tmp_path / "keys.txt"))

    async def send_keys() -> tuple[list[httpx.Response], float, httpx.Response]:
        transport = httpx.ASGITransport(ApiKeyMiddleware(Response()))
        async with httpx.AsyncClient(transport=transport, base_url="http://inside") as client:
            wrong = [
                await client.get("/model", headers={"x-api-key": f"wrong {number}"})
                for number in range(MAX_FREE_WRONG_KEYS + 1)
            ]
            loop = asyncio.get_running_loop()
            assert isinstance(loop, VirtualTimeLoop)
            return wrong, loop.time(), await client.get("/model", headers={"x-api-key": KEY})

    wrong, seconds, right = run_in_virtual_time(send_keys())
    assert [response.status_code for response in wrong] == [401] * MAX_FREE_WRONG_KEYS + [429]
    assert wrong[-1].headers["retry-after"] == "2"
    assert seconds == MAX_REFUSAL_DELAY_SECONDS
    assert right.status_code == 200


# With a server


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "keys.txt"
    write_key_hashes(path, {"pacs": hash_key(KEY)})
    return path


@pytest.fixture(scope="module")
def server(model_folder: Path, tmp_path_factory, key_file: Path) -> Iterator[RunningServer]:
    """A server with one key."""
    folder = tmp_path_factory.mktemp("server")
    with serving(model_folder, folder, NERVEMASK_KEYS=str(key_file), NERVEMASK_METRICS="key") as server:
        yield server


@pytest.mark.server
def test_without_a_key_only_the_probes_respond(server) -> None:
    from service.api.routes import starlette_app

    probes = ("/healthz", "/livez", "/readyz")
    paths = {getattr(route, "path", "") for route in starlette_app.routes}
    paths |= {"/page/app.js", *probes, "/schema.json", "/static_content/index.css", "/nowhere"}
    paths -= {"/page", "/stream", ""}
    assert {"/", "/mask", "/segment", "/overlay", "/dicom", "/model", "/docs.json", "/metrics"} <= paths
    with httpx.Client(base_url=server.address) as client:
        for path in sorted(paths):
            for method in ("GET", "POST", "OPTIONS", "DELETE", "HEAD"):
                response = client.request(method, path)
                if path in probes:
                    assert response.status_code in (200, 405), (method, path)
                else:
                    assert response.status_code == 401, (method, path)
                    assert "access-control-allow-origin" not in response.headers
                    assert "server" not in response.headers


@pytest.mark.server
@pytest.mark.parametrize("form", ["bearer", "header", "browser"])
def test_a_key_opens_every_route(server, speckle, form) -> None:
    headers = {"bearer": {"authorization": f"Bearer {KEY}"}, "header": {"x-api-key": KEY}, "browser": {}}[form]
    auth = ("any name", KEY) if form == "browser" else None
    with httpx.Client(base_url=server.address, headers=headers, auth=auth) as client:
        for path in ("/", "/model", "/docs.json", "/metrics", "/page/app.js"):
            assert client.get(path).status_code == 200
        assert client.post("/mask", content=encode_png(speckle(1)), headers=PNG).status_code == 200


@pytest.mark.server
def test_a_stream_needs_a_key(server, speckle) -> None:
    url = server.address.replace("http", "ws") + "/stream"

    async def open_streams() -> None:
        for headers in ({}, {"x-api-key": "wrong"}):
            with pytest.raises(InvalidStatus, match="401"):
                await connect(url, additional_headers=headers)
        async with connect(url, additional_headers={"x-api-key": KEY}) as socket:
            await socket.send(encode_png(speckle(1)))
            assert '"present"' in str(await socket.recv())

    asyncio.run(open_streams())


@pytest.mark.server
def test_keys_are_added_and_removed_while_the_service_runs(server, key_file) -> None:
    def status() -> int:
        return httpx.get(f"{server.address}/model", headers={"x-api-key": OTHER_KEY}).status_code

    write_key_hashes(key_file, {"pacs": hash_key(KEY), "ward-3": hash_key(OTHER_KEY)})
    assert status() == 200
    write_key_hashes(key_file, {"pacs": hash_key(KEY)})
    assert status() == 401


@pytest.mark.server
def test_a_stream_ends_at_the_next_message_after_its_key_is_removed(server, key_file, speckle) -> None:
    url, frame = server.address.replace("http", "ws") + "/stream", encode_png(speckle(1))

    async def open_stream() -> ConnectionClosed:
        async with connect(url, additional_headers={"x-api-key": OTHER_KEY}) as socket:
            await socket.send(frame)
            assert '"present"' in str(await socket.recv())
            write_key_hashes(key_file, {"pacs": hash_key(KEY)})
            await socket.send(frame)
            with pytest.raises(ConnectionClosed) as closed:
                await socket.recv()
            return closed.value

    write_key_hashes(key_file, {"pacs": hash_key(KEY), "ward-3": hash_key(OTHER_KEY)})
    close = asyncio.run(open_stream()).rcvd
    assert close and (close.code, close.reason) == (1008, "the API key is no longer valid")


@pytest.mark.server
def test_refusals_without_a_key_are_one_line_for_each_worker(model_folder, key_file, tmp_path) -> None:
    """Also what is not written yet when the server ends. A request with a key has a line of its own."""
    audit = tmp_path / "audit.jsonl"
    environment = {"NERVEMASK_KEYS": str(key_file), "NERVEMASK_AUDIT": str(audit)}
    with serving(model_folder, tmp_path, **environment) as server, httpx.Client(base_url=server.address) as client:
        for number in range(200):
            client.get("/model", headers={"x-api-key": f"wrong {number}"} if number < 3 else {})
        client.get("/nowhere", headers={"x-api-key": KEY})
    lines = [json.loads(line) for line in audit.read_text().splitlines()]
    refused = [line for line in lines if line.get("event") == "refused_without_key"]
    assert sum(line["statuses"]["401"] for line in refused) == 200
    assert len(refused) <= worker_count()
    assert [line["status"] for line in lines if "status" in line] == [404]


@pytest.mark.server
def test_wrong_keys_are_counted_and_refused_and_right_keys_are_not(server) -> None:
    with httpx.Client(base_url=server.address) as client:  # one connection, so one worker
        for number in range(MAX_FREE_WRONG_KEYS + 1):
            response = client.get("/model", headers={"x-api-key": f"wrong {number}"})
        assert response.status_code == 429
        assert client.get("/model", headers={"x-api-key": KEY}).status_code == 200
        metrics = client.get("/metrics", headers={"x-api-key": KEY}).text
    count = re.search(r"^nervemask_wrong_keys_total (\S+)", metrics, re.M)
    assert count
    assert float(count[1]) >= MAX_FREE_WRONG_KEYS + 1


@pytest.mark.server
def test_the_batch_client_sends_its_key(server, speckle, tmp_path) -> None:
    (tmp_path / "a.png").write_bytes(encode_png(speckle(1)))
    command = [sys.executable, "-m", "service.client", tmp_path / "a.png", "--out", tmp_path / "m.png"]
    command += ["--server", server.address]
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "Send a key" in refused.stderr
    subprocess.run(command, cwd=ROOT, env={**os.environ, "NERVEMASK_KEY": KEY}, check=True)
    assert (tmp_path / "m.png").exists()
