"""TLS and plaintext on one port: detection by the first bytes, other TLS, and mode off."""

import contextlib
import signal
import socket
import ssl
import subprocess
import time

import pytest

from hoplite_e2e import tls
from hoplite_e2e.deadline import poll_until, seconds
from hoplite_e2e.forge import Forge
from hoplite_e2e.raw import Closed
from hoplite_e2e.front import free_address
from hoplite_e2e.topology import inbound_config

CLIENT = "spiffe://cluster.local/ns/default/sa/client"
SERVER = "spiffe://cluster.local/ns/test/sa/podinfo"
HANDSHAKES = "hoplite_tls_handshakes_total"
REQUESTS = "istio_requests_total"
GET = b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Permissive:
    def __init__(self, world, app=None, mode="permissive", other_tls="terminate", **more):
        self.world = world
        self.app = app or world.service()
        self.authority = world.authority()
        self.identity = self.authority.issue("test", "podinfo")
        self.client_identity = self.authority.issue("default", "client")
        config = inbound_config(self.app.address, "http1", mtls=self.identity.mtls(mode), **more)
        config["inbound"]["other_tls"] = other_tls
        self.config = config
        self.sidecar = world.hoplite(config)

    @property
    def port(self):
        return self.sidecar.inbound

    def context(self, identity=None, **more):
        return tls.client_context(self.authority.ca, identity, **more)

    def secure(self, identity=None, **more):
        return self.world.tls_client(self.port, self.context(identity, **more))

    def plain(self):
        return self.world.client(self.port)

    def causes(self):
        series = self.sidecar.metrics().series(HANDSHAKES, direction="inbound")
        return {labels["cause"]: value for labels, value in series if value}


def test_both_on_one_port(world):
    it = Permissive(world)
    assert it.plain().request().status == 200
    assert it.secure(it.client_identity).request().status == 200
    metrics = it.sidecar.wait_total(REQUESTS, 2)
    plain = metrics.one(REQUESTS, connection_security_policy="none")
    assert plain["source_principal"] == plain["destination_principal"] == "unknown"
    secure = metrics.one(REQUESTS, connection_security_policy="mutual_tls")
    assert (secure["source_principal"], secure["destination_principal"]) == (CLIENT, SERVER)
    assert it.causes() == {"ok": 1}


def test_neither_is_delayed(world, sanitized):
    """No detection timeout is in the way of a request's first bytes: well below any usual one."""
    it = Permissive(world, timeouts={"tls": "60s", "idle": "60s"})
    for make in (it.plain, lambda: it.secure(it.client_identity)):
        poll_until(lambda: timed(make) < (0.4 if sanitized else 0.1), "one that is quick")


def timed(make):
    begin = time.monotonic()
    assert make().request().status == 200
    return time.monotonic() - begin


def test_plaintext_byte_by_byte(world):
    it = Permissive(world)
    client = it.plain()
    client.send_pieces(GET)
    assert client.read_response().status == 200


@pytest.mark.parametrize("mode", ["permissive", "strict"])
@pytest.mark.parametrize("record, segment", [(16384, 1), (1, 7), (5, 5), (100, 33), (16384, 100)])
def test_fragmented_client_hello(world, mode, record, segment):
    it = Permissive(world, mode=mode)

    def in_pieces(wire, hello):
        wire.send_pieces(tls.refragment(hello, record), segment)

    client = tls.PumpedClient(it.plain(), it.context(it.client_identity), in_pieces,
                              sni="some.example")
    client.send(GET)
    assert b"HTTP/1.1 200 OK" in client.read_until(b"\r\n\r\n")
    labels = it.sidecar.wait_total(REQUESTS, 1).one(REQUESTS)
    assert labels["connection_security_policy"] == "mutual_tls"


