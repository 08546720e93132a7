"""Labels that strangers choose: the cap on label sets, exact sums, an honest peer's own series, the
overflow sets, expiry, and the memory of it all."""

import base64
import collections
import re
import threading

import pytest

from hoplite_e2e import metrics, prometheus
from hoplite_e2e.deadline import Deadline, poll_until
from hoplite_e2e.topology import HOST, podinfo_at, server_workload

QUIET = {"log": {"access": "off"}}
MAX_UNMATCHED_HOSTS = 100
LABEL_SETS = 1000
LINES_PER_LABEL_SET = 67
MIB = 1024 * 1024


# --- peer metadata, as a peer's sidecar writes it (google.protobuf.Struct) ----------------------


def _varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _field(number, payload):
    return bytes([number << 3 | 2]) + _varint(len(payload)) + payload


def struct(fields):
    """A serialised Struct; the values are bytes (strings, valid UTF-8 or not) or dicts."""
    out = b""
    for key, value in sorted(fields.items()):
        kind = _field(5, struct(value)) if isinstance(value, dict) else _field(3, value)
        out += _field(1, _field(1, key.encode()) + _field(2, kind))
    return out


def peer(workload, namespace=b"default", node_id=b"sidecar~1.2.3.4~a.default~x", **more):
    """The two header lines of a peer with this workload name."""
    value = base64.b64encode(struct({"WORKLOAD_NAME": workload, "NAMESPACE": namespace,
                                     "LABELS": {}, **more}))
    return b"x-envoy-peer-metadata-id: %s\r\nx-envoy-peer-metadata: %s\r\n" % (node_id, value)


def get(host, lines=b""):
    return b"GET /version HTTP/1.1\r\nHost: %s\r\n%s\r\n" % (host, lines)


# --- loads --------------------------------------------------------------------------------------


class Flood(threading.Thread):
    """Sends requests pipelined over one connection, and counts the answers by their status."""

    BATCH = 100

    def __init__(self, world, port, requests):
        super().__init__()
        self._client = world.client(port)
        self._requests = requests
        self.answers = collections.Counter()

    def run(self):
        rest = b""
        for at in range(0, len(self._requests), self.BATCH):
            part = self._requests[at : at + self.BATCH]
            self._client.send(b"".join(part))
            missing = len(part)
            while missing > 0:
                received = self._client.socket.recv(1 << 20)
                if not received:
                    return
                rest += received
                found = re.findall(rb"HTTP/1\.1 (\d\d\d) ", rest)
                self.answers.update(found)
                missing -= len(found)
                rest = rest[-12:] if not found else rest[rest.rindex(b"HTTP/1.1 ") + 13 :][-12:]


def flood(world, port, requests, status):
    """All of `requests` over two connections; every answer must have this status."""
    half = len(requests) // 2
    floods = [Flood(world, port, part) for part in (requests[:half], requests[half:])]
    for one in floods:
        one.start()
    for one in floods:
        one.join()
    assert floods[0].answers + floods[1].answers == {b"%d" % status: len(requests)}


@pytest.fixture(params=[20_000, pytest.param(100_000, marks=pytest.mark.long)])
def many(request, sanitized):
    """How many strangers: enough to go far beyond every cap."""
    return request.param // 5 if sanitized else request.param


def memory(process, what):
    """VmRSS or VmHWM of a process, in bytes."""
    with open(f"/proc/{process.pid}/status", encoding="ascii") as status:
        return int(re.search(rf"^{what}:\s+(\d+) kB", status.read(), re.M)[1]) * 1024


def forget_peak(process):
    """Makes VmHWM begin at the present VmRSS (proc(5), clear_refs)."""
    with open(f"/proc/{process.pid}/clear_refs", "w", encoding="ascii") as clear:
        clear.write("5")


def scrape(sidecar):
    """The metrics without the buckets below +Inf, of which there are too many to look at each."""
    body = metrics.fetch(sidecar.stats_url)[2].decode()
    return metrics.Metrics("\n".join(line for line in body.split("\n")
                                     if "_bucket{" not in line or 'le="+Inf"' in line))


