"""Limits and idle timeouts: what is over them is refused with the right code, what is at them passes,
and the connections beside are none the worse for it."""

import os
import resource
import select
import signal
import socket
import threading
import time

import pytest

from hoplite_e2e.deadline import Deadline, poll_until, ready, seconds
from hoplite_e2e.ledger import expect_ends, expect_local_reply
from hoplite_e2e.raw import Closed
from hoplite_e2e.topology import HOST, Pair, inbound_config, outbound_config, podinfo_at

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GET = b"GET / HTTP/1.1\r\nHost: " + HOST.encode() + b"\r\n\r\n"


def answer_all(wire, number):
    while True:
        wire.read_head()
        wire.send(OK)


def pause(duration):
    """Time that passes on purpose: there is nothing to wait for when nothing may happen."""
    select.select([], [], [], duration)


@pytest.fixture
def front(world):
    """front(sections...): an inbound sidecar of one worker before a server that says ok."""
    def make(script=answer_all, **sections):
        server = world.raw_server(script)
        sidecar = world.hoplite(inbound_config(server.address, workers=1, **sections))
        sidecar.upstream = server
        return sidecar
    return make


# --- heads --------------------------------------------------------------------------------------


def head_of(size):
    start = b"GET / HTTP/1.1\r\nHost: a\r\nX: "
    return start + b"x" * (size - len(start) - 4) + b"\r\n\r\n"


def test_head_size(world, front):
    sidecar = front(limits={"head_bytes": "4KiB"})
    client = world.client(sidecar.inbound)
    client.send(head_of(4096))
    assert client.read_response().status == 200
    client.send(head_of(4097))
    expect_local_reply(client.read_response(), 431)
    client.expect_end()
    client = world.client(sidecar.inbound)
    client.send(b"GET /" + b"x" * 5000)  # endless request line
    expect_local_reply(client.read_response(), 431)
    metrics = expect_ends(sidecar, {("200", "-"): 1, ("431", "-"): 2})
    assert metrics.total("hoplite_messages_refused_total", kind="head_size") == 2


def test_header_count(world, front):
    sidecar = front(limits={"header_count": 20})
    client = world.client(sidecar.inbound)
    assert client.request(headers=[("X", "y")] * 19).status == 200
    expect_local_reply(client.request(headers=[("X", "y")] * 20), 431)
    client.expect_end()
    expect_ends(sidecar, {("200", "-"): 1, ("431", "-"): 1})


@pytest.mark.parametrize("dribble", [False, True])
def test_slow_head(world, front, dribble):
    """The time runs from the first byte to the last, however diligently bytes come."""
    sidecar = front(timeouts={"header": "400ms", "idle": "10m"})
    client = world.client(sidecar.inbound)
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n")
    deadline = Deadline()
    while dribble and not ready([client.socket], [], 0.05)[0]:
        client.send(b"x")
        assert not deadline.passed()
    answer = client.read_response()
    expect_local_reply(answer, 408)
    assert answer.header("connection") == "close"
    client.expect_end()
    metrics = expect_ends(sidecar, {("408", "-"): 1})
    assert metrics.total("hoplite_timeouts_total", timeout="header") == 1


def test_slow_head_of_a_second_request(world, front):
    sidecar = front(timeouts={"header": "300ms"})
    client = world.client(sidecar.inbound)
    assert client.request().status == 200
    client.send(b"GET ")
    expect_local_reply(client.read_response(), 408)
    expect_ends(sidecar, {("200", "-"): 1, ("408", "-"): 1})


def test_many_slow_senders_do_not_hold_up_others(world, front):
    sidecar = front(timeouts={"header": "500ms"})
    slow = [world.client(sidecar.inbound) for _ in range(200)]
    for client in slow:
        client.send(b"GET / HTTP/1.1\r\nHost:")
    quick = world.client(sidecar.inbound)
    for _ in range(50):
        assert quick.request().status == 200
    for client in slow:
        assert client.read_response().status == 408
    expect_ends(sidecar, {("200", "-"): 50, ("408", "-"): 200})


# --- connections --------------------------------------------------------------------------------


@pytest.mark.parametrize("used", [False, True])
def test_idle_connection(world, front, used):
    sidecar = front(timeouts={"idle": "2s" if used else "300ms"})
    client = world.client(sidecar.inbound)
    if used:
        assert client.request().status == 200
    client.expect_end()
    metrics = expect_ends(sidecar, {("200", "-"): 1} if used else {})
    assert metrics.total("hoplite_timeouts_total", timeout="idle") == 1
    poll_until(lambda: sidecar.metrics().total("hoplite_connections_open") == 0, "it is closed")


