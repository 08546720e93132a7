"""Every way a request can fail: the answer, the code and flag it is counted with, and how often the
upstream saw it. The codec's own refusals are in the framing tests; here a few stand for them."""

import threading

import pytest

from hoplite_e2e.deadline import poll_until, seconds
from hoplite_e2e.front import CUTS, GET, OK, Front, FullServer, answer_all, free_address
from hoplite_e2e.ledger import expect_ends, expect_local_reply
from hoplite_e2e.topology import HOST, Pair, inbound_config


@pytest.fixture(params=["inbound", "outbound"])
def front(request, world):
    return lambda *addresses, **sections: Front(world, request.param, addresses, sections)


@pytest.fixture
def outbound(world):
    return lambda *addresses, **sections: Front(world, "outbound", addresses, sections)


# --- no connection ------------------------------------------------------------------------------


def test_connect_refused(front):
    made = front(free_address())
    client = made.client()
    for _ in range(3):  # the client's connection stays good
        expect_local_reply(client.request(host=HOST), 503)
    metrics = made.ends(UF_503=3)
    assert metrics.total("hoplite_upstream_connects_total", outcome="refused") == 3
    assert metrics.total("hoplite_retries_total") == 0


def test_connect_timeout(front):
    with FullServer() as full:
        made = front(full.address, timeouts={"connect": "200ms"})
        expect_local_reply(made.client().request(host=HOST), 503)
        metrics = made.ends(UF_503=1)
        assert metrics.total("hoplite_upstream_connects_total", outcome="timeout") == 1
        assert metrics.total("hoplite_timeouts_total", timeout="connect") == 1


def test_no_endpoints(outbound):
    made = outbound()
    expect_local_reply(made.client().request(host=HOST), 503)
    made.ends(UH_503=1)


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("fault", ["refused", "timeout"])
def test_another_endpoint_is_tried(world, outbound, method, fault):
    """Nothing reached the first endpoint, so even a POST goes to the second one."""
    good = world.raw_server(answer_all)
    with FullServer() as full:
        bad = free_address() if fault == "refused" else full.address
        made = outbound(bad, good.address, timeouts={"connect": "1s"})
        for _ in range(6):
            answer = made.client().request(method, host=HOST)
            assert (answer.status, answer.body) == (200, b"ok")
        metrics = made.ends(no_200=6)
        assert metrics.total("hoplite_retries_total") >= 1


def test_all_endpoints_refuse(outbound):
    made = outbound(*[free_address() for _ in range(4)])
    expect_local_reply(made.client().request(host=HOST), 503)
    metrics = made.ends(UF_503=1)
    assert metrics.total("hoplite_upstream_connects_total", outcome="refused") == 3


def test_mtls_to_a_plaintext_server(world):
    """TLS is as much a part of connecting as TCP is."""
    plain = world.raw_server(lambda wire, number: wire.send(b"220 hello\r\n"))
    authority = world.authority()
    identity = authority.issue("default", "client")
    made = Front(world, "outbound", [plain.address], {"mtls": identity.mtls()})
    expect_local_reply(made.client().request(host=HOST), 503)
    made.ends(UF_503=1)


def test_server_sidecar_gone(world):
    app = world.service()
    pair = Pair(world, app.address)
    client = world.client(pair.port)
    assert client.request(host=HOST).status == 200
    world.kill(pair.server)
    answer = client.request(host=HOST)
    expect_local_reply(answer, 503)
    expect_ends(pair.client, {("200", "-"): 1, ("503", "UF"): 1})


# --- closed before the head ---------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "reset", "half a head"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_closed_before_the_head(world, front, how, method):
    """On a fresh connection nobody knows whether the request was acted upon: no retry."""
    seen = []

    def script(wire, number):
        seen.append(wire.read_head()[0])
        if how == "half a head":
            wire.send(b"HTTP/1.1 200 OK\r\nContent-")
        if how == "reset":
            wire.reset()

    made = front(world.raw_server(script).address)
    expect_local_reply(made.client().request(method, host=HOST), 503)
    made.ends(UC_503=1)
    assert len(seen) == 1


