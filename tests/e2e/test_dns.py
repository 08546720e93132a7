"""Endpoints that are names: followed by DNS while requests go on, and what bad name servers do."""

import json
import signal
import socket
import subprocess
import threading

import pytest

from hoplite_e2e import tls
from hoplite_e2e.deadline import poll_until, seconds
from hoplite_e2e.dns import NXDOMAIN, SERVFAIL, NameServer, at, failing, silent
from hoplite_e2e.forge import Forge, short_lived
from hoplite_e2e.ledger import expect_ends, wait_idle
from hoplite_e2e.load import Load
from hoplite_e2e.topology import HOST, inbound_config, outbound_config, podinfo_at

NAME = "podinfo.example"


@pytest.fixture(name="name_server")
def name_server_fixture():
    server = NameServer(silent)
    yield server
    server.stop()


def free_port(hosts):
    """A port that is free on all of these addresses."""
    while True:
        sockets = []
        try:
            port = 0
            for host in hosts:
                sockets.append(socket.create_server((host, port)))
                port = sockets[0].getsockname()[1]
            return port
        except OSError:
            continue
        finally:
            for each in sockets:
                each.close()


def named(**places):
    """An answer: these names of example, each at its address."""
    def answer(query):
        host = places.get(query.name.removesuffix(".example"))
        return [query.reply([host] if host else [])]
    return answer


class Places:
    """Servers on one port of several loopback addresses; each answers with its address.

    After an upgrade to whatever it is they say what they hear.
    """

    def __init__(self, world, count):
        self.hosts = [f"127.0.0.{number}" for number in range(2, 2 + count)]
        self.servers = []
        self._world = world
        while not self.servers:
            self.port = free_port(self.hosts)
            try:
                for host in self.hosts:
                    self.servers.append(world.raw_server(self._says(host), host, self.port))
            except OSError:  # somebody was faster
                self.servers = []

    @staticmethod
    def _says(host):
        def script(wire, _number):
            upgrade = False
            while not upgrade:
                upgrade = any(name.lower() == "upgrade" for name, _ in wire.read_head()[1])
                if not upgrade:
                    wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s"
                              % (len(host), host.encode()))
            wire.send(b"HTTP/1.1 101 Switching Protocols\r\n"
                      b"Connection: Upgrade\r\nUpgrade: echo\r\n\r\n")
            while True:
                wire.send(wire.read_exactly(4, wanted=60))
        return script

    def endpoint(self):
        return f"{NAME}:{self.port}"

    def config(self, name_server, **more):
        return outbound_config(podinfo_at(self.endpoint()), workers=1, **name_server.section(),
                               **more)


def get(world, sidecar):
    return world.client(sidecar.outbound).request(host=HOST)


def upgraded(client):
    """Makes a tunnel of this connection."""
    answer = client.request(host=HOST, headers=[("Connection", "Upgrade"), ("Upgrade", "echo")])
    assert answer.status == 101
    return client


def said(tunnel):
    tunnel.send(b"ping")
    return tunnel.read_exactly(4) == b"ping"


def started(world, config):
    """A sidecar that has learnt where its service is."""
    sidecar = world.hoplite(config)
    poll_until(lambda: get(world, sidecar).status == 200, "the name's service serves", 30)
    return sidecar


def lookups(sidecar, outcome):
    return sidecar.metrics().total("hoplite_dns_lookups_total", outcome=outcome)


def test_changing_addresses_are_followed_under_load_and_nothing_is_lost(world, name_server):
    places = Places(world, 3)
    one, two, three = places.hosts
    name_server.answer = at(one, two)
    sidecar = started(world, places.config(name_server))
    load = Load(sidecar.outbound, clients=4, host=HOST)
    for turn in range(6):
        new = places.servers[[2, 1][turn % 2]]
        accepted = new.accepted
        name_server.answer = at(one, [three, two][turn % 2])
        poll_until(lambda: new.accepted > accepted, "the new address is used", 30)
        done = load.total()
        poll_until(lambda: load.total() > done + 20, "the load goes on")
    load.stop()
    assert load.lost == [] and load.refused == 0
    assert set(load.answers) == {200}
    # The address that stayed kept its connections: as many as there were clients, not six times.
    assert places.servers[0].accepted <= 4
    metrics = wait_idle(sidecar)
    assert metrics.total("hoplite_dns_endpoints", service="podinfo:80") == 2
    assert metrics.total("hoplite_dns_addresses", host=NAME) == 2
    assert metrics.total("hoplite_retries_total") == 0
    # Those of addresses that went are closed.
    poll_until(lambda: sidecar.metrics().total("hoplite_upstream_connections_open") <= 8,
               "only the addresses of now have connections")


