"""`hoplite inject` and `uninject`: what they write, read with a YAML reader that is not ours."""

import json
import os
import pathlib
import subprocess

import pytest
from hoplite_e2e.deadline import seconds
from hoplite_e2e.injected import (POD, flags_of, hoplite, inject, named,  # noqa: F401
                                  sidecar_of, variables)

yaml = pytest.importorskip(
    "yaml", reason="python3-yaml IS NOT INSTALLED (docker/install-deps.sh test): nothing checked "
                   "what hoplite inject writes")

KUBERNETES = pathlib.Path(__file__).resolve().parents[2] / "docker/kubernetes"
OK, FAILURE, USAGE, BAD_INPUT = 0, 1, 64, 78


# --- the pod ------------------------------------------------------------------------------------


def test_podinfo_is_injected_as_it_lies_there(hoplite):
    plain, injected = (KUBERNETES / name for name in ("podinfo.yaml", "podinfo-injected.yaml"))
    done = hoplite("inject", "-f", plain)
    assert done.returncode == OK
    assert done.stdout == injected.read_bytes()
    assert done.stderr == b"hoplite inject: Deployment podinfo\n"
    assert hoplite("uninject", "-f", injected).stdout == plain.read_bytes()


def test_the_app_and_everything_else_stays_what_it_was(inject):
    text = (KUBERNETES / "podinfo.yaml").read_text()
    before, after = list(yaml.safe_load_all(text)), inject(text)
    assert after[1] == before[1]
    pod, old = after[0]["spec"]["template"], before[0]["spec"]["template"]
    pod["spec"].pop("initContainers")
    pod["spec"].pop("volumes")
    for one, was in zip(pod["spec"]["containers"], old["spec"]["containers"]):
        for probe in ("livenessProbe", "readinessProbe"):
            one[probe]["httpGet"] = was[probe]["httpGet"]
    pod["metadata"]["annotations"] = old["metadata"]["annotations"]
    assert after == before


