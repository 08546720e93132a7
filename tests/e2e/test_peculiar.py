"""Messages that are odd and yet legal, by the bytes that reach the other side: regenerated framing, and
nothing that a second parser could read differently. What must be refused is in test_hostile.py."""

import collections
import re

from hoplite_e2e.deadline import ready
from hoplite_e2e.ledger import expect_ends
from hoplite_e2e.topology import inbound_config

GET = b"GET /version HTTP/1.1\r\nHost: a\r\n"
POST = b"POST /echo HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n"
HELLO = CHUNKED + b"\r\n5\r\nhello\r\n0\r\n\r\n"
NONE = CHUNKED + b"\r\n0\r\n\r\n"
FIVE = POST + b"Content-Length: 5\r\n\r\nhello"
PLAIN = GET + b"\r\n"

#: name: (what the client sends, what the app gets but for the headers a sidecar adds)
REQUESTS = {
    "a quoted extension": (CHUNKED + b'\r\n5;a="b;c"\r\nhello\r\n0\r\n\r\n', HELLO),
    "an open quote in an extension": (CHUNKED + b'\r\n5;a="\r\nhello\r\n0\r\n\r\n', HELLO),
    "empty extensions": (CHUNKED + b"\r\n5;;;;\r\nhello\r\n0\r\n\r\n", HELLO),
    "high bytes in an extension": (CHUNKED + b"\r\n5;\xff\xfe\r\nhello\r\n0\r\n\r\n", HELLO),
    "spaces in an extension": (CHUNKED + b"\r\n5; a = b \r\nhello\r\n0\r\n\r\n", HELLO),
    "zeros for the last chunk": (CHUNKED + b"\r\n5\r\nhello\r\n00000\r\n\r\n", HELLO),
    "an extension of the last chunk": (CHUNKED + b"\r\n5\r\nhello\r\n0;x=y\r\n\r\n", HELLO),
    "a size in capitals": (CHUNKED + b"\r\nA\r\n0123456789\r\n0\r\n\r\n",
                           CHUNKED + b"\r\na\r\n0123456789\r\n0\r\n\r\n"),
    "an empty line before the next request": (NONE + b"\r\n" + PLAIN, NONE + PLAIN),
    "chunked in mixed case": (POST + b"Transfer-Encoding: cHuNkEd\r\n\r\n5\r\nhello\r\n0\r\n\r\n", HELLO),
    "chunked behind a tab": (POST + b"Transfer-Encoding:\tchunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", HELLO),
    "chunked before blanks": (POST + b"Transfer-Encoding: chunked \t\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
                              HELLO),
    "zeros before a length": (POST + b"Content-Length: 005\r\n\r\nhello", FIVE),
    "a length that covers a request": (
        GET + b"Content-Length: 35\r\n\r\nGET /smug HTTP/1.1\r\nHost: a\r\nX: y\r\n" + PLAIN,
        GET + b"Content-Length: 35\r\n\r\nGET /smug HTTP/1.1\r\nHost: a\r\nX: y\r\n" + PLAIN),
    "a body on HEAD": (b"HEAD /version HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
                       b"HEAD /version HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"),
    "names with underscores": (
        POST + b"Transfer_Encoding: chunked\r\nContent_Length: 50\r\nContent-Length: 5\r\n\r\nhello",
        POST + b"Transfer_Encoding: chunked\r\nContent_Length: 50\r\nContent-Length: 5\r\n\r\nhello"),
    "an upgrade in 1.0": (b"GET /version HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\n"
                          b"Upgrade: websocket\r\n\r\n", PLAIN),
    "a POST without a length in 1.0": (b"POST /echo HTTP/1.0\r\nHost: a\r\n\r\nhello",
                                       POST + b"Content-Length: 0\r\n\r\n"),
    "an absolute target in capitals": (b"GET HTTP://A/version HTTP/1.1\r\nHost: a\r\n\r\n",
                                       b"GET /version HTTP/1.1\r\nHost: A\r\n\r\n"),
    "an absolute target with the default port": (
        b"GET http://a:80/version HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /version HTTP/1.1\r\nHost: a:80\r\n\r\n"),
    "an absolute target of a query": (b"GET http://a?x=1 HTTP/1.1\r\nHost: a\r\n\r\n",
                                      b"GET /?x=1 HTTP/1.1\r\nHost: a\r\n\r\n"),
    "an absolute target in the path of another": (
        b"GET http://a//http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET //http://b/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    "an absolute target in 1.0 without Host": (b"GET http://a/version HTTP/1.0\r\n\r\n", PLAIN),
    "OPTIONS of an authority": (b"OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n",
                                b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"),
    "two slashes": (b"GET //b/x HTTP/1.1\r\nHost: a\r\n\r\n", b"GET //b/x HTTP/1.1\r\nHost: a\r\n\r\n"),
    "escapes in the path": (b"GET /../%00%0d%0a HTTP/1.1\r\nHost: a\r\n\r\n",
                            b"GET /../%00%0d%0a HTTP/1.1\r\nHost: a\r\n\r\n"),
    "high bytes in a value": (GET + b"X: caf\xe9 \xff\r\n\r\n", GET + b"X: caf\xe9 \xff\r\n\r\n"),
    "an empty value": (GET + b"X:\r\n\r\n", GET + b"X: \r\n\r\n"),
    "what decided before a trailer": (
        CHUNKED + b"\r\n0\r\nConnection: close\r\nUpgrade: h2c\r\nAuthorization: x\r\n"
        b"x-envoy-peer-metadata: evil\r\nx-forwarded-client-cert: e\r\nx-request-id: bad\r\n\r\n", NONE),
    "a trailer that is none of ours": (CHUNKED + b"\r\n0\r\nX-Sum: 1\r\n\r\n",
                                       CHUNKED + b"\r\n0\r\nX-Sum: 1\r\n\r\n"),
    "Connection names what the sidecar adds": (
        GET + b"Connection: x-envoy-peer-metadata, x-envoy-peer-metadata-id, x-request-id\r\n\r\n",
        PLAIN),
    "Connection names credentials": (
        GET + b"Connection: cookie, authorization, te\r\nCookie: a=b\r\nAuthorization: z\r\n"
        b"TE: trailers, deflate\r\n\r\n", GET + b"TE: trailers\r\nConnection: TE\r\n\r\n"),
    "Connection both ways": (GET + b"Connection: close, keep-alive\r\n\r\n", PLAIN),
    "a Connection of commas": (GET + b"Connection: , ,\r\nProxy-Connection: keep-alive\r\n"
                               b"Keep-Alive: 300\r\n\r\n", PLAIN),
    "an upgrade that is refused, and the next request": (
        GET + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n" + PLAIN,
        GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + PLAIN),
    "an upgrade to HTTP/2": (GET + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
                             b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n", PLAIN),
    "an upgrade to HTTP/2 among others": (
        GET + b"Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n\r\n", PLAIN),
    "empty lines around requests": (b"\r\n" + PLAIN + b"\r\n" + PLAIN, PLAIN + PLAIN),
    "metadata that is none": (GET + b"x-envoy-peer-metadata-id: evil\r\n"
                              b"x-envoy-peer-metadata: !!!!not base64\r\n\r\n", PLAIN),
}

ADDED = re.compile(rb"(?i)(?:x-request-id: [0-9a-f-]{36}|x-forwarded-proto: http"
                   rb"|x-envoy-attempt-count: 1|x-envoy-internal: true)\r\n")


def test_what_reaches_the_app(world):
    app = world.service()
    sidecar = world.hoplite(inbound_config(app.address, workers=1))
    before = b""
    for name, (sent, wanted) in REQUESTS.items():
        client = world.client(sidecar.inbound)
        client.send(sent)
        # One of these lines is in a body.
        for _ in range(wanted.count(b" HTTP/1.1\r\n") - wanted.count(b"GET /smug")):
            answer = client.read_response(head_only=wanted.startswith(b"HEAD"))
            assert answer.status < 500, name
        client.close()
        received = b"".join(app.received())
        got = ADDED.sub(b"", received[len(before):])
        before = received
        assert (name, got) == (name, wanted)


# --- responses ------------------------------------------------------------------------------------

OK = b"HTTP/1.1 200 OK\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
BODY = b"Content-Length: 2\r\n\r\nok"
METADATA = b"x-envoy-peer-metadata: zz\r\nx-envoy-peer-metadata-id: q\r\n"

#: name: (method, what the app sends, whether it closes then, the end that is counted, the body)
RESPONSES = {
    "more than Content-Length said": ("GET", OK + b"Content-Length: 3\r\n\r\nabcdef", False, "200 -",
                                      b"abc"),
    "less than Content-Length said": ("GET", OK + b"Content-Length: 10\r\n\r\nabc", True, "200 UC", None),
    "a body in answer to HEAD": ("HEAD", OK + b"Content-Length: 5\r\n\r\nhello", False, "200 -", b""),
    "a coding in answer to HEAD": ("HEAD", OK + b"Transfer-Encoding: chunked\r\n\r\n", False, "200 -",
                                   b""),
    "204 with a body": ("GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello", False,
                        "204 -", b""),
    "204 with a coding": ("GET", b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n"
                          b"0\r\n\r\n", False, "204 -", b""),
    "304 with a length": ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n", False,
                          "304 -", b""),
    "304 with a body": ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nhello", False,
                        "304 -", b""),
    "as many 1xx as are allowed": ("GET", HINTS * 32 + OK + BODY, False, "200 -", b"ok"),
    "too many 1xx": ("GET", HINTS * 33 + OK + BODY, False, "502 UPE", None),
    "a body behind a 1xx": ("GET", b"HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\nhello" + OK + BODY,
                            False, "502 UPE", None),
    "no reason": ("GET", b"HTTP/1.1 200\r\n" + BODY, False, "200 -", b"ok"),
    "high bytes in the reason": ("GET", b"HTTP/1.1 200 \xe9\xff\r\n" + BODY, False, "200 -", b"ok"),
    "a head that is too long": ("GET", OK + b"X: " + b"y" * 70000 + b"\r\n\r\n", False, "502 UPE", None),
    "too many headers": ("GET", OK + b"X: y\r\n" * 101 + b"\r\n", False, "502 UPE", None),
    "a second response behind": ("GET", OK + BODY + OK + BODY, False, "200 -", b"ok"),
    "1.0 until the end": ("GET", b"HTTP/1.0 200 OK\r\n\r\nbody", True, "200 -", b"body"),
    "1.0 that keeps alive": ("GET", b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n" + BODY, False,
                             "200 -", b"ok"),
    "no framing until the end": ("GET", OK + b"\r\nbody", True, "200 -", b"body"),
    "a long chunk extension": ("GET", OK + b"Transfer-Encoding: chunked\r\n\r\n5;" + b"a" * 2000 +
                               b"\r\nhello\r\n0\r\n\r\n", False, "502 UPE", None),
    "Connection names a cookie": ("GET", OK + b"Connection: set-cookie\r\nSet-Cookie: a\r\n" + BODY,
                                  False, "200 -", b"ok"),
    "metadata from an app": ("GET", OK + METADATA + BODY, False, "200 -", b"ok"),
    "a TLS alert": ("GET", b"\x15\x03\x03\x00\x02\x02\x46", False, "502 UPE", None),
    "nothing": ("GET", b"", True, "503 UC", None),
    "half a status line": ("GET", b"HTTP/1.1 200", True, "503 UC", None),
}


def test_what_reaches_the_client(world):
    cases = list(RESPONSES.items())

    def script(wire, number):
        while True:
            start, _ = wire.read_head()
            _, raw, closes, _, _ = cases[int(start.split()[1][1:])][1]
            wire.send(raw)
            if closes:
                return

    sidecar = world.hoplite(inbound_config(world.raw_server(script).address, workers=1))
    for number, (name, (method, _, _, end, body)) in enumerate(cases):
        client = world.client(sidecar.inbound)
        client.send(f"{method} /{number} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        answer = client.read_response(head_only=method == "HEAD")
        while answer.status < 200:
            answer = client.read_response(head_only=method == "HEAD")
        code, flag = end.split()
        assert (name, str(answer.status)) == (name, code)
        assert answer.complete == (body is not None or code >= "500"), name
        if body is not None:
            assert (name, answer.body) == (name, body)
            assert answer.header("set-cookie") is None, name
            assert answer.header("x-envoy-peer-metadata") is None, name
        if answer.complete:
            assert not ready([client.socket], [], 0)[0] and not client.buffer, name
        client.close()
    wanted = collections.Counter(tuple(end.split()) for _, _, _, end, _ in RESPONSES.values())
    expect_ends(sidecar, dict(wanted))
