"""Reloads and changed certificate files under live connections: what stays, what is judged anew."""

import contextlib
import os
import shutil
import signal
import ssl
import threading

import pytest

from hoplite_e2e import tls
from hoplite_e2e.deadline import poll_until
from hoplite_e2e.forge import Forge, ago
from hoplite_e2e.topology import HOST, Pair, inbound_config, outbound_config, podinfo_at

CLIENT = "spiffe://cluster.local/ns/default/sa/client"
SERVER = "spiffe://cluster.local/ns/test/sa/podinfo"
HANDSHAKES = "hoplite_tls_handshakes_total"
RELOADS = "hoplite_reloads_total"
REQUESTS = "istio_requests_total"
EXPIRY = "hoplite_certificate_expiry_timestamp_seconds"
TAKEN = "changed certificate files taken"
NOT_TAKEN = "changed certificate files not taken, the present state stays in force: "


class Mounted:
    """A sidecar whose three files are in a folder of their own, to be replaced there."""

    def __init__(self, world, mode="strict", folder=None, app=None, **more):
        self.world = world
        self.sidecar = None
        self.app = app or world.service()
        self.authority = world.authority()
        self.forge = Forge(self.authority, world.folder / "forge")
        self.folder = folder or world.folder / "mounted"
        if folder is None:
            self.folder.mkdir()
            self.put(self.authority.issue("test", "podinfo"))
        self.mtls = {"mode": mode, "cert": str(self.folder / "cert.pem"),
                     "key": str(self.folder / "key.pem"), "ca": str(self.folder / "ca.pem"),
                     "trust_domain": "cluster.local"}
        self.config = inbound_config(self.app.address, mtls=self.mtls, **more)

    def start(self):
        self.sidecar = self.world.hoplite(self.config)
        self.client_identity = self.authority.issue("default", "client")
        return self

    @contextlib.contextmanager
    def at_once(self):
        """What is changed in here the sidecar sees as one change, however long it takes."""
        if self.sidecar is None:
            yield
            return
        self.sidecar.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.sidecar.signal(signal.SIGCONT)

    def put(self, identity, folder=None):
        folder = folder or self.folder
        with self.at_once():
            shutil.copy(identity.key, folder / "key.pem")
            shutil.copy(identity.cert, folder / "cert.pem")
            shutil.copy(identity.authority.ca, folder / "ca.pem")

    def connect(self, identity=None, alpn=tls.ISTIO_HTTP11):
        context = tls.client_context(self.authority.ca, identity or self.client_identity, alpn)
        return self.world.tls_client(self.sidecar.inbound, context)

    def reload(self, **mtls):
        """Reloads with these keys of mtls changed, and waits until that is done."""
        before = self.sidecar.metrics().total(RELOADS)
        self.config = {**self.config, "mtls": {**self.mtls, **mtls}}
        self.sidecar.reload(self.config)
        poll_until(lambda: self.sidecar.metrics().total(RELOADS) > before, "the reload")
        assert self.sidecar.metrics().total(RELOADS, result="accepted") == before + 1


def server_certificate(client):
    return client.socket.getpeercert(binary_form=True)


def der(identity):
    return ssl.PEM_cert_to_DER_cert(identity.cert.read_text())


# --- changed files --------------------------------------------------------------------------


def test_changed_files_are_picked_up(world):
    it = Mounted(world).start()
    old = it.connect()
    assert old.request().status == 200
    fresh = it.forge.issue(SERVER, not_after=ago(days=-3))
    it.put(fresh)
    it.sidecar.wait_line(TAKEN, "stderr")
    assert old.request().status == 200  # nobody is cut
    new = it.connect()
    assert server_certificate(new) == der(fresh) != server_certificate(old)
    assert new.request().status == 200
    metrics = it.sidecar.metrics()
    assert metrics.total(RELOADS, result="accepted") == 1
    expiry = ssl.cert_time_to_seconds(new.socket.getpeercert()["notAfter"])
    assert metrics.total(EXPIRY) == expiry


