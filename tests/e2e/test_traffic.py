"""HTTP/1 in its shapes, the same through every path: to the service itself, through one sidecar,
through two with mTLS. What holds for `direct` proves the harness; the others prove the proxy."""

import json

import pytest

from hoplite_e2e import websocket
from hoplite_e2e.deadline import poll_until
from hoplite_e2e.raw import Closed
from hoplite_e2e.topology import HOST, Pair, inbound_config

HOST_LINE = b"Host: " + HOST.encode() + b"\r\n"


class Path:
    def __init__(self, world, app, port):
        self._world = world
        self.app = app
        self.port = port

    def client(self):
        return self._world.client(self.port)


@pytest.fixture(params=["direct", "inbound", "pair"])
def path(request, world):
    app = world.service()
    if request.param == "direct":
        return Path(world, app, app.port)
    if request.param == "inbound":
        return Path(world, app, world.hoplite(inbound_config(app.address)).inbound)
    return Path(world, app, Pair(world, app.address).port)


def test_pipelined_requests_are_answered_in_order(path):
    client = path.client()
    targets = [b"/bytes/%d" % n for n in (0, 1, 70000, 3, 0, 200000, 7)]
    client.send(b"".join(b"GET %s HTTP/1.1\r\n%s\r\n" % (t, HOST_LINE) for t in targets))
    for target in targets:
        answer = client.read_response()
        assert answer.status == 200 and answer.complete
        assert len(answer.body) == int(target.rsplit(b"/")[-1])


@pytest.mark.parametrize("size", [1, 1000, 65536, 3_000_000])
def test_echo_with_content_length(path, size):
    client = path.client()
    body = bytes(i % 251 for i in range(size))
    for _ in range(2):
        answer = client.request("POST", "/echo", host=HOST, body=body,
                                headers=[("Content-Type", "text/x-test")])
        assert answer.status == 200 and answer.complete
        assert answer.body == body
        assert answer.header("content-type") == "text/x-test"


def test_echo_chunked_with_trailers(path):
    client = path.client()
    client.send(b"POST /echo HTTP/1.1\r\n" + HOST_LINE +
                b"Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
                b"5\r\nhello\r\n1;ext=1\r\n,\r\n6\r\n world\r\n0\r\nX-Sum: 12\r\n\r\n")
    answer = client.read_response()
    assert answer.status == 200 and answer.complete
    assert answer.body == b"hello, world"
    assert answer.trailers == [("X-Sum", "12")]
    assert client.request(host=HOST).status == 200  # the connection is still in step


def test_echo_streams(path):
    """What is sent comes back before the request is over."""
    client = path.client()
    client.send(b"POST /echo HTTP/1.1\r\n" + HOST_LINE + b"Transfer-Encoding: chunked\r\n\r\n")
    client.read_head()
    for word in (b"one", b"two", b"three"):
        client.send(b"%x\r\n%s\r\n" % (len(word), word))
        got = b""
        while got != word:
            size = int(client.read_until(b"\r\n"), 16)
            got += client.read_exactly(size)
            client.read_exactly(2)
            assert word.startswith(got)
    client.send(b"0\r\n\r\n")
    assert client.read_until(b"\r\n\r\n") == b"0\r\n\r\n"


def test_expect_100_continue(path):
    client = path.client()
    client.send(b"POST /echo HTTP/1.1\r\n" + HOST_LINE +
                b"Expect: 100-continue\r\nContent-Length: 4\r\n\r\n")
    assert client.read_response().status == 100
    client.send(b"body")
    answer = client.read_response()
    assert (answer.status, answer.body) == (200, b"body")


def test_head_has_no_body(path):
    client = path.client()
    answer = client.request("HEAD", "/bytes/12345", host=HOST)
    assert answer.status == 200
    assert answer.header("content-length") == "12345"
    assert client.request("GET", "/bytes/3", host=HOST).body == b"012"


@pytest.mark.parametrize("status", [200, 204, 304, 404, 418, 500, 503, 599])
def test_status_codes(path, status):
    client = path.client()
    for _ in range(2):
        answer = client.request(target=f"/status/{status}", host=HOST)
        assert answer.status == status and answer.complete
        assert (answer.body == b"") == (status in (204, 304))


def test_chunked_response_over_time(path):
    answer = path.client().request(target="/chunked/0.2", host=HOST)
    assert answer.complete
    assert answer.body == b"".join(b"chunk %d\n" % n for n in range(1, 11))


def test_large_response(path):
    answer = path.client().request(target="/bytes/20000000", host=HOST)
    assert answer.complete
    assert len(answer.body) == 20_000_000


