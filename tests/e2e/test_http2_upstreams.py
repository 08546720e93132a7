"""Endpoints in HTTP/2 that misbehave, or only do as they may: nothing is lost that need not be lost.

The client speaks HTTP/2 to one sidecar in front of a server that each test plays frame by frame.
"""

import threading

import pytest

from hoplite_e2e import http2 as h2
from hoplite_e2e.deadline import seconds
from hoplite_e2e.front import free_address
from hoplite_e2e.ledger import expect_ends, wait_idle
from hoplite_e2e.raw import Closed
from hoplite_e2e.topology import HOST, inbound_config, outbound_config, podinfo_at

POST = {"method": "POST", "path": "/x", "body": b"hello", "authority": HOST}


class Front:
    """A sidecar whose upstream is `script`, and a client of it."""

    def __init__(self, world, script, **sections):
        self.server = world.raw_server(script)
        self.sidecar = world.hoplite(inbound_config(self.server.address, "http2", workers=1,
                                                    **sections))
        self.client = h2.Client(world.client(self.sidecar.inbound))

    def metric(self, name, **labels):
        return self.sidecar.metrics().total(name, **labels)


def rest(server):
    """Answers whatever else is asked."""
    while True:
        stream = server.next_request()
        server.complete(stream)
        server.respond(stream)


def test_many_requests_share_a_connection(world):
    gate = threading.Event()

    def script(wire, _number):
        server = h2.Server(wire)
        streams = [server.next_request() for _ in range(20)]
        gate.set()
        for stream in reversed(streams):
            server.respond(stream)
        rest(server)

    front = Front(world, script)
    streams = [front.client.request(authority=HOST) for _ in range(20)]
    for stream in streams:
        assert front.client.response(stream).status == 200
    assert gate.is_set() and front.server.accepted == 1
    expect_ends(front.sidecar, {("200", "-"): 20})
    assert front.metric("hoplite_upstream_requests_total", connection="reused") == 19


def test_one_stream_at_a_time(world):
    """MAX_CONCURRENT_STREAMS of 1: each request gets a connection to itself, none is refused."""
    def script(wire, _number):
        server = h2.Server(wire, {h2.MAX_CONCURRENT_STREAMS: 1})
        while True:
            stream = server.next_request()
            server.complete(stream)
            open_now = [s for s, m in server.messages.items() if s > stream]
            assert not open_now, "two streams at a time"
            server.respond(stream)

    front = Front(world, script)
    streams = [front.client.request(**POST) for _ in range(30)]
    for stream in streams:
        assert front.client.response(stream).status == 200
    expect_ends(front.sidecar, {("200", "-"): 30})
    assert front.metric("hoplite_http2_resets_total", side="upstream") == 0


def test_no_stream_is_granted(world):
    """MAX_CONCURRENT_STREAMS of 0: what had gone ahead of it is the server's to answer; who waits is
    told in the time of a connect, and connections do not pile up."""
    def script(wire, _number):
        server = h2.Server(wire, {h2.MAX_CONCURRENT_STREAMS: 0})
        server.expect_end(60)

    front = Front(world, script, timeouts={"connect": "2s"})
    streams = [front.client.request(**POST) for _ in range(5)]
    for stream in streams[1:]:
        assert front.client.response(stream).status == 503
    assert front.client.message(streams[0]).headers is None
    front.client.send(h2.rst_stream(streams[0]))
    expect_ends(front.sidecar, {("503", "UF"): 4, ("0", "DC"): 1})
    assert front.server.accepted == 2


def test_a_lost_connection_gets_no_second_chance(world):
    """What waited there is sent again on another one, although this one has free streams."""
    gate = threading.Event()

    def script(wire, number):
        server = h2.Server(wire)
        if number > 0:
            rest(server)
        streams = [server.next_request() for _ in range(3)]
        for stream in streams[:2]:
            server.respond(stream)
        assert gate.wait(seconds(30))

    front = Front(world, script)
    streams = [front.client.request(authority=HOST) for _ in range(3)]
    for stream in streams[:2]:
        assert front.client.response(stream).status == 200
    gate.set()
    assert front.client.response(streams[2]).status == 200
    expect_ends(front.sidecar, {("200", "-"): 3})
    assert front.server.accepted == 2


