"""A pod whose inbound side is intercepted by TPROXY: the app sees who really calls."""

import pytest

from hoplite_e2e import pods
from hoplite_e2e.deadline import poll_until, seconds
from test_interception import config, curl, greet, tell_peer
from hoplite_e2e.topology import client_workload, server_workload

WHY_NOT = pods.missing()
pytestmark = pytest.mark.skipif(
    WHY_NOT is not None, reason=f"NOTHING OF TPROXY WAS CHECKED: {WHY_NOT}")

VIP = "10.96.0.10"


def redirect(lab, pod, verb, *more):
    return pod.run(lab.world.hoplite_binary, "redirect", verb, "-i", "*", "-b", "*",
                   "-d", "15090,15021,15020", *more)


@pytest.fixture(scope="module")
def lab(module_world):
    made = pods.Lab(module_world)
    try:
        made.app = made.service("app", made.server, 9898)
        made.serve(made.server, "0.0.0.0", 7000, tell_peer)
        made.serve(made.server, "0.0.0.0", 3306, greet)
        redirect(made, made.client, "apply", "-m", "REDIRECT")
        redirect(made, made.server, "apply", "-m", "TPROXY")
        made.server_sidecar = made.sidecar(
            "server", {**config(made, server_workload(), made.server_identity),
                       "interception": "tproxy"}, made.server, uid=0)
        made.client_sidecar = made.sidecar(
            "client", config(made, client_workload(), made.client_identity), made.client)
        yield made
    finally:
        made.close()


def test_the_app_sees_the_clients_address(lab):
    with lab.client.connect(VIP, 7000) as client:
        client.sendall(b"who am I?")
        client.settimeout(seconds(5))
        assert client.recv(100) == lab.client.v4.encode()
    poll_until(lambda: lab.server_sidecar.metrics().total(
        "istio_tcp_connections_closed_total", reporter="destination",
        connection_security_policy="mutual_tls") >= 1, "counted")


def test_http_and_a_server_that_speaks_first(lab):
    assert curl(lab.client, "http://podinfo:9898/echo", "--resolve", f"podinfo:9898:{VIP}") == b""
    with lab.client.connect("10.96.0.11", 3306) as client:
        client.settimeout(seconds(5))
        assert client.recv(100).startswith(b"5.7")


def test_a_pod_that_calls_its_own_service(lab):
    for _ in range(3):
        curl(lab.server, "http://podinfo:9898/echo", "--resolve", f"podinfo:9898:{VIP}")
    labels = {"source_workload": "podinfo-v1", "destination_workload": "podinfo-v1"}
    lab_metrics = lab.server_sidecar.metrics
    poll_until(lambda: (lab_metrics().total("istio_requests_total", reporter="source", **labels),
                        lab_metrics().total("istio_requests_total", reporter="destination",
                                            connection_security_policy="mutual_tls", **labels))
               == (3, 3), "3 and 3")


def test_clean_leaves_nothing(lab):
    for pod in (lab.client, lab.server):
        redirect(lab, pod, "clean", "-m", "TPROXY" if pod is lab.server else "REDIRECT")
        for table in ("nat", "mangle"):
            for program in ("iptables-save", "ip6tables-save"):
                assert b"ISTIO" not in pod.run(program, "-t", table).stdout
    # And the wire is bare again: the app itself answers.
    with lab.client.connect(lab.server.v4, 7000) as client:
        client.sendall(b"who am I?")
        client.settimeout(seconds(5))
        assert client.recv(100) == lab.client.v4.encode()
