"""What options and annotations make of an injected pod: Istio's, ours, and those without effect."""

import pytest
from hoplite_e2e.injected import (POD, flags_of, hoplite, inject, named,  # noqa: F401
                                  sidecar_of, variables)

pytest.importorskip(
    "yaml", reason="python3-yaml IS NOT INSTALLED (docker/install-deps.sh test): nothing checked "
                   "the options and annotations of hoplite inject")

OK = 0


def test_classic_is_an_ordinary_container_before_the_app(inject):
    pod = inject(POD % "" + "  initContainers: [{name: migrate}]\n", "--classic")[0]
    assert [one["name"] for one in pod["spec"]["initContainers"]] == ["migrate", "hoplite-init"]
    assert [one["name"] for one in pod["spec"]["containers"]] == ["istio-proxy", "web"]
    sidecar = named(pod["spec"]["containers"], "istio-proxy")
    assert "restartPolicy" not in sidecar
    assert "http://127.0.0.1:15021/healthz/ready" in (
        sidecar["lifecycle"]["postStart"]["exec"]["command"])
    assert pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"] == "web"


def test_tproxy_runs_as_root_of_the_proxys_group(inject):
    pod = inject(POD % "", "--mode", "tproxy")[0]
    assert flags_of(pod)["-m"] == "TPROXY"
    security = sidecar_of(pod)["securityContext"]
    assert (security["runAsUser"], security["runAsGroup"], security["runAsNonRoot"]) == (
        0, 1337, False)
    assert security["capabilities"] == {"add": ["NET_ADMIN"], "drop": ["ALL"]}
    assert variables(sidecar_of(pod))["ISTIO_META_INTERCEPTION_MODE"] == "TPROXY"


def test_certificates_come_from_a_secret_or_a_driver(inject):
    text = POD % "" + "  serviceAccountName: web\n"
    assert inject(text)[0]["spec"]["volumes"] == [
        {"name": "hoplite-certs", "secret": {"secretName": "hoplite.web"}}]
    assert inject(text, "--cert-secret", "mine")[0]["spec"]["volumes"][0]["secret"] == {
        "secretName": "mine"}
    csi = inject(text, "--cert-csi", "spiffe.csi.cert-manager.io", "--cert-csi-attribute",
                 "aud=1")[0]["spec"]["volumes"][0]["csi"]
    assert csi == {"driver": "spiffe.csi.cert-manager.io", "readOnly": True,
                   "volumeAttributes": {"aud": "1"}}
    off = inject(text, "--mtls", "off")[0]
    assert "volumes" not in off["spec"]
    assert "HOPLITE_MTLS_CERT" not in variables(sidecar_of(off))


def test_further_options(inject):
    pod = inject(POD % "", "--name", "hoplite", "--image", "r.example/h:1", "--cluster", "1.10",
                 "--trust-domain", "example.org", "--mtls", "strict",
                 "--env", "HOPLITE_LOG_ACCESS=all")[0]
    sidecar = sidecar_of(pod, "hoplite")
    told = variables(sidecar)
    assert sidecar["image"] == "r.example/h:1"
    assert (told["ISTIO_META_CLUSTER_ID"], told["TRUST_DOMAIN"], told["HOPLITE_MTLS_MODE"],
            told["HOPLITE_LOG_ACCESS"]) == ("1.10", "example.org", "strict", "all")


