"""Leaving: SIGTERM first says so, then lets everything end, and loses no request that got in."""

import signal
import socket
import threading
import time

import pytest

from hoplite_e2e import metrics, websocket
from hoplite_e2e.deadline import poll_until, seconds
from hoplite_e2e.load import Load
from hoplite_e2e.raw import Closed
from hoplite_e2e.topology import HOST, Pair, inbound_config

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GET = b"GET / HTTP/1.1\r\nHost: " + HOST.encode() + b"\r\n\r\n"


class Gate:
    """A server that ends its answers when it is told to, but to /fast at once."""

    def __init__(self, world, first=b""):
        self._first = first
        self.waiting = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.server = world.raw_server(self._script)
        self.address = self.server.address

    def _script(self, wire, number):
        while True:
            if "/fast" in wire.read_head()[0]:
                wire.send(OK)
                continue
            wire.send(self._first)
            self.waiting.release()
            assert self.go.acquire(timeout=seconds())
            try:
                wire.send(OK[len(self._first):])
            except ConnectionError:  # the proxy was told to end at once
                return


def refused(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=seconds()).close()
        return False
    except ConnectionRefusedError:
        return True


def ready(sidecar):
    status, _, _ = metrics.fetch(f"http://127.0.0.1:{sidecar.stats_port}/healthz/ready")
    return status


@pytest.mark.parametrize("workers", [1, 2])
def test_the_order_of_leaving(world, workers):
    gate = Gate(world)
    sidecar = world.hoplite(inbound_config(gate.address, workers=workers,
                                           timeouts={"drain_delay": "4s"}))
    port = sidecar.inbound
    busy, idle, unused = (world.client(port) for _ in range(3))
    assert idle.request(target="/fast").status == 200
    busy.send(GET)
    assert gate.waiting.acquire(timeout=seconds())
    assert ready(sidecar) == 200

    sidecar.signal(signal.SIGTERM)
    poll_until(lambda: ready(sidecar) == 503, "not ready any more")
    # Whoever has not heard of it yet is still served, on old and new connections.
    for client in (idle, world.client(port)):
        assert client.request(target="/fast").status == 200
    poll_until(lambda: refused(port), "the listener is closed")
    idle.expect_end()
    unused.expect_end()
    gate.go.release()
    answer = busy.read_response()
    assert (answer.status, answer.header("connection")) == (200, "close")
    busy.close()
    assert sidecar.wait() == 0


def test_in_flight_requests_finish(world):
    gate = Gate(world)
    sidecar = world.hoplite(inbound_config(gate.address))
    port = sidecar.inbound
    before = world.client(port)
    before.send(GET)
    assert gate.waiting.acquire(timeout=seconds())
    sidecar.signal(signal.SIGTERM)
    poll_until(lambda: refused(port), "the listener is closed")
    assert ready(sidecar) == 503
    assert sidecar.metrics().total("hoplite_requests_in_flight") == 1  # still to be seen
    gate.go.release()
    answer = before.read_response()
    assert (answer.body, answer.header("connection")) == (b"ok", "close")
    before.expect_end()
    before.close()
    assert sidecar.wait() == 0


def test_a_response_under_way_finishes(world):
    gate = Gate(world, first=OK[:-1])
    sidecar = world.hoplite(inbound_config(gate.address))
    port = sidecar.inbound
    client = world.client(port)
    client.send(GET)
    start, headers = client.read_head()
    sidecar.signal(signal.SIGTERM)
    poll_until(lambda: refused(port), "the listener is closed")
    gate.go.release()
    assert client.read_exactly(2) == b"ok"
    # The head could not say so any more: a request that is on its way still gets its answer.
    gate.go.release()
    answer = client.request()
    assert (answer.body, answer.header("connection")) == (b"ok", "close")
    client.close()
    assert sidecar.wait() == 0


def test_pipelined_requests_that_were_read(world):
    gate = Gate(world)
    sidecar = world.hoplite(inbound_config(gate.address))
    client = world.client(sidecar.inbound)
    client.send(GET + GET)
    assert gate.waiting.acquire(timeout=seconds())
    sidecar.signal(signal.SIGTERM)
    poll_until(lambda: refused(sidecar.inbound), "the listener is closed")
    gate.go.release()
    answer = client.read_response()
    assert (answer.status, answer.header("connection")) == (200, "close")
    client.expect_end()
    client.close()
    assert sidecar.wait() == 0