def test_kubernetes_symlink_swap(world):
    """Secrets are mounted as links to ..data/X, and ..data is a link that is renamed over."""
    folder = world.folder / "secret"
    (folder / "..1").mkdir(parents=True)
    it = Mounted(world, folder=folder)
    it.put(it.authority.issue("test", "podinfo"), folder / "..1")
    (folder / "..data").symlink_to("..1")
    for name in ("cert.pem", "key.pem", "ca.pem"):
        (folder / name).symlink_to(f"..data/{name}")
    it.start()
    for turn in (2, 3):
        fresh = it.forge.issue(SERVER)
        (folder / f"..{turn}").mkdir()
        it.put(fresh, folder / f"..{turn}")
        (folder / "..next").symlink_to(f"..{turn}")
        os.rename(folder / "..next", folder / "..data")
        shutil.rmtree(folder / f"..{turn - 1}")
        it.sidecar.wait_line(rf"{TAKEN} \(generation {turn}\)", "stderr")
        client = it.connect()
        assert server_certificate(client) == der(fresh)
        assert client.request().status == 200


def break_key(it):
    cert, key = it.forge.issue(SERVER), it.forge.issue(SERVER)
    with it.at_once():
        shutil.copy(cert.cert, it.folder / "cert.pem")
        shutil.copy(key.key, it.folder / "key.pem")
    return "key.pem"


def break_half(it):
    (it.folder / "cert.pem").write_text((it.folder / "cert.pem").read_text()[:200])
    return "cert.pem"


def break_missing(it):
    (it.folder / "ca.pem").unlink()
    return "ca.pem"


def break_expired(it):
    it.put(it.forge.issue(SERVER, not_before=ago(days=2), not_after=ago(minutes=1)))
    return "cert.pem"


def break_domain(it):
    it.put(it.forge.issue("spiffe://elsewhere.example/ns/test/sa/podinfo"))
    return "cert.pem"


@pytest.mark.parametrize("damage", [break_key, break_half, break_missing, break_expired,
                                    break_domain])
def test_broken_files_keep_the_old_state_and_say_so(world, damage):
    it = Mounted(world).start()
    before = it.connect()
    file = damage(it)
    it.sidecar.wait_line(NOT_TAKEN + rf".*{file}", "stderr")
    assert before.request().status == 200
    after = it.connect()
    assert server_certificate(after) == server_certificate(before)
    assert after.request().status == 200
    metrics = it.sidecar.metrics()
    assert metrics.total(RELOADS, result="rejected") == 1
    assert metrics.total(RELOADS, result="accepted") == 0
    # Put right, they are taken without a further word.
    fresh = it.forge.issue(SERVER)
    it.put(fresh)
    it.sidecar.wait_line(TAKEN, "stderr")
    assert server_certificate(it.connect()) == der(fresh)


def test_an_edited_configuration_waits_for_sighup(world):
    it = Mounted(world).start()
    it.sidecar.config_path.write_text("mtls: {mode: off\n")  # half-way through an edit
    fresh = it.forge.issue(SERVER)
    it.put(fresh)
    it.sidecar.wait_line(TAKEN, "stderr")
    assert server_certificate(it.connect()) == der(fresh)
    it.sidecar.reload()
    it.sidecar.wait_line("configuration not taken, the present state stays in force", "stderr")
    assert it.connect().request().status == 200


def test_rotation_of_the_pair_by_files_alone(world):
    """Both CAs first, then the identities, then the old CA goes: no request is lost on the way."""
    app = world.service()
    old, new = world.authority(name="old"), world.authority(name="new")
    folders = {}
    for name, namespace in (("client", "default"), ("podinfo", "test")):
        folders[name] = world.folder / f"{name}-files"
        folders[name].mkdir()

    def put(identity, name, *authorities):
        folder = folders[name]
        for part, text in (("ca", b"".join(a.ca.read_bytes() for a in authorities)),
                           ("key", identity.key.read_bytes()),
                           ("cert", identity.cert.read_bytes())):
            (folder / f"{part}.next").write_bytes(text)
            os.rename(folder / f"{part}.next", folder / f"{part}.pem")

    def mtls(name):
        return {"mode": "strict", "trust_domain": "cluster.local",
                **{part: str(folders[name] / f"{part}.pem") for part in ("cert", "key", "ca")}}

    identities = {authority: {"client": authority.issue("default", "client"),
                              "podinfo": authority.issue("test", "podinfo")}
                  for authority in (old, new)}
    for name in folders:
        put(identities[old][name], name, old)
    server = world.hoplite(inbound_config(app.address, mtls=mtls("podinfo")), name="server")
    client = world.hoplite(outbound_config(
        podinfo_at(f"127.0.0.1:{server.inbound}", tls={"mode": "mutual", "sans": [SERVER]}),
        mtls=mtls("client")), name="client")
    load = Load(world, client.outbound)
    for turn, (authority, trusted) in enumerate(((old, (old, new)), (new, (old, new)),
                                                 (new, (new,))), 2):
        for name in folders:
            put(identities[authority][name], name, *trusted)
        for sidecar in (server, client):
            sidecar.wait_line(rf"{TAKEN} \(generation {turn}\)", "stderr")
    load.stop()
    total = client.wait_total(REQUESTS, load.sent).one(REQUESTS, response_code="200")
    assert total["destination_principal"] == SERVER
    failed = [labels for labels, value in server.metrics().series(HANDSHAKES)
              if value and labels["cause"] not in ("ok", "resumed")]
    assert failed == []