@pytest.mark.parametrize("last", [0, 1], ids=["none", "the first"])
def test_goaway_early(world, last):
    """Requests above the last id are sent again, on a fresh connection to the only endpoint."""
    def script(wire, number):
        server = h2.Server(wire)
        if number > 0:
            rest(server)
        first = server.next_request()
        second = server.next_request()
        server.send(h2.goaway(first if last else 0))
        if last:
            server.respond(first)
        assert second > first
        server.expect_end()

    front = Front(world, script)
    streams = [front.client.request(**POST) for _ in range(2)]
    for stream in streams:
        assert front.client.response(stream).status == 200
    expect_ends(front.sidecar, {("200", "-"): 2})
    assert front.server.accepted == 2
    assert front.metric("hoplite_retries_total") == 2 - last
    assert front.metric("hoplite_http2_goaways_total", side="upstream", way="received") == 1


def test_goaway_lets_what_is_under_way_end(world):
    def script(wire, number):
        server = h2.Server(wire)
        stream = server.next_request()
        if number == 0:
            server.respond(stream, body=b"", end=False)
            server.send(h2.goaway(0x7FFFFFFF))
            server.round_trip()
            server.send(h2.goaway(stream), h2.data(stream, b"ok", True))
            server.expect_end()
        else:
            server.respond(stream)
            rest(server)

    front = Front(world, script)
    assert front.client.ask(authority=HOST).body == b"ok"
    assert front.client.ask(authority=HOST).body == b"ok"
    assert front.server.accepted == 2
    expect_ends(front.sidecar, {("200", "-"): 2})


def test_refused_streams_are_sent_again_elsewhere(world):
    def script(wire, number):
        server = h2.Server(wire)
        if number > 0:
            rest(server)
        while True:
            stream = server.next_request()
            server.complete(stream)
            server.send(h2.rst_stream(stream, h2.REFUSED_STREAM))

    front = Front(world, script)
    assert front.client.ask(**POST).status == 200
    expect_ends(front.sidecar, {("200", "-"): 1})
    assert front.metric("hoplite_retries_total") == 1
    assert front.metric("hoplite_http2_resets_total", side="upstream", way="received",
                        code="REFUSED_STREAM") == 1


def test_refused_without_end(world):
    """Three tries, then the error is the client's."""
    def script(wire, _number):
        server = h2.Server(wire)
        while True:
            server.send(h2.rst_stream(server.next_request(), h2.REFUSED_STREAM))

    front = Front(world, script)
    assert front.client.ask(**POST).status == 503
    metrics = wait_idle(front.sidecar)
    assert metrics.total("istio_requests_total", response_code="503") == 1
    assert metrics.total("hoplite_retries_total") == 2


def test_another_endpoint_takes_over(world):
    def script(wire, _number):
        server = h2.Server(wire)
        while True:
            server.send(h2.rst_stream(server.next_request(), h2.REFUSED_STREAM))

    refusing, willing = world.raw_server(script), world.raw_server(h2.answer_all())
    sidecar = world.hoplite(outbound_config(
        podinfo_at(refusing.address, willing.address, protocol="http2"), workers=1))
    client = h2.Client(world.client(sidecar.outbound))
    for _ in range(4):
        assert client.ask(**POST).status == 200
    expect_ends(sidecar, {("200", "-"): 4})


@pytest.mark.parametrize("when", ["before", "in", "after"])
def test_reset(world, when):
    """RST_STREAM before, in and after the response: one request ends, the connection goes on."""
    told = threading.Event()

    def script(wire, _number):
        server = h2.Server(wire)
        stream = server.next_request()
        server.complete(stream)
        if when == "before":
            server.send(h2.rst_stream(stream, h2.INTERNAL_ERROR))
        elif when == "in":
            server.respond(stream, body=b"some", end=False, headers=[("content-length", "100")])
            told.wait(20)
            server.send(h2.rst_stream(stream, h2.INTERNAL_ERROR))
        else:
            server.respond(stream)
            server.send(h2.rst_stream(stream, h2.NO_ERROR))
        rest(server)

    front = Front(world, script)
    stream = front.client.request(**POST)
    if when == "in":
        front.client.read_until(lambda: front.client.message(stream).body, "a part")
    told.set()
    message = front.client.response(stream)
    if when == "before":
        assert message.status == 503
    elif when == "in":
        assert message.status == 200 and message.reset is not None and not message.complete
    else:
        assert message.status == 200 and message.body == b"ok"
    assert front.client.ask(**POST).status == 200
    assert front.server.accepted == 1
    wait_idle(front.sidecar)


