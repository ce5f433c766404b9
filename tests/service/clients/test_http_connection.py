"""Proxy settings of the environment: a server on this machine is reached without them."""

import httpx
import pytest

from service.clients.http_connection import PROXY_VARIABLES, ProxySettingsError, is_loopback, open_http_client


@pytest.fixture(autouse=True)
def no_proxy_settings(monkeypatch) -> None:
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "::1", "nervemask.localhost"])
def test_a_loopback_host(host) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["10.0.0.1", "nervemask.hospital.example", "::2", "localhost.example.org"])
def test_no_loopback_host(host) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
@pytest.mark.server
def test_a_server_on_this_machine_is_reached_without_the_proxy(address, monkeypatch, variable) -> None:
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    with open_http_client(address) as client:
        assert client.get("/livez").is_success
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{address}/livez")


@pytest.mark.parametrize(
    ("variable", "value"),
    [("ALL_PROXY", "socks5://127.0.0.1:9"), ("HTTP_PROXY", "gopher://x"), ("NO_PROXY", "[::1]:x")],
)
def test_an_unusable_setting_is_named_and_concerns_only_other_machines(monkeypatch, variable, value) -> None:
    monkeypatch.setenv(variable, value)
    open_http_client("http://127.0.0.1:3000").close()
    with pytest.raises(ProxySettingsError, match=rf"unset the variables {variable}="):
        open_http_client("http://nervemask.example:3000")
