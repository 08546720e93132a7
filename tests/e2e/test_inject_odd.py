"""`hoplite inject` on manifests as tools and people really write them, and on hostile ones.

Whatever is taken comes back byte for byte from uninject, means what it meant but for what was
added, and is not changed by a second injection. What is not taken is refused in words.
"""

import copy
import json

import pytest
from hoplite_e2e.deadline import seconds
from hoplite_e2e.injected import hoplite, named, sidecar_of  # noqa: F401
from hoplite_e2e.manifests import ARGO, HELM, KUBECTL, KUSTOMIZE

yaml = pytest.importorskip(
    "yaml", reason="python3-yaml IS NOT INSTALLED (docker/install-deps.sh test): nothing checked "
                   "what hoplite inject makes of odd manifests")

OK, BAD_INPUT = 0, 78

TAKEN = {
    "helm": HELM,
    "helm on Windows": HELM.replace("\n", "\r\n"),
    "kustomize": KUSTOMIZE,
    "kubectl": KUBECTL,
    "argo": ARGO,
    "a list whose items do not say their kind": """\
{"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": [
 {"metadata": {"name": "a"}, "spec": {"containers": [{"name": "a"}]}},
 {"metadata": {"name": "b"}, "spec": {"containers": [{"name": "b"}]}}]}""",
    "JSON of a Windows editor": "\ufeff" + json.dumps(
        {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": "c"}]}},
        indent=1).replace("\n", "\r\n"),
    "every field null": """\
apiVersion: v1
kind: Pod
metadata: {name: ~, labels: null, annotations: ~, namespace: }
spec:
  hostNetwork: null
  os: ~
  nodeSelector:
  initContainers: null
  volumes:
  securityContext:
  containers:
  - name: a
    env: null
    ports: ~
    livenessProbe:
    lifecycle: null
    readinessProbe: {httpGet: {port: 80, path: null, httpHeaders: null, host: ~, scheme: }}
  - name: b
    lifecycle: {preStop: ~, postStart: {httpGet: null}}
""",
    "lists in all their emptiness": """\
apiVersion: v1
kind: Pod
spec: {initContainers: [], volumes: [   # none

  ], containers: [ {name: a, ports: [], env: [ ]} ]}
""",
    "flow over lines": """\
apiVersion: v1
kind: Pod
spec:
  containers: [
    # the first
    { name: a,   # a
      livenessProbe: {
        httpGet: { port: 80 } , } },
    {"name":"b"}
  ]   # done
  initContainers: [{name: i}
  ,{name: j}]
""",
    "explicit keys": """\
? apiVersion
: v1
? kind
: Pod
? spec
:
  ? containers
  : - name: a
      ? livenessProbe
      : tcpSocket: {port: 1}
""",
    "tags": """\
!!map
apiVersion: !!str v1
kind: !!str Pod
spec: !!map
  containers: !!seq
  - !!map
    name: !!str a
    livenessProbe: !!map {tcpSocket: !!map {port: !!int 1}}
  volumes: !!seq [!!map {name: v}]
""",
    "directives": """\
%YAML 1.1
%TAG ! tag:example.org,2026:
---
apiVersion: v1
kind: Pod
spec: {containers: [{name: a}]}
...
%YAML 1.1
---
apiVersion: v1
kind: Pod
spec: {containers: [{name: b}]}
""",
    "documents that begin on the marker's line": """\
--- {apiVersion: v1, kind: Pod, spec: {containers: [{name: a}]}}
--- # a comment
--- !!map
apiVersion: v1
kind: Pod
spec:
  containers:
  - name: b
--- ~
---
...
---
""",
    "anchors all around": """\
apiVersion: v1
kind: Pod
metadata: &m
  labels: &l {app: &app web}
  annotations: &an {a: &text "1.10", b: *text}
spec: &spec
  nodeName: *app
  initContainers: &init
  - &first
    name: &n i
    image: &image x
  containers: &c
  - &second {name: &name a, image: *image, env: [&e {name: E, value: *app}]}
  - <<: *second
    name: b
    env: [*e]
  volumes: &v [&vol {name: v}]
  tolerations: [&t {key: k}, *t]
""",
    "merges that bring nothing of ours": """\
apiVersion: v1
kind: Pod
metadata:
  <<: {name: merged}
  annotations: {<<: [{a: b}, {c: "9797"}]}
spec:
  <<: {nodeName: n, restartPolicy: Always}
  containers:
  - {name: a, <<: {image: i, imagePullPolicy: Always}}
""",
    "names that are no texts elsewhere": """\
apiVersion: v1
kind: Pod
metadata: {name: 1.10, annotations: {on: "y", 1: "2", ~: "3", "true": "no"}}
spec:
  containers:
  - name: 1
    livenessProbe: {tcpSocket: {port: "80"}}
  - name: '1.0'
  - name: "true"
""",
    "comments wherever they may be": """\
# before
apiVersion: v1 # one
# two
kind: Pod # three
metadata: # four
    # five
    annotations: # six
      # seven
      a: b # eight
   # nine
# ten
spec: # eleven
# twelve
  containers: # thirteen
# fourteen
  - # fifteen
    # sixteen
    name: a # seventeen
# eighteen
    livenessProbe: # nineteen
# twenty
      tcpSocket: # twenty-one
        # twenty-two
        port: 1 # twenty-three
        # twenty-four
      # twenty-five
  # twenty-six
  - name: b
  # twenty-seven
# twenty-eight""",
    "texts that look like structure": """\
apiVersion: v1
kind: Pod
metadata:
  annotations:
    a: "x: {y: [z"
    b: 'it''s # not a comment'
    c: plain: no
    d: a#b
    e: "\\"\\\\\\n---\\n"
    f: >+
      folded: yes

      - not a list


    g: |-2
         kept
       -
spec:
  containers:
  - name: a
    args: ["}", ']', "# x", '{{ .Values.x }}', "*a", "&b", "!c", "%d", "@e", "`f"]
""".replace("    c: plain: no\n", "    c: plain no\n"),
    "old line breaks in comments and texts": """\
apiVersion: v1
kind: Pod
metadata: {annotations: {a: "x\u2028y\u2029z\x85", ключ: "\U0001F600"}} # \u2028 \x85
spec: {containers: [{name: a, livenessProbe: {httpGet: {path: "/é", port: 1}}}]}
""",
    "a line of a megabyte": """\
apiVersion: v1
kind: Pod
metadata: {annotations: {long: "%s"}}
spec: {containers: [{name: a}]}
""" % ("x" * 1_000_000),
    "hundreds of containers": "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n" + "".join(
        f"  - name: c{i}\n    livenessProbe: {{tcpSocket: {{port: {i + 1}}}}}\n"
        for i in range(300)),
    "deep, but not too deep": "apiVersion: v1\nkind: Pod\nspec:\n  x: " + "[" * 200 + "]" * 200 +
        "\n  containers: [{name: a}]\n",
}


def without_ours(document):
    """The document as it was: less what injection has added, its probes and annotations."""
    for pod in pods_in(document):
        spec = pod["spec"]
        for key in ("initContainers", "volumes"):
            kept = [one for one in spec.get(key) or []
                    if one["name"] not in ("hoplite-init", "istio-proxy", "hoplite-certs")]
            spec[key] = kept
        for container in spec["containers"] + spec["initContainers"]:
            for key in ("livenessProbe", "readinessProbe", "startupProbe", "lifecycle"):
                container.pop(key, None)
        metadata = pod.get("metadata") or {}
        pod["metadata"] = metadata
        metadata["annotations"] = {
            key: value for key, value in (metadata.get("annotations") or {}).items()
            if key != "hoplite.io/status" and not str(key).startswith("prometheus.io/")}
    return document


def pods_in(document):
    if not isinstance(document, dict):
        return []
    if "items" in document:
        return [pod for item in document["items"] for pod in
                pods_in({"kind": document["kind"][:-len("List")],
                         "apiVersion": document["apiVersion"], **item})]
    if "." in document["apiVersion"].partition("/")[0]:
        return []
    if document["kind"] == "Pod":
        return [document]
    template = document.get("spec", {}).get("template")
    return [template] if template else []


@pytest.mark.parametrize("name", TAKEN)
def test_it_is_taken_and_given_back(hoplite, name):  # noqa: F811
    text = TAKEN[name]
    done = hoplite("inject", "-f", "-", text=text)
    assert done.returncode == OK, done.stderr.decode()
    assert done.stdout != text.encode()
    back = hoplite("uninject", "-f", "-", text=done.stdout)
    assert back.returncode == OK, back.stderr.decode()
    assert back.stdout.decode() == text
    twice = hoplite("inject", "-f", "-", text=done.stdout)
    assert (twice.returncode, twice.stdout) == (OK, done.stdout)
    before = list(yaml.safe_load_all(text))
    after = list(yaml.safe_load_all(done.stdout.decode()))
    injected = [pod for document in after for pod in pods_in(document)]
    assert injected and all(sidecar_of(pod)["args"] == ["sidecar"] for pod in injected)
    assert [without_ours(copy.deepcopy(one)) for one in after] == [
        without_ours(copy.deepcopy(one)) for one in before]


CONFIG_MAP = "apiVersion: v1\nkind: ConfigMap\ndata:\n  big: |\n" + (
    "    ---\n    kind: Pod\n    spec: {containers: [{name: x}]}  # " + "x" * 60 + "\n") * 60_000

PASSED_BY = {
    "nothing": "",
    "a byte order mark": "\ufeff",
    "a comment": "# nothing here",
    "a marker": "---",
    "markers": "---\n---\n...\n---\n",
    "a ConfigMap of megabytes": CONFIG_MAP,
    "others' kinds of the same names": ARGO[ARGO.index("apiVersion: batch.volcano"):],
    "a kind that is nobody's": "apiVersion: x.example/v1\nkind: Pod\nspec: 7\n",
    "an empty List": "apiVersion: v1\nkind: List\nitems: []\n",
    "a List of nothing": "apiVersion: v1\nkind: List\nitems:\n",
}


@pytest.mark.parametrize("name", PASSED_BY)
def test_it_passes_untouched(hoplite, name):  # noqa: F811
    done = hoplite("inject", "-f", "-", text=PASSED_BY[name])
    assert (done.returncode, done.stdout.decode(), done.stderr) == (OK, PASSED_BY[name], b"")


POD = "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - name: a\n"

REFUSED = {
    "deep brackets": "[" * 100_000,
    "deep maps": "{a: " * 100_000,
    "deep lists": "".join(" " * i + "-\n" for i in range(3_000)),
    "dashes in a line": "- " * 100_000,
    "a NUL": POD + "  x: a\0b\n",
    "UTF-16": (POD.encode("utf-16")),
    "Latin-1": "# é\n".encode("latin-1") + POD.encode(),
    "half a character": POD.encode() + b"  x: \xe2\x82\n",
    "a surrogate": POD.encode() + b"  x: \xed\xa0\x80\n",
    "an alias of nothing": POD + "  x: *nothing\n",
    "an anchor that holds itself": POD + "  x: &x [*x]\n" + "  y: {<<: *x}\n  z: &x\n    *x\n",
    "an open bracket": POD + "  x: [\n",
    "tabs for indent": POD + "\tx: y\n",
    "a duplicate key": POD + "  containers:\n  - name: b\n",
    "a duplicate key in JSON": '{"apiVersion":"v1","kind":"Pod","spec":{"containers":[{"name":'
                               '"a"}]},"spec":{"containers":[{"name":"b"}]}}',
    "containers that are a map": "apiVersion: v1\nkind: Pod\nspec: {containers: {name: a}}\n",
    "a text for metadata": POD + "metadata: x\n",
    "a list for annotations": POD + "metadata: {annotations: [a]}\n",
    "a volume of our name": POD + "  volumes: [{name: hoplite-certs}]\n",
    "an init container of our name": POD + "  initContainers: [{name: hoplite-init}]\n",
    "an app of our name": POD.replace("name: a", "name: istio-proxy"),
    "a merged list": POD + "  <<: {<<: {initContainers: [{name: i}]}}\n",
    "a template in another language": "{{- if .Values.x }}\n" + POD + "{{- end }}\n",
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_in_words(hoplite, name):  # noqa: F811
    done = hoplite("inject", "-f", "-", text=REFUSED[name])
    assert (done.returncode, done.stdout) == (BAD_INPUT, b""), done.stderr.decode()
    said = done.stderr.decode().splitlines()
    assert len(said) == 1 and said[0].startswith("stdin"), said
    assert seconds()  # the deadline of the call was the time limit


def test_a_pod_keeps_its_own_volumes_and_init_containers_in_order(hoplite):  # noqa: F811
    done = hoplite("inject", "-f", "-", text=POD + "  initContainers: [{name: i}, {name: j}]\n"
                                                   "  volumes: [{name: v}, {name: w}]\n")
    spec = yaml.safe_load(done.stdout)["spec"]
    assert [one["name"] for one in spec["initContainers"]] == ["hoplite-init", "istio-proxy", "i",
                                                               "j"]
    assert [one["name"] for one in spec["volumes"]] == ["hoplite-certs", "v", "w"]
    assert named(spec["containers"], "a")
