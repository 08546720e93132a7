"""A real Prometheus and promtool: what they make of the two sidecars of a hop."""

import gzip
import json
import math
import pathlib
import re
import threading

import pytest

from hoplite_e2e import metrics, prometheus
from hoplite_e2e.deadline import poll_until
from hoplite_e2e.topology import HOST, Pair

QUERIES = pathlib.Path(__file__).resolve().parents[3] / "shared/data/istio-dashboard-queries.json"
OURS = re.compile(r"istio_(requests_total|request_duration_milliseconds|request_bytes|response_bytes)")

#: What promtool says against names that Istio fixed.
FIXED_BY_ISTIO = [
    "istio_request_duration_milliseconds use base unit \"seconds\" instead of \"milliseconds\"",
]


@pytest.fixture
def programs():
    for name in ("prometheus", "promtool"):
        if prometheus.binary(name) is None:
            pytest.skip(f"{name} IS NOT INSTALLED (docker/install-deps.sh test): nothing checked "
                        "that a real Prometheus takes the metrics")


class Hop:
    def __init__(self, world, client_stats):
        self._world = world
        self.pair = Pair(world, world.service().address, client_sections={"stats": client_stats})
        sidecars = (self.pair.client, self.pair.server)
        self.prometheus = prometheus.Prometheus(
            world.folder, [f"127.0.0.1:{sidecar.stats_port}" for sidecar in sidecars])
        world.processes.append(self.prometheus)
        self.prometheus.wait_ready()

    def requests(self, count):
        client = self._world.client(self.pair.port)
        for _ in range(count):
            assert client.request(host=HOST, headers=[("Connection", "keep-alive")]).status == 200
        client.close()

    def wait_value(self, expression, wanted):
        """Until the value is `wanted`, or what the function `wanted` says yes to.

        A scrape that takes longer than its second leaves everything without a value till the next.
        """
        last = None

        def reached():
            nonlocal last
            last = self.prometheus.value(expression)
            return last is not None and (wanted(last) if callable(wanted) else last == wanted)

        poll_until(reached, lambda: f"{expression} is {last}, not {wanted}", 30)


@pytest.fixture
def hop(request, world, programs):
    more = getattr(request, "param", {})
    return Hop(world, {"listen": "127.0.0.1:0", **more})


def test_ten_requests_in_promql(hop):
    hop.requests(10)
    ask = hop.prometheus
    hop.wait_value('sum(istio_requests_total{job="envoy-stats", reporter="source"})', 10)
    hop.wait_value('sum(istio_requests_total{job="envoy-stats", reporter="destination"})', 10)
    hop.wait_value('sum(istio_requests_total{reporter="destination", response_code="200", '
                   'response_flags="-", connection_security_policy="mutual_tls", '
                   'source_workload="client-v1", destination_workload="podinfo-v1"})', 10)
    for family in ("istio_request_duration_milliseconds", "istio_request_bytes",
                   "istio_response_bytes"):
        for reporter in ("source", "destination"):
            labels = f'{{reporter="{reporter}"}}'
            hop.wait_value(f"sum({family}_count{labels})", 10)
            hop.wait_value(f'sum({family}_bucket{{reporter="{reporter}", le="+Inf"}})', 10)
            hop.wait_value(f"sum({family}_sum{labels})", lambda value: value > 0)
            hop.wait_value(f"histogram_quantile(0.99, sum by (le) ({family}_bucket{labels}))",
                           lambda value: 0 < value < 100_000)
    hop.wait_value("sum(up)", 2)
    poll_until(lambda: [target["lastError"] for target in ask.targets()] == ["", ""],
               lambda: f"no error: {ask.targets()}")
    hop.wait_value('count(istio_build{component="proxy"})', 2)
    # Everything that was exposed was taken: no sample of a scrape was dropped.
    hop.wait_value("count(scrape_samples_scraped > 100)", 2)
    hop.wait_value("count(scrape_samples_scraped == scrape_samples_post_metric_relabeling)", 2)


@pytest.mark.parametrize("hop", [{}, {"source_security_policy": "verified"}], indirect=True,
                         ids=["as Istio", "verified"])
