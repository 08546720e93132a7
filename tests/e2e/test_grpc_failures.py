"""gRPC calls that fail, read by a real client: the proxy's own answers, deadlines, cancellation."""

import threading
import time

import grpc
import pytest

from hoplite_e2e import http2 as h2
from hoplite_e2e import interop
from hoplite_e2e.calls import HOST, Way, check_calls, counted, open_channel, raw_call, status_of
from hoplite_e2e.deadline import poll_until, seconds
from hoplite_e2e.front import FullServer, free_address
from hoplite_e2e.interop import StreamingOutputCallRequest
from hoplite_e2e.ledger import wait_idle
from hoplite_e2e.topology import Pair, inbound_config, outbound_config, podinfo_at

CODE = grpc.StatusCode
CHECK = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"
SLEEP = f"/{interop.SERVICE}/StreamingOutputCall"


def limit():
    return seconds(20)


@pytest.fixture
def server():
    made = interop.InteropServer()
    yield made
    made.stop()


def sleeping(duration):
    return StreamingOutputCallRequest(response_parameters=[interop.sleep_us(duration)])


def failure(target, method=CHECK, authority=HOST):
    with open_channel(target, authority) as channel:
        return status_of(lambda: channel.unary_unary(method)(b"", timeout=limit()))


def outbound(world, *addresses, **sections):
    sidecar = world.hoplite(outbound_config(podinfo_at(*addresses), **sections))
    return sidecar, f"127.0.0.1:{sidecar.outbound}"


# --- the proxy's own answers ---------------------------------------------------------------------


def test_nobody_listens(world):
    sidecar, target = outbound(world, free_address())
    assert failure(target) == (CODE.UNAVAILABLE, "upstream connect error")
    check_calls(sidecar, {("200", "UF", "14"): 1})


def test_connecting_takes_too_long(world):
    with FullServer() as full:
        sidecar, target = outbound(world, full.address, timeouts={"connect": "200ms"})
        assert failure(target) == (CODE.UNAVAILABLE, "upstream connect timeout")
        check_calls(sidecar, {("200", "UF", "14"): 1})


def test_no_endpoint(world):
    sidecar, target = outbound(world)
    assert failure(target) == (CODE.UNAVAILABLE, "no healthy upstream")
    check_calls(sidecar, {("200", "UH", "14"): 1})


def test_no_such_service(world):
    sidecar, target = outbound(world, free_address())
    assert failure(target, authority="other.example") == (
        CODE.UNAVAILABLE, "no service is configured for this host")
    check_calls(sidecar, {("200", "-", "14"): 1})


def test_too_many_wait(world):
    with FullServer() as full:
        sidecar, target = outbound(world, full.address, limits={"upstream_connections": 1,
                                                                "upstream_pending": 0})
        with open_channel(target) as channel:
            call = channel.unary_unary(CHECK)
            waiting = call.future(b"", timeout=limit())
            sidecar.wait_total("hoplite_requests_in_flight", 1)
            assert status_of(lambda: call(b"", timeout=limit())) == (
                CODE.UNAVAILABLE, "too many requests are waiting")
            waiting.cancel()
        check_calls(sidecar, {("200", "UO", "14"): 1, ("0", "DC", ""): 1})


def test_an_upstream_that_hangs_up(world):
    upstream = world.raw_server(lambda wire, number: wire.read_exactly(len(h2.PREFACE)))
    sidecar, target = outbound(world, upstream.address)
    code, _ = failure(target)
    assert code == CODE.UNAVAILABLE
    check_calls(sidecar, {("200", "UC", "14"): 1})


def test_a_request_that_takes_too_long(world, server):
    sidecar, target = outbound(world, server.address, timeouts={"request": "2s"})
    with open_channel(target) as channel:
        call = interop.Stub(channel).StreamingOutputCall(sleeping(60), timeout=limit())
        assert status_of(lambda: next(call)) == (CODE.DEADLINE_EXCEEDED, "upstream request timeout")
    check_calls(sidecar, {("200", "UT", "4"): 1}, (1, 0))


