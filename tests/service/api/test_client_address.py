"""A client cannot choose the address that the audit log records and that limits count."""

import json

import httpx
import pytest

from tests.conftest import serving

pytestmark = pytest.mark.server


@pytest.mark.parametrize(("proxies", "address"), [(None, "127.0.0.1"), ("127.0.0.1", "192.0.2.1")])
def test_forwarded_addresses_are_believed_only_from_the_configured_proxies(
    model_folder, tmp_path, monkeypatch, proxies, address
) -> None:
    """uvicorn believes every process of this machine."""
    monkeypatch.delenv("FORWARDED_ALLOW_IPS", raising=False)
    environment = {"NERVEMASK_AUDIT": str(tmp_path / "audit")} | ({"FORWARDED_ALLOW_IPS": proxies} if proxies else {})
    with serving(model_folder, tmp_path, **environment) as server:
        httpx.get(f"{server.address}/nowhere", headers={"x-forwarded-for": "192.0.2.1"})
    lines = [json.loads(line) for line in (tmp_path / "audit").read_text().splitlines()]
    assert [line["client"] for line in lines if line.get("status") == 404] == [address]
