"""Inbound mTLS on the wire: who gets in, who is refused, and what is said about it."""

import re
import ssl
import subprocess
import time

import pytest

from hoplite_e2e import tls
from hoplite_e2e.deadline import poll_until, ready, seconds
from hoplite_e2e.forge import ago
from hoplite_e2e.strict import CLIENT, HANDSHAKES, SERVER, Strict, causes
from hoplite_e2e.topology import HOST, Pair, inbound_config


def check_refused(strict, cause, address, advice):
    """One handshake, counted as refused for `cause`, told of in one line, and nothing more."""
    strict.sidecar.wait_total(HANDSHAKES, 1, direction="inbound", cause=cause)
    assert causes(strict.sidecar) == {cause: 1}
    line = strict.sidecar.wait_line(rf"TLS handshake with {re.escape(address)} failed", "stderr")
    assert re.search(advice, line.string), line.string
    assert sum("TLS handshake" in each for each in strict.sidecar.stderr) == 1
    assert strict.app.events() == []
    assert strict.sidecar.metrics().total("istio_requests_total") == 0


def nobody(strict):
    return None


def stranger(strict):
    return strict.world.authority(name="other-ca").issue("default", "client")


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
    (nobody, "no_certificate", "TLSV13_ALERT_CERTIFICATE_REQUIRED", "mtls.mode permissive"),
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
    return bool(ready([client.socket], [], wanted)[0])


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
    began = time.monotonic()
    for _ in range(40):
        assert tls.refusal(strict.port, context).alert == "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    strict.sidecar.wait_total(HANDSHAKES, 40, direction="inbound", cause="no_certificate")
    most = 5 * (1 + int((time.monotonic() - began) / 10))  # five in ten seconds
    assert 5 <= sum("no_certificate" in line for line in strict.sidecar.stderr) <= most
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
    out = subprocess.run(["curl", "-sS", "-k", "--http1.1", *map(str, files),
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


def test_key_updates_of_a_client_that_reads_nothing(world):
    """Each asks for an answer; they must not pile up without end."""
    strict = Strict(world)
    flood = tls.KeyUpdates(strict.port, strict.authority.issue("default", "client"))
    # More than the kernel's buffers hold of them while the server does not get to read.
    most = 2_000_000
    assert flood.send(most) < most, "all were taken"
    assert strict.client(strict.authority.issue("default", "other")).request().status == 200
