"""`python -m service` serves TLS, and does not start with settings that cannot work."""

import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from service.api.shared_socket_server import MAX_TLS_HANDSHAKES
from service.resources.worker_count import worker_count
from tests.conftest import free_port, start, wait_until_ready

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.server


def error_of_start(model: Path, port: int) -> str:
    """The one line that a server prints when it must not start."""
    server = subprocess.run(
        [sys.executable, "-m", "service", "--port", str(port)],
        cwd=ROOT,
        env={**os.environ, "NERVEMASK_MODEL": str(model)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert server.returncode == 1
    assert server.stdout == ""
    assert server.stderr.startswith("nervemask: ")
    assert server.stderr.count("\n") == 1
    return server.stderr


def test_it_does_not_start_without_a_writable_folder(model_folder, monkeypatch) -> None:
    monkeypatch.setenv("BENTOML_HOME", "/proc/nowhere")
    error = error_of_start(model_folder, free_port())
    assert "cannot write to /proc/nowhere" in error and "set BENTOML_HOME" in error


def test_it_does_not_start_on_a_port_in_use(model_folder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert str(port) in error_of_start(model_folder, port)


@pytest.mark.parametrize("command", [["-m", "service"], ["-m", "bentoml", "serve", "service.app:Nervemask"]])
def test_it_does_not_start_beyond_loopback_without_keys(model_folder, command) -> None:
    environment = {
        name: value for name, value in os.environ.items() if name not in ("NERVEMASK_OPEN", "NERVEMASK_KEYS")
    }
    server = subprocess.run(
        [sys.executable, *command, "--host", "0.0.0.0", "--port", "3999"],
        cwd=ROOT,
        env={**environment, "NERVEMASK_MODEL": str(model_folder)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert server.returncode == 1
    assert "service.keys add" in server.stderr
    assert "NERVEMASK_OPEN=yes" in server.stderr


@pytest.mark.parametrize("name", ["NERVEMASK_METRICS", "NERVEMASK_LOG", "NERVEMASK_SPOOL_MIB", "NERVEMASK_WORKERS"])
def test_it_does_not_start_with_an_unknown_value_of_a_setting(model_folder, tmp_path, monkeypatch, name) -> None:
    monkeypatch.setenv(name, "sometimes")
    monkeypatch.setenv("NERVEMASK_SPOOL", str(tmp_path / "spool"))
    with (tmp_path / "log").open("wb") as log:
        assert start(model_folder, free_port(), log).wait(300) == 1
    error = (tmp_path / "log").read_text()
    assert name in error and "'sometimes'" in error


def test_it_does_not_start_with_an_invalid_certificate(model_folder, tmp_path) -> None:
    (tmp_path / "cert.pem").write_text("nothing")
    options = ["--certificate", str(tmp_path / "cert.pem"), "--private-key", str(tmp_path / "cert.pem")]
    with (tmp_path / "log").open("wb") as log:
        assert start(model_folder, free_port(), log, *options).wait(300) == 1
    assert "cannot use the certificate" in (tmp_path / "log").read_text()


def test_the_service_imports_no_training_library() -> None:
    libraries = "{'tensorflow', 'keras', 'mlflow', 'dvc', 'training'}"
    code = f"import sys, service.app; print(*{libraries} & set(sys.modules))"
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert process.stdout == "\n"


# TLS


@dataclass
class TlsServer:
    """A server with a certificate of its own. trust: what its clients trust; port: of 127.0.0.1."""

    process: subprocess.Popen[bytes]
    port: int
    certificate: Path

    @property
    def address(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.certificate))


@pytest.fixture(scope="module")
def tls_server(model_folder, tmp_path_factory) -> Iterator[TlsServer]:
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    options = ["--certificate", str(folder / "cert.pem"), "--private-key", str(folder / "key.pem")]
    port = free_port()
    with (folder / "log").open("wb") as log:
        server = TlsServer(start(model_folder, port, log, *options), port, folder / "cert.pem")
        try:
            wait_until_ready(server.address, server.process, server.trust)
            yield server
        finally:
            server.process.terminate()
            server.process.wait(60)


def test_it_serves_tls_and_only_tls(tls_server) -> None:
    assert httpx.get(f"{tls_server.address}/model", verify=tls_server.trust).status_code == 200
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{tls_server.port}/model")


@pytest.mark.parametrize(
    ("options", "accepted"),
    [
        (["-tls1_3"], True),
        (["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"], True),
        (["-tls1_2", "-cipher", "ECDHE-RSA-AES256-GCM-SHA384"], True),
        (["-tls1_2", "-cipher", "ECDHE-RSA-CHACHA20-POLY1305"], True),
        (["-tls1_2", "-cipher", "ECDHE-RSA-AES128-SHA"], False),  # CBC with SHA-1
        (["-tls1_2", "-cipher", "ECDHE-RSA-AES256-SHA384"], False),  # CBC
        (["-tls1_2", "-cipher", "AES128-GCM-SHA256"], False),  # without forward secrecy
        (["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], False),
    ],
)
def test_it_accepts_only_authenticated_encryption_with_forward_secrecy(tls_server, options, accepted) -> None:
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{tls_server.port}", *options]
    client = subprocess.run(command, input="", capture_output=True, text=True, timeout=60)
    assert (client.returncode == 0) is accepted, client.stderr
    assert ("Verification" in client.stdout and "Cipher is (NONE)" not in client.stdout) is accepted


def test_it_reports_when_the_certificate_ends(tls_server) -> None:
    metrics = httpx.get(f"{tls_server.address}/metrics", verify=tls_server.trust).text
    (line,) = (line for line in metrics.splitlines() if line.startswith("nervemask_certificate_expiry"))
    assert line.startswith('nervemask_certificate_expiry_timestamp_seconds{file="cert.pem"} ')
    assert 0.9 < (float(line.split()[1]) - time.time()) / 86400 < 1.1


@pytest.mark.parametrize("trusts", [False, True])
def test_the_batch_client_needs_the_certificate(tls_server, tmp_path, trusts) -> None:
    (tmp_path / "frame.png").write_bytes(b"")
    command = [sys.executable, "-m", "service.client", str(tmp_path / "frame.png"), "--out", str(tmp_path / "mask.png")]
    client = subprocess.run(
        [*command, "--server", tls_server.address],
        cwd=ROOT,
        env={**os.environ, "SSL_CERT_FILE": str(tls_server.certificate) if trusts else ""},
        capture_output=True,
        text=True,
    )
    assert ("empty" if trusts else "SSL_CERT_FILE") in client.stderr


@pytest.mark.serial
def test_unfinished_tls_handshakes_block_no_other_client(tls_server) -> None:
    with ExitStack() as stack:
        count = 2 * worker_count() * MAX_TLS_HANDSHAKES
        for _ in range(count):
            stack.enter_context(socket.create_connection(("127.0.0.1", tls_server.port)))
        response = httpx.get(f"{tls_server.address}/model", verify=tls_server.trust, timeout=60)
        assert response.status_code == 200
        workers = psutil.Process(tls_server.process.pid).children()
        assert sum(len(worker.net_connections()) for worker in workers) < count