def test_a_request_under_way_ends_on_the_address_that_went(world, name_server):
    places = Places(world, 2)
    name_server.answer = at(places.hosts[0])
    sidecar = started(world, places.config(name_server))
    client = world.client(sidecar.outbound)
    # The head alone: the server answers when it has come whole.
    client.send(b"GET / HTTP/1.1\r\nHost: " + HOST.encode() + b"\r\n\r\n")
    assert client.read_response().body == places.hosts[0].encode()
    client.send(b"POST / HTTP/1.1\r\nHost: " + HOST.encode() + b"\r\nContent-Length: 2\r\n\r\na")
    assert client.read_response().body == places.hosts[0].encode()
    name_server.answer = at(places.hosts[1])
    poll_until(lambda: get(world, sidecar).body == places.hosts[1].encode(), "the new one serves")


def test_a_tunnel_through_two_sidecars_stays_where_it_is(world, name_server):
    """Each knows the next by a name, and both names go elsewhere."""
    places = Places(world, 2)
    authority = world.authority()
    inside, outside = authority.issue("test", "podinfo"), authority.issue("default", "client")
    name_server.answer = named(app=places.hosts[0], sidecar="127.0.0.1")
    server = world.hoplite(inbound_config(f"app.example:{places.port}", mtls=inside.mtls(),
                                          **name_server.section()), name="server")
    tls_to = {"mode": "mutual", "sans": [inside.principal]}
    client = started(world, outbound_config(
        podinfo_at(f"sidecar.example:{server.inbound}", tls=tls_to), mtls=outside.mtls(),
        **name_server.section()))
    tunnel = upgraded(world.client(client.outbound))
    assert said(tunnel)
    name_server.answer = named(app=places.hosts[1], sidecar="127.0.0.9")
    other = world.tls_client(server.inbound, tls.client_context(authority.ca, outside))
    poll_until(lambda: other.request().body == places.hosts[1].encode(),
               "the server's sidecar follows")
    poll_until(lambda: get(world, client).status == 503, "the client's sidecar follows")
    assert said(tunnel)
    tunnel.finish_sending()
    tunnel.expect_end()
    for sidecar in (client, server):
        metrics = wait_idle(sidecar)
        assert metrics.total("istio_requests_total", response_code="101") == 1


def test_an_answer_judges_nobody_anew(world, name_server):
    """Whose certificate has expired since is served on, at new addresses too, until a reload."""
    places = Places(world, 2)
    name_server.answer = at(places.hosts[0])
    authority = world.authority()
    sidecar = world.hoplite(inbound_config(
        places.endpoint(), mtls=authority.issue("test", "podinfo").mtls(),
        **name_server.section()))

    def connect(identity):
        return world.tls_client(sidecar.inbound, tls.client_context(authority.ca, identity))

    def pair(identity):
        first, second = connect(identity), upgraded(connect(identity))
        assert first.request().body == places.hosts[0].encode()
        return first, second

    lasting = authority.issue("default", "client")
    other = connect(lasting)
    poll_until(lambda: other.request().status == 200, "the name's service serves", 30)
    client, tunnel = short_lived(Forge(authority, world.folder / "forge"), lasting.principal, pair)
    name_server.answer = at(places.hosts[1])
    poll_until(lambda: other.request().body == places.hosts[1].encode(), "it follows")
    assert client.request().body == places.hosts[1].encode()
    assert said(tunnel)
    sidecar.reload()
    sidecar.wait_total("hoplite_reloads_total", 1, result="accepted")
    poll_until(lambda: client.request().status == 403, "it is judged by its next request")
    assert said(tunnel)  # its request was begun before


@pytest.mark.parametrize("answer", [failing(NXDOMAIN), failing(SERVFAIL), silent],
                         ids=["NXDOMAIN", "SERVFAIL", "silence"])
def test_what_can_not_be_refreshed_stays(world, name_server, answer):
    places = Places(world, 2)
    name_server.answer = at(places.hosts[0])
    sidecar = started(world, places.config(name_server))
    assert get(world, sidecar).body == places.hosts[0].encode()
    name_server.answer = answer
    poll_until(lambda: sum(lookups(sidecar, outcome) for outcome in
                           ("not_found", "server_failure", "timeout")) >= 2, "lookups fail", 30)
    assert get(world, sidecar).body == places.hosts[0].encode()
    sidecar.wait_line(rf"the name {NAME} was not found out .* stays at {places.hosts[0]} ", "stderr")
    name_server.answer = at(places.hosts[1])
    poll_until(lambda: get(world, sidecar).body == places.hosts[1].encode(), "it recovers", 30)


@pytest.mark.parametrize("answer", [failing(NXDOMAIN), silent], ids=["NXDOMAIN", "silence"])
def test_a_name_that_comes_later_holds_up_nobody(world, name_server, answer):
    places = Places(world, 1)
    name_server.answer = answer
    sidecar = world.hoplite(places.config(name_server))
    refused = get(world, sidecar)
    assert refused.status == 503
    expect_ends(sidecar, {("503", "UH"): 1})
    assert sidecar.metrics().total("hoplite_dns_endpoints", service="podinfo:80") == 0
    name_server.answer = at(*places.hosts)
    poll_until(lambda: get(world, sidecar).status == 200, "the name's service serves", 30)


