"""mtls.allow: who may call in, judged for each request; 403, its counters, its labels; audit."""

import pytest

from hoplite_e2e import tls
from hoplite_e2e.topology import HOST, Pair, inbound_config

CLIENT = "spiffe://cluster.local/ns/default/sa/client"
ALLOWED = "hoplite_requests_allowed_total"
DENIED = "hoplite_requests_denied_total"
REQUESTS = "istio_requests_total"


def pair_allowing(world, *allow, **more):
    app = world.service()
    pair = Pair(world, app.address)
    mtls = pair.server_identity.mtls(allow=list(allow), **more)
    pair.server.reload(with_mtls(app, mtls))
    pair.server.wait_line("configuration taken", "stderr")
    pair.app = app
    return pair


def denied(metrics):
    """{(rule, mode): count} of what counted."""
    return {(labels["rule"], labels["mode"]): value
            for labels, value in metrics.series(DENIED) if value}


def with_mtls(app, mtls):
    return inbound_config(app.address, mtls=mtls)


@pytest.mark.parametrize("allow, status", [
    ([CLIENT], 200),
    (["*"], 200),
    (["spiffe://cluster.local/ns/default/*"], 200),
    (["*/sa/client"], 200),
    (["spiffe://*/ns/*/sa/client"], 200),
    (["spiffe://cluster.local/ns/other/*", "*/ns/default/*"], 200),
    ([{"name": "clients", "principal": "*/sa/cli*"}], 200),
    (["spiffe://cluster.local/ns/default/sa/clien"], 403),
    (["spiffe://cluster.local/ns/default/sa/client2"], 403),
    (["*/sa/client/*"], 403),
    (["spiffe://cluster.local/ns/DEFAULT/*"], 403),
    (["spiffe://other/*", "*/ns/test/*"], 403),
])
def test_globs(world, allow, status):
    pair = pair_allowing(world, *allow)
    assert world.client(pair.port).request(host=HOST).status == status
    assert len(pair.app.received()) == (1 if status == 200 else 0)
    metrics = pair.server.wait_total(REQUESTS, 1, response_code=str(status))
    assert metrics.total(DENIED) == (0 if status == 200 else 1)
    assert metrics.total(ALLOWED) == (1 if status == 200 else 0)


def test_the_counter_names_the_rule(world):
    pair = pair_allowing(world, {"name": "others", "principal": "*/ns/other/*"},
                         {"name": "clients", "principal": "*/sa/client"}, "*")
    client = world.client(pair.port)
    for _ in range(2):
        assert client.request(host=HOST).status == 200
    metrics = pair.server.wait_total(ALLOWED, 2, rule="clients")
    assert metrics.total(ALLOWED) == 2
    assert {labels["rule"] for labels, _ in metrics.series(ALLOWED)} == {
        "no_match", "no_principal", "others", "clients", "*"}


def test_denied_request(world):
    pair = pair_allowing(world, {"name": "others", "principal": "*/ns/other/*"})
    client = world.client(pair.port)
    for _ in range(3):
        answer = client.request("POST", "/echo", host=HOST, body=b"not for you")
        assert answer.status == 403
        assert answer.body == b"RBAC: access denied\n"
        assert answer.header("x-request-id")
        assert answer.header("x-envoy-peer-metadata") is None
    assert pair.app.events() == []

    both = {"source_principal": pair.client_identity.principal,
            "destination_principal": pair.server_identity.principal,
            "source_workload": "client-v1", "source_workload_namespace": "default",
            "source_app": "client", "source_version": "v1", "source_cluster": "Kubernetes",
            "source_canonical_service": "client", "source_canonical_revision": "v1",
            "destination_workload": "podinfo-v1", "destination_workload_namespace": "test",
            "destination_app": "podinfo", "destination_version": "v1",
            "destination_cluster": "Kubernetes", "destination_canonical_service": "podinfo",
            "destination_canonical_revision": "v1", "destination_service_name": "podinfo",
            "destination_service_namespace": "test", "response_code": "403",
            "response_flags": "-", "request_protocol": "http", "grpc_response_status": ""}
    for sidecar, reporter, more in (
            (pair.server, "destination", {"connection_security_policy": "mutual_tls",
                                          "destination_service": "podinfo"}),
            (pair.client, "source", {"connection_security_policy": "unknown",
                                     "destination_service": HOST})):
        metrics = sidecar.wait_total(REQUESTS, 3)
        assert metrics.one(REQUESTS) == {"reporter": reporter, **both, **more}

    metrics = pair.server.metrics()
    assert denied(metrics) == {("no_match", "enforced"): 3}


def test_audit_only_counts(world):
    pair = pair_allowing(world, "*/ns/other/*", audit=True)
    for _ in range(2):
        assert world.client(pair.port).request(host=HOST).status == 200
    metrics = pair.server.wait_total(REQUESTS, 2, response_code="200")
    assert denied(metrics) == {("no_match", "audit"): 2}


@pytest.mark.parametrize("allow", ["*", "spiffe://*", CLIENT])
def test_nobody_verified_is_never_allowed(world, allow):
    """Plaintext and one-way TLS have no principal, not even for a star."""
    app = world.service()
    authority = world.authority()
    identity = authority.issue("test", "podinfo")
    sidecar = world.hoplite(inbound_config(
        app.address, mtls=identity.mtls("permissive", allow=[allow])))
    plain = world.client(sidecar.inbound)
    one_way = world.tls_client(sidecar.inbound,
                               tls.client_context(authority.ca, alpn=("http/1.1",)))
    headers = [("X-Forwarded-Client-Cert", f"By=x;URI={CLIENT}")]
    for client in (plain, one_way):
        answer = client.request(headers=headers)
        assert answer.status == 403
        assert answer.header("connection") is None  # the connection may go on asking
    mutual = world.tls_client(sidecar.inbound, tls.client_context(
        authority.ca, authority.issue("default", "client")))
    assert mutual.request().status == 200
    assert len(app.received()) == 1
    metrics = sidecar.wait_total(REQUESTS, 2, response_code="403", response_flags="-",
                                 connection_security_policy="none")
    assert denied(metrics) == {("no_principal", "enforced"): 2}


def test_denied_upload_does_not_stall(world):
    """A body that is not wanted is discarded or the connection ends; the answer comes either way."""
    pair = pair_allowing(world, "*/ns/other/*")
    client = world.client(pair.port)
    client.send(b"POST /echo HTTP/1.1\r\nHost: %s\r\nContent-Length: 5000000\r\n\r\n"
                % HOST.encode())
    try:
        client.send(b"x" * 5_000_000)
    except OSError:
        pass
    assert client.read_response().status == 403
    pair.server.wait_total(REQUESTS, 1, response_code="403")
    pair.client.wait_total(REQUESTS, 1, response_code="403")
    assert pair.app.events() == []
