"""`hoplite sidecar` in a pod: from environment alone, its ports, the agent's pages, its end."""

import http.server
import json
import signal
import socket
import threading

import pytest

from hoplite_e2e import metrics, pods
from hoplite_e2e.deadline import poll_until, seconds
from hoplite_e2e.process import Process

WHY_NOT = pods.missing()
pytestmark = pytest.mark.skipif(
    WHY_NOT is not None, reason=f"NOTHING OF `hoplite sidecar` WAS CHECKED: {WHY_NOT}")

APP_METRICS = "# TYPE app_things counter\napp_things 3\nprocess_cpu_seconds_total 1\n"


class App(http.server.BaseHTTPRequestHandler):
    """The app: /metrics, /healthz, /broken; what it saw is in `seen`."""

    seen = []
    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def do_GET(self):  # noqa: N802
        type(self).seen.append((self.path, self.client_address[0], dict(self.headers)))
        status = 500 if self.path == "/broken" else 302 if self.path == "/moved" else 200
        body = APP_METRICS.encode() if self.path == "/metrics" else b"app\n"
        self.send_response(status)
        self.send_header("content-type", self.content_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class InPod(http.server.ThreadingHTTPServer):
    def __init__(self, pod, port, handler):
        super().__init__(("", 0), handler, bind_and_activate=False)
        self.socket.close()
        self.socket = pod.listen("0.0.0.0", port)
        threading.Thread(target=self.serve_forever, daemon=True, args=(0.05,)).start()


PROBERS = {
    "/app-health/podinfo/livez": {"httpGet": {"path": "/healthz", "port": 9797, "scheme": "HTTP",
                                              "httpHeaders": [{"name": "X-Who", "value": "kubelet"}]},
                                  "timeoutSeconds": 1},
    "/app-health/podinfo/readyz": {"httpGet": {"path": "/broken", "port": 9797}},
    "/app-health/podinfo/startupz": {"tcpSocket": {"port": 9797}},
    "/app-health/moved/livez": {"httpGet": {"path": "moved", "port": 9797}},
    "/app-health/closed/livez": {"tcpSocket": {"port": 9}},
    "/app-health/grpc/livez": {"grpc": {"port": 9998, "service": ""}},
    "/app-health/grpc/readyz": {"grpc": {"port": 9998, "service": "nobody.Knows"}},
    "/app-health/nogrpc/livez": {"grpc": {"port": 9797}},
}


class Pod:
    def __init__(self, world, name, **more):
        self.lab = pods.Lab(world)
        self.pod = self.lab.server
        self.pod.rules(pods.sidecar_rules())
        files = self.lab.mtls(self.lab.server_identity)
        self.app = InPod(self.pod, 9797, App)
        world_service = self.lab.service("app", self.pod, 9898, grpc_port=9998)
        assert world_service
        variables = {
            "POD_NAME": "podinfo-1", "POD_NAMESPACE": "test", "INSTANCE_IP": self.pod.v4,
            "SERVICE_ACCOUNT": "podinfo", "ISTIO_META_WORKLOAD_NAME": "podinfo",
            "POD_LABEL_APP": "podinfo", "ISTIO_META_INTERCEPTION_MODE": "REDIRECT",
            "ISTIO_PROMETHEUS_ANNOTATIONS": json.dumps({"scrape": "true", "port": "9797"}),
            "ISTIO_KUBE_APP_PROBERS": json.dumps(PROBERS), "HOPLITE_MTLS_MODE": "strict",
            "HOPLITE_MTLS_CERT": files["cert"], "HOPLITE_MTLS_KEY": files["key"],
            "HOPLITE_MTLS_CA": files["ca"],
            "HOPLITE_SERVICES": json.dumps([{
                "name": "podinfo", "namespace": "test", "port": 9898,
                "hosts": ["podinfo.test.svc.cluster.local", "podinfo"],
                "addresses": ["10.96.0.10"], "endpoints": [f"{self.pod.v4}:9898"],
                "tls": {"mode": "mutual", "sans": [self.lab.server_identity.principal]}}]),
            **more}
        self.sidecar = Process(self.pod.wrap([world.hoplite_binary, "sidecar"], pods.PROXY_ID),
                               name, env=variables)
        world.processes.append(self.sidecar)
        self.sidecar.wait_line(r"^ready in \d+ ms")

    def get(self, port, path, host="127.0.0.1", **headers):
        return self.pod.fetch(f"http://{host}:{port}{path}", headers)

    def close(self):
        self.app.shutdown()
        self.lab.close()


@pytest.fixture(scope="module")
def pod(module_world):
    made = Pod(module_world, "sidecar")
    yield made
    made.close()


def test_it_listens_where_istio_does(pod):
    listening = pod.pod.run("ss", "-Hltn").stdout.decode()
    addresses = {line.split()[3] for line in listening.splitlines()}
    for port in (15001, 15006, 15020, 15021, 15090):
        assert {f"0.0.0.0:{port}", f"[::]:{port}"} <= addresses, addresses
    assert {"127.0.0.1:15000", "[::1]:15000"} <= addresses
    assert pod.get(15021, "/healthz/ready")[0] == 200
    assert pod.get(15021, "/healthz/ready", host=f"[{pod.pod.v6}]")[0] == 200
    assert pod.get(15000, "/stats/prometheus")[0] == 200


def test_the_simplest_case(pod):
    for _ in range(10):
        done = pod.pod.run("curl", "-sS", "--max-time", seconds(), "--resolve",
                           "podinfo:9898:10.96.0.10", "http://podinfo:9898/echo", uid=1000)
        assert done.returncode == 0

    def both():
        seen = metrics.Metrics(pod.get(15090, "/stats/prometheus")[2].decode())
        labels = {"source_workload": "podinfo", "destination_workload": "podinfo",
                  "destination_service": "podinfo.test.svc.cluster.local"}
        return (seen.total("istio_requests_total", reporter="source",
                           connection_security_policy="unknown", **labels),
                seen.total("istio_requests_total", reporter="destination",
                           connection_security_policy="mutual_tls", **labels))

    poll_until(lambda: both() == (10, 10), lambda: f"10 and 10; it is {both()}")


def test_metrics_are_merged(pod):
    for path in ("/stats/prometheus", "/metrics"):
        # An app that is late is left out.
        status, headers, body = poll_until(
            lambda path=path: next((each for each in [pod.get(15020, path)]
                                    if b"app_things" in each[2]), None), "the app's metrics")
        assert status == 200
        assert headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        merged = metrics.Metrics(body.decode())  # fails on a series or a TYPE that is there twice
        assert merged.total("app_things") == 3
        assert merged.total("process_cpu_seconds_total") == 1
        assert merged.samples["istio_build"]
    own = metrics.Metrics(pod.get(15090, "/stats/prometheus")[2].decode())
    assert "app_things" not in own.samples and own.total("process_cpu_seconds_total") != 1


def test_the_app_cannot_spoil_a_scrape(pod, monkeypatch):
    monkeypatch.setattr(App, "content_type", "application/openmetrics-text; version=1.0.0")
    status, headers, body = pod.get(15020, "/stats/prometheus")
    assert status == 200 and headers["content-type"].startswith("text/plain")
    assert b"istio_build" in body and b"app_things" not in body


def test_probes_are_asked_as_the_kubelet_would(pod):
    def ask(path):
        return pod.get(15020, f"/app-health/{path}", host=pod.pod.v4)[0]

    def passes(path):  # once the app is fast enough for its probe's second
        poll_until(lambda: ask(path) == 200, f"{path} passes")

    passes("podinfo/livez")
    path, peer, headers = [each for each in App.seen if each[0] == "/healthz"][-1]
    assert peer == "127.0.0.6" and headers["X-Who"] == "kubelet"
    assert ask("podinfo/readyz") == 503
    passes("podinfo/startupz")
    passes("grpc/livez")
    assert ask("grpc/readyz") == 503
    passes("moved/livez")
    assert ask("closed/livez") == 503
    assert ask("nogrpc/livez") == 503
    assert ask("unheard/of") == 404


def post(pod, path, host="127.0.0.1", method="POST"):
    done = pod.pod.run("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-X", method,
                       f"http://{host}:15020{path}", check=False)
    return int(done.stdout)


@pytest.mark.parametrize("path", ["/quitquitquit", "/drain"])
def test_only_the_pod_itself_may_end_it(pod, path):
    assert post(pod, path, method="GET") == 405
    done = pod.lab.client.run("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-X", "POST",
                              f"http://{pod.pod.v4}:15020{path}", check=False)
    assert done.stdout == b"403"
    assert pod.sidecar.running()


def test_quitquitquit_ends_it_and_a_signal_after_drain_is_no_second_word(world):
    made = Pod(world, "leaving", HOPLITE_TIMEOUTS_DRAIN_DELAY="5s")
    try:
        assert post(made, "/drain") == 200
        poll_until(lambda: made.get(15021, "/healthz/ready")[0] == 503, "not ready any more")
        made.sidecar.signal(signal.SIGTERM)
        assert made.sidecar.wait_line("leaving", "stderr")
        poll_until(lambda: not made.sidecar.running(), "it has ended", 20)
        assert not any("second" in line for line in made.sidecar.stderr)
    finally:
        made.close()


def test_quitquitquit(world):
    made = Pod(world, "quitting")
    try:
        with made.pod.connect("127.0.0.1", 15021) as idle:
            assert idle
            assert post(made, "/quitquitquit") == 200
            poll_until(lambda: not made.sidecar.running(), "it has ended", 20)
    finally:
        made.close()


def test_what_is_wrong_with_the_environment_is_said(world):
    process = Process([world.hoplite_binary, "sidecar"], "wrong",
                      env={"HOPLITE_SERVICES": "[{", "POD_NAME": "x"})
    process.wait_line("HOPLITE_SERVICES is not JSON", "stderr")
    poll_until(lambda: not process.running(), "it has ended")
    process.stop()
