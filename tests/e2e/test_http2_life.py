"""The life of HTTP/2 connections: shutdown, reload, idle ends. Not what is sent on them (test_http2.py)."""

import contextlib

from hoplite_e2e import http2 as h2
from hoplite_e2e.ledger import expect_ends
from hoplite_e2e.raw import Closed
from hoplite_e2e.topology import inbound_config


def inbound(world, app, protocol="http1", **more):
    return world.hoplite(inbound_config(app, protocol, **more))


def test_graceful_shutdown(world):
    """Two GOAWAYs: what is under way is answered, and so is what was sent before the first came."""
    sidecar = inbound(world, world.service().address)
    client = h2.Client(world.client(sidecar.inbound))
    client.wait_settings()
    slow = client.request(path="/delay/1")
    client.round_trip()
    sidecar.signal(15)
    client.read_until(lambda: client.goaways, "the first GOAWAY")
    assert (client.goaways[0].last, client.goaways[0].code) == (0x7FFFFFFF, h2.NO_ERROR)
    assert client.response(slow).status == 200
    client.read_until(lambda: len(client.goaways) == 2, "the second GOAWAY")
    assert (client.goaways[1].last, client.goaways[1].code) == (slow, h2.NO_ERROR)
    client.expect_end()
    assert sidecar.wait(20) == 0


def test_shutdown_under_load_loses_nothing(world, sanitized):
    """Whatever is not answered was above the last stream id, or never sent."""
    sidecar = inbound(world, world.service().address)
    client = h2.Client(world.client(sidecar.inbound))
    client.wait_settings()
    sent = []
    for _ in range(50):
        sent.append(client.request())
    client.response(sent[0])
    sidecar.signal(15)
    with contextlib.suppress(Closed, OSError):
        while len(client.goaways) < 2:
            sent.append(client.request())
            client.round_trip() if not client.goaways else client.read_frame()
    last = client.goaways[-1].last
    client.expect_end()
    for stream in sent:
        if stream <= last:
            assert client.message(stream).complete and client.message(stream).status == 200
    assert sidecar.wait(20) == 0


def test_reload_under_load(world, sanitized):
    app = world.service()
    config = inbound_config(app.address, "http1")
    sidecar = world.hoplite(config)
    client = h2.Client(world.client(sidecar.inbound))
    asked = 0
    for number in range(5):
        streams = [client.request() for _ in range(50)]
        sidecar.reload({**config, "timeouts": {"body_idle": f"{50 + number}s"}})
        for stream in streams:
            assert client.response(stream).status == 200
        asked += len(streams)
        sidecar.wait_total("hoplite_reloads_total", number + 1, what="configuration",
                           result="accepted")
    assert not client.goaways
    expect_ends(sidecar, {("200", "-"): asked})


def test_plaintext_leaves_when_strict_begins(world):
    app = world.service()
    authority = world.authority()
    identity = authority.issue("test", "podinfo")
    config = inbound_config(app.address, "http1", mtls=identity.mtls("permissive"))
    sidecar = world.hoplite(config)
    client = h2.Client(world.client(sidecar.inbound))
    assert client.ask().status == 200
    slow = client.request(path="/delay/0.5")
    client.round_trip()
    sidecar.reload({**config, "mtls": identity.mtls("strict")})
    client.read_until(lambda: client.goaways, "GOAWAY")
    assert client.response(slow).status == 200
    client.expect_end()


def test_requests_per_connection(world):
    sidecar = inbound(world, world.service().address, limits={"requests_per_connection": 3})
    client = h2.Client(world.client(sidecar.inbound))
    for _ in range(3):
        assert client.ask().status == 200
    client.read_until(lambda: client.goaways, "GOAWAY")
    assert client.goaways[-1].code == h2.NO_ERROR
    client.expect_end()


def test_idle_connections_are_told(world):
    sidecar = inbound(world, world.service().address, timeouts={"idle": "2s"})
    client = h2.Client(world.client(sidecar.inbound))
    assert client.ask().status == 200
    client.read_until(lambda: client.goaways, "GOAWAY")
    client.expect_end()
    metrics = sidecar.wait_total("hoplite_timeouts_total", 1, timeout="idle")
    assert metrics.total("hoplite_http2_goaways_total", side="downstream", way="sent",
                         code="NO_ERROR") == 1
    assert metrics.total("hoplite_http2_streams_open") == 0