def wait_completed(sidecar, total):
    """The metrics once so many requests have ended."""
    found = None

    def reached():
        nonlocal found
        found = scrape(sidecar)
        return found.total("hoplite_requests_completed_total") >= total

    poll_until(reached, f"{total} requests completed", 30)
    return found


def check_sums(found, total):
    """All requests are counted, in each family, and the ledger adds up."""
    assert found.total("istio_requests_total") == total
    assert found.total("hoplite_requests_completed_total") == total
    assert found.total("hoplite_requests_started_total") == total
    assert found.total("hoplite_requests_in_flight") == 0
    for family in ("istio_request_duration_milliseconds", "istio_request_bytes",
                   "istio_response_bytes"):
        assert found.total(f"{family}_count") == total
        assert found.total(f"{family}_bucket", le="+Inf") == total


def check_lint(sidecar):
    """The text is UTF-8 and what promtool takes, names that Istio fixed aside."""
    body = metrics.fetch(sidecar.stats_url)[2]
    body.decode("utf-8", "strict")
    if prometheus.binary("promtool") is not None:
        remarks = prometheus.lint(body)[1]
        assert [line for line in remarks if "istio_request_duration_milliseconds" not in line] == []
    return body


# --- the tests ----------------------------------------------------------------------------------


def both_sides(world, **stats):
    """A sidecar with both listeners, and an app behind it."""
    return world.hoplite({
        "workload": server_workload(),
        "inbound": {"listen": "127.0.0.1:0", "app": world.service().address},
        "outbound": {"listen": "127.0.0.1:0", "services": [podinfo_at("127.0.0.1:1")]},
        "stats": {"listen": "127.0.0.1:0", **stats}, **QUIET})


def test_hostile_hosts(world, many, sanitized):
    """Hosts that match no service: 100 keep their name, the others are one."""
    sidecar = both_sides(world)
    flood(world, sidecar.outbound, [get(b"a%d.example" % n) for n in range(200)], 502)
    before = memory(sidecar, "VmRSS")
    flood(world, sidecar.outbound,
          [get(b"%x.%s.example" % (n, b"long" * (n % 20))) for n in range(many)], 502)
    total = many + 200
    found = wait_completed(sidecar, total)
    check_sums(found, total)
    services = {labels["destination_service"]: value
                for labels, value in found.series("istio_requests_total", reporter="source")}
    assert len(services) == MAX_UNMATCHED_HOSTS + 1
    assert services["_other"] == total - MAX_UNMATCHED_HOSTS
    assert found.total("hoplite_hosts_folded_total") == total - MAX_UNMATCHED_HOSTS
    assert {labels["destination_service_name"] for labels, _ in
            found.series("istio_requests_total")} == {"BlackHoleCluster"}
    assert found.total("hoplite_requests_overflowed_total") == 0
    check_lint(sidecar)
    grown = memory(sidecar, "VmRSS") - before
    print(f"RSS grew by {grown / MIB:.1f} MiB in {many} hosts")
    if not sanitized:
        assert grown < 16 * MIB


HONEST = peer(b"honest", node_id=b"sidecar~10.0.0.7~honest-1.default~default.svc.cluster.local")


