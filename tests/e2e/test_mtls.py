"""mTLS on the wire: who gets in, who is refused and what is said about it, on both sides."""

import functools
import re
import select
import ssl
import subprocess

import pytest

from hoplite_e2e import tls
from hoplite_e2e.deadline import poll_until, seconds
from hoplite_e2e.forge import Forge, ago
from hoplite_e2e.topology import HOST, Pair, inbound_config, outbound_config, podinfo_at

CLIENT = "spiffe://cluster.local/ns/default/sa/client"
SERVER = "spiffe://cluster.local/ns/test/sa/podinfo"
HANDSHAKES = "hoplite_tls_handshakes_total"


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


def causes(sidecar, direction="inbound"):
    """{cause: count} of this direction's handshakes, without the causes that did not come."""
    return {labels["cause"]: value
            for labels, value in sidecar.metrics().series(HANDSHAKES, direction=direction) if value}


def check_refused(strict, cause, address, advice):
    """One handshake, counted as refused for `cause`, told of in one line, and nothing more."""
    strict.sidecar.wait_total(HANDSHAKES, 1, direction="inbound", cause=cause)
    assert causes(strict.sidecar) == {cause: 1}
    line = strict.sidecar.wait_line(rf"TLS handshake with {re.escape(address)} failed", "stderr")
    assert re.search(advice, line.string), line.string
    assert sum("TLS handshake" in each for each in strict.sidecar.stderr) == 1
    assert strict.app.events() == []
    assert strict.sidecar.metrics().total("istio_requests_total") == 0


def other_authority(world):
    return world.authority(name="other-ca")


def nobody(strict):
    return None


def stranger(strict):
    return other_authority(strict.world).issue("default", "client")


def expired(strict):
    return strict.forge.issue(CLIENT, not_before=ago(days=2), not_after=ago(hours=1))


def not_yet_valid(strict):
    return strict.forge.issue(CLIENT, not_before=ago(days=-1), not_after=ago(days=-2))


def foreign(strict):
    return strict.forge.issue("spiffe://elsewhere.example/ns/default/sa/client")


def two_names(strict):
    return strict.forge.issue(CLIENT, "spiffe://cluster.local/ns/default/sa/admin")


def no_name(strict):
    return strict.forge.issue(dns=["client.example"])


def no_spiffe_name(strict):
    return strict.forge.issue("https://cluster.local/ns/default/sa/client")


def server_only(strict):
    return strict.forge.issue(CLIENT, usage="serverAuth")


@pytest.mark.parametrize("make, cause, alert, advice", [
    (nobody, "no_certificate", "TLSV13_ALERT_CERTIFICATE_REQUIRED", "mtls.mode to permissive"),
    (stranger, "unknown_ca", "TLSV1_ALERT_UNKNOWN_CA", "add its CA to mtls.ca"),
    (expired, "expired", "SSLV3_ALERT_CERTIFICATE_EXPIRED", "renew it, or compare both clocks"),
    (not_yet_valid, "expired", "SSLV3_ALERT_BAD_CERTIFICATE", "compare both clocks"),
    (foreign, "wrong_san", "SSLV3_ALERT_BAD_CERTIFICATE", "'elsewhere.example'.*mtls.trust_domain"),
    (two_names, "wrong_san", "SSLV3_ALERT_BAD_CERTIFICATE", "has 2 URI SANs"),
    (no_name, "wrong_san", "SSLV3_ALERT_BAD_CERTIFICATE", "has 0 URI SANs"),
    (no_spiffe_name, "wrong_san", "SSLV3_ALERT_BAD_CERTIFICATE", "no SPIFFE ID"),
    (server_only, "other", "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE|TLSV1_ALERT", "not usable"),
])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3],
                         ids=["tls12", "tls13"])
def test_strict_refuses(world, make, cause, alert, advice, version):
    strict = Strict(world)
    refused = tls.refusal(strict.port, strict.context(make(strict), version=version))
    if make is nobody and version == ssl.TLSVersion.TLSv1_2:
        alert = "SSLV3_ALERT_HANDSHAKE_FAILURE"
    assert refused.alert is not None and re.fullmatch(alert, refused.alert), refused.alert
    check_refused(strict, cause, refused.local_address, advice)


def test_strict_refuses_tls_1_1(world):
    strict = Strict(world)
    client = strict.authority.issue("default", "client")
    refused = tls.refusal(strict.port, strict.context(client, version=ssl.TLSVersion.TLSv1_1))
    assert refused.alert == "TLSV1_ALERT_PROTOCOL_VERSION"
    check_refused(strict, "version", refused.local_address, "no TLS version from 1.2 on")


