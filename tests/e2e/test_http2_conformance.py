"""RFC 9113 and 7541 from outside, case by case: the cases that h2spec (strict) has for a server, in our
own words, on cleartext and on TLS. Each says what is sent, and which error, if any, must come of it.

Not floods (test_http2_floods.py) and not what reaches an app (test_http2_smuggling.py).
"""

import pytest

from hoplite_e2e import http2 as h2
from hoplite_e2e import tls
from hoplite_e2e.http2 import (
    COMPRESSION_ERROR, CONTINUATION, DATA, END_HEADERS, END_STREAM, FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR, HEADERS, PADDED, PING, PRIORITY, PRIORITY_FLAG, PROTOCOL_ERROR,
    PUSH_PROMISE, REFUSED_STREAM, RST_STREAM, SETTINGS, STREAM_CLOSED, WINDOW_UPDATE)
from hoplite_e2e.topology import inbound_config

STREAMS = 100  # limits.http2_streams here
GET = [(":method", "GET"), (":scheme", "http"), (":authority", "localhost"), (":path", "/version")]
SLOW = [*GET[:3], (":path", "/delay/20")]
POST = [(":method", "POST"), *GET[1:3], (":path", "/echo")]

CASES = []


def case(name, outcome=None, begin=None):
    """`outcome(client)` must hold after what the function sends; without one, all is well."""
    def keep(function):
        CASES.append(pytest.param(function, outcome or alive, begin, id=name))
        return function

    return keep


def alive(client):
    """No error: every request that was begun is answered, and so is another one."""
    client.round_trip()
    assert client.ask(path="/version", stream=1001).status == 200
    assert not client.goaways, client.goaways
    resets = [frame for frame in client.frames if frame.kind == RST_STREAM]
    assert not resets, resets


def dies(*codes):
    def check(client):
        client.expect_goaway(*codes)

    return check


def resets(stream, *codes):
    """A stream error: that stream alone ends."""
    def check(client):
        client.expect_reset(stream, *codes)
        assert not client.goaways
        assert client.ask(path="/version", stream=1001).status == 200

    return check


def resets_or_dies(stream, *codes):
    def check(client):
        client.expect_error(stream, *codes)

    return check


def answered(*streams, status=200):
    def check(client):
        for stream in streams:
            message = client.response(stream)
            assert message.reset is None and message.status == status, (stream, message.reset)
        alive(client)

    return check


def head(fields, stream=1, flags=END_HEADERS | END_STREAM, more=b""):
    return h2.frame(HEADERS, flags, stream, more + h2.block(fields))


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


def encoded(*pieces):
    """A header block by hand, for a GET of /version: authority first, then `pieces`."""
    return b"".join(pieces)


AUTHORITY = h2.literal(":authority", "localhost")
PATH = h2.literal(":path", "/version")

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


# --- RFC 9113 -------------------------------------------------------------------------------------


@case("3.5/1 preface, then SETTINGS are the first frame to come")
def _(client):
    client.wait_settings()
    assert client.frames[0].kind == SETTINGS


@case("3.5/2 a preface that is none", lambda client: client.expect_end(),
      begin=b"INVALID CONNECTION PREFACE\r\n\r\n")
def _(_client):
    pass


@case("3.5/3 a preface without SETTINGS", dies(PROTOCOL_ERROR), begin=h2.PREFACE + h2.ping())
def _(_client):
    pass


@case("4.1/1 a frame of unknown type")
def _(client):
    client.send(h2.frame(0xFF, 0, 0, b"whatever"))


@case("4.1/2 a flag that is not defined")
def _(client):
    client.send(h2.frame(PING, 0x16, 0, b"h2spec\0\0"))


@case("4.1/3 the reserved bit")
def _(client):
    client.send(h2.frame(PING, 0, 0x80000000, b"h2spec\0\0"))


@case("4.2/1 DATA of 2^14 bytes", answered(1))
def _(client):
    client.send(head(POST, flags=END_HEADERS), h2.data(1, bytes(16384), True))


@case("4.2/2 DATA above the frame size", resets_or_dies(1, FRAME_SIZE_ERROR))
def _(client):
    client.send(head(POST, flags=END_HEADERS), h2.data(1, bytes(16385), True))


@case("4.2/3 HEADERS above the frame size", dies(FRAME_SIZE_ERROR))
def _(client):
    client.send(head([*GET, ("x-long", "a" * 16384)]))


