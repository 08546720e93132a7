"""From HTTP/1 to HTTP/2: what an endpoint in HTTP/2 sees of a client in HTTP/1, and the client of it.

The other way: test_http2.py.
"""

from hoplite_e2e import http2 as h2
from hoplite_e2e.ledger import expect_ends
from hoplite_e2e.topology import inbound_config


def front(world, answer):
    """(client in HTTP/1, the messages that the endpoint got, sidecar)"""
    got = []

    def script(wire, _number):
        server = h2.Server(wire)
        while True:
            stream = server.next_request()
            got.append(server.complete(stream))
            answer(server, stream)

    sidecar = world.hoplite(inbound_config(world.raw_server(script).address, "http2", workers=1))
    return world.client(sidecar.inbound), got, sidecar


def test_a_request_and_its_answer(world):
    """Pseudo-headers from the request line and Host, names in lower case, nothing of the hop but
    te: trailers (RFC 9113 8.2.2); 1xx, a body in pieces and trailers come back."""
    def answer(server, stream):
        server.send(server.header_frames(stream, [(":status", "103"), ("link", "</a>")], False))
        server.respond(stream, body=b"world", headers=[("set-cookie", "a=1"), ("set-cookie", "b=2")],
                       trailers=[("x-down", "2")])

    client, got, sidecar = front(world, answer)
    client.send(b"POST /a?b=c HTTP/1.1\r\nHost: h:81\r\nX-Mixed-Case: A\r\nCookie: a=1; b=2\r\n"
                b"Connection: TE, X-Hop\r\nTE: trailers, deflate;q=0.5\r\nX-Hop: 1\r\n"
                b"Keep-Alive: timeout=5\r\nTransfer-Encoding: chunked\r\n\r\n"
                b"2\r\nhe\r\n3\r\nllo\r\n0\r\nX-Up: 1\r\n\r\n")
    hint, response = client.read_response(), client.read_response()
    assert hint.status == 103 and hint.header("link") == "</a>"
    assert (response.status, response.body) == (200, b"world")
    assert response.all("set-cookie") == ["a=1", "b=2"]
    assert response.trailers == [("x-down", "2")]
    (message,) = got
    fields = message.headers
    assert fields[:4] == [(":method", "POST"), (":scheme", "http"), (":authority", "h:81"),
                          (":path", "/a?b=c")]
    names = [name for name, _ in fields]
    assert message.header("x-mixed-case") == "A" and message.header("te") == "trailers"
    assert message.header("cookie") == "a=1; b=2"
    for name in ("connection", "keep-alive", "transfer-encoding", "x-hop", "host", "upgrade"):
        assert name not in names
    assert all(name == name.lower() for name in names)
    assert message.body == b"hello" and message.trailers == [("x-up", "1")]
    expect_ends(sidecar, {("200", "-"): 1})


def test_answers_without_a_body(world):
    """HEAD, 204 and 304: the client waits for nothing, and goes on with the next."""
    def answer(server, stream):
        path = dict(server.messages[stream].headers)[":path"]
        length = [("content-length", "1000")] if path == "/200" else []
        server.respond(stream, int(path[1:]), b"", length)

    client, _, sidecar = front(world, answer)
    response = client.request(method="HEAD", target="/200")
    assert response.status == 200 and response.header("content-length") == "1000"
    for status in (204, 304, 200):
        target = f"/{status}"
        assert client.request(method="HEAD" if status == 200 else "GET", target=target
                              ).status == status
    expect_ends(sidecar, {("200", "-"): 2, ("204", "-"): 1, ("304", "-"): 1})


def test_a_body_after_a_length_of_nothing(world):
    """Neither does the client get it, nor is the request forgotten."""
    def answer(server, stream):
        server.respond(stream, body=b"hello", headers=[("content-length", "0")])

    client, _, sidecar = front(world, answer)
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b"hello" not in client.read_to_end()
    expect_ends(sidecar, {("200", "UPE"): 1})


def test_an_upgrade_that_its_app_ignores_behind_http2(world):
    """The client is not told of a WebSocket that nobody speaks."""
    peer = world.hoplite(inbound_config(world.service().address, "http1"))
    sidecar = world.hoplite(inbound_config(f"127.0.0.1:{peer.inbound}", "http2"))
    client = world.client(sidecar.inbound)
    answer = client.request(headers=[
        ("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")])
    assert (answer.status, answer.complete) == (502, True)
    assert client.request().status == 200
