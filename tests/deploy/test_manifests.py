"""The Kubernetes manifests and the images fulfil docs/deployment.md and SECURITY.md, checked by real tools."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlparse

import kubernetes_validate
import pytest
import yaml
from pathspec import PathSpec

from service.api.upload import MAX_UPLOAD_BYTES
from service.resources.worker_count import MIN_WORKERS
from service.resources.worker_memory import FREE_SHARES, SharedLimit, share_memory
from tests.deploy.test_prometheus import METRICS

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PROGRAMS = Path(sys.executable).parent
IMAGES = sorted((DEPLOY / "images").glob("*.Dockerfile"))
PINNED = re.compile(r"[\w./-]+:v?\d+\.\d+[\w.-]*(@sha256:[0-9a-f]{64})?")


def run(*command: object) -> str:
    completed = subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd=ROOT)
    assert completed.returncode == 0, completed.stdout + completed.stderr
    return completed.stdout


@pytest.fixture(scope="module", params=["cpu", "gpu"])
def rendered(request) -> dict[str, dict]:
    """The objects of an overlay by kind, rendered by kustomize."""
    text = run(PROGRAMS / "kubectl", "kustomize", DEPLOY / "kubernetes" / request.param)
    objects = list(yaml.safe_load_all(text))
    kinds = {manifest["kind"]: manifest for manifest in objects}
    assert len(kinds) == len(objects)
    return kinds | {"overlay": request.param}


@pytest.fixture
def pod(rendered) -> dict:
    return rendered["Deployment"]["spec"]["template"]


def test_every_field_is_in_the_kubernetes_schema(rendered) -> None:
    for kind in rendered.keys() - {"overlay"}:
        kubernetes_validate.validate(rendered[kind], kubernetes_validate.latest_version(), strict=True)
        assert kind == "Namespace" or rendered[kind]["metadata"]["namespace"] == "nervemask"


def test_a_pod_has_minimal_rights(pod) -> None:
    spec, (container,) = pod["spec"], pod["spec"]["containers"]
    assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_a_pod_has_resource_limits_and_probes(rendered, pod) -> None:
    (container,) = pod["spec"]["containers"]
    assert PINNED.fullmatch(container["image"])
    limited = {"cpu", "memory", "ephemeral-storage"}
    assert limited <= container["resources"]["requests"].keys() & container["resources"]["limits"].keys()
    gpu = "1" if rendered["overlay"] == "gpu" else "None"
    assert str(container["resources"]["limits"].get("nvidia.com/gpu")) == gpu
    ports = {port["name"] for port in container["ports"]}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["port"] in ports
        assert container[probe]["httpGet"]["path"] in ("/readyz", "/livez")
    assert {mount["name"] for mount in container["volumeMounts"]} == {
        volume["name"] for volume in pod["spec"]["volumes"]
    }


UNIT_BYTES = {"Gi": 2**30, "Mi": 2**20}


def test_the_tmp_volume_holds_all_uploads(rendered, pod) -> None:
    (container,) = pod["spec"]["containers"]
    memory, storage, requested_storage, tmp_bytes = (
        int(size[:-2]) * UNIT_BYTES[size[-2:]]
        for size in (
            container["resources"]["limits"]["memory"],
            container["resources"]["limits"]["ephemeral-storage"],
            container["resources"]["requests"]["ephemeral-storage"],
            next(volume["emptyDir"]["sizeLimit"] for volume in pod["spec"]["volumes"] if volume["name"] == "tmp"),
        )
    )
    assert tmp_bytes < requested_storage < storage  # the volume and the logs count as ephemeral storage
    uploads = share_memory(memory, 4, MIN_WORKERS, rendered["overlay"] == "gpu").uploads
    assert MIN_WORKERS * uploads < tmp_bytes
    assert SharedLimit(uploads, free_shares=FREE_SHARES).largest >= 448 * 2**20  # as docs/deployment.md says


def test_the_pods_spread_over_zones_and_nodes(pod) -> None:
    constraints = pod["spec"]["topologySpreadConstraints"]
    assert [constraint["topologyKey"] for constraint in constraints] == [
        "topology.kubernetes.io/zone",
        "kubernetes.io/hostname",
    ]
    for constraint in constraints:
        assert constraint["labelSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()


def test_the_ingress_has_the_limits_of_compose(rendered) -> None:
    annotations = rendered["Ingress"]["metadata"]["annotations"]
    values = {name.rpartition("/")[2]: value for name, value in annotations.items()}
    text = (DEPLOY / "nginx" / "ingress.conf").read_text()
    burst = int(values["limit-rps"]) * int(values["limit-burst-multiplier"])
    for setting in (
        f"client_max_body_size {values['proxy-body-size']};",
        f"limit_conn connections {values['limit-connections']};",
        f"rate={values['limit-rps']}r/s;",
        f"burst={burst} ",
    ):
        assert setting in text
    assert int(values["proxy-body-size"].removesuffix("m")) * 2**20 > MAX_UPLOAD_BYTES


def test_a_rollout_needs_no_extra_gpu(rendered) -> None:
    rolling = rendered["Deployment"]["spec"]["strategy"]["rollingUpdate"]
    assert (rolling["maxSurge"] == 0) is (rendered["overlay"] == "gpu")
    scaler = rendered["HorizontalPodAutoscaler"]["spec"]
    assert scaler["maxReplicas"] > scaler["minReplicas"]


def test_only_trusted_namespaces_connect_as_the_service_trusts_their_forwarded_header(rendered, pod) -> None:
    (rule,) = rendered["NetworkPolicy"]["spec"]["ingress"]
    assert {peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for peer in rule["from"]} == {
        "ingress-nginx",
        "monitoring",
    }
    assert {"name": "FORWARDED_ALLOW_IPS", "value": "*"} in pod["spec"]["containers"][0]["env"]


RAY_JOBS = {"archive": "service.archive", "experiments": "cross_validation_report"}
# Fields of KubeRay's API, ray.io/v1, that the manifests use.
RAY_JOB_FIELDS = {
    *("entrypoint", "submissionMode", "backoffLimit", "rayClusterSpec"),
    *("shutdownAfterJobFinishes", "ttlSecondsAfterFinished"),
}
RAY_GROUP_FIELDS = {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}


@pytest.mark.parametrize("overlay", RAY_JOBS)
def test_a_ray_job_has_the_pods_of_the_schema_with_minimal_rights(overlay) -> None:
    objects = list(yaml.safe_load_all(run(PROGRAMS / "kubectl", "kustomize", DEPLOY / "kubernetes" / "ray" / overlay)))
    (job,) = (manifest for manifest in objects if manifest["kind"] == "RayJob")
    for manifest in objects:
        if manifest is not job:
            kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)
    assert (job["apiVersion"], job["spec"].keys()) == ("ray.io/v1", RAY_JOB_FIELDS)
    assert RAY_JOBS[overlay] in job["spec"]["entrypoint"]
    assert job["spec"]["submissionMode"] == "HTTPMode"  # KubeRay's own submitter pod breaks the namespace's policy
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster.keys() == {"rayVersion", "authOptions", "headGroupSpec", "workerGroupSpecs"}
    assert f"\nray=={cluster['rayVersion']} " in (DEPLOY / "requirements-training.txt").read_text()
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"  # a lost head would cost the whole job
    for group in groups:
        assert group.keys() <= RAY_GROUP_FIELDS
        labels = {"app": "ray"}
        deployment = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "group"},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": group["template"]["spec"]},
            },
        }
        kubernetes_validate.validate(deployment, kubernetes_validate.latest_version(), strict=True)
        spec, (container,) = group["template"]["spec"], group["template"]["spec"]["containers"]
        assert PINNED.fullmatch(container["image"])
        assert spec["securityContext"]["runAsNonRoot"] and spec["automountServiceAccountToken"] is False
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert {"cpu", "memory", "ephemeral-storage"} <= container["resources"]["limits"].keys()
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}


def test_every_selector_matches_the_pods(rendered, pod) -> None:
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


def test_the_gpu_lock_file_has_the_libraries_of_onnxruntimes_cuda_provider() -> None:
    """The image has no other CUDA. Without one of these libraries the service would run on the CPU."""
    locked = (DEPLOY / "requirements-gpu.txt").read_text()
    for library in ("cublas", "cuda-runtime", "cuda-nvrtc", "cudnn-cu13", "cufft", "curand"):
        assert f"\nnvidia-{library}==" in locked


def test_the_autoscaler_counts_running_and_queued_requests(rendered) -> None:
    scaler = rendered["HorizontalPodAutoscaler"]["spec"]
    assert scaler["scaleTargetRef"]["name"] == rendered["Deployment"]["metadata"]["name"]
    (metric,) = scaler["metrics"]
    rules = yaml.safe_load((DEPLOY / "kubernetes" / "prometheus_adapter_values.yaml").read_text())["rules"]["custom"]
    (rule,) = rules
    assert rule["name"]["as"] == metric["pods"]["metric"]["name"]
    # Queued requests must count: at most one request per core is running, however many wait.
    for series in ("nervemask_requests_running", "nervemask_requests_queued"):
        assert series in rule["metricsQuery"] and series in METRICS
    # docs/capacity.md: with two for each core, frames are refused before new pods start.
    resources = rendered["Deployment"]["spec"]["template"]["spec"]["containers"][0]["resources"]
    assert float(metric["pods"]["target"]["averageValue"]) <= 1.5 * int(resources["requests"]["cpu"])
    assert scaler["minReplicas"] >= 2  # otherwise the disruption budget allows zero replicas


def test_the_service_has_no_egress(rendered) -> None:
    policy = rendered["NetworkPolicy"]["spec"]
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"} and "egress" not in policy


def test_the_tracing_component_allows_egress_only_to_the_collector_and_dns(tmp_path) -> None:
    shutil.copytree(DEPLOY / "kubernetes", tmp_path / "kubernetes")
    with (tmp_path / "kubernetes/cpu/kustomization.yaml").open("a") as overlay:
        overlay.write("components: [../tracing]\n")
    objects = list(yaml.safe_load_all(run(PROGRAMS / "kubectl", "kustomize", tmp_path / "kubernetes/cpu")))
    for manifest in objects:
        kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)
    (deployment,) = (manifest for manifest in objects if manifest["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    endpoint = urlparse({entry["name"]: entry["value"] for entry in container["env"]}["OTEL_EXPORTER_OTLP_ENDPOINT"])
    (policy,) = (manifest for manifest in objects if manifest["metadata"]["name"] == "nervemask-tracing")
    collector, dns = policy["spec"]["egress"]
    assert policy["metadata"]["namespace"] == "nervemask" and policy["spec"]["policyTypes"] == ["Egress"]
    assert [port["port"] for port in collector["ports"]] == [endpoint.port]
    (peer,) = collector["to"]
    assert peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] == endpoint.hostname.split(".")[1]
    assert {port["port"] for port in dns["ports"]} == {53}


@pytest.mark.parametrize("dockerfile", IMAGES, ids=lambda path: path.stem)
def test_an_image_is_pinned_and_does_not_run_as_root(dockerfile) -> None:
    run(PROGRAMS / "hadolint", dockerfile)
    text = dockerfile.read_text()
    last = text.rpartition("\nFROM ")[2]
    assert re.search(r"^USER 10001:10001$", last, re.M)
    assert "--require-hashes --only-binary :all:" in text and "gcc" not in text and "build-essential" not in text
    for source in re.findall(r"^COPY (?!--from|\$)(\S+)", text, re.M):
        assert (ROOT / source).exists() or source == "models/champion"
    ignored = dockerfile.with_name(f"{dockerfile.name}.dockerignore").read_text().splitlines()
    assert ignored[0] == "*"  # only listed files enter the image


def test_the_image_has_the_files_of_the_bento() -> None:
    bento = yaml.safe_load((DEPLOY / "bentofile.yaml").read_text())
    text = (DEPLOY / "images" / "service.Dockerfile").read_text()
    assert bento["python"]["requirements_txt"] in text
    copied = re.findall(r"^COPY (\S+) \1$", text, re.M)
    for pattern in bento["include"]:
        assert any(Path(pattern).is_relative_to(folder) for folder in copied), pattern


def test_the_bento_has_every_python_file_of_the_service() -> None:
    included = yaml.safe_load((DEPLOY / "bentofile.yaml").read_text())["include"]
    files = [path.relative_to(ROOT).as_posix() for path in (ROOT / "service").rglob("*.py")]
    assert set(PathSpec.from_lines("gitignore", included).match_files(files)) == set(files)
