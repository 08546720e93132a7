"""Two pods, each with a sidecar behind a redirect, and clients and servers that know of neither."""

import contextlib
import socket
import struct
import threading
import time

import pytest

from hoplite_e2e import pods
from hoplite_e2e.deadline import poll_until, seconds
from hoplite_e2e.topology import HOST, client_workload, server_workload

WHY_NOT = pods.missing()
pytestmark = pytest.mark.skipif(
    WHY_NOT is not None, reason=f"NOTHING OF INTERCEPTION WAS CHECKED: {WHY_NOT}")

VIP, VIP6 = "10.96.0.10", "fd96::10"
DB_VIP, DECLARED_VIP = "10.96.0.11", "10.96.0.12"
BANNER = b"5.7.42-server-speaks-first\n"


def service(lab, name, port, addresses, endpoint_port, **more):
    return {"hosts": [f"{name}.test.svc.cluster.local", name], "namespace": "test", "port": port,
            "addresses": addresses, "endpoints": [f"{lab.server.v4}:{endpoint_port}"],
            "tls": {"mode": "mutual", "sans": [lab.server_identity.principal]}, **more}


def services(lab):
    return [
        service(lab, "podinfo", 9898, [VIP, VIP6], 9898),
        service(lab, "db", 3306, [DB_VIP], 3306),
        service(lab, "declared", 5432, [DECLARED_VIP], 5432, traffic="tcp"),
        service(lab, "web", 8080, [VIP], 9898, traffic="http"),
        {**service(lab, "podinfo6", 9898, ["fd96::16"], 9898),
         "endpoints": [f"[{lab.server.v6}]:9899"]},
    ]


def config(lab, workload, identity, mode="strict", **more):
    return {"workload": workload, "interception": "redirect", "workers": 1,
            "inbound": {"listen": "*:15006", "service": HOST},
            "outbound": {"listen": "*:15001", "unknown_host": "passthrough",
                         "services": services(lab)},
            "mtls": lab.mtls(identity, mode), "stats": {"listen": "*:15090"},
            "log": {"access": "all"}, **more}


def echo(connection, _peer):
    while data := connection.recv(65536):
        connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)


def greet(connection, _peer):
    connection.sendall(BANNER)
    echo(connection, _peer)


def tell_peer(connection, peer):
    connection.recv(100)
    connection.sendall(peer[0].encode())


@pytest.fixture(scope="module")
def lab(module_world):
    made = pods.Lab(module_world)
    try:
        made.app = made.service("app", made.server, 9898)
        made.serve(made.server, "0.0.0.0", 3306, greet)
        made.serve(made.server, "0.0.0.0", 5432, echo)
        made.serve(made.server, "0.0.0.0", 7000, tell_peer)
        made.serve(made.server, "::", 9899, tell_peer)
        for pod in (made.client, made.server):
            pod.rules(pods.sidecar_rules())
            pod.rules(pods.sidecar_rules(v6=True), v6=True)
        made.server_sidecar = made.sidecar(
            "server", config(made, server_workload(), made.server_identity), made.server)
        made.client_sidecar = made.sidecar(
            "client", config(made, client_workload(), made.client_identity, "permissive"),
            made.client)
        yield made
    finally:
        made.close()


class Counted:
    """What was counted since this object was made."""

    def __init__(self, *sidecars):
        self.before = [(sidecar, sidecar.metrics()) for sidecar in sidecars]

    def more(self, which, name, **labels):
        sidecar, before = self.before[which]
        return sidecar.metrics().total(name, **labels) - before.total(name, **labels)

    def wait(self, which, name, value, **labels):
        poll_until(lambda: self.more(which, name, **labels) == value,
                   lambda: f"{name}{labels} grew by {value}; it grew by "
                           f"{self.more(which, name, **labels)}\n"
                           f"{self.before[which][0].metrics().text(name)}")


@pytest.fixture
def counted(lab):
    return Counted(lab.client_sidecar, lab.server_sidecar)


class Wire:
    """What passes a pod's eth0, as an AF_PACKET socket sees it."""

    def __init__(self, pod):
        self._socket = pod.call(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW,
                                                      socket.htons(3)))
        self._socket.settimeout(0.2)
        self.bytes = bytearray()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                frame, address = self._socket.recvfrom(65535)
                if address[0] == "eth0":
                    self.bytes += frame

    def stop(self):
        self._stop.set()
        self._thread.join()
        self._socket.close()
        return bytes(self.bytes)


def curl(pod, url, *more):
    done = pod.run("curl", "-sS", "--max-time", "10", *more, url, uid=1000, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def test_curl_to_a_service_address_is_encrypted_and_counted(lab, counted):
    wire = Wire(lab.server)
    for _ in range(10):
        curl(lab.client, "http://podinfo:9898/echo?secret-in-the-path",
             "--resolve", f"podinfo:9898:{VIP}")
    seen = wire.stop()
    assert b"secret-in-the-path" not in seen and b"HTTP/1.1" not in seen
    assert b"\x16\x03\x01" in seen
    counted.wait(0, "istio_requests_total", 10, reporter="source",
                 destination_service_name="podinfo", destination_workload="podinfo-v1",
                 source_workload="client-v1", response_code="200",
                 connection_security_policy="unknown")
    counted.wait(1, "istio_requests_total", 10, reporter="destination",
                 source_workload="client-v1", destination_workload="podinfo-v1",
                 connection_security_policy="mutual_tls")


def test_a_server_that_speaks_first(lab, counted):
    took = []
    for i in range(5):
        begin = time.monotonic()
        with lab.client.connect(DB_VIP, 3306) as client:
            banner = client.recv(100)
            took.append(time.monotonic() - begin)
            assert banner == BANNER
            client.sendall(b"question")
            assert client.recv(100) == b"question"
    # The first waits for the client in vain; the client's sidecar remembers.
    counted.wait(0, "hoplite_detections_total", 5, protocol="server_first", direction="outbound")
    counted.wait(0, "hoplite_eager_connects_total", 5)
    for which, reporter, policy in ((0, "source", "unknown"), (1, "destination", "mutual_tls")):
        labels = {"reporter": reporter, "source_workload": "client-v1", "request_protocol": "tcp",
                  "destination_workload": "podinfo-v1", "connection_security_policy": policy}
        counted.wait(which, "istio_tcp_connections_opened_total", 5, **labels)
        counted.wait(which, "istio_tcp_connections_closed_total", 5, **labels)
        counted.wait(which, "istio_tcp_sent_bytes_total", 5 * (len(BANNER) + 8), **labels)
        counted.wait(which, "istio_tcp_received_bytes_total", 5 * 8, **labels)
    print("banners after", [f"{each * 1000:.1f} ms" for each in took])
    assert min(took) < 0.020 * seconds(1)