class Racer:
    """Answers the first request of a connection; the second one meets a closing connection."""

    def __init__(self, world, then=b""):
        self.requests = []
        self._then = then
        self.server = world.raw_server(self._script)
        self.address = self.server.address

    def _script(self, wire, number):
        self.requests.append((number, wire.read_head()[0]))
        wire.send(OK)
        head, headers = wire.read_head()
        self.requests.append((number, head))
        wire.send(self._then)


def test_a_lost_race_is_run_again_once(world, front):
    racer = Racer(world)
    made = front(racer.address)
    client = made.client()
    assert client.request(host=HOST).body == b"ok"
    assert client.request(target="/again", host=HOST).body == b"ok"
    metrics = made.ends(no_200=2)
    assert racer.requests[1:] == [(0, "GET /again HTTP/1.1"), (1, "GET /again HTTP/1.1")]
    assert metrics.total("hoplite_retries_total") == 1


def test_a_lost_race_with_a_body(world, front):
    """PUT is idempotent, and its body is kept: the second try has all of it."""
    bodies = []

    def script(wire, number):
        if number == 0:
            wire.read_head()
            wire.send(OK)
        wire.read_head()
        bodies.append(wire.read_exactly(10_000))
        if number == 1:
            wire.send(OK)

    made = front(world.raw_server(script).address)
    client = made.client()
    assert client.request(host=HOST).body == b"ok"
    body = bytes(i % 251 for i in range(10_000))
    assert client.request("PUT", host=HOST, body=body).body == b"ok"
    assert bodies == [body, body]
    made.ends(no_200=2)


@pytest.mark.parametrize("method, then", [
    ("POST", b""),  # may have been acted upon
    ("PATCH", b""),
    ("GET", b"HTTP/1.1 200 OK\r\nContent-"),  # something of the response came
    ("GET", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
])
def test_what_is_not_sent_again(world, front, method, then):
    racer = Racer(world, then)
    made = front(racer.address)
    client = made.client()
    assert client.request(host=HOST).body == b"ok"
    expect_local_reply(client.request(method, host=HOST), 503)
    metrics = made.ends(no_200=1, UC_503=1)
    assert len(racer.requests) == 2
    assert metrics.total("hoplite_retries_total") == 0


def test_too_much_body_is_not_sent_again(world, front):
    def script(wire, number):
        assert number == 0, "it was sent again"
        wire.read_head()
        wire.send(OK)
        wire.read_head()
        wire.read_exactly(200_000)

    made = front(world.raw_server(script).address)
    client = made.client()
    assert client.request(host=HOST).body == b"ok"
    expect_local_reply(client.request("PUT", host=HOST, body=bytes(200_000)), 503)
    made.ends(no_200=1, UC_503=1)


def test_retries_can_be_turned_off(world, front):
    racer = Racer(world)
    made = front(racer.address, limits={"retry_budget": 0})
    client = made.client()
    assert client.request(host=HOST).body == b"ok"
    expect_local_reply(client.request(host=HOST), 503)
    made.ends(no_200=1, UC_503=1)
    assert len(racer.requests) == 2


def test_an_idle_connection_closed_by_the_upstream(world, front):
    """Its end was seen in time: a POST goes over a fresh connection without any retry."""
    def script(wire, number):
        wire.read_head()
        wire.send(OK)

    made = front(world.raw_server(script).address)
    client = made.client()
    for method in ("GET", "POST", "POST"):
        poll_until(lambda: made.sidecar.metrics().total("hoplite_upstream_connections_open") == 0,
                   "the upstream's close was seen")
        assert client.request(method, host=HOST).body == b"ok"
    metrics = made.ends(no_200=3)
    assert metrics.total("hoplite_retries_total") == 0


# --- cut in the body ------------------------------------------------------------------------------

@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
@pytest.mark.parametrize("framing, how", [(framing, how) for framing in CUTS
                                          for how in ("close", "reset")
                                          if (framing, how) != ("until close", "close")])
@pytest.mark.parametrize("path", ["inbound", "pair"])
def test_a_cut_body_never_looks_complete(world, path, framing, how, version):
    client_has_read = threading.Event()

    def script(wire, number):
        wire.read_head()
        wire.send(CUTS[framing])
        assert client_has_read.wait(seconds())
        if how == "reset":
            wire.reset()

    server = world.raw_server(script)
    if path == "inbound":
        sidecars = [world.hoplite(inbound_config(server.address))]
        port = sidecars[0].inbound
    else:
        pair = Pair(world, server.address)
        sidecars, port = [pair.server, pair.client], pair.port
    client = world.client(port)
    client.send(GET.replace(b"HTTP/1.1", version.encode()))
    start, headers = client.read_head()
    assert start.split(" ")[1] == "200"
    headers = {name.lower(): value for name, value in headers}
    client.read_until(b"some")
    client_has_read.set()
    try:
        rest = client.read_to_end()
        reset = False
    except AssertionError as closed:
        assert closed.reset
        rest, reset = b"", True
    if "content-length" in headers:
        assert headers["content-length"] == "100" and rest == b""
    elif "transfer-encoding" in headers:
        assert b"0\r\n" not in rest
    else:
        assert reset, "a body that ends with the connection ended as if it were whole"
    for sidecar in sidecars:
        expect_ends(sidecar, {("200", "UC"): 1})


# --- the client leaves ------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("stage, code, flags", [
    ("in the head", "0", "DC"),
    ("in the body", "0", "DC"),
    ("before the answer", "0", "DC"),
    ("in the answer", "200", "DC"),
])
def test_the_client_leaves(world, front, stage, code, flags, how):
    upstream_ends = []

    def script(wire, number):
        wire.read_head()
        if stage == "in the answer":
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n" + bytes(10_000))
            try:
                while True:
                    wire.send(bytes(100_000))
            except OSError:
                upstream_ends.append("closed")
                return
        try:
            wire.read_until(b"never")
        except AssertionError as ended:
            upstream_ends.append("closed")
            assert "timed out" not in str(ended)

    made = front(world.raw_server(script).address)
    client = made.client()
    if stage == "in the head":
        client.send(b"GET / HTTP/1.1\r\nHo")
    elif stage == "in the body":
        client.send(b"POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: 9\r\n\r\nabc" % HOST.encode())
    else:
        client.send(GET)
    poll_until(lambda: made.sidecar.metrics().total("hoplite_requests_in_flight") == 1, "in flight")
    if stage == "in the answer":
        client.read_exactly(5_000)
    elif stage != "in the head":
        poll_until(lambda: made.sidecar.metrics().total("hoplite_upstream_requests_total") == 1,
                   "sent upstream")
    client.reset() if how == "reset" else client.close()
    expect_ends(made.sidecar, {(code, flags): 1})
    if stage != "in the head":
        poll_until(lambda: upstream_ends == ["closed"], "the upstream learns of it")