class Load:
    """Requests from a thread, one after the other, on connections of five, until stopped."""

    def __init__(self, world, port, host=HOST):
        self._world, self._port, self._host = world, port, host
        self.sent = 0
        self._failed = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        try:
            while not self._stop.is_set():
                client = self._world.client(self._port)
                for _ in range(5):
                    answer = client.request(host=self._host)
                    self.sent += 1
                    assert answer.status == 200, f"request {self.sent}: {answer.status}"
                client.close()
        except Exception as error:
            self._failed.append(error)

    def stop(self):
        self._stop.set()
        self._thread.join()
        if self._failed:
            raise self._failed[0]
        assert self.sent > 0


def test_no_request_is_lost_in_reloads(world):
    pair = Pair(world, world.service().address)
    load = Load(world, pair.port)
    for turn in range(2, 12):
        for sidecar in (pair.server, pair.client):
            sidecar.reload()
            sidecar.wait_line(rf"configuration taken \(generation {turn}\)", "stderr")
    load.stop()
    pair.client.wait_total(REQUESTS, load.sent)
    pair.server.wait_total(REQUESTS, load.sent, response_code="200")
    # Nothing changed, so the connections stayed.
    assert pair.server.metrics().total(HANDSHAKES, direction="inbound") <= 2


# --- live connections, judged anew ------------------------------------------------------------


def patient(wire, _number):
    """An app that answers a POST only when it has all of it."""
    while True:
        start, _ = wire.read_head()
        body = wire.read_exactly(4) if start.startswith("POST") else b""
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def half_a_request(client):
    client.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab")


def test_plaintext_ends_when_strict_begins(world):
    it = Mounted(world, mode="permissive", app=world.raw_server(patient)).start()
    fresh, idle, busy = (world.client(it.sidecar.inbound) for _ in range(3))
    secure = it.connect()
    assert idle.request().status == 200
    assert secure.request().status == 200
    half_a_request(busy)
    it.sidecar.wait_total("hoplite_requests_in_flight", 1)
    it.reload(mode="strict")
    idle.expect_end()
    busy.send(b"cd")  # the current response is still given
    answer = busy.read_response()
    assert answer.status == 200 and answer.body == b"abcd"
    assert answer.header("connection") == "close"
    busy.expect_end()
    # Accepted before, but nothing had been said: it must say it in TLS now.
    fresh.send(b"GET /version HTTP/1.1\r\nHost: a\r\n\r\n")
    fresh.expect_end()
    it.sidecar.wait_total(HANDSHAKES, 1, direction="inbound", cause="not_tls")
    assert secure.request().status == 200  # mTLS stays
    it.sidecar.wait_total(REQUESTS, 4, response_code="200")
    assert it.sidecar.metrics().total(REQUESTS) == 4


def test_one_way_tls_is_refused_when_strict_begins(world):
    it = Mounted(world, mode="permissive").start()
    client = world.tls_client(it.sidecar.inbound,
                              tls.client_context(it.authority.ca, alpn=("http/1.1",)))
    assert client.request().status == 200
    it.reload(mode="strict")
    answer = client.request()
    assert answer.status == 403 and answer.header("connection") == "close"
    client.expect_end()
    it.sidecar.wait_total(REQUESTS, 1, response_code="403", response_flags="-")