def test_padding_and_pings_between_frames(world):
    def script(wire, _number):
        server = h2.Server(wire)
        while True:
            stream = server.next_request()
            server.complete(stream)
            server.send(h2.ping(b"between1"), h2.settings({h2.MAX_CONCURRENT_STREAMS: 50}))
            server.send(server.header_frames(stream, [(":status", "200")], False), h2.ping())
            for number in range(10):
                server.send(h2.data(stream, b"0123456789", False, padding=200 + number), h2.ping(),
                            h2.window_update(0, 10), h2.frame(0xFA, 0, stream, b"extension"))
            server.send(h2.data(stream, b"", False, padding=0), h2.data(stream, b"end", True))

    front = Front(world, script)
    for _ in range(3):
        assert front.client.ask(**POST).body == b"0123456789" * 10 + b"end"
    expect_ends(front.sidecar, {("200", "-"): 3})


def test_gone_in_the_middle(world):
    """The connection is cut: requests without an answer may be repeated if they are idempotent."""
    def script(wire, number):
        server = h2.Server(wire)
        if number > 0:
            rest(server)
        stream = server.next_request()
        server.respond(stream)
        server.next_request()
        server.next_request()

    front = Front(world, script)
    assert front.client.ask(authority=HOST).status == 200
    get = front.client.request(authority=HOST)
    post = front.client.request(**POST)
    assert front.client.response(get).status == 200
    assert front.client.response(post).status == 503
    wait_idle(front.sidecar)


HEADS = {
    "no status": [("content-type", "a")],
    "a status of letters": [(":status", "abc")],
    "status twice": [(":status", "200"), (":status", "204")],
    "a pseudo-header of requests": [(":status", "200"), (":path", "/")],
    "a name in capitals": [(":status", "200"), ("X-A", "1")],
    "a value with CR LF": [(":status", "200"), ("x", "1\r\nset-cookie: a=b")],
    "connection: close": [(":status", "200"), ("connection", "close")],
    "transfer-encoding": [(":status", "200"), ("transfer-encoding", "chunked")],
    "two lengths": [(":status", "200"), ("content-length", "1"), ("content-length", "2")],
    "101": [(":status", "101")],
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS.keys())
def test_malformed_response(world, head):
    """502, and the other requests of the connection go on."""
    def script(wire, _number):
        server = h2.Server(wire)
        while True:
            stream = server.next_request()
            if server.messages[stream].header("x-bad") == "1":
                server.send(h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, stream,
                                     h2.block(head)))
            else:
                server.respond(stream)

    front = Front(world, script)
    message = front.client.ask(authority=HOST, headers=[("x-bad", "1")])
    assert message.status == 502
    assert b"set-cookie" not in message.body
    assert front.client.ask(authority=HOST).status == 200
    expect_ends(front.sidecar, {("502", "UPE"): 1, ("200", "-"): 1})


@pytest.mark.parametrize("length, body", [("5", b"1234"), ("5", b"123456"), ("0", b"1")])
def test_response_that_disagrees_with_its_length(world, length, body):
    def script(wire, _number):
        server = h2.Server(wire)
        while True:
            server.respond(server.next_request(), body=body, headers=[("content-length", length)])

    front = Front(world, script)
    message = front.client.ask(authority=HOST)
    assert message.reset is not None and not message.complete
    assert len(message.body) <= int(length)
    wait_idle(front.sidecar)


def speaks_http1(wire, _number):
    """And takes the preface of HTTP/2 for a request, as such servers do."""
    while not wire.read_until(b"\r\n\r\n").startswith(b"PRI "):
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    wire.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


def advice_for(sidecar, server):
    """What the log says to do about an endpoint that speaks HTTP/1 alone."""
    return sidecar.wait_line(rf"upstream {server.address} does not speak HTTP/2 \(.*\); (.*)$",
                             "stderr").group(1)


def test_an_endpoint_that_speaks_http1(world):
    """Prior knowledge was wrong: 502, not a hang."""
    front = Front(world, speaks_http1)
    assert front.client.ask(authority=HOST).status in (502, 503)
    wait_idle(front.sidecar)