def test_denied(world):
    app = world.service()
    pair = Pair(world, app.grpc_address)
    mtls = pair.server_identity.mtls(allow=["*/ns/other/*"])
    pair.server.reload(inbound_config(app.grpc_address, mtls=mtls))
    pair.server.wait_line("configuration taken", "stderr")
    assert failure(f"127.0.0.1:{pair.port}") == (CODE.PERMISSION_DENIED, "RBAC: access denied")
    for sidecar in (pair.client, pair.server):
        check_calls(sidecar, {7: 1})
    assert pair.server.metrics().total("hoplite_requests_denied_total", mode="enforced") == 1


# --- deadlines -----------------------------------------------------------------------------------


def check_late(sidecar):
    """One call, ended by its client, its server or our own clock: all of them know its deadline."""
    metrics = wait_idle(sidecar)
    assert counted(metrics) in ({("0", "DC", ""): 1}, {("200", "-", "4"): 1},
                                {("200", "UT", "4"): 1})


@pytest.mark.parametrize("kind", ["one", "two"])
def test_a_deadline_is_enforced(world, tmp_path, kind):
    """Between a client and a server neither of which knows of it; the server is told at once."""
    def only_reads(wire, number):
        wire.send(h2.settings())
        wire.read_until(h2.rst_stream(1))
        cancelled.append(number)

    cancelled = []
    way = Way(world, kind, world.raw_server(only_reads).address)
    began = time.monotonic()
    answer = raw_call(tmp_path, way.target, CHECK, headers=["grpc-timeout: 2S"])
    assert time.monotonic() - began >= 2.05
    assert answer[":status"] == "200"
    assert answer["content-type"] == "application/grpc"
    assert answer["grpc-status"] == "4"
    assert answer["grpc-message"] == "deadline exceeded"
    poll_until(lambda: cancelled == [0], "the server to be told")
    metrics = check_calls(way.sidecars[0], {("200", "UT", "4"): 1})
    assert metrics.total("hoplite_timeouts_total", timeout="grpc_deadline") == 1
    for sidecar in way.sidecars[1:]:
        check_late(sidecar)


def test_a_deadline_passes_while_connecting(world, tmp_path):
    with FullServer() as full:
        sidecar, target = outbound(world, full.address, timeouts={"connect": "60s"})
        answer = raw_call(tmp_path, target, CHECK, headers=["grpc-timeout: 300m"])
        assert (answer[":status"], answer["grpc-status"]) == ("200", "4")
        check_calls(sidecar, {("200", "UT", "4"): 1}, reporter="source")


def test_a_deadline_passes_while_the_client_sends(world):
    """The reply ends a call whose request has no end yet; its connection serves the next one."""
    way = Way(world, "two", world.service().grpc_address)
    client = h2.Client(world.client(int(way.target.split(":")[1])))
    head = {"method": "POST", "path": CHECK, "authority": HOST}
    grpc_type = ("content-type", "application/grpc")
    stream = client.request(headers=[grpc_type, ("grpc-timeout", "300m")], end=False, **head)
    client.send(h2.data(stream, b"\0\0\0"))
    answer = client.response(stream)
    assert (answer.status, answer.header("grpc-status"), answer.complete) == (200, "4", True)
    answer = client.ask(headers=[grpc_type], body=bytes(5), **head)
    assert ("grpc-status", "0") in answer.trailers
    metrics = wait_idle(way.sidecars[0])
    assert counted(metrics) == {("200", "UT", "4"): 1, ("200", "-", "0"): 1}


def test_an_answer_in_time_is_the_servers(world, server, tmp_path):
    way = Way(world, "two", server.address)
    answer = raw_call(tmp_path, way.target, SLEEP, sleeping(0.1).SerializeToString(),
                      ["grpc-timeout: 10S"])
    assert answer["grpc-status"] == "0"
    way.check({0: 1}, (1, 1))