def test_idle_connections_close(world):
    app = world.service()
    sidecar = world.hoplite(inbound_config(app.address, timeouts={"drain": "1h"}))
    clients = [world.client(sidecar.inbound) for _ in range(20)]
    for client in clients[:10]:
        assert client.request().status == 200
    sidecar.signal(signal.SIGTERM)
    for client in clients:
        client.expect_end()
    assert sidecar.wait() == 0


def test_deadline(world):
    gate = Gate(world)
    sidecar = world.hoplite(inbound_config(gate.address, timeouts={"drain": "400ms"}))
    client = world.client(sidecar.inbound)
    client.send(GET)
    assert gate.waiting.acquire(timeout=seconds())
    began = time.monotonic()
    sidecar.signal(signal.SIGTERM)
    with pytest.raises(Closed):
        client.read_response()
    assert time.monotonic() - began > 0.35
    assert sidecar.wait() == 0
    gate.go.release()


def ask_again(sidecar):
    """A second word: what comes within 100 ms of the first signal is one with it."""
    poll_until(lambda: ready(sidecar) == 503, "the first one was seen")
    seen = time.monotonic()
    poll_until(lambda: time.monotonic() - seen > 0.15, "it is long ago")
    sidecar.signal(signal.SIGTERM)


def test_a_second_signal_ends_at_once(world):
    gate = Gate(world)
    sidecar = world.hoplite(inbound_config(gate.address))
    client = world.client(sidecar.inbound)
    client.send(GET)
    assert gate.waiting.acquire(timeout=seconds())
    sidecar.signal(signal.SIGTERM)
    ask_again(sidecar)
    with pytest.raises(Closed):
        client.read_response()
    assert sidecar.wait() == 0
    gate.go.release()


def test_a_second_signal_during_the_delay(world):
    app = world.service()
    sidecar = world.hoplite(inbound_config(app.address, timeouts={"drain_delay": "1h"}))
    sidecar.signal(signal.SIGTERM)
    ask_again(sidecar)
    assert sidecar.wait() == 0


def test_interrupt_drains_as_well(world):
    app = world.service()
    sidecar = world.hoplite(inbound_config(app.address))
    assert world.client(sidecar.inbound).request().status == 200
    sidecar.signal(signal.SIGINT)
    assert sidecar.wait() == 0


def test_websockets_have_until_the_deadline(world):
    app = world.service()
    sidecar = world.hoplite(inbound_config(app.address, timeouts={"drain": "4s"}))
    client = world.client(sidecar.inbound)
    websocket.connect(client, host=HOST)
    sidecar.signal(signal.SIGTERM)
    poll_until(lambda: ready(sidecar) == 503, "it was seen")
    client.send(websocket.frame(b"still here"))
    assert websocket.read_frame(client) == (websocket.TEXT, b"still here")
    with pytest.raises(Closed):
        client.read_exactly(1)
    assert sidecar.wait() == 0


@pytest.mark.parametrize("delay", ["200ms", 0])
@pytest.mark.parametrize("requests_per_connection", [0, 1])
@pytest.mark.parametrize("workers, method", [(1, "GET"), (2, "POST")])
def test_no_request_that_got_in_is_lost(world, workers, method, requests_per_connection, delay):
    """Clients without a pause, and SIGTERM in the middle: each request sent is answered whole."""
    app = world.service()
    sidecar = world.hoplite(inbound_config(
        app.address, workers=workers, timeouts={"drain_delay": delay},
        limits={"requests_per_connection": requests_per_connection}))
    load = Load(sidecar.inbound, clients=16, method=method)
    poll_until(lambda: load.total() > 200, "the load is under way")
    sidecar.signal(signal.SIGTERM)
    assert sidecar.wait() == 0
    load.stop()
    assert load.lost == []
    assert set(load.answers) == {200}


def test_the_server_of_a_pair_leaves(world):
    """Its clients' sidecars notice in time: nothing sent over the old connections fails."""
    app = world.service()
    pair = Pair(world, app.address)
    load = Load(pair.port, clients=8, host=HOST, method="POST")
    poll_until(lambda: load.total() > 100, "the load is under way")
    pair.server.signal(signal.SIGTERM)
    assert pair.server.wait() == 0
    poll_until(lambda: 503 in load.answers, "the clients get to know")
    load.stop()
    assert load.lost == []
    flags = {labels["response_flags"]
             for labels, _ in pair.client.metrics().series("istio_requests_total")}
    assert flags <= {"-", "UF"}  # UC would be a request that was lost on its way
