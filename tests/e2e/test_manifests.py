"""Manifests and scrape jobs against what reads them: Kubernetes' types, promtool, Prometheus."""

import fcntl
import json
import pathlib
import re
import shutil
import subprocess

import pytest
from hoplite_e2e import metrics, prometheus
from hoplite_e2e.deadline import poll_until, seconds
from hoplite_e2e.front import free_address
from hoplite_e2e.process import Process

yaml = pytest.importorskip(
    "yaml", reason="python3-yaml IS NOT INSTALLED (docker/install-deps.sh test): nothing checked "
                   "the manifests and scrape jobs")

DOCKER = pathlib.Path(__file__).resolve().parents[2] / "docker"
PACKAGES = ["kubernetes-types@1.30.0", "typescript@5.9.3"]
INSTALL_SECONDS = 120

MODULES = {"v1": "core/v1", "apps/v1": "apps/v1", "batch/v1": "batch/v1"}

WORKLOADS = """\
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: s}
spec:
  serviceName: s
  selector: {matchLabels: {app: s}}
  template:
    metadata: {labels: {app: s}, annotations: {sidecar.istio.io/interceptionMode: TPROXY}}
    spec:
      serviceAccountName: s
      initContainers: [{name: i, image: i}]
      containers:
        - name: s
          image: s
          ports: [{containerPort: 80, name: web}]
          livenessProbe: {httpGet: {port: web, path: /x, httpHeaders: [{name: a, value: b}]}}
          readinessProbe: {tcpSocket: {port: 80}}
          startupProbe: {grpc: {port: 80}}
          lifecycle: {postStart: {tcpSocket: {port: web}}, preStop: {httpGet: {port: 80, path: /x}}}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: d}
spec:
  selector: {matchLabels: {app: d}}
  template:
    metadata:
      annotations:
        {status.sidecar.istio.io/port: "15120", sidecar.istio.io/proxyCPULimit: "1",
         prometheus.io/scrape: "false"}
    spec:
      containers: [{name: d, image: d}]
      volumes: [{name: v, emptyDir: {}}]
---
apiVersion: batch/v1
kind: Job
metadata: {name: j}
spec: {template: {spec: {restartPolicy: Never, containers: [{name: j, image: j}]}}}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: c}
spec:
  schedule: "* * * * *"
  jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: c}]}}}}
---
apiVersion: v1
kind: Pod
metadata: {name: p}
spec: {containers: [{name: p, image: p}]}
"""