def test_the_sidecar_is_a_native_one_that_dashboards_find(inject):
    pod = inject((KUBERNETES / "podinfo.yaml").read_text())[0]["spec"]["template"]
    assert [one["name"] for one in pod["spec"]["initContainers"]] == ["hoplite-init", "istio-proxy"]
    sidecar = sidecar_of(pod)
    assert sidecar["restartPolicy"] == "Always"
    assert sidecar["args"] == ["sidecar"]
    assert sidecar["ports"] == [
        {"name": "http-envoy-prom", "containerPort": 15090, "protocol": "TCP"}]
    assert sidecar["startupProbe"]["httpGet"] == {"path": "/healthz/ready", "port": 15021}
    assert sidecar["readinessProbe"]["httpGet"] == {"path": "/healthz/ready", "port": 15021}
    assert sidecar["securityContext"] == {
        "allowPrivilegeEscalation": False, "privileged": False, "readOnlyRootFilesystem": True,
        "runAsNonRoot": True, "runAsUser": 1337, "runAsGroup": 1337,
        "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}}
    assert set(sidecar["resources"]) == {"limits", "requests"}
    assert "lifecycle" not in sidecar  # kubelet ends it after the app, which needs it until then
    init = named(pod["spec"]["initContainers"], "hoplite-init")
    assert init["securityContext"]["capabilities"] == {
        "add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]}
    assert "restartPolicy" not in init
    assert flags_of(pod) == {
        "-p": "15001", "-z": "15006", "-u": "1337", "-g": "1337", "-m": "REDIRECT", "-i": "*",
        "-x": "", "-b": "*", "-d": "15090,15021,15020"}


def test_every_label_of_the_metrics_has_its_variable(inject):
    pod = inject((KUBERNETES / "podinfo.yaml").read_text())[0]["spec"]["template"]
    told = variables(sidecar_of(pod))
    for name, path in {
            "POD_NAME": "metadata.name", "POD_NAMESPACE": "metadata.namespace",
            "INSTANCE_IP": "status.podIP", "SERVICE_ACCOUNT": "spec.serviceAccountName",
            "POD_LABEL_APP": "metadata.labels['app']",
            "POD_LABEL_VERSION": "metadata.labels['version']",
            "POD_LABEL_APP_KUBERNETES_IO_NAME": "metadata.labels['app.kubernetes.io/name']",
            "POD_LABEL_APP_KUBERNETES_IO_VERSION": "metadata.labels['app.kubernetes.io/version']",
            "POD_LABEL_SERVICE_ISTIO_IO_CANONICAL_NAME":
                "metadata.labels['service.istio.io/canonical-name']",
            "POD_LABEL_SERVICE_ISTIO_IO_CANONICAL_REVISION":
                "metadata.labels['service.istio.io/canonical-revision']"}.items():
        assert told[name] == {"fieldRef": {"fieldPath": path}}, name
    assert told["ISTIO_META_WORKLOAD_NAME"] == "podinfo"
    assert told["ISTIO_META_OWNER"] == (
        "kubernetes://apis/apps/v1/namespaces/test/deployments/podinfo")
    assert told["ISTIO_META_CLUSTER_ID"] == "Kubernetes"
    assert [port["containerPort"] for port in json.loads(told["ISTIO_META_POD_PORTS"])] == [
        9898, 9797, 9999]


def test_the_apps_metrics_go_through_the_merge(inject):
    pod = inject((KUBERNETES / "podinfo.yaml").read_text())[0]["spec"]["template"]
    told = {key: value for key, value in pod["metadata"]["annotations"].items()
            if key.startswith("prometheus.io/")}
    assert told == {"prometheus.io/scrape": "true", "prometheus.io/port": "15020",
                    "prometheus.io/path": "/stats/prometheus"}
    was = json.loads(variables(sidecar_of(pod))["ISTIO_PROMETHEUS_ANNOTATIONS"])
    assert was == {"scrape": "true", "port": "9797"}


def test_without_metrics_of_its_own_the_pod_is_scraped_for_the_sidecars(inject):
    pod = inject(POD % "")[0]
    assert pod["metadata"]["annotations"]["prometheus.io/port"] == "15020"
    assert "ISTIO_PROMETHEUS_ANNOTATIONS" not in variables(sidecar_of(pod))


def test_the_merge_can_be_declined(inject):
    pod = inject(POD % 'prometheus.istio.io/merge-metrics: "false", prometheus.io/port: "80"')[0]
    assert pod["metadata"]["annotations"]["prometheus.io/port"] == "80"
    assert "prometheus.io/path" not in pod["metadata"]["annotations"]


def test_probes_are_rewritten_and_handed_on(inject):
    pod = inject("""\
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  containers:
  - name: a
    ports: [{name: web, containerPort: 8080}]
    livenessProbe: {httpGet: {path: "/l?x=$(HOME)", port: web, scheme: HTTPS, httpHeaders: [{name: X, value: y}]}, timeoutSeconds: 7}
    readinessProbe: {tcpSocket: {port: 8080}, failureThreshold: 9}
    startupProbe: {grpc: {port: 9000, service: s}}
  - name: b
    livenessProbe: {exec: {command: ["true"]}}
    readinessProbe: {httpGet: {port: 80, host: elsewhere.example}}
""")[0]
    first, second = (named(pod["spec"]["containers"], name) for name in "ab")
    assert first["livenessProbe"] == {
        "httpGet": {"path": "/app-health/a/livez", "port": 15020}, "timeoutSeconds": 7}
    assert first["readinessProbe"] == {
        "httpGet": {"path": "/app-health/a/readyz", "port": 15020}, "failureThreshold": 9}
    assert first["startupProbe"] == {"httpGet": {"path": "/app-health/a/startupz", "port": 15020}}
    assert second["livenessProbe"] == {"exec": {"command": ["true"]}}
    assert second["readinessProbe"]["httpGet"]["host"] == "elsewhere.example"
    told = variables(sidecar_of(pod))["ISTIO_KUBE_APP_PROBERS"]
    # Kubernetes makes $(HOME) of $$(HOME), and would put a variable in the place of $(HOME).
    assert "$$(HOME)" in told
    assert json.loads(told.replace("$$", "$")) == {
        "/app-health/a/livez": {
            "httpGet": {"path": "/l?x=$(HOME)", "port": 8080, "scheme": "HTTPS",
                        "httpHeaders": [{"name": "X", "value": "y"}]}, "timeoutSeconds": 7},
        "/app-health/a/readyz": {"tcpSocket": {"port": 8080}, "timeoutSeconds": 1},
        "/app-health/a/startupz": {"grpc": {"port": 9000, "service": "s"}, "timeoutSeconds": 1}}


def test_lifecycle_hooks_are_rewritten_and_handed_on(inject):
    """As Istio does it: hooks by HTTP and TCP; kubelet runs the others itself."""
    pod = inject("""\
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  initContainers:
  - name: i
    restartPolicy: Always
    lifecycle: {postStart: {httpGet: {port: 1}}}
  containers:
  - name: a
    ports: [{name: web, containerPort: 8080}]
    lifecycle: # hooks
      postStart:
        httpGet: {path: begun, port: web, httpHeaders: [{name: X, value: y}]} # begun
      preStop:
        tcpSocket:
          port: 8081
  - name: b
    lifecycle: {preStop: {exec: {command: [sleep, "5"]}}, postStart: {sleep: {seconds: 1}}}
  - name: c
    lifecycle: {preStop: {httpGet: {port: 80, host: elsewhere.example}}}
""")[0]
    first, second, third = (named(pod["spec"]["containers"], name) for name in "abc")
    assert first["lifecycle"] == {
        "postStart": {"httpGet": {"path": "/app-lifecycle/a/poststartz", "port": 15020}},
        "preStop": {"httpGet": {"path": "/app-lifecycle/a/prestopz", "port": 15020}}}
    assert second["lifecycle"] == {"preStop": {"exec": {"command": ["sleep", "5"]}},
                                   "postStart": {"sleep": {"seconds": 1}}}
    assert third["lifecycle"]["preStop"]["httpGet"]["host"] == "elsewhere.example"
    assert json.loads(variables(sidecar_of(pod))["ISTIO_KUBE_APP_PROBERS"]) == {
        "/app-lifecycle/i/poststartz": {"httpGet": {"path": "/", "port": 1, "scheme": "HTTP"}},
        "/app-lifecycle/a/poststartz": {
            "httpGet": {"path": "begun", "port": 8080, "scheme": "HTTP",
                        "httpHeaders": [{"name": "X", "value": "y"}]}},
        "/app-lifecycle/a/prestopz": {"tcpSocket": {"port": 8081}}}


def test_a_hook_by_https_is_left_to_kubelet_in_words(hoplite):
    """A probe may be answered by whether the port is open; a hook has to be called."""
    done = hoplite("inject", "-f", "-", text=POD % "" +
                   "    lifecycle: {preStop: {httpGet: {port: 443, scheme: HTTPS}}}\n")
    pod = yaml.safe_load(done.stdout)
    assert pod["spec"]["containers"][0]["lifecycle"]["preStop"]["httpGet"]["port"] == 443
    assert ("warning: Pod web: /spec/containers/web/lifecycle/preStop: the hook's scheme is HTTPS"
            in done.stderr.decode())


def test_an_ordinary_sidecar_is_waited_for_by_nothing_before_it(inject):
    """The app's own restartable init containers start before it does."""
    pod = inject(POD % "" + """\
  initContainers:
  - name: own
    restartPolicy: Always
    startupProbe: {tcpSocket: {port: 1}}
    livenessProbe: {tcpSocket: {port: 1}}
    lifecycle: {postStart: {httpGet: {port: 1}}, preStop: {httpGet: {port: 1}}}
""", "--classic")[0]
    own = named(pod["spec"]["initContainers"], "own")
    assert own["startupProbe"] == {"tcpSocket": {"port": 1}}
    assert own["livenessProbe"]["httpGet"]["path"] == "/app-health/own/livez"
    assert own["lifecycle"] == {
        "postStart": {"httpGet": {"port": 1}},
        "preStop": {"httpGet": {"path": "/app-lifecycle/own/prestopz", "port": 15020}}}


def test_aliases_of_probes_and_hooks(inject):
    """One that stands for a rewritten one follows it; one of another kind is nobody's business."""
    pod = inject("""\
apiVersion: v1
kind: Pod
spec:
  containers:
  - name: a
    livenessProbe: &run {exec: {command: [run]}}
    readinessProbe: *run
    startupProbe: &probe {tcpSocket: {port: 80}}
    lifecycle: &hooks {preStop: &hook {httpGet: {port: 80}}, postStart: *hook}
  - name: b
    startupProbe: *probe
    lifecycle: *hooks
  - {name: c, lifecycle: &sleep {preStop: {exec: {command: [run]}}}}
  - {name: d, lifecycle: *sleep}
  - {name: e, <<: {livenessProbe: {exec: {command: [run]}}}}
""")[0]
    first, second = (named(pod["spec"]["containers"], name) for name in "ab")
    assert first["readinessProbe"] == {"exec": {"command": ["run"]}}
    assert second["startupProbe"]["httpGet"]["path"] == "/app-health/a/startupz"
    assert second["lifecycle"] == first["lifecycle"]
    assert first["lifecycle"]["postStart"]["httpGet"]["path"] == "/app-lifecycle/a/prestopz"


def test_services_of_the_same_stream_are_made_known(inject):
    pod = inject((KUBERNETES / "podinfo.yaml").read_text())[0]["spec"]["template"]
    services = json.loads(variables(sidecar_of(pod))["HOPLITE_SERVICES"])
    assert [one["port"] for one in services] == [9898, 9999]
    assert services[0]["hosts"] == ["podinfo.test.svc.cluster.local", "podinfo.test.svc",
                                    "podinfo.test", "podinfo"]
    assert services[0]["endpoints"] == ["podinfo.test.svc.cluster.local:9898"]
    assert services[0]["tls"] == {"mode": "mutual",
                                  "sans": ["spiffe://cluster.local/ns/test/sa/default"]}
    assert services[0]["traffic"] == "http"


@pytest.mark.parametrize("kind, path, api", [
    ("Deployment", ["template"], "apps/v1"), ("StatefulSet", ["template"], "apps/v1"),
    ("DaemonSet", ["template"], "apps/v1"), ("ReplicaSet", ["template"], "apps/v1"),
    ("Job", ["template"], "batch/v1"), ("CronJob", ["jobTemplate", "spec", "template"], "batch/v1"),
])
def test_every_kind_with_pods_gets_its_sidecar(inject, kind, path, api):
    pod = {"spec": {"containers": [{"name": "c"}]}}
    for step in reversed(path):
        pod = {step: pod} if step != "spec" else {"spec": pod}
    document = {"apiVersion": api, "kind": kind, "metadata": {"name": "x"}, "spec": pod}
    for text in (yaml.safe_dump(document), json.dumps(document, indent=2), json.dumps(document)):
        found = inject(text)[0]["spec"]
        for step in path:
            found = found[step]
        owner = variables(sidecar_of(found))["ISTIO_META_OWNER"]
        assert owner == (f"kubernetes://apis/{api}/namespaces/$(POD_NAMESPACE)/"
                         f"{kind.lower()}s/x")


def test_json_stays_json(hoplite):
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
         "spec": {"containers": [{"name": "c"}]}}]}, indent=4)
    done = hoplite("inject", "-f", "-", text=text)
    pod = json.loads(done.stdout)["items"][0]
    assert sidecar_of(pod)["args"] == ["sidecar"]
    assert max(map(len, done.stdout.decode().splitlines())) < 400  # not all of it on one line


