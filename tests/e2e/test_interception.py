"""Two pods, each with a sidecar behind a redirect, and clients and servers that know of neither."""

import contextlib
import queue
import socket
import ssl
import struct
import threading
import time

import pytest

from hoplite_e2e import pods
from hoplite_e2e.deadline import poll_until, ready, seconds
from hoplite_e2e.topology import HOST, client_workload, server_workload

WHY_NOT = pods.missing()
pytestmark = pytest.mark.skipif(
    WHY_NOT is not None, reason=f"NOTHING OF INTERCEPTION WAS CHECKED: {WHY_NOT}")

VIP, VIP6 = "10.96.0.10", "fd96::10"
DB_VIP, DECLARED_VIP = "10.96.0.11", "10.96.0.12"
#: Addresses of the same database, each to be new to the sidecars once.
DB_VIPS = [f"10.96.1.{i}" for i in range(1, 255)]
BANNER = b"5.7.42-server-speaks-first\n"


def service(lab, name, port, addresses, endpoint_port, **more):
    return {"hosts": [f"{name}.test.svc.cluster.local", name], "namespace": "test", "port": port,
            "addresses": addresses, "endpoints": [f"{lab.server.v4}:{endpoint_port}"],
            "tls": {"mode": "mutual", "sans": [lab.server_identity.principal]}, **more}