def test_hostile_metadata(world, many, sanitized):
    """Peers with ever new names and ids: the cap holds, sums stay exact, an honest peer keeps its
    series, whether it was there before or comes in the middle of it."""
    sidecar = both_sides(world)
    port = sidecar.inbound
    flood(world, port, [get(HOST.encode(), HONEST)] * 10, 200)
    before = memory(sidecar, "VmRSS")
    hostile = [get(HOST.encode(), peer(b"w%d" % n, node_id=b"sidecar~1.2.3.4~p%d.x~x" % n))
               for n in range(many)]
    flood(world, port, hostile[: many // 2], 200)
    flood(world, port, [get(HOST.encode(), HONEST)] * 10, 200)
    flood(world, port, hostile[many // 2 :], 200)
    # The honest id with another's metadata, and the honest metadata with another id.
    flood(world, port, [get(HOST.encode(), peer(b"liar", node_id=HONEST.split()[1]))] * 10, 200)
    flood(world, port, [get(HOST.encode(), HONEST)] * 10, 200)

    total = many + 40
    found = wait_completed(sidecar, total)
    check_sums(found, total)
    assert found.total("istio_requests_total", source_workload="honest") == 30
    overflow = found.one("istio_requests_total", source_workload="_overflow")
    kept = {"reporter": "destination", "request_protocol": "http", "response_code": "200",
            "response_flags": "-", "connection_security_policy": "none"}
    assert {name: overflow[name] for name in kept} == kept
    assert {value for name, value in overflow.items() if name not in kept} <= {"_overflow"}
    assert found.total("istio_requests_total", source_workload="_overflow") == \
        found.total("hoplite_requests_overflowed_total") == total - 30 - (LABEL_SETS - 1)
    assert found.total("hoplite_label_sets_limit") == LABEL_SETS
    assert found.total("hoplite_label_sets") == LABEL_SETS + 1
    assert len(found.series("istio_requests_total")) == LABEL_SETS + 1

    text = check_lint(sidecar)
    http_lines = sum(line.startswith(b"istio_re") for line in text.splitlines())
    assert http_lines == (LABEL_SETS + 1) * LINES_PER_LABEL_SET
    grown = memory(sidecar, "VmRSS") - before
    print(f"RSS grew by {grown / MIB:.1f} MiB in {many} peers")
    if not sanitized:
        assert grown < 64 * MIB


def test_scrape_memory(world, sanitized):
    """A scrape of a thousand label sets is written family by family and never held whole."""
    sidecar = both_sides(world)
    # Requests up to the cap, with labels as long as they get.
    long = b"x" * 30
    flood(world, sidecar.inbound,
          [get(HOST.encode(), peer(b"w%d%s" % (n, long), namespace=long, CLUSTER_ID=long))
           for n in range(LABEL_SETS)], 200)
    forget_peak(sidecar)
    before = memory(sidecar, "VmRSS")  # and nobody has scraped yet
    for encoding in ("identity", "gzip"):
        body = metrics.fetch(sidecar.stats_url, {"Accept-Encoding": encoding})[2]
        peak = memory(sidecar, "VmHWM") - before
        print(f"{encoding}: peak {peak / MIB:.2f} MiB for {len(body) / MIB:.1f} MiB")
        if encoding == "identity":
            assert len(body) > 20 * MIB
        if not sanitized:
            assert peak < 8 * MIB
    assert scrape(sidecar).total("hoplite_label_sets") == LABEL_SETS


def test_a_reader_that_stalls_in_a_scrape(world, sanitized):
    """Holds up nobody: neither requests nor other scrapes, and costs a bounded amount."""
    sidecar = both_sides(world)
    flood(world, sidecar.inbound,
          [get(HOST.encode(), peer(b"w%d" % n)) for n in range(LABEL_SETS)], 200)
    wait_completed(sidecar, LABEL_SETS)
    before = memory(sidecar, "VmRSS")
    stalled = [world.client(sidecar.stats_port) for _ in range(4)]
    for client in stalled:
        client.send(b"GET /stats/prometheus HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.read_head()[0] == "HTTP/1.1 200 OK"
    assert world.client(sidecar.inbound).request(host=HOST).status == 200
    assert wait_completed(sidecar, LABEL_SETS + 1).total("istio_requests_total") == LABEL_SETS + 1
    if not sanitized:
        assert memory(sidecar, "VmRSS") - before < 32 * MIB
    for client in stalled:  # and still get a whole answer when they go on
        received = client.buffer
        deadline = Deadline(30)
        while not received.endswith(b"\r\n0\r\n\r\n"):
            assert not deadline.passed()
            data = client.socket.recv(1 << 20)
            assert data, "cut"
            received += data
        assert b"istio_requests_total" in received


@pytest.mark.parametrize("name", [b"a\xff\xfe", b"\x80", b"\xed\xa0\x80", b"a\x00b", b"q\"u\\o\nte",
                                  b"\x1b[31m", b"w" * 5000, "ünï".encode() * 100])
def test_hostile_label_values(world, name):
    """Whatever a peer calls itself: the scrape is valid UTF-8 of at most 256 bytes a value."""
    sidecar = both_sides(world)
    flood(world, sidecar.inbound,
          [get(HOST.encode(), peer(name)), get(HOST.encode(), HONEST)] * 5, 200)
    found = sidecar.wait_total("istio_requests_total", 10)
    check_sums(found, 10)
    check_lint(sidecar)
    assert found.total("istio_requests_total", source_workload="honest") == 5
    for labels, _ in found.series("istio_requests_total"):
        for value in labels.values():
            assert len(value.encode()) <= 256 and "\x00" not in value and "\x1b" not in value


@pytest.mark.parametrize("host", [b"\xff.example", b"a\x80", b"a%zz"])
def test_hosts_that_are_no_hosts(world, host):
    """Refused before they could become a label; percent-escapes and UTF-8 as the grammar says."""
    sidecar = both_sides(world)
    client = world.client(sidecar.outbound)
    client.send(get(host))
    assert client.read_response().status == 400
    found = sidecar.wait_total("istio_requests_total", 1, response_flags="DPE")
    assert found.one("istio_requests_total")["destination_service"] == "unknown"
    check_lint(sidecar)


@pytest.mark.parametrize("value", [b"", b"!!!", b"AAAA", b"CgA=", b"A" * 20_000, b"\xff\xff"])
def test_metadata_that_is_none(world, value):
    """Not base64, not a Struct, too long: the peer is unknown and the request is served."""
    sidecar = both_sides(world)
    client = world.client(sidecar.inbound)
    for _ in range(2):
        client.send(get(HOST.encode(), b"x-envoy-peer-metadata: %s\r\n" % value))
        assert client.read_response().status == 200
    found = sidecar.wait_total("istio_requests_total", 2)
    assert found.one("istio_requests_total")["source_workload"] == "unknown"


def test_idle_expiry(world):
    """A label set without traffic leaves the scrape; its requests stay accounted for, and it can
    come back."""
    sidecar = both_sides(world, idle_expiry="4s")
    flood(world, sidecar.inbound, [get(HOST.encode(), HONEST)] * 10, 200)

    def expired():
        found = sidecar.metrics()
        assert found.total("hoplite_requests_completed_total") == \
            found.total("istio_requests_total") + found.total("hoplite_requests_expired_total")
        return found.total("hoplite_requests_expired_total") == 10 and found

    found = poll_until(expired, "the label set expired", 15)
    assert found.series("istio_requests_total") == []
    assert found.series("istio_request_bytes_bucket") == []
    assert found.total("hoplite_label_sets") == 0
    flood(world, sidecar.inbound, [get(HOST.encode(), HONEST)] * 3, 200)
    sidecar.wait_total("istio_requests_total", 3, source_workload="honest")


def test_no_expiry_unless_asked(world):
    sidecar = both_sides(world)
    flood(world, sidecar.inbound, [get(HOST.encode(), HONEST)] * 10, 200)
    found = sidecar.wait_total("istio_requests_total", 10)
    assert found.total("hoplite_requests_expired_total") == 0


def test_a_small_cap(world):
    """The cap is configurable, and both reporters get overflow sets of their own."""
    sidecar = both_sides(world, label_sets=10)
    flood(world, sidecar.inbound,
          [get(HOST.encode(), peer(b"w%d" % n)) for n in range(100)], 200)
    flood(world, sidecar.outbound, [get(b"h%d" % n) for n in range(100)], 502)
    found = sidecar.wait_total("istio_requests_total", 200)
    check_sums(found, 200)
    assert found.total("istio_requests_total", source_workload="_overflow",
                       reporter="destination") == 90
    assert found.total("istio_requests_total", source_workload="_overflow", reporter="source",
                       response_code="502") == 100
    check_lint(sidecar)