@pytest.fixture(scope="module")
def types(build_dir):
    """The folder with Kubernetes' types and the compiler; filled once for all tests of a build."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("npm AND node ARE NOT INSTALLED: the manifests were not checked against "
                    "Kubernetes' types")
    folder = build_dir / "kubernetes-types"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            try:
                done = subprocess.run(
                    ["npm", "install", "--no-audit", "--no-fund", "--no-save", "--ignore-scripts",
                     "--fetch-retries=0", "--prefix", folder, *PACKAGES], text=True,
                    capture_output=True, timeout=INSTALL_SECONDS)
                why = done.stderr.strip().splitlines()[-1:] if done.returncode else None
            except subprocess.TimeoutExpired:
                why = ["npm took too long"]
            if why is not None:
                pytest.skip(f"npm COULD NOT FETCH {' '.join(PACKAGES)}: the manifests were not "
                            f"checked against Kubernetes' types ({''.join(why)})")
            (folder / "complete").touch()
    return folder


def complaints(types, folder, documents):
    """What the compiler says about these documents, each as a literal of its type."""
    lines = []
    for number, document in enumerate(documents):
        kind, module = document["kind"], MODULES[document["apiVersion"]]
        lines.append(f'import {{ {kind} as T{number} }} from "kubernetes-types/{module}";\n'
                     f"export const d{number}: T{number} = {json.dumps(document, indent=1)};\n")
    source = folder / "manifests.ts"
    source.write_text("".join(lines))
    (folder / "node_modules").unlink(missing_ok=True)
    (folder / "node_modules").symlink_to(types / "node_modules")
    (folder / "tsconfig.json").write_text(json.dumps({
        "compilerOptions": {"noEmit": True, "strict": True, "skipLibCheck": True, "types": [],
                            "module": "commonjs", "moduleResolution": "node10"},
        "files": [source.name]}))
    done = subprocess.run(["node", types / "node_modules/typescript/bin/tsc", "-p", folder],
                          text=True, capture_output=True, timeout=seconds(60))
    assert (done.returncode == 0) == (done.stdout == ""), done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def injected(build_dir):
    def run(text, *arguments):
        done = subprocess.run([build_dir / "hoplite", "inject", "-f", "-", *arguments], text=True,
                              input=text, capture_output=True, timeout=seconds())
        assert done.returncode == 0, done.stderr
        return list(yaml.safe_load_all(done.stdout))

    return run


# --- Kubernetes' types --------------------------------------------------------------------------


def test_everything_injected_is_what_kubernetes_takes(types, injected, tmp_path):
    documents = []
    for arguments in ([], ["--classic"], ["--mode", "tproxy", "--mtls", "off"],
                      ["--cert-csi", "d", "--cert-csi-attribute", "a=b", "--env", "N=1"]):
        documents += injected(WORKLOADS, *arguments)
    for name in ("podinfo.yaml", "podinfo-injected.yaml"):
        documents += yaml.safe_load_all((DOCKER / "kubernetes" / name).read_text())
    assert {one["kind"] for one in documents} >= {"Deployment", "Service", "CronJob", "Pod"}
    assert complaints(types, tmp_path, documents) == ""


def test_the_compiler_refuses_what_kubernetes_does_not_know(types, injected, tmp_path):
    """Else the test above would prove nothing."""
    document = injected(WORKLOADS)[0]
    sidecar = document["spec"]["template"]["spec"]["initContainers"][1]
    sidecar["securityContext"]["runAsNonroot"] = True
    sidecar["ports"][0]["containerPort"] = "15090"
    said = complaints(types, tmp_path, [document])
    assert "'\"runAsNonroot\"' does not exist in type 'SecurityContext'" in said
    assert "Type 'string' is not assignable to type 'number'" in said


# --- podinfo ------------------------------------------------------------------------------------


def test_podinfo_is_podinfo():
    deployment, service = yaml.safe_load_all((DOCKER / "kubernetes/podinfo.yaml").read_text())
    assert deployment["metadata"]["namespace"] == service["metadata"]["namespace"] == "test"
    template = deployment["spec"]["template"]
    assert template["metadata"]["labels"] == {"app": "podinfo"}
    assert template["metadata"]["annotations"] == {"prometheus.io/scrape": "true",
                                                   "prometheus.io/port": "9797"}
    container, = template["spec"]["containers"]
    assert container["image"] == "stefanprodan/podinfo:6.7.1"
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == {
        "http": 9898, "http-metrics": 9797, "grpc": 9999}
    assert {port["port"]: port["targetPort"] for port in service["spec"]["ports"]} == {
        9898: "http", 9999: "grpc"}


# --- the walk through it ----------------------------------------------------------------------------

#: For what a cluster would do: tells what it was asked for, takes what it was given.
STUB = """#!/bin/bash
echo "${0##*/} $*" >>"$ASKED"
for word in "$@"; do
  case "$word" in --from-file=*) cp "${word##*=}" "$GIVEN/$(echo "${word#*=}" | cut -d= -f1)" ;; esac
done
case "$*" in
  "apply -f -") cat >"$GIVEN/applied.yaml" ;;
  *istio-proxy*) echo 'istio_requests_total{reporter="source"} 10' ;;
esac
"""


def test_the_commands_of_the_walk(build_dir, tmp_path):
    """As the page has them, but for docker, kind and kubectl: these take what they are given."""
    page = (DOCKER / "kubernetes/README.md").read_text()
    walk = page[page.index("## A walk through it"):page.index("## What is written where")]
    script = "\n".join(re.findall(r"```\n(.*?)```", walk, re.DOTALL))
    programs, given = tmp_path / "bin", tmp_path / "given"
    programs.mkdir()
    given.mkdir()
    (tmp_path / "docker").symlink_to(DOCKER)
    (programs / "hoplite").symlink_to((build_dir / "hoplite").resolve())
    for name in ("docker", "kind", "kubectl"):
        (programs / name).write_text(STUB)
        (programs / name).chmod(0o755)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=tmp_path, text=True, capture_output=True,
        timeout=seconds(30), env={"PATH": f"{programs}:/usr/bin:/bin", "GIVEN": str(given),
                                  "ASKED": str(tmp_path / "asked")})
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("istio_requests_total")
    applied = (given / "applied.yaml").read_bytes()
    assert applied == (DOCKER / "kubernetes/podinfo-injected.yaml").read_bytes()
    asked = (tmp_path / "asked").read_text().splitlines()
    assert sum("-c podinfo -- curl" in line for line in asked) == 10
    volume, = next(yaml.safe_load_all(applied))["spec"]["template"]["spec"]["volumes"]
    secret, = (line for line in asked if "create secret generic" in line)
    assert volume["secret"]["secretName"] in secret.split()
    # The files of that Secret are what the sidecar starts with.
    for name in ("tls.crt", "tls.key", "ca.crt"):
        assert "-----BEGIN" in (given / name).read_text()
    checked = subprocess.run(
        [build_dir / "hoplite", "check", "--inbound-listen", "127.0.0.1:15006", "--inbound-app",
         "127.0.0.1:9898", "--mtls-mode", "strict", "--mtls-cert", given / "tls.crt", "--mtls-key",
         given / "tls.key", "--mtls-ca", given / "ca.crt"], text=True, capture_output=True,
        timeout=seconds())
    assert checked.returncode == 0, checked.stdout + checked.stderr


# --- scrape jobs --------------------------------------------------------------------------------


@pytest.fixture
def programs():
    for name in ("prometheus", "promtool"):
        if prometheus.binary(name) is None:
            pytest.skip(f"{name} IS NOT INSTALLED (docker/install-deps.sh test): nothing checked "
                        "the scrape jobs")


def pod(**labels):
    """A target as Kubernetes' discovery describes one: labels without their __meta_kubernetes_."""
    address = labels.pop("address", "192.0.2.1:80")
    return {"targets": [address],
            "labels": {f"__meta_kubernetes_{key}": value for key, value in labels.items()}}