def test_a_request_is_not_idle(world, front):
    def script(wire, number):
        wire.read_head()
        pause(3.0)
        wire.send(OK)

    sidecar = front(script, timeouts={"idle": "2s"})
    assert world.client(sidecar.inbound).request().status == 200


def test_requests_per_connection(world, front):
    sidecar = front(limits={"requests_per_connection": 3})
    client = world.client(sidecar.inbound)
    assert [client.request().header("connection") for _ in range(3)] == [None, None, "close"]
    client.expect_end()
    client = world.client(sidecar.inbound)
    client.send(GET * 5)  # what is pipelined behind the last one is not begun
    for _ in range(3):
        assert client.read_response().status == 200
    client.expect_end()
    expect_ends(sidecar, {("200", "-"): 6})


def test_connection_limit(world, front):
    sidecar = front(limits={"connections": 2})
    first, second = [world.client(sidecar.inbound) for _ in range(2)]
    assert first.request().status == second.request().status == 200
    with pytest.raises((Closed, OSError)):
        third = world.client(sidecar.inbound)
        third.send(GET)
        third.read_response()
    assert first.request().status == 200
    metrics = sidecar.wait_total("hoplite_limits_hit_total", 1, limit="connections")
    assert metrics.total("hoplite_connections_open") == 2
    sidecar.wait_line(r"limits\.connections", "stderr")
    second.close()
    poll_until(lambda: sidecar.metrics().total("hoplite_connections_open") == 1, "room again")
    assert world.client(sidecar.inbound).request().status == 200
    expect_ends(sidecar, {("200", "-"): 4})


# --- upstream -----------------------------------------------------------------------------------


class Gate:
    """A server that answers when it is told to."""

    def __init__(self):
        self.waiting = threading.Semaphore(0)
        self.go = threading.Semaphore(0)

    def __call__(self, wire, number):
        while True:
            wire.read_head()
            self.waiting.release()
            assert self.go.acquire(timeout=seconds())
            wire.send(OK)


def test_pending_limit(world, front):
    gate = Gate()
    sidecar = front(gate, limits={"upstream_connections": 1, "upstream_pending": 1})
    clients = [world.client(sidecar.inbound) for _ in range(3)]
    clients[0].send(GET)
    assert gate.waiting.acquire(timeout=seconds())
    clients[1].send(GET)
    poll_until(lambda: sidecar.metrics().total("hoplite_requests_in_flight") == 2, "it waits")
    expect_local_reply(clients[2].request(), 503)
    gate.go.release(2)
    assert clients[0].read_response().status == 200
    assert clients[1].read_response().status == 200
    metrics = expect_ends(sidecar, {("200", "-"): 2, ("503", "UO"): 1})
    assert metrics.total("hoplite_limits_hit_total", limit="pending_requests") == 1
    assert sidecar.upstream.accepted == 1


def test_no_pending_at_all(world, front):
    gate = Gate()
    sidecar = front(gate, limits={"upstream_connections": 2, "upstream_pending": 0})
    clients = [world.client(sidecar.inbound) for _ in range(2)]
    for client in clients:
        client.send(GET)
        assert gate.waiting.acquire(timeout=seconds())
    expect_local_reply(world.client(sidecar.inbound).request(), 503)
    gate.go.release(2)
    for client in clients:
        assert client.read_response().status == 200
    expect_ends(sidecar, {("200", "-"): 2, ("503", "UO"): 1})


def test_who_waits_and_leaves_takes_no_place(world, front):
    gate = Gate()
    sidecar = front(gate, limits={"upstream_connections": 1, "upstream_pending": 1})
    clients = [world.client(sidecar.inbound) for _ in range(3)]
    clients[0].send(GET)
    assert gate.waiting.acquire(timeout=seconds())
    clients[1].send(GET)
    poll_until(lambda: sidecar.metrics().total("hoplite_requests_in_flight") == 2, "it waits")
    clients[1].reset()
    poll_until(lambda: sidecar.metrics().total("hoplite_requests_in_flight") == 1, "it left")
    clients[2].send(GET)
    gate.go.release(2)
    assert clients[0].read_response().status == 200
    assert clients[2].read_response().status == 200
    expect_ends(sidecar, {("200", "-"): 2, ("0", "DC"): 1})