def test_all_addresses_take_their_turn(world, name_server):
    places = Places(world, 5)
    name_server.answer = at(*places.hosts, ttl=30)
    sidecar = started(world, places.config(name_server))
    client = world.client(sidecar.outbound)
    counts = {}
    for _ in range(50):
        body = client.request(host=HOST).body
        counts[body] = counts.get(body, 0) + 1
    assert counts == {host.encode(): 10 for host in places.hosts}


def lie(query):
    """Everything but an answer to this question."""
    good = query.reply(["127.0.0.9"])
    yield bytes([query.id[0] ^ 1]) + good[1:]
    yield good[:2] + b"\x00\x00" + good[4:]
    yield b""
    yield query.id
    yield good[:11]
    yield good[:-3]
    yield good[:6] + b"\xff\xff" + good[8:]
    yield good[:12] + b"\xc0\x0c" + good[14:]
    yield good + b"x" * 3000
    yield query.id + bytes(4000)


@pytest.mark.parametrize("which", [slice(0, 4), slice(4, 7), slice(7, 10)])
def test_hostile_replies_harm_nothing(world, name_server, which):
    places = Places(world, 1)
    name_server.answer = at(places.hosts[0])
    sidecar = started(world, places.config(name_server))
    assert get(world, sidecar).status == 200
    name_server.answer = lambda query: list(lie(query))[which]
    name_server.wait_asked(3)
    name_server.answer = at(places.hosts[0])
    before = lookups(sidecar, "resolved")
    poll_until(lambda: lookups(sidecar, "resolved") > before, "it is believed again", 30)
    poll_until(lambda: get(world, sidecar).body == places.hosts[0].encode(), "it serves")


def test_the_app_may_be_a_name(world, name_server):
    places = Places(world, 1)
    name_server.answer = at(*places.hosts)
    sidecar = world.hoplite(inbound_config(places.endpoint(), **name_server.section()))
    poll_until(lambda: world.client(sidecar.inbound).request().status == 200, "the app answers", 30)
    assert sidecar.metrics().total("hoplite_dns_endpoints", service="app") == 1


def test_a_reload_to_a_name_and_to_other_name_servers_loses_nothing(world, name_server):
    places = Places(world, 2)
    name_server.answer = at(places.hosts[1])
    sidecar = world.hoplite(outbound_config(podinfo_at(f"{places.hosts[0]}:{places.port}"),
                                            workers=1))
    load = Load(sidecar.outbound, clients=4, host=HOST)
    sidecar.reload(places.config(name_server))
    poll_until(lambda: places.servers[1].accepted > 0, "the name's address is used")
    other = NameServer(at(places.hosts[0]))
    try:
        sidecar.reload(places.config(other))
        poll_until(lambda: get(world, sidecar).body == places.hosts[0].encode(), "the other rules")
        load.stop()
    finally:
        other.stop()
    # 503 where the name server takes longer than a reload waits.
    assert load.lost == [] and set(load.answers) <= {200, 503}
    assert sidecar.metrics().total("hoplite_reloads_total", result="accepted") == 2


def test_a_reload_that_comes_before_the_first_answer(world, name_server):
    """SIGHUP while the start waits for names: neither its end nor lost."""
    places = Places(world, 2)
    asked, go_on = threading.Event(), threading.Event()

    def late(query):
        asked.set()
        assert go_on.wait(seconds())
        return at(places.hosts[0])(query)

    name_server.answer = late
    sidecar = world.hoplite(places.config(name_server), wait_ready=False)
    assert asked.wait(seconds())
    # Both are there when it looks: whichever it sees first.
    sidecar.signal(signal.SIGSTOP)
    sidecar.reload(outbound_config(podinfo_at(f"{places.hosts[1]}:{places.port}"), workers=1,
                                   **name_server.section()))
    go_on.set()
    poll_until(lambda: name_server.asked, "the name server has answered")
    sidecar.signal(signal.SIGCONT)
    sidecar.wait_ready()
    sidecar.wait_total("hoplite_reloads_total", 1, result="accepted")
    poll_until(lambda: get(world, sidecar).body == places.hosts[1].encode(), "the new endpoint")


def test_check_asks_nobody(world, name_server):
    config = outbound_config(podinfo_at(f"{NAME}:80"), **name_server.section())
    path = world.folder / "check.yaml"
    path.write_text(json.dumps(config))
    done = subprocess.run([world.hoplite_binary, "check", "-c", path], capture_output=True,
                          timeout=seconds(), check=False)
    assert done.returncode == 0, done.stderr
    assert name_server.asked == []
