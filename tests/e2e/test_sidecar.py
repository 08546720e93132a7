"""`hoplite sidecar` in a pod: from environment alone, its ports, the agent's pages, its end."""

import gzip
import http.server
import json
import signal
import socket
import threading

import pytest

from hoplite_e2e import metrics, pods
from hoplite_e2e.deadline import poll_until, ready, seconds
from hoplite_e2e.process import Process

WHY_NOT = pods.missing()
pytestmark = pytest.mark.skipif(
    WHY_NOT is not None, reason=f"NOTHING OF `hoplite sidecar` WAS CHECKED: {WHY_NOT}")

APP_METRICS = "# TYPE app_things counter\napp_things 3\nprocess_cpu_seconds_total 1\n"


class App(http.server.BaseHTTPRequestHandler):
    """The app: /metrics, /healthz, /broken, /slow; what it saw is in `seen`."""

    seen = []
    metrics = {}
    release = threading.Event()  # until then /slow does not answer

    def do_GET(self):  # noqa: N802
        type(self).seen.append((self.path, self.client_address[0], dict(self.headers)))
        if self.path == "/slow":
            self.release.wait(seconds(60))
        status = 500 if self.path == "/broken" else 302 if self.path == "/moved" else 200
        answer = {"status": status,
                  "type": "text/plain; version=0.0.4; charset=utf-8", "headers": {},
                  "body": b"app\n", "missing": 0}
        if self.path == "/metrics":
            answer.update({"body": APP_METRICS.encode(), **self.metrics})
        if answer["status"] is None:
            self.release.wait(seconds(60))
            return
        self.send_response(answer["status"])
        if answer["type"] is not None:
            self.send_header("content-type", answer["type"])
        for name, value in answer["headers"].items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(answer["body"]) + answer["missing"]))
        self.end_headers()
        self.wfile.write(answer["body"])

    def log_message(self, *_):
        pass


class InPod(http.server.ThreadingHTTPServer):
    def __init__(self, pod, port, handler):
        super().__init__(("", 0), handler, bind_and_activate=False)
        self.socket.close()
        self.socket = pod.listen("0.0.0.0", port)
        threading.Thread(target=self.serve_forever, daemon=True, args=(0.05,)).start()

    def handle_error(self, *_):
        """Who asked has gone: some tests ask for that."""


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
    "/app-health/slow/livez": {"httpGet": {"path": "/slow", "port": 9797}, "timeoutSeconds": 1},
    "/app-lifecycle/podinfo/poststartz": {"tcpSocket": {"port": 9797}},
    "/app-lifecycle/podinfo/prestopz": {"httpGet": {
        "path": "/bye?now", "port": 9797, "httpHeaders": [{"name": "X-Who", "value": "kubelet"}]}},
    "/app-lifecycle/broken/prestopz": {"httpGet": {"path": "/broken", "port": 9797}},
    "/app-lifecycle/slow/prestopz": {"httpGet": {"path": "/slow", "port": 9797}},
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
    assert {one for one in addresses if one.endswith(":15000")} == {
        "127.0.0.1:15000", "[::1]:15000"}
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


SPOILERS = {
    "it fails": {"status": 500},
    "it wants a login": {"status": 401, "type": "text/html", "body": b"<html>"},
    "it moved": {"status": 302, "headers": {"location": "/elsewhere"}},
    "it never answers": {"status": None},
    "OpenMetrics": {"type": "application/openmetrics-text; version=1.0.0; charset=utf-8",
                    "body": APP_METRICS.encode() + b"# EOF\n"},
    "protobuf": {"type": "application/vnd.google.protobuf", "body": b"\x0a\x03app_things 3"},
    "a page": {"type": "text/html", "body": b"<html>app_things 3</html>"},
    "a page that is called text": {"body": b"<html>app_things 3</html>"},
    "JSON that is called text": {"body": b'{"app_things": 3}'},
    "JSON that is called nothing": {"type": None, "body": b'{"app_things": 3}'},
    "a broken line": {"body": APP_METRICS.encode() + b"app_things{\n"},
    "bytes that are no text": {"body": APP_METRICS.encode() + b'app_things{a="\xff"} 1\n'},
    "compressed, though nobody asked": {"headers": {"content-encoding": "gzip"},
                                        "body": gzip.compress(APP_METRICS.encode())},
    "half of it": {"missing": 10},
    "too much of it": {"body": b"# app_things\n" * 1_400_000},
}


@pytest.mark.parametrize("how", SPOILERS)
def test_the_app_cannot_spoil_a_scrape(pod, monkeypatch, how):
    """Prometheus drops a whole scrape for one line: what is ours has to come through."""
    monkeypatch.setattr(App, "metrics", SPOILERS[how])
    monkeypatch.setattr(App, "release", threading.Event())
    status, headers, body = pod.get(15020, "/stats/prometheus",
                                    **{"X-Prometheus-Scrape-Timeout-Seconds": "2"})
    App.release.set()
    assert status == 200
    assert headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert metrics.Metrics(body.decode()).samples["istio_build"]
    assert b"app_things" not in body and b"EOF" not in body


