"""TLS resumption: that it happens, and that it never widens access."""

import ssl
import threading

import pytest

from hoplite_e2e.deadline import poll_until, seconds
from hoplite_e2e.forge import ago
from hoplite_e2e.strict import CLIENT, HANDSHAKES, SERVER, Strict, causes
from hoplite_e2e.topology import HOST, Pair, inbound_config


def test_second_connection_of_the_pair_is_resumed(world):
    """While one is busy, another request needs a new one."""
    waiting, go = threading.Event(), threading.Event()

    def script(wire, _number):
        while True:
            start, _ = wire.read_head()
            if "/wait" in start:
                waiting.set()
                assert go.wait(seconds())
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    pair = Pair(world, world.raw_server(script).address, client_sections={"workers": 1},
                server_sections={"workers": 2})
    first = world.client(pair.port)
    assert first.request(host=HOST).status == 200  # the ticket has come
    first.send(b"GET /wait HTTP/1.1\r\nHost: " + HOST.encode() + b"\r\n\r\n")
    assert waiting.wait(seconds())
    assert world.client(pair.port).request(host=HOST).status == 200
    go.set()
    assert first.read_response().status == 200
    pair.client.wait_total(HANDSHAKES, 2, direction="outbound")
    assert causes(pair.client, "outbound") == {"ok": 1, "resumed": 1}
    assert causes(pair.server) == {"ok": 1, "resumed": 1}
    labels = pair.server.wait_total("istio_requests_total", 3).one("istio_requests_total")
    assert labels["connection_security_policy"] == "mutual_tls"
    assert labels["source_principal"] == pair.client_identity.principal


VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3],
                                   ids=["tls12", "tls13"])


def resumable(strict, context):
    """A session of a verified client, with its ticket."""
    client = strict.world.tls_client(strict.port, context)
    assert client.request().status == 200
    session = client.socket.session
    assert session.has_ticket
    client.close()
    return session


def resume(strict, context, session):
    client = strict.world.tls_client(strict.port, context, None, session)
    answer = client.request()
    return client.socket.session_reused, answer


@VERSIONS
def test_resumed_client_keeps_its_identity(world, version):
    strict = Strict(world)
    context = strict.context(strict.authority.issue("default", "client"), version=version)
    session = resumable(strict, context)
    for _ in range(4):  # whichever worker accepts it
        reused, answer = resume(strict, context, session)
        assert reused and answer.status == 200
    metrics = strict.sidecar.wait_total("istio_requests_total", 5)
    assert metrics.one("istio_requests_total")["source_principal"] == CLIENT
    assert causes(strict.sidecar) == {"ok": 1, "resumed": 4}


@VERSIONS
def test_expired_peer_is_not_resumed(world, version):
    strict = Strict(world)
    brief = strict.forge.issue(CLIENT, not_after=ago(seconds=-12))
    context = strict.context(brief, version=version)
    session = resumable(strict, context)

    def gone():
        try:
            client = world.tls_client(strict.port, context, None, session)
            client.request()
        except (ssl.SSLError, AssertionError, ConnectionError) as error:
            return error
        return None

    error = poll_until(gone, "the expired client is refused", 30)
    assert "CERTIFICATE_EXPIRED" in str(error), error
    strict.sidecar.wait_total(HANDSHAKES, 1, direction="inbound", cause="expired")


@VERSIONS
def test_removed_ca_ends_resumption(world, version):
    strict = Strict(world)
    other = world.authority(name="other-ca")
    both = world.folder / "both.pem"
    both.write_bytes(strict.authority.ca.read_bytes() + other.ca.read_bytes())
    config = inbound_config(strict.app.address,
                            mtls={**strict.identity.mtls(), "ca": str(both)})
    sidecar = strict.sidecar = world.hoplite(config, name="with-both")
    context = strict.context(other.issue("default", "client"), version=version)
    session = resumable(strict, context)
    assert resume(strict, context, session)[0]

    sidecar.reload(inbound_config(strict.app.address, mtls=strict.identity.mtls()))
    sidecar.wait_line("configuration taken", "stderr")
    with pytest.raises((ssl.SSLError, ConnectionError)) as refused:
        resume(strict, context, session)
    assert "UNKNOWN_CA" in str(refused.value)
    sidecar.wait_total(HANDSHAKES, 1, direction="inbound", cause="unknown_ca")
    assert causes(sidecar) == {"ok": 1, "resumed": 1, "unknown_ca": 1}


@VERSIONS
def test_denied_principal_is_denied_on_resumption(world, version):
    strict = Strict(world)
    context = strict.context(strict.authority.issue("default", "client"), version=version)
    session = resumable(strict, context)
    strict.sidecar.reload(inbound_config(strict.app.address, mtls=strict.identity.mtls(
        allow=["spiffe://cluster.local/ns/default/sa/other"])))
    strict.sidecar.wait_line("configuration taken", "stderr")
    reused, answer = resume(strict, context, session)
    assert reused and answer.status == 403
    strict.sidecar.wait_total("istio_requests_total", 1, response_code="403")


@pytest.mark.parametrize("change", ["certificate", "trust_domain"])
def test_tickets_end_with(world, change):
    strict = Strict(world)
    context = strict.context(strict.authority.issue("default", "client"))
    session = resumable(strict, context)
    if change == "certificate":
        mtls = strict.forge.issue(SERVER).mtls()
    else:
        mtls = {**strict.forge.issue("spiffe://new.example/ns/test/sa/podinfo").mtls(),
                "trust_domain": "new.example"}
    strict.sidecar.reload(inbound_config(strict.app.address, mtls=mtls))
    strict.sidecar.wait_line("configuration taken", "stderr")
    if change == "certificate":
        reused, answer = resume(strict, context, session)
        assert not reused and answer.status == 200
    else:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            resume(strict, context, session)
        strict.sidecar.wait_total(HANDSHAKES, 1, direction="inbound", cause="wrong_san")
