"""mTLS towards upstreams: what is offered and sent, whom a sidecar refuses, and who refuses it."""

import functools
import re
import ssl

import pytest

from hoplite_e2e import tls
from hoplite_e2e.forge import Forge, ago
from hoplite_e2e.ledger import wait_idle
from hoplite_e2e.strict import CLIENT, HANDSHAKES, SERVER, causes
from hoplite_e2e.topology import HOST, inbound_config, outbound_config, podinfo_at


class Towards:
    """A client's sidecar towards TLS servers that a test plays itself."""

    def __init__(self, world, *servers, sections=None, service=None):
        self.world = world
        self.authority = world.authority()
        self.identity = self.authority.issue("default", "client")
        self.forge = Forge(self.authority, world.folder / "forge")
        self.servers = [world.raw_server(make(self)) for make in servers]
        self.sidecar = world.hoplite(outbound_config(
            podinfo_at(*[server.address for server in self.servers],
                       **(service or {"tls": {"mode": "mutual", "sans": [SERVER]}})),
            mtls=self.identity.mtls(), **(sections or {})))
        self.client = world.client(self.sidecar.outbound)

    @functools.cached_property
    def stranger(self):
        return self.world.authority(name="other-ca")

    def get(self):
        return self.client.request(host=HOST)


def good_server(towards):
    context = tls.server_context(towards.authority.issue("test", "podinfo"), towards.authority.ca)
    return tls.serve(context, tls.answer_requests)


def http2_server_that_closes(towards):
    context = tls.server_context(towards.authority.issue("test", "podinfo"), alpn=("h2",))
    return tls.serve(context, lambda wire, number: wire.read_exactly(1))


def with_certificate(make):
    return lambda towards: tls.serve(tls.server_context(make(towards)), tls.answer_requests)


def old_server(towards):
    context = tls.server_context(towards.authority.issue("test", "podinfo"),
                                 version=ssl.TLSVersion.TLSv1_1)
    return tls.serve(context, tls.answer_requests)


def plain_server(towards):
    def script(wire, number):
        wire.read_exactly(5)
        wire.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    return script


def silent_server(towards):
    return lambda wire, number: wire.read_to_end(60)


def closing_server(towards):
    return lambda wire, number: wire.read_exactly(5)


BAD_SERVERS = [
    pytest.param(with_certificate(lambda t: t.forge.issue(
        "spiffe://cluster.local/ns/test/sa/other")), "wrong_san", "expected", id="wrong_san"),
    pytest.param(with_certificate(lambda t: t.forge.issue(
        "spiffe://elsewhere.example/ns/test/sa/podinfo")), "wrong_san", "trust domain",
        id="trust_domain"),
    pytest.param(with_certificate(lambda t: t.forge.issue(SERVER, SERVER + "2")), "wrong_san",
                 "2 URI SANs", id="two_sans"),
    pytest.param(with_certificate(lambda t: t.forge.issue(
        SERVER, not_before=ago(days=2), not_after=ago(hours=1))), "expired", "renew it",
        id="expired"),
    pytest.param(old_server, "version", "TLS", id="version"),
    pytest.param(plain_server, "not_tls", "tls mode to off", id="not_tls"),
    pytest.param(silent_server, "timeout", r"timeouts\.tls", id="timeout"),
    pytest.param(closing_server, "other", "closed the connection during", id="closed"),
]


def check_upstream_refused(towards, cause, advice, ok=0):
    answer = towards.get()
    assert answer.status == 503
    assert b"upstream TLS error" in answer.body
    sidecar = towards.sidecar
    metrics = sidecar.wait_total("istio_requests_total", 1, response_flags="UF",
                                 response_code="503", reporter="source")
    assert metrics.total("istio_requests_total") == 1
    sidecar.wait_total(HANDSHAKES, 1, direction="outbound", cause=cause)
    assert causes(sidecar, "outbound") == {cause: 1, **({"ok": ok} if ok else {})}
    address = re.escape(towards.servers[0].address)
    line = sidecar.wait_line(rf"TLS handshake with upstream {address} failed", "stderr")
    assert re.search(advice, line.string), line.string


@pytest.mark.parametrize("server, cause, advice", BAD_SERVERS)
def test_outbound_refuses(world, server, cause, advice):
    towards = Towards(world, server, sections={"timeouts": {"tls": "400ms"}}
                      if server is silent_server else None)
    check_upstream_refused(towards, cause, advice)
    metrics = towards.sidecar.metrics()
    assert metrics.total("hoplite_upstream_connects_total", outcome="tls") == 1
    assert metrics.total("hoplite_upstream_connects_total") == 1


def test_outbound_refuses_an_unknown_ca(world):
    towards = Towards(world, with_certificate(lambda t: t.stranger.issue("test", "podinfo")))
    check_upstream_refused(towards, "unknown_ca", "add its CA to mtls.ca")


def refusing_server(version):
    """Its certificate is good; it does not know the CA of ours."""
    def make(towards):
        context = tls.server_context(towards.authority.issue("test", "refusing"),
                                     towards.stranger.ca, version=version)
        return tls.serve(context, tls.answer_requests)
    return make