def test_http_1_0_closes(path):
    client = path.client()
    answer = client.request(target="/chunked/0.05", host=HOST, version="HTTP/1.0")
    assert answer.status == 200
    assert answer.all("transfer-encoding") == []
    assert answer.body.endswith(b"chunk 10\n")
    client.expect_end()


def test_http_1_0_keep_alive(path):
    client = path.client()
    for _ in range(3):
        answer = client.request(host=HOST, version="HTTP/1.0", headers=[("Connection", "keep-alive")])
        assert answer.status == 200 and answer.complete
        assert answer.header("connection").lower() == "keep-alive"


def test_connection_close_is_obeyed(path):
    client = path.client()
    answer = client.request(host=HOST, headers=[("Connection", "close")])
    assert answer.status == 200
    assert answer.header("connection") == "close"
    client.expect_end()


def test_header_order_and_case(path):
    sent = [("X-One", "1"), ("x-TWO", "2"), ("X-one", "again"), ("ACCEPT", "*/*"),
            ("x-empty", ""), ("X-Inner", "a  b\tc")]
    answer = path.client().request(target="/headers?a=b%20c", host=HOST, headers=sent)
    seen = json.loads(answer.body)
    assert seen["method"] == "GET" and seen["target"] == "/headers?a=b%20c"
    names = {name.lower() for name, _ in sent}
    assert [tuple(h) for h in seen["headers"] if h[0].lower() in names] == sent
    assert ["Host", HOST] in seen["headers"]


def test_one_byte_at_a_time(path):
    client = path.client()
    client.send_pieces(b"POST /echo HTTP/1.1\r\n" + HOST_LINE +
                       b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: v\r\n\r\n")
    answer = client.read_response()
    assert (answer.body, answer.trailers) == (b"abc", [("T", "v")])


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536, 1_000_000])
def test_websocket_echo(path, size):
    client = path.client()
    websocket.connect(client, host=HOST)
    payload = bytes(i % 253 for i in range(size))
    for _ in range(2):
        client.send(websocket.frame(payload, websocket.BINARY))
        assert websocket.read_frame(client) == (websocket.BINARY, payload)
    client.send(websocket.frame(b"\x03\xe8", websocket.CLOSE))
    assert websocket.read_frame(client) == (websocket.CLOSE, b"\x03\xe8")
    client.expect_end()


def test_websocket_half_close(path):
    """The client ends its direction with frames still on their way back, and gets them all."""
    client = path.client()
    websocket.connect(client, host=HOST)
    client.send(b"".join(websocket.frame(b"%04d" % n + b"x" * 20000) for n in range(50)))
    client.finish_sending()
    for n in range(50):
        opcode, payload = websocket.read_frame(client)
        assert (opcode, payload[:4], len(payload)) == (websocket.TEXT, b"%04d" % n, 20004)
    client.expect_end()


def test_client_half_close_after_request(path):
    """A client that has said all it has to say still gets its answer."""
    def answered():  # if it begins within half a second: not always, on a busy machine
        client = path.client()
        client.send(b"GET /delay/0.1 HTTP/1.1\r\n" + HOST_LINE + b"\r\n")
        client.finish_sending()
        try:
            answer = client.read_response()
        except Closed:
            return False
        assert (answer.status, answer.complete) == (200, True)
        client.expect_end()
        return True

    poll_until(answered, "an answer")


def test_slow_reader_gets_everything(path):
    """A response far beyond what sockets and proxies may hold, to a client that starts late."""
    client = path.client()
    client.send(b"GET /bytes/30000000 HTTP/1.1\r\n" + HOST_LINE + b"\r\n")
    other = path.client()
    for _ in range(20):  # others are served meanwhile
        assert other.request(host=HOST).status == 200
    answer = client.read_response()
    assert len(answer.body) == 30_000_000 and answer.complete


def test_client_that_leaves(path):
    """A client gone in the middle of its request is noticed by the app as well."""
    client = path.client()
    client.send(b"POST /echo HTTP/1.1\r\n" + HOST_LINE + b"Content-Length: 100\r\n\r\nabc")
    poll_until(lambda: any(b"abc" in bytes_ for bytes_ in path.app.received()), "the app got abc")
    client.reset()
    poll_until(lambda: ("close", 1) in path.app.events(), "the app's connection closed")
    assert path.client().request(host=HOST).status == 200


def test_the_service_is_named_where_the_client_names_no_host(world):
    """HTTP/1.0 needs no Host; what goes on is HTTP/1.1, which does."""
    app = world.service()
    client = world.client(world.hoplite(inbound_config(app.address)).inbound)
    client.send(b"GET /headers HTTP/1.0\r\n\r\n")
    answer = client.read_response()
    assert answer.status == 200
    assert ["Host", app.address] in json.loads(answer.body)["headers"]
