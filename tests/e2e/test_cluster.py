"""The main job, whole: untouched programs in pods, the service's address, and Prometheus."""

import contextlib
import json
import pathlib
import re
import shutil
import socket
import threading
import time

import pytest
from hoplite_e2e import cluster, http2, pods, prometheus
from hoplite_e2e.cluster import (ECHO, EXCLUDED_OUTBOUND, NODE_ONLY, NODE_ONLY6, VIP, VIP6,
                                 WALK_HOST, WALK_VIP)
from hoplite_e2e.deadline import poll_until, ready, seconds
from hoplite_e2e.raw import Wire
from hoplite_e2e.topology import HOST, client_workload, server_workload
from test_interception import Counted, curl
from test_prometheus import QUERIES, has_data

WHY_NOT = pods.missing()
pytestmark = pytest.mark.skipif(
    WHY_NOT is not None, reason=f"NOTHING OF TWO PODS WITH SERVICE ADDRESSES WAS CHECKED: {WHY_NOT}")

CLIENT = "1001"
both_families = pytest.mark.parametrize("address", [VIP, f"[{VIP6}]"], ids=["IPv4", "IPv6"])

WORKLOADS = {"source_workload": "client-v1", "destination_workload": "podinfo-v1"}
SOURCE = {"reporter": "source", "connection_security_policy": "unknown", **WORKLOADS}
DESTINATION = {**SOURCE, "reporter": "destination", "connection_security_policy": "mutual_tls"}

GRPC_CLIENT = """
import grpc, sys
with grpc.insecure_channel(sys.argv[1], options=[("grpc.enable_http_proxy", 0)]) as channel:
    check = channel.unary_unary("/grpc.health.v1.Health/Check")
    echo = channel.unary_unary("/echo.EchoService/Echo")
    assert check(b"", timeout=60) == b"\\x08\\x01"
    for i in range(9):
        print(echo(sys.argv[2].encode() + b"%d" % i, timeout=60).decode())
"""


@pytest.fixture(scope="module")
def lab(module_world):
    made = cluster.Cluster(module_world)
    try:
        made.service("app", made.server, cluster.HTTP, cluster.GRPC)
        made.service("walk", made.server, cluster.WALK)
        made.service("bare", made.outside, cluster.HTTP)
        made.mail = cluster.Mail()
        made.serve(made.server, "::", cluster.SMTP, made.mail.serve)
        made.serve(made.server, "::", ECHO, cluster.echo)
        made.redirect(made.client, "apply", "-o", EXCLUDED_OUTBOUND)
        made.redirect(made.server, "apply")
        # Permissive, so that there is something to see of clients without a sidecar too.
        made.server_sidecar = made.sidecar("server", made.config(
            server_workload(), made.server_identity, "permissive",
            # TLS that begins later than that meets the banner of a server that speaks first.
            detection={"eager_after": "1s"},
            stats={"listen": "*:15090", "source_security_policy": "verified"}), made.server)
        made.client_sidecar = made.sidecar("client", made.config(
            client_workload(), made.client_identity, "strict"), made.client)
        yield made
    finally:
        made.close()


@pytest.fixture
def counted(lab):
    return Counted(lab.client_sidecar, lab.server_sidecar)


@contextlib.contextmanager
def nothing_readable(lab, *words):
    """Between the pods there is TLS, and none of the words in the open."""
    wire = pods.Wire(lab.server, lab.client)
    try:
        yield
    finally:
        seen = wire.stop()
    assert b"\x16\x03\x01" in seen  # a handshake
    assert [word for word in words if word in seen] == []


# --- what untouched clients get -----------------------------------------------------------------


@both_families
def test_http(lab, counted, address):
    with nothing_readable(lab, b"told-in-confidence", b"HTTP/1.1"):
        for _ in range(10):
            curl(lab.client, f"http://{address}/echo?told-in-confidence")
    counted.wait(0, "istio_requests_total", 10, response_code="200", **SOURCE)
    counted.wait(1, "istio_requests_total", 10, response_code="200", destination_service=HOST,
                 **DESTINATION)


@both_families
def test_grpc(lab, counted, address):
    pytest.importorskip("grpc", reason="python3-grpcio " + cluster.MISSING_PROGRAMS)
    with nothing_readable(lab, b"told-in-confidence", b"grpc.health"):
        said = lab.client.run("/usr/bin/python3", "-c", GRPC_CLIENT, f"{address}:9999",
                              "told-in-confidence", uid=CLIENT).stdout
    assert said.decode().split() == [f"told-in-confidence{i}" for i in range(9)]
    for which, labels in ((0, SOURCE), (1, DESTINATION)):
        call = {"request_protocol": "grpc", "grpc_response_status": "0", **labels}
        counted.wait(which, "istio_requests_total", 10, **call)
        for name in ("istio_request_messages_total", "istio_response_messages_total"):
            counted.wait(which, name, 10, reporter=labels["reporter"], **WORKLOADS)


late_vips = iter(cluster.LATE_VIPS)