def test_mtls_ends_when_off_begins(world):
    it = Mounted(world, app=world.raw_server(patient)).start()
    idle, busy = it.connect(), it.connect()
    assert idle.request().status == 200
    half_a_request(busy)
    it.sidecar.wait_total("hoplite_requests_in_flight", 1)
    it.reload(mode="off")
    idle.expect_end()
    busy.send(b"cd")
    assert busy.read_response().header("connection") == "close"
    assert world.client(it.sidecar.inbound).request().status == 200


def test_strict_to_permissive_keeps_connections(world):
    it = Mounted(world).start()
    client = it.connect()
    assert client.request().status == 200
    it.reload(mode="permissive")
    assert client.request().status == 200
    assert world.client(it.sidecar.inbound).request().status == 200


def test_removed_ca_ends_a_live_connection_at_its_next_request(world):
    it = Mounted(world)
    other = world.authority(name="other")
    (it.folder / "ca.pem").write_bytes(it.authority.ca.read_bytes() + other.ca.read_bytes())
    it.start()
    theirs = it.connect(other.issue("default", "client"))
    ours = it.connect()
    half_a_request(theirs)
    it.sidecar.wait_total("hoplite_requests_in_flight", 1)
    (it.folder / "ca.pem").write_bytes(it.authority.ca.read_bytes())
    it.sidecar.wait_line(TAKEN, "stderr")
    theirs.send(b"cd")
    assert theirs.read_response().status == 200  # begun before
    answer = theirs.request()
    assert answer.status == 403 and answer.header("connection") == "close"
    theirs.expect_end()
    assert ours.request().status == 200
    line = it.sidecar.wait_line("is refused since the reload", "stderr").string
    assert CLIENT in line and "127.0.0.1:" in line
    labels = it.sidecar.wait_total(REQUESTS, 3).one(REQUESTS, response_code="403")
    assert labels["source_principal"] == CLIENT and labels["response_flags"] == "-"


def test_changed_trust_domain_ends_a_live_connection(world):
    it = Mounted(world).start()
    client = it.connect()
    assert client.request().status == 200
    it.put(it.forge.issue("spiffe://new.example/ns/test/sa/podinfo"))
    it.reload(trust_domain="new.example")
    assert client.request().status == 403
    client.expect_end()


def test_changed_allow_rules_hold_for_live_connections(world):
    it = Mounted(world).start()
    client = it.connect()
    assert client.request().status == 200
    it.reload(allow=["spiffe://cluster.local/ns/other/*"])
    assert client.request().status == 403
    it.reload(allow=["spiffe://cluster.local/ns/default/*"])
    assert client.request().status == 200  # the same connection
    assert it.sidecar.metrics().total(HANDSHAKES, direction="inbound") == 1


def test_expired_peer_is_refused_after_a_reload(world):
    """Not at any request, but whenever trust is judged anew."""
    it = Mounted(world).start()
    soon = ago(seconds=-12)
    client = it.connect(it.forge.issue(CLIENT, not_after=soon))
    assert client.request().status == 200
    poll_until(lambda: ago() > soon.replace(microsecond=0) + (ago(seconds=0) - ago(seconds=1)),
               "the certificate to expire", 20)
    it.reload(audit=False)
    assert client.request().status == 403


def test_pooled_connections_of_a_removed_ca_are_not_used(world):
    """Outbound: what the present CA would refuse gets no further request."""
    app = world.service()
    theirs, ours = world.authority(name="theirs"), world.authority(name="ours")
    both = world.folder / "both.pem"
    both.write_bytes(ours.ca.read_bytes() + theirs.ca.read_bytes())
    server = world.hoplite(inbound_config(
        app.address, mtls={**theirs.issue("test", "podinfo").mtls(), "ca": str(both)}))
    mtls = ours.issue("default", "client").mtls()
    service = podinfo_at(f"127.0.0.1:{server.inbound}")
    client = world.hoplite(outbound_config(service, mtls={**mtls, "ca": str(both)}))
    connection = world.client(client.outbound)
    assert connection.request(host=HOST).status == 200
    client.reload(outbound_config(service, mtls=mtls))
    client.wait_line("configuration taken", "stderr")
    assert connection.request(host=HOST).status == 503
    client.wait_total(HANDSHAKES, 1, direction="outbound", cause="unknown_ca")
    client.wait_total(REQUESTS, 1, response_flags="UF", response_code="503")
    client.wait_total("hoplite_upstream_connections_open", 0)