def test_other_kinds_and_empty_documents_pass(hoplite):
    text = "---\n# nothing\n---\napiVersion: v1\nkind: ConfigMap\ndata: {a: yes}\n...\n"
    done = hoplite("inject", "-f", "-", text=text)
    assert (done.returncode, done.stdout.decode(), done.stderr) == (OK, text, b"")


# --- what is wrong is said with its place -------------------------------------------------------


@pytest.mark.parametrize("text, said", [
    ("a: [1\nb: 2\n", "stdin:2:2: this is not YAML: "),
    ("a:\n\t- b\n", "stdin:2:2: this is not YAML: "),
    (b"a: \xff\n", "stdin:1:4: this is not YAML: not UTF-8 text"),
    (b"\xff\xfea\x00:\x00", "stdin:1:1: this is not YAML: not UTF-8 text"),
    ("just text\n", "stdin:1:1: this is no Kubernetes object"),
    ("---\n- a\n", "stdin:2:1: this is no Kubernetes object"),
    ("kind: Pod\n", "stdin:1:1: this is no Kubernetes object: apiVersion is missing"),
    ("apiVersion: v1\nkind: ConfigMap\n---\n\na: 1\n",
     "stdin:5:1: this is no Kubernetes object: kind is missing"),
    ("apiVersion: apps/v1\nkind: Deployment\nspec:\n  replicas: 1\n",
     "stdin:4:3: spec.template is missing"),
    ("apiVersion: v1\nkind: Pod\nspec: {containers: []}\n",
     "stdin:3:20: spec.containers is missing, or not a list of containers"),
    ("apiVersion: v1\nkind: Pod\nspec: [1]\n", "stdin:3:7: spec is not a map"),
    (POD % "" + "  volumes: 7\n",
     'stdin:9:12: "volumes" is neither empty nor what Kubernetes has there'),
    (POD % "" + "  initContainers: [{name: istio-proxy}]\n",
     'stdin:9:27: initContainers has an item named "istio-proxy" already, and it is not ours'),
    (POD % "hoplite.io/mtls: on",
     'stdin:5:34: hoplite.io/mtls: found "on"; allowed: off, permissive, strict'),
    (POD % "traffic.sidecar.istio.io/excludeInboundPorts: 80;81",
     'excludeInboundPorts: found "80;81"; allowed: ports with commas between'),
    (POD % "" + "    livenessProbe: {httpGet: {port: web}}\n",
     'stdin:9:37: the port "web" is no port of this container'),
    (POD % 'status.sidecar.istio.io/port: "15090"',
     'status.sidecar.istio.io/port: found "15090"; allowed: a port other than'),
    (POD % 'status.sidecar.istio.io/port: "0"', "allowed: a port other than"),
    (POD % 'prometheus.io/port: "15090"',
     'stdin:5:37: prometheus.io/port: found "15090"; allowed: a port that is not the sidecar\'s own'),
    (POD % "prometheus.io/port: metrics", 'prometheus.io/port: found "metrics"; allowed: a port'),
    (POD % "sidecar.istio.io/interceptionMode: NONE", "allowed: REDIRECT or TPROXY"),
    (POD % "sidecar.istio.io/proxyCPU: much",
     'sidecar.istio.io/proxyCPU: found "much"; allowed: a quantity such as 100m or 128Mi'),
    (POD % "hoplite.io/mlts: strict", 'stdin:5:34: there is no annotation "hoplite.io/mlts"'),
    ((POD % "").replace("spec:", "spec: {}\nspec:"), 'stdin:7:1: the key "spec" is here twice'),
    (POD % "" + "    env: [{name: A, value: b, name: C}]\n",
     'stdin:9:31: the key "name" is here twice'),
    (POD % "" + "  - image: x\n", "stdin:9:3: a container without a name"),
    (POD % "" + "  - null\n", "stdin:9:3: a container without a name"),
    (POD % "" + "  initContainers: [{name: web}]\n",
     'stdin:8:3: another container is named "web" already'),
    ("apiVersion: v1\nkind: Pod\nx: &s {containers: [{name: c}]}\nspec: *s\n",
     "stdin:4:7: spec is an alias"),
    ("apiVersion: v1\nkind: Pod\nx: &s {volumes: [{name: v}]}\nspec:\n  <<: *s\n  containers: "
     "[{name: c}]\n", 'stdin:5:3: "volumes" comes in by a merge key (<<)'),
    (POD % "" + "    livenessProbe: {httpGet: {port: &p 80}}\n    command: [*p]\n",
     "stdin:9:37: an alias elsewhere needs this anchor"),
    ("[" * 3000, "this is not YAML: "),
])
def test_bad_input_is_refused_with_its_place(hoplite, text, said):
    done = hoplite("inject", "-f", "-", text=text)
    assert (done.returncode, done.stdout) == (BAD_INPUT, b"")
    assert said in done.stderr.decode()