def padding_protocols(size):
    return tuple(f"{n:03}" + "x" * 247 for n in range(size // 251))


@pytest.mark.parametrize("mode", ["permissive", "strict"])
def test_large_client_hello(world, mode):
    it = Permissive(world, mode=mode)
    client = it.secure(it.client_identity, alpn=padding_protocols(15000) + tls.ISTIO_HTTP11)
    assert client.request().status == 200
    labels = it.sidecar.wait_total(REQUESTS, 1).one(REQUESTS)
    assert labels["connection_security_policy"] == "mutual_tls"


@pytest.mark.parametrize("mode", ["permissive", "strict"])
def test_client_hello_above_16_kib(world, mode):
    it = Permissive(world, mode=mode)
    context = it.context(it.client_identity, alpn=tls.ISTIO_HTTP11 + padding_protocols(17000))
    refused = tls.refusal(it.port, context)
    it.sidecar.wait_total(HANDSHAKES, 1, direction="inbound", cause="other")
    line = it.sidecar.wait_line("TLS handshake with", "stderr").string
    assert "longer than 16 KiB" in line and refused.local_address in line
    assert it.app.events() == []
    assert it.secure(it.client_identity).request().status == 200


@pytest.mark.parametrize("first", [b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"])
def test_slow_client_hello(world, first):
    it = Permissive(world, timeouts={"tls": "300ms", "idle": "60s"})
    client = it.plain()
    address = "%s:%d" % client.socket.getsockname()
    client.send(first)
    client.expect_end()
    it.sidecar.wait_total(HANDSHAKES, 1, direction="inbound", cause="timeout")
    line = it.sidecar.wait_line("TLS handshake with", "stderr").string
    assert address in line and "timeouts.tls" in line


@pytest.mark.parametrize("mode", ["permissive", "strict"])
@pytest.mark.parametrize("said", ["nothing", "half a hello", "a hello"])
def test_a_handshake_that_does_not_go_on_holds_no_drain(world, mode, said):
    it = Permissive(world, mode=mode, timeouts={"tls": "1h", "idle": "1h", "drain": "1h"})
    hello = client_hello(it.context(it.client_identity))
    client = it.plain()
    client.send({"nothing": b"", "half a hello": hello[:60], "a hello": hello}[said])
    if said == "a hello":
        client.read_exactly(5)
    it.sidecar.wait_total("hoplite_connections_open", 1, direction="inbound")
    it.sidecar.signal(signal.SIGTERM)
    with contextlib.suppress(Closed):
        client.read_to_end()
    assert it.sidecar.wait() == 0


def test_silent_connection_is_idle(world):
    """It may be a plaintext client that connects ahead of need: no TLS failure."""
    it = Permissive(world, timeouts={"tls": "100ms", "idle": "400ms"})
    begin = time.monotonic()
    it.plain().expect_end()
    assert time.monotonic() - begin > 0.35
    it.sidecar.wait_total("hoplite_timeouts_total", 1, timeout="idle")
    assert it.causes() == {}


@pytest.mark.parametrize("garbage", [
    b"\x16\x16\x16\x16\x16\x16\x16\x16\x16\x16\x16",
    b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",  # a ServerHello
    b"\x16\x03\x01\x00\x2a\x01\x00\x00\x26\x03\x03" + bytes(32) + b"\x21" + bytes(3),
    b"\x16\x03\x01\x00\x00",
    b"\x16\x03\x01\xff\xff" + bytes(20),
])
def test_what_only_begins_like_tls(world, garbage):
    it = Permissive(world)
    client = it.plain()
    client.send(garbage + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 3)
    try:
        answer = client.read_to_end()
    except AssertionError as closed:  # a reset is as good an answer
        answer = getattr(closed, "received", b"x" * 100)
    assert len(answer) <= 7  # at most an alert
    poll_until(lambda: sum(it.causes().values()) == 1, it.causes)
    assert "ok" not in it.causes()
    assert it.app.events() == []
    assert it.plain().request().status == 200


# --- TLS without the mesh's ALPN ------------------------------------------------------------


@pytest.mark.parametrize("alpn", [("http/1.1",), ("spdy/3", "http/1.1"), ()])
def test_other_tls_is_terminated(world, alpn):
    it = Permissive(world)
    client = it.secure(alpn=alpn)
    assert client.socket.selected_alpn_protocol() == ("http/1.1" if alpn else None)
    assert client.request(headers=[("X-Forwarded-Client-Cert", "By=a")]).status == 200
    labels = it.sidecar.wait_total(REQUESTS, 1).one(REQUESTS)
    assert labels["connection_security_policy"] == "none"
    assert labels["source_principal"] == "unknown"
    assert b"forwarded-client-cert" not in it.app.received()[0].lower()


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_other_tls_by_curl(world, version):
    it = Permissive(world)
    out = subprocess.run(["curl", "-sS", "-k", version, "--cacert", str(it.authority.ca),
                          f"https://127.0.0.1:{it.port}/version"],
                         capture_output=True, timeout=seconds(), check=True)
    assert out.stdout == b'{"name":"app","version":"1.0.0"}\n'


def test_other_tls_with_a_certificate_is_mutual(world):
    it = Permissive(world)
    assert it.secure(it.client_identity, alpn=("http/1.1",)).request().status == 200
    labels = it.sidecar.wait_total(REQUESTS, 1).one(REQUESTS)
    assert labels["connection_security_policy"] == "mutual_tls"


def test_a_bad_certificate_is_refused_in_other_tls_too(world):
    it = Permissive(world)
    stranger = world.authority(name="other").issue("default", "client")
    refused = tls.refusal(it.port, it.context(stranger, alpn=("http/1.1",)))
    assert refused.alert == "TLSV1_ALERT_UNKNOWN_CA"
    it.sidecar.wait_total(HANDSHAKES, 1, direction="inbound", cause="unknown_ca")


def test_mesh_tls_without_a_certificate_is_refused(world):
    it = Permissive(world)
    refused = tls.refusal(it.port, it.context())
    assert refused.alert == "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    it.sidecar.wait_total(HANDSHAKES, 1, direction="inbound", cause="no_certificate")


def test_a_session_without_certificate_opens_no_mesh_session(world):
    """A ticket of one-way TLS is worth nothing where a certificate is required."""
    it = Permissive(world)
    context = it.context(alpn=("http/1.1",))
    client = world.tls_client(it.port, context)
    assert client.request().status == 200
    session = client.socket.session
    again = world.tls_client(it.port, context, None, session)
    assert again.socket.session_reused and again.request().status == 200
    context.set_alpn_protocols(list(tls.ISTIO_HTTP11))
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
        world.tls_client(it.port, context, None, session).request()
    it.sidecar.wait_total(HANDSHAKES, 1, direction="inbound", cause="no_certificate")
    assert it.causes() == {"ok": 1, "resumed": 1, "no_certificate": 1}


class TlsApp:
    """An app that speaks TLS itself."""

    def __init__(self, world, script=tls.answer_requests):
        authority = world.authority(name="app-ca")
        self.ca = authority.ca
        identity = Forge(authority, world.folder / "app-forge").issue(dns=["app.example"])
        self.names = []
        context = tls.server_context(identity)
        context.sni_callback = lambda _socket, name, _context: self.names.append(name)
        self._server = world.raw_server(tls.serve(context, script))
        self.address = self._server.address


def test_other_tls_passes_to_the_app(world):
    app = TlsApp(world)
    it = Permissive(world, app, other_tls="pass")
    context = tls.client_context(app.ca, alpn=("http/1.1",))
    context.check_hostname = True  # it is the app's certificate that comes
    client = world.tls_client(it.port, context, "app.example")
    for _ in range(2):
        answer = client.request()
        assert answer.status == 200 and answer.body == b"ok"
        assert answer.header("server") is None
    assert app.names == ["app.example"]
    assert it.sidecar.metrics().total(REQUESTS) == 0
    assert it.causes() == {}
    # Plaintext and mesh TLS are still the sidecar's, even though this app understands neither.
    assert it.secure(it.client_identity).request().status in (502, 503)


def test_passed_bytes_are_exact_and_half_close_is_carried(world):
    received = []

    def script(wire, number):
        received.append(wire.read_to_end())
        wire.send(b"answer")

    app = world.raw_server(script)
    it = Permissive(world, app, other_tls="pass")
    client = it.plain()
    hello = client_hello(tls.client_context(it.authority.ca, alpn=("http/1.1",)))
    client.send_pieces(hello[:60])
    client.send(hello[60:] + b"and more")
    client.finish_sending()
    assert client.read_to_end() == b"answer"
    assert received == [hello + b"and more"]


def client_hello(context):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname="a.example").do_handshake()
    return outgoing.read()


def test_large_transfer_passes(world, sanitized):
    size = (1 if sanitized else 16) << 20

    def script(wire, number):
        wire.read_head()
        wire.send(b"x" * size)

    app = TlsApp(world, script)
    it = Permissive(world, app, other_tls="pass")
    client = world.tls_client(it.port, tls.client_context(app.ca, alpn=()))
    client.send(GET)
    assert len(client.read_exactly(size, 60)) == size


def test_pass_with_the_app_gone(world):
    class Gone:
        address = free_address()

    it = Permissive(world, Gone(), other_tls="pass")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        it.secure(alpn=("http/1.1",))
    assert it.plain().request().status == 503


def test_passed_connections_end_when_strict_begins(world):
    app = TlsApp(world)
    it = Permissive(world, app, other_tls="pass")
    client = world.tls_client(it.port, tls.client_context(app.ca, alpn=("http/1.1",)))
    assert client.request().status == 200
    it.sidecar.reload(inbound_config(app.address, mtls=it.identity.mtls("strict")))
    client.expect_end()
    it.sidecar.wait_line("configuration taken", "stderr")
    refused = tls.refusal(it.port, tls.client_context(it.authority.ca, alpn=("http/1.1",)))
    assert refused.alert == "TLSV13_ALERT_CERTIFICATE_REQUIRED"


def test_reload_while_a_passed_connection_is_opened(world):
    """The app's address does not answer yet; the configuration it came from is replaced."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    full = [socket.socket() for _ in range(3)]  # fills the backlog: further connects hang
    for each in full:
        each.setblocking(False)
        each.connect_ex(listener.getsockname())

    class App:
        address = "%s:%d" % listener.getsockname()

    it = Permissive(world, App(), other_tls="pass", timeouts={"connect": "1s"}, workers=1)
    client = it.plain()
    client.send(client_hello(tls.client_context(it.authority.ca, alpn=("http/1.1",))))
    config = {**it.config, "inbound": {**it.config["inbound"], "app": world.service().address}}
    it.sidecar.wait_total("hoplite_connections_open", 1, direction="inbound")
    it.sidecar.reload(config)
    it.sidecar.wait_line("configuration taken", "stderr")
    assert it.plain().request().status == 200
    client.expect_end()
    for each in (*full, listener):
        each.close()


# --- off ------------------------------------------------------------------------------------


def test_off_takes_plaintext_only(world):
    app = world.service()
    sidecar = world.hoplite(inbound_config(app.address))
    authority = world.authority()
    assert world.client(sidecar.inbound).request().status == 200
    with pytest.raises((ssl.SSLError, ConnectionError)):
        world.tls_client(sidecar.inbound, tls.client_context(authority.ca))
    assert len(app.received()) == 1
    assert sidecar.metrics().total(HANDSHAKES) == 0
