"""Who may ask: without a key nothing but the probes answers, and keys come and go while the service runs."""

import asyncio
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import psutil
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from service.connections import BEGUN
from service.keys import CLIENTS, FREE_TRIES, SLOWED_SECONDS, Failures, Keys, KeysError, read
from service.machine import WORKERS
from service.pictures import png
from tests.conftest import Serving, free_port, serving, start, wait_until_ready

ROOT = Path(__file__).parent.parent
PNG = {"content-type": "image/png"}


def keys(file: Path, *arguments: str) -> str:
    """`python -m service.keys`: what it prints."""
    command = [sys.executable, "-m", "service.keys", *arguments]
    environment = {**os.environ, "NERVEMASK_KEYS": str(file)}
    return subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "keys.txt"


@pytest.fixture(scope="module")
def key(file: Path) -> str:
    return keys(file, "add", "pacs")


@pytest.fixture(scope="module")
def locked(model_folder: Path, tmp_path_factory, file: Path, key: str) -> Iterator[Serving]:
    """A server with one key."""
    folder = tmp_path_factory.mktemp("locked")
    with serving(model_folder, folder, NERVEMASK_KEYS=str(file), NERVEMASK_METRICS="key") as server:
        yield server


def test_without_a_key_nothing_but_the_probes_answers(locked) -> None:
    from service.app import Nervemask
    from service.pages import pages

    paths = {getattr(route, "path", "") for route in pages.routes} | {api.route for api in Nervemask.apis.values()}
    paths |= {"/page/app.js", "/healthz", "/livez", "/readyz", "/schema.json", "/static_content/index.css", "/nowhere"}
    paths -= {"/page", "/stream", ""}
    assert {"/", "/mask", "/segment", "/overlay", "/dicom", "/model", "/docs.json", "/metrics"} <= paths
    for path in sorted(paths):
        for method in ("GET", "POST", "OPTIONS", "DELETE", "HEAD"):
            answer = httpx.request(method, locked.address + path)
            if path in ("/healthz", "/livez", "/readyz"):
                assert answer.status_code in (200, 405), (method, path)
            else:
                assert answer.status_code == 401, (method, path)
                assert "access-control-allow-origin" not in answer.headers
                assert "server" not in answer.headers


@pytest.mark.parametrize("way", ["bearer", "header", "browser"])
def test_a_key_opens_every_route(locked, key, speckle, way) -> None:
    headers = {"bearer": {"authorization": f"Bearer {key}"}, "header": {"x-api-key": key}, "browser": {}}[way]
    auth = ("anybody", key) if way == "browser" else None
    with httpx.Client(base_url=locked.address, headers=headers, auth=auth) as client:
        for path in ("/", "/model", "/docs.json", "/metrics", "/page/app.js"):
            assert client.get(path).status_code == 200
        assert client.post("/mask", content=png(speckle(1)), headers=PNG).status_code == 200


def test_a_stream_needs_a_key(locked, key, speckle) -> None:
    url = locked.address.replace("http", "ws") + "/stream"

    async def scene() -> None:
        for headers in ({}, {"x-api-key": "wrong"}):
            with pytest.raises(InvalidStatus, match="401"):
                await connect(url, additional_headers=headers)
        async with connect(url, additional_headers={"x-api-key": key}) as socket:
            await socket.send(png(speckle(1)))
            assert '"present"' in str(await socket.recv())

    asyncio.run(scene())


def test_keys_come_and_go_while_it_runs(locked, file) -> None:
    other = keys(file, "add", "ward-3")
    assert httpx.get(f"{locked.address}/model", headers={"x-api-key": other}).status_code == 200
    assert other not in file.read_text()
    assert file.stat().st_mode & 0o77 == 0
    file.chmod(0o444)  # so that a container's user may read it
    keys(file, "remove", "ward-3")
    assert file.stat().st_mode & 0o777 == 0o444
    assert httpx.get(f"{locked.address}/model", headers={"x-api-key": other}).status_code == 401


def test_wrong_keys_are_counted_and_told_to_wait_and_right_ones_are_not(locked, key) -> None:
    with httpx.Client(base_url=locked.address) as client:  # one connection: one worker
        found = [client.get("/model", headers={"x-api-key": f"wrong{n}"}) for n in range(FREE_TRIES + 3)]
        assert found[0].status_code == 401
        assert found[-1].status_code == 429
        assert int(found[-1].headers["retry-after"]) >= 2
        assert found[-1].elapsed.total_seconds() >= SLOWED_SECONDS
        assert client.get("/model", headers={"x-api-key": key}).status_code == 200
        told = client.get("/metrics", headers={"x-api-key": key}).text
    counted = re.search(r"^nervemask_key_failures_total (\S+)", told, re.M)
    assert counted
    assert float(counted[1]) >= FREE_TRIES + 3


def test_the_client_sends_the_key(locked, key, speckle, tmp_path) -> None:
    (tmp_path / "a.png").write_bytes(png(speckle(1)))
    command = [sys.executable, "-m", "service.client", tmp_path / "a.png", "--out", tmp_path / "m.png"]
    command += ["--server", locked.address]
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "Send a key" in refused.stderr
    subprocess.run(command, cwd=ROOT, env={**os.environ, "NERVEMASK_KEY": key}, check=True)
    assert (tmp_path / "m.png").exists()