def test_istio_dashboards(hop):
    """Every expression on the HTTP metrics in Istio's own dashboards parses, and has data where
    a hop between two sidecars should give some."""
    if not QUERIES.exists():
        pytest.skip(f"ISTIO'S DASHBOARD QUERIES ARE NOT THERE ({QUERIES})")
    hop.requests(10)
    ask = hop.prometheus
    hop.wait_value("sum(istio_requests_total)", 20)
    # Rates want two samples and a change between them, on both sides.
    hop.requests(10)
    hop.wait_value("sum(istio_requests_total)", 40)
    source_policy = poll_until(lambda: ask.query(
        'sum by (connection_security_policy) (istio_requests_total{reporter="source"})'),
        "the policy that the source tells")
    verified = source_policy[0][0]["connection_security_policy"] == "mutual_tls"

    # Instant rates are of the last two samples: it goes on while they are asked for.
    traffic = Traffic(hop)
    entries = [entry for entry in json.loads(QUERIES.read_text()) if OURS.search(entry["expr"])]
    assert len(entries) >= 100
    expressions = [entry["expr"] for entry in entries]
    missing = {each for each in expressions if not expected_without_data(each, verified)}

    def all_have():
        nonlocal missing
        missing = {each for each in missing if not has_data(ask, each)}
        return not missing

    try:
        poll_until(all_have, lambda: "data for all; there is none for\n" + "\n".join(missing), 20)
        # All parse, and of those that need not have any, some have.
        poll_until(lambda: sum(has_data(ask, each) for each in expressions) > len(expressions) / 2,
                   "data for most", 20)
    finally:
        traffic.stop()


class Traffic:
    """A request now and then, until stopped."""

    def __init__(self, hop):
        self._hop = hop
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._stop.wait(0.1):
            self._hop.requests(1)

    def stop(self):
        self._stop.set()
        self._thread.join()


def has_data(ask, published):
    """Whether the expression gives a number for one of the choices of a dashboard's variables."""
    for service in (HOST, "podinfo"):
        for workload, namespace in (("podinfo-v1", "test"), ("client-v1", "default")):
            variables = {"__rate_interval": "1m", "qrep": "source|destination", "service": service,
                         "workload": workload, "namespace": namespace, "srcns": ".*",
                         "srcwl": ".*", "dstns": ".*", "dstwl": ".*", "dstsvc": ".*"}
            expression = re.sub(r"\$(\w+)", lambda m: variables[m[1]], published)
            if any(not math.isnan(value) for _, value in ask.query(expression)):
                return True
    return False


def expected_without_data(expression, verified):
    """Other programs' metrics, and a security policy that this hop's reporter does not see."""
    if "container_" in expression or "istio-ingressgateway" in expression:
        return True
    if 'destination_principal!~"spiffe' in expression:
        return True
    mutual = 'connection_security_policy="mutual_tls"' in expression
    if 'reporter="source"' in expression:
        return mutual != verified
    if 'reporter="destination"' in expression:
        return not mutual
    return verified and not mutual


def ten_requests(world):
    pair = Pair(world, world.service().address)
    client = world.client(pair.port)
    for _ in range(10):
        assert client.request(host=HOST).status == 200
    for sidecar in (pair.client, pair.server):
        sidecar.wait_total("istio_requests_total", 10)
    return pair


def test_promtool_is_content(world, programs):
    pair = ten_requests(world)
    for sidecar in (pair.client, pair.server):
        status, headers, body = metrics.fetch(sidecar.stats_url)
        assert status == 200
        assert headers["content-type"].startswith("text/plain; version=0.0.4")
        _, remarks = prometheus.lint(body)
        assert [line for line in remarks if line not in FIXED_BY_ISTIO] == []


def test_gzip_and_identity_are_the_same_text(world):
    """Prometheus asks for gzip by itself; a client that asks for nothing gets plain text."""
    url = ten_requests(world).client.stats_url
    status, headers, packed = metrics.fetch(url, {"Accept-Encoding": "gzip"})
    assert status == 200 and headers["content-encoding"] == "gzip"
    status, headers, plain = metrics.fetch(url)
    assert status == 200 and headers["content-encoding"] is None
    families = [line for line in plain.splitlines() if line.startswith(b"istio_")]
    assert families and families == [line for line in gzip.decompress(packed).splitlines()
                                     if line.startswith(b"istio_")]
    assert len(packed) < len(plain) / 5