def test_a_place_freed_at_another_endpoint(world):
    """One connection in all: who waits at one endpoint gets it when the other is done with it."""
    gates = [Gate(), Gate()]
    servers = [world.raw_server(gate) for gate in gates]
    sidecar = world.hoplite(outbound_config(
        podinfo_at(*[server.address for server in servers]), workers=1,
        limits={"upstream_connections": 1}))
    clients = [world.client(sidecar.outbound) for _ in range(4)]
    for client in clients:
        client.send(GET)
    for gate in gates:
        gate.go.release(4)
    for client in clients:
        assert client.read_response().status == 200
    assert sum(server.accepted for server in servers) >= 2
    expect_ends(sidecar, {("200", "-"): 4})


def test_upstream_idle(world, front):
    sidecar = front(timeouts={"upstream_idle": "200ms"})
    client = world.client(sidecar.inbound)
    for _ in range(2):
        assert client.request().status == 200
        poll_until(lambda: sidecar.metrics().total("hoplite_upstream_connections_open") == 0,
                   "the unused connection is closed")
    assert sidecar.upstream.accepted == 2
    assert sidecar.metrics().total("hoplite_timeouts_total", timeout="upstream_idle") == 2


def test_upstream_max_age(world, front):
    sidecar = front(timeouts={"upstream_idle": "300ms", "upstream_max_age": "300ms"})
    client = world.client(sidecar.inbound)
    deadline = Deadline()
    while sidecar.upstream.accepted < 3 and not deadline.passed():
        assert client.request().status == 200
    assert sidecar.upstream.accepted >= 3  # never idle, and yet replaced


def test_upstream_idle_connections_kept(world, front):
    gate = Gate()
    sidecar = front(gate, limits={"upstream_idle_connections": 1})
    clients = [world.client(sidecar.inbound) for _ in range(3)]
    for client in clients:
        client.send(GET)
        assert gate.waiting.acquire(timeout=seconds())
    gate.go.release(3)
    for client in clients:
        assert client.read_response().status == 200
    poll_until(lambda: sidecar.metrics().total("hoplite_upstream_connections_open") == 1,
               "one is kept")


def test_connections_are_used_last_in_first_out(world, front):
    gate = Gate()
    served = []

    def script(wire, number):
        while True:
            wire.read_head()
            served.append(number)
            gate.waiting.release()
            assert gate.go.acquire(timeout=seconds())
            wire.send(OK)

    sidecar = front(script)
    clients = [world.client(sidecar.inbound) for _ in range(2)]
    for client in clients:
        client.send(GET)
        assert gate.waiting.acquire(timeout=seconds())
    gate.go.release(2)
    for client in clients:
        assert client.read_response().status == 200
    for _ in range(5):
        gate.go.release()
        assert clients[0].request().status == 200
    assert len(set(served[2:])) == 1


# --- memory and descriptors ----------------------------------------------------------------------


