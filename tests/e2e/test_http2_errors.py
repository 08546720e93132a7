"""RFC 9113 from section 6.5 on, and RFC 7541: as test_http2_conformance.py has the sections before."""

import pytest

from hoplite_e2e import http2 as h2
from hoplite_e2e.conformance import (
    Table, AUTHORITY, GET, PATH, POST, SLOW, answered, dies, encoded, head, open_door, resets,
    resets_or_dies, try_case)
from hoplite_e2e.http2 import (
    COMPRESSION_ERROR, CONTINUATION, END_HEADERS, END_STREAM, FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR, HEADERS, PING, PROTOCOL_ERROR, PUSH_PROMISE, SETTINGS, WINDOW_UPDATE)

TABLE = Table()
case = TABLE.case


# --- RFC 9113 -------------------------------------------------------------------------------------


@case("6.5/1 SETTINGS acknowledgement with a payload", dies(FRAME_SIZE_ERROR))
def _(client):
    client.send(h2.frame(SETTINGS, h2.ACK, 0, b"\0"))


@case("6.5/2 SETTINGS on a stream", dies(PROTOCOL_ERROR))
def _(client):
    client.send(h2.frame(SETTINGS, 0, 1, b"\0\x03\0\0\0\x64"))


@case("6.5/3 SETTINGS of a wrong size", dies(FRAME_SIZE_ERROR))
def _(client):
    client.send(h2.frame(SETTINGS, 0, 0, b"\0\x03\0"))


for number, (what, key, value, code) in enumerate([
        ("ENABLE_PUSH of 2", h2.ENABLE_PUSH, 2, PROTOCOL_ERROR),
        ("INITIAL_WINDOW_SIZE above 2^31-1", h2.INITIAL_WINDOW_SIZE, 1 << 31, FLOW_CONTROL_ERROR),
        ("MAX_FRAME_SIZE below 2^14", h2.MAX_FRAME_SIZE, 16383, PROTOCOL_ERROR),
        ("MAX_FRAME_SIZE above 2^24-1", h2.MAX_FRAME_SIZE, 1 << 24, PROTOCOL_ERROR),
], 1):
    @case(f"6.5.2/{number} {what}", dies(code))
    def _(client, key=key, value=value):
        client.send(h2.settings({key: value}))


@case("6.5.2/5 an unknown setting")
def _(client):
    client.send(h2.settings({0xFF: 1}))


@case("6.5.3/1 a setting twice: the last counts")
def _(client):
    client.send(h2.frame(SETTINGS, 0, 0, b"\0\x04\0\0\0\x64" + b"\0\x04\0\0\0\x01"))
    client.credit = False
    client.request(path="/bytes/100", stream=1)
    message = client.message(1)
    client.read_until(lambda: message.body, "a first byte")
    client.round_trip()
    assert len(message.body) == 1
    client.send(h2.window_update(1, 99))
    assert len(client.response(1).body) == 100
    client.send(h2.settings({h2.INITIAL_WINDOW_SIZE: 65535}))
    client.credit = True


@case("6.5.3/2 SETTINGS are acknowledged at once")
def _(client):
    client.send(h2.settings({h2.HEADER_TABLE_SIZE: 100}))
    client.read_until(
        lambda: len([f for f in client.frames if f.kind == SETTINGS and f.has(h2.ACK)]) == 2,
        "two acknowledgements")


@case("6.7/1 PING is answered")
def _(client):
    client.round_trip()


@case("6.7/2 a PING that is an answer is not answered")
def _(client):
    client.send(h2.ping(b"unasked!", ack=True))
    client.round_trip()
    assert not [f for f in client.frames if f.kind == PING and f.payload == b"unasked!"]


@case("6.7/3 PING on a stream", dies(PROTOCOL_ERROR))
def _(client):
    client.send(h2.frame(PING, 0, 1, b"12345678"))


@case("6.7/4 PING of a wrong size", dies(FRAME_SIZE_ERROR))
def _(client):
    client.send(h2.frame(PING, 0, 0, b"123456"))


@case("6.8/1 GOAWAY on a stream", dies(PROTOCOL_ERROR))
def _(client):
    client.send(h2.frame(h2.GOAWAY, 0, 1, bytes(8)))


@case("6.9/1 WINDOW_UPDATE of 0 for the connection", dies(PROTOCOL_ERROR))
def _(client):
    client.send(h2.window_update(0, 0))


@case("6.9/2 WINDOW_UPDATE of 0 for a stream", resets_or_dies(1, PROTOCOL_ERROR))
def _(client):
    client.send(head(SLOW), h2.window_update(1, 0))


@case("6.9/3 WINDOW_UPDATE of a wrong size", dies(FRAME_SIZE_ERROR))
def _(client):
    client.send(h2.frame(WINDOW_UPDATE, 0, 0, b"\0\0\1"))