@pytest.mark.parametrize("version, ok", [(ssl.TLSVersion.TLSv1_2, 0), (ssl.TLSVersion.TLSv1_3, 1)],
                         ids=["tls12", "tls13"])
def test_server_that_refuses_our_certificate(world, version, ok):
    """In TLS 1.3 the refusal comes when the handshake has been called good and a request sent."""
    towards = Towards(world, refusing_server(version), service={"tls": {"mode": "mutual"}})
    check_upstream_refused(towards, "unknown_ca", "the server does not trust the CA", ok=ok)


def test_refused_request_with_a_body_goes_to_another_endpoint(world):
    """Nothing was read of it, so it may be sent elsewhere even when it is no idempotent one."""
    received = []

    def take(wire, number):
        while True:
            wire.read_head()
            received.append(wire.read_exactly(5))
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    towards = Towards(
        world, refusing_server(ssl.TLSVersion.TLSv1_3),
        lambda t: tls.serve(tls.server_context(t.authority.issue("test", "podinfo")), take),
        service={"tls": {"mode": "mutual"}}, sections={"workers": 1})
    for _ in range(2):  # one of the two begins at the refusing one
        answer = towards.client.request("POST", host=HOST, body=b"hello")
        assert answer.status == 200, answer.body
    assert received == [b"hello", b"hello"]
    metrics = towards.sidecar.wait_total("istio_requests_total", 2, response_code="200")
    assert metrics.total("hoplite_retries_total") >= 1
    assert causes(towards.sidecar, "outbound")["unknown_ca"] >= 1


def test_hoplite_that_refuses_hoplite(world):
    """Both sidecars real: the server's does not know the client's CA."""
    app = world.service()
    theirs = world.authority(name="theirs")
    ours = world.authority(name="ours")
    server_identity = theirs.issue("test", "podinfo")
    client_identity = ours.issue("default", "client")
    server = world.hoplite(inbound_config(app.address, mtls=server_identity.mtls()), name="server")
    both = world.folder / "both.pem"
    both.write_bytes(ours.ca.read_bytes() + theirs.ca.read_bytes())
    client = world.hoplite(outbound_config(
        podinfo_at(f"127.0.0.1:{server.inbound}"),
        mtls={**client_identity.mtls(), "ca": str(both)}), name="client")
    for _ in range(3):
        answer = world.client(client.outbound).request(host=HOST)
        assert answer.status == 503 and b"upstream TLS error" in answer.body
    client.wait_total("istio_requests_total", 3, response_flags="UF", response_code="503")
    client.wait_total(HANDSHAKES, 3, direction="outbound", cause="unknown_ca")
    server.wait_total(HANDSHAKES, 3, direction="inbound", cause="unknown_ca")
    assert client.metrics().total("istio_requests_total") == 3
    assert server.metrics().total("istio_requests_total") == 0
    assert app.events() == []


def test_sni_and_alpn_of_the_client_hello(world):
    seen = []

    def script(wire, number):
        record = wire.read_exactly(5)
        seen.append(wire.read_exactly(int.from_bytes(record[3:], "big")))

    towards = Towards(world, lambda _: script)
    assert towards.get().status == 503
    hello = seen[0]
    assert f"outbound_.80_._.{HOST}".encode() in hello
    assert b"\x0eistio-http/1.1\x05istio\x08http/1.1" in hello


def test_sni_of_the_configuration(world):
    names = []

    def make(towards):
        context = tls.server_context(towards.authority.issue("test", "podinfo"))
        context.sni_callback = lambda _socket, name, _context: names.append(name)
        return tls.serve(context, tls.answer_requests)

    towards = Towards(world, make, service={"tls": {"mode": "mutual", "sni": "other.example"}})
    assert towards.get().status == 200
    assert names == ["other.example"]


@pytest.mark.parametrize("policy", ["unknown", "verified"])
def test_policy_of_the_source(world, policy):
    towards = Towards(world, good_server, sections={
        "stats": {"listen": "127.0.0.1:0", "source_security_policy": policy}})
    assert towards.get().status == 200
    metrics = towards.sidecar.wait_total("istio_requests_total", 1)
    labels = metrics.one("istio_requests_total", reporter="source")
    assert labels["connection_security_policy"] == {"unknown": "unknown",
                                                    "verified": "mutual_tls"}[policy]
    assert labels["source_principal"] == CLIENT
    assert labels["destination_principal"] == SERVER


def test_verified_policy_of_a_plaintext_hop(world):
    app = world.service()
    sidecar = world.hoplite(outbound_config(
        podinfo_at(app.address),
        stats={"listen": "127.0.0.1:0", "source_security_policy": "verified"}))
    assert world.client(sidecar.outbound).request(host=HOST).status == 200
    metrics = sidecar.wait_total("istio_requests_total", 1)
    assert metrics.one("istio_requests_total")["connection_security_policy"] == "none"


def test_who_closes_after_the_handshake_is_not_said_to_speak_no_http2(world):
    service = {"protocol": "http2", "tls": {"mode": "mutual", "sans": [SERVER]}}
    towards = Towards(world, http2_server_that_closes, service=service)
    assert towards.get().status == 503
    wait_idle(towards.sidecar)
    assert not [line for line in towards.sidecar.stderr if "does not speak" in line]
