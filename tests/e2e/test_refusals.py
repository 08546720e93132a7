"""Why a message was refused: in the reply, the access log and the metrics. Not that it was refused:
test_hostile.py tests that."""

import collections
import json
import re

from hoplite_e2e import hostile
from hoplite_e2e.deadline import poll_until
from hoplite_e2e.topology import inbound_config

HEAD = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
#: kind in the metrics, details in the access log, the reply's body, the request
REQUESTS = [
    ("start_line", "bad_request:bare_lf_in_start_line",
     "malformed request: bare LF in the start line", b"GET / HTTP/1.1\nHost: a\r\n\r\n"),
    ("start_line", "bad_request:tls_on_plaintext_port",
     "malformed request: a TLS handshake where plaintext is spoken", b"\x16\x03\x01\x02\x00\x01"),
    ("method", "unknown_method", "method not implemented", b"FROB / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("target", "bad_request:fragment_in_target", "malformed request: fragment in the target",
     b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("version", "version_not_supported", "HTTP version not supported",
     b"GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
    ("host", "bad_request:missing_host", "malformed request: no Host header",
     b"GET / HTTP/1.1\r\n\r\n"),
    ("header", "bad_request:bare_lf", "malformed request: bare LF", HEAD + b"X: y\nZ: z\r\n\r\n"),
    ("header", "bad_request:space_before_colon",
     "malformed request: white space between a header's name and its colon",
     HEAD + b"X-secret : y\r\n\r\n"),
    ("content_length", "bad_request:content_length_with_transfer_encoding",
     "malformed request: Content-Length and Transfer-Encoding together",
     HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ("transfer_encoding", "unknown_transfer_coding", "transfer coding not implemented",
     HEAD + b"Transfer-Encoding: gzip\r\n\r\n"),
    ("head_size", "request_head_too_large:too_many_headers",
     "request header fields too large: too many headers",
     HEAD + b"".join(b"X-%d: y\r\n" % number for number in range(100)) + b"\r\n"),
    ("chunk", "bad_request:invalid_chunk_size", "malformed request: invalid chunk size",
     CHUNKED + b"xyz\r\n"),
    ("body", "bad_request:obs_fold", "malformed request: folded header line",
     CHUNKED + b"0\r\nX: y\r\n z\r\n\r\n"),
]


def details(sidecar, count):
    """What the first `count` access log lines say; more would be a fault."""
    def lines():
        return [line for line in sidecar.stdout if line.startswith('{"start"')]
    poll_until(lambda: len(lines()) >= count, lambda: f"{count} lines; there are {len(lines())}")
    assert len(lines()) == count
    return [json.loads(line)["details"] for line in lines()]


def refused_by_kind(metrics):
    found = collections.Counter()
    for labels, value in metrics.series("hoplite_messages_refused_total"):
        if value:
            found[(labels["direction"], labels["kind"])] += int(value)
    return found


def test_a_refused_request_says_why(world):
    """Every kind of refusal, by its reply's text, its line in the log and its kind in the metrics."""
    app = world.service()
    sidecar = world.hoplite(inbound_config(app.address))
    for number, (kind, why, text, raw) in enumerate(REQUESTS):
        before = refused_by_kind(sidecar.metrics())
        client = world.client(sidecar.inbound)
        client.send(raw)
        answer = client.read_response()
        assert (why, answer.body) == (why, text.encode() + b"\n") and answer.complete
        client.close()
        assert details(sidecar, number + 1)[-1] == why
        metrics = sidecar.wait_total("istio_requests_total", number + 1)
        assert refused_by_kind(metrics) - before == {("inbound", kind): 1}, why
    assert {kind for kind, *_ in REQUESTS} == {
        "start_line", "method", "target", "version", "host", "header", "content_length",
        "transfer_encoding", "head_size", "chunk", "body"}


def test_the_log_names_what_is_wrong_with_every_hostile_request(world):
    app = world.service()
    sidecar = world.hoplite(inbound_config(app.address))
    wanted = collections.Counter()
    for case in hostile.requests():
        client = world.client(sidecar.inbound)
        client.send(case.raw)
        assert client.read_response().status == case.status
        client.close()
        wanted[case.word] += 1
    found = collections.Counter(word.removeprefix("bad_request:")
                                for word in details(sidecar, wanted.total()))
    assert found == wanted


def test_a_refused_response_says_why(world):
    """502 UPE: the kind is `response`, the log says which rule the upstream broke."""
    cases = [(b"HTTP/1.1 200 OK\r\nX: a\nContent-Length: 0\r\n\r\n", "bare_lf", b"bare LF"),
             (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "unknown_transfer_coding",
              b"unknown transfer coding"),
             (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "invalid_status_line", b"invalid status line")]

    def script(wire, number):
        wire.read_head()
        wire.send(cases[number][0])

    upstream = world.raw_server(script)
    sidecar = world.hoplite(inbound_config(upstream.address))
    for number, (_, word, text) in enumerate(cases):
        answer = world.client(sidecar.inbound).request(host="a")
        assert (answer.status, answer.body) == (
            502, b"malformed response from upstream: " + text + b"\n")
        assert details(sidecar, number + 1)[-1] == "upstream_protocol_error:" + word
    metrics = sidecar.wait_total("istio_requests_total", len(cases), response_code="502",
                                 response_flags="UPE")
    assert refused_by_kind(metrics) == {("inbound", "response"): len(cases)}


def test_no_byte_of_the_request_comes_back(world):
    """A reply is one of a fixed set of texts, whatever the client sent."""
    app = world.service()
    sidecar = world.hoplite(inbound_config(app.address))
    marker = b"Zq7marker"
    for raw in (b"GET /%s#x HTTP/1.1\r\nHost: a\r\n\r\n", b"%s / HTTP/1.1\r\nHost: a\r\n\r\n",
                b"GET / HTTP/1.1\r\nHost: <%s>\r\n\r\n", b"GET / HTTP/1.1\r\n%s\r\n\r\n",
                b"GET / HTTP/1.1\r\nHost: a\r\nX: %s\x01\r\n\r\n"):
        client = world.client(sidecar.inbound)
        client.send(raw % marker)
        answer = client.read_response()
        assert answer.status >= 400
        assert marker not in answer.body
        assert not any(marker.decode() in value for _, value in answer.headers)
        assert re.fullmatch(rb"[A-Za-z:', ]+\n", answer.body)
        client.close()
