"""Ways for gRPC calls to a server: straight, through one sidecar, through two; what these count.

Not the calls: each test makes its own on a channel.
"""

import contextlib
import subprocess

import grpc

from .deadline import poll_until, seconds
from .ledger import check_ledger, wait_idle
from .topology import HOST, Pair, inbound_config

REQUESTS = "istio_requests_total"
REQUEST_MESSAGES = "istio_request_messages_total"
RESPONSE_MESSAGES = "istio_response_messages_total"
WAYS = ("direct", "one", "two")


class Way:
    """How calls get to `address`: "direct", through "one" sidecar, or "two" with mTLS between."""

    def __init__(self, world, kind, address, **sections):
        self.sidecars = []
        if kind == "direct":
            self.target = address
        elif kind == "one":
            self.sidecars = [world.hoplite(inbound_config(address, **sections))]
            self.target = f"127.0.0.1:{self.sidecars[0].inbound}"
        else:
            pair = Pair(world, address, server_sections=sections, client_sections=sections)
            self.sidecars = [pair.client, pair.server]
            self.target = f"127.0.0.1:{pair.port}"

    @contextlib.contextmanager
    def channel(self, **options):
        with open_channel(self.target, **options) as channel:
            yield channel

    def check(self, calls, messages=None):
        """Exactly these calls were counted, by every sidecar.

        `calls`: {grpc status: number}, or {(response code, flags, grpc status): number};
        `messages`: (of requests, of responses).
        """
        for sidecar in self.sidecars:
            check_calls(sidecar, calls, messages)


@contextlib.contextmanager
def open_channel(target, authority=HOST, **options):
    """A channel with a connection of its own."""
    settings = {"grpc.default_authority": authority, "grpc.use_local_subchannel_pool": 1,
                "grpc.max_receive_message_length": -1, "grpc.max_send_message_length": -1,
                "grpc.enable_http_proxy": 0, "grpc.enable_retries": 0, **options}
    with grpc.insecure_channel(target, options=list(settings.items())) as channel:
        yield channel


def counted(metrics):
    """{(response code, flags, grpc status): requests} of all gRPC requests."""
    found = {}
    for labels, value in metrics.series(REQUESTS, request_protocol="grpc"):
        key = (labels["response_code"], labels["response_flags"], labels["grpc_response_status"])
        found[key] = found.get(key, 0) + value
    return found


def check_calls(sidecar, calls, messages=None):
    """As Way.check, of one sidecar. The metrics then."""
    wanted = {key if isinstance(key, tuple) else ("200", "-", str(key)): value
              for key, value in calls.items()}
    sidecar.wait_total(REQUESTS, sum(wanted.values()))
    metrics = wait_idle(sidecar)
    check_ledger(metrics)
    assert counted(metrics) == wanted, metrics.text(REQUESTS)
    for family in (REQUEST_MESSAGES, RESPONSE_MESSAGES):
        assert metrics.types[family] == "counter"
        for labels, _ in metrics.series(family):
            assert len(labels) == 20
    if messages is not None:
        found = tuple(metrics.total(family) for family in (REQUEST_MESSAGES, RESPONSE_MESSAGES))
        assert found == messages
    return metrics


def wait_messages(sidecar, messages, wanted=10.0):
    """Waits until so many messages (of requests, of responses) were told."""
    last = None

    def told():
        nonlocal last
        metrics = sidecar.metrics()
        last = tuple(metrics.total(family) for family in (REQUEST_MESSAGES, RESPONSE_MESSAGES))
        return last == messages

    poll_until(told, lambda: f"messages are {last}, not {messages}", wanted)


def status_of(call):
    """(status code, details) of a call that fails: `call` makes it."""
    try:
        call()
    except grpc.RpcError as error:
        return error.code(), error.details()
    raise AssertionError("the call did not fail")


class RawAnswer:
    """What curl saw of a call: `fields`, headers and trailers as [(name, value)], and `body`."""

    def __init__(self, fields, body):
        self.fields = fields
        self.body = body

    def __getitem__(self, name):
        found = [value for key, value in self.fields if key == name]
        assert len(found) == 1, f"{len(found)} of {name} in {self.fields}"
        return found[0]


def raw_call(folder, target, path, message=b"", headers=(), authority=HOST,
             kind="application/grpc", version="--http2-prior-knowledge"):
    """A unary call by curl, which does with deadlines and trailers only what it is told."""
    head, body, request = (folder / f"curl-{name}" for name in ("head", "body", "request"))
    request.write_bytes(b"\0" + len(message).to_bytes(4, "big") + message)
    argv = ["curl", "-sS", version, "--max-time", str(seconds(20)), "-D", head,
            "-o", body, "--data-binary", f"@{request}", "-H", "te: trailers",
            "-H", f"content-type: {kind}", "-H", f"host: {authority}"]
    for header in headers:
        argv += ["-H", header]
    subprocess.run([*argv, f"http://{target}{path}"], check=True, stdin=subprocess.DEVNULL)
    lines = head.read_text("utf-8").splitlines()
    fields = [tuple(line.split(": ", 1)) for line in lines if ": " in line]
    status = lines[0].split()[1]
    return RawAnswer([(":status", status), *fields], body.read_bytes())
