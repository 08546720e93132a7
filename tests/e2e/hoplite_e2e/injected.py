"""Finding one's way in an injected pod, as a YAML reader gives it."""


def named(items, name):
    found = [item for item in items if item["name"] == name]
    assert len(found) == 1, [item["name"] for item in items]
    return found[0]


def variables(container):
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in container["env"]}


def sidecar_of(pod, name="istio-proxy"):
    return named(pod["spec"]["initContainers"], name)


def flags_of(pod):
    args = named(pod["spec"]["initContainers"], "hoplite-init")["args"]
    assert args[:2] == ["redirect", "apply"]
    return dict(zip(args[2::2], args[3::2]))