def test_annotations_outweigh_options(inject):
    pod = inject(POD % """
    traffic.sidecar.istio.io/includeInboundPorts: "80,81",
    traffic.sidecar.istio.io/excludeInboundPorts: "22",
    hoplite.io/skip-inbound-ports: "23, 24",
    traffic.sidecar.istio.io/includeOutboundPorts: "443",
    traffic.sidecar.istio.io/excludeOutboundPorts: "25",
    hoplite.io/skip-outbound-ports: "26",
    traffic.sidecar.istio.io/includeOutboundIPRanges: "10.0.0.0/8,fd00::/8",
    traffic.sidecar.istio.io/excludeOutboundIPRanges: 10.1.0.0/16,
    traffic.sidecar.istio.io/excludeInterfaces: eth1,
    istio.io/reroute-virtual-interfaces: "tap0",
    sidecar.istio.io/interceptionMode: TPROXY,
    sidecar.istio.io/proxyImage: mine,
    sidecar.istio.io/proxyCPU: "5",
    sidecar.istio.io/proxyMemoryLimit: 1e9,
    sidecar.istio.io/logLevel: trace,
    hoplite.io/mtls: strict,
    readiness.status.sidecar.istio.io/periodSeconds: "3",
    hoplite.io/cert-secret: own""", "--mtls", "off", "--image", "other")[0]
    assert flags_of(pod) == {
        "-p": "15001", "-z": "15006", "-u": "1337", "-g": "1337", "-m": "TPROXY",
        "-i": "10.0.0.0/8,fd00::/8", "-x": "10.1.0.0/16", "-b": "80,81",
        "-d": "15090,15021,15020,22,23,24", "-q": "443", "-o": "25,26", "-c": "eth1", "-k": "tap0"}
    sidecar = sidecar_of(pod)
    assert sidecar["image"] == "mine"
    assert sidecar["resources"]["requests"]["cpu"] == "5"
    assert sidecar["resources"]["limits"]["memory"] == "1e9"  # a text, as it was
    assert sidecar["readinessProbe"]["periodSeconds"] == 3
    assert variables(sidecar)["HOPLITE_LOG_LEVEL"] == "debug"
    assert variables(sidecar)["HOPLITE_MTLS_MODE"] == "strict"
    assert pod["spec"]["volumes"][0]["secret"] == {"secretName": "own"}


#: What some version of YAML takes for something other than this text, or not as a scalar at all.
NO_PLAIN_TEXTS = [
    "", " ", " x ", "~", "null", "Null", "true", "False", "yes", "NO", "on", "Off", "y", "N", "1",
    "-1", "+1", "1.10", ".5", "1e3", "0x1F", "0o17", "017", "0b1", "1_000", "12:30:45",
    "2024-01-01", "2001-12-14t21:59:43.10-05:00", ".inf", "-.INF", ".NaN", "=", "<<", "- a", "-",
    "? a", "a: b", "a:", "a #b", "#a", "'", "''", '"', "\\", "a'b\"c\\d", "{", "}", "[", "]", ",",
    "*a", "&a", "!a", "%a", "@a", "`a", "|", ">", "a\nb", "a\r\nb", "\t", "a\tb", "---", "...",
    "é", "日本", "\u2028", "\u2029", "\ufeff", "\x7f", "\x85", "\xa0", "\U0001F600", "\x1b[0m"]


@pytest.mark.parametrize("text", [
    POD % "", '{"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": "c"}]}}'])
def test_texts_stay_texts_in_every_version_of_yaml(inject, text):
    """PyYAML reads YAML 1.1; what inject itself reads back, with yaml-cpp, is 1.2."""
    arguments = []
    for number, value in enumerate(NO_PLAIN_TEXTS):
        arguments += ["--env", f"N{number}={value}"]
    told = variables(sidecar_of(inject(text, *arguments)[0]))
    assert [told[f"N{number}"] for number in range(len(NO_PLAIN_TEXTS))] == NO_PLAIN_TEXTS


def test_rewriting_of_probes_and_native_can_be_declined(inject):
    text = (POD % 'sidecar.istio.io/rewriteAppHTTPProbers: "false", '
                  'sidecar.istio.io/nativeSidecar: "false"')
    pod = inject(text + "    livenessProbe: {tcpSocket: {port: 80}}\n")[0]
    assert named(pod["spec"]["containers"], "web")["livenessProbe"] == {"tcpSocket": {"port": 80}}
    assert "ISTIO_KUBE_APP_PROBERS" not in variables(named(pod["spec"]["containers"],
                                                           "istio-proxy"))