def test_http2_of_a_client_that_speaks_late(lab, counted):
    """A server of HTTP/2 sends its settings unasked, and speaks first no more than one of HTTP/1."""
    began = time.monotonic()
    with Wire(lab.client.connect(next(late_vips), 9999)) as wire:
        assert ready([wire.socket], [], 0.05) == ([], [])  # silence, over detection.eager_after
        assert http2.Client(wire).ask(authority=f"{HOST}:9999").status == 200
        in_time = time.monotonic() - began < 0.8
    if not in_time or counted.more(0, "hoplite_eager_connects_total") != 1:
        pytest.skip("THIS MACHINE TOOK A SECOND FOR IT: what comes later than that goes on as TCP")
    counted.wait(0, "istio_requests_total", 1, **SOURCE)
    counted.wait(1, "istio_requests_total", 1, **DESTINATION)
    for which in (0, 1):
        assert counted.more(which, "hoplite_upstream_connects_total") == 1
        assert counted.more(which, "istio_tcp_connections_opened_total") == 0


def test_who_waits_for_the_settings_of_a_server_gets_them(lab, counted):
    with Wire(lab.client.connect(next(late_vips), 9999)) as wire:
        wire.socket.settimeout(seconds())
        head = wire.socket.recv(9, socket.MSG_PEEK | socket.MSG_WAITALL)
        assert head[3:] == http2.frame(http2.SETTINGS)[3:]
        assert http2.Client(wire).ask(authority=f"{HOST}:9999").status == 200
    counted.wait(0, "istio_tcp_connections_closed_total", 1, **SOURCE)
    counted.wait(1, "istio_tcp_connections_closed_total", 1, **DESTINATION)


@both_families
def test_mail_whose_server_speaks_first(lab, counted, address):
    mail = b"Subject: told in confidence\r\n\r\nhello\r\n"
    with nothing_readable(lab, b"ESMTP", b"told in confidence"):
        lab.client.run("curl", "-sS", "--max-time", seconds(), f"smtp://{address}/client.test",
                       "--mail-from", "a@client.test", "--mail-rcpt", "b@podinfo.test", "-T", "-",
                       stdin=mail, uid=CLIENT)
    assert lab.mail.mails.pop() == mail
    counted.wait(0, "hoplite_detections_total", 1, direction="outbound", protocol="server_first")
    counted.wait(0, "istio_tcp_connections_closed_total", 1, request_protocol="tcp", **SOURCE)
    counted.wait(1, "istio_tcp_connections_closed_total", 1, destination_service=HOST, **DESTINATION)
    assert counted.more(1, "istio_tcp_received_bytes_total", **DESTINATION) > len(mail)


@both_families
def test_nc_that_closes_its_half(lab, counted, address):
    if shutil.which("nc") is None:
        pytest.skip("nc (netcat-openbsd) " + cluster.MISSING_PROGRAMS)
    sent = b"told in confidence\n" * 10_000
    with nothing_readable(lab, b"told in confidence"):
        done = lab.client.run("nc", "-N", address.strip("[]"), "7", stdin=sent, uid=CLIENT)
    assert done.stdout == sent
    for which, labels in ((0, SOURCE), (1, DESTINATION)):
        counted.wait(which, "istio_tcp_received_bytes_total", len(sent), **labels)
        counted.wait(which, "istio_tcp_sent_bytes_total", len(sent), **labels)


# --- what the node translates -------------------------------------------------------------------


@pytest.mark.parametrize("address", [NODE_ONLY, f"[{NODE_ONLY6}]"], ids=["IPv4", "IPv6"])
def test_an_address_that_only_the_node_knows_passes_through(lab, counted, address):
    assert b"app" in curl(lab.client, f"http://{address}/version")
    # Who it is, is known by its metadata alone, as Istio has it.
    counted.wait(0, "istio_requests_total", 1, reporter="source", response_code="200",
                 destination_service=address, destination_service_name="PassthroughCluster",
                 destination_service_namespace="test", destination_workload="podinfo-v1",
                 destination_workload_namespace="test", source_principal="unknown",
                 destination_principal=lab.server_identity.principal)
    counted.wait(1, "istio_requests_total", 1, reporter="destination", destination_service=HOST,
                 connection_security_policy="none")


def test_a_port_that_is_excluded_knows_no_sidecar(lab, counted):
    assert b"app" in curl(lab.client, f"http://{NODE_ONLY}:{EXCLUDED_OUTBOUND}/version")
    counted.wait(1, "istio_requests_total", 1, connection_security_policy="none",
                 source_workload="unknown")
    assert counted.more(0, "hoplite_connections_accepted_total", direction="outbound") == 0


@both_families
def test_a_pod_without_a_sidecar(lab, counted, address):
    assert b"app" in curl(lab.outside, f"http://{address}/version")
    counted.wait(1, "istio_requests_total", 1, reporter="destination", source_workload="unknown",
                 connection_security_policy="none", destination_service=HOST)


