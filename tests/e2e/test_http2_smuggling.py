"""Requests in HTTP/2 that would be something else in HTTP/1: refused by the right error, and no byte of
them in what the app received (RFC 9113 8.2, 8.3, 10.3)."""

import pytest

from hoplite_e2e import http2 as h2
from hoplite_e2e.http2 import END_HEADERS, END_STREAM, HEADERS, PROTOCOL_ERROR
from hoplite_e2e.ledger import wait_idle
from hoplite_e2e.topology import inbound_config

METHOD, SCHEME, AUTHORITY, PATH = ((":method", "POST"), (":scheme", "http"), (":authority", "a"),
                                   (":path", "/echo"))
EVIL = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


def fields(*more, method=METHOD, scheme=SCHEME, authority=AUTHORITY, path=PATH):
    return [one for one in (method, scheme, authority, path, *more) if one is not None]


HEADS = {
    # Names (RFC 9113 8.2.1).
    "a name with a space": fields(("x y", "1")),
    "a name with a colon": fields(("x:y", "1")),
    "a name with CR LF": fields(("x\r\ny", "1")),
    "a name with a request in it": fields(("x: y\r\n\r\n" + EVIL, "1")),
    "a name with NUL": fields(("x\0y", "1")),
    "a name with a tab": fields(("x\ty", "1")),
    "a name with DEL": fields(("x\x7fy", "1")),
    "a name that is not ASCII": fields(("x\xe9", "1")),
    "a name with a capital": fields(("X-test", "1")),
    "a name in capitals": fields(("TRANSFER-ENCODING", "chunked")),
    "no name": fields(("", "1")),
    "a name with parentheses": fields(("x(y)", "1")),
    "a name with a slash": fields(("x/y", "1")),
    # Values.
    "a value with CR LF": fields(("x", "1\r\ny: 2")),
    "a value with LF": fields(("x", "1\ny: 2")),
    "a value with CR": fields(("x", "1\ry: 2")),
    "a value with NUL": fields(("x", "1\0")),
    "a value with a request in it": fields(("x", "1\r\n\r\n" + EVIL)),
    "a value that begins with a space": fields(("x", " 1")),
    "a value that ends with a space": fields(("x", "1 ")),
    "a value that begins with a tab": fields(("x", "\t1")),
    "a cookie with CR LF": fields(("cookie", "a=b\r\nx: y")),
    "user-agent with LF": fields(("user-agent", "a\nTransfer-Encoding: chunked")),
    # Pseudo-headers (8.3).
    "a method with a space": fields(method=(":method", "POST /smuggled HTTP/1.1")),
    "a method with CR LF": fields(method=(":method", "POST / HTTP/1.1\r\nX: y\r\n\r\nGET")),
    "an empty method": fields(method=(":method", "")),
    "a method with a tab": fields(method=(":method", "PO\tST")),
    "a method with a colon": fields(method=(":method", "PO:ST")),
    "no method": fields(method=None),
    "method twice": fields((":method", "GET")),
    "method twice, the same": [METHOD, METHOD, SCHEME, AUTHORITY, PATH],
    "a path with a space": fields(path=(":path", "/a b")),
    "a path with a version": fields(path=(":path", "/echo HTTP/1.1\r\nX: y\r\n\r\n")),
    "a path with a second request": fields(path=(":path", "/ HTTP/1.1\r\nHost: a\r\n\r\n" + EVIL)),
    "a path with a tab": fields(path=(":path", "/a\tb")),
    "a path with NUL": fields(path=(":path", "/a\0b")),
    "a path with LF": fields(path=(":path", "/a\nb")),
    "a path with a fragment": fields(path=(":path", "/a#b")),
    "a path that is not ASCII": fields(path=(":path", "/\xe9")),
    "a path without its slash": fields(path=(":path", "echo")),
    "a path that is a URL": fields(path=(":path", "http://b/echo")),
    "a path of * for a POST": fields(path=(":path", "*")),
    "an empty path": fields(path=(":path", "")),
    "no path": fields(path=None),
    "path twice": fields((":path", "/smuggled")),
    "a scheme with CR LF": fields(scheme=(":scheme", "http\r\nx: y")),
    "a scheme with a URL": fields(scheme=(":scheme", "http://b/smuggled?")),
    "an empty scheme": fields(scheme=(":scheme", "")),
    "no scheme": fields(scheme=None),
    "scheme twice": fields((":scheme", "https")),
    "an authority with a space": fields(authority=(":authority", "a b")),
    "an authority with CR LF": fields(authority=(":authority", "a\r\nX: y")),
    "an authority with a user": fields(authority=(":authority", "user@a")),
    "an authority with a path": fields(authority=(":authority", "a/smuggled")),
    "an authority with a comma": fields(authority=(":authority", "a,b")),
    "authority twice": fields((":authority", "b")),
    "neither authority nor host": fields(authority=None),
    "an empty authority": fields(authority=(":authority", "")),
    "a pseudo-header behind others": [METHOD, SCHEME, PATH, ("x", "1"), AUTHORITY],
    "an unknown pseudo-header": fields((":evil", "1")),
    "a response's pseudo-header": fields((":status", "200")),
    "protocol without CONNECT": fields((":protocol", "websocket")),
    "an extended CONNECT to h2c": fields((":protocol", "h2c"), method=(":method", "CONNECT")),
    "an extended CONNECT to UDP": fields((":protocol", "connect-udp"), method=(":method", "CONNECT")),
    "an extended CONNECT to no token": fields((":protocol", "web socket"),
                                              method=(":method", "CONNECT")),
    "an extended CONNECT with CR LF": fields((":protocol", "websocket\r\nx: y"),
                                             method=(":method", "CONNECT")),
    "CONNECT": [(":method", "CONNECT"), (":authority", "a:80")],
    "CONNECT with a path": fields(method=(":method", "CONNECT")),
    "an unknown method": fields(method=(":method", "EVIL")),
    # Whom it is for.
    "host differs from authority": fields(("host", "b")),
    "host twice": fields(("host", "a"), ("host", "b")),
    "host twice without authority": fields(("host", "a"), ("host", "a"), authority=None),
    "host with CR LF": fields(("host", "a\r\nx: y"), authority=None),
    "an empty host": fields(("host", ""), authority=None),
    # Fields of a connection (8.2.2).
    "connection: close": fields(("connection", "close")),
    "connection: host": fields(("connection", "host")),
    "keep-alive": fields(("keep-alive", "timeout=5")),
    "proxy-connection": fields(("proxy-connection", "keep-alive")),
    "upgrade": fields(("upgrade", "websocket")),
    "transfer-encoding: chunked": fields(("transfer-encoding", "chunked")),
    "transfer-encoding: identity": fields(("transfer-encoding", "identity")),
    "te: gzip": fields(("te", "gzip")),
    "te: trailers and more": fields(("te", "trailers, chunked")),
    # Lengths that cannot be.
    "content-length that is no number": fields(("content-length", "abc")),
    "content-length with a sign": fields(("content-length", "+5")),
    "a negative content-length": fields(("content-length", "-1")),
    "content-length in hex": fields(("content-length", "0x5")),
    "an empty content-length": fields(("content-length", "")),
    "content-length beyond 64 bits": fields(("content-length", "99999999999999999999")),
    "two content-lengths": fields(("content-length", "5"), ("content-length", "6")),
    "two content-lengths in one": fields(("content-length", "5, 6")),
    "a content-length and no body": fields(("content-length", "5")),
}