def test_what_is_said_of_an_app_that_speaks_http1(world):
    """The flag that goes with --from and --to; with it the app answers."""
    server = world.raw_server(speaks_http1)
    flags = ["--from", "127.0.0.1:0", "--to", server.address, "--stats-listen", "127.0.0.1:0"]
    sidecar = world.hoplite(arguments=flags)
    assert h2.Client(world.client(sidecar.inbound)).ask(authority=HOST).status in (502, 503)
    advice = advice_for(sidecar, server)
    assert "--inbound-protocol http1" in advice and "inbound.protocol: http1" in advice
    sidecar = world.hoplite(arguments=[*flags, "--inbound-protocol", "http1"])
    assert h2.Client(world.client(sidecar.inbound)).ask(authority=HOST).status == 200


def test_what_is_said_of_a_service_that_speaks_http1(world):
    server = world.raw_server(speaks_http1)
    sidecar = world.hoplite(outbound_config(podinfo_at(server.address)))
    assert h2.Client(world.client(sidecar.outbound)).ask(authority=HOST).status in (502, 503)
    assert "protocol: http1 for its service" in advice_for(sidecar, server)
    sidecar = world.hoplite(outbound_config(podinfo_at(server.address, protocol="http1")))
    assert h2.Client(world.client(sidecar.outbound)).ask(authority=HOST).status == 200


def test_an_endpoint_that_is_not_there(world):
    sidecar = world.hoplite(inbound_config(free_address(), "http2", workers=1))
    client = h2.Client(world.client(sidecar.inbound))
    streams = [client.request(authority=HOST) for _ in range(5)]
    for stream in streams:
        assert client.response(stream).status == 503
    expect_ends(sidecar, {("503", "UF"): 5})


def test_keepalive_finds_the_dead(world):
    """No answer to a PING: the connection is given up, and the next request gets another one."""
    def script(wire, number):
        server = h2.Server(wire, acknowledge=number > 0)
        if number > 0:
            rest(server)
        server.send(h2.settings(ack=True))
        server.next_request()
        server.read_until(lambda: [f for f in server.frames if f.kind == h2.PING], "a PING", 30)
        try:
            while True:
                server.read_frame(60)
        except Closed:
            pass

    front = Front(world, script, timeouts={"http2_keepalive": "1s"})
    stream = front.client.request(**POST)
    assert front.client.response(stream, wanted=30.0).status == 503
    assert front.client.ask(**POST).status == 200
    assert front.server.accepted == 2


def test_an_idle_connection_is_closed_with_goaway(world):
    ended = threading.Event()

    def script(wire, _number):
        server = h2.Server(wire)
        server.respond(server.next_request())
        server.read_until(lambda: server.goaways, "GOAWAY")
        assert server.goaways[0].code == h2.NO_ERROR
        server.expect_end()
        ended.set()

    front = Front(world, script, timeouts={"upstream_idle": "200ms"})
    assert front.client.ask(authority=HOST).status == 200
    assert ended.wait(20)
    front.sidecar.wait_total("hoplite_timeouts_total", 1, timeout="upstream_idle")


def test_max_age_under_load(world):
    """An old connection takes no more requests, though it is never idle."""
    def script(wire, _number):
        server = h2.Server(wire)
        rest(server)

    front = Front(world, script, timeouts={"upstream_max_age": "100ms", "upstream_idle": "100ms"})
    asked = 0
    while front.server.accepted < 3 and asked < 5000:
        streams = [front.client.request(authority=HOST) for _ in range(4)]
        for stream in streams:
            assert front.client.response(stream).status == 200
        asked += 4
    assert front.server.accepted >= 3
    expect_ends(front.sidecar, {("200", "-"): asked})


def test_the_limit_of_connections(world):
    """One connection of one stream: the others wait for it, and all are served."""
    front = Front(world, h2.answer_all({h2.MAX_CONCURRENT_STREAMS: 1}),
                  limits={"upstream_connections": 1})
    streams = [front.client.request(**POST) for _ in range(20)]
    for stream in streams:
        assert front.client.response(stream).status == 200
    assert front.server.accepted == 1
    expect_ends(front.sidecar, {("200", "-"): 20})