def test_the_redirect_is_in_order(lab):
    for pod in (lab.client, lab.server):
        more = ["-o", EXCLUDED_OUTBOUND] if pod is lab.client else []
        assert lab.redirect(pod, "show", *more).returncode == 0
        before = pod.run("iptables-save", "-t", "nat").stdout
        lab.redirect(pod, "apply", *more)
        rules = [[line for line in text.splitlines() if line.startswith(b"-A")]
                 for text in (before, pod.run("iptables-save", "-t", "nat").stdout)]
        assert rules[0] == rules[1] != []


# --- what Prometheus sees -----------------------------------------------------------------------


def shipped_job(lab):
    """The job envoy-stats, with what Kubernetes' discovery would say of the two pods in its place."""
    yaml = pytest.importorskip("yaml", reason="python3-yaml " + cluster.MISSING_PROGRAMS)
    path = pathlib.Path(__file__).resolve().parents[2] / "docker/prometheus/envoy-stats.yml"
    scrape, = yaml.safe_load(path.read_text())["scrape_configs"]
    assert scrape.pop("kubernetes_sd_configs") == [{"role": "pod"}]
    name = "__meta_kubernetes_pod_container_port_name"
    scrape["static_configs"] = [
        {"targets": [f"{pod.v4}:{port}"], "labels": {name: port_name}}
        for pod in (lab.client, lab.server)
        for port, port_name in ((15090, "http-envoy-prom"), (cluster.HTTP, "http"))]
    return [scrape]


@pytest.fixture(scope="module")
def ask(lab):
    if prometheus.binary("prometheus") is None:
        pytest.skip(f"prometheus {cluster.MISSING_PROGRAMS}: nothing checked that it sees both pods")
    made = prometheus.Prometheus(lab.folder, scrape_configs=shipped_job(lab), pod=lab.outside)
    lab.world.processes.append(made)
    made.wait_ready()
    return made


def test_the_walkthrough(lab, ask):
    """Ten requests: source 10, destination 10, and where from and to, as Prometheus has them."""
    for _ in range(10):
        curl(lab.client, "http://walk/version", "--resolve", f"walk:80:{WALK_VIP}")
    of = f'destination_service="{WALK_HOST}", source_workload="client-v1", response_code="200"'
    last = None

    def seen():
        nonlocal last
        last = [ask.value(f'sum(istio_requests_total{{{of}, reporter="{reporter}", '
                          f'connection_security_policy="{policy}"}})')
                for reporter, policy in (("source", "unknown"), ("destination", "mutual_tls"))]
        return last == [10, 10]

    poll_until(seen, lambda: f"10 and 10; it is {last}", 20)
    assert sorted(target["scrapeUrl"] for target in ask.targets()) == [
        f"http://{pod.v4}:15090/stats/prometheus" for pod in (lab.client, lab.server)]
    poll_until(lambda: [target["lastError"] for target in ask.targets()] == ["", ""],
               lambda: f"no error: {ask.targets()}")


class Traffic:
    """HTTP and TCP from each pod, with and without a sidecar, again and again until stopped."""

    def __init__(self, lab):
        self._from = (lab.client, lab.server, lab.outside)
        self._bare = f"{lab.outside.v4}:{cluster.HTTP}"
        self._stop = threading.Event()
        self.fault = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        try:
            while not self._stop.wait(0.05):
                for pod in self._from:
                    self._round(pod)
        except Exception as error:  # pylint: disable=broad-except
            self.fault = error

    def _round(self, pod):
        # The node knows no way for a pod back to itself, but its sidecar does.
        assert pod.fetch(f"http://{VIP}/version")[0] == 200
        if pod is self._from[0]:
            assert pod.fetch(f"http://{self._bare}/version")[0] == 200  # to who has no identity
        with pod.connect(VIP, 7) as client:
            client.settimeout(seconds(5))
            client.sendall(b"\x00told")
            assert client.recv(5, socket.MSG_WAITALL) == b"\x00told"

    def stop(self):
        self._stop.set()
        self._thread.join()
        assert self.fault is None, self.fault


def test_every_query_of_the_dashboards_for_sidecars_has_data(lab, ask):
    if not QUERIES.exists():
        pytest.skip(f"ISTIO'S DASHBOARD QUERIES ARE NOT THERE ({QUERIES})")
    expressions = {entry["expr"] for entry in json.loads(QUERIES.read_text())
                   if re.match("Istio (Mesh|Service|Workload) Dashboard", entry["dashboard"])}
    assert len(expressions) > 100
    traffic = Traffic(lab)
    try:
        without = expressions

        def all_have():
            nonlocal without
            without = {each for each in without if not has_data(ask, each)}
            return not without

        poll_until(all_have, lambda: "data for all; there is none for\n" + "\n".join(sorted(without)),
                   20)
    finally:
        traffic.stop()


# --- and without it -----------------------------------------------------------------------------


def test_clean_leaves_no_rule_and_the_service_as_it_was(lab):
    for pod in (lab.client, lab.server):
        lab.redirect(pod, "clean")
        for program in ("iptables-save", "ip6tables-save"):
            assert b"ISTIO" not in pod.run(program).stdout
    for address in (VIP, f"[{VIP6}]"):  # by the node alone
        assert b"app" in curl(lab.client, f"http://{address}/version")
