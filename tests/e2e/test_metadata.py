"""Peer metadata over HTTP headers: byte-compatible both ways, stripped, and robust to lies."""

import base64
import re

import pytest

from hoplite_e2e import metadata, tls
from hoplite_e2e.topology import HOST, Pair, inbound_config, outbound_config, podinfo_at

REQUESTS = "istio_requests_total"
UNKNOWN = {"source_workload": "unknown", "source_app": "unknown", "source_version": "unknown",
           "source_canonical_service": "unknown", "source_canonical_revision": "latest",
           "source_cluster": "unknown", "source_workload_namespace": "unknown"}
SHOP = {"source_workload": "shop-v7", "source_app": "shop", "source_version": "v7",
        "source_canonical_service": "shop", "source_canonical_revision": "v7",
        "source_cluster": "c1", "source_workload_namespace": "default"}


def some(labels, wanted):
    return {name: labels[name] for name in wanted}


def own_entries(pod, workload, namespace, app, identity=None, **labels):
    entries = {"NAME": pod, "NAMESPACE": namespace, "WORKLOAD_NAME": workload,
               "CLUSTER_ID": "Kubernetes",
               "LABELS": {"app": app, "version": "v1", "service.istio.io/canonical-name": app,
                          "service.istio.io/canonical-revision": "v1", **labels}}
    if identity:
        entries["IDENTITY"] = identity
    return entries


def pod_of(node_id, ip, workload, namespace):
    match = re.fullmatch(rf"sidecar~{re.escape(ip)}~({workload}-[0-9a-f]{{8}})\.{namespace}"
                         rf"~{namespace}\.svc\.cluster\.local", node_id)
    assert match, node_id
    return match.group(1)


class Upstream:
    """A server that keeps the heads it got and answers with the headers it is told to."""

    def __init__(self, world, headers=()):
        self.heads = []
        self.headers = headers
        self._server = world.raw_server(self._script)
        self.address = self._server.address

    def _script(self, wire, number):
        while True:
            self.heads.append(wire.read_head()[1])
            lines = "".join(f"{name}: {value}\r\n" for name, value in self.headers)
            wire.send(f"HTTP/1.1 200 OK\r\n{lines}Content-Length: 2\r\n\r\nok".encode("latin-1"))


def values(headers, name):
    return [v for n, v in headers if n.lower() == name]


def test_what_the_client_side_says(world):
    upstream = Upstream(world)
    config = outbound_config(podinfo_at(upstream.address))
    config["workload"]["labels"] = {"team": "a", "Zone": "z"}
    sidecar = world.hoplite(config)
    client = world.client(sidecar.outbound)
    # What the app claims of itself is overwritten, whatever its case.
    forged = [("X-Envoy-Peer-Metadata", "AAAA"), ("x-envoy-peer-metadata-ID", "me"),
              ("x-envoy-peer-metadata", metadata.header({"WORKLOAD_NAME": "admin"}))]
    for _ in range(2):
        answer = client.request(host=HOST, headers=forged)
        assert answer.status == 200
        assert answer.header(metadata.ID) is None and answer.header(metadata.VALUE) is None
    said = [(values(head, metadata.ID), values(head, metadata.VALUE)) for head in upstream.heads]
    assert said[0] == said[1]
    (node_id,), (value,) = said[0]
    pod = pod_of(node_id, "0.0.0.0", "client-v1", "default")
    assert value == metadata.header(own_entries(pod, "client-v1", "default", "client",
                                                team="a", Zone="z"))


def test_the_identity_is_told_with_mtls(world):
    app = Upstream(world)
    authority = world.authority()
    identity = authority.issue("default", "client")
    sidecar = world.hoplite(outbound_config(podinfo_at(app.address, tls={"mode": "off"}),
                                            mtls=identity.mtls()))
    assert world.client(sidecar.outbound).request(host=HOST).status == 200
    (node_id,) = values(app.heads[0], metadata.ID)
    pod = pod_of(node_id, "0.0.0.0", "client-v1", "default")
    assert values(app.heads[0], metadata.VALUE) == [metadata.header(
        own_entries(pod, "client-v1", "default", "client", identity.principal))]


@pytest.mark.parametrize("asked", ["both", "id", "value", "nothing"])
def test_what_the_server_side_says(world, asked):
    app = Upstream(world)
    sidecar = world.hoplite(inbound_config(app.address))
    sent = metadata.headers(metadata.of_peer("shop-v7"))
    sent = {"both": sent, "id": sent[:1], "value": sent[1:], "nothing": []}[asked]
    answer = world.client(sidecar.inbound).request(headers=sent)
    assert answer.status == 200
    said_id, said_value = answer.header(metadata.ID), answer.header(metadata.VALUE)
    assert (said_id is not None) == (asked in ("both", "id"))
    assert (said_value is not None) == (asked in ("both", "value"))
    if asked == "both":
        pod = pod_of(said_id, "127.0.0.1", "podinfo-v1", "test")
        assert said_value == metadata.header(own_entries(pod, "podinfo-v1", "test", "podinfo"))
    # Nothing of it reaches the app.
    assert not values(app.heads[0], metadata.ID) and not values(app.heads[0], metadata.VALUE)
    labels = sidecar.wait_total(REQUESTS, 1).one(REQUESTS)
    assert some(labels, SHOP) == (SHOP if asked in ("both", "value") else UNKNOWN)


