"""How one process can be run: in front of a service by two flags, on one or all addresses, with
both listeners for an app that calls its own service; and the pages of its stats listener."""

import re
import socket

import pytest

from hoplite_e2e import metrics
from hoplite_e2e.front import free_address
from hoplite_e2e.process import Process
from hoplite_e2e.topology import HOST, inbound_config, podinfo_at, server_workload

STATS = ("--stats-listen", "127.0.0.1:0")


def has_ipv6():
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def own_address():
    """An address of this machine that is not loopback, or None."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return None
        address = probe.getsockname()[0]
        return None if address.startswith("127.") else address


def listening_sockets(port):
    """How many sockets listen on this IPv4 port."""
    with open("/proc/net/tcp", encoding="ascii") as table:
        rows = [line.split() for line in table.readlines()[1:]]
    return sum(row[1].endswith(f":{port:04X}") and row[3] == "0A" for row in rows)


def send(world, port, count, host="127.0.0.1", authority="localhost"):
    client = world.client(port, host)
    for _ in range(count):
        answer = client.request(host=authority)
        assert (answer.status, answer.complete) == (200, True)
    client.close()


def front(world, listen, app, *more):
    return world.hoplite(arguments=["--from", listen, "--to", app.address, *STATS, *more])


def test_in_front_of_a_service_on_both_loopbacks(world):
    """A bare port is 127.0.0.1 and ::1, the same number on both, and nothing else."""
    app = world.service()
    sidecar = front(world, ":0", app, "--workers", "2")
    addresses = dict(sidecar.addresses("inbound"))
    wanted = {"127.0.0.1", "::1"} if has_ipv6() else {"127.0.0.1"}
    assert set(addresses) == wanted
    assert len(set(addresses.values())) == 1, "one port number for both families"
    for host, port in addresses.items():
        send(world, port, 10, host)
    found = sidecar.wait_total("istio_requests_total", 10 * len(addresses), reporter="destination",
                               response_code="200", connection_security_policy="none")
    assert len(found.series("istio_requests_total")) == 1
    if address := own_address():
        with pytest.raises(OSError):
            socket.create_connection((address, sidecar.inbound), timeout=2).close()


def test_all_addresses(world):
    app = world.service()
    sidecar = front(world, "*:0", app)
    hosts = ["127.0.0.1", own_address(), "::1" if has_ipv6() else None]
    hosts = [host for host in hosts if host]
    for host in hosts:
        send(world, sidecar.inbound, 3, host)
    sidecar.wait_total("istio_requests_total", 3 * len(hosts))


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_workers_share_the_port(world, workers):
    """Each worker listens on its own socket, and all of them are counted together."""
    app = world.service()
    sidecar = front(world, "127.0.0.1:0", app, "--workers", str(workers))
    assert listening_sockets(sidecar.inbound) == workers
    for _ in range(20):
        send(world, sidecar.inbound, 2)
    found = sidecar.wait_total("istio_requests_total", 40)
    assert found.total("hoplite_workers") == workers
    assert found.total("hoplite_connections_accepted_total", direction="inbound") == 20


@pytest.mark.parametrize("first, second", [("127.0.0.1:0", "127.0.0.1:{}"), ("127.0.0.1:0", ":{}"),
                                           ("127.0.0.1:0", "*:{}"), ("*:0", "127.0.0.1:{}"),
                                           ("*:0", "*:{}")])
def test_a_second_hoplite_is_refused(world, first, second):
    """On the same port, whatever the addresses: it names the port and who holds it, and what to do,
    and the first goes on as if nothing had been."""
    app = world.service()
    holder = front(world, first, app)
    port = holder.inbound
    late = Process([world.hoplite_binary, "--from", second.format(port), "--to", app.address,
                    *STATS], "late")
    assert late.wait() == 1
    said = "\n".join(late.stderr)
    assert str(port) in said and f"pid {holder.pid}" in said and "hoplite" in said
    assert not any(line.startswith("ready") for line in late.stdout)
    send(world, port, 3)
    holder.wait_total("istio_requests_total", 3)


def test_the_stats_port_in_use(world):
    app = world.service()
    holder = front(world, "127.0.0.1:0", app)
    late = Process([world.hoplite_binary, "--from", "127.0.0.1:0", "--to", app.address,
                    "--stats-listen", f"127.0.0.1:{holder.stats_port}"], "late")
    assert late.wait() == 1
    said = "\n".join(late.stderr)
    assert str(holder.stats_port) in said and f"pid {holder.pid}" in said


def test_what_it_prints(world):
    """A few lines: what listens where, the metrics' URL, and how long it took."""
    app = world.service()
    sidecar = front(world, "127.0.0.1:0", app)
    assert len(sidecar.stdout) <= 5
    assert any(re.match(r"listening inbound 127\.0\.0\.1:\d+", line) for line in sidecar.stdout)
    assert any(re.match(r"stats http://127\.0\.0\.1:\d+/stats/prometheus$", line)
               for line in sidecar.stdout)
    assert any(re.match(r"ready in \d+ ms$", line) for line in sidecar.stdout)
    assert sidecar.stderr == []


