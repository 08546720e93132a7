"""What must work in HTTP/2, frame by frame: the generic cases that h2spec has for a server, in our own
words, on cleartext and on TLS. Not errors (test_http2_conformance.py, test_http2_errors.py)."""

import pytest

from hoplite_e2e import http2 as h2
from hoplite_e2e.conformance import (
    Table, AUTHORITY, GET, PATH, POST, SLOW, answered, encoded, head, open_door, try_case)
from hoplite_e2e.http2 import (
    CONTINUATION, END_HEADERS, END_STREAM, HEADERS, PADDED, PING, PRIORITY_FLAG, SETTINGS)

TABLE = Table()
case = TABLE.case


# --- what must work -------------------------------------------------------------------------------


@case("generic 1/1 preface")
def _(client):
    client.wait_settings()


@case("generic 2/1 PRIORITY on an idle stream", answered(3))
def _(client):
    client.send(h2.priority(1), head(GET, 3))


@case("generic 2/2 WINDOW_UPDATE on a half-closed stream", answered(1))
def _(client):
    client.send(head([*GET[:3], (":path", "/delay/0.05")]), h2.window_update(1, 1))


@case("generic 2/3 PRIORITY on a half-closed stream", answered(1))
def _(client):
    client.send(head([*GET[:3], (":path", "/delay/0.05")]), h2.priority(1))


@case("generic 2/4 RST_STREAM on a half-closed stream")
def _(client):
    client.send(head(SLOW), h2.rst_stream(1))


@case("generic 2/5 PRIORITY on a closed stream")
def _(client):
    client.ask(stream=1)
    client.send(h2.priority(1))


@case("generic 2/6 WINDOW_UPDATE on a closed stream")
def _(client):
    client.ask(stream=1)
    client.send(h2.window_update(1, 1))


@case("generic 2/7 RST_STREAM on a closed stream")
def _(client):
    client.ask(stream=1)
    client.send(h2.rst_stream(1))


@case("generic 3.1/1 DATA", answered(1))
def _(client):
    client.send(head(POST, flags=END_HEADERS), h2.data(1, b"test", True))


@case("generic 3.1/2 several DATA", answered(1))
def _(client):
    client.send(head(POST, flags=END_HEADERS), h2.data(1, b"test"), h2.data(1, b"test", True))


@case("generic 3.1/3 DATA with padding", answered(1))
def _(client):
    client.send(head(POST, flags=END_HEADERS), h2.data(1, b"test", True, padding=6))


@case("generic 3.1/4 DATA of nothing but padding", answered(1))
def _(client):
    client.send(head(POST, flags=END_HEADERS), h2.data(1, b"", True, padding=0))


@case("generic 3.2/1 HEADERS", answered(1))
def _(client):
    client.send(head(GET))


@case("generic 3.2/2 HEADERS with padding", answered(1))
def _(client):
    client.send(h2.frame(HEADERS, END_STREAM | END_HEADERS | PADDED, 1,
                         b"\x05" + h2.block(GET) + bytes(5)))


@case("generic 3.2/3 HEADERS with a priority", answered(1))
def _(client):
    client.send(head(GET, flags=END_HEADERS | END_STREAM | PRIORITY_FLAG,
                     more=b"\x00\x00\x00\x00\xff"))


@case("generic 3.2/4 HEADERS with padding and a priority", answered(1))
def _(client):
    client.send(h2.frame(HEADERS, END_STREAM | END_HEADERS | PADDED | PRIORITY_FLAG, 1,
                         b"\x03\x80\x00\x00\x00\x10" + h2.block(GET) + bytes(3)))


@case("generic 3.3/1 PRIORITY of weight 1", answered(1))
def _(client):
    client.send(h2.priority(1, weight=1), head(GET))


@case("generic 3.3/2 PRIORITY of weight 256", answered(1))
def _(client):
    client.send(h2.priority(1, weight=256), head(GET))


@case("generic 3.3/3 PRIORITY with a dependency", answered(1, 3))
def _(client):
    client.send(h2.priority(1, 0), h2.priority(3, 1), head(GET), head(GET, 3))


@case("generic 3.3/4 PRIORITY, exclusive", answered(1))
def _(client):
    client.send(h2.priority(1, 0, exclusive=True), head(GET))


@case("generic 3.3/5 PRIORITY on an idle stream, then HEADERS on a lower one", answered(1))
def _(client):
    client.send(h2.priority(5, 0), head(GET))


@case("generic 3.4/1 RST_STREAM")
def _(client):
    client.send(head(POST, flags=END_HEADERS), h2.rst_stream(1))


