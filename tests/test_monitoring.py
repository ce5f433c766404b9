"""Rules and dashboard: what they name is what the service exports, and Prometheus takes them as they are."""

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
import yaml

from tests.conftest import free_port

DEPLOY = Path(__file__).parent.parent / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
METRICS = {
    "nervemask_requests_total": {"route", "status"},
    "nervemask_request_seconds": {"route", "le"},
    "nervemask_step_seconds": {"step", "le"},
    "nervemask_under_way": set(),
    "nervemask_waiting": set(),
    "nervemask_refused_total": {"code"},
    "nervemask_key_failures_total": set(),
    "nervemask_frames_total": {"present"},
    "nervemask_presence": {"le"},
    "nervemask_confidence": {"le"},
    "nervemask_frame_pixels": {"le"},
    "nervemask_model_info": {"name", "version", "run_id"},
    "nervemask_drift": {"of"},
}
SCRAPED = {"instance", "job", "namespace", "pod"}  # Prometheus' own labels
SERIES = re.compile(r"\b(nervemask_\w+?)(?:_bucket|_sum|_count)?\b(?:\{(.*?)\})?(?=[\[\s)]|$)")
LABEL = re.compile(r"(\w+)\s*[=!]~?")
GROUPED = re.compile(r"\bby \(([^)]*)\)")

needs_promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="there is no promtool here (prometheus)")


def of_rules() -> dict[str, str]:
    groups = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"]
    return {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}


def of_dashboard() -> dict[str, str]:
    panels = json.loads((DEPLOY / "grafana" / "nervemask.json").read_text())["panels"]
    return {f"{panel['title']} {target['refId']}": target["expr"] for panel in panels for target in panel["targets"]}


EXPRESSIONS = of_rules() | of_dashboard()


@pytest.mark.parametrize("expression", EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_an_expression_names_what_the_service_exports(expression) -> None:
    found = SERIES.findall(expression)
    assert len(found) == expression.count("nervemask_") and (found or "up{" in expression)
    known = set().union(*(METRICS[metric] for metric, _ in found)) | SCRAPED
    for metric, selectors in found:
        assert set(LABEL.findall(selectors)) <= METRICS[metric] | SCRAPED
    for labels in GROUPED.findall(expression):
        assert set(labels.split(", ")) <= known


def test_the_dashboard_shows_every_metric() -> None:
    shown = {metric for expression in of_dashboard().values() for metric, _ in SERIES.findall(expression)}
    assert shown == set(METRICS)


def promtool(*arguments: object) -> None:
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_every_alert_fires_on_what_it_is_for() -> None:
    promtool("check", "rules", PROMETHEUS / "rules.yml")
    promtool("test", "rules", PROMETHEUS / "rules.test.yml")
    assert all(alert in (PROMETHEUS / "rules.test.yml").read_text() for alert in of_rules())


@needs_promtool
def test_the_dashboards_expressions_are_promql(tmp_path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "5m")}
        for number, expression in enumerate(of_dashboard().values())
    ]
    (tmp_path / "panels.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", tmp_path / "panels.yml")


@needs_promtool
@pytest.mark.parametrize("name", ["prometheus.yml", "kubernetes.yml"])
def test_prometheus_takes_its_configuration(name, tmp_path) -> None:
    config = yaml.safe_load((PROMETHEUS / name).read_text())
    for job in config["scrape_configs"]:
        job.pop("kubernetes_sd_configs", None)  # Debian builds Prometheus without it
    (tmp_path / name).write_text(yaml.safe_dump(config))
    promtool("check", "config", "--syntax-only", tmp_path / name)


@pytest.mark.skipif(not shutil.which("prometheus"), reason="there is no prometheus here")
def test_prometheus_scrapes_the_service(address, tmp_path) -> None:
    """The deployed configuration and rules; the target is this server, which asks loopback for no key."""
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    config["global"]["scrape_interval"] = "1s"
    config["rule_files"] = [str(PROMETHEUS / "rules.yml")]
    job = {"job_name": config["scrape_configs"][0]["job_name"]}
    job["static_configs"] = [{"targets": [address.removeprefix("http://")]}]
    config["scrape_configs"] = [job]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    home = f"http://127.0.0.1:{(port := free_port())}/api/v1"
    server = subprocess.Popen(
        [
            "prometheus",
            f"--config.file={tmp_path / 'prometheus.yml'}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stdout=sys.stderr,
    )
    try:
        up = None
        for _ in range(300):
            assert server.poll() is None, "Prometheus ended"
            try:
                found = httpx.get(f"{home}/query", params={"query": "up"}).json().get("data", {}).get("result")
                if found and (up := found[0]["value"][1]) == "1":
                    break
            except (httpx.TransportError, ValueError):
                pass
            time.sleep(0.1)
        assert up == "1"
        groups = httpx.get(f"{home}/rules").json()["data"]["groups"]
        assert {rule["name"] for group in groups for rule in group["rules"]} == set(of_rules())
    finally:
        server.terminate()
        server.wait(30)
