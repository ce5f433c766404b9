"""The two proxies of compose.yaml, by a real nginx: TLS, client addresses, limits, and errors in the service's form."""

import json
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from service.errors import ErrorCode
from tests.conftest import RunningServer, free_port, serving
from tests.deploy.test_compose import SERVICES
from tests.deploy.test_ingress import add_key
from tests.deploy.test_manifests import DEPLOY

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(not shutil.which("nginx"), reason="nginx is not installed (Debian's package nginx-light)"),
]
PASSWORD = "prometheus's password"


@pytest.fixture(scope="module")
def secrets(tmp_path_factory) -> Path:
    """The files that the proxies read in /run/secrets."""
    folder = tmp_path_factory.mktemp("secrets")
    certificate = ["-keyout", folder / "service_key", "-out", folder / "service_certificate"]
    subject = ["-subj", "/CN=nervemask", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject, *certificate]
    subprocess.run(command, check=True, capture_output=True)
    password_hash = subprocess.run(
        ["openssl", "passwd", "-6", "-stdin"], input=PASSWORD, capture_output=True, text=True, check=True
    ).stdout
    (folder / "prometheus_users").write_text(f"admin:{password_hash}")
    return folder


@contextmanager
def nginx(name: str, folder: Path, secrets: Path, **replaced: str) -> Iterator[None]:
    """Run nginx with deploy/nginx/NAME.conf. replaced: what stands for a text of the configuration here."""
    shutil.copytree(DEPLOY / "nginx", folder / "conf")
    (folder / "tmp").mkdir()
    for file in (folder / "conf").iterdir():
        text = file.read_text().replace("/tmp/", f"{folder}/tmp/").replace("/run/secrets", str(secrets))
        for old, new in replaced.items():
            text = text.replace(old, new)
        file.write_text(text)
    command = ["nginx", "-c", str(folder / "conf" / f"{name}.conf"), "-g", "daemon off; user root;"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 30
        while not (folder / "tmp/nginx.pid").exists():
            assert process.poll() is None and time.monotonic() < deadline, process.communicate(timeout=1)
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.communicate(timeout=30)


@pytest.fixture(scope="module")
def pod(model_folder, tmp_path_factory) -> Iterator[tuple[RunningServer, str]]:
    """A service with the settings of compose.yaml, and a key."""
    folder = tmp_path_factory.mktemp("pod")
    key_file = folder / "keys"
    key = add_key(key_file, "ward-3")
    settings = SERVICES["service"]["environment"] | {
        "NERVEMASK_KEYS": str(key_file),
        "NERVEMASK_AUDIT": str(folder / "audit"),
        "NERVEMASK_CERTIFICATE": "",
    }
    del settings["NERVEMASK_MODEL"]  # `serving` sets it
    with serving(model_folder, folder, **settings) as server:
        yield server, key


Ingress = Callable[..., str]


@pytest.fixture
def ingress(pod, secrets, tmp_path) -> Iterator[Ingress]:
    """ingress(**replaced): run the ingress in front of the service, and return its address."""
    with ExitStack() as stack:

        def run(**replaced: str) -> str:
            port = free_port()
            usual = {"listen 3000": f"listen 127.0.0.1:{port}", "http://nervemask:3000": pod[0].address}
            stack.enter_context(nginx("ingress", tmp_path, secrets, **usual | replaced))
            return f"https://localhost:{port}"

        yield run


@pytest.fixture
def trusting(secrets) -> ssl.SSLContext:
    """A client's TLS settings that trust the certificate."""
    return ssl.create_default_context(cafile=str(secrets / "service_certificate"))


def audit_lines(pod) -> list[dict[str, object]]:
    return [json.loads(line) for line in (pod[0].log.parent / "audit").read_text().splitlines()]


def assert_error(response: httpx.Response, status: int, code: ErrorCode) -> None:
    assert response.status_code == status and status in code.statuses
    assert response.headers["content-type"] == "application/json"
    assert response.json()["error"]["code"] == code


def test_a_mask_and_a_stream_pass_the_ingress(pod, ingress, trusting, same_frame) -> None:
    address = ingress()
    server, key = pod
    frame, headers = same_frame["8-bit PNG"], {"x-api-key": key}
    with httpx.Client(verify=trusting, headers=headers, timeout=30) as client:
        through = client.post(f"{address}/mask", files={"frame": frame})
    direct = httpx.post(f"{server.address}/mask", files={"frame": frame}, headers=headers, timeout=30)
    assert through.status_code == direct.status_code == 200 and through.content == direct.content
    with connect(f"{address.replace('https', 'wss')}/stream", ssl=trusting, additional_headers=headers) as stream:
        stream.send(frame)
        assert json.loads(stream.recv(timeout=30))["nerve"]["present"] in (True, False)


def test_a_client_cannot_choose_its_address(pod, ingress, trusting) -> None:
    headers = {"x-forwarded-for": "192.0.2.66", "x-api-key": pod[1]}
    with httpx.Client(verify=trusting, headers=headers) as client:
        assert client.get(f"{ingress()}/model").status_code == 200
    clients = {line["client"] for line in audit_lines(pod)}
    assert "127.0.0.1" in clients and "192.0.2.66" not in clients


def test_the_address_from_a_trusted_proxy_is_believed(pod, ingress, trusting) -> None:
    trusted = {
        "# Addresses of your own proxies": "set_real_ip_from 127.0.0.1;\nreal_ip_header X-Forwarded-For;\n# Addresses"
    }
    headers = {"x-forwarded-for": "192.0.2.77", "x-api-key": pod[1]}
    with httpx.Client(verify=trusting, headers=headers) as client:
        assert client.get(f"{ingress(**trusted)}/model").status_code == 200
    assert "192.0.2.77" in {line["client"] for line in audit_lines(pod)}


def test_too_much_gets_an_error_in_the_services_form(ingress, trusting) -> None:
    address = ingress(**{"client_max_body_size 513m": "client_max_body_size 1m"})
    with httpx.Client(verify=trusting) as client:
        assert_error(client.post(f"{address}/mask", content=bytes(2**20 + 1)), 413, ErrorCode.TOO_LARGE)
        assert_error(client.get(f"{address}/livez", headers={"x": "a" * 9000}), 400, ErrorCode.BAD_REQUEST)
        assert_error(client.get(f"{address}/livez", headers={"x": "a" * 40_000}), 400, ErrorCode.BAD_REQUEST)
        too_long = client.get(f"{address}/livez?{'a' * 9000}")
        assert too_long.status_code == 414 and too_long.json()["error"]["message"] == "The address is too long."


def test_one_address_has_a_limited_number_of_requests(ingress, trusting) -> None:
    address = ingress(**{"rate=200r/s": "rate=1r/m", "burst=400": "burst=3"})
    with httpx.Client(verify=trusting) as client:
        responses = [client.get(f"{address}/livez") for _ in range(6)]
    assert [response.status_code for response in responses] == [200] * 4 + [429] * 2
    assert_error(responses[-1], 429, ErrorCode.TOO_MANY)
    assert responses[-1].headers["retry-after"] == "1"


def test_one_address_has_a_limited_number_of_connections(pod, ingress, trusting) -> None:
    address = ingress(**{"connections 256": "connections 2"})
    options = {"ssl": trusting, "additional_headers": {"x-api-key": pod[1]}}
    stream = f"{address.replace('https', 'wss')}/stream"
    with connect(stream, **options), connect(stream, **options):
        assert_error(httpx.get(f"{address}/livez", verify=trusting), 429, ErrorCode.TOO_MANY)


def test_a_service_that_is_down_is_not_ready(ingress, trusting, pod) -> None:
    address = ingress(**{pod[0].address: f"http://127.0.0.1:{free_port()}"})
    assert_error(httpx.get(f"{address}/livez", verify=trusting), 503, ErrorCode.NOT_READY)


def test_a_slow_head_loses_its_connection(ingress, trusting) -> None:
    address = ingress(**{"client_header_timeout 10s": "client_header_timeout 1s"})
    with httpx.Client(verify=trusting) as client:
        client.get(f"{address}/livez")
        stream = client._transport._pool.connections[0]._connection._network_stream
        stream.write(b"GET /livez HTTP/1.1\r\nhost: a\r\nx: ")
        assert stream.read(1, timeout=30) == b""


class EchoHandler(BaseHTTPRequestHandler):
    """Responds with the headers and the length of the body that it received."""

    def do_GET(self) -> None:
        length = len(self.rfile.read(int(self.headers.get("content-length", 0))))
        body = json.dumps({"length": length, **{name.lower(): value for name, value in self.headers.items()}}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_PUT = do_GET  # noqa: N815 - http.server's name

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def admin(secrets, tmp_path) -> Iterator[dict[int, str]]:
    """The admin proxy in front of a server that echoes: its addresses by the port in compose.yaml."""
    ports = {port: free_port() for port in (5000, 8333, 9090, 3001, 8080)}
    with ThreadingHTTPServer(("127.0.0.1", 0), EchoHandler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        upstreams = {
            f"http://{name}": f"http://127.0.0.1:{server.server_port}"
            for name in ("mlflow:5000", "s3:8333", "prometheus:9090", "grafana:3000")
        }
        listening = {f"listen {port};": f"listen 127.0.0.1:{free};" for port, free in ports.items()}
        listening |= {"listen 127.0.0.1:8080;": f"listen 127.0.0.1:{ports[8080]};"}
        with nginx("admin", tmp_path, secrets, **listening | upstreams):
            yield {port: f"http://127.0.0.1:{free}" for port, free in ports.items()}
        server.shutdown()


def test_prometheus_is_behind_a_password(admin) -> None:
    assert httpx.get(admin[9090]).status_code == 401
    assert httpx.get(admin[9090], auth=("admin", "wrong")).status_code == 401
    received = httpx.get(admin[9090], auth=("admin", PASSWORD)).json()
    assert "authorization" not in received


@pytest.mark.parametrize("port", [5000, 8333, 3001])
def test_the_others_get_their_own_passwords_and_host(admin, port) -> None:
    """S3's signature covers the Host header."""
    received = httpx.get(admin[port], auth=("user", "password")).json()
    assert received["authorization"].startswith("Basic ") and f"http://{received['host']}" == admin[port]


@pytest.mark.parametrize(("port", "status"), [(5000, 200), (8333, 200), (9090, 413), (3001, 413)])
def test_only_artifacts_and_data_may_be_large(admin, port, status) -> None:
    response = httpx.put(f"{admin[port]}/file", content=bytes(2**21), auth=("admin", PASSWORD))
    assert response.status_code == status
    assert status != 200 or response.json()["length"] == 2**21


def test_the_ports_of_compose_are_those_of_the_proxies() -> None:
    """And the health check of a proxy asks it something that it answers."""
    text = (DEPLOY / "nginx/admin.conf").read_text()
    for port in SERVICES["admin"]["ports"]:
        assert f"listen {port.rpartition(':')[2]};" in text
    assert SERVICES["admin"]["healthcheck"]["test"][-1] == "http://127.0.0.1:8080/" and "127.0.0.1:8080;" in text
    assert SERVICES["ingress"]["ports"] == ["3000:3000"]
    assert "listen 3000 ssl;" in (DEPLOY / "nginx/ingress.conf").read_text()
