"""HTTP/2 through one sidecar and through two: what arrives, what comes back, and what was counted.

Not violations (test_http2_conformance.py, test_http2_smuggling.py, test_http2_floods.py), nor upstreams
that misbehave (test_http2_upstreams.py).
"""

import subprocess
import threading

import pytest

from hoplite_e2e import http2 as h2
from hoplite_e2e import tls, websocket
from hoplite_e2e.deadline import poll_until, seconds
from hoplite_e2e.ledger import check_ledger, expect_ends, wait_idle
from hoplite_e2e.raw import RawClient
from hoplite_e2e.topology import HOST, Pair, inbound_config, podinfo_at

REQUESTS = "istio_requests_total"


def run(*argv):
    return subprocess.run([str(a) for a in argv], capture_output=True, timeout=seconds(60),
                          check=True, text=True).stdout


def inbound(world, app, protocol="http1", **more):
    return world.hoplite(inbound_config(app, protocol, **more))


# --- public clients -------------------------------------------------------------------------------


def test_curl_with_prior_knowledge(world):
    sidecar = inbound(world, world.service().address)
    out = run("curl", "-sS", "--http2-prior-knowledge", "-w", "%{http_version} %{http_code}",
              f"http://127.0.0.1:{sidecar.inbound}/version")
    assert out.endswith("}\n2 200")
    labels = expect_ends(sidecar, {("200", "-"): 1}).one(REQUESTS)
    assert labels["request_protocol"] == "http"


def test_upgrade_h2c_is_not_taken(world):
    """Served as HTTP/1.1; neither Upgrade nor HTTP2-Settings reach the app."""
    app = world.service()
    sidecar = inbound(world, app.address)
    out = run("curl", "-sS", "--http2", "-w", "%{http_version}",
              f"http://127.0.0.1:{sidecar.inbound}/version")
    assert out.endswith("}\n1.1")
    got = app.received()[0].lower()
    assert b"upgrade" not in got and b"http2-settings" not in got


def test_nghttp(world):
    sidecar = inbound(world, world.service().address)
    out = run("nghttp", "-v", "-m", "20", f"http://127.0.0.1:{sidecar.inbound}/version")
    assert out.count(":status: 200") == 20
    expect_ends(sidecar, {("200", "-"): 20})


@pytest.mark.parametrize("connections, streams", [(1, 1000), (10, 100)])
def test_h2load(world, sanitized, connections, streams):
    sidecar = inbound(world, world.service().address)
    total = 2000 if sanitized else 10000
    out = run("h2load", "-n", total, "-c", connections, "-m", streams,
              f"http://127.0.0.1:{sidecar.inbound}/version")
    assert f"{total} succeeded, 0 failed, 0 errored" in out, out
    metrics = expect_ends(sidecar, {("200", "-"): total})
    assert metrics.total("hoplite_http2_streams_open") == 0


def test_access_log(world):
    sidecar = inbound(world, world.service().address, log={"access": "all"})
    h2.Client(world.client(sidecar.inbound)).ask()
    sidecar.wait_line('"protocol":"HTTP/2"')


# --- detection ------------------------------------------------------------------------------------


def test_a_broken_preface_is_not_answered_in_http1(world):
    """Whoever sent it reads frames (RFC 9113 3.4); what is at all like HTTP/1 is answered in it."""
    sidecar = inbound(world, world.service().address)
    client = world.client(sidecar.inbound)
    client.send(b"INVALID CONNECTION PREFACE\r\n\r\n")
    client.expect_end()
    client = world.client(sidecar.inbound)
    client.send(b"INVALID / PREFACE\r\n\r\n")
    assert client.read_response().status == 400
    expect_ends(sidecar, {("0", "DPE"): 1, ("400", "DPE"): 1})


def test_the_preface_byte_by_byte(world):
    sidecar = inbound(world, world.service().address)
    wire = world.client(sidecar.inbound)
    wire.send_pieces(h2.PREFACE + h2.settings())
    assert h2.Client(wire, begin=b"").ask().status == 200


@pytest.mark.parametrize("first", [b"P", b"PR", b"PRI * HTTP/2.0\r\n\r\nSM\r"])
def test_a_preface_that_stops(world, first):
    """What could still become a preface waits no longer than any head: timeouts.header."""
    sidecar = inbound(world, world.service().address, timeouts={"header": "300ms"})
    client = world.client(sidecar.inbound)
    client.send(first)
    assert client.read_response().status in (408, 400, 405, 501, 505)
    client.expect_end()
    wait_idle(sidecar)