@pytest.fixture(scope="module")
def door(module_world):
    app = module_world.service()
    sidecar = module_world.hoplite(inbound_config(app.address, "http1", log={"access": "all"}))

    class Door:
        def client(self):
            return h2.Client(module_world.client(sidecar.inbound))

    door = Door()
    door.app, door.sidecar = app, sidecar
    return door


def refused(client, stream):
    """By RST_STREAM(PROTOCOL_ERROR) or an answer of the proxy; the connection lives on."""
    message = client.response(stream)
    assert not client.goaways
    if message.reset is not None and message.headers is None:
        assert message.reset == PROTOCOL_ERROR
        return 0
    assert message.status in (400, 405, 501), message.headers
    return message.status


def mark(app):
    """How much each of the app's connections has received so far; for since()."""
    return [len(received) for received in app.received()]


def since(app, marked):
    """What each connection received after mark(), where it received anything."""
    marked = marked + [0] * 1000
    pieces = [received[marked[number]:] for number, received in enumerate(app.received())]
    return [piece for piece in pieces if piece]


def total(door):
    return door.sidecar.metrics().total("istio_requests_total")


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS.keys())
def test_head(door, head):
    before = mark(door.app)
    counted = total(door)
    client = door.client()
    client.send(h2.frame(HEADERS, END_HEADERS | END_STREAM, 1, h2.block(head)))
    status = refused(client, 1)
    assert client.ask(path="/version", stream=3).status == 200
    client.close()
    metrics = door.sidecar.wait_total("istio_requests_total", counted + 2)
    codes = {labels["response_code"] for labels, _ in metrics.series("istio_requests_total")}
    assert str(status) in codes
    (after,) = since(door.app, before)
    assert after.count(b"HTTP/1.1\r\n") == 1, after
    assert after.startswith(b"GET /version HTTP/1.1\r\n")
    for word in (b"smuggled", b"evil", b"EVIL"):
        assert word not in after


