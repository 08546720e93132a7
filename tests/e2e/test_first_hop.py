"""The product's main job: requests through one sidecar and through two, measured as Istio does."""

from hoplite_e2e.front import free_address
from hoplite_e2e.topology import HOST, Pair, inbound_config, podinfo_at, server_workload

HISTOGRAMS = ("istio_request_duration_milliseconds", "istio_request_bytes", "istio_response_bytes")


def send_ten(world, port):
    """Ten requests, five on a connection."""
    for _ in range(2):
        client = world.client(port)
        for _ in range(5):
            answer = client.request(host=HOST)
            assert answer.status == 200
            assert answer.body == b'{"name":"app","version":"1.0.0"}\n'
            assert answer.complete


def check_ten(metrics, reporter, **labels):
    """Ten requests in one series of each family, and nothing else from this reporter."""
    found = metrics.one("istio_requests_total", reporter=reporter)
    assert metrics.total("istio_requests_total", reporter=reporter) == 10
    wanted = {"request_protocol": "http", "response_code": "200", "response_flags": "-",
              "grpc_response_status": "", **labels}
    assert {name: found[name] for name in wanted} == wanted
    assert len(found) == 25
    for family in HISTOGRAMS:
        assert metrics.types[family] == "histogram"
        assert metrics.one(f"{family}_count", reporter=reporter) == found
        assert metrics.total(f"{family}_count", reporter=reporter) == 10
        buckets = metrics.series(f"{family}_bucket", reporter=reporter)
        assert len(buckets) == 20
        assert [value for labels, value in buckets if labels["le"] == "+Inf"] == [10]
        assert metrics.total(f"{family}_sum", reporter=reporter) > 0


def test_plaintext_inbound(world):
    app = world.service()
    sidecar = world.hoplite(inbound_config(app.address))
    send_ten(world, sidecar.inbound)
    metrics = sidecar.wait_total("istio_requests_total", 10)
    check_ten(metrics, "destination", connection_security_policy="none",
              destination_workload="podinfo-v1", destination_workload_namespace="test",
              destination_service="podinfo", destination_service_name="podinfo",
              destination_service_namespace="test", source_workload="unknown",
              source_canonical_revision="latest", source_principal="unknown")


def test_both_reporters_of_one_sidecar(world):
    """The app calls its own service through its sidecar: out of one listener, into the other."""
    app = world.service()
    inbound = free_address()
    sidecar = world.hoplite({
        "workload": server_workload(),
        "inbound": {"listen": inbound, "app": app.address},
        "outbound": {"listen": "127.0.0.1:0", "services": [podinfo_at(inbound)]},
        "stats": {"listen": "127.0.0.1:0"},
    })
    send_ten(world, sidecar.outbound)
    metrics = sidecar.wait_total("istio_requests_total", 20)
    both = {"source_workload": "podinfo-v1", "destination_workload": "podinfo-v1",
            "source_workload_namespace": "test", "destination_workload_namespace": "test"}
    check_ten(metrics, "source", connection_security_policy="unknown", destination_service=HOST,
              destination_service_name="podinfo", destination_service_namespace="test", **both)
    check_ten(metrics, "destination", connection_security_policy="none", **both)


def test_two_sidecars_with_mtls(world):
    app = world.service()
    pair = Pair(world, app.address)
    send_ten(world, pair.port)

    both = {"source_principal": pair.client_identity.principal,
            "destination_principal": pair.server_identity.principal,
            "source_workload": "client-v1", "source_workload_namespace": "default",
            "source_app": "client", "source_version": "v1", "source_cluster": "Kubernetes",
            "source_canonical_service": "client", "source_canonical_revision": "v1",
            "destination_workload": "podinfo-v1", "destination_workload_namespace": "test",
            "destination_app": "podinfo", "destination_version": "v1",
            "destination_cluster": "Kubernetes", "destination_canonical_service": "podinfo",
            "destination_canonical_revision": "v1", "destination_service_name": "podinfo",
            "destination_service_namespace": "test"}
    check_ten(pair.client.wait_total("istio_requests_total", 10), "source",
              connection_security_policy="unknown", destination_service=HOST, **both)
    check_ten(pair.server.wait_total("istio_requests_total", 10), "destination",
              connection_security_policy="mutual_tls", destination_service="podinfo", **both)
