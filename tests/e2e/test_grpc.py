"""gRPC calls of every kind, many and large: without a proxy, through one sidecar, through two."""

import concurrent.futures
import os
import queue

import grpc
import pytest

from hoplite_e2e.calls import REQUESTS, WAYS, Way, check_calls, raw_call, status_of, wait_messages
from hoplite_e2e.deadline import poll_until, seconds
from hoplite_e2e.topology import inbound_config, outbound_config, podinfo_at

ECHO = "/echo.EchoService/"
CHECK = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"
SERVING = b"\x08\x01"
GZIP = grpc.Compression.Gzip


def limit():
    return seconds(60)


@pytest.fixture(params=WAYS)
def way(request, world):
    return Way(world, request.param, world.service(name="podinfo").grpc_address)


@pytest.fixture
def two(world):
    return Way(world, "two", world.service(name="podinfo").grpc_address)


@pytest.fixture
def channel(way):
    with way.channel() as made:
        yield made


def feed():
    """A queue and an iterator over what is put into it, until None."""
    items = queue.Queue()
    return items, iter(items.get, None)


def test_unary(way, channel):
    call = channel.unary_unary(ECHO + "Echo")
    for size in (1, 10, 100_000, 1):
        sent = os.urandom(size)
        assert call(sent, timeout=limit()) == sent
    way.check({0: 4}, (4, 4))


def test_client_streaming(way, channel):
    parts = [os.urandom(size) for size in (0, 1, 70_000, 5)]
    assert channel.stream_unary(ECHO + "Collect")(iter(parts), timeout=limit()) == b"".join(parts)
    way.check({0: 1}, (4, 1))


def test_server_streaming(way, channel):
    call = channel.unary_stream(ECHO + "Repeat")
    answers = call(b"again", timeout=limit(), metadata=(("x-echo-count", "250"),))
    assert list(answers) == [b"again"] * 250
    way.check({0: 1}, (1, 250))


def test_bidirectional_streaming(way, channel):
    """Each message is answered before the next one is sent."""
    items, ours = feed()
    call = channel.stream_stream(ECHO + "Chat")(ours, timeout=limit())
    for number in range(100):
        items.put(b"%d" % number)
        assert next(call) == b"%d" % number
    items.put(None)
    assert list(call) == []
    way.check({0: 1}, (100, 100))


def test_health(way, channel):
    check = channel.unary_unary(CHECK)
    assert check(b"", timeout=limit()) == SERVING
    assert check(b"\x0a\x07podinfo", timeout=limit()) == SERVING
    code, _ = status_of(lambda: check(b"\x0a\x05other", timeout=limit()))
    assert code == grpc.StatusCode.NOT_FOUND
    way.check({0: 2, 5: 1}, (3, 2))