def test_a_file_is_named_in_messages(hoplite, tmp_path):
    (tmp_path / "bad.yaml").write_text("kind: Pod\n")
    done = hoplite("inject", "-f", "bad.yaml")
    assert done.stderr.decode().startswith("bad.yaml:1:1: ")
    missing = hoplite("inject", "-f", "nowhere.yaml")
    assert missing.returncode == FAILURE
    assert 'cannot read "nowhere.yaml"' in missing.stderr.decode()


@pytest.mark.parametrize("arguments", [
    ["inject"], ["uninject"], ["inject", "-f", "-", "--mtls", "on"],
    ["inject", "-f", "-", "--env", "NAME"], ["inject", "-f", "-", "--mode", "none"],
    ["inject", "-f", "-", "--cert-secret", "a", "--cert-csi", "b"],
])
def test_wrong_usage(hoplite, arguments):
    done = hoplite(*arguments)
    assert (done.returncode, done.stdout) == (USAGE, b"")


def test_uninject_says_when_the_sidecar_was_changed(hoplite):
    text = hoplite("inject", "-f", "-", text=POD % "").stdout.decode()
    changed = text.replace("- name: istio-proxy", "- name: renamed")
    kept = hoplite("uninject", "-f", "-", text=changed)
    assert kept.returncode == OK  # the whole list is ours
    broken = hoplite("uninject", "-f", "-", text=text.replace("  initContainers:", "  wrong:"))
    assert broken.returncode == BAD_INPUT
    assert "/spec/initContainers is not there any more" in broken.stderr.decode()
    spoilt = hoplite("uninject", "-f", "-", text=POD % "hoplite.io/status: '{'")
    assert spoilt.returncode == BAD_INPUT
    assert "is not as `hoplite inject` wrote it" in spoilt.stderr.decode()


