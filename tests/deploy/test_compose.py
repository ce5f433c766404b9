"""The compose file fulfils docs/deployment.md and SECURITY.md."""

import json
import re
from pathlib import Path

import pytest
import yaml
from compose_spec import PyCompose

from tests.deploy.test_manifests import DEPLOY, PINNED, ROOT, run

COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
PROXIES = {"ingress", "admin"}


def test_the_compose_file_follows_the_compose_specification() -> None:
    # The library refuses a tag beside a digest. Docker accepts and writes both (`config --resolve-image-digests`).
    text = re.sub(r":[\w.-]+@sha256:", "@sha256:", json.dumps(COMPOSE))
    assert set(PyCompose.from_json(text).service_names()) == set(SERVICES)
    with pytest.raises(ValueError):
        PyCompose.from_json(json.dumps({"services": {"service": {"read_onyl": True}}}))


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_has_minimal_rights(name) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert int(service["user"].split(":")[0]) > 0
    assert PINNED.fullmatch(service["image"])
    assert "healthcheck" in service or service["restart"] == "no"


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_has_limits(name) -> None:
    service = SERVICES[name]
    assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory", "pids"}
    assert service["ulimits"] == {"core": 0}
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}


def test_only_the_ingress_listens_beyond_loopback() -> None:
    published = {(name, port) for name, service in SERVICES.items() for port in service.get("ports", [])}
    assert {name for name, _ in published} == PROXIES
    assert {name for name, port in published if not port.startswith("127.0.0.1:")} == {"ingress"}


def test_only_the_proxies_have_a_way_out() -> None:
    internal = {name for name, network in COMPOSE["networks"].items() if network and network["internal"]}
    members = {
        network: {name for name, service in SERVICES.items() if network in service["networks"]}
        for network in COMPOSE["networks"]
    }
    assert set().union(*(members[network] for network in members.keys() - internal)) == PROXIES
    assert all(set(service["networks"]) & internal for service in SERVICES.values())
    # The service trusts X-Forwarded-For from everything in its network.
    assert SERVICES["service"]["environment"]["FORWARDED_ALLOW_IPS"] == "*"
    assert members["service"] == {"service", "service-gpu", "ingress", "prometheus"}
    assert set(SERVICES["service"]["networks"]) == {"service"}
    assert members["stores"] & members["service"] == set()


def test_prometheus_keeps_a_bounded_size() -> None:
    command = SERVICES["prometheus"]["command"]
    assert any(re.fullmatch(r"--storage\.tsdb\.retention\.size=\d+GB", option) for option in command)


def test_secrets_are_files_that_git_ignores() -> None:
    used = {secret for service in SERVICES.values() for secret in service.get("secrets", [])}
    assert used == set(COMPOSE["secrets"])
    for secret in COMPOSE["secrets"].values():
        run("git", "check-ignore", DEPLOY / secret["file"])
    variables = [name for service in SERVICES.values() for name in service.get("environment", {})]
    assert not [name for name in variables if re.search("PASSWORD|SECRET|TOKEN", name) and not name.endswith("FILE")]


def test_every_bind_mount_exists() -> None:
    binds = {
        volume["source"]
        for service in SERVICES.values()
        for volume in service.get("volumes", [])
        if isinstance(volume, dict)
    }
    assert binds > {"../models", "./secrets/keys"}
    for source in binds - {"../models", "./secrets/keys"}:
        assert (DEPLOY / source).exists()


@pytest.mark.parametrize("name", ["service", "service-gpu"])
def test_the_served_model_is_a_link_in_a_mounted_folder(name) -> None:
    """`service.champion` on the host changes the same link."""
    link = Path(SERVICES[name]["environment"]["NERVEMASK_MODEL"])
    (models,) = (volume for volume in SERVICES[name]["volumes"] if volume["target"] == str(link.parent))
    assert models["source"] == "../models"
    assert (
        f"\nNERVEMASK_MODEL=models/{link.name} python -m service.champion promote "
        in (ROOT / "docs" / "deployment.md").read_text()
    )


def test_each_profile_runs_one_service() -> None:
    assert SERVICES["service"]["profiles"] == ["cpu"] and SERVICES["service-gpu"]["profiles"] == ["gpu"]
    assert "COMPOSE_PROFILES=cpu" in (DEPLOY / ".env").read_text()
