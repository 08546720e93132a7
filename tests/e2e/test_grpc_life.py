"""gRPC over time: servers that come, leave and ask to be left, clients that wait and try again.

Not single calls (test_grpc.py), nor how they fail (test_grpc_failures.py).
"""

import json

import grpc
import pytest

from hoplite_e2e import http2 as h2
from hoplite_e2e import interop
from hoplite_e2e.calls import Way, check_calls, open_channel, status_of
from hoplite_e2e.deadline import Deadline, poll_until, seconds
from hoplite_e2e.front import free_address
from hoplite_e2e.interop import Empty, Requests, outputs
from hoplite_e2e.topology import Pair, inbound_config, outbound_config, podinfo_at

CODE = grpc.StatusCode
WAIT = {"timeout": seconds(60)}


@pytest.fixture
def servers():
    """Makes servers, and stops them after the test."""
    made = []

    def make(**more):
        made.append(interop.InteropServer(**more))
        return made[-1]

    yield make
    for server in made:
        server.stop()


def test_a_server_that_ends_its_connections(world, servers):
    """MAX_CONNECTION_AGE, as servers behind balancers set it: GOAWAY again and again, none lost."""
    server = servers(options=[("grpc.max_connection_age_ms", 200)])
    way = Way(world, "two", server.address)
    beside = way.sidecars[1]
    calls = 0
    deadline = Deadline(60)
    with way.channel() as channel:
        stub = interop.Stub(channel)
        while beside.metrics().total("hoplite_http2_goaways_total", side="upstream",
                                     way="received") < 4:
            assert not deadline.passed(), "no GOAWAYs"
            for _ in range(20):
                stub.EmptyCall(Empty(), **WAIT)
            calls += 20
    way.check({0: calls}, (calls, calls))


def test_a_stream_outlives_its_connections_age(world, servers):
    """GOAWAY ends no call that is under way: it goes on while others get another connection."""
    server = servers(options=[("grpc.max_connection_age_ms", 200)])
    way = Way(world, "two", server.address)
    beside = way.sidecars[1]
    with way.channel() as channel:
        stub = interop.Stub(channel)
        ours = Requests()
        stream = stub.FullDuplexCall(iter(ours), **WAIT)
        ours.send(outputs(1))
        next(stream)
        poll_until(lambda: beside.metrics().total("hoplite_http2_goaways_total", side="upstream",
                                                  way="received") >= 1, "GOAWAY", 30)
        stub.EmptyCall(Empty(), **WAIT)
        ours.send(outputs(1))
        next(stream)
        ours.end()
        assert list(stream) == []
    way.check({0: 2}, (3, 3))


def test_a_server_of_one_stream_at_a_time(world, servers):
    """More calls at once than it takes on a connection: they get others, unseen by the client."""
    server = servers(options=[("grpc.max_concurrent_streams", 1)])
    way = Way(world, "two", server.address)
    with way.channel() as channel:
        stub = interop.Stub(channel)
        for call in [stub.EmptyCall.future(Empty(), **WAIT) for _ in range(30)]:
            assert call.result() == Empty()
    way.check({0: 30}, (30, 30))
    assert way.sidecars[1].metrics().total("hoplite_connections_accepted_total") == 1


def test_a_server_that_comes_later(world, servers):
    """Its sidecar is there all along, so even a client that would wait is told at once."""
    address = free_address()
    way = Way(world, "two", address)
    with way.channel() as channel:
        stub = interop.Stub(channel)
        code, _ = status_of(lambda: stub.EmptyCall(Empty(), wait_for_ready=True, **WAIT))
        assert code == CODE.UNAVAILABLE
        servers(address=address)
        stub.EmptyCall(Empty(), **WAIT)
    check_calls(way.sidecars[0], {("200", "-", "14"): 1, 0: 1})
    check_calls(way.sidecars[1], {("200", "UF", "14"): 1, 0: 1})


def test_a_client_that_waits_for_its_sidecar(world, servers):
    """wait_for_ready: the call is made when the sidecar, restarted, listens."""
    server = servers()
    listen = free_address()
    with open_channel(listen) as channel:
        call = interop.Stub(channel).EmptyCall.future(Empty(), wait_for_ready=True, **WAIT)
        config = outbound_config(podinfo_at(server.address))
        config["outbound"]["listen"] = listen
        sidecar = world.hoplite(config)
        assert call.result(seconds(60)) == Empty()
    check_calls(sidecar, {0: 1}, (1, 1), reporter="source")