@case("4.3/1 a header block that is none", dies(COMPRESSION_ERROR))
def _(client):
    client.send(h2.frame(HEADERS, END_STREAM | END_HEADERS, 1, b"\x00\x00\x00\x00\x00\xff\xff"
                                                                b"\xff\xff\xff\xff\xff"))


@case("4.3/2 PRIORITY inside a header block", dies(PROTOCOL_ERROR))
def _(client):
    client.send(head(GET, flags=END_STREAM), h2.priority(1))


@case("4.3/3 HEADERS of another stream inside a header block", dies(PROTOCOL_ERROR))
def _(client):
    client.send(head(GET, flags=END_STREAM), head(GET, 3))


@case("5.1/1 idle: DATA", dies(PROTOCOL_ERROR))
def _(client):
    client.send(h2.data(1, b"test", True))


@case("5.1/2 idle: RST_STREAM", dies(PROTOCOL_ERROR))
def _(client):
    client.send(h2.rst_stream(1))


@case("5.1/3 idle: WINDOW_UPDATE", dies(PROTOCOL_ERROR))
def _(client):
    client.send(h2.window_update(1, 100))


@case("5.1/4 idle: CONTINUATION", dies(PROTOCOL_ERROR))
def _(client):
    client.send(h2.frame(CONTINUATION, END_HEADERS, 1, h2.block(GET)))


@case("5.1/5 half closed (remote): DATA", resets_or_dies(1, STREAM_CLOSED))
def _(client):
    client.send(head(SLOW), h2.data(1, b"test", True))


@case("5.1/6 half closed (remote): HEADERS", resets_or_dies(1, STREAM_CLOSED))
def _(client):
    client.send(head(SLOW), head(GET))


@case("5.1/7 half closed (remote): CONTINUATION", dies(PROTOCOL_ERROR, STREAM_CLOSED))
def _(client):
    client.send(head(SLOW), h2.frame(CONTINUATION, END_HEADERS, 1, h2.block(GET)))


@case("5.1/8 closed by RST_STREAM: DATA", resets_or_dies(1, STREAM_CLOSED))
def _(client):
    client.send(head(SLOW), h2.rst_stream(1), h2.data(1, b"test", True))


@case("5.1/9 closed by RST_STREAM: HEADERS", resets_or_dies(1, STREAM_CLOSED))
def _(client):
    client.send(head(SLOW), h2.rst_stream(1), head(GET))


@case("5.1/10 closed by RST_STREAM: CONTINUATION", dies(PROTOCOL_ERROR, STREAM_CLOSED))
def _(client):
    client.send(head(SLOW), h2.rst_stream(1), h2.frame(CONTINUATION, END_HEADERS, 1, h2.block(GET)))


@case("5.1/11 closed by END_STREAM: DATA", resets_or_dies(1, STREAM_CLOSED))
def _(client):
    client.ask(stream=1)
    client.send(h2.data(1, b"test", True))


@case("5.1/12 closed by END_STREAM: HEADERS", dies(STREAM_CLOSED))
def _(client):
    client.ask(stream=1)
    client.send(head(GET))


@case("5.1/13 closed by END_STREAM: CONTINUATION", dies(PROTOCOL_ERROR, STREAM_CLOSED))
def _(client):
    client.ask(stream=1)
    client.send(h2.frame(CONTINUATION, END_HEADERS, 1, h2.block(GET)))


@case("5.1.1/1 an even stream", dies(PROTOCOL_ERROR))
def _(client):
    client.send(head(GET, 2))


@case("5.1.1/2 a stream below an earlier one", dies(PROTOCOL_ERROR, STREAM_CLOSED))
def _(client):
    client.send(head(SLOW, 5), head(GET, 3))


@case("5.1.2/1 more streams than announced",
      resets_or_dies(1 + 2 * STREAMS, REFUSED_STREAM, PROTOCOL_ERROR))
def _(client):
    client.wait_settings()
    assert client.settings[h2.MAX_CONCURRENT_STREAMS] == STREAMS
    client.send(*(head(SLOW, 1 + 2 * i) for i in range(STREAMS + 1)))


@case("5.3.1/1 HEADERS that depend on themselves", resets_or_dies(1, PROTOCOL_ERROR))
def _(client):
    client.send(head(GET, flags=END_HEADERS | END_STREAM | PRIORITY_FLAG,
                     more=b"\x00\x00\x00\x01\xff"))


@case("5.3.1/2 PRIORITY that depends on itself", resets_or_dies(2, PROTOCOL_ERROR))
def _(client):
    client.send(h2.priority(2, 2))