@pytest.mark.parametrize("size", [1_000_000, 20_000_000])
def test_large_messages(two, size):
    sent = os.urandom(1000) * (size // 1000)
    with two.channel() as channel:
        assert channel.unary_unary(ECHO + "Echo")(sent, timeout=limit()) == sent
    two.check({0: 1}, (1, 1))


def test_many_messages_of_every_size(two):
    """Prefixes fall on every place of a DATA frame, and the count stays exact."""
    parts = [bytes(size % 700) for size in range(5000)]
    with two.channel() as channel:
        answers = channel.stream_stream(ECHO + "Chat")(iter(parts), timeout=limit())
        assert list(answers) == parts
    two.check({0: 1}, (5000, 5000))


def test_compression_is_left_alone(way, channel):
    """The service sends back the compressed bytes it got, without looking into them."""
    sent = bytes(200_000)
    assert channel.unary_unary(ECHO + "Echo")(sent, compression=GZIP, timeout=limit()) == sent
    answers = channel.stream_stream(ECHO + "Chat")(iter([sent, b"", sent]), compression=GZIP,
                                                   timeout=limit())
    assert list(answers) == [sent, b"", sent]
    way.check({0: 2}, (4, 4))
    for sidecar in way.sidecars:
        for family in ("istio_request_bytes_sum", "istio_response_bytes_sum"):
            assert sidecar.metrics().total(family) < 5000


# With the blocking API and its threads: Debian's grpc.aio may hang at the end of asyncio.run() when
# many calls end at once (https://github.com/grpc/grpc/pull/40989).


def test_ten_thousand_calls_on_one_connection(two, sanitized):
    wanted = 1000 if sanitized else 10_000
    with two.channel() as channel, concurrent.futures.ThreadPoolExecutor(50) as workers:
        call = channel.unary_unary(ECHO + "Echo")
        texts = [b"%d" % number for number in range(wanted)]
        assert list(workers.map(lambda text: call(text, timeout=limit()), texts)) == texts
    two.check({0: wanted}, (wanted, wanted))
    for sidecar in two.sidecars:
        assert sidecar.metrics().total("hoplite_connections_accepted_total") == 1


def test_a_thousand_streams_at_once(two, sanitized):
    """All of them are open, and have got a message, before the first one ends."""
    wanted = 200 if sanitized else 1000
    with two.channel() as channel:
        call = channel.stream_stream(ECHO + "Chat")
        feeds = [feed() for _ in range(wanted)]
        calls = [call(ours, timeout=seconds(300)) for _, ours in feeds]
        for text in (b"first", b"second"):
            for items, _ in feeds:
                items.put(text)
            for each in calls:
                assert next(each) == text
        for sidecar in two.sidecars:
            assert sidecar.metrics().total("hoplite_requests_in_flight") == wanted
        for items, _ in feeds:
            items.put(None)
        for each in calls:
            assert list(each) == [] and each.code() == grpc.StatusCode.OK
    two.check({0: wanted}, (2 * wanted, 2 * wanted))


def test_messages_are_told_of_while_the_stream_lives(two):
    items, ours = feed()
    with two.channel() as channel:
        call = channel.stream_stream(ECHO + "Chat")(ours, timeout=limit())
        for text in (b"a", b"b", b"c"):
            items.put(text)
            assert next(call) == text
        for sidecar in two.sidecars:
            wait_messages(sidecar, (3, 3))
            metrics = sidecar.metrics()
            assert metrics.total(REQUESTS) == 0
            assert metrics.total("hoplite_requests_in_flight") == 1
        items.put(b"d")
        assert next(call) == b"d"
        items.put(None)
        assert list(call) == []
    two.check({0: 1}, (4, 4))


def test_a_watch_ends_when_its_client_leaves(two):
    with two.channel() as channel:
        call = channel.unary_stream(WATCH)(b"", timeout=limit())
        assert next(call) == SERVING
        call.cancel()
        poll_until(lambda: all(s.metrics().total("hoplite_requests_in_flight") == 0
                               for s in two.sidecars), "nothing in flight")
    two.check({("200", "DC", "2"): 1}, (1, 1))


def test_labels_of_calls_and_of_messages(two):
    with two.channel() as channel:
        channel.unary_unary(CHECK)(b"", timeout=limit())
    two.check({0: 1}, (1, 1))
    for sidecar, reporter in zip(two.sidecars, ("source", "destination")):
        metrics = sidecar.metrics()
        call = metrics.one(REQUESTS)
        assert call["reporter"] == reporter and call["request_protocol"] == "grpc"
        names = ("request_protocol", "response_code", "grpc_response_status", "response_flags",
                 "connection_security_policy")
        base = {name: value for name, value in call.items() if name not in names}
        assert len(base) == 20
        assert base["source_workload"] == "client-v1"
        assert base["destination_workload"] == "podinfo-v1"
        for family in ("istio_request_messages_total", "istio_response_messages_total"):
            assert metrics.one(family) == base


@pytest.mark.parametrize("kind", ["application/grpc-web", "application/grpc-web+proto",
                                  "application/json"])
def test_what_is_not_grpc_counts_as_http(two, tmp_path, kind):
    answer = raw_call(tmp_path, two.target, "/version", kind=kind)
    assert answer[":status"] == "200"
    two.check({("200", "-", ""): 1}, protocol="http")


@pytest.mark.parametrize("between", ["auto", "http2"])
def test_calls_cross_to_and_from_http1(world, tmp_path, between):
    """A call over HTTP/1 to a service of HTTP/2: messages, trailers and labels are kept."""
    app = world.service(name="podinfo")
    server = world.hoplite(inbound_config(app.grpc_address, inbound={
        "listen": "127.0.0.1:0", "app": app.grpc_address, "protocol": "http2"}))
    client = world.hoplite(outbound_config(podinfo_at(f"127.0.0.1:{server.inbound}",
                                                      protocol=between)))
    answer = raw_call(tmp_path, f"127.0.0.1:{client.outbound}", CHECK, version="--http1.1")
    assert answer[":status"] == "200"
    assert answer.body == b"\0\0\0\0\x02" + SERVING
    assert answer["grpc-status"] == "0"
    answer = raw_call(tmp_path, f"127.0.0.1:{client.outbound}", CHECK, b"\x0a\x05other",
                      version="--http1.1")
    assert answer["grpc-status"] == "5"
    for sidecar in (client, server):
        check_calls(sidecar, {0: 1, 5: 1}, (2, 1))
