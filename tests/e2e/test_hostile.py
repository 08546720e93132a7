"""The tables of hostile messages over real sockets: refused with the right status and flag, counted
once, the connection closed, and nothing of them in the bytes that reached the other side."""

import collections
import os
import pathlib
import random
import signal
import ssl

import pytest

from hoplite_e2e import hostile
from hoplite_e2e.deadline import poll_until, ready
from hoplite_e2e.raw import Closed
from hoplite_e2e.topology import HOST, Pair, inbound_config

REQUESTS = hostile.requests()
RESPONSES = hostile.responses()
GOOD = b"GET /version HTTP/1.1\r\nHost: " + HOST.encode() + b"\r\nX-Good: %d\r\n\r\n"
END_OF_CHUNKS = b"\r\n0\r\n"


def test_the_table_is_there():
    assert len(REQUESTS) >= 120
    assert len(RESPONSES) >= 40


class Door:
    """A listener to attack: how to connect to it, who counts, and the app that must not notice."""

    def __init__(self, world, app, sidecar, port, reporter, identity=None):
        self._world = world
        self.app = app
        self.sidecar = sidecar
        self.port = port
        self.reporter = reporter
        self._identity = identity

    def client(self):
        client = self._world.client(self.port)
        if self._identity is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.load_verify_locations(self._identity.authority.ca)
            context.load_cert_chain(self._identity.cert, self._identity.key)
            client.socket = context.wrap_socket(client.socket)
        return client


@pytest.fixture(params=["inbound", "outbound", "tls"])
def door(request, world):
    """The plaintext inbound; the outbound of a pair; the mTLS inbound, attacked by a workload."""
    app = world.service()
    if request.param == "inbound":
        sidecar = world.hoplite(inbound_config(app.address))
        return Door(world, app, sidecar, sidecar.inbound, "destination")
    pair = Pair(world, app.address, hosts=[HOST, "a"])
    if request.param == "outbound":
        return Door(world, app, pair.client, pair.port, "source")
    return Door(world, app, pair.server, pair.server.inbound, "destination", pair.client_identity)


def refused(case, client, may_be_reset=False):
    """Reads the refusal and the end of the connection."""
    answer = client.read_response(head_only=False)
    assert (case.name, answer.status) == (case.name, case.status)
    assert answer.complete and answer.header("connection") == "close", case.name
    assert answer.header("x-request-id"), case.name
    try:
        client.expect_end()
    except Closed as closed:
        assert may_be_reset and closed.reset and not closed.received, case.name


def check_counts(door, good=0):
    """Every case in the series of its code and flag, once, and as one refused message."""
    wanted = collections.Counter((str(case.status), case.flag) for case in REQUESTS)
    if good:
        wanted[("200", "-")] = good
    metrics = door.sidecar.wait_total("istio_requests_total", sum(wanted.values()),
                                      reporter=door.reporter)
    got = collections.Counter()
    for labels, value in metrics.series("istio_requests_total", reporter=door.reporter):
        got[(labels["response_code"], labels["response_flags"])] += int(value)
        # The destination is this workload; of a request without a head nobody knows it.
        destination = (labels["destination_service"], labels["destination_service_name"])
        assert destination in ([("podinfo", "podinfo")] if door.reporter == "destination" else
                               [("unknown", "unknown"), (HOST, "podinfo")])
    assert got == wanted
    assert metrics.total("hoplite_messages_refused_total") == len(REQUESTS)
    assert metrics.total("hoplite_requests_started_total") == sum(wanted.values())
    assert metrics.total("hoplite_requests_in_flight") == 0


def check_app(door, good=0):
    """All the app ever saw: the good requests, and heads of which no end was ever passed on."""
    seen = b"".join(door.app.received())
    assert seen.count(b"GET /version HTTP/1.1\r\n") == good
    assert seen.count(b"POST / HTTP/1.1\r\n") <= sum(case.head_passes for case in REQUESTS)
    for connection in door.app.received():
        for head in connection.split(b"GET /version HTTP/1.1\r\n"):
            head = head.partition(b"\r\n\r\n")
            if head[0].startswith(b"POST / HTTP/1.1"):
                assert END_OF_CHUNKS not in head[2] and not head[2].startswith(b"0\r\n"), connection
            elif head[0]:
                assert b"X-Good: 0\r\n" in head[0] + b"\r\n", connection
                assert b"POST" not in head[2], connection


def test_hostile_requests(door):
    for case in REQUESTS:
        client = door.client()
        client.send(case.raw)
        refused(case, client)
        client.close()
    check_counts(door)
    check_app(door)


def test_hostile_requests_in_two_pieces(door):
    """Cut at a random place, the same every time; the second piece comes when the first was read."""
    at = random.Random(20240607)
    for case in REQUESTS:
        cut = at.randrange(1, len(case.raw))
        client = door.client()
        client.send(case.raw[:cut])
        # Refused already, or read a moment later: both ways to two pieces are good.
        ready([client.socket], [], 0.002)
        try:
            client.send(case.raw[cut:])
        except ConnectionError:
            pass  # refused by the first piece
        # Which may be long ago by now, and nobody lingers any more for the second.
        refused(case, client, may_be_reset=True)
        client.close()
    check_counts(door)
    check_app(door)


def test_good_bad_good_in_a_pipeline(door):
    """Only the first is served: what stands behind a malformed request is nobody's request."""
    for case in REQUESTS:
        client = door.client()
        client.send(GOOD % 0 + case.raw + GOOD % 1)
        first = client.read_response()
        assert (case.name, first.status, first.complete) == (case.name, 200, True)
        refused(case, client)
        client.close()
    check_counts(door, good=len(REQUESTS))
    check_app(door, good=len(REQUESTS))