def test_no_byte_at_all(world):
    sidecar = inbound(world, world.service().address, timeouts={"idle": "200ms"})
    world.client(sidecar.inbound).expect_end()
    sidecar.wait_total("hoplite_timeouts_total", 1, timeout="idle")
    assert sidecar.metrics().total("hoplite_requests_started_total") == 0


@pytest.mark.parametrize("request_line", [b"POST", b"PUT", b"PATCH", b"PROPFIND"])
def test_requests_that_begin_like_the_preface(world, request_line):
    app = world.service()
    sidecar = inbound(world, app.address)
    client = world.client(sidecar.inbound)
    client.send_pieces(request_line + b" /version HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
    client.read_response()
    assert app.received()[0].startswith(request_line)


def test_a_preface_is_a_request_elsewhere(world):
    sidecar = inbound(world, world.service().address)
    client = world.client(sidecar.inbound)
    assert client.request(target="/version").status == 200
    client.send(h2.PREFACE)
    assert client.read_response().status in (400, 405, 501, 505)


# --- messages, from HTTP/2 to HTTP/1 --------------------------------------------------------------


@pytest.fixture
def crossing(world):
    """(client in HTTP/2, app in HTTP/1, sidecar)"""
    app = world.service()
    sidecar = inbound(world, app.address)
    return h2.Client(world.client(sidecar.inbound)), app, sidecar


def test_cookies_are_joined(crossing):
    client, app, _ = crossing
    client.ask(headers=[("cookie", "a=1"), ("cookie", "b=2"), ("x", "y"), ("cookie", "c=3")])
    got = app.received()[0].lower()
    assert got.count(b"cookie:") == 1 and b"cookie: a=1; b=2; c=3\r\n" in got


def test_te_trailers_is_kept(crossing):
    client, app, _ = crossing
    client.ask(headers=[("te", "trailers")])
    assert b"te: trailers\r\n" in app.received()[0].lower()


def test_head(crossing):
    client, _, _ = crossing
    message = client.ask(method="HEAD")
    assert message.status == 200 and message.body == b"" and message.complete
    assert int(message.header("content-length")) > 0


@pytest.mark.parametrize("size", [0, 1, 16384, 65536, 3_000_000])
def test_bodies_both_ways(crossing, size):
    client, _, sidecar = crossing
    body = bytes(range(256)) * (size // 256 + 1)
    stream = client.request(method="POST", path="/echo", end=False)
    sent = 0
    window = {"stream": 65535, "all": 65535}
    counted = 0
    while sent < size:
        for frame in client.frames[counted:]:
            if frame.kind == h2.WINDOW_UPDATE:
                grow = int.from_bytes(frame.payload, "big")
                window["all" if frame.stream == 0 else "stream"] += grow
            elif frame.kind == h2.SETTINGS and not frame.has(h2.ACK):
                grow = (client.settings.get(h2.INITIAL_WINDOW_SIZE, 65535)) - 65535
                window["stream"] += grow
        counted = len(client.frames)
        piece = min(window["stream"], window["all"], 16384, size - sent)
        if piece <= 0:
            client.read_frame()
            continue
        client.send(h2.data(stream, body[sent:sent + piece]))
        sent += piece
        window["stream"] -= piece
        window["all"] -= piece
    client.send(h2.data(stream, b"", True))
    assert client.response(stream, 30.0).body == body[:size]
    expect_ends(sidecar, {("200", "-"): 1})


def test_informational_responses_and_trailers(world):
    def script(wire, _number):
        head = wire.read_until(b"\r\n\r\n").lower()
        assert b"expect: 100-continue" in head
        wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert wire.read_chunked() == (b"hello", [("x-up", "1")])
        wire.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
                  b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Down\r\n\r\n"
                  b"5\r\nworld\r\n0\r\nX-Down: 2\r\n\r\n")

    sidecar = inbound(world, world.raw_server(script).address)
    client = h2.Client(world.client(sidecar.inbound))
    stream = client.request(method="POST", path="/", end=False, headers=[("expect", "100-continue")])
    message = client.message(stream)
    client.read_until(lambda: message.informational, "100")
    client.send(h2.data(stream, b"hello"), client.header_frames(stream, [("x-up", "1")]))
    client.response(stream)
    assert [dict(fields)[":status"] for fields in message.informational] == ["100", "103"]
    assert dict(message.informational[1])["link"] == "</a>"
    assert (message.status, message.body) == (200, b"world")
    assert message.trailers == [("x-down", "2")]


def test_websocket_by_extended_connect(crossing, world):
    """RFC 8441, mapped to an HTTP/1 upgrade."""
    client, app, sidecar = crossing
    client.wait_settings()
    assert client.settings[h2.ENABLE_CONNECT_PROTOCOL] == 1
    stream = client.next_stream()
    client.send(client.header_frames(stream, [
        (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"),
        (":authority", "localhost"), (":path", "/ws/echo"), ("sec-websocket-version", "13"),
        ("sec-websocket-key", "bm90IG9mIEhUVFAvMiEhIQ==")], False))
    assert client.head(stream).status == 200
    assert client.message(stream).header("sec-websocket-accept") is None
    client.send(h2.data(stream, websocket.frame(b"hello over h2")))
    client.read_until(lambda: len(client.message(stream).body) >= 15, "the echo")
    assert client.message(stream).body[2:] == b"hello over h2"
    client.send(h2.data(stream, b"", True))
    client.response(stream)
    got = app.received()[0].lower()
    assert got.startswith(b"get /ws/echo http/1.1\r\n") and b"upgrade: websocket\r\n" in got
    assert got.count(b"sec-websocket-key:") == 1 and b"bm90ig9m" not in got
    assert client.ask().status == 200
    client.close()
    metrics = wait_idle(sidecar)
    assert metrics.total(REQUESTS) == 2


@pytest.mark.parametrize("path, status", [("/version", 502), ("/status/403", 403)])
def test_a_websocket_that_its_app_does_not_begin(crossing, path, status):
    """Any 2xx would tell an HTTP/2 client that it did (RFC 8441 5)."""
    client, _, _ = crossing
    client.wait_settings()
    stream = client.next_stream()
    client.send(client.header_frames(stream, [
        (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"),
        (":authority", "localhost"), (":path", path), ("sec-websocket-version", "13")], False))
    assert client.head(stream).status == status
    assert client.ask().status == 200


# --- flow control ---------------------------------------------------------------------------------


def rss(process):
    with open(f"/proc/{process.pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


@pytest.mark.parametrize("protocol", ["http1", "http2"])
def test_a_slow_reader(world, sanitized, protocol):
    """100 MB that nobody takes: a window's worth is held, the rest stays where it comes from."""
    size = 100_000_000

    def script(wire, _number):
        server = h2.Server(wire)
        stream = server.next_request()
        server.send(server.header_frames(stream, [(":status", "200")], False))
        room, left, seen = {0: 65535, stream: server.settings.get(4, 65535)}, size, 0
        while left:
            for frame in server.frames[seen:]:
                if frame.kind == h2.WINDOW_UPDATE and frame.stream in room:
                    room[frame.stream] += int.from_bytes(frame.payload, "big")
            seen = len(server.frames)
            piece = min(*room.values(), 16384, left)
            if piece <= 0:
                server.read_frame(60)
                continue
            left -= piece
            room = {key: value - piece for key, value in room.items()}
            server.send(h2.data(stream, bytes(piece), left == 0))

    address = world.service().address if protocol == "http1" else world.raw_server(script).address
    sidecar = inbound(world, address, protocol, workers=1)
    client = h2.Client(world.client(sidecar.inbound), credit=False)
    client.wait_settings()
    before = rss(sidecar)
    stream = client.request(path=f"/bytes/{size}")
    client.read_until(lambda: len(client.message(stream).body) == 65535, "a window")
    client.round_trip()
    assert len(client.message(stream).body) == 65535
    assert sanitized or rss(sidecar) - before < 4096
    poll_until(lambda: sidecar.metrics().total("hoplite_http2_flow_control_stalls_total",
                                               side="downstream") >= 1, "a stall")
    # Others are not held up by it; a reset gives all of it back.
    client.send(h2.rst_stream(stream), h2.window_update(0, 65535))
    client.credit = True
    if protocol == "http1":
        assert client.ask().status == 200
    client.close()
    metrics = wait_idle(sidecar)
    assert metrics.total("hoplite_http2_resets_total", side="downstream", way="received",
                         code="CANCEL") == 1


def test_a_reset_stream_returns_its_window(crossing):
    """Uploads that nobody reads, each reset: the connection's window is there for the next."""
    client, _, sidecar = crossing
    client.wait_settings()
    for _ in range(40):
        stream = client.request(method="POST", path="/delay/20", end=False)
        client.send(*(h2.data(stream, bytes(16000)) for _ in range(4)), h2.rst_stream(stream))
        client.round_trip()
    message = client.ask(method="POST", path="/echo", body=bytes(60000))
    assert message.body == bytes(60000)
    client.close()
    wait_idle(sidecar)


def test_a_cancelled_request_is_cancelled_upstream(world):
    here, gone = threading.Event(), threading.Event()

    def script(wire, _number):
        server = h2.Server(wire)
        stream = server.next_request()
        here.set()
        server.read_until(lambda: server.message(stream).reset is not None, "RST_STREAM", 20)
        gone.set()
        server.respond(server.next_request())
        server.expect_end(30)

    sidecar = inbound(world, world.raw_server(script).address, "http2")
    client = h2.Client(world.client(sidecar.inbound))
    stream = client.request()
    assert here.wait(seconds())
    for side in ("downstream", "upstream"):
        assert sidecar.metrics().total("hoplite_http2_streams_open", side=side) == 1
    client.send(h2.rst_stream(stream))
    assert gone.wait(seconds())
    assert client.ask().status == 200
    metrics = wait_idle(sidecar)
    assert metrics.total(REQUESTS, response_code="0", response_flags="DC") == 1
    for side, way in (("downstream", "received"), ("upstream", "sent")):
        assert metrics.total("hoplite_http2_resets_total", side=side, way=way, code="CANCEL") == 1
    assert metrics.total("hoplite_http2_streams_open") == 0


# --- two sidecars ---------------------------------------------------------------------------------


class Mesh(Pair):
    """As Pair, with keys of the client's service and of the server's inbound section."""

    def __init__(self, world, app_address, service=None, protocol="http1"):
        server = {"inbound": {"listen": "127.0.0.1:0", "app": app_address, "protocol": protocol}}
        super().__init__(world, app_address, server_sections=server)
        if not service:
            return
        tls_keys = {"mode": "mutual", "sans": [self.server_identity.principal]}
        world_config = {
            "workload": {"name": "client-v1", "namespace": "default", "app": "client"},
            "outbound": {"listen": "127.0.0.1:0", "services": [podinfo_at(
                f"127.0.0.1:{self.server.inbound}", tls=tls_keys, **service)]},
            "stats": {"listen": "127.0.0.1:0"}, "workers": 1,
            "mtls": self.client_identity.mtls(),
        }
        self.client = world.hoplite(world_config, name="upgrading")


def test_http1_requests_share_one_connection(world):
    """upgrade: true. HTTP/1, HTTP/2 with mTLS, HTTP/1: as ever, but on one connection."""
    app = world.service()
    mesh = Mesh(world, app.address, {"upgrade": True})
    clients = [RawClient(mesh.port) for _ in range(20)]
    try:
        for client in clients:
            client.send(b"GET /delay/0.2 HTTP/1.1\r\nHost: " + HOST.encode() + b"\r\n\r\n")
        for client in clients:
            assert client.read_response().status == 200
        answer = clients[0].request(method="POST", target="/echo", host=HOST, body=b"x" * 300000)
        assert answer.body == b"x" * 300000
    finally:
        for client in clients:
            client.close()
    for sidecar, reporter in ((mesh.client, "source"), (mesh.server, "destination")):
        metrics = sidecar.wait_total(REQUESTS, 21, reporter=reporter, request_protocol="http",
                                     response_code="200", source_workload="client-v1",
                                     destination_workload="podinfo-v1")
        check_ledger(metrics)
    assert mesh.server.metrics().total("hoplite_connections_accepted_total") == 1
    assert mesh.server.metrics().total(REQUESTS, connection_security_policy="mutual_tls") == 21
    assert mesh.client.metrics().total("hoplite_upstream_connects_total", outcome="ok") == 1


def test_websocket_through_an_upgraded_hop(world):
    app = world.service()
    mesh = Mesh(world, app.address, {"upgrade": True})
    for _ in range(2):
        client = world.client(mesh.port)
        websocket.connect(client, host=HOST)
        client.send(websocket.frame(b"hello"))
        assert websocket.read_frame(client) == (websocket.TEXT, b"hello")
        client.close()
    # By extended CONNECT: the connection is shared with others.
    assert mesh.server.metrics().total("hoplite_connections_accepted_total") == 1
    for sidecar in (mesh.client, mesh.server):
        wait_idle(sidecar)
        assert sidecar.metrics().total(REQUESTS, response_code="101") == 2


def test_websocket_where_the_peer_takes_no_extended_connect(world):
    """A request with Upgrade gets its own HTTP/1 connection then."""
    def script(wire, number):
        first = wire.read_exactly(3)
        if first == b"PRI":
            wire.buffer[:0] = first
            server = h2.Server(wire)
            while True:
                server.respond(server.next_request())
        head = first + wire.read_until(b"\r\n\r\n")
        key = next(line.split(b":")[1].strip() for line in head.split(b"\r\n")
                   if line.lower().startswith(b"sec-websocket-key"))
        import base64
        import hashlib
        accept = base64.b64encode(hashlib.sha1(
            key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        wire.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                  b"Connection: Upgrade\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\nbye")

    sidecar = inbound(world, world.raw_server(script).address, "http2", workers=1)
    client = world.client(sidecar.inbound)
    websocket.connect(client, host=HOST)
    assert client.read_exactly(3) == b"bye"


@pytest.mark.parametrize("protocol", ["http1", "http2", "auto"])
@pytest.mark.parametrize("spoken", ["http1", "http2"])
def test_all_pairs(world, protocol, spoken):
    """What the client speaks, and what its sidecar is told to speak."""
    mesh = Mesh(world, world.service().address, {"protocol": protocol})
    if spoken == "http2":
        client = h2.Client(world.client(mesh.port))
        message = client.ask(method="POST", path="/echo", body=b"abc", authority=HOST)
        assert (message.status, message.body) == (200, b"abc")
    else:
        answer = world.client(mesh.port).request(method="POST", target="/echo", host=HOST, body=b"abc")
        assert (answer.status, answer.body) == (200, b"abc")
    between = spoken if protocol == "auto" else protocol
    assert wait_idle(mesh.client).total(REQUESTS, response_code="200") == 1
    labels = {"source_principal": mesh.client_identity.principal}
    assert wait_idle(mesh.server).total(REQUESTS, **labels) == 1
    assert between in ("http1", "http2")


@pytest.mark.parametrize("alpn, version", [
    (h2.ISTIO_H2, "h2"), (("h2",), "h2"), (("h2", "http/1.1"), "h2"),
    (tls.ISTIO_HTTP11, "http/1.1"), ((), None)])
def test_alpn(world, alpn, version):
    """What Istio's sidecars offer, and others; without ALPN the first bytes tell."""
    app = world.service()
    authority = world.authority()
    server, identity = authority.issue("test", "podinfo"), authority.issue("default", "client")
    sidecar = inbound(world, app.address, mtls=server.mtls())
    wire = world.tls_client(sidecar.inbound, tls.client_context(authority.ca, identity, alpn=alpn))
    assert wire.socket.selected_alpn_protocol() == version
    if version == "http/1.1":
        assert wire.request().status == 200
    else:
        assert h2.Client(wire).ask().status == 200
    labels = sidecar.wait_total(REQUESTS, 1).one(REQUESTS)
    assert labels["connection_security_policy"] == "mutual_tls"
    assert labels["source_principal"] == identity.principal


def test_each_request_is_judged(world):
    """mtls.allow on a connection of many requests: each denied by itself."""
    authority = world.authority()
    server, identity = authority.issue("test", "podinfo"), authority.issue("default", "client")
    mtls = server.mtls(allow=["spiffe://cluster.local/ns/other/sa/*"])
    sidecar = inbound(world, world.service().address, mtls=mtls)
    client = h2.Client(world.tls_client(sidecar.inbound, tls.client_context(
        authority.ca, identity, alpn=h2.ISTIO_H2)))
    streams = [client.request() for _ in range(5)]
    assert [client.response(stream).status for stream in streams] == [403] * 5
    expect_ends(sidecar, {("403", "-"): 5})