@case("5.4.1/1 a connection error closes the connection", lambda client: client.expect_end())
def _(client):
    client.send(h2.frame(PING, 0, 3, b"12345678"))


@case("5.4.1/2 a connection error is told by GOAWAY", dies(PROTOCOL_ERROR))
def _(client):
    client.send(h2.frame(PING, 0, 3, b"12345678"))


@case("5.5/1 an extension frame")
def _(client):
    client.send(h2.frame(0xFF, 0, 1, b"whatever"))


@case("5.5/2 an extension frame inside a header block", dies(PROTOCOL_ERROR))
def _(client):
    client.send(head(GET, flags=END_STREAM), h2.frame(0xFF, 0, 1, b"whatever"))


@case("6.1/1 DATA on stream 0", dies(PROTOCOL_ERROR))
def _(client):
    client.send(h2.data(0, b"test", True))


@case("6.1/2 DATA on a stream that is not open", resets_or_dies(1, STREAM_CLOSED))
def _(client):
    client.send(head(SLOW), h2.data(1, b"test", True))


@case("6.1/3 DATA with more padding than payload", dies(PROTOCOL_ERROR))
def _(client):
    client.send(head(POST, flags=END_HEADERS),
                h2.frame(DATA, END_STREAM | PADDED, 1, b"\x06test"))


@case("6.2/1 PRIORITY between HEADERS and CONTINUATION", dies(PROTOCOL_ERROR))
def _(client):
    client.send(head(GET, flags=END_STREAM), h2.priority(1),
                h2.frame(CONTINUATION, END_HEADERS, 1, b""))


@case("6.2/2 HEADERS between HEADERS and CONTINUATION", dies(PROTOCOL_ERROR))
def _(client):
    client.send(head(GET, flags=END_STREAM), head(GET, 3),
                h2.frame(CONTINUATION, END_HEADERS, 1, b""))


@case("6.2/3 HEADERS on stream 0", dies(PROTOCOL_ERROR))
def _(client):
    client.send(head(GET, 0))


@case("6.2/4 HEADERS with more padding than payload", dies(PROTOCOL_ERROR))
def _(client):
    block = h2.block(GET)
    client.send(h2.frame(HEADERS, END_STREAM | END_HEADERS | PADDED, 1,
                         bytes([min(255, len(block) + 1)]) + block))


@case("6.3/1 PRIORITY on stream 0", dies(PROTOCOL_ERROR))
def _(client):
    client.send(h2.priority(0))


@case("6.3/2 PRIORITY of a wrong size", resets_or_dies(1, FRAME_SIZE_ERROR))
def _(client):
    client.send(head(SLOW), h2.frame(PRIORITY, 0, 1, b"\x80\x00\x00\x01"))


@case("6.4/1 RST_STREAM on stream 0", dies(PROTOCOL_ERROR))
def _(client):
    client.send(h2.rst_stream(0))


@case("6.4/2 RST_STREAM on an idle stream", dies(PROTOCOL_ERROR))
def _(client):
    client.send(h2.rst_stream(1))


@case("6.4/3 RST_STREAM of a wrong size", dies(FRAME_SIZE_ERROR))
def _(client):
    client.send(head(SLOW), h2.frame(RST_STREAM, 0, 1, b"\0\0\0"))


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


class Door:
    def __init__(self, world, context, sidecar):
        self._world = world
        self._context = context
        self.sidecar = sidecar

    def wire(self):
        if self._context is None:
            return self._world.client(self.sidecar.inbound)
        return self._world.tls_client(self.sidecar.inbound, self._context)


@pytest.fixture(scope="module", params=["cleartext", "tls"])
def door(request, module_world):
    app = module_world.service()
    limits = {"http2_streams": STREAMS}
    if request.param == "cleartext":
        return Door(module_world, None, module_world.hoplite(inbound_config(app.address, "http1", limits=limits)))
    authority = module_world.authority(name="ca")
    server, client = authority.issue("test", "podinfo"), authority.issue("default", "client")
    sidecar = module_world.hoplite(inbound_config(app.address, "http1", mtls=server.mtls(), limits=limits))
    return Door(module_world, tls.client_context(authority.ca, client, alpn=h2.ISTIO_H2), sidecar)


@pytest.mark.parametrize("violate, outcome, begin", CASES)
def test_case(door, violate, outcome, begin):
    with door.wire() as wire:
        client = h2.Client(wire, begin=begin)
        violate(client)
        outcome(client)


def test_the_table_is_complete():
    assert len(CASES) >= 147
