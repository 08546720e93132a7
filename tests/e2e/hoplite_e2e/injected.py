"""Running `hoplite inject`, and finding one's way in an injected pod as a YAML reader gives it."""

import subprocess

import pytest

from .deadline import seconds

OK = 0

#: With room for annotations; more of its one container, or of its spec, may follow.
POD = """\
apiVersion: v1
kind: Pod
metadata:
  name: web
  annotations: {%s}
spec:
  containers:
  - name: web
"""


@pytest.fixture
def hoplite(build_dir, tmp_path):
    """Runs hoplite on a text from stdin, or with other arguments; bytes in, bytes out."""

    def run(*arguments, text=""):
        data = text if isinstance(text, bytes) else text.encode()
        return subprocess.run([build_dir / "hoplite", *map(str, arguments)], input=data,
                              capture_output=True, timeout=seconds(), cwd=tmp_path)

    return run


@pytest.fixture
def inject(hoplite):
    """Injects a text, undoes it to see that it can be, and returns the documents."""

    def run(text, *arguments):
        done = hoplite("inject", "-f", "-", *arguments, text=text)
        assert done.returncode == OK, done.stderr.decode()
        back = hoplite("uninject", "-f", "-", text=done.stdout)
        assert back.returncode == OK, back.stderr.decode()
        assert back.stdout.decode() == text
        twice = hoplite("inject", "-f", "-", *arguments, text=done.stdout)
        assert (twice.returncode, twice.stdout) == (OK, done.stdout)
        return list(pytest.importorskip("yaml").safe_load_all(done.stdout))

    return run


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