# --- hostile responses --------------------------------------------------------------------------


def answer_with(script_of):
    """A script that reads requests and sends what `script_of(target)` says, then waits for the end."""
    def script(wire, number):
        while True:
            start, _ = wire.read_head()
            for piece in script_of(start.split()[1]):
                wire.send(piece)
                ready([wire.socket], [], 0.002)
    return script


@pytest.fixture(params=["inbound", "pair"])
def behind(request, world):
    """Makes the sidecars in front of a raw upstream; returns (port, the sidecar next to it)."""
    def make(upstream):
        if request.param == "inbound":
            sidecar = world.hoplite(inbound_config(upstream.address))
            return sidecar.inbound, sidecar
        pair = Pair(world, upstream.address)
        return pair.port, pair.server
    return make


@pytest.mark.parametrize("pieces", ["whole", "cut"])
def test_hostile_responses(world, behind, pieces):
    at = random.Random(7)
    asked = []

    def script_of(target):
        name, raw = RESPONSES[int(target[1:])]
        asked.append(name)
        cut = at.randrange(1, len(raw)) if pieces == "cut" else len(raw)
        return [piece for piece in (raw[:cut], raw[cut:]) if piece]

    upstream = world.raw_server(answer_with(script_of))
    port, sidecar = behind(upstream)
    for number, (name, _) in enumerate(RESPONSES):
        client = world.client(port)
        client.send(b"GET /%d HTTP/1.1\r\nHost: %s\r\n\r\n" % (number, HOST.encode()))
        if pieces == "cut" and head_is_sound(name):
            # So it may be on its way when the body turns out bad: then its end must be missing.
            try:
                answer = client.read_response()
                assert not answer.complete or answer.status in (502, 503), name
            except Closed as closed:
                assert closed.received == b"", name
        else:
            answer = client.read_response()
            assert (name, answer.status, answer.complete) == (name, 502, True)
            assert client.request(target="/0", host=HOST).status == 502  # still in step
        client.close()
    # In one piece nothing of it was passed on before it was refused.
    cut_short = sum(head_is_sound(name) for name in asked) if pieces == "cut" else 0
    metrics = sidecar.wait_total("istio_requests_total", len(asked))
    flagged = {"response_flags": "UPE"}
    assert metrics.total("istio_requests_total", **flagged) == len(asked)
    assert metrics.total("istio_requests_total", response_code="200", **flagged) <= cut_short
    assert metrics.total("istio_requests_total", response_code="502", **flagged) >= \
        len(asked) - cut_short
    assert metrics.total("hoplite_messages_refused_total", kind="response") == len(asked)
    assert upstream.accepted == len(asked)  # none of these connections was used again


def head_is_sound(name):
    return "chunk size" in name or "a chunk l" in name or "trailer" in name


STRAY = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Stray: yes\r\n\r\nstray"
HONEST = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhonest"


@pytest.mark.parametrize("how", ["with the answer", "later"])
def test_stray_answer_on_a_pooled_connection(world, behind, how):
    """An answer to nothing: the connection that carries it gets no further request."""
    served = []

    def script(wire, number):
        wire.read_head()
        served.append(number)
        if number > 0:
            wire.send(HONEST)
        elif how == "later":
            wire.send(HONEST)
            ready([wire.socket], [], 0.02)
            wire.send(STRAY)
        else:
            wire.send(HONEST + STRAY)
        wire.read_until(b"\r\n\r\n")  # a second request would come here
        served.append((number, "again"))

    upstream = world.raw_server(script)
    port, sidecar = behind(upstream)
    client = world.client(port)
    for number in range(2):
        answer = client.request(host=HOST)
        assert (answer.status, answer.body, answer.header("x-stray")) == (200, b"honest", None)
        if number == 0:
            poll_until(lambda: sidecar.metrics().total("hoplite_upstream_connections_open") == 0,
                       "the connection with the stray answer was closed")
    assert served == [0, 1]
    sidecar.wait_total("istio_requests_total", 2, response_code="200", response_flags="-")


def stopped(pid):
    """Have all threads stopped? Each does so when it is next scheduled."""
    states = [path.read_text().rpartition(")")[2].split()[0]
              for path in pathlib.Path(f"/proc/{pid}/task").glob("*/stat")]
    return set(states) == {"T"}


@pytest.mark.parametrize("method, codes", [("GET", {200}), ("POST", {200, 503})])
def test_stray_answer_in_the_instant_of_the_next_request(world, method, codes):
    """Both are ready when the proxy looks: what was there before the request is no answer to it. The
    kernel chooses which of the two it shows first: by that the request is sent or not yet."""
    wires = []

    def script(wire, number):
        wires.append(wire)
        while wire.read_head():
            wire.send(HONEST)

    upstream = world.raw_server(script)
    sidecar = world.hoplite(inbound_config(upstream.address, workers=1))
    client = world.client(sidecar.inbound)
    assert client.request(host=HOST).body == b"honest"
    os.kill(sidecar.pid, signal.SIGSTOP)
    poll_until(lambda: stopped(sidecar.pid), "stopped")
    try:
        client.send(f"{method} / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 0\r\n\r\n".encode())
        wires[0].send(STRAY)
    finally:
        os.kill(sidecar.pid, signal.SIGCONT)
    answer = client.read_response()
    assert answer.status in codes and answer.header("x-stray") is None
    sidecar.wait_total("istio_requests_total", 2)
    flags = "-" if answer.status == 200 else "UC"
    assert sidecar.metrics().total(
        "istio_requests_total", response_code=str(answer.status), response_flags=flags) >= 1