@case("generic 3.5/1 SETTINGS is acknowledged")
def _(client):
    client.send(h2.settings({h2.MAX_CONCURRENT_STREAMS: 100}))
    client.read_until(lambda: [f for f in client.frames if f.kind == SETTINGS and f.has(h2.ACK)],
                      "the acknowledgement of SETTINGS")


@case("generic 3.5/2 SETTINGS without values")
def _(client):
    client.send(h2.settings())


@case("generic 3.7/1 PING is answered with its payload")
def _(client):
    client.send(h2.ping(b"h2spec\0\0"))
    client.read_until(lambda: [f for f in client.frames if f.kind == PING and f.has(h2.ACK)
                               and f.payload == b"h2spec\0\0"], "the answer to PING")


@case("generic 3.8/1 GOAWAY lets what is under way end", lambda client: client.expect_end())
def _(client):
    client.request(path="/delay/0.05", stream=1)
    client.send(h2.goaway(0))
    assert client.response(1).status == 200


@case("generic 3.9/1 WINDOW_UPDATE of the connection")
def _(client):
    client.send(h2.window_update(0, 1))


@case("generic 3.9/2 WINDOW_UPDATE of a stream", answered(1))
def _(client):
    client.send(head([*GET[:3], (":path", "/delay/0.05")]), h2.window_update(1, 1000))


@case("generic 3.10/1 CONTINUATION", answered(1))
def _(client):
    encoded = h2.block(GET)
    client.send(h2.frame(HEADERS, END_STREAM, 1, encoded[:5]),
                h2.frame(CONTINUATION, END_HEADERS, 1, encoded[5:]))


@case("generic 3.10/2 several CONTINUATIONs", answered(1))
def _(client):
    encoded = h2.block(GET)
    client.send(h2.frame(HEADERS, END_STREAM, 1, encoded[:5]),
                h2.frame(CONTINUATION, 0, 1, encoded[5:9]), h2.frame(CONTINUATION, 0, 1, b""),
                h2.frame(CONTINUATION, END_HEADERS, 1, encoded[9:]))


@case("generic 4/1 GET")
def _(client):
    assert client.ask(stream=1).status == 200


@case("generic 4/2 HEAD")
def _(client):
    message = client.ask(method="HEAD", stream=1)
    assert message.status == 200 and message.body == b""


@case("generic 4/3 POST")
def _(client):
    assert client.ask(method="POST", path="/echo", body=b"abc", stream=1).body == b"abc"


@case("generic 4/4 POST with trailers")
def _(client):
    message = client.ask(method="POST", path="/echo", body=b"abc", trailers=[("x-test", "ok")],
                         stream=1)
    assert message.body == b"abc"


for number, (what, field) in enumerate([
        ("an indexed field", b"\x90"),  # accept-encoding: gzip, deflate
        ("a literal that is indexed, of an indexed name", b"\x7a\x04test"),  # user-agent
        ("a literal that is indexed, of a new name", b"\x40\x04x-ab\x04test"),
        ("a literal that is not indexed, of an indexed name", b"\x0f\x2b\x04test"),
        ("a literal that is not indexed, of a new name", b"\x00\x04x-ab\x04test"),
        ("a literal never indexed, of an indexed name", b"\x1f\x2b\x04test"),
        ("a literal never indexed, of a new name", b"\x10\x04x-ab\x04test"),
        ("a literal in Huffman code", b"\x40\x83\xf2\xb4\xa8\x83\x49\x50\x9f"),
        ("an indexed field of the dynamic table", b"\x40\x04x-ab\x04test\xbe"),
], 1):
    @case(f"generic 5/{number} {what}", answered(1))
    def _(client, field=field):
        client.send(h2.frame(HEADERS, END_STREAM | END_HEADERS, 1,
                             encoded(b"\x82\x86", AUTHORITY, PATH, field)))

for number, (what, update) in enumerate([("a table size update", b"\x3f\xe1\x00"),
                                         ("several table size updates", b"\x20\x3f\xe1\x00")], 10):
    @case(f"generic 5/{number} {what}", answered(1))
    def _(client, update=update):
        client.wait_settings()
        client.send(h2.frame(HEADERS, END_STREAM | END_HEADERS, 1,
                             encoded(update, b"\x82\x86", AUTHORITY, PATH)))


# --- the table is run -----------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["cleartext", "tls"])
def door(request, module_world):
    return open_door(module_world, request.param)


@pytest.mark.parametrize("violate, outcome, begin", TABLE.cases)
def test_case(door, violate, outcome, begin):
    try_case(door, violate, outcome, begin)