def test_changes_elsewhere_survive_uninject(hoplite):
    text = POD % ""
    injected = hoplite("inject", "-f", "-", text=text).stdout.decode()
    changed = injected.replace("- name: web\n", "- name: web\n    image: web:2 # new\n")
    assert changed != injected
    done = hoplite("uninject", "-f", "-", text="# a new first line\n" + changed)
    assert done.stdout.decode() == ("# a new first line\n" + text +
                                    "    image: web:2 # new\n")


def test_hundreds_of_objects_take_no_time_to_speak_of(hoplite):
    done = hoplite("inject", "-f", "-", text="---\n".join([POD % "prometheus.io/port: '1'"] * 300))
    assert done.returncode == OK
    assert done.stdout.count(b"name: istio-proxy") == 300


def test_more_services_than_a_variable_holds(hoplite):
    """A variable of 128 KiB keeps a container from starting. A pod's own Services come first."""
    text = POD.replace("name: web", "labels: {app: web}\n  name: web", 1) % ""
    service = ("---\napiVersion: v1\nkind: Service\nmetadata: {name: s%d}\n"
               "spec: {selector: {app: %s}, ports: [{port: 80}]}\n")
    text += "".join(service % (i, "other") for i in range(400)) + service % (999, "web")
    text += "---\n" + POD.replace("name: web", "labels: {app: other}\n  name: other", 1) % ""
    done = hoplite("inject", "-f", "-", text=text)
    assert done.returncode == OK
    pods = [one for one in yaml.safe_load_all(done.stdout) if one["kind"] == "Pod"]
    told = [variables(sidecar_of(pod))["HOPLITE_SERVICES"] for pod in pods]
    assert all(30_000 < len(text) <= 65_536 for text in told)
    names = [one["name"] for one in json.loads(told[0])]
    assert names[:3] == ["s999", "s0", "s1"]
    assert (f"warning: Pod web: {401 - len(names)} Services do not fit into HOPLITE_SERVICES"
            in done.stderr.decode())


def test_aliases_do_not_multiply(hoplite):
    """A bomb of aliases is read in the size that it has."""
    lines = ["a0: &a0 [x, x]"] + [
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
    merges = ["m0: &m0 {k: v}"] + [
        f"m{i}: &m{i} {{<<: [{', '.join([f'*m{i - 1}'] * 9)}]}}" for i in range(1, 30)]
    text = (POD % "<<: *m29").replace("metadata:", "\n".join(lines + merges) + "\nmetadata:")
    assert hoplite("inject", "-f", "-", text=text).returncode == OK


def test_a_closed_stdout_is_told(build_dir):
    """Nothing may be taken for written that was not."""
    with open("/dev/full", "wb") as full:
        done = subprocess.run([build_dir / "hoplite", "inject", "-f", KUBERNETES / "podinfo.yaml"],
                              stdout=full, stderr=subprocess.PIPE, timeout=seconds(),
                              env={**os.environ})
    assert done.returncode == FAILURE
    assert b"cannot write to stdout" in done.stderr
