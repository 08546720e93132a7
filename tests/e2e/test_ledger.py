"""The books balance, exactly, in every single scrape, whatever the load does meanwhile."""

import http.client
import signal
import sys
import threading

from hoplite_e2e import hammer
from hoplite_e2e.deadline import Deadline, poll_until, seconds
from hoplite_e2e.front import free_address
from hoplite_e2e.ledger import wait_idle
from hoplite_e2e.process import Process
from hoplite_e2e.raw import RawClient
from hoplite_e2e.topology import HOST, podinfo_at, server_workload

PREFIXES = ("istio_requests_total{", "hoplite_requests_started_total ",
            "hoplite_requests_completed_total ", "hoplite_requests_in_flight ",
            "hoplite_requests_expired_total ")


def books(text):
    """{name: sum} of the ledger's families, read without any parsing of labels."""
    found = dict.fromkeys((prefix[:-1] for prefix in PREFIXES), 0.0)
    for line in text.splitlines():
        if line.startswith(PREFIXES):
            found[line.partition("{")[0].partition(" ")[0]] += float(line.rpartition(" ")[2])
    return found


class Trouble:
    """Clients that leave in the middle, speak nonsense or ask for what is not there."""

    REQUESTS = (
        b"GET / HTTP/1.1\r\nHost: %s\r\n" % HOST.encode(),  # and gone
        b"nonsense\r\n\r\n",
        b"GET /delay/0.01 HTTP/1.1\r\nHost: nowhere.example.com\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nHost: %s\r\nContent-Length: 10\r\n\r\nabc" % HOST.encode(),
        b"GET /delay/5 HTTP/1.1\r\nHost: %s\r\n\r\n" % HOST.encode(),
        b"GET /version HTTP/1.1\r\nHost: %s\r\n\r\n" % HOST.encode() * 3,
    )

    def __init__(self, port):
        self._port = port
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._stop.is_set():
            for request in self.REQUESTS:
                client = RawClient(self._port)
                client.send(request)
                self._stop.wait(0.002)
                client.reset()

    def stop(self):
        self._stop.set()
        self._thread.join(seconds())


def test_every_scrape_is_exact(world, sanitized):
    """Two workers at full load, both reporters, all kinds of ends; scrapes over one connection."""
    app = world.service(threads=2)
    inbound = free_address()
    sidecar = world.hoplite({
        "workload": server_workload(),
        "inbound": {"listen": inbound, "app": app.address},
        "outbound": {"listen": "127.0.0.1:0", "services": [podinfo_at(inbound)]},
        "stats": {"listen": "127.0.0.1:0"}, "log": {"access": "off"}, "workers": 2,
    })
    load = Process([sys.executable, "-B", hammer.__file__, sidecar.outbound, HOST], "hammer")
    world.processes.append(load)
    load.wait_line("^started$")
    trouble = Trouble(sidecar.outbound)
    stats = http.client.HTTPConnection("127.0.0.1", sidecar.stats_port, timeout=seconds())
    completed = []
    deadline = Deadline(300)
    scrapes = 100 if sanitized else 1000
    while len(completed) < scrapes or len(set(completed)) < scrapes / 4:
        stats.request("GET", "/stats/prometheus")
        found = books(stats.getresponse().read().decode())
        assert found["hoplite_requests_started_total"] == \
            found["hoplite_requests_completed_total"] + found["hoplite_requests_in_flight"], found
        assert found["hoplite_requests_completed_total"] == \
            found["istio_requests_total"] + found["hoplite_requests_expired_total"], found
        completed.append(found["hoplite_requests_completed_total"])
        assert not deadline.passed(), f"only {len(completed)} scrapes"
    stats.close()
    for code, flags in (("0", "DC"), ("400", "DPE"), ("502", "-")):
        end = {"response_code": code, "response_flags": flags}
        poll_until(lambda end=end: sidecar.metrics().total("istio_requests_total", **end) > 0, end)
    trouble.stop()
    load.signal(signal.SIGTERM)
    sent = int(load.wait_line(r"^sent (\d+)$").group(1))
    assert load.wait() == 0
    assert completed == sorted(completed)
    metrics = wait_idle(sidecar)
    assert metrics.total("istio_requests_total", reporter="source", response_code="200",
                         response_flags="-") >= sent


def test_the_ledger_counts_each_worker(world):
    app = world.service()
    sidecar = world.hoplite({
        "workload": server_workload(), "workers": 2,
        "inbound": {"listen": "127.0.0.1:0", "app": app.address},
        "stats": {"listen": "127.0.0.1:0"},
    })
    clients = [world.client(sidecar.inbound) for _ in range(30)]
    for client in clients:
        client.send(b"GET /delay/0.3 HTTP/1.1\r\nHost: a\r\n\r\n")
    for client in clients:
        assert client.read_response().status == 200
    metrics = wait_idle(sidecar)
    for name in ("hoplite_requests_started_total", "hoplite_requests_completed_total",
                 "istio_requests_total"):
        assert metrics.total(name) == 30