def test_a_pipelined_request_of_a_client_that_left(world, front):
    """What was read but never begun is no request; what was begun ends as DC."""
    made = front(world.raw_server(lambda wire, number: wire.read_until(b"never")).address)
    client = made.client()
    client.send(GET + GET + GET)
    poll_until(lambda: made.sidecar.metrics().total("hoplite_requests_in_flight") == 1, "in flight")
    client.reset()
    made.ends(DC_0=1)


# --- refused ----------------------------------------------------------------------------------------


def test_unknown_host(world, outbound):
    seen = []

    def script(wire, number):
        seen.append(number)

    made = outbound(world.raw_server(script).address)
    client = made.client()
    expect_local_reply(client.request(host="other.example.com:8080"), 502)
    expect_local_reply(client.request(host="other.example.com:8080"), 502)
    metrics = made.ends(no_502=2)
    labels = metrics.one("istio_requests_total")
    assert labels["destination_service"] == "other.example.com:8080"
    assert labels["destination_service_name"] == "BlackHoleCluster"
    assert labels["reporter"] == "source"
    assert seen == []


@pytest.mark.parametrize("bytes_, status, flags", [
    (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "DPE"),
    (b"nonsense\r\n\r\n", 400, "DPE"),
    (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "DPE"),
    (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505, "DPE"),
    (b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", 501, "DPE"),
    (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501, "DPE"),
    (b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 405, "-"),
])
def test_malformed_requests(world, front, bytes_, status, flags):
    seen = []

    def script(wire, number):
        seen.append(number)

    made = front(world.raw_server(script).address)
    client = made.client()
    client.send(bytes_)
    expect_local_reply(client.read_response(), status)
    client.expect_end()
    expect_ends(made.sidecar, {(str(status), flags): 1})
    assert seen == []


def test_a_body_that_turns_out_malformed(world, front):
    """The upstream has the head by then; it sees the request cut, the client a 400."""
    cut = []

    def script(wire, number):
        wire.read_head()
        try:
            wire.read_until(b"0\r\n\r\n")
        except AssertionError as ended:
            cut.append(type(ended).__name__)

    made = front(world.raw_server(script).address)
    client = made.client()
    client.send(b"POST / HTTP/1.1\r\nHost: %s\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
                % HOST.encode())
    poll_until(lambda: made.sidecar.metrics().total("hoplite_upstream_requests_total") == 1, "sent")
    client.send(b"zz\r\n")
    expect_local_reply(client.read_response(), 400)
    client.expect_end()
    made.ends(DPE_400=1)
    poll_until(lambda: cut == ["Closed"], "the upstream saw the cut")


@pytest.mark.parametrize("bytes_", [
    b"HTTP/1.1 2000 OK\r\n\r\n",
    b"nonsense\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
], ids=range(8))
def test_malformed_responses(world, front, bytes_):
    def script(wire, number):
        wire.read_head()
        wire.send(bytes_)
        wire.read_to_end()

    made = front(world.raw_server(script).address)
    client = made.client()
    expect_local_reply(client.request(host=HOST), 502)
    expect_local_reply(client.request(host=HOST), 502)  # the client's connection is no worse for it
    made.ends(UPE_502=2)


def test_a_response_body_that_turns_out_malformed(world, front):
    """Its head has gone to the client: it keeps its code, and its end is missing."""
    head_came = threading.Event()

    def script(wire, number):
        wire.read_head()
        wire.send(CUTS["chunked"])
        assert head_came.wait(seconds())
        wire.send(b"zz\r\n")
        wire.read_to_end()

    made = front(world.raw_server(script).address)
    client = made.client()
    client.send(GET)
    assert client.read_head()[0] == "HTTP/1.1 200 OK"
    head_came.set()
    assert b"0\r\n\r\n" not in client.read_to_end()
    made.ends(UPE_200=1)


@pytest.mark.parametrize("rest", [b"zz\r\n", b"4\r\nsome\r\nzz\r\n", b"4\r\nsome4\r\n",
                                  b"4\r\nsome\r\n0\r\nX : y\r\n\r\n"])
def test_a_response_whose_body_is_malformed_in_the_read_of_its_head(world, front, rest):
    """Nothing of it has gone to the client: it is refused as a malformed head is."""
    def script(wire, number):
        wire.read_head()
        wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + rest)
        wire.read_to_end()

    made = front(world.raw_server(script).address)
    expect_local_reply(made.client().request(host=HOST), 502)
    made.ends(UPE_502=1)