def test_clients_may_try_again(world):
    """The proxy's reply is trailers-only, so a client's retry policy takes it for never begun."""
    def script(wire, number):
        if number == 0:
            wire.read_exactly(len(h2.PREFACE))
            return
        server = h2.Server(wire)
        stream = server.next_request()
        server.complete(stream)
        server.respond(stream, 200, b"\0\0\0\0\0", [("content-type", "application/grpc")],
                       [("grpc-status", "0")])
        server.expect_end(60)

    way = Way(world, "two", world.raw_server(script).address)
    policy = {"methodConfig": [{"name": [{}], "retryPolicy": {
        "maxAttempts": 3, "initialBackoff": "0.01s", "maxBackoff": "0.1s", "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"]}}]}
    with way.channel(**{"grpc.enable_retries": 1,
                        "grpc.service_config": json.dumps(policy)}) as channel:
        assert interop.Stub(channel).EmptyCall(Empty(), **WAIT) == Empty()
    check_calls(way.sidecars[0], {("200", "-", "14"): 1, 0: 1})
    check_calls(way.sidecars[1], {("200", "UC", "14"): 1, 0: 1})


def test_restart_of_the_server(world, servers):
    """The same channel, and the same connection between the sidecars, before and after."""
    address = free_address()
    first = servers(address=address)
    way = Way(world, "two", address)
    with way.channel() as channel:
        stub = interop.Stub(channel)
        stub.EmptyCall(Empty(), **WAIT)
        first.stop()
        poll_until(lambda: way.sidecars[1].metrics().total("hoplite_upstream_connections_open")
                   == 0, "the old connection to end")
        servers(address=address)
        stub.EmptyCall(Empty(), **WAIT)
    way.check({0: 2}, (2, 2))
    assert way.sidecars[1].metrics().total("hoplite_connections_accepted_total") == 1


# --- trust that changes under live connections ---------------------------------------------------


def taken(sidecar, config):
    before = sidecar.metrics().total("hoplite_reloads_total", result="accepted")
    sidecar.reload(config)
    sidecar.wait_total("hoplite_reloads_total", before + 1, result="accepted")


def test_allow_rules_hold_for_the_next_call(world, servers):
    """Denied and let in again on the same connections; a stream that was let in goes on."""
    server = servers()
    pair = Pair(world, server.address)
    with open_channel(f"127.0.0.1:{pair.port}") as channel:
        stub = interop.Stub(channel)
        ours = Requests()
        stream = stub.FullDuplexCall(iter(ours), **WAIT)
        ours.send(outputs(1))
        next(stream)
        for allowed in ("*/ns/other/*", "*/ns/default/*"):
            taken(pair.server, inbound_config(server.address, mtls=pair.server_identity.mtls(
                allow=[allowed])))
            if allowed == "*/ns/other/*":
                assert status_of(lambda: stub.EmptyCall(Empty(), **WAIT)) == (
                    CODE.PERMISSION_DENIED, "RBAC: access denied")
            else:
                stub.EmptyCall(Empty(), **WAIT)
            ours.send(outputs(1))
            next(stream)
        ours.end()
        assert list(stream) == []
    for sidecar, reporter in ((pair.client, "source"), (pair.server, "destination")):
        check_calls(sidecar, {0: 2, 7: 1}, reporter=reporter)
    assert pair.server.metrics().total("hoplite_connections_accepted_total") == 1


def test_a_removed_ca_holds_for_the_next_call(world, servers):
    """The next call is refused by a reply, and the connection leaves when the stream that was begun
    before ends; no other connection is let in."""
    server = servers()
    theirs, ours = world.authority(name="theirs"), world.authority(name="ours")
    both = world.folder / "both.pem"
    both.write_bytes(theirs.ca.read_bytes() + ours.ca.read_bytes())
    identity = ours.issue("test", "podinfo")
    beside = world.hoplite(inbound_config(server.address, mtls={**identity.mtls(),
                                                                "ca": str(both)}))
    tls = {"mode": "mutual", "sans": [identity.principal]}
    client = world.hoplite(outbound_config(
        podinfo_at(f"127.0.0.1:{beside.inbound}", tls=tls),
        mtls={**theirs.issue("default", "client").mtls(), "ca": str(both)}))
    with open_channel(f"127.0.0.1:{client.outbound}") as channel:
        stub = interop.Stub(channel)
        ours = Requests()
        stream = stub.FullDuplexCall(iter(ours), **WAIT)
        ours.send(outputs(1))
        next(stream)
        taken(beside, inbound_config(server.address, mtls=identity.mtls()))
        assert status_of(lambda: stub.EmptyCall(Empty(), **WAIT)) == (
            CODE.PERMISSION_DENIED, "peer is not trusted any more")
        ours.send(outputs(1))
        next(stream)
        ours.end()
        assert list(stream) == []
        client.wait_total("hoplite_upstream_connections_open", 0)
        code, _ = status_of(lambda: stub.EmptyCall(Empty(), **WAIT))
        assert code == CODE.UNAVAILABLE
    metrics = check_calls(beside, {0: 1, 7: 1}, reporter="destination",
                          connection_security_policy="mutual_tls")
    assert metrics.total("hoplite_tls_handshakes_total", direction="inbound",
                         cause="unknown_ca") >= 1
    check_calls(client, {0: 1, 7: 1, ("200", "UF", "14"): 1}, reporter="source")