def services(lab):
    return [
        service(lab, "podinfo", 9898, [VIP, VIP6], 9898),
        service(lab, "db", 3306, [DB_VIP, "10.96.1.0/24"], 3306),
        service(lab, "declared", 5432, [DECLARED_VIP], 5432, traffic="tcp"),
        service(lab, "who", 7000, [VIP], 7000),
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


def curl(pod, url, *more):
    done = pod.run("curl", "-sS", "--max-time", seconds(), *more, url, uid=1000, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def test_curl_to_a_service_address_is_encrypted_and_counted(lab, counted):
    wire = pods.Wire(lab.server, lab.client)
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
    for _ in range(5):
        with lab.client.connect(DB_VIP, 3306) as client:
            assert client.recv(100) == BANNER
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


def test_a_client_that_speaks_late_is_served_on_the_connection_made_for_it(lab, counted):
    with lab.client.connect(VIP, 9898) as client:
        counted.wait(0, "hoplite_eager_connects_total", 1)
        counted.wait(1, "hoplite_tcp_peer_metadata_total", 1, result="decoded")
        client.sendall(b"GET /echo HTTP/1.1\r\nHost: podinfo:9898\r\nConnection: close\r\n\r\n")
        client.settimeout(seconds(5))
        assert client.recv(1000).startswith(b"HTTP/1.1 200")
    counted.wait(0, "istio_requests_total", 1, reporter="source")
    counted.wait(1, "istio_requests_total", 1, reporter="destination",
                 source_workload="client-v1", connection_security_policy="mutual_tls")
    assert counted.more(0, "hoplite_upstream_connects_total") == 1
    assert counted.more(1, "istio_tcp_connections_opened_total") == 0


def test_declared_tcp_waits_for_nothing_and_half_closes(lab, counted):
    with lab.client.connect(DECLARED_VIP, 5432) as client:
        client.sendall(b"x" * 100_000)
        client.shutdown(socket.SHUT_WR)
        client.settimeout(seconds(5))
        got = b""
        while data := client.recv(65536):
            got += data
    assert got == b"x" * 100_000
    counted.wait(1, "istio_tcp_received_bytes_total", 100_000, reporter="destination",
                 connection_security_policy="mutual_tls", source_workload="client-v1")
    counted.wait(0, "istio_tcp_connections_closed_total", 1, reporter="source",
                 destination_service="declared.test.svc.cluster.local")


def test_http_to_a_declared_port_connects_nothing_eagerly(lab, counted):
    curl(lab.client, f"http://web:8080/echo", "--resolve", f"web:8080:{VIP}")
    before = counted.more(0, "hoplite_upstream_connects_total")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(lab.client.connect(VIP, 8080)) for _ in range(100)]
        for client in clients:  # one after the other, so one upstream connection does for all
            client.sendall(b"GET /echo HTTP/1.1\r\nHost: web:8080\r\n\r\n")
            client.settimeout(seconds(5))
            assert client.recv(4000).startswith(b"HTTP/1.1 200")
    counted.wait(0, "istio_requests_total", 101, destination_service_name="web")
    assert counted.more(0, "hoplite_eager_connects_total") == 0
    assert counted.more(0, "hoplite_upstream_connects_total") == before


def test_a_thousand_connections_to_http_cost_the_server_none(lab, counted):
    """It is not declared to be HTTP, but seen; these clients connect long before they speak."""
    curl(lab.client, "http://podinfo:9898/echo", "--resolve", f"podinfo:9898:{VIP}")
    before = counted.more(0, "hoplite_upstream_connects_total")
    slow = 0  # who is silent for a second is a case of its own
    for _ in range(50):
        with contextlib.ExitStack() as stack:
            begin = time.monotonic()
            clients = [stack.enter_context(lab.client.connect(VIP, 9898)) for _ in range(20)]
            assert ready(clients, [], 0.025) == ([], [])  # silence, over detection.eager_after
            for client in clients:
                client.sendall(b"GET /echo HTTP/1.1\r\nHost: podinfo:9898\r\n\r\n")
                slow += time.monotonic() - begin > 0.9
                client.settimeout(seconds())
                assert client.recv(4000).startswith(b"HTTP/1.1 200")
    counted.wait(1, "istio_requests_total", 1001, reporter="destination")
    assert slow < 1000
    assert counted.more(0, "hoplite_eager_connects_total") <= slow
    assert counted.more(0, "hoplite_upstream_connects_total") <= before + slow


def test_banners_come_soon_from_new_destinations_and_sooner_from_known_ones(lab):
    """The best of many: how long one may take is the machine's matter, but none can be too quick."""
    def banner_after(address):
        begin = time.monotonic()
        with lab.client.connect(address, 3306) as client:
            assert client.recv(100) == BANNER
            return time.monotonic() - begin

    def best(times, goal):
        found = []
        for took in times:
            found.append(took)
            if took <= goal:
                break
        return min(found)

    soon = best(map(banner_after, DB_VIPS), 0.020 * seconds(1))
    later = best((banner_after(DB_VIPS[0]) for _ in range(500)), 0.009 * seconds(1))
    print(f"best banners: first {soon * 1000:.1f} ms, later {later * 1000:.1f} ms")
    assert soon <= 0.020 * seconds(1)
    assert later < 0.010 * seconds(1)  # less than they would wait for the client


def test_a_port_scan_under_strict_reaches_the_app_never(lab, counted):
    touched = []
    lab.serve(lab.server, "0.0.0.0", 7999, lambda connection, peer: touched.append(peer))

    # Past its own sidecar: a stranger on the network.
    done = lab.client.run("/usr/bin/python3", "-c",
                          "import socket, time\n"
                          "for i in range(50):\n"
                          f"  c = socket.create_connection(('{lab.server.v4}', 7999))\n"
                          "  time.sleep(0.02 if i < 5 else 0)\n"
                          "  c.close()\n", uid=pods.PROXY_ID)
    assert done.returncode == 0
    counted.wait(1, "hoplite_connections_accepted_total", 50, direction="inbound")
    poll_until(lambda: lab.server_sidecar.metrics().total("hoplite_connections_open",
                                                          direction="inbound") <= 8, "all closed")
    assert counted.more(1, "hoplite_eager_connects_total") == 0
    assert touched == []


def test_unknown_destinations_pass_through(lab, counted):
    """The server pod's sidecar is strict, so what passes in plaintext goes to an excluded port."""
    status = curl(lab.client, f"http://{lab.server.v4}:15090/healthz/ready")
    assert status == b"ok\n"
    counted.wait(0, "istio_requests_total", 1, destination_service_name="PassthroughCluster",
                 destination_service=f"{lab.server.v4}:15090", response_code="200")


def test_unknown_destinations_are_refused_where_that_is_configured(lab, counted):
    usual = config(lab, client_workload(), lab.client_identity, "permissive")
    strict = {**usual, "outbound": {**usual["outbound"], "unknown_host": "refuse"}}
    lab.client_sidecar.reload(strict)
    try:
        poll_until(lambda: curl(lab.client, f"http://{lab.server.v4}:15090/", "-o", "/dev/null",
                                "-w", "%{http_code}") == b"502", "the new configuration is in force")
        counted.wait(0, "istio_requests_total", 1, destination_service_name="BlackHoleCluster",
                     response_code="502")
        with lab.client.connect(lab.server.v4, 7997) as client:
            client.sendall(b"\0no HTTP")
            client.settimeout(seconds())
            with contextlib.suppress(ConnectionError):
                assert client.recv(100) == b""
        counted.wait(0, "istio_tcp_connections_closed_total", 1, response_flags="UH",
                     destination_service_name="BlackHoleCluster")
    finally:
        lab.client_sidecar.reload(usual)
        poll_until(lambda: curl(lab.client, f"http://{lab.server.v4}:15090/healthz/ready", "-o",
                                "/dev/null", "-w", "%{http_code}") == b"200", "and no longer")


def test_an_address_where_packets_vanish(lab, counted):
    """No RST and no ICMP says that nobody is there: timeouts.connect does."""
    lab.client.rules("*filter\n-A OUTPUT -p tcp --dport 7998 -j DROP\nCOMMIT\n")
    begin = time.monotonic()
    status = curl(lab.client, f"http://{lab.server.v4}:7998/", "-o", "/dev/null", "-w",
                  "%{http_code}", "--max-time", "100")
    assert status == b"503"
    assert time.monotonic() - begin > 4.9  # its default
    service = {"destination_service": f"{lab.server.v4}:7998", "response_code": "503"}
    counted.wait(0, "istio_requests_total", 1, **service)
    flags = lab.client_sidecar.metrics().one("istio_requests_total", **service)["response_flags"]
    assert "UF" in flags.split(",")


def test_loops_are_refused(lab, counted):
    for port in (15006, 15001):
        with lab.client.connect(lab.server.v4, port) as client:
            client.settimeout(seconds(5))
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                said = client.recv(100)  # by the client's sidecar, or nothing
                assert said == b"" or said.startswith(b"HTTP/1.1 503")
    poll_until(lambda: counted.more(1, "hoplite_loops_refused_total") >= 2, "both are refused")


def test_a_pod_that_calls_its_own_service(lab):
    """The simplest case: source 10 and destination 10, on one stats listener."""
    more = Counted(lab.server_sidecar)
    for _ in range(10):
        curl(lab.server, "http://podinfo:9898/echo", "--resolve", f"podinfo:9898:{VIP}")
    both = {"source_workload": "podinfo-v1", "destination_workload": "podinfo-v1",
            "response_code": "200"}
    more.wait(0, "istio_requests_total", 10, reporter="source",
              connection_security_policy="unknown", **both)
    more.wait(0, "istio_requests_total", 10, reporter="destination",
              connection_security_policy="mutual_tls", **both)
    assert more.more(0, "hoplite_loops_refused_total") == 0


def test_the_app_sees_the_connection_come_from_127_0_0_6(lab):
    with lab.client.connect(VIP, 7000) as client:
        client.sendall(b"who am I?")
        client.settimeout(seconds(5))
        assert client.recv(100) == b"127.0.0.6"


def test_ipv6(lab, counted):
    with lab.client.connect("fd96::16", 9898) as client:
        client.sendall(b"who am I?")
        client.settimeout(seconds(5))
        assert client.recv(100) == b"::6"
    counted.wait(1, "istio_tcp_connections_closed_total", 1, reporter="destination",
                 source_workload="client-v1", connection_security_policy="mutual_tls")


def test_bytes_are_counted_while_a_connection_lasts(lab):
    """Every five seconds, what came since; all four families have Istio's 23 labels."""
    sidecars = (lab.client_sidecar, lab.server_sidecar)
    poll_until(lambda: not any(each.metrics().total("hoplite_tcp_connections_open")
                               for each in sidecars), "what earlier tests began has ended")
    counted = Counted(*sidecars)
    with lab.client.connect(DECLARED_VIP, 5432) as client:
        client.settimeout(seconds())
        for total in (1000, 2000):
            client.sendall(b"x" * 1000)
            assert len(client.recv(1000, socket.MSG_WAITALL)) == 1000
            for which, reporter in ((0, "source"), (1, "destination")):
                for way in ("sent", "received"):
                    counted.wait(which, f"istio_tcp_{way}_bytes_total", total, reporter=reporter)
                assert counted.more(which, "istio_tcp_connections_opened_total") == 1
                assert counted.more(which, "istio_tcp_connections_closed_total") == 0
    for which in (0, 1):
        counted.wait(which, "istio_tcp_connections_closed_total", 1)
    for sidecar in sidecars:
        for name in ("connections_opened", "connections_closed", "sent_bytes", "received_bytes"):
            series = sidecar.metrics().series(f"istio_tcp_{name}_total")
            assert {len(labels) for labels, _ in series} == {23}


def test_tls_of_the_application_passes_with_its_name_noted(lab, counted):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    identity = lab.server_identity
    context.load_cert_chain(identity.cert, identity.key)

    def serve(connection, _peer):
        with context.wrap_socket(connection, server_side=True) as tls:
            tls.sendall(b"over my own TLS: " + tls.recv(100))

    # To an excluded port of the server pod, so that only the client's sidecar sees it.
    lab.server.rules("*nat\n-I ISTIO_INBOUND -p tcp --dport 8443 -j RETURN\nCOMMIT\n")
    lab.serve(lab.server, "0.0.0.0", 8443, serve)
    own = ssl.create_default_context(cafile=str(lab.authority.ca))
    own.check_hostname = False
    raw = lab.client.connect(lab.server.v4, 8443)
    with own.wrap_socket(raw, server_hostname="shop.example.com") as client:
        client.sendall(b"hello")
        assert client.recv(100) == b"over my own TLS: hello"
    counted.wait(0, "hoplite_detections_total", 1, direction="outbound", protocol="tls")
    counted.wait(0, "istio_tcp_connections_closed_total", 1, reporter="source",
                 destination_service="unknown", destination_service_name="PassthroughCluster")
    lab.client_sidecar.wait_line(r'"authority":"shop.example.com".*"protocol":"TCP"')


def test_the_name_is_noted_of_a_hello_in_two_segments(lab, counted):
    """With post-quantum key shares no ClientHello fits into one."""
    lab.server.rules("*nat\n-I ISTIO_INBOUND -p tcp --dport 8445 -j RETURN\nCOMMIT\n")
    arrived = queue.Queue()
    lab.serve(lab.server, "0.0.0.0", 8445,
              lambda connection, _: arrived.put(connection.recv(4096, socket.MSG_WAITALL)))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(
            incoming, outgoing, server_hostname="two.example.com").do_handshake()
    hello = outgoing.read()
    cut = hello.index(b"two.example.com")
    with lab.client.connect(lab.server.v4, 8445) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(hello[:cut])
        # Read, but not clear yet; the destination is only connected.
        counted.wait(0, "hoplite_eager_connects_total", 1)
        client.sendall(hello[cut:])
        client.shutdown(socket.SHUT_WR)
        assert arrived.get(timeout=seconds()) == hello
    lab.client_sidecar.wait_line(r'"authority":"two.example.com".*"protocol":"TCP"')


def test_large_transfers_between_plain_sockets_are_spliced(lab, counted):
    lab.server.rules("*nat\n-I ISTIO_INBOUND -p tcp --dport 8444 -j RETURN\nCOMMIT\n")
    lab.serve(lab.server, "0.0.0.0", 8444, echo)
    size = 20_000_000
    with lab.client.connect(lab.server.v4, 8444) as client:
        client.settimeout(seconds(20))

        def send():
            client.sendall(b"\x01spliced." * (size // 9))
            client.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        got = 0
        while data := client.recv(1 << 20):
            got += len(data)
        sender.join()
    assert got == size // 9 * 9
    counted.wait(0, "istio_tcp_sent_bytes_total", got, destination_service_name="PassthroughCluster")
    counted.wait(0, "istio_tcp_received_bytes_total", got,
                 destination_service_name="PassthroughCluster")
    assert counted.more(0, "hoplite_spliced_bytes_total") > size


def test_a_hostile_metadata_frame(lab, counted):
    """A client with a good certificate, whose frame is none."""
    probe = ("import ssl, socket, sys\n"
             "context = ssl.create_default_context(cafile=sys.argv[3])\n"
             "context.check_hostname = False\n"
             "context.load_cert_chain(sys.argv[1], sys.argv[2])\n"
             "context.set_alpn_protocols(['istio-peer-exchange', 'istio'])\n"
             "raw = socket.create_connection((sys.argv[4], 5432))\n"
             "with context.wrap_socket(raw, server_hostname='x') as tls:\n"
             "  tls.sendall(bytes.fromhex(sys.argv[5]))\n"
             f"  tls.settimeout({seconds(5)})\n"
             "  data = b''\n"
             "  try:\n"
             "    while len(data) < 10000:\n"
             "      more = tls.recv(65536)\n"
             "      if not more: break\n"
             "      data += more\n"
             "      if data.endswith(b'payload'): break\n"
             "  except (OSError, ssl.SSLError): pass\n"
             "sys.stdout.buffer.write(data)\n")
    files = lab.mtls(lab.client_identity)

    def talk(first):
        return lab.client.run("/usr/bin/python3", "-c", probe, files["cert"], files["key"], files["ca"],
                              lab.server.v4, first.hex(), uid=pods.PROXY_ID).stdout

    magic = bytes.fromhex("3d230467")
    assert talk(b"no frame, payload").endswith(b"no frame, payload")
    counted.wait(1, "hoplite_tcp_peer_metadata_total", 1, result="absent")
    assert talk(magic + struct.pack(">I", 5) + b"\xff" * 5 + b"payload").endswith(b"payload")
    counted.wait(1, "hoplite_tcp_peer_metadata_total", 1, result="invalid")
    assert not talk(magic + b"\xff\xff\xff\xff" + b"payload").endswith(b"payload")
    counted.wait(1, "hoplite_tcp_peer_metadata_total", 2, result="invalid")
