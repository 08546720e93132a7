"""Too much of what HTTP/2 allows a client to send: ended with the right error, counted by kind, and at no
cost in memory. One connection each against a sidecar that all share; others are served throughout."""

import struct

import pytest

from hoplite_e2e import http2 as h2
from hoplite_e2e.deadline import poll_until
from hoplite_e2e.http2 import (
    COMPRESSION_ERROR, CONTINUATION, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR, HEADERS, PRIORITY, PROTOCOL_ERROR)
from hoplite_e2e.ledger import wait_idle
from hoplite_e2e.raw import Closed
from hoplite_e2e.topology import inbound_config

GET = [(":method", "GET"), (":scheme", "http"), (":authority", "localhost"), (":path", "/delay/30")]
POST = [(":method", "POST"), *GET[1:3], (":path", "/echo")]
BLOCK = h2.block(GET)
STREAMS = 50
RESETS = 100
#: What a flood may leave behind, in KiB: chunks and streams that are kept for the next request.
SPARE_KIB = 12 * 1024


def rss(process):
    with open(f"/proc/{process.pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


@pytest.fixture(scope="module")
def sidecar(module_world):
    return module_world.hoplite(inbound_config(
        module_world.service().address, "http1", workers=1,
        limits={"http2_streams": STREAMS, "http2_resets": RESETS},
        timeouts={"body_idle": "3s"}))


@pytest.fixture
def client(module_world, sidecar):
    made = h2.Client(module_world.client(sidecar.inbound))
    made.wait_settings()
    yield made
    made.close()


def head(stream, end=True, block=BLOCK):
    return h2.frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, block)


def keep_sending(client, make, most):
    """Frames by the hundred until the other side has had enough, reading nothing meanwhile."""
    for first in range(0, most, 100):
        try:
            client.send(b"".join(make(number) for number in range(first, first + 100)))
        except OSError:
            return


def stream_of(number):
    return 2 * number + 1


FLOODS = {
    "rapid_reset": lambda n: head(stream_of(n)) + h2.rst_stream(stream_of(n)),
    "settings": lambda n: h2.settings({h2.INITIAL_WINDOW_SIZE: 65535}),
    "ping": lambda n: h2.ping(b"%08d" % n),
    "empty_data": lambda n: (head(1, False, h2.block(POST)) if n == 0 else b"") + h2.data(1),
    "window_update": lambda n: (head(1) if n == 0 else b"") + h2.window_update(1, 1),
    "priority": lambda n: h2.priority(1, 0),
    "goaway": lambda n: (head(1) if n == 0 else b"") + h2.goaway(0),
    "extension": lambda n: h2.frame(0xC, 0, 0, b"\0\x08http://a"),  # ORIGIN, which servers send
}


def expect_counted(sidecar, kind, before):
    poll_until(lambda: sidecar.metrics().total("hoplite_http2_floods_total", kind=kind) == before + 1,
               lambda: f"one flood of {kind} more than {before}: "
                       + sidecar.metrics().text("hoplite_http2_floods_total"))


def counted(sidecar, kind):
    return sidecar.metrics().total("hoplite_http2_floods_total", kind=kind)


def expect_others_served(module_world, sidecar):
    other = h2.Client(module_world.client(sidecar.inbound))
    assert other.ask().status == 200
    other.close()
    wait_idle(sidecar)


@pytest.mark.parametrize("kind", FLOODS)
def test_frames_without_end(module_world, sidecar, client, sanitized, kind):
    before, memory = counted(sidecar, kind), rss(sidecar)
    keep_sending(client, FLOODS[kind], 20000)
    client.read_until(lambda: [g for g in client.goaways if g.code], "the GOAWAY")
    assert [g.code for g in client.goaways if g.code] == [ENHANCE_YOUR_CALM]
    client.expect_end()
    expect_counted(sidecar, kind, before)
    expect_others_served(module_world, sidecar)
    assert sanitized or rss(sidecar) - memory < SPARE_KIB


def test_data_of_nothing_but_padding(module_world, sidecar, client):
    before = counted(sidecar, "empty_data")
    client.send(head(1, False, h2.block(POST)))
    keep_sending(client, lambda n: h2.data(1, padding=n % 3), 5000)
    client.expect_goaway(ENHANCE_YOUR_CALM)
    expect_counted(sidecar, "empty_data", before)
    expect_others_served(module_world, sidecar)


