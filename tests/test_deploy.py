"""What is deployed holds what docs/installing.md and SECURITY.md promise, by the real tools' own words."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlparse

import kubernetes_validate
import pytest
import yaml
from compose_spec import PyCompose

from service.guard import AT_ONCE
from service.machine import WORKERS
from service.upload import budget
from tests.test_monitoring import METRICS

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
PROGRAMS = Path(sys.executable).parent
IMAGES = sorted((DEPLOY / "images").glob("*.Dockerfile"))
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
PINNED = re.compile(r"[\w./-]+:v?\d+\.\d+[\w.-]*")


def run(*command: object) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module", params=["cpu", "gpu"])
def rendered(request) -> dict[str, dict]:
    """An overlay as kustomize renders it, by kind."""
    text = run(PROGRAMS / "kubectl", "kustomize", DEPLOY / "kubernetes" / request.param)
    objects = list(yaml.safe_load_all(text))
    kinds = {found["kind"]: found for found in objects}
    assert len(kinds) == len(objects)
    return kinds | {"overlay": request.param}


@pytest.fixture
def pod(rendered) -> dict:
    return rendered["Deployment"]["spec"]["template"]


def test_kubernetes_knows_every_field(rendered) -> None:
    for kind in rendered.keys() - {"overlay"}:
        kubernetes_validate.validate(rendered[kind], kubernetes_validate.latest_version(), strict=True)
        assert kind == "Namespace" or rendered[kind]["metadata"]["namespace"] == "nervemask"


def test_a_pod_has_no_more_rights_than_it_needs(pod) -> None:
    spec, (container,) = pod["spec"], pod["spec"]["containers"]
    assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_a_pod_is_sized_and_probed(rendered, pod) -> None:
    (container,) = pod["spec"]["containers"]
    assert PINNED.fullmatch(container["image"])
    assert {"cpu", "memory"} <= container["resources"]["requests"].keys() & container["resources"]["limits"].keys()
    gpu = "1" if rendered["overlay"] == "gpu" else "None"
    assert str(container["resources"]["limits"].get("nvidia.com/gpu")) == gpu
    ports = {port["name"] for port in container["ports"]}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["port"] in ports
        assert container[probe]["httpGet"]["path"] in ("/readyz", "/livez")
    assert {mount["name"] for mount in container["volumeMounts"]} == {
        volume["name"] for volume in pod["spec"]["volumes"]
    }


GIB = {"Gi": 2**30, "Mi": 2**20}


def test_a_pod_has_room_for_what_the_service_holds(rendered, pod) -> None:
    (container,) = pod["spec"]["containers"]
    memory, room = (
        int(size[:-2]) * GIB[size[-2:]]
        for size in (
            container["resources"]["limits"]["memory"],
            next(volume["emptyDir"]["sizeLimit"] for volume in pod["spec"]["volumes"] if volume["name"] == "tmp"),
        )
    )
    workers = 1 if rendered["overlay"] == "gpu" else WORKERS
    assert workers * budget(memory) < room
    assert budget(memory) >= 512 * 2**20  # the largest upload that the README promises


def test_a_roll_out_waits_for_no_gpu_that_is_not_there(rendered) -> None:
    rolling = rendered["Deployment"]["spec"]["strategy"]["rollingUpdate"]
    assert (rolling["maxSurge"] == 0) is (rendered["overlay"] == "gpu")
    scaler = rendered["HorizontalPodAutoscaler"]["spec"]
    assert scaler["maxReplicas"] > scaler["minReplicas"]


def test_who_may_come_in_is_named_since_what_they_say_of_clients_is_believed(rendered, pod) -> None:
    (rule,) = rendered["NetworkPolicy"]["spec"]["ingress"]
    assert {one["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for one in rule["from"]} == {
        "ingress-nginx",
        "monitoring",
    }
    assert {"name": "FORWARDED_ALLOW_IPS", "value": "*"} in pod["spec"]["containers"][0]["env"]


def test_all_that_selects_pods_finds_these(rendered, pod) -> None:
    labels = pod["metadata"]["labels"].items()
    for selector in (
        rendered["Service"]["spec"]["selector"],
        rendered["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        rendered["Deployment"]["spec"]["selector"]["matchLabels"],
        rendered["NetworkPolicy"]["spec"]["podSelector"].get("matchLabels", {}),
    ):
        assert selector.items() <= labels
    backend = rendered["Ingress"]["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
    assert backend["name"] == rendered["Service"]["metadata"]["name"]
    assert backend["port"]["name"] in {port["name"] for port in rendered["Service"]["spec"]["ports"]}


def test_the_gpu_lock_holds_what_onnxruntimes_cuda_provider_links() -> None:
    """The image has no CUDA of its own, and without one of these the service would run on its CPU."""
    locked = (DEPLOY / "requirements-gpu.txt").read_text()
    for library in ("cublas", "cuda-runtime", "cuda-nvrtc", "cudnn-cu13", "cufft", "curand"):
        assert f"\nnvidia-{library}==" in locked


def test_it_grows_by_the_requests_in_flight(rendered) -> None:
    scaler = rendered["HorizontalPodAutoscaler"]["spec"]
    assert scaler["scaleTargetRef"]["name"] == rendered["Deployment"]["metadata"]["name"]
    (metric,) = scaler["metrics"]
    rules = yaml.safe_load((DEPLOY / "kubernetes" / "adapter.yaml").read_text())["rules"]["custom"]
    (rule,) = rules
    assert rule["name"]["as"] == metric["pods"]["metric"]["name"]
    # Those that wait have to count: whose turn it is are no more than the cores, and would never reach the target.
    for series in ("nervemask_under_way", "nervemask_waiting"):
        assert series in rule["metricsQuery"] and series in METRICS
    assert int(metric["pods"]["target"]["averageValue"]) < AT_ONCE
    assert scaler["minReplicas"] >= 2  # else the disruption budget lets the only one go


def test_nothing_goes_out_of_the_namespace(rendered) -> None:
    policy = rendered["NetworkPolicy"]["spec"]
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"} and "egress" not in policy


def test_traces_get_out_where_they_are_asked_for_and_nothing_else_does(tmp_path) -> None:
    shutil.copytree(DEPLOY / "kubernetes", tmp_path / "kubernetes")
    with (tmp_path / "kubernetes/cpu/kustomization.yaml").open("a") as overlay:
        overlay.write("components: [../tracing]\n")
    objects = list(yaml.safe_load_all(run(PROGRAMS / "kubectl", "kustomize", tmp_path / "kubernetes/cpu")))
    for found in objects:
        kubernetes_validate.validate(found, kubernetes_validate.latest_version(), strict=True)
    (container,) = next(found for found in objects if found["kind"] == "Deployment")["spec"]["template"]["spec"][
        "containers"
    ]
    endpoint = urlparse({entry["name"]: entry["value"] for entry in container["env"]}["OTEL_EXPORTER_OTLP_ENDPOINT"])
    (policy,) = (found for found in objects if found["metadata"]["name"] == "nervemask-tracing")
    collector, names = policy["spec"]["egress"]
    assert policy["metadata"]["namespace"] == "nervemask" and policy["spec"]["policyTypes"] == ["Egress"]
    assert [port["port"] for port in collector["ports"]] == [endpoint.port]
    (peer,) = collector["to"]
    assert peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] == endpoint.hostname.split(".")[1]
    assert {port["port"] for port in names["ports"]} == {53}


def test_compose_is_of_the_compose_specification() -> None:
    assert set(PyCompose.from_json(json.dumps(COMPOSE)).service_names()) == set(SERVICES)
    with pytest.raises(ValueError):
        PyCompose.from_json(json.dumps({"services": {"service": {"read_onyl": True}}}))


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_has_no_more_rights_than_it_needs(name) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert int(service["user"].split(":")[0]) > 0
    assert PINNED.fullmatch(service["image"])
    assert "healthcheck" in service or service["restart"] == "no"


def test_only_the_service_listens_beyond_loopback() -> None:
    beyond = {
        name
        for name, service in SERVICES.items()
        for port in service.get("ports", [])
        if not port.startswith("127.0.0.1:")
    }
    assert beyond == {"service", "service-gpu"}


def test_secrets_are_files_that_git_does_not_have() -> None:
    used = {secret for service in SERVICES.values() for secret in service.get("secrets", [])}
    assert used == set(COMPOSE["secrets"])
    for secret in COMPOSE["secrets"].values():
        run("git", "check-ignore", DEPLOY / secret["file"])
    named = [name for service in SERVICES.values() for name in service.get("environment", {})]
    assert not [name for name in named if re.search("PASSWORD|SECRET|TOKEN", name) and not name.endswith("FILE")]


def test_what_is_mounted_is_there() -> None:
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
def test_what_is_served_is_a_link_in_a_folder_that_is_mounted_whole(name) -> None:
    """As `service.champion` turns it on the host, below the same folder."""
    link = Path(SERVICES[name]["environment"]["NERVEMASK_MODEL"])
    (models,) = (volume for volume in SERVICES[name]["volumes"] if volume["target"] == str(link.parent))
    assert models["source"] == "../models"
    assert (
        f"\nNERVEMASK_MODEL=models/{link.name} python -m service.champion use "
        in (ROOT / "docs" / "installing.md").read_text()
    )


def test_one_of_the_two_services_runs() -> None:
    assert SERVICES["service"]["profiles"] == ["cpu"] and SERVICES["service-gpu"]["profiles"] == ["gpu"]
    assert "COMPOSE_PROFILES=cpu" in (DEPLOY / ".env").read_text()


@pytest.mark.parametrize("dockerfile", IMAGES, ids=lambda path: path.stem)
def test_an_image_is_pinned_and_without_root(dockerfile) -> None:
    run(PROGRAMS / "hadolint", dockerfile)
    text = dockerfile.read_text()
    last = text.rpartition("\nFROM ")[2]
    assert re.search(r"^USER 10001:10001$", last, re.M)
    assert "--require-hashes --only-binary :all:" in text and "gcc" not in text and "build-essential" not in text
    for source in re.findall(r"^COPY (?!--from|\$)(\S+)", text, re.M):
        assert (ROOT / source).exists() or source == "models/champion"
    ignored = dockerfile.with_name(f"{dockerfile.name}.dockerignore").read_text().splitlines()
    assert ignored[0] == "*"  # what is not named does not come in


def test_the_image_holds_what_the_bento_holds() -> None:
    bento = yaml.safe_load((DEPLOY / "bentofile.yaml").read_text())
    text = (DEPLOY / "images" / "service.Dockerfile").read_text()
    assert bento["python"]["requirements_txt"] in text
    copied = re.findall(r"^COPY (\S+) \1$", text, re.M)
    for pattern in bento["include"]:
        assert any(Path(pattern).is_relative_to(folder) for folder in copied), pattern


def test_the_bento_holds_every_room_of_the_service_but_its_client() -> None:
    included = yaml.safe_load((DEPLOY / "bentofile.yaml").read_text())["include"]
    rooms = {path.parent.relative_to(ROOT).as_posix() for path in (ROOT / "service").rglob("*.py")}
    assert {f"{room}/*.py" for room in rooms - {"service/client"}} <= set(included)