def memory(process):
    with open(f"/proc/{process.pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) * 1024


@pytest.mark.parametrize("path", ["inbound", "pair"])
def test_slow_readers_cost_bounded_memory(world, sanitized, path):
    if sanitized:
        pytest.skip("a sanitizer's memory is not the program's")
    app = world.service()
    if path == "inbound":
        sidecars = [world.hoplite(inbound_config(app.address, workers=1))]
        port = sidecars[0].inbound
    else:
        pair = Pair(world, app.address)
        sidecars, port = [pair.client, pair.server], pair.port
    assert world.client(port).request(host=HOST).status == 200
    before = [memory(sidecar) for sidecar in sidecars]
    count = 20
    for _ in range(count):
        world.client(port).send(GET.replace(b"GET /", b"GET /bytes/50000000"))
    poll_until(lambda: sidecars[0].metrics().total("hoplite_requests_in_flight") == count, "all")
    pause(0.5)
    for sidecar, at_first in zip(sidecars, before):
        assert memory(sidecar) - at_first < count * 400 * 1024


def cpu_seconds(process):
    with open(f"/proc/{process.pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("spare", [0, 1, 7])
def test_no_descriptors_left(world, front, sanitized, spare):
    """Neither spin nor death; who is connected is served on, and the others as soon as there are."""
    sidecar = front()
    old = world.client(sidecar.inbound)
    assert old.request().status == 200
    limits = sidecar.limit_files(spare)
    more = [world.client(sidecar.inbound) for _ in range(50)]
    for client in more:
        client.send(GET)
    began, used = time.monotonic(), cpu_seconds(sidecar)
    while time.monotonic() - began < 1.5:
        assert old.request().status == 200
        pause(0.05)
    spent = cpu_seconds(sidecar) - used
    assert spent < (0.8 if sanitized else 0.3) * (time.monotonic() - began)
    assert sidecar.running()
    resource.prlimit(sidecar.pid, resource.RLIMIT_NOFILE, limits)
    answers = [client.read_response().status for client in more]
    assert set(answers) == {200}
    assert world.client(sidecar.inbound).request().status == 200
    metrics = sidecar.metrics()
    assert metrics.total("hoplite_limits_hit_total", limit="file_descriptors") >= 1
    sidecar.wait_line("open files", "stderr")
    assert sum("open files" in line for line in sidecar.stderr) <= 10


def refused_for_descriptors(sidecar):
    return sidecar.metrics().total("hoplite_limits_hit_total", limit="file_descriptors")


def test_every_client_that_was_let_in_has_an_upstream(world, front):
    """As many are let in as can be served at a time; the others are when these have left."""
    gate = Gate()
    sidecar = front(gate)
    sidecar.limit_files(36)
    clients = [world.client(sidecar.inbound) for _ in range(40)]
    for client in clients:
        client.send(GET)
    poll_until(lambda: refused_for_descriptors(sidecar) >= 1, "some wait")
    inside = sidecar.metrics().total("hoplite_connections_open")
    assert 10 <= inside <= 14
    for _ in range(int(inside)):
        assert gate.waiting.acquire(timeout=seconds())
    gate.go.release(len(clients))
    waiting = {client.socket: client for client in clients}
    while waiting:
        answered = ready(list(waiting), [], seconds(10))[0]
        assert answered, "somebody is left waiting"
        for one in answered:
            client = waiting.pop(one)
            assert client.read_response().status == 200
            client.close()
    expect_ends(sidecar, {("200", "-"): 40})


@pytest.mark.parametrize("at_a_time", [1, 2])
def test_both_listeners_get_their_turn_when_descriptors_are_short(world, at_a_time):
    """Many wait at the one and few at the other, and places come free one or two at a time."""
    def once(wire, _number):
        wire.read_head()
        wire.send(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))

    server = world.raw_server(once)
    sidecar = world.hoplite({**outbound_config(podinfo_at(server.address), workers=1),
                             "inbound": inbound_config(server.address)["inbound"]})
    limits = sidecar.limit_files(12)
    many = [world.client(sidecar.inbound) for _ in range(60)]
    for client in many:
        client.send(GET)
    poll_until(lambda: refused_for_descriptors(sidecar) >= 1, "some wait")
    few = [world.client(sidecar.outbound) for _ in range(4)]
    for client in few:
        client.send(GET)
    waiting = {client.socket: client for client in many + few}
    served, leaving = [], []
    while not set(few) <= set(served):
        answered = ready(list(waiting), [], seconds(10))[0]
        assert answered, "somebody is left waiting"
        for one in answered:
            client = waiting.pop(one)
            assert client.read_response().status == 200
            served.append(client)
            leaving.append(client)
        while len(leaving) >= at_a_time:
            sidecar.signal(signal.SIGSTOP)
            for _ in range(at_a_time):
                leaving.pop().close()
            sidecar.signal(signal.SIGCONT)
    assert len(served) < 40
    resource.prlimit(sidecar.pid, resource.RLIMIT_NOFILE, limits)


def test_scrapes_find_a_descriptor_when_clients_have_taken_all(world, front):
    sidecar = front()
    sidecar.limit_files(30)
    _ = [world.client(sidecar.inbound) for _ in range(60)]
    poll_until(lambda: refused_for_descriptors(sidecar) >= 1, "some wait")


def test_the_soft_limit_of_descriptors_is_raised(world, front):
    sidecar = front()
    soft, hard = resource.prlimit(sidecar.pid, resource.RLIMIT_NOFILE)
    assert soft == hard


def test_descriptors_come_back_with_connections_that_leave(world, front):
    sidecar = front()
    assert world.client(sidecar.inbound).request().status == 200
    limits = sidecar.limit_files(10)
    holders = [world.client(sidecar.inbound) for _ in range(40)]
    poll_until(lambda: refused_for_descriptors(sidecar) >= 1, "some wait")
    for client in holders:
        client.close()
    assert world.client(sidecar.inbound).request().status == 200
    resource.prlimit(sidecar.pid, resource.RLIMIT_NOFILE, limits)