@pytest.mark.parametrize("command", [["-m", "service"], ["-m", "bentoml", "serve", "service.app:Nervemask"]])
def test_beyond_loopback_it_does_not_start_without_keys(model_folder, command) -> None:
    open_ones = ("NERVEMASK_OPEN", "NERVEMASK_KEYS")
    environment = {name: value for name, value in os.environ.items() if name not in open_ones}
    done = subprocess.run(
        [sys.executable, *command, "--host", "0.0.0.0", "--port", "3999"],
        cwd=ROOT,
        env={**environment, "NERVEMASK_MODEL": str(model_folder)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "service.keys add" in done.stderr
    assert "NERVEMASK_OPEN=yes" in done.stderr


@pytest.mark.parametrize("text", ["pacs", "pacs 123", f"pacs {'0' * 64}\npacs {'1' * 64}", f"a b {'0' * 64}"])
def test_a_spoilt_file_is_refused_and_changes_nothing_while_it_runs(tmp_path, text) -> None:
    path = tmp_path / "keys.txt"
    key = keys(path, "add", "pacs")
    running = Keys(path)
    assert running.name_of(key) == "pacs"
    path.write_text(text)
    assert running.name_of(key) == "pacs"
    with pytest.raises(KeysError, match="line"):
        read(path)


def test_what_is_remembered_of_wrong_keys_is_bounded() -> None:
    failures = Failures(lambda: 0.0)
    for number in range(2 * CLIENTS):
        failures.pause(f"client {number}")
    assert len(failures.seen) == CLIENTS


def test_a_client_is_an_address_or_an_ipv6_network() -> None:
    failures = Failures(lambda: 0.0)
    pauses = [failures.pause(f"2001:db8::{n:x}") for n in range(FREE_TRIES + 2)]
    assert pauses[FREE_TRIES:] == [2, 4]
    assert failures.pause("192.0.2.1") == 0


def test_it_speaks_tls(model_folder, tmp_path) -> None:
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    made += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"]
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    subprocess.run(made, cwd=tmp_path, check=True, capture_output=True)
    options = ["--certificate", str(tmp_path / "cert.pem"), "--private-key", str(tmp_path / "key.pem")]
    port = free_port()
    with (tmp_path / "log").open("wb") as said:
        server = start(model_folder, port, said, *options)
        try:
            trusted = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
            wait_until_ready(f"https://127.0.0.1:{port}", server, trusted)
            assert httpx.get(f"https://127.0.0.1:{port}/model", verify=trusted).status_code == 200
            with pytest.raises(httpx.TransportError):
                httpx.get(f"http://127.0.0.1:{port}/model")
            (tmp_path / "frame.png").write_bytes(b"")
            for trust, told in (("", "SSL_CERT_FILE names"), (str(tmp_path / "cert.pem"), "empty")):
                asked = [*("-m", "service.client", str(tmp_path / "frame.png"), "--out", str(tmp_path / "mask.png"))]
                done = subprocess.run(
                    [sys.executable, *asked, "--server", f"https://127.0.0.1:{port}"],
                    env={**os.environ, "SSL_CERT_FILE": trust},
                    capture_output=True,
                    text=True,
                )
                assert told in done.stderr
            with ExitStack() as stack:  # many that connect, and say nothing
                for _ in range(idlers := 2 * WORKERS * BEGUN):
                    stack.enter_context(socket.create_connection(("127.0.0.1", port)))
                answer = httpx.get(f"https://127.0.0.1:{port}/model", verify=trusted, timeout=60)
                assert answer.status_code == 200
                workers = psutil.Process(server.pid).children()
                assert sum(len(one.net_connections()) for one in workers) < idlers
        finally:
            server.terminate()
            server.wait(30)


@pytest.mark.parametrize("name", ["NERVEMASK_METRICS", "NERVEMASK_LOG", "NERVEMASK_SPOOL_MIB"])
def test_a_setting_that_is_not_known_is_refused_at_once(model_folder, tmp_path, monkeypatch, name) -> None:
    monkeypatch.setenv(name, "sometimes")
    monkeypatch.setenv("NERVEMASK_SPOOL", str(tmp_path / "spool"))
    with (tmp_path / "log").open("wb") as said:
        assert start(model_folder, free_port(), said).wait(30) == 1
    told = (tmp_path / "log").read_text()
    assert f"{name} is " in told and "'sometimes'" in told


def test_what_is_no_certificate_is_refused_at_once(model_folder, tmp_path) -> None:
    (tmp_path / "cert.pem").write_text("nothing")
    with (tmp_path / "log").open("wb") as said:
        options = ["--certificate", str(tmp_path / "cert.pem"), "--private-key", str(tmp_path / "cert.pem")]
        assert start(model_folder, free_port(), said, *options).wait(30) == 1
    assert "no certificate" in (tmp_path / "log").read_text()