def test_settings_with_thousands_of_entries(module_world, sidecar, client):
    before = counted(sidecar, "settings")
    entry = struct.pack("!HI", h2.INITIAL_WINDOW_SIZE, 65535)
    client.send(h2.frame(h2.SETTINGS, 0, 0, entry * 2000))
    client.expect_goaway(ENHANCE_YOUR_CALM)
    expect_counted(sidecar, "settings", before)
    expect_others_served(module_world, sidecar)


@pytest.mark.parametrize("provoke", [
    lambda s: head(s, False) + h2.data(s, b"x", True) + h2.data(s, b"x"),
    lambda s: head(s) + head(s),
    lambda s: head(s, False) + h2.window_update(s, 0),
    lambda s: head(s, False) + h2.window_update(s, 0x7FFFFFFF) + h2.window_update(s, 0x7FFFFFFF),
    lambda s: head(s, False) + h2.frame(PRIORITY, 0, s, struct.pack("!IB", s, 0)),
    lambda s: head(s, block=h2.block([*GET, ("X-UPPER", "1")])),
    lambda s: head(s, False, h2.block([*POST, ("content-length", "1")])) + h2.data(s, b"12", True),
], ids=["DATA behind the end", "HEADERS behind the end", "a window update of 0",
        "a window overflowed", "a dependency on itself", "a malformed head", "too much DATA"])
