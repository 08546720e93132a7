"""On the wire of gRPC calls that fail: the proxy's own replies, and how servers say their status.

Not how clients take it (test_grpc_failures.py).
"""

import pytest

from hoplite_e2e import http2 as h2
from hoplite_e2e.calls import HOST, Way, check_calls
from hoplite_e2e.front import free_address
from hoplite_e2e.topology import Pair, inbound_config, outbound_config, podinfo_at

CHECK = "/grpc.health.v1.Health/Check"
GRPC = [("content-type", "application/grpc"), ("te", "trailers")]
EMPTY = b"\0\0\0\0\0"  # a message without a byte
UNICODE = "%E2%98%BA 100%25 %F0%9F%98%88"


def message(size, flag=0):
    return bytes([flag]) + size.to_bytes(4, "big") + bytes(size)


def port_of(target):
    return int(target.rsplit(":", 1)[1])


def call(world, target, version, body=EMPTY, authority=HOST):
    """The answer to a call; what it has besides its head is checked to be none."""
    client = world.client(port_of(target))
    if version == "http2":
        answer = h2.Client(client).ask(method="POST", path=CHECK, headers=GRPC, body=body,
                                       authority=authority)
        assert answer.complete and answer.reset is None and answer.trailers == []
    else:
        answer = client.request("POST", CHECK, authority, GRPC, body)
        assert answer.header("content-length") == "0" and answer.complete
    assert answer.body == b""
    return answer


def check_reply(answer, status, text):
    """Trailers-only, of HTTP status 200 whatever it was that failed."""
    assert answer.status == 200
    assert answer.header("content-type") == "application/grpc"
    assert answer.header("grpc-status") == str(status)
    assert answer.header("grpc-message") == text
    assert len(answer.header("x-request-id")) == 36


# --- the proxy's own replies ---------------------------------------------------------------------


def hangs_up(wire, _number):
    wire.read_exactly(20)


def is_silent(wire, _number):
    wire.read_to_end(60)


def resets(wire, _number):
    server = h2.Server(wire)
    server.send(h2.rst_stream(server.next_request(), h2.INTERNAL_ERROR))
    server.expect_end(60)


def babbles(wire, _number):
    """What is no HTTP response, in either version."""
    wire.read_exactly(20)
    wire.send(b"this is no response of any kind\r\n\r\n")
    wire.read_to_end(60)


#: {name: (server, what it is spoken to in, sections beside it, flag, gRPC status, text)}
FAILURES = {
    "UF": (None, ("http1", "http2"), {}, "UF", 14, "upstream connect error"),
    "UC": (hangs_up, ("http1", "http2"), {}, "UC", 14,
           "upstream closed the connection before the response"),
    "UR": (resets, ("http2",), {}, "UR", 14, "upstream reset the stream"),
    "UT": (is_silent, ("http1", "http2"), {"timeouts": {"request": "2s"}}, "UT", 4,
           "upstream request timeout"),
    "SI": (is_silent, ("http1",), {"timeouts": {"body_idle": "1s", "tunnel_idle": "1s"}},
           "SI", 4, "stream idle for too long"),
}
ROWS = [pytest.param(version, protocol, *FAILURES[name], id=f"{name}-{version}-{protocol}")
        for name in FAILURES for protocol in FAILURES[name][1] for version in ("http1", "http2")]


@pytest.mark.parametrize("version, protocol, server, _spoken, beside, flag, status, text", ROWS)
def test_failures_beside_the_server(world, version, protocol, server, _spoken, beside, flag,
                                    status, text):
    """The sidecar beside the server replies in gRPC, and the other one passes that on."""
    address = free_address() if server is None else world.raw_server(server).address
    way = Way(world, "two", address, protocol, beside)
    check_reply(call(world, way.target, version), status, text)
    for sidecar, seen in zip(way.sidecars, ("-", flag)):
        check_calls(sidecar, {("200", seen, str(status)): 1})


@pytest.mark.parametrize("version", ["http1", "http2"])
def test_what_is_no_response(world, version):
    """A server that is spoken to in HTTP/1 and says no word of it: UPE, and its text says why."""
    way = Way(world, "two", world.raw_server(babbles).address, "http1")
    answer = call(world, way.target, version)
    check_reply(answer, 14, answer.header("grpc-message"))
    assert answer.header("grpc-message").startswith("malformed response from upstream")
    for sidecar, seen in zip(way.sidecars, ("-", "UPE")):
        check_calls(sidecar, {("200", seen, "14"): 1})


@pytest.mark.parametrize("version", ["http1", "http2"])
def test_denied(world, version):
    app = world.service()
    pair = Pair(world, app.grpc_address)
    mtls = pair.server_identity.mtls(allow=["*/ns/other/*"])
    pair.server.reload(inbound_config(app.grpc_address, mtls=mtls))
    pair.server.wait_line("configuration taken", "stderr")
    check_reply(call(world, f"127.0.0.1:{pair.port}", version), 7, "RBAC: access denied")
    check_calls(pair.client, {7: 1}, reporter="source")
    check_calls(pair.server, {7: 1}, reporter="destination",
                connection_security_policy="mutual_tls")


