"""What the cases of HTTP/2 conformance are made of: a table, the outcomes, and a door to try them at.

Not the cases (test_http2_basics.py, test_http2_conformance.py, test_http2_errors.py).
"""

import pytest

from . import http2 as h2
from . import tls
from .http2 import END_HEADERS, END_STREAM, HEADERS, RST_STREAM
from .topology import inbound_config

STREAMS = 100  # limits.http2_streams here
GET = [(":method", "GET"), (":scheme", "http"), (":authority", "localhost"), (":path", "/version")]
SLOW = [*GET[:3], (":path", "/delay/20")]
POST = [(":method", "POST"), *GET[1:3], (":path", "/echo")]



class Table:
    """The cases of one file, in their order: parameters for pytest."""

    def __init__(self):
        self.cases = []

    def case(self, name, outcome=None, begin=None):
        """`outcome(client)` must hold after what the function sends; without one, all is well."""
        def keep(function):
            self.cases.append(pytest.param(function, outcome or alive, begin, id=name))
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


def encoded(*pieces):
    """A header block by hand, for a GET of /version: authority first, then `pieces`."""
    return b"".join(pieces)


AUTHORITY = h2.literal(":authority", "localhost")
PATH = h2.literal(":path", "/version")


class Door:
    def __init__(self, world, context, sidecar):
        self._world = world
        self._context = context
        self.sidecar = sidecar

    def wire(self):
        if self._context is None:
            return self._world.client(self.sidecar.inbound)
        return self._world.tls_client(self.sidecar.inbound, self._context)


def open_door(world, kind):
    """A sidecar for `kind`, cleartext or tls."""
    app = world.service()
    limits = {"http2_streams": STREAMS}
    if kind == "cleartext":
        return Door(world, None, world.hoplite(inbound_config(app.address, "http1", limits=limits)))
    authority = world.authority(name="ca")
    server, client = authority.issue("test", "podinfo"), authority.issue("default", "client")
    sidecar = world.hoplite(inbound_config(app.address, "http1", mtls=server.mtls(), limits=limits))
    return Door(world, tls.client_context(authority.ca, client, alpn=h2.ISTIO_H2), sidecar)


def try_case(door, violate, outcome, begin):
    with door.wire() as wire:
        client = h2.Client(wire, begin=begin)
        violate(client)
        outcome(client)