def test_strict_refuses_plaintext(world):
    strict = Strict(world)
    client = world.client(strict.port)
    address = "%s:%d" % client.socket.getsockname()
    client.send(b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n")
    client.expect_end()
    check_refused(strict, "not_tls", address, "let it use mTLS, or set mtls.mode to permissive")


@pytest.mark.parametrize("first", [b"", b"\x16", b"\x16\x03\x01\x00\xf0\x01\x00\x00"],
                         ids=["silent", "one-byte", "eight-bytes"])
def test_strict_refuses_who_does_not_finish(world, first):
    strict = Strict(world, timeouts={"tls": "300ms"})
    client = world.client(strict.port)
    address = "%s:%d" % client.socket.getsockname()
    client.send(first)
    client.expect_end()
    check_refused(strict, "timeout", address, r"timeouts\.tls")
    assert strict.sidecar.metrics().total("hoplite_timeouts_total", timeout="tls") == 1


def test_a_trickled_handshake_times_out_as_well(world):
    """The time is for the whole handshake: bytes that keep coming do not extend it."""
    strict = Strict(world, timeouts={"tls": "400ms"})
    client = world.client(strict.port)
    hello = client_hello(strict.context())
    try:
        for at in range(len(hello) - 1):
            client.send(hello[at:at + 1])
            if poll_readable(client, 0.02):
                break
        client.expect_end()
    except ConnectionError:
        pass
    strict.sidecar.wait_total(HANDSHAKES, 1, direction="inbound", cause="timeout")


def poll_readable(client, wanted):
    return bool(select.select([client.socket], [], [], wanted)[0])


def client_hello(context, sni=None):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        context.wrap_bio(incoming, outgoing, server_hostname=sni).do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def test_tcp_health_check_is_no_handshake(world):
    strict = Strict(world)
    for _ in range(3):
        world.client(strict.port).close()
    good = strict.client(strict.authority.issue("default", "client"))
    assert good.request().status == 200
    strict.sidecar.wait_total("hoplite_connections_accepted_total", 4, direction="inbound")
    poll_until(lambda: strict.sidecar.metrics().total("hoplite_connections_open") == 1,
               "one connection left")
    assert causes(strict.sidecar) == {"ok": 1}
    assert not any("TLS handshake" in line for line in strict.sidecar.stderr)


def test_client_that_leaves_in_the_handshake(world):
    strict = Strict(world)
    client = world.client(strict.port)
    address = "%s:%d" % client.socket.getsockname()
    client.send(client_hello(strict.context())[:100])
    client.reset()
    check_refused(strict, "other", address, "closed the connection during the handshake")


def test_lines_are_rate_limited_and_counts_are_not(world):
    strict = Strict(world, workers=1)
    context = strict.context()
    for _ in range(40):
        assert tls.refusal(strict.port, context).alert == "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    strict.sidecar.wait_total(HANDSHAKES, 40, direction="inbound", cause="no_certificate")
    assert sum("no_certificate" in line for line in strict.sidecar.stderr) == 5
    # Another cause still has its own lines.
    client = world.client(strict.port)
    client.send(b"GET / HTTP/1.1\r\n\r\n")
    client.expect_end()
    strict.sidecar.wait_line(r"not_tls", "stderr")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3],
                         ids=["tls12", "tls13"])
def test_strict_serves_whom_it_verified(world, version):
    strict = Strict(world)
    client = strict.client(strict.authority.issue("default", "client"), version=version)
    assert client.socket.version() == {ssl.TLSVersion.TLSv1_2: "TLSv1.2",
                                       ssl.TLSVersion.TLSv1_3: "TLSv1.3"}[version]
    assert client.socket.selected_alpn_protocol() == "http/1.1"
    for _ in range(3):
        assert client.request().status == 200
    metrics = strict.sidecar.wait_total("istio_requests_total", 3)
    labels = metrics.one("istio_requests_total", reporter="destination")
    assert labels["connection_security_policy"] == "mutual_tls"
    assert labels["source_principal"] == CLIENT
    assert labels["destination_principal"] == SERVER
    assert labels["source_workload_namespace"] == "default"  # out of the certificate
    assert labels["source_workload"] == "unknown"
    assert causes(strict.sidecar) == {"ok": 1}


@pytest.mark.parametrize("offer, answer", [
    (tls.ISTIO_HTTP11, "http/1.1"),
    (tls.ISTIO_HTTP10, None),
    (("http/1.1",), "http/1.1"),
    (("istio-http/1.1", "istio"), None),
    ((), None),
])
def test_alpn_answer(world, offer, answer):
    strict = Strict(world)
    client = strict.client(strict.authority.issue("default", "client"), alpn=offer)
    assert client.socket.selected_alpn_protocol() == answer
    assert client.request().status == 200


def test_curl_and_s_client(world):
    strict = Strict(world)
    identity = strict.authority.issue("default", "client")
    files = ["--cacert", strict.authority.ca, "--cert", identity.cert, "--key", identity.key]
    out = subprocess.run(["curl", "-sS", "-k", *map(str, files),
                          f"https://127.0.0.1:{strict.port}/version"],
                         capture_output=True, timeout=seconds(), check=True)
    assert out.stdout == b'{"name":"app","version":"1.0.0"}\n'
    said = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{strict.port}", "-cert", identity.cert,
         "-key", identity.key, "-CAfile", strict.authority.ca, "-verify_return_error",
         "-servername", f"outbound_.80_._.{HOST}", "-alpn", ",".join(tls.ISTIO_HTTP11),
         "-ign_eof"],
        input=b"GET /version HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        capture_output=True, timeout=seconds(), check=True).stdout
    assert b"ALPN protocol: http/1.1" in said
    assert b"Verify return code: 0 (ok)" in said
    assert b"TLSv1.3" in said
    assert b'{"name":"app","version":"1.0.0"}' in said
    # Without a certificate curl learns why.
    out = subprocess.run(["curl", "-sS", "-k", f"https://127.0.0.1:{strict.port}/version"],
                         capture_output=True, timeout=seconds(), check=False)
    assert out.returncode == 56 and b"certificate required" in out.stderr


