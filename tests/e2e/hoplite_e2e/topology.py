"""The two workloads most tests use, `client` in default and `podinfo` in test, and their sidecars.

Not assertions: what comes out of them is each test's matter.
"""

HOST = "podinfo.test.svc.cluster.local"


def server_workload():
    return {"name": "podinfo-v1", "namespace": "test", "app": "podinfo", "version": "v1",
            "canonical_service": "podinfo", "canonical_revision": "v1", "cluster": "Kubernetes",
            "service_account": "podinfo"}


def client_workload():
    return {"name": "client-v1", "namespace": "default", "app": "client", "version": "v1",
            "canonical_service": "client", "canonical_revision": "v1", "cluster": "Kubernetes",
            "service_account": "client"}


def podinfo_at(*addresses, **more):
    """The entry of outbound.services for podinfo."""
    return {"hosts": [HOST], "port": 80, "namespace": "test", "endpoints": list(addresses), **more}


def inbound_config(app_address, protocol="auto", **more):
    """A sidecar in front of the app, which is spoken to in `protocol`; `more` are further sections."""
    return {"workload": server_workload(),
            "inbound": {"listen": "127.0.0.1:0", "app": app_address, "protocol": protocol},
            "stats": {"listen": "127.0.0.1:0"}, **more}


def outbound_config(*services, **more):
    """A client's sidecar; `more` are further sections."""
    return {"workload": client_workload(),
            "outbound": {"listen": "127.0.0.1:0", "services": list(services)},
            "stats": {"listen": "127.0.0.1:0"}, **more}


class Pair:
    """client -> its sidecar -> mTLS -> the server's sidecar -> app."""

    def __init__(self, world, app_address, server_sections=None, client_sections=None,
                 hosts=(HOST,)):
        self.authority = world.authority()
        self.server_identity = self.authority.issue("test", "podinfo")
        self.client_identity = self.authority.issue("default", "client")
        self.server = world.hoplite(
            {**inbound_config(app_address), "mtls": self.server_identity.mtls(),
             **(server_sections or {})}, name="server")
        tls = {"mode": "mutual", "sans": [self.server_identity.principal]}
        self.client = world.hoplite(
            {**outbound_config(podinfo_at(f"127.0.0.1:{self.server.inbound}", tls=tls,
                                          hosts=list(hosts))),
             "mtls": self.client_identity.mtls(), **(client_sections or {})}, name="client")

    @property
    def port(self):
        return self.client.outbound