@pytest.mark.parametrize("version", ["http1", "http2"])
@pytest.mark.parametrize("endpoints, authority, flag, text", [
    ([], HOST, "UH", "no healthy upstream"),
    ([None], HOST, "UF", "upstream connect error"),
    ([None], "other.example", "-", "no service is configured for this host")],
    ids=["UH", "UF", "no route"])
def test_failures_beside_the_client(world, version, endpoints, authority, flag, text):
    """What nobody else gets to see."""
    service = podinfo_at(*(free_address() for _ in endpoints))
    sidecar = world.hoplite(outbound_config(service))
    target = f"127.0.0.1:{sidecar.outbound}"
    check_reply(call(world, target, version, authority=authority), 14, text)
    check_calls(sidecar, {("200", flag, "14"): 1}, reporter="source")


def test_a_server_that_does_not_speak_http2(world):
    """`protocol: http2` does not fall back to HTTP/1: the reply and the access log tell."""
    def answers_in_http1(wire, _number):
        wire.read_until(b"\r\n\r\n")
        wire.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        wire.read_to_end(60)

    server = world.raw_server(answers_in_http1)
    way = Way(world, "two", server.address, "http2", {"log": {"access": "errors"}})
    check_reply(call(world, way.target, "http2"), 14, "malformed response from upstream")
    for sidecar, seen in zip(way.sidecars, ("-", "UPE")):
        check_calls(sidecar, {("200", seen, "14"): 1})
    line = way.sidecars[1].wait_line(r'"flags":"UPE","details":"upstream_protocol_error"').string
    assert server.address in line
    way.sidecars[1].wait_line(
        rf"upstream {server.address} does not speak HTTP/2 \(.*inbound\.protocol: http1", "stderr")


# --- how a server says it ------------------------------------------------------------------------

#: {name: (status, headers, body, trailers, (code, flags, gRPC status), messages of the response)}
SAID = {
    "in the trailers": (200, GRPC[:1], EMPTY, [("grpc-status", "9"), ("grpc-message", UNICODE)],
                        ("200", "-", "9"), 1),
    "in the headers alone": (200, [*GRPC[:1], ("grpc-status", "8"), ("grpc-message", UNICODE)],
                             b"", None, ("200", "-", "8"), 0),
    "in both": (200, [*GRPC[:1], ("grpc-status", "3")], EMPTY, [("grpc-status", "0")],
                ("200", "-", "0"), 1),
    "by the HTTP status": (503, [("content-type", "text/html")], b"<html>", None,
                           ("503", "-", "14"), 0),
    "by 404": (404, [], b"", None, ("404", "-", "12"), 0),
    "not at all": (200, GRPC[:1], EMPTY, None, ("200", "-", "2"), 1),
    "as what is none": (200, GRPC[:1], EMPTY, [("grpc-status", "maybe")], ("200", "-", "-1"), 1),
    "as what is too high": (200, GRPC[:1], EMPTY, [("grpc-status", "17")], ("200", "-", "-1"), 1),
}


@pytest.mark.parametrize("status, headers, body, trailers, counted, messages", SAID.values(),
                         ids=SAID.keys())
def test_how_a_server_says_its_status(world, status, headers, body, trailers, counted, messages):
    """It comes through as it was said, and both sidecars read it in the same way."""
    def server(wire, _number):
        played = h2.Server(wire)
        stream = played.next_request()
        played.complete(stream)
        played.respond(stream, status, body, headers, trailers)
        played.expect_end(60)

    way = Way(world, "two", world.raw_server(server).address)
    answer = h2.Client(world.client(port_of(way.target))).ask(
        method="POST", path=CHECK, headers=GRPC, body=EMPTY, authority=HOST)
    assert (answer.status, answer.body, answer.trailers) == (status, body, trailers or [])
    for name, value in headers:
        assert answer.header(name) == value
    way.check({counted: 1}, (1, messages))


# --- messages, however they are cut --------------------------------------------------------------


def test_messages_cut_at_each_byte(world):
    """DATA frames of one byte, in both directions: prefixes and payloads fall apart everywhere."""
    text = message(3) + message(0) + message(7, flag=1) + message(260)

    def server(wire, _number):
        played = h2.Server(wire)
        stream = played.next_request()
        got = played.complete(stream).body
        played.respond(stream, 200, b"", GRPC[:1], end=False)
        played.send(*(h2.data(stream, got[at:at + 1]) for at in range(len(got))),
                    played.header_frames(stream, [("grpc-status", "0")]))
        played.expect_end(60)

    way = Way(world, "two", world.raw_server(server).address)
    client = h2.Client(world.client(port_of(way.target)))
    stream = client.request(method="POST", path=CHECK, headers=GRPC, authority=HOST, end=False)
    client.send(*(h2.data(stream, text[at:at + 1], at == len(text) - 1)
                  for at in range(len(text))))
    assert client.response(stream).body == text
    way.check({0: 1}, (4, 4))
