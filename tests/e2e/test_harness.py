"""What the other tests rely on: that a fault of a process or of its metrics is seen as one."""

import pytest

from hoplite_e2e.metrics import Metrics
from hoplite_e2e.process import Process
from hoplite_e2e.raw import Closed
from hoplite_e2e.world import World


def shell(world, script):
    process = Process(["/bin/sh", "-c", script], "script")
    world.processes.append(process)
    return process


@pytest.fixture
def inner(tmp_path):
    """A world of its own, so that its faults are no fault of the test."""
    made = World(tmp_path / "no-hoplite", tmp_path / "no-service", tmp_path)
    yield made
    for process in made.processes:
        process.kill()


def test_lines_are_awaited(inner):
    process = shell(inner, "echo one; echo two >&2; exec tail -f /dev/null")
    assert process.wait_line("^(o)ne$").group(1) == "o"
    process.wait_line("two", which="stderr")


def test_an_early_end_is_no_endless_wait(inner):
    process = shell(inner, "echo something else")
    with pytest.raises(AssertionError, match="ended without printing 'ready'"):
        process.wait_line("ready")


@pytest.mark.parametrize("script, fault", [
    ("tail -f /dev/null & trap 'kill $!; exit 0' TERM; echo up; wait", None),
    ("tail -f /dev/null & trap 'kill $!; exit 3' TERM; echo up; wait", "ended with 3"),
    ("echo up; exec tail -f /dev/null", "ended with -15"),
    ("tail -f /dev/null & trap 'kill $!; echo x.cc:1: runtime error: y >&2; exit 0' TERM;"
     "echo up; wait", "runtime error: y"),
    ("tail -f /dev/null & trap 'kill $!; exit 0' TERM;"
     "echo 'WARNING: ThreadSanitizer: data race' >&2; echo up; wait", "data race"),
])
def test_how_a_process_ends_is_judged(inner, script, fault):
    shell(inner, script).wait_line("up")
    faults = inner.close()
    assert len(faults) == (1 if fault else 0)
    assert not fault or fault in faults[0]


def test_a_missing_program_is_said(inner):
    with pytest.raises(AssertionError, match="no-hoplite is not there"):
        inner.hoplite({})


def test_metrics_are_parsed():
    metrics = Metrics('# TYPE a counter\na{x="1",y="q\\"\\\\\\n,}"} 2\na{x="2",y=""} 3.5\nb 1e3\n')
    assert metrics.types == {"a": "counter"}
    assert metrics.total("a") == 5.5
    assert metrics.one("a", x="1") == {"x": "1", "y": 'q"\\\n,}'}
    assert metrics.total("b") == 1000
    assert metrics.total("none") == 0


@pytest.mark.parametrize("text", ['a{x="1" 2', 'a{x="1",x="1"} 2', "a 1\na 2", 'a{x="\n"} 1', "a"])
def test_malformed_metrics_are_refused(text):
    with pytest.raises((AssertionError, ValueError)):
        Metrics(text)


def test_faults_of_an_upstream_script_are_faults(inner):
    def script(wire, number):
        wire.read_until(b"hello")
        assert number == 7, "not the seventh"

    server = inner.raw_server(script)
    client = inner.client(server.port)
    client.send(b"hello")
    client.expect_end()
    assert "not the seventh" in inner.close()[0]


def test_a_cut_body_is_not_complete(inner):
    def script(wire, number):
        wire.read_head()
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")

    client = inner.client(inner.raw_server(script).port)
    answer = client.request()
    assert (answer.status, answer.body, answer.complete) == (200, b"abc", False)
    with pytest.raises(Closed):
        client.read_response()
    assert inner.close() == []