def test_provoked_resets(module_world, sidecar, client, provoke):
    """Known as MadeYouReset (CVE-2025-8671): the server sends the resets, the client pays nothing for
    them, and never has more streams than were announced. Either the first fault ends the connection,
    or they are counted and bounded."""
    before = counted(sidecar, "provoked_reset")
    for first in range(0, 20000, STREAMS // 2):
        try:
            client.send(*(provoke(stream_of(first + n)) for n in range(STREAMS // 2)))
            client.round_trip()
        except (Closed, OSError):
            break
    client.read_until(lambda: [g for g in client.goaways if g.code], "the GOAWAY")
    end = client.goaways[-1]
    if end.code == ENHANCE_YOUR_CALM:
        expect_counted(sidecar, "provoked_reset", before)
    else:
        assert end.code in (PROTOCOL_ERROR, h2.STREAM_CLOSED) and end.last == 1
    client.expect_end()
    expect_others_served(module_world, sidecar)


def test_more_streams_than_announced(module_world, sidecar):
    """Refused one by one as long as the client need not know the limit, and then no more."""
    before = counted(sidecar, "refused_streams")
    client = h2.Client(module_world.client(sidecar.inbound), acknowledge=False)
    keep_sending(client, lambda n: head(stream_of(n)), 20000)
    client.read_until(lambda: [g for g in client.goaways if g.code], "the GOAWAY")
    assert client.goaways[-1].code == ENHANCE_YOUR_CALM
    assert {m.reset for m in client.messages.values()} == {h2.REFUSED_STREAM}
    client.close()
    expect_counted(sidecar, "refused_streams", before)
    expect_others_served(module_world, sidecar)


def test_resets_at_the_pace_of_a_busy_client_are_served(sidecar, client):
    """Below limits.http2_resets nothing happens: clients do cancel."""
    for number in range(RESETS - 10):
        client.send(head(stream_of(number)), h2.rst_stream(stream_of(number)))
    assert client.ask(stream=1001).status == 200
    assert not client.goaways


def test_a_header_block_without_end(module_world, sidecar, client, sanitized):
    before, memory = counted(sidecar, "continuation"), rss(sidecar)
    client.send(h2.frame(HEADERS, END_STREAM, 1, BLOCK))
    field = h2.literal("x-a", "1")
    keep_sending(client, lambda n: h2.frame(CONTINUATION, 0, 1, field), 20000)
    client.expect_goaway(ENHANCE_YOUR_CALM)
    expect_counted(sidecar, "continuation", before)
    expect_others_served(module_world, sidecar)
    assert sanitized or rss(sidecar) - memory < SPARE_KIB


def test_a_header_block_of_empty_continuations(module_world, sidecar, client):
    before = counted(sidecar, "continuation")
    client.send(h2.frame(HEADERS, END_STREAM, 1, BLOCK))
    keep_sending(client, lambda n: h2.frame(CONTINUATION, 0, 1, b""), 20000)
    client.expect_goaway(ENHANCE_YOUR_CALM)
    expect_counted(sidecar, "continuation", before)
    expect_others_served(module_world, sidecar)


def test_hpack_bomb(module_world, sidecar, client, sanitized):
    """A field of 4,000 bytes in the table, named thousands of times with one byte each."""
    before, memory = counted(sidecar, "hpack_bomb"), rss(sidecar)
    bomb = BLOCK + b"\x40\x01a" + h2.length_of(b"x" * 3900) + b"x" * 3900
    client.send(h2.frame(HEADERS, 0, 1, bomb), h2.frame(CONTINUATION, END_HEADERS, 1, b"\xbe" * 16000))
    client.read_until(lambda: [g for g in client.goaways if g.code], "the GOAWAY")
    assert client.goaways[-1].code in (ENHANCE_YOUR_CALM, COMPRESSION_ERROR)
    client.expect_end()
    expect_counted(sidecar, "hpack_bomb", before)
    expect_others_served(module_world, sidecar)
    assert sanitized or rss(sidecar) - memory < SPARE_KIB


@pytest.mark.parametrize("more", [
    [("x-long", "a" * 9000)] * 8,
    [(f"x-{number}", "1") for number in range(150)],
], ids=["bytes", "fields"])
def test_header_list_past_the_limit(sidecar, client, more):
    """A request too large by itself is answered, and the connection goes on."""
    before = counted(sidecar, "header_list")
    message = client.ask(path="/version", headers=more)
    assert message.status == 431
    expect_counted(sidecar, "header_list", before)
    assert client.ask().status == 200
    assert not client.goaways


def test_window_overflow(module_world, sidecar, client):
    before = counted(sidecar, "window_overflow")
    client.send(h2.window_update(0, 0x7FFFFFFF))
    client.expect_goaway(FLOW_CONTROL_ERROR)
    expect_counted(sidecar, "window_overflow", before)
    expect_others_served(module_world, sidecar)


def test_more_data_than_the_window(module_world, sidecar, client, sanitized):
    """The app takes none of it: credit is spent after a window, and the rest is an error."""
    memory = rss(sidecar)
    client.send(head(1, False, h2.block([*POST[:3], (":path", "/delay/30")])))
    window = client.settings.get(h2.INITIAL_WINDOW_SIZE, 65535)
    client.credit = False
    try:
        for _ in range(200):
            client.send(h2.data(1, bytes(16384)))
    except OSError:
        pass
    message = client.message(1)
    try:
        client.read_until(lambda: message.reset is not None or client.goaways, "an error")
    except Closed:
        pytest.fail("closed without a word")
    code = message.reset if message.reset is not None else client.goaways[0].code
    assert code == FLOW_CONTROL_ERROR, (window, code)
    expect_others_served(module_world, sidecar)
    assert sanitized or rss(sidecar) - memory < SPARE_KIB


def test_zero_windows_held_open(module_world, sidecar, sanitized):
    """Answers that nobody lets out: bounded while they wait, gone after timeouts.body_idle."""
    memory, before = rss(sidecar), counted(sidecar, "zero_window")
    clients = [h2.Client(module_world.client(sidecar.inbound), {h2.INITIAL_WINDOW_SIZE: 0})
               for _ in range(4)]
    for client in clients:
        client.wait_settings()
        for number in range(STREAMS):
            client.request(path="/bytes/10000000", stream=stream_of(number))
    for client in clients:
        for number in range(STREAMS):
            message = client.message(stream_of(number))
            client.read_until(lambda: message.reset is not None or client.goaways, "an end")
            assert message.body == b""
        client.close()
    wait_idle(sidecar)
    assert counted(sidecar, "zero_window") == before + 4 * STREAMS
    # At most a window for each of them, and what one read brought.
    assert sanitized or rss(sidecar) - memory < SPARE_KIB + 4 * STREAMS * 2 * 64
    expect_others_served(module_world, sidecar)


def test_answers_to_pings_that_nobody_reads(module_world, sidecar, sanitized):
    memory = rss(sidecar)
    wire = module_world.client(sidecar.inbound)
    wire.send(h2.PREFACE + h2.settings())
    try:
        for _ in range(500):
            wire.send(h2.ping() * 1000)
    except (OSError, AssertionError):
        pass
    wire.close()
    expect_others_served(module_world, sidecar)
    assert sanitized or rss(sidecar) - memory < SPARE_KIB
