"""Istio's peer metadata, written by hand: a google.protobuf.Struct in base64. No protobuf library.

Struct: repeated field 1, entries of field 1 the key and field 2 a Value.
Value: field 2 double, field 3 string, field 4 bool, field 5 Struct.
"""

import base64

ID = "x-envoy-peer-metadata-id"
VALUE = "x-envoy-peer-metadata"


def varint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(number, payload):
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def value(of):
    if isinstance(of, dict):
        return field(5, struct(of))
    if isinstance(of, bool):
        return b"\x20" + varint(int(of))
    return field(3, of if isinstance(of, bytes) else of.encode())


def struct(entries):
    """The entries in the order of their keys, as deterministic serialisation has them."""
    return b"".join(field(1, field(1, key.encode()) + field(2, value(entries[key])))
                    for key in sorted(entries))


def header(entries):
    return base64.b64encode(struct(entries)).decode()


def of_peer(workload, namespace="default", **more):
    """What the sidecar of such a workload says."""
    return {"NAME": f"{workload}-abc", "NAMESPACE": namespace, "WORKLOAD_NAME": workload,
            "CLUSTER_ID": "c1", "LABELS": {"app": "shop", "version": "v7",
                                           "service.istio.io/canonical-name": "shop",
                                           "service.istio.io/canonical-revision": "v7"}, **more}


def headers(entries, node_id="sidecar~10.0.0.1~pod.default~default.svc.cluster.local"):
    return [(ID, node_id), (VALUE, header(entries))]