def test_an_app_cannot_speak_for_its_sidecar(world):
    forged = metadata.headers(metadata.of_peer("admin"), "forged")
    app = Upstream(world, forged)
    pair = Pair(world, app.address)
    client = world.client(pair.port)
    answer = client.request(host=HOST)
    assert answer.status == 200
    assert answer.header(metadata.ID) is None and answer.header(metadata.VALUE) is None
    labels = pair.client.wait_total(REQUESTS, 1).one(REQUESTS)
    assert labels["destination_workload"] == "podinfo-v1"
    # And a client that did not ask is told nothing.
    direct = world.tls_client(pair.server.inbound,
                              tls.client_context(pair.authority.ca, pair.client_identity))
    answer = direct.request()
    assert answer.header(metadata.ID) is None and answer.header(metadata.VALUE) is None


def test_labels_of_the_peer_on_the_client_side(world):
    """From a server that is not Hoplite, in bytes made by hand."""
    entries = metadata.of_peer("shop-v7", "shops", IDENTITY="spiffe://td/ns/shops/sa/shop")
    upstream = Upstream(world, metadata.headers(entries))
    sidecar = world.hoplite(outbound_config(podinfo_at(upstream.address)))
    client = world.client(sidecar.outbound)
    for _ in range(3):
        answer = client.request(host=HOST)
        assert answer.header(metadata.ID) is None and answer.header(metadata.VALUE) is None
    labels = sidecar.wait_total(REQUESTS, 3).one(REQUESTS)
    wanted = {name.replace("source", "destination"): value for name, value in SHOP.items()}
    wanted["destination_workload_namespace"] = "shops"
    wanted["destination_principal"] = "spiffe://td/ns/shops/sa/shop"  # unverified, as Istio has it
    assert some(labels, wanted) == wanted


def test_recommended_labels_win(world):
    """app.kubernetes.io/name before app, app.kubernetes.io/version before version."""
    sidecar = world.hoplite(inbound_config(world.service().address))
    entries = metadata.of_peer("shop-v7")
    entries["LABELS"] |= {"app.kubernetes.io/name": "better", "app.kubernetes.io/version": "v8"}
    world.client(sidecar.inbound).request(headers=metadata.headers(entries))
    labels = sidecar.wait_total(REQUESTS, 1).one(REQUESTS)
    assert (labels["source_app"], labels["source_version"]) == ("better", "v8")


def test_principals_come_from_certificates_only(world):
    app = world.service()
    authority = world.authority()
    identity = authority.issue("test", "podinfo")
    sidecar = world.hoplite(inbound_config(app.address, mtls=identity.mtls("permissive")))
    lie = metadata.of_peer("shop-v7", "kube-system",
                           IDENTITY="spiffe://cluster.local/ns/kube-system/sa/admin")
    plain = world.client(sidecar.inbound)
    plain.request(headers=metadata.headers(lie))
    labels = sidecar.wait_total(REQUESTS, 1).one(REQUESTS, connection_security_policy="none")
    assert labels["source_principal"] == "unknown"
    secure = world.tls_client(sidecar.inbound, tls.client_context(
        authority.ca, authority.issue("default", "client")))
    secure.request(headers=metadata.headers(lie))
    labels = sidecar.wait_total(REQUESTS, 2).one(REQUESTS,
                                                 connection_security_policy="mutual_tls")
    assert labels["source_principal"] == "spiffe://cluster.local/ns/default/sa/client"
    assert labels["source_workload_namespace"] == "default"  # the certificate's, not what is said
    assert labels["source_workload"] == "shop-v7"


def test_unpadded_base64_is_taken(world):
    sidecar = world.hoplite(inbound_config(world.service().address))
    client = world.client(sidecar.inbound)
    sent = 0
    for filler in ("x", "xx", "xxx"):
        value = metadata.header(metadata.of_peer("shop-v7", ZZZ=filler)).rstrip("=")
        assert client.request(headers=[(metadata.ID, filler), (metadata.VALUE, value)]).status == 200
        sent += 1
    labels = sidecar.wait_total(REQUESTS, sent).one(REQUESTS)
    assert some(labels, SHOP) == SHOP


