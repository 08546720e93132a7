"""What ends a request, or one side of it, because time has passed: 408, 504, SI, UT, and who is not
to be hurried. How else requests fail is in test_errors.py."""

import socket
import threading

import pytest

from hoplite_e2e.deadline import ready, seconds
from hoplite_e2e.front import CUTS, GET, OK, Front, answer_all
from hoplite_e2e.ledger import expect_local_reply
from hoplite_e2e.topology import HOST


@pytest.fixture(params=["inbound", "outbound"])
def front(request, world):
    return lambda *addresses, **sections: Front(world, request.param, addresses, sections)


def test_request_timeout_before_the_head(world, front):
    made = front(world.raw_server(lambda wire, number: wire.read_until(b"never")).address,
                 timeouts={"request": "200ms"})
    client = made.client()
    for _ in range(2):
        expect_local_reply(client.request(host=HOST), 504)
    metrics = made.ends(UT_504=2)
    assert metrics.total("hoplite_timeouts_total", timeout="request") == 2


def test_request_timeout_after_the_head(world, front):
    def script(wire, number):
        wire.read_head()
        wire.send(CUTS["chunked"])
        wire.read_until(b"never")

    made = front(world.raw_server(script).address, timeouts={"request": "2s"})
    client = made.client()
    client.send(GET)
    answer = client.read_response()
    assert answer.status == 200 and not answer.complete
    made.ends(UT_200=1)


def test_request_timeout_does_not_hold_back_other_requests(world, front):
    made = front(world.raw_server(answer_all).address, timeouts={"request": "3s"})
    client = made.client()
    for _ in range(50):
        assert client.request(host=HOST).status == 200
    made.ends(no_200=50)


def test_stalled_request_body(world, front):
    made = front(world.raw_server(lambda wire, number: wire.read_until(b"never")).address,
                 timeouts={"body_idle": "200ms"})
    client = made.client()
    client.send(b"POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: 9\r\n\r\nabc" % HOST.encode())
    expect_local_reply(client.read_response(), 408)
    client.expect_end()
    made.ends(SI_408=1)


def test_a_slow_body_is_not_a_stalled_one(world, front):
    def script(wire, number):
        wire.read_head()
        wire.read_exactly(8)
        wire.send(OK)

    made = front(world.raw_server(script).address, timeouts={"body_idle": "3s"})
    client = made.client()
    client.send(b"POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: 8\r\n\r\n" % HOST.encode())
    pause = socket.socketpair()
    for _ in range(8):
        pause[0].settimeout(0.5)
        with pytest.raises(socket.timeout):
            pause[0].recv(1)
        client.send(b"x")
    assert client.read_response().body == b"ok"
    for end in pause:
        end.close()
    made.ends(no_200=1)


def test_stalled_response_before_its_head(world, front):
    made = front(world.raw_server(lambda wire, number: wire.read_until(b"never")).address,
                 timeouts={"body_idle": "200ms"})
    expect_local_reply(made.client().request(host=HOST), 504)
    made.ends(SI_504=1)


def test_upstream_that_does_not_read(world, front):
    """The client has sent what it could; it is the upstream that stalls."""
    def script(wire, number):
        wire.read_head()
        assert done.wait(seconds())

    done = threading.Event()
    made = front(world.raw_server(script).address, timeouts={"body_idle": "2s"})
    client = made.client()
    client.send(b"POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: 100000000\r\n\r\n" % HOST.encode())
    client.socket.setblocking(False)
    while True:  # it sends whenever it can, until it is answered
        readable, writable = ready([client.socket], [client.socket], seconds())
        assert readable or writable, "no answer, and nobody reads"
        if readable:
            break
        client.socket.send(bytes(65536))
    expect_local_reply(client.read_response(), 504)
    done.set()
    made.ends(SI_504=1)


def test_stalled_response_body(world, front):
    def script(wire, number):
        wire.read_head()
        wire.send(CUTS["length"])
        wire.read_until(b"never")

    made = front(world.raw_server(script).address, timeouts={"body_idle": "2s"})
    client = made.client()
    client.send(GET)
    answer = client.read_response()
    assert (answer.status, answer.body, answer.complete) == (200, b"some", False)
    made.ends(SI_200=1)


def test_client_that_does_not_read(world, front):
    def script(wire, number):
        wire.read_head()
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        try:
            while True:
                wire.send(bytes(100_000))
        except OSError:
            pass

    made = front(world.raw_server(script).address, timeouts={"body_idle": "2s"})
    client = made.client()
    client.send(GET)
    made.ends(SI_200=1)
