"""Time and races in HTTP/2: what begins and never ends, and what crosses on the wire.

Not floods (test_http2_floods.py), nor what a single upstream does wrong (test_http2_upstreams.py).
"""

import subprocess

import pytest

from hoplite_e2e import http2 as h2
from hoplite_e2e import tls
from hoplite_e2e.deadline import Deadline, ready, seconds
from hoplite_e2e.http2 import CONTINUATION, END_HEADERS, END_STREAM, HEADERS
from hoplite_e2e.ledger import ends, expect_ends, wait_idle
from hoplite_e2e.raw import Closed
from hoplite_e2e.topology import HOST, inbound_config

GET = h2.block([(":method", "GET"), (":scheme", "http"), (":authority", "localhost"),
                (":path", "/version")])


def front(world, address, protocol="http1", **more):
    """A sidecar, and a client of it that knows its settings."""
    sidecar = world.hoplite(inbound_config(address, protocol, workers=1, **more))
    client = h2.Client(world.client(sidecar.inbound))
    client.wait_settings()
    client.round_trip()
    return sidecar, client


# --- what never ends ------------------------------------------------------------------------------


def test_a_header_block_that_stops(world):
    """408 for the request; the connection can carry nothing more, and ends when it is idle."""
    sidecar, client = front(world, world.service().address,
                            timeouts={"header": "300ms", "idle": "3s"})
    client.send(h2.frame(HEADERS, END_STREAM, 1, GET))
    assert client.response(1).status == 408
    client.expect_end()
    metrics = expect_ends(sidecar, {("408", "-"): 1})
    assert metrics.total("hoplite_timeouts_total", timeout="header") == 1


def test_a_header_block_in_drips(world):
    """Each byte is a sign of life, and prolongs nothing: neither the request nor the connection."""
    sidecar, client = front(world, world.service().address,
                            timeouts={"header": "300ms", "idle": "3s"})
    field = h2.literal("x-long", "a" * 15900)
    client.send(h2.frame(HEADERS, END_STREAM, 1, GET),
                h2.frame(CONTINUATION, END_HEADERS, 1, length=len(field)))
    deadline = Deadline()
    closed = False
    for byte in field:
        try:
            client.send(bytes([byte]))
            if ready([client.wire.socket], [], 0.02)[0]:
                client.read_frame()
        except (Closed, OSError):
            closed = True
            break
        assert not deadline.passed()
    assert closed and client.message(1).status == 408
    expect_ends(sidecar, {("408", "-"): 1})


def test_a_body_that_stops(world):
    """The stream ends by timeouts.body_idle, and no other one with it."""
    sidecar, client = front(world, world.service().address, timeouts={"body_idle": "2s"})
    stream = client.request(method="POST", path="/delay/60", end=False,
                            headers=[("content-length", "10")])
    client.send(h2.data(stream, b"abc"))
    assert client.response(stream).status == 408
    assert client.ask().status == 200
    assert not client.goaways
    expect_ends(sidecar, {("408", "SI"): 1, ("200", "-"): 1})


@pytest.mark.parametrize("first", [h2.PREFACE[:10], h2.PREFACE, h2.PREFACE + h2.settings()[:5]],
                         ids=["half a preface", "no SETTINGS", "half a frame"])
def test_a_preface_that_stops_over_tls(world, first):
    """ALPN has said that it is HTTP/2: the connection ends as any idle one does."""
    authority = world.authority()
    server, identity = authority.issue("test", "podinfo"), authority.issue("default", "client")
    sidecar = world.hoplite(inbound_config(world.service().address, "http1", mtls=server.mtls(),
                                           timeouts={"idle": "300ms"}))
    client = h2.Client(world.tls_client(sidecar.inbound, tls.client_context(
        authority.ca, identity, alpn=h2.ISTIO_H2)), begin=first, acknowledge=False)
    client.expect_end()
    assert [goaway.code for goaway in client.goaways] == [h2.NO_ERROR]
    assert sidecar.metrics().total("hoplite_requests_started_total") == 0


# --- what crosses ---------------------------------------------------------------------------------


def test_resets_that_cross_with_answers(world):
    """Before the answer, in the middle of it, and behind it: each request is counted once."""
    sidecar, client = front(world, world.service().address)
    asked = 150
    for number in range(asked):
        stream = client.request(path="/bytes/30000")
        if number % 3 == 1:
            client.head(stream)
        elif number % 3 == 2:
            client.response(stream)
        client.send(h2.rst_stream(stream))
    assert client.ask().status == 200
    assert not client.goaways
    client.close()
    metrics = wait_idle(sidecar)
    found = ends(metrics)
    assert sum(found.values()) == asked + 1
    assert set(found) <= {("0", "DC"), ("200", "DC"), ("200", "-")}
    assert found["200", "-"] >= asked // 3 + 1
    assert metrics.total("hoplite_http2_streams_open") == 0


def test_a_goaway_that_crosses_with_requests(world):
    """Far more above the last id than the budget of retries has: all go on, none is served twice."""
    served = []

    def script(wire, number):
        server = h2.Server(wire)
        streams = []
        while number > 0 or len(streams) < 40:
            stream = server.next_request()
            server.complete(stream)
            streams.append(stream)
            if number > 0 or len(streams) <= 3:
                served.append(server.messages[stream].header("x-number"))
            if number > 0:
                server.respond(stream)
        server.send(h2.goaway(streams[2]))
        for stream in streams[:3]:
            server.respond(stream)
        server.expect_end(60)

    sidecar, client = front(world, world.raw_server(script).address, "http2")
    streams = [client.request(method="POST", path="/", body=b"x", authority=HOST,
                              headers=[("x-number", str(number))]) for number in range(40)]
    assert [client.response(stream).status for stream in streams] == [200] * 40
    assert sorted(served, key=int) == [str(number) for number in range(40)]
    metrics = expect_ends(sidecar, {("200", "-"): 40})
    assert metrics.total("hoplite_retries_total") == 37


def test_early_data_is_not_taken(world, tmp_path):
    """TLS 1.3's 0-RTT can be replayed by anybody: tickets offer none (RFC 8446 8, RFC 8470)."""
    authority = world.authority()
    server, identity = authority.issue("test", "podinfo"), authority.issue("default", "client")
    app = world.service()
    sidecar = world.hoplite(inbound_config(app.address, "http1", mtls=server.mtls()))
    session, request = tmp_path / "session", tmp_path / "request"
    request.write_bytes(b"GET /version HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")

    def connect(*more):
        return subprocess.run(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{sidecar.inbound}", "-tls1_3",
             "-cert", identity.cert, "-key", identity.key, "-alpn", "http/1.1", "-ign_eof",
             *(str(argument) for argument in more)],
            input=request.read_bytes(), capture_output=True, timeout=seconds(60), check=False).stdout

    first = connect("-sess_out", session)
    assert b"HTTP/1.1 200" in first and b"Max Early Data: 0" in first
    again = connect("-sess_in", session, "-early_data", request)
    assert b"Reused, TLSv1.3" in again and b"Early data was not sent" in again
    assert b"HTTP/1.1 200" in again
    assert sum(got.count(b"GET ") for got in app.received()) == 2
