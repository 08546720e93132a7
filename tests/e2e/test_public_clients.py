"""Public HTTP/2 clients through two sidecars: curl, nghttp, h2load; what both of these counted.

Not gRPC's own client (test_grpc.py), nor what no such client would send (test_http2*.py).
"""

import subprocess

import pytest

from hoplite_e2e.calls import HOST, Way
from hoplite_e2e.deadline import seconds

CALL = b"\0\0\0\0\x05hello"  # a message of five bytes
ECHO = "/echo.EchoService/Echo"
GRPC = ["content-type: application/grpc", "te: trailers"]
OK = ("200", "-", "")


@pytest.fixture(params=["http1", "http2"])
def way(request, world):
    """To a service that is spoken to in this version."""
    app = world.service()
    return Way(world, "two", app.address if request.param == "http1" else app.grpc_address,
               request.param)


@pytest.fixture
def grpc_way(world):
    return Way(world, "two", world.service().grpc_address)


@pytest.fixture
def call_file(tmp_path):
    path = tmp_path / "call"
    path.write_bytes(CALL)
    return path


def run(*argv, headers=()):
    words = [str(word) for word in argv]
    for header in headers:
        words += ["-H", header]
    return subprocess.run(words, capture_output=True, timeout=seconds(120), check=True,
                          stdin=subprocess.DEVNULL).stdout


def curl(target, path, *more, version="--http2-prior-knowledge", headers=()):
    return run("curl", "-sS", "--noproxy", "*", version, *more, f"http://{target}{path}",
               headers=(f"host: {HOST}", *headers))


@pytest.mark.parametrize("version, shown", [("--http2-prior-knowledge", b"2"),
                                            ("--http1.1", b"1.1")])
def test_curl(way, version, shown):
    out = curl(way.target, "/version", "-w", "%{http_version} %{http_code}", version=version)
    assert out.endswith(b"}\n" + shown + b" 200")
    way.check({OK: 1}, protocol="http")


def test_curl_does_not_upgrade_to_h2c(way):
    """`Upgrade: h2c` is not taken, and the request is served as HTTP/1.1."""
    out = curl(way.target, "/version", "-w", "%{http_version} %{http_code}", version="--http2")
    assert out.endswith(b"}\n1.1 200")
    way.check({OK: 1}, protocol="http")


def test_curl_calls_grpc(grpc_way, call_file):
    out = curl(grpc_way.target, ECHO, "--data-binary", f"@{call_file}", "-i", headers=GRPC)
    assert CALL in out and out.rstrip().endswith(b"grpc-status: 0")
    grpc_way.check({0: 1}, (1, 1))


def nghttp(target, path, *more, headers=()):
    return run("nghttp", "-v", *more, f"http://{target}{path}",
               headers=(f":authority: {HOST}", *headers))


def test_nghttp(way):
    assert nghttp(way.target, "/version", "-m", 20).count(b":status: 200") == 20
    way.check({OK: 20}, protocol="http")


def test_nghttp_calls_grpc(grpc_way, call_file):
    out = nghttp(grpc_way.target, ECHO, "-m", 10, "-d", call_file, headers=GRPC)
    assert out.count(b"grpc-status: 0") == 10
    grpc_way.check({0: 10}, (10, 10))


def h2load(target, path, total, connections, streams, *more, headers=()):
    out = run("h2load", "-n", total, "-c", connections, "-m", streams, *more,
              f"http://{target}{path}", headers=(f":authority: {HOST}", *headers))
    assert b"%d succeeded, 0 failed, 0 errored, 0 timeout" % total in out, out.decode()
    assert b"status codes: %d 2xx" % total in out, out.decode()


@pytest.mark.parametrize("connections, streams", [(1, 1000), (10, 100)])
def test_h2load(way, sanitized, connections, streams):
    total = 2000 if sanitized else 10_000
    h2load(way.target, "/version", total, connections, streams)
    way.check({OK: total}, protocol="http")
    for metrics in way.wait_idle():
        assert metrics.total("hoplite_http2_streams_open") == 0


@pytest.mark.parametrize("connections, streams", [(1, 1000), (10, 100)])
def test_h2load_calls_grpc(grpc_way, sanitized, call_file, connections, streams):
    total = 2000 if sanitized else 10_000
    h2load(grpc_way.target, ECHO, total, connections, streams, "-d", call_file, headers=GRPC)
    grpc_way.check({0: total}, (total, total))