def test_the_app_may_leave_its_type_and_its_last_line_end_out(pod, monkeypatch):
    monkeypatch.setattr(App, "metrics", {"type": None, "body": b"app_things 3"})
    merged = metrics.Metrics(pod.get(15020, "/stats/prometheus")[2].decode())
    assert merged.total("app_things") == 3 and merged.samples["istio_build"]


def test_no_app_at_all_spoils_no_scrape(world):
    """Its port is closed, as before it is up and after it has ended."""
    made = Pod(world, "alone", ISTIO_PROMETHEUS_ANNOTATIONS='{"scrape":"true","port":"9"}')
    try:
        status, _, body = made.get(15020, "/stats/prometheus")
        assert status == 200 and metrics.Metrics(body.decode()).samples["istio_build"]
    finally:
        made.close()


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


def test_hooks_are_called_in_the_place_of_kubelet(pod):
    def call(path):
        return pod.get(15020, f"/app-lifecycle/{path}", host=pod.pod.v4)[0]

    assert call("podinfo/poststartz") == 200
    assert call("podinfo/prestopz") == 200
    path, peer, headers = [each for each in App.seen if each[0].startswith("/bye")][-1]
    assert (path, peer, headers["X-Who"]) == ("/bye?now", "127.0.0.6", "kubelet")
    assert call("broken/prestopz") == 503
    assert call("unheard/of") == 404


def test_a_hook_takes_as_long_as_it_takes(pod, monkeypatch):
    """A probe of the same page that began later has ended by its timeout when the hook goes on."""
    monkeypatch.setattr(App, "release", threading.Event())
    with pod.pod.connect(pod.pod.v4, 15020) as hook:
        hook.sendall(b"GET /app-lifecycle/slow/prestopz HTTP/1.1\r\nHost: x\r\n\r\n")
        poll_until(lambda: any(each[0] == "/slow" for each in App.seen), "the hook at the app")
        assert pod.get(15020, "/app-health/slow/livez", host=pod.pod.v4)[0] == 503
        assert not ready([hook], [], 0)[0]
        App.release.set()
        hook.settimeout(seconds())
        assert hook.recv(100).startswith(b"HTTP/1.1 200 ")


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
    assert post(pod, path, host=pod.pod.v4) == 403  # of the pod, but not from loopback
    assert post(pod, path, host=f"[{pod.pod.v6}]") == 403
    assert post(pod, path, host="[::1]", method="PUT") == 405
    assert pod.sidecar.running()


def test_quitquitquit_ends_it_and_a_signal_after_drain_is_no_second_word(world):
    made = Pod(world, "leaving", HOPLITE_TIMEOUTS_DRAIN_DELAY="5s")
    try:
        assert post(made, "/drain") == 200
        poll_until(lambda: made.get(15021, "/healthz/ready")[0] == 503, "not ready any more")
        made.sidecar.signal(signal.SIGTERM)
        assert made.sidecar.wait_line("leaving", "stderr")
        assert made.sidecar.wait(20) == 0
        assert not any("second" in line for line in made.sidecar.stderr)
    finally:
        made.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_quitquitquit_lets_a_job_end(world, host):
    """With an exit code of 0: a Job whose sidecar failed has failed."""
    made = Pod(world, "quitting")
    try:
        with made.pod.connect("127.0.0.1", 15021) as idle:
            assert idle
            assert post(made, "/quitquitquit", host=host) == 200
            assert made.sidecar.wait(20) == 0
    finally:
        made.close()


def ask_own_service(pod, path="/echo"):
    done = pod.pod.run("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "--resolve",
                       "podinfo:9898:10.96.0.10", f"http://podinfo:9898{path}", uid=1000,
                       check=False)
    return done.stdout.decode()


def test_a_signal_lets_a_job_end(world):
    """Kubelet signals a native sidecar when the app has ended; idle connections hold up nothing."""
    made = Pod(world, "job")
    try:
        assert ask_own_service(made) == "200"
        with made.pod.connect("127.0.0.1", 15021) as idle:
            assert idle
            made.sidecar.signal(signal.SIGTERM)
            assert made.sidecar.wait(20) == 0
    finally:
        made.close()


def test_an_app_that_still_serves_is_served_while_it_leaves(world):
    """An ordinary sidecar is signalled with the app, which ends what it has begun."""
    made = Pod(world, "with the app", HOPLITE_TIMEOUTS_DRAIN_DELAY="1h")
    try:
        made.sidecar.signal(signal.SIGTERM)
        poll_until(lambda: made.get(15021, "/healthz/ready")[0] == 503, "not ready any more")
        assert ask_own_service(made) == "200"
        assert made.get(15020, "/app-health/podinfo/livez")[0] == 200
        assert b"istio_requests_total" in made.get(15090, "/stats/prometheus")[2]
        assert post(made, "/quitquitquit") == 200
        assert made.sidecar.wait(20) == 0
    finally:
        made.close()


def test_what_is_wrong_with_the_environment_is_said(world):
    process = Process([world.hoplite_binary, "sidecar"], "wrong",
                      env={"HOPLITE_SERVICES": "[{", "POD_NAME": "x"})
    process.wait_line("HOPLITE_SERVICES is not JSON", "stderr")
    poll_until(lambda: not process.running(), "it has ended")
    process.stop()
