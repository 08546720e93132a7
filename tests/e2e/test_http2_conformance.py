"""RFC 9113 from outside, sections 3 to 6.4: the cases that h2spec (strict) has for a server, in our own
words, on cleartext and on TLS. Each says what is sent, and which error, if any, must come of it.

Not floods (test_http2_floods.py) and not what reaches an app (test_http2_smuggling.py).
"""

import pytest

from hoplite_e2e import http2 as h2
from hoplite_e2e.conformance import (
    Table, GET, POST, SLOW, STREAMS, answered, dies, head, open_door, resets_or_dies, try_case)
from hoplite_e2e.http2 import (
    COMPRESSION_ERROR, CONTINUATION, DATA, END_HEADERS, END_STREAM, FRAME_SIZE_ERROR, HEADERS,
    PADDED, PING, PRIORITY, PRIORITY_FLAG, PROTOCOL_ERROR, REFUSED_STREAM, RST_STREAM, SETTINGS,
    STREAM_CLOSED)

TABLE = Table()
case = TABLE.case


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


# --- the table is run -----------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["cleartext", "tls"])
def door(request, module_world):
    return open_door(module_world, request.param)


@pytest.mark.parametrize("violate, outcome, begin", TABLE.cases)
def test_case(door, violate, outcome, begin):
    try_case(door, violate, outcome, begin)