@pytest.mark.parametrize("text, why", [
    (POD % 'sidecar.istio.io/inject: "false"', "sidecar.istio.io/inject says so"),
    (POD % 'sidecar.istio.io/inject: "No"', "sidecar.istio.io/inject says so"),
    (POD % 'hoplite.io/inject: "false"', "hoplite.io/inject says so"),
    (POD % "" + "  hostNetwork: true\n", "hostNetwork"),
    (POD % "" + "  hostNetwork: yes\n", "hostNetwork"),
    (POD % "" + "  <<: {hostNetwork: true}\n", "hostNetwork"),
    (POD % "" + "  os: {name: windows}\n", "it is for Windows"),
    (POD % "" + "  nodeSelector: {kubernetes.io/os: windows}\n", "it is for Windows"),
    ((POD % "").replace("  name: web\n  ann", "  name: web\n  namespace: kube-system\n  ann"),
     "the namespace kube-system is Kubernetes' own"),
    (POD % "sidecar.istio.io/status: x", "it has Istio's sidecar"),
    ((POD % "").replace("  name: web\n  ann", "  name: web\n  labels: {sidecar.istio.io/inject: "
                        "\"false\"}\n  ann"), "sidecar.istio.io/inject says so"),
])
def test_pods_that_get_none_say_why(hoplite, text, why):
    done = hoplite("inject", "-f", "-", text=text)
    assert (done.returncode, done.stdout.decode()) == (OK, text)
    assert f"left alone: Pod web: {why}" in done.stderr.decode()


def test_the_label_outweighs_the_annotation(inject):
    text = (POD % 'sidecar.istio.io/inject: "false"').replace(
        "  name: web\n  ann", '  name: web\n  labels: {sidecar.istio.io/inject: "true"}\n  ann')
    assert sidecar_of(inject(text)[0])


def test_the_status_port_can_be_another(inject):
    pod = inject(POD % 'status.sidecar.istio.io/port: "15120"' +
                 "    livenessProbe: {tcpSocket: {port: 80}}\n")[0]
    assert flags_of(pod)["-d"] == "15090,15021,15120"
    assert pod["metadata"]["annotations"]["prometheus.io/port"] == "15120"
    assert pod["spec"]["containers"][0]["livenessProbe"]["httpGet"]["port"] == 15120
    assert variables(sidecar_of(pod))["HOPLITE_AGENT_LISTEN"] == "*:15120"


def test_told_resources_stand_alone_as_in_istio(inject):
    """A default limit below a told request would be refused by Kubernetes."""
    pod = inject(POD % 'sidecar.istio.io/proxyCPU: "4"')[0]
    assert sidecar_of(pod)["resources"] == {"requests": {"cpu": "4"}}
    assert named(pod["spec"]["initContainers"], "hoplite-init")["resources"] == {
        "requests": {"cpu": "4"}}


@pytest.mark.parametrize("yes", ["true", "True", "TRUE", "t", "T", "1"])
def test_truth_is_read_as_istio_reads_it(inject, yes):
    assert "hoplite-init" in str(inject(POD % f'sidecar.istio.io/nativeSidecar: "{yes}"'))


def test_who_is_not_to_be_scraped_stays_so(inject):
    pod = inject(POD % 'prometheus.io/scrape: "false", prometheus.io/port: "80"')[0]
    told = {key: value for key, value in pod["metadata"]["annotations"].items()
            if key.startswith("prometheus.io/")}
    assert told == {"prometheus.io/scrape": "false", "prometheus.io/port": "80"}
    assert "ISTIO_PROMETHEUS_ANNOTATIONS" not in variables(sidecar_of(pod))


#: Istio's annotations of pods that mean nothing to this sidecar.
WITHOUT_EFFECT = [
    "sidecar.istio.io/userVolume", "sidecar.istio.io/userVolumeMount",
    "sidecar.istio.io/bootstrapOverride", "sidecar.istio.io/statsInclusionPrefixes",
    "sidecar.istio.io/statsHistogramBuckets", "sidecar.istio.io/statsEvictionInterval",
    "sidecar.istio.io/componentLogLevel", "sidecar.istio.io/agentLogLevel",
    "sidecar.istio.io/proxyImageType", "sidecar.istio.io/discoveryAddress",
    "readiness.status.sidecar.istio.io/applicationPorts", "proxy.istio.io/config",
    "inject.istio.io/templates", "prometheus.istio.io/scrape-targets",
    "traffic.sidecar.istio.io/excludeInboundPort"]


@pytest.mark.parametrize("name", WITHOUT_EFFECT)
def test_what_has_no_effect_is_said(hoplite, name):
    done = hoplite("inject", "-f", "-", text=POD % f"{name}: x")
    assert done.returncode == OK
    assert f"warning: Pod web: the annotation {name} has no effect" in done.stderr.decode()