BODIES = {
    "less DATA than content-length": ("10", [b"12345"]),
    "more DATA than content-length": ("5", [b"1234567"]),
    "more DATA than content-length, in pieces": ("5", [b"12345", EVIL.encode()]),
    "DATA with content-length 0": ("0", [EVIL.encode()]),
}


@pytest.mark.parametrize("length, pieces", BODIES.values(), ids=BODIES.keys())
def test_body_that_disagrees_with_its_length(door, length, pieces):
    """The head may have gone out by then: the app never sees a complete request, nor what exceeds."""
    before = mark(door.app)
    client = door.client()
    client.send(h2.frame(HEADERS, END_HEADERS, 1, h2.block(fields(("content-length", length)))))
    client.send(*(h2.data(1, piece, number == len(pieces) - 1)
                  for number, piece in enumerate(pieces)))
    message = client.message(1)
    client.read_until(lambda: message.reset is not None or message.complete, "the end")
    # A request that said it has no body may be answered before the frame that belies it comes.
    answered = length == "0" and message.status == 200
    assert message.reset == PROTOCOL_ERROR or message.status == 400 or answered
    assert client.ask(path="/version", stream=3).status == 200
    client.close()
    wait_idle(door.sidecar)
    for got in since(door.app, before):
        assert b"smuggled" not in got
        if got.startswith(b"POST /echo"):
            body = got.partition(b"\r\n\r\n")[2]
            assert len(body) < max(int(length), 1), got


TRAILERS = {
    "a trailer with CR LF": [("x", "1\r\ny: 2")],
    "a trailer with a request in it": [("x", "1\r\n\r\n" + EVIL)],
    "a trailer's name with LF": [("x\ny", "2")],
    "a trailer in capitals": [("X-Trailer", "2")],
    "a pseudo-header as a trailer": [(":path", "/smuggled")],
    "connection as a trailer": [("connection", "close")],
    "transfer-encoding as a trailer": [("transfer-encoding", "chunked")],
}


@pytest.mark.parametrize("trailers", TRAILERS.values(), ids=TRAILERS.keys())
def test_trailers(door, trailers):
    before = mark(door.app)
    client = door.client()
    client.send(h2.frame(HEADERS, END_HEADERS, 1, h2.block(fields())), h2.data(1, b"12345"),
                h2.frame(HEADERS, END_HEADERS | END_STREAM, 1, h2.block(trailers)))
    message = client.message(1)
    client.read_until(lambda: message.reset is not None, "the reset")
    assert message.reset == PROTOCOL_ERROR
    assert client.ask(path="/version", stream=3).status == 200
    client.close()
    wait_idle(door.sidecar)
    for got in since(door.app, before):
        assert b"smuggled" not in got and b"y: 2" not in got
        assert not (b"POST /echo" in got and got.endswith(b"0\r\n\r\n")), got


def test_what_is_dropped_from_trailers(door):
    """Well-formed, but of no use behind a body (RFC 9110 6.5.1): not passed on."""
    before = mark(door.app)
    client = door.client()
    message = client.ask(method="POST", path="/echo", body=b"abc", trailers=[
        ("content-length", "1000"), ("host", "evil"), ("authorization", "evil"), ("x-kept", "1")])
    assert message.status == 200 and message.body == b"abc"
    client.close()
    got = b"".join(since(door.app, before))
    assert b"evil" not in got and b"1000" not in got
    assert b"x-kept: 1\r\n" in got