@case("6.9.1/1 no more DATA than the window")
def _(client):
    client.send(h2.settings({h2.INITIAL_WINDOW_SIZE: 1}))
    client.credit = False
    client.request(path="/bytes/5", stream=1)
    message = client.message(1)
    client.read_until(lambda: message.body, "a first byte")
    client.round_trip()
    assert len(message.body) == 1
    client.send(h2.window_update(1, 4), h2.settings({h2.INITIAL_WINDOW_SIZE: 65535}))
    assert len(client.response(1).body) == 5
    client.credit = True


@case("6.9.1/2 the connection's window above 2^31-1", dies(FLOW_CONTROL_ERROR))
def _(client):
    client.send(h2.window_update(0, (1 << 31) - 1), h2.window_update(0, (1 << 31) - 1))


@case("6.9.1/3 a stream's window above 2^31-1", resets_or_dies(1, FLOW_CONTROL_ERROR))
def _(client):
    client.send(head(SLOW), h2.window_update(1, (1 << 31) - 1), h2.window_update(1, (1 << 31) - 1))


@case("6.9.2/1 INITIAL_WINDOW_SIZE changes a stream's window")
def _(client):
    client.credit = False
    client.send(h2.settings({h2.INITIAL_WINDOW_SIZE: 0}))
    client.request(path="/bytes/5", stream=1)
    client.head(1)
    client.round_trip()
    assert client.message(1).body == b""
    client.send(h2.settings({h2.INITIAL_WINDOW_SIZE: 1}))
    client.read_until(lambda: client.message(1).body, "a byte")
    client.round_trip()
    assert len(client.message(1).body) == 1
    client.send(h2.settings({h2.INITIAL_WINDOW_SIZE: 65535}))
    assert len(client.response(1).body) == 5
    client.credit = True


@case("6.9.2/2 a window below 0")
def _(client):
    client.credit = False
    client.send(h2.settings({h2.INITIAL_WINDOW_SIZE: 3}))
    client.request(path="/bytes/6", stream=1)
    client.read_until(lambda: len(client.message(1).body) == 3, "three bytes")
    client.send(h2.settings({h2.INITIAL_WINDOW_SIZE: 2}), h2.window_update(1, 2))
    client.read_until(lambda: len(client.message(1).body) == 4, "another byte")
    client.round_trip()
    assert len(client.message(1).body) == 4
    client.send(h2.settings({h2.INITIAL_WINDOW_SIZE: 65535}))
    assert len(client.response(1).body) == 6
    client.credit = True


@case("6.9.2/3 INITIAL_WINDOW_SIZE above 2^31-1 with a stream open", dies(FLOW_CONTROL_ERROR))
def _(client):
    client.send(head(SLOW), h2.settings({h2.INITIAL_WINDOW_SIZE: 1 << 31}))


@case("6.10/1 several CONTINUATIONs behind HEADERS", answered(1))
def _(client):
    client.send(head(GET, flags=END_STREAM),
                h2.frame(CONTINUATION, 0, 1, h2.literal("x-a", "1")),
                h2.frame(CONTINUATION, END_HEADERS, 1, h2.literal("x-b", "2")))


@case("6.10/2 another frame behind CONTINUATION", dies(PROTOCOL_ERROR))
def _(client):
    client.send(head(GET, flags=END_STREAM), h2.frame(CONTINUATION, 0, 1, h2.literal("x-a", "1")),
                h2.data(1, b"test", True))


@case("6.10/3 CONTINUATION on stream 0", dies(PROTOCOL_ERROR))
def _(client):
    client.send(head(GET, flags=END_STREAM),
                h2.frame(CONTINUATION, END_HEADERS, 0, h2.literal("x-a", "1")))


@case("6.10/4 CONTINUATION behind HEADERS with END_HEADERS", dies(PROTOCOL_ERROR))
def _(client):
    client.send(head(SLOW), h2.frame(CONTINUATION, END_HEADERS, 1, h2.literal("x-a", "1")))


@case("6.10/5 CONTINUATION behind CONTINUATION with END_HEADERS", dies(PROTOCOL_ERROR))
def _(client):
    client.send(head(SLOW, flags=END_STREAM),
                h2.frame(CONTINUATION, END_HEADERS, 1, h2.literal("x-a", "1")),
                h2.frame(CONTINUATION, END_HEADERS, 1, h2.literal("x-a", "1")))


@case("6.10/6 CONTINUATION behind DATA", dies(PROTOCOL_ERROR))
def _(client):
    client.send(head(POST, flags=END_HEADERS), h2.data(1, b"test"),
                h2.frame(CONTINUATION, END_HEADERS, 1, h2.literal("x-a", "1")))