def test_an_early_error_answer(world, front):
    """The app refuses a long upload at once: the client gets that answer, and it is no error."""
    def script(wire, number):
        wire.read_head()
        wire.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno!")
        wire.read_to_end()

    made = front(world.raw_server(script).address)
    client = made.client()
    client.send(b"POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: 50000000\r\n\r\n" % HOST.encode())
    client.send(bytes(100_000))
    answer = client.read_response()
    assert (answer.status, answer.body, answer.complete) == (413, b"no!", True)
    made.ends(no_413=1)


# --- through both sidecars ----------------------------------------------------------------------------


def test_errors_are_passed_on_by_the_pair(world):
    """The app is gone: its sidecar says 503 UF; the client's sidecar got a whole 503 and says -."""
    pair = Pair(world, free_address())
    answer = world.client(pair.port).request(host=HOST)
    assert answer.status == 503 and answer.complete and answer.header("x-request-id")
    expect_ends(pair.server, {("503", "UF"): 1})
    expect_ends(pair.client, {("503", "-"): 1})


def test_the_client_leaves_the_pair(world):
    pair = Pair(world, world.raw_server(lambda wire, number: wire.read_until(b"never")).address)
    client = world.client(pair.port)
    client.send(GET)
    poll_until(lambda: pair.server.metrics().total("hoplite_upstream_requests_total") == 1, "there")
    client.reset()
    expect_ends(pair.client, {("0", "DC"): 1})
    expect_ends(pair.server, {("0", "DC"): 1})
