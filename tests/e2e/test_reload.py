"""SIGHUP: the new configuration takes effect or is refused whole, and nobody's request is lost."""

import copy
import threading

import pytest

from hoplite_e2e.deadline import poll_until, seconds
from hoplite_e2e.ledger import expect_ends, wait_idle
from hoplite_e2e.load import Load
from hoplite_e2e.topology import HOST, inbound_config, outbound_config, podinfo_at

GET = b"GET / HTTP/1.1\r\nHost: " + HOST.encode() + b"\r\n\r\n"


def says(text):
    """A server that answers everything with `text`."""
    def script(wire, number):
        while True:
            wire.read_head()
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text))
    return script


def reloads(sidecar, result):
    return sidecar.metrics().total("hoplite_reloads_total", result=result)


def reload(sidecar, config, result="accepted"):
    before = reloads(sidecar, result)
    sidecar.reload(config)
    poll_until(lambda: reloads(sidecar, result) == before + 1, f"the reload is {result}")


def log_lines(sidecar, text):
    return [line for line in sidecar.stderr + sidecar.stdout if text in line]


def reload_error(sidecar, config):
    """Reloads what must be refused; the log's lines about it, as one text."""
    seen = len(sidecar.stderr) + len(sidecar.stdout)
    reload(sidecar, config, "rejected")
    lines = poll_until(lambda: log_lines(sidecar, "stays in force"), "the log says so")
    assert len(sidecar.stderr) + len(sidecar.stdout) > seen
    return "\n".join(sidecar.stderr + sidecar.stdout) if lines else ""


@pytest.mark.parametrize("workers", [1, 2])
def test_under_load_nothing_is_lost_and_connections_stay(world, workers):
    app = world.service()
    config = outbound_config(podinfo_at(app.address), workers=workers)
    sidecar = world.hoplite(config)
    load = Load(sidecar.outbound, clients=8, host=HOST)
    poll_until(lambda: load.total() > 200, "the load is under way")
    connects = sidecar.metrics().total("hoplite_upstream_connects_total")
    accepted = sidecar.metrics().total("hoplite_connections_accepted_total", direction="outbound")
    for turn in range(20):
        changed = copy.deepcopy(config)
        changed["log"] = {"level": ["info", "debug"][turn % 2]}
        changed["outbound"]["services"].append(
            {"hosts": [f"other{turn}.example.com"], "port": 80, "endpoints": []})
        reload(sidecar, changed)
    load.stop()
    assert load.lost == [] and load.refused == 0
    assert set(load.answers) == {200}
    metrics = wait_idle(sidecar)
    # At most one connection a client was ever needed at a time; twenty new pools would show.
    assert connects <= metrics.total("hoplite_upstream_connects_total") <= 8
    assert metrics.total("hoplite_connections_accepted_total", direction="outbound") == accepted
    assert metrics.total("istio_requests_total") == load.total()


def test_changed_endpoints_under_load(world):
    servers = [world.raw_server(says(text)) for text in (b"one", b"two")]
    configs = [outbound_config(podinfo_at(server.address)) for server in servers]
    sidecar = world.hoplite(configs[0])
    load = Load(sidecar.outbound, clients=4, host=HOST)
    for turn in range(1, 11):
        done = load.total()
        reload(sidecar, configs[turn % 2])
        poll_until(lambda: load.total() > done + 20, "the load goes on")
    load.stop()
    assert load.lost == [] and set(load.answers) == {200}
    poll_until(lambda: sidecar.metrics().total("hoplite_upstream_connections_open") <= 4,
               "the connections of what is gone are closed")


def test_a_request_under_way_keeps_its_upstream(world):
    waiting, go = threading.Event(), threading.Event()

    def slow(wire, number):
        wire.read_head()
        waiting.set()
        assert go.wait(seconds())
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nold")

    config = outbound_config(podinfo_at(world.raw_server(slow).address))
    sidecar = world.hoplite(config)
    client = world.client(sidecar.outbound)
    client.send(GET)
    assert waiting.wait(seconds())
    reload(sidecar, outbound_config(podinfo_at(world.raw_server(says(b"new")).address)))
    assert world.client(sidecar.outbound).request(host=HOST).body == b"new"
    go.set()
    assert client.read_response().body == b"old"
    assert client.request(host=HOST).body == b"new"  # the same connection, the new rules