@case("7/1 GOAWAY with an unknown code", lambda client: client.expect_end())
def _(client):
    client.send(h2.goaway(0, 0xFF))


@case("7/2 RST_STREAM with an unknown code")
def _(client):
    client.send(head(SLOW), h2.rst_stream(1, 0xFF))


@case("8.1/1 HEADERS behind DATA without END_STREAM", resets_or_dies(1, PROTOCOL_ERROR))
def _(client):
    client.send(head(POST, flags=END_HEADERS), h2.data(1, b"test"),
                head([("x-trailer", "1")], flags=END_HEADERS))


MALFORMED = [
    ("8.1.2/1 an upper-case name", [*GET, ("X-TEST", "ok")]),
    ("8.1.2.1/1 an unknown pseudo-header", [*GET, (":test", "ok")]),
    ("8.1.2.1/2 a response's pseudo-header", [*GET, (":status", "200")]),
    ("8.1.2.1/4 a pseudo-header behind a regular one",
     [(":method", "GET"), (":scheme", "http"), ("x-test", "ok"), (":path", "/version")]),
    ("8.1.2.2/1 a field of the connection", [*GET, ("connection", "keep-alive")]),
    ("8.1.2.2/2 te that is not trailers", [*GET, ("te", "trailers, deflate")]),
    ("8.1.2.3/1 an empty :path", [*GET[:3], (":path", "")]),
    ("8.1.2.3/2 no :method", GET[1:]),
    ("8.1.2.3/3 no :scheme", [GET[0], *GET[2:]]),
    ("8.1.2.3/4 no :path", GET[:3]),
    ("8.1.2.3/5 :method twice", [*GET, (":method", "GET")]),
    ("8.1.2.3/6 :scheme twice", [*GET, (":scheme", "http")]),
    ("8.1.2.3/7 :path twice", [*GET, (":path", "/")]),
]
for name, fields in MALFORMED:
    @case(name, resets(1, PROTOCOL_ERROR))
    def _(client, fields=fields):
        client.send(head(fields))


@case("8.1.2.1/3 a pseudo-header among trailers", resets(1, PROTOCOL_ERROR))
def _(client):
    client.send(head(POST, flags=END_HEADERS), h2.data(1, b"test"),
                head([("x-test", "ok"), (":method", "GET")]))


@case("8.1.2.6/1 content-length that disagrees with one DATA", resets(1, PROTOCOL_ERROR))
def _(client):
    client.send(head([*POST, ("content-length", "1")], flags=END_HEADERS), h2.data(1, b"test", True))


@case("8.1.2.6/2 content-length that disagrees with several DATA", resets(1, PROTOCOL_ERROR))
def _(client):
    client.send(head([*POST, ("content-length", "1")], flags=END_HEADERS), h2.data(1, b"test"),
                h2.data(1, b"test", True))


@case("8.2/1 PUSH_PROMISE of a client", dies(PROTOCOL_ERROR))
def _(client):
    client.send(h2.frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2" + h2.block(GET)))


# --- RFC 7541 -------------------------------------------------------------------------------------

for name, field in [
        ("2.3.3/1 an index that is not there", b"\xff\x00"),
        ("2.3.3/2 a literal whose name's index is not there", b"\x7f\x80\x01\x04test"),
        ("4.2/1 a table size update at the end", b"\x21"),
        ("5.2/1 Huffman padding of more than 7 bits", b"\x00\x04test\x85\xf2\xb4\xa8\x7f\xff"),
        ("5.2/2 Huffman padding of zeros", b"\x00\x04test\x83\x49\x50\x90"),
        ("5.2/3 Huffman code with EOS", b"\x00\x04test\x88\xff\xff\xff\xff\xff\xff\xff\xff"),
        ("6.1/1 index 0", b"\x80"),
]:
    @case(f"hpack {name}", dies(COMPRESSION_ERROR))
    def _(client, field=field):
        client.send(h2.frame(HEADERS, END_STREAM | END_HEADERS, 1,
                             encoded(b"\x82\x86", AUTHORITY, PATH, field)))


@case("hpack 6.3/1 a table size update above the limit", dies(COMPRESSION_ERROR))
def _(client):
    client.wait_settings()
    client.send(h2.frame(HEADERS, END_STREAM | END_HEADERS, 1,
                         encoded(b"\x3f\xe1\xff\x03", b"\x82\x86", AUTHORITY, PATH)))


# --- the table is run -----------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["cleartext", "tls"])
def door(request, module_world):
    return open_door(module_world, request.param)


@pytest.mark.parametrize("violate, outcome, begin", TABLE.cases)
def test_case(door, violate, outcome, begin):
    try_case(door, violate, outcome, begin)