def nested(depth):
    entries = {"x": "y"}
    for _ in range(depth):
        entries = {"x": entries}
    return entries


GOOD = metadata.struct(metadata.of_peer("shop-v7"))
HOSTILE = {
    "empty": b"",
    "not base64": b"!!!!",
    "blanks in base64": b"AA AA",
    "url-safe base64": base64.urlsafe_b64encode(b"\xfb\xff\xbf" + GOOD).replace(b"=", b""),
    "padding in the middle": b"CgA=CgA=",
    "one character": b"A",
    "no struct": base64.b64encode(b"\xff\xff\xff\xff"),
    "a length beyond the end": base64.b64encode(b"\x0a\x7f" + GOOD),
    "an endless varint": base64.b64encode(b"\x0a" + b"\xff" * 11),
    "cut": base64.b64encode(GOOD[:-3]),
    "a wrong wire type": base64.b64encode(b"\x08\x01" + b"\x0d\x01"),
    "nested too deep": base64.b64encode(metadata.struct(nested(200))),
    "long": base64.b64encode(metadata.struct({"X": "y" * 20000})),
    "names that are structs": base64.b64encode(metadata.struct(
        {"WORKLOAD_NAME": {"a": "b"}, "LABELS": "text", "NAMESPACE": True})),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_metadata(world, name):
    app = Upstream(world)
    sidecar = world.hoplite(inbound_config(app.address))
    client = world.client(sidecar.inbound)
    value = HOSTILE[name].decode("latin-1")
    answer = client.request(headers=[(metadata.ID, "x"), (metadata.VALUE, value)])
    assert answer.status == 200
    assert not values(app.heads[0], metadata.ID) and not values(app.heads[0], metadata.VALUE)
    labels = sidecar.wait_total(REQUESTS, 1).one(REQUESTS)
    assert some(labels, UNKNOWN) == UNKNOWN
    # The same connection and the same id, honestly.
    client.request(headers=[(metadata.ID, "x"), (metadata.VALUE,
                                                 metadata.header(metadata.of_peer("shop-v7")))])
    labels = sidecar.wait_total(REQUESTS, 2).one(REQUESTS, source_workload="shop-v7")
    assert some(labels, SHOP) == SHOP


def test_repeated_headers_all_go(world):
    app = Upstream(world)
    sidecar = world.hoplite(inbound_config(app.address))
    sent = metadata.headers(metadata.of_peer("shop-v7"), "a")
    answer = world.client(sidecar.inbound).request(
        headers=[*sent, *metadata.headers(metadata.of_peer("other"), "b"), *sent])
    assert answer.status == 200
    assert len(answer.all(metadata.ID)) == len(answer.all(metadata.VALUE)) == 1
    assert not values(app.heads[0], metadata.ID) and not values(app.heads[0], metadata.VALUE)


def test_label_values_are_cleaned(world):
    """Not UTF-8, control characters, far too long: the scrape stays valid and the request counts."""
    sidecar = world.hoplite(inbound_config(world.service().address))
    client = world.client(sidecar.inbound)
    for number, workload in enumerate((b"\xff\xfe", b"a\nb\"c\\d\x00", b"w" * 3000,
                                       "é".encode() * 200)):
        sent = metadata.headers(metadata.of_peer("x", WORKLOAD_NAME=workload), f"id{number}")
        assert client.request(headers=sent).status == 200
    metrics = sidecar.wait_total(REQUESTS, 4)
    seen = [labels["source_workload"] for labels, _ in metrics.series(REQUESTS)]
    assert all(len(each.encode()) <= 256 for each in seen), seen
    assert len(seen) >= 3


def test_a_peer_cannot_answer_for_another_ones_id(world):
    """The cache is by identity, id and value: taking over an id changes nobody else's labels."""
    authority = world.authority()
    app = world.service()
    sidecar = world.hoplite(inbound_config(
        app.address, mtls=authority.issue("test", "podinfo").mtls(), workers=1))

    identities = {name: authority.issue("default", name) for name in ("honest", "liar")}

    def connect(account):
        context = tls.client_context(authority.ca, identities[account])
        return world.tls_client(sidecar.inbound, context)

    honest, liar = connect("honest"), connect("liar")
    honest.request(headers=metadata.headers(metadata.of_peer("honest-v1"), "the id"))
    liar.request(headers=metadata.headers(metadata.of_peer("liar-v1"), "the id"))
    for client in (connect("honest"), honest):
        client.request(headers=metadata.headers(metadata.of_peer("honest-v1"), "the id"))
    metrics = sidecar.wait_total(REQUESTS, 4)
    for account, count in (("honest", 3), ("liar", 1)):
        assert metrics.total(REQUESTS, source_workload=f"{account}-v1",
                             source_principal=f"spiffe://cluster.local/ns/default/sa/{account}"
                             ) == count
