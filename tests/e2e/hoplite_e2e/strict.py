"""A sidecar that takes mTLS only, its app, and what clients of it are made from. Not assertions."""

from . import tls
from .forge import Forge
from .topology import inbound_config

CLIENT = "spiffe://cluster.local/ns/default/sa/client"
SERVER = "spiffe://cluster.local/ns/test/sa/podinfo"
HANDSHAKES = "hoplite_tls_handshakes_total"


def causes(sidecar, direction="inbound"):
    """{cause: count} of this direction's handshakes, without the causes that did not come."""
    return {labels["cause"]: value
            for labels, value in sidecar.metrics().series(HANDSHAKES, direction=direction) if value}


class Strict:
    """A sidecar in mode strict in front of an app, and everything to make clients from."""

    def __init__(self, world, **more):
        self.world = world
        self.app = world.service()
        self.authority = world.authority()
        self.forge = Forge(self.authority, world.folder / "forge")
        self.identity = self.authority.issue("test", "podinfo")
        mtls = self.identity.mtls(**more.pop("mtls", {}))
        self.sidecar = world.hoplite(inbound_config(self.app.address, mtls=mtls, **more))

    @property
    def port(self):
        return self.sidecar.inbound

    def context(self, identity=None, **more):
        return tls.client_context(self.authority.ca, identity, **more)

    def client(self, identity, sni=None, session=None, **more):
        return self.world.tls_client(self.port, self.context(identity, **more), sni, session)