def test_intermediate_certificates_are_used(world):
    """A client whose certificate an intermediate of the CA signed sends the chain."""
    strict = Strict(world)
    chained = strict.forge.issue_chained(CLIENT)
    assert strict.client(chained).request().status == 200


# --- outbound -------------------------------------------------------------------------------


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
        return other_authority(self.world)

    def get(self):
        return self.client.request(host=HOST)


def good_server(towards):
    context = tls.server_context(towards.authority.issue("test", "podinfo"), towards.authority.ca)
    return tls.serve(context, tls.answer_requests)


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


# --- resumption -----------------------------------------------------------------------------


def two_at_once(world, pair):
    """Two connections of the pair: while one is busy, another request needs a new one."""
    first = world.client(pair.port)
    assert first.request(host=HOST).status == 200  # the ticket has come
    first.send(b"GET /delay/1 HTTP/1.1\r\nHost: " + HOST.encode() + b"\r\n\r\n")
    pair.server.wait_total("hoplite_requests_in_flight", 1)
    assert world.client(pair.port).request(host=HOST).status == 200
    assert first.read_response().status == 200


def test_second_connection_of_the_pair_is_resumed(world):
    pair = Pair(world, world.service().address, client_sections={"workers": 1},
                server_sections={"workers": 2})
    two_at_once(world, pair)
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
    brief = strict.forge.issue(CLIENT, not_after=ago(seconds=-seconds(4)))
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
    other = other_authority(world)
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


# --- x-forwarded-client-cert ----------------------------------------------------------------


def headers_at_app(strict):
    """What the app got with its last request: [(name, value)]."""
    head = strict.app.received()[-1].rsplit(b"\r\n\r\n", 1)[0].decode("latin-1")
    lines = head.rsplit("\r\n\r\n", 1)[-1].split("\r\n")[1:]
    return [tuple(line.split(": ", 1)) for line in lines]


def forwarded(strict):
    return [v for n, v in headers_at_app(strict) if n.lower() == "x-forwarded-client-cert"]


def test_forwarded_client_cert(world):
    strict = Strict(world)
    client = strict.forge.issue(CLIENT, dns=["a.example", "b.example"],
                                subject="/O=hoplite tests/CN=it")
    ours = (f"By={SERVER};Hash={tls.fingerprint(client)};Subject=\"CN=it,O=hoplite tests\";"
            f"URI={CLIENT};DNS=a.example;DNS=b.example")
    connection = strict.client(client)
    assert connection.request().status == 200
    assert forwarded(strict) == [ours]
    # What came stays in front: the next hop appends.
    assert connection.request(headers=[("X-Forwarded-Client-Cert", "By=x;URI=y")]).status == 200
    assert forwarded(strict) == ["By=x;URI=y," + ours]


def test_forwarded_client_cert_is_removed_on_plaintext(world):
    app = world.service()
    sidecar = world.hoplite(inbound_config(app.address))
    answer = world.client(sidecar.inbound).request(
        headers=[("X-Forwarded-Client-Cert", f"By=x;URI={CLIENT}")])
    assert answer.status == 200
    assert b"client-cert" not in app.received()[0].lower()


def test_client_cannot_forge_it_through_the_pair(world):
    app = world.service()
    pair = Pair(world, app.address)
    answer = world.client(pair.port).request(
        host=HOST, headers=[("X-Forwarded-Client-Cert", "By=x;URI=spiffe://cluster.local/admin")])
    assert answer.status == 200
    received = app.received()[0]
    assert b"admin" not in received
    assert received.lower().count(b"x-forwarded-client-cert: by=" + SERVER.encode()) == 1


# --- bytes ----------------------------------------------------------------------------------


def test_large_bodies_through_the_pair(world, sanitized):
    size = (2 if sanitized else 32) << 20
    pair = Pair(world, world.service().address)
    client = world.client(pair.port)
    answer = client.request(target=f"/bytes/{size}", host=HOST)
    assert answer.status == 200 and len(answer.body) == size
    body = bytes(range(256)) * (size // 256)
    answer = client.request("POST", "/echo", host=HOST, body=body)
    assert answer.status == 200 and answer.body == body


def test_request_in_tiny_tls_records(world):
    strict = Strict(world)
    client = strict.client(strict.authority.issue("default", "client"))
    client.send_pieces(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n0123456789")
    answer = client.read_response()
    assert answer.status == 200 and answer.body == b"0123456789"
