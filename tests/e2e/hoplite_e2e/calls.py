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
MESSAGES = ("istio_request_messages_total", "istio_response_messages_total")
WAYS = ("direct", "one", "two")


class Way:
    """How calls get to `address`: "direct", through "one" sidecar, or "two" with mTLS between.

    `protocol` is what the sidecar beside the server speaks to it; `beside` are sections of this,
    `sections` of both sidecars.
    """

    def __init__(self, world, kind, address, protocol="auto", beside=None, **sections):
        self.sidecars = []
        self._labels = []  # what all series of the sidecar at the same place have
        config = inbound_config(address, protocol, **{**sections, **(beside or {})})
        if kind == "direct":
            self.target = address
        elif kind == "one":
            self.sidecars = [world.hoplite(config)]
            self.target = f"127.0.0.1:{self.sidecars[0].inbound}"
            self._labels = [_labels("destination", "none")]
        else:
            pair = Pair(world, address, server_sections=config, client_sections=sections)
            self.sidecars = [pair.client, pair.server]
            self.target = f"127.0.0.1:{pair.port}"
            self._labels = [_labels("source", "unknown"), _labels("destination", "mutual_tls")]

    @contextlib.contextmanager
    def channel(self, **options):
        with open_channel(self.target, **options) as channel:
            yield channel

    def check(self, calls, messages=None, protocol="grpc"):
        """Exactly these calls were counted, by every sidecar and with its labels of the hop.

        `calls`: {grpc status: number}, or {(response code, flags, grpc status): number};
        `messages`: (of requests, of responses); `protocol`: the label request_protocol of all.
        """
        for sidecar, labels in zip(self.sidecars, self._labels):
            check_calls(sidecar, calls, messages, **labels, request_protocol=protocol)

    def wait_idle(self):
        """The metrics of every sidecar once nothing is in flight."""
        return [wait_idle(sidecar) for sidecar in self.sidecars]


def _labels(reporter, policy):
    return {"reporter": reporter, "connection_security_policy": policy}


@contextlib.contextmanager
def open_channel(target, authority=HOST, **options):
    """A channel with a connection of its own."""
    settings = {"grpc.default_authority": authority, "grpc.use_local_subchannel_pool": 1,
                "grpc.max_receive_message_length": -1, "grpc.max_send_message_length": -1,
                "grpc.enable_http_proxy": 0, "grpc.enable_retries": 0, **options}
    with grpc.insecure_channel(target, options=list(settings.items())) as channel:
        yield channel


def counted(metrics):
    """{(response code, flags, grpc status): requests} of all requests."""
    found = {}
    for labels, value in metrics.series(REQUESTS):
        key = (labels["response_code"], labels["response_flags"], labels["grpc_response_status"])
        found[key] = found.get(key, 0) + value
    return found


def check_calls(sidecar, calls, messages=None, request_protocol="grpc", **labels):
    """As Way.check, of one sidecar whose series all have these labels. The metrics then."""
    wanted = {key if isinstance(key, tuple) else ("200", "-", str(key)): value
              for key, value in calls.items()}
    sidecar.wait_total(REQUESTS, sum(wanted.values()))
    metrics = wait_idle(sidecar)
    check_ledger(metrics)
    assert counted(metrics) == wanted, metrics.text(REQUESTS)
    labels["request_protocol"] = request_protocol
    for found, _ in metrics.series(REQUESTS):
        assert len(found) == 25 and labels.items() <= found.items(), found
    for family in MESSAGES:
        assert request_protocol == "grpc" or metrics.series(family) == []
        for found, _ in metrics.series(family):
            assert metrics.types[family] == "counter"
            assert len(found) == 20 and found["reporter"] == labels.get("reporter",
                                                                        found["reporter"])
    if messages is not None:
        assert told(metrics) == messages, "\n".join(map(metrics.text, MESSAGES))
    return metrics


def told(metrics):
    """The messages of requests and of responses that were told of."""
    return tuple(metrics.total(family) for family in MESSAGES)


def wait_messages(sidecar, messages, wanted=60.0):
    """Waits until so many messages (of requests, of responses) were told of."""
    last = None

    def reached():
        nonlocal last
        last = told(sidecar.metrics())
        return last == messages

    poll_until(reached, lambda: f"messages are {last}, not {messages}", wanted)


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
