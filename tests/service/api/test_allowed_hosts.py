"""A service without keys answers only requests for this machine: no page of another site can read masks."""

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from service.api.allowed_hosts import ANY_HOST, VARIABLE, allowed_hosts, is_allowed
from service.errors import ErrorCode
from tests.service.api import raw_client


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:3000", "localhost.evil.example", "127.0.0.1.evil.example"]
)
def test_a_service_without_keys_refuses_the_host_of_another_site(client, address, host) -> None:
    response = client.get("/model", headers={"host": host})
    assert response.status_code == 400
    assert response.json()["error"]["code"] == ErrorCode.HOST
    assert host not in response.text
    with pytest.raises(InvalidStatus) as error:  # a page can send any frame over a stream, too
        connect(f"ws://{host}/stream", sock=raw_client.connect(address))
    assert error.value.response.status_code == 400


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:3000", "127.0.0.1", "[::1]:3000", "10.1.2.3", "a.localhost"])
def test_a_service_without_keys_serves_loopback_names_and_addresses(client, host) -> None:
    """Probes use addresses. A page cannot have the origin of an address that is not its own."""
    assert client.get("/readyz", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    ("names", "host", "allowed"),
    [
        ("nervemask.example", "nervemask.example", True),
        ("nervemask.example", "Nervemask.example.:443", True),
        ("nervemask.example", "a.nervemask.example", False),
        ("nervemask.example", "localhost", False),
        ("nervemask.example", "192.0.2.7:3000", True),
        ("nervemask.example, *.ward.example", "b.ward.example", True),
        ("*.ward.example", "ward.example", False),
        ("*.ward.example", "badward.example", False),
        ("nervemask.example", "", False),
        ("*", "evil.example", True),
    ],
)
def test_hosts_of_the_setting(monkeypatch, names, host, allowed) -> None:
    monkeypatch.setenv(VARIABLE, names)
    assert is_allowed([host], allowed_hosts()) is allowed


@pytest.mark.parametrize("hosts", [[], ["localhost", "evil.example"], ["evil.example", "localhost"]])
def test_a_request_names_its_host_once(hosts) -> None:
    assert not is_allowed(hosts, ["localhost"])


def test_with_keys_every_host_is_allowed(monkeypatch) -> None:
    """The browser does not know the key. A proxy may forward any host."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("NERVEMASK_KEYS", "keys")
    assert allowed_hosts() == [ANY_HOST]
    assert is_allowed([], allowed_hosts())