def test_flags_go_before_the_environment(world):
    app = world.service()
    with socket.create_server(("127.0.0.1", 0)) as held:
        elsewhere = f"127.0.0.1:{held.getsockname()[1]}"
        sidecar = world.hoplite(arguments=["--from", "127.0.0.1:0", *STATS],
                                env={"HOPLITE_INBOUND_APP": app.address,
                                     "HOPLITE_STATS_LISTEN": elsewhere, "HOPLITE_WORKERS": "1"})
        send(world, sidecar.inbound, 1)
        assert sidecar.wait_total("istio_requests_total", 1).total("hoplite_workers") == 1


def test_an_app_that_calls_its_own_service(world):
    """One process, both listeners: ten requests out and in again, ten of each reporter, and the
    ledger counts both."""
    app = world.service()
    inbound = free_address()
    sidecar = world.hoplite({
        "workload": server_workload(),
        "inbound": {"listen": inbound, "app": app.address},
        "outbound": {"listen": "127.0.0.1:0", "services": [podinfo_at(inbound)]},
        "stats": {"listen": "127.0.0.1:0"}})
    send(world, sidecar.outbound, 10, authority=HOST)
    found = sidecar.wait_total("istio_requests_total", 20)
    for reporter in ("source", "destination"):
        labels = found.one("istio_requests_total", reporter=reporter)
        assert found.total("istio_requests_total", reporter=reporter) == 10
        assert (labels["source_workload"], labels["destination_workload"]) == ("podinfo-v1",) * 2
        assert labels["destination_service_name"] == "podinfo"
    assert found.total("hoplite_requests_started_total") == 20
    assert found.total("hoplite_requests_completed_total") == 20
    assert found.total("hoplite_requests_in_flight") == 0


# --- the stats listener -------------------------------------------------------------------------


def test_pages_of_the_stats_listener(world):
    sidecar = world.hoplite(inbound_config(world.service().address))
    base = f"http://127.0.0.1:{sidecar.stats_port}"
    for path, status in (("/stats/prometheus", 200), ("/stats/prometheus?usedonly", 200),
                         ("/healthz/ready", 200), ("/healthz/live", 200), ("/", 404),
                         ("/stats", 404), ("/stats/prometheus/", 404), ("/quitquitquit", 404)):
        assert (path, metrics.fetch(base + path)[0]) == (path, status)
    for method, status in (("POST", 405), ("PUT", 405), ("DELETE", 405), ("HEAD", 200)):
        client = world.client(sidecar.stats_port)
        answer = client.request(method, "/stats/prometheus", body=b"x" if method == "POST" else b"")
        assert (method, answer.status) == (method, status)
        if status == 405:
            assert set(answer.header("allow").replace(" ", "").split(",")) >= {"GET"}
    # Its own requests are nobody's traffic.
    assert sidecar.metrics().total("hoplite_requests_started_total") == 0


def test_the_stats_listener_is_as_strict(world):
    sidecar = world.hoplite(inbound_config(world.service().address))
    for raw in (b"GET /healthz/live HTTP/1.1\r\nHost : a\r\n\r\n", b"\x16\x03\x01\x00",
                b"GET /healthz/live HTTP/1.1\nHost: a\n\n"):
        client = world.client(sidecar.stats_port)
        client.send(raw)
        assert client.read_response().status == 400
        client.expect_end()
    assert metrics.fetch(f"http://127.0.0.1:{sidecar.stats_port}/healthz/live")[0] == 200


def test_a_page_for_readiness_elsewhere(world):
    """stats.ready_listen serves /healthz/ready and nothing else."""
    ready = free_address()
    world.hoplite({**inbound_config(world.service().address),
                   "stats": {"listen": "127.0.0.1:0", "ready_listen": ready}})
    for path, status in (("/healthz/ready", 200), ("/stats/prometheus", 404)):
        assert (path, metrics.fetch(f"http://{ready}{path}")[0]) == (path, status)