def with_targets(job, pods, path):
    """The job with these targets. Debian's Prometheus is built without Kubernetes' discovery."""
    config = yaml.safe_load((DOCKER / "prometheus" / job).read_text())
    scrape, = config["scrape_configs"]
    if "static_configs" not in scrape:
        assert scrape.pop("kubernetes_sd_configs") == [{"role": "pod"}]
        scrape["static_configs"] = pods
    path.write_text(json.dumps(config))
    return path


def scraped(world, job, pods):
    """Where a real Prometheus would scrape these pods by this job, and the labels of each."""
    path = with_targets(job, pods, world.folder / "prometheus.yaml")
    address = free_address()
    world.processes.append(Process(
        [prometheus.binary("prometheus"), f"--config.file={path}",
         f"--storage.tsdb.path={world.folder / 'tsdb'}",
         f"--web.listen-address={address}"], "prometheus"))

    def ask():
        try:
            status, _, body = metrics.fetch(f"http://{address}/api/v1/targets")
        except OSError:
            return None
        found = json.loads(body)["data"] if status == 200 else {}
        sorted_out = len(found.get("activeTargets", [])) + len(found.get("droppedTargets", []))
        return found if sorted_out == len(pods) else None

    found = poll_until(ask, "Prometheus sorting the targets")
    return {one["scrapeUrl"]: one["labels"] for one in found["activeTargets"]}


@pytest.mark.parametrize("name", ["envoy-stats.yml", "annotations.yml", "compose.yml"])
def test_promtool_takes_the_scrape_jobs(programs, tmp_path, name):
    path = with_targets(name, [pod()], tmp_path / name)
    done = subprocess.run([prometheus.binary("promtool"), "check", "config", path], text=True,
                          capture_output=True, timeout=seconds())
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_envoy_stats_job_takes_the_sidecars_port(programs, world):
    found = scraped(world, "envoy-stats.yml", [
        pod(address="10.0.0.1:15090", pod_container_port_name="http-envoy-prom"),
        pod(address="10.0.0.1:9898", pod_container_port_name="http"),
        pod(address="10.0.0.2:15090", pod_container_port_name="http-envoy-prom",
            pod_phase="Succeeded")])
    assert list(found) == ["http://10.0.0.1:15090/stats/prometheus"]


def test_the_annotation_job_scrapes_an_injected_pod_through_the_merge(programs, world, injected):
    document = injected((DOCKER / "kubernetes/podinfo.yaml").read_text())[0]
    said = {f"pod_annotation_{re.sub('[^a-zA-Z0-9]', '_', key)}": value for key, value in
            document["spec"]["template"]["metadata"]["annotations"].items()
            if key.startswith("prometheus.io/")}
    found = scraped(world, "annotations.yml", [
        pod(pod_ip="10.0.0.1", namespace="test", pod_name="podinfo-1", pod_label_app="podinfo",
            **said),
        pod(pod_ip="fd00::1", **said),
        pod(pod_ip="10.0.0.3"),
        pod(pod_ip="10.0.0.4", **{**said, "pod_phase": "Failed"})])
    assert set(found) == {"http://10.0.0.1:15020/stats/prometheus",
                          "http://[fd00::1]:15020/stats/prometheus"}
    labels = found["http://10.0.0.1:15020/stats/prometheus"]
    assert (labels["namespace"], labels["pod"], labels["app"]) == ("test", "podinfo-1", "podinfo")


# --- compose ------------------------------------------------------------------------------------


def test_compose_is_of_one_piece(build_dir):
    compose = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    services = compose["services"]
    assert set(services) >= {"client", "client-sidecar", "server", "server-sidecar", "prometheus"}
    for name, service in services.items():
        assert set(service["depends_on"] if "depends_on" in service else []) <= set(services), name
        host = service.get("network_mode", "service:server").removeprefix("service:")
        assert host in services, name
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in compose["volumes"] or (DOCKER / source).exists(), volume
    version = subprocess.run([build_dir / "hoplite", "version"], text=True, capture_output=True,
                             timeout=seconds()).stdout.split()[1]
    images = {service["image"] for service in services.values()}
    assert f"hoplite:{version}" in images
    known = json.loads(services["client-sidecar"]["environment"]["HOPLITE_SERVICES"])
    assert known[0]["endpoints"] == ["server:9898"]
    targets = yaml.safe_load((DOCKER / "prometheus/compose.yml").read_text())[
        "scrape_configs"][0]["static_configs"][0]["targets"]
    assert targets == ["client:15090", "server:15090"]
