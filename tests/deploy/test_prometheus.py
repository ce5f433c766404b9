"""Prometheus rules and Grafana dashboard use the metrics that the service exports, and Prometheus accepts them."""

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

pytestmark = pytest.mark.server

DEPLOY = Path(__file__).parents[2] / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
METRICS = {
    "nervemask_requests_total": {"route", "status"},
    "nervemask_request_duration_seconds": {"route", "le"},
    "nervemask_step_duration_seconds": {"step", "le"},
    "nervemask_requests_running": set(),
    "nervemask_requests_queued": set(),
    "nervemask_errors_total": {"code"},
    "nervemask_wrong_keys_total": set(),
    "nervemask_problem": {"kind"},
    "nervemask_spool_refused_total": set(),
    "nervemask_certificate_expiry_timestamp_seconds": {"file"},
    "nervemask_frames_total": {"present"},
    "nervemask_presence": {"le"},
    "nervemask_confidence": {"le"},
    "nervemask_frame_pixels": {"le"},
    "nervemask_model_info": {"name", "version", "run_id"},
    "nervemask_drift": {"feature"},
}
SCRAPE_LABELS = {"instance", "job", "namespace", "pod"}  # added by Prometheus
SERIES = re.compile(r"\b(nervemask_\w+?)(?:_bucket|_sum|_count)?\b(?:\{(.*?)\})?(?=[\[\s)]|$)")
LABEL = re.compile(r"(\w+)\s*[=!]~?")
GROUPED = re.compile(r"\bby \(([^)]*)\)")

needs_promtool = pytest.mark.skipif(
    not shutil.which("promtool"), reason="promtool is not installed (Debian's package prometheus)"
)


def rule_expressions() -> dict[str, str]:
    groups = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"]
    return {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}


def panel_expressions() -> dict[str, str]:
    panels = json.loads((DEPLOY / "grafana" / "nervemask.json").read_text())["panels"]
    return {f"{panel['title']} {target['refId']}": target["expr"] for panel in panels for target in panel["targets"]}


EXPRESSIONS = rule_expressions() | panel_expressions()


@pytest.mark.parametrize("expression", EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_an_expression_uses_exported_metrics_and_labels(expression) -> None:
    series = SERIES.findall(expression)
    assert len(series) == expression.count("nervemask_") and (series or "up{" in expression)
    labels = set().union(*(METRICS[metric] for metric, _ in series)) | SCRAPE_LABELS
    for metric, selectors in series:
        assert set(LABEL.findall(selectors)) <= METRICS[metric] | SCRAPE_LABELS
    for group_labels in GROUPED.findall(expression):
        assert set(group_labels.split(", ")) <= labels


def test_the_dashboard_shows_every_metric() -> None:
    metrics = {metric for expression in panel_expressions().values() for metric, _ in SERIES.findall(expression)}
    assert metrics == set(METRICS)


def promtool(*arguments: object) -> None:
    completed = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True)
    assert completed.returncode == 0, completed.stdout + completed.stderr


@needs_promtool
def test_every_alert_fires_in_its_situation() -> None:
    promtool("check", "rules", PROMETHEUS / "rules.yml")
    promtool("test", "rules", PROMETHEUS / "rules.test.yml")
    assert all(alert in (PROMETHEUS / "rules.test.yml").read_text() for alert in rule_expressions())


@needs_promtool
def test_the_dashboards_expressions_are_valid_promql(tmp_path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "5m")}
        for number, expression in enumerate(panel_expressions().values())
    ]
    (tmp_path / "panels.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", tmp_path / "panels.yml")


@needs_promtool
@pytest.mark.parametrize("name", ["prometheus.yml", "kubernetes.yml"])
def test_prometheus_accepts_its_configuration(name, tmp_path) -> None:
    config = yaml.safe_load((PROMETHEUS / name).read_text())
    for job in config["scrape_configs"]:
        job.pop("kubernetes_sd_configs", None)  # Debian's Prometheus is built without it
    (tmp_path / name).write_text(yaml.safe_dump(config))
    promtool("check", "config", "--syntax-only", tmp_path / name)


def autoscaler_query() -> str:
    """Return the query of the autoscaler's metric as prometheus-adapter fills it in, by instance instead of pod."""
    (rule,) = yaml.safe_load((DEPLOY / "kubernetes" / "prometheus_adapter_values.yaml").read_text())["rules"]["custom"]
    query = rule["metricsQuery"].replace("<<.LabelMatchers>>", 'instance!=""').replace("<<.GroupBy>>", "instance")
    assert "<<" not in query
    return query


def target_is_up(api: str) -> bool:
    try:
        result = httpx.get(f"{api}/query", params={"query": "up"}).json().get("data", {}).get("result")
    except (httpx.TransportError, ValueError):
        return False
    return bool(result) and result[0]["value"][1] == "1"


@pytest.mark.skipif(not shutil.which("prometheus"), reason="prometheus is not installed")
def test_prometheus_scrapes_the_service(address, tmp_path) -> None:
    """With the deployed configuration and rules. The target is the test server, which requires no API key."""
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    config["global"]["scrape_interval"] = "1s"
    config["rule_files"] = [str(PROMETHEUS / "rules.yml")]
    job = {"job_name": config["scrape_configs"][0]["job_name"]}
    job["static_configs"] = [{"targets": [address.removeprefix("http://")]}]
    config["scrape_configs"] = [job]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    api = f"http://127.0.0.1:{(port := free_port())}/api/v1"
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
        deadline = time.monotonic() + 60
        while not target_is_up(api):
            assert server.poll() is None, "Prometheus ended"
            assert time.monotonic() < deadline, "the target is not up"
            time.sleep(0.1)
        groups = httpx.get(f"{api}/rules").json()["data"]["groups"]
        assert {rule["name"] for group in groups for rule in group["rules"]} == set(rule_expressions())
        (signal,) = httpx.get(f"{api}/query", params={"query": autoscaler_query()}).json()["data"]["result"]
        assert float(signal["value"][1]) >= 0
    finally:
        server.terminate()
        server.wait(30)