def test_services_come_and_go(world):
    app = world.raw_server(says(b"ok"))
    other = {"hosts": ["other.example.com"], "port": 80, "endpoints": [app.address]}
    without = outbound_config(podinfo_at(app.address))
    with_it = outbound_config(podinfo_at(app.address), other)
    sidecar = world.hoplite(without)
    client = world.client(sidecar.outbound)
    assert client.request(host="other.example.com").status == 502
    reload(sidecar, with_it)
    assert client.request(host="other.example.com").status == 200
    reload(sidecar, without)
    assert client.request(host="other.example.com").status == 502
    metrics = expect_ends(sidecar, {("502", "-"): 2, ("200", "-"): 1})
    assert metrics.total("istio_requests_total", destination_service_name="BlackHoleCluster") == 2


def test_timeouts_and_limits_change(world):
    sidecar = world.hoplite(inbound_config(
        world.raw_server(lambda wire, number: wire.read_until(b"never")).address))
    config = inbound_config(f"127.0.0.1:{sidecar.inbound}")  # not yet
    config = copy.deepcopy(config)
    with open(sidecar.config_path, encoding="utf-8") as file:
        import json
        config = json.load(file)
    config["timeouts"] = {"request": "200ms"}
    reload(sidecar, config)
    assert world.client(sidecar.inbound).request().status == 504
    config["limits"] = {"head_bytes": "1KiB"}
    reload(sidecar, config)
    assert world.client(sidecar.inbound).request(headers=[("X", "x" * 2000)]).status == 431


BROKEN = [
    ("not yaml", "inbound: [", ":1:"),
    ("unknown key", '{"inbound": {"lissen": "127.0.0.1:0"}}', "inbound.lissen"),
    ("wrong type", '{"workers": "many"}', "workers"),
    ("nothing", "", "no listener"),
]


@pytest.mark.parametrize("name, text, said", BROKEN, ids=[name for name, _, _ in BROKEN])
def test_a_broken_file_changes_nothing(world, name, text, said):
    app = world.service()
    config = inbound_config(app.address)
    sidecar = world.hoplite(config)
    client = world.client(sidecar.inbound)
    assert client.request().status == 200
    sidecar.config_path.write_text(text)
    message = reload_error(sidecar, None)
    assert said in message and str(sidecar.config_path) in message
    assert client.request().status == 200
    assert world.client(sidecar.inbound).request().status == 200
    reload(sidecar, config)  # and a good one is taken again
    assert client.request().status == 200


def test_a_missing_file_changes_nothing(world):
    app = world.service()
    config = inbound_config(app.address)
    sidecar = world.hoplite(config)
    sidecar.config_path.unlink()
    assert str(sidecar.config_path) in reload_error(sidecar, None)
    assert world.client(sidecar.inbound).request().status == 200
    reload(sidecar, config)


@pytest.mark.parametrize("section, key, value", [
    ("inbound", "listen", "127.0.0.1:1"),
    ("stats", "listen", "127.0.0.1:1"),
    (None, "workers", 3),
])
def test_what_can_not_be_reloaded_is_said(world, section, key, value):
    app = world.service()
    config = inbound_config(app.address, workers=1)
    sidecar = world.hoplite(config)
    changed = copy.deepcopy(config)
    (changed[section] if section else changed)[key] = value
    message = reload_error(sidecar, changed)
    assert (f"{section}.{key}" if section else key) in message
    assert "restart" in message
    assert world.client(sidecar.inbound).request().status == 200


def test_reloads_in_quick_succession(world):
    app = world.service()
    config = inbound_config(app.address)
    sidecar = world.hoplite(config)
    load = Load(sidecar.inbound, clients=4)
    for _ in range(50):
        sidecar.reload()
    poll_until(lambda: reloads(sidecar, "accepted") >= 1, "at least one was taken")
    load.stop()
    assert load.lost == [] and set(load.answers) == {200}