def test_a_stream_that_has_begun_ends_with_our_status(world, tmp_path):
    way = Way(world, "one", world.service().grpc_address)
    answer = raw_call(tmp_path, way.target, WATCH, headers=["grpc-timeout: 2000000u"])
    assert answer.body == b"\0\0\0\0\x02\x08\x01"
    assert answer["grpc-status"] == "4"
    assert answer["grpc-message"] == "deadline exceeded"
    way.check({("200", "UT", "4"): 1}, (1, 1))


@pytest.mark.parametrize("text", ["1", "m", "0m", "123456789m", "-5m", "5x", "1.5S", "5 m"])
def test_a_malformed_deadline_is_left_to_the_server(world, tmp_path, text):
    way = Way(world, "one", world.service().grpc_address)
    answer = raw_call(tmp_path, way.target, CHECK, headers=[f"grpc-timeout: {text}"])
    assert answer["grpc-status"] == "0"
    way.check({0: 1}, (1, 1))


def test_a_clients_own_deadline(world, server):
    way = Way(world, "two", server.address)
    with way.channel() as channel:
        call = interop.Stub(channel).StreamingOutputCall(sleeping(60), timeout=3)
        code, _ = status_of(lambda: next(call))
    assert code == CODE.DEADLINE_EXCEEDED
    poll_until(lambda: server.ended, "the server to be told")
    for sidecar in way.sidecars:
        check_late(sidecar)


# --- cancellation --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["direct", "one", "two"])
def test_the_server_learns_at_once_that_its_client_left(world, server, kind):
    way = Way(world, kind, server.address)
    with way.channel() as channel:
        call = interop.Stub(channel).StreamingOutputCall(sleeping(60), timeout=limit())
        poll_until(lambda: server.begun, "the server to begin")
        call.cancel()
        assert call.code() == CODE.CANCELLED
        poll_until(lambda: server.ended, "the server to be told")
    way.check({("0", "DC", ""): 1}, (1, 0))


@pytest.mark.parametrize("kind", ["direct", "one", "two"])
def test_the_client_learns_at_once_that_its_server_died(world, kind):
    app = world.service()
    way = Way(world, kind, app.grpc_address)
    with way.channel() as channel:
        call = channel.unary_stream(WATCH)(b"", timeout=limit())
        assert next(call) == b"\x08\x01"
        world.kill(app)
        code, _ = status_of(lambda: next(call))
    # What a client makes of a connection that is gone, and of a stream that was reset.
    assert code in (CODE.UNAVAILABLE, CODE.INTERNAL, CODE.UNKNOWN, CODE.CANCELLED)
    # A lost connection for the sidecar beside the server, a reset stream for the other.
    for sidecar, flag in zip(reversed(way.sidecars), ("UC", "UR")):
        check_calls(sidecar, {("200", flag, "2"): 1}, (1, 1))


@pytest.mark.parametrize("begun", [False, True])
def test_the_client_learns_at_once_that_its_server_cancelled(world, begun):
    """Before the response it is an answer of ours, as in Envoy; within, a cancellation as well."""
    def cancels(wire, number):
        server = h2.Server(wire)
        stream = server.next_request()
        if begun:
            server.respond(stream, 200, b"", [("content-type", "application/grpc")], end=False)
            assert arrived.wait(seconds())
        server.send(h2.rst_stream(stream))
        server.expect_end(60)

    arrived = threading.Event()
    way = Way(world, "two", world.raw_server(cancels).address)
    with way.channel() as channel:
        call = channel.stream_stream(CHECK)(iter([b""]), timeout=limit())
        if begun:
            call.initial_metadata()
            arrived.set()
        code, _ = status_of(lambda: next(call))
    assert code == (CODE.CANCELLED if begun else CODE.UNAVAILABLE)
    # An answer of the sidecar beside the server is a server's answer to the other one.
    for sidecar, flag in zip(way.sidecars, ("UR", "UR") if begun else ("-", "UR")):
        check_calls(sidecar, {("200", flag, "2" if begun else "14"): 1})
