"""The bridge's HTTP client repeats a request while its server is unavailable, but not without end if it fails."""

import io
import json
import logging
import threading
from collections.abc import Callable

import httpx
import pytest

from service.clients import bridge_http_client
from service.clients.bridge_http_client import BridgeHttpClient, RejectedError, StopBridgeError
from service.clients.response_forms import MODEL_DESCRIPTION


def make_client(respond: Callable[[httpx.Request], httpx.Response], once: bool = False) -> BridgeHttpClient:
    client = BridgeHttpClient("the service", httpx.URL("http://service"), None, threading.Event(), once)
    client.client = httpx.Client(base_url="http://service", transport=httpx.MockTransport(respond))
    return client


def reply(status: int, body: object = "") -> httpx.Response:
    """Return a response whose body is not read yet, as a server's."""
    return httpx.Response(status, stream=httpx.ByteStream(json.dumps(body).encode()))


@pytest.fixture(autouse=True)
def no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge_http_client, "backoff_seconds", lambda attempt: 0)


@pytest.mark.parametrize("status", [429, 502, 503])
def test_a_request_is_repeated_until_the_server_is_available(caplog, status) -> None:
    responses = iter([reply(status) for _ in range(20)] + [reply(200, {"run_id": "a"})])
    with caplog.at_level(logging.INFO):
        assert make_client(lambda request: next(responses)).request("GET", "/model", MODEL_DESCRIPTION).run_id == "a"
    assert [record.levelname for record in caplog.records if "nervemask" in record.name] == ["WARNING", "INFO"]


@pytest.mark.parametrize("once", [True, False])
@pytest.mark.parametrize("status", [500, 504, None], ids=["500", "504", "connection lost"])
def test_a_request_that_the_server_fails_on_is_given_up(status, once) -> None:
    bodies = []

    def respond(request: httpx.Request) -> httpx.Response:
        bodies.append(request.read())
        if status is None:
            raise httpx.ReadError("connection lost")
        return reply(status)

    with pytest.raises(RejectedError):
        make_client(respond, once).request(
            "POST", "/dicom", io.BytesIO(), body=io.BytesIO(b"the file"), max_server_failures=5
        )
    assert bodies == [b"the file"] * 5


def test_a_final_status_is_not_repeated() -> None:
    responses = iter([reply(422, {"error": {"code": "too_small", "message": "secret"}})])
    with pytest.raises(RejectedError, match=r"^the service: status 422 too_small$"):
        make_client(lambda request: next(responses)).request("POST", "/dicom", io.BytesIO(), final_statuses=(422,))


def test_once_does_not_wait_for_a_busy_server() -> None:
    with pytest.raises(StopBridgeError, match=r"the service is unavailable \(http://service: status 503\)"):
        make_client(lambda request: reply(503), once=True).request("GET", "/model", MODEL_DESCRIPTION)
