"""Raw TCP through the sidecars of two pods while connections last: what ends them, what does not.

Not how it is found to be TCP, nor its metrics (test_interception.py).
"""

import contextlib
import json
import socket
import threading

import pytest

from hoplite_e2e import netns, pods, tls
from hoplite_e2e.deadline import poll_until, seconds
from hoplite_e2e.dns import NameServer, at
from hoplite_e2e.forge import Forge, short_lived
from hoplite_e2e.raw import Closed, Wire
from hoplite_e2e.topology import HOST, client_workload, server_workload

WHY_NOT = pods.missing()
pytestmark = pytest.mark.skipif(
    WHY_NOT is not None, reason=f"NOTHING OF RAW TCP WAS CHECKED: {WHY_NOT}")

VIP, PORT = "10.96.0.12", 5432
#: Of no service, and where no sidecar is.
PLAIN_PORT = 8444


def echo(connection, _peer):
    while data := connection.recv(65536):
        connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)


@pytest.fixture(name="lab")
def lab_fixture(world):
    made = pods.Lab(world)
    try:
        for port in (PORT, PLAIN_PORT):
            made.serve(made.server, "0.0.0.0", port, echo)
        for pod in (made.client, made.server):
            pod.rules(pods.sidecar_rules())
        yield made
    finally:
        made.close()


def sidecar(lab, pod, **more):
    """The sidecar of this pod; `more` are further sections."""
    client = pod is lab.client
    workload = client_workload() if client else server_workload()
    identity = lab.client_identity if client else lab.server_identity
    service = {"hosts": ["db.test.svc.cluster.local"], "namespace": "test", "port": PORT,
               "addresses": [VIP], "endpoints": [f"{lab.server.v4}:{PORT}"], "traffic": "tcp",
               "tls": {"mode": "mutual", "sans": [lab.server_identity.principal]}}
    return lab.sidecar("client" if client else "server", {
        "workload": workload, "interception": "redirect", "workers": 1,
        "inbound": {"listen": "*:15006", "service": HOST},
        "outbound": {"listen": "*:15001", "unknown_host": "passthrough", "services": [service]},
        "mtls": lab.mtls(identity), "stats": {"listen": "*:15090"}, **more}, pod)


def total(process, name, **labels):
    return process.metrics().total(name, **labels)


def test_a_silent_connection_ends_by_its_idle_time(lab):
    server = sidecar(lab, lab.server)
    client = sidecar(lab, lab.client, timeouts={"tunnel_idle": "3s"})
    with Wire(lab.client.connect(VIP, PORT)) as wire:
        wire.send(b"ping")
        assert wire.read_exactly(4) == b"ping"
        wire.expect_end()
    for each in (client, server):
        poll_until(lambda: total(each, "istio_tcp_connections_closed_total") == 1, "it is counted")
    assert total(client, "hoplite_timeouts_total", timeout="idle") == 1
    assert total(server, "hoplite_timeouts_total") == 0


def pass_through(lab, size):
    """So many bytes there and back through the client's sidecar, between two plain sockets."""
    with lab.client.connect(lab.server.v4, PLAIN_PORT, wanted=20) as plain:
        def send():
            with contextlib.suppress(OSError):
                plain.sendall(bytes(size))
                plain.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        got = 0
        while data := plain.recv(1 << 20):
            got += len(data)
        sender.join()
    assert got == size


def limit_files(process, most):
    """As the process' own user, who alone may when this one lacks CAP_SYS_RESOURCE."""
    process.pod.run("prlimit", f"--pid={process.pid}", f"--nofile={most}:", uid=pods.PROXY_ID)


def test_the_last_descriptors_are_not_for_splices(lab):
    lab.server.rules(f"*nat\n-I ISTIO_INBOUND -p tcp --dport {PLAIN_PORT} -j RETURN\nCOMMIT\n")
    client = sidecar(lab, lab.client)
    limit_files(client, client.open_files() + 8)
    size = 4_000_000
    pass_through(lab, size)
    poll_until(lambda: total(client, "istio_tcp_received_bytes_total") == size, "all is counted")
    assert total(client, "hoplite_spliced_bytes_total") == 0
    assert total(client, "hoplite_limits_hit_total", limit="file_descriptors") == 0
    limit_files(client, 1000)
    pass_through(lab, size)
    poll_until(lambda: total(client, "hoplite_spliced_bytes_total") > size, "it is spliced")


def tunnel(lab, identity):
    """A connection as a sidecar's to the server's one, through which the app is spoken to."""
    def connect():
        with netns.owned_by(pods.PROXY_ID, pods.PROXY_ID):
            return socket.create_connection((lab.server.v4, PORT), timeout=seconds())

    context = tls.client_context(lab.authority.ca, identity, ("istio-peer-exchange", "istio"))
    wire = Wire(context.wrap_socket(lab.client.call(connect)))
    wire.send(b"said")  # without metadata
    wire.read_until(b"said")  # behind the other's
    return wire


def said(wire):
    wire.send(b"ping")
    return wire.read_exactly(4) == b"ping"


def test_an_answer_of_dns_leaves_connections_alone(lab):
    """Not even one whose certificate has expired since it was made; a reload judges it anew."""
    name_server = lab.server.call(lambda: NameServer(at("10.99.0.1")))
    try:
        server = sidecar(lab, lab.server, **name_server.section())
        config = json.loads(server.config_path.read_text())
        config["outbound"]["services"].append(
            {"hosts": ["named"], "namespace": "test", "port": 1, "endpoints": ["named.example:1"]})
        server.reload(config)
        poll_until(lambda: total(server, "hoplite_dns_endpoints") == 1, "the name is found out")
        forge = Forge(lab.authority, lab.world.folder / "forge")
        good = tunnel(lab, lab.client_identity)
        expired = short_lived(forge, lab.client_identity.principal, lambda it: tunnel(lab, it))
        for count in (2, 3, 1):
            name_server.answer = at(*[f"10.99.0.{i + 1}" for i in range(count)])
            poll_until(lambda: total(server, "hoplite_dns_endpoints") == count, "it is followed")
            assert said(good) and said(expired)
        server.reload()
        with pytest.raises((Closed, OSError)):
            while said(expired):
                pass
        assert said(good)
    finally:
        lab.server.call(name_server.stop)
