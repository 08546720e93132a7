"""The image of docker/Dockerfile, built without a daemon, and what runs from its root.

Once whole, which compiles everything and takes minutes; and once, in every run, from its second
stage on, with the program of this build in the place of what the first stage would have made.
"""

import fcntl
import json
import os
import pathlib
import shutil
import subprocess

import pytest
from hoplite_e2e.deadline import seconds

ROOT = pathlib.Path(__file__).resolve().parents[2]
MIRROR = os.environ.get("DEBIAN_MIRROR", "http://deb.debian.org/debian")
BASE = "localhost/debian:12-slim"
IMAGE = "localhost/hoplite:test"
MINUTES = 60.0
#: What apt says when it is not the image's fault.
NO_PACKAGES = ("apt-get update failed", "Failed to fetch", "Temporary failure resolving")

#: In a network and a file system of its own: the image's root, mounted read-only, with the command
#: in $@ run as a container of the pod would be.
IN_ROOT = """
set -eu
root=$1; shift
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/run"
mount --bind /dev "$root/dev"
"""


class Builder:
    """buildah with its own storage, so that nothing on this machine but `folder` changes."""

    def __init__(self, folder):
        self.folder = folder
        self._driver = None

    def __call__(self, *arguments, timeout=10 * MINUTES):
        drivers = [self._driver] if self._driver else ["overlay", "vfs"]
        for driver in drivers:
            done = subprocess.run(
                ["buildah", "--root", self.folder / driver, "--runroot", self.folder / "run",
                 "--storage-driver", driver, *map(str, arguments)],
                text=True, capture_output=True, timeout=timeout)
            if done.returncode == 0:
                self._driver = driver
                break
        said = done.stdout + done.stderr
        if done.returncode != 0 and any(words in said for words in NO_PACKAGES):
            pytest.skip("THE PACKAGES OF THE IMAGE COULD NOT BE FETCHED, so it was not built: "
                        + "".join(said.strip().splitlines()[-1:]))
        assert done.returncode == 0, said[-16000:]
        return done.stdout.strip()


def debootstrap(tree):
    """Why it could not, or None."""
    try:
        done = subprocess.run(["debootstrap", "--variant=minbase", "bookworm", tree, MIRROR],
                              text=True, capture_output=True, timeout=20 * MINUTES)
    except subprocess.TimeoutExpired:
        return "it took too long"
    return None if done.returncode == 0 else "".join(done.stdout.strip().splitlines()[-1:])


def make_base(build, folder):
    """A slim Debian as debootstrap makes it, which stands in for the one of the registry."""
    tar = folder / "base.tar"
    if not tar.exists():
        tree = folder / "base"
        shutil.rmtree(tree, ignore_errors=True)
        why = debootstrap(tree)
        if why is not None:
            pytest.skip(f"debootstrap COULD NOT MAKE A BASE, so the image was not built: {why}")
        subprocess.run(["tar", "-C", tree, "-cf", tar.with_suffix(".part"), "."], check=True)
        tar.with_suffix(".part").rename(tar)
        shutil.rmtree(tree)
    container = build("from", "scratch")
    build("add", container, tar, "/")
    build("commit", container, BASE)
    build("rm", container)


def second_stage(build_dir, folder):
    """A Dockerfile without the compiling, and the context that it wants."""
    program = build_dir / "hoplite"
    libraries = subprocess.run(["readelf", "-dW", program], text=True, capture_output=True,
                               check=True, timeout=seconds()).stdout
    if "libasan" in libraries or "libtsan" in libraries:
        pytest.skip("A SANITIZER'S BUILD, whose libraries are not in the image")
    context = folder / "context"
    shutil.rmtree(context, ignore_errors=True)
    (context / "docker").mkdir(parents=True)
    shutil.copy(ROOT / "docker/install-deps.sh", context / "docker")
    subprocess.run(["strip", "-o", context / "hoplite", program], check=True, timeout=seconds())
    text = (ROOT / "docker/Dockerfile").read_text()
    first, stage, second = text.rpartition("\nFROM ${BASE}\n")
    assert "FROM ${BASE} AS build" in first
    arguments = first[:first.index("FROM ")]
    (context / "Dockerfile").write_text(
        f"{arguments}FROM scratch AS build\nCOPY hoplite /build/hoplite\n{stage}{second}")
    return context / "Dockerfile", context


@pytest.fixture(scope="module", params=[pytest.param("whole", marks=pytest.mark.long),
                                        "second stage"])
def image(request, build_dir):
    """The folder that is the root of a container of the image, and the image's configuration."""
    for name in ("buildah", "debootstrap"):
        if shutil.which(name) is None:
            pytest.skip(f"{name} IS NOT INSTALLED (docker/install-deps.sh builder): the image was "
                        "not built")
    if os.geteuid() != 0:
        pytest.skip("NOT ROOT, which buildah's chroot isolation needs: the image was not built")
    folder = build_dir / "image"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        build = Builder(folder)
        whole = request.param == "whole"
        dockerfile, context = ((ROOT / "docker/Dockerfile", ROOT) if whole else
                               second_stage(build_dir, folder))
        make_base(build, folder)
        build("build", "--isolation", "chroot", "--pull-never", "--layers", "--build-arg",
              f"BASE={BASE}", "-f", dockerfile, "-t", IMAGE, context, timeout=60 * MINUTES)
        described = json.loads(build("inspect", "--type", "image", IMAGE))["OCIv1"]["config"]
        container = build("from", "--pull-never", IMAGE)
        try:
            yield pathlib.Path(build("mount", container)), described
        finally:
            build("rm", container)


def run_in(root, script, timeout=30.0):
    """Runs a script before the image's root, which is read-only, with no network but its own."""
    return subprocess.run(
        ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "bash", "-c",
         IN_ROOT + script, "bash", root], text=True, capture_output=True,
        timeout=seconds(timeout))


def init_arguments():
    yaml = pytest.importorskip("yaml", reason="python3-yaml IS NOT INSTALLED")
    deployment = next(yaml.safe_load_all(
        (ROOT / "docker/kubernetes/podinfo-injected.yaml").read_text()))
    init = deployment["spec"]["template"]["spec"]["initContainers"][0]
    assert init["name"] == "hoplite-init"
    return init["args"]


def test_the_image_is_as_the_manifests_need_it(image):
    root, config = image
    assert config["User"] == "1337:1337"
    assert config["Entrypoint"] == ["hoplite"]
    labels = config["Labels"]
    version = subprocess.run(["chroot", root, "hoplite", "version"], text=True,
                             capture_output=True, timeout=seconds()).stdout.strip()
    assert version == f"hoplite {labels['org.opencontainers.image.version']}"
    assert labels["org.opencontainers.image.title"] == "hoplite"
    sections = subprocess.run(["readelf", "-SW", root / "usr/local/bin/hoplite"], text=True,
                              capture_output=True, check=True, timeout=seconds()).stdout
    assert ".text" in sections
    assert ".symtab" not in sections and ".debug" not in sections
    assert not (root / "usr/bin/cmake").exists()


def test_its_curl_reads_the_metrics_of_its_sidecar_on_a_read_only_root(image):
    """kubectl exec POD -c istio-proxy -- curl -s localhost:15090/stats/prometheus"""
    root, _ = image
    done = run_in(root, """
ip link set lo up
in_root() { chroot --userspec=1337:1337 "$root" "$@"; }
in_root hoplite --from 127.0.0.1:8000 --to 127.0.0.1:9 >&2 &
in_root curl -s --retry 100 --retry-delay 1 --retry-connrefused localhost:15090/stats/prometheus
""")
    assert "istio_build{" in done.stdout, done.stdout + done.stderr


def test_its_init_container_installs_the_rules(image):
    """The very command of the manifest, as root with two capabilities and no more."""
    root, _ = image
    capabilities = "-all,+net_admin,+net_raw"
    arguments = " ".join(f"'{one}'" for one in init_arguments())
    done = run_in(root, f"""
ip link set lo up
chroot "$root" setpriv --bounding-set {capabilities} hoplite {arguments}
chroot "$root" iptables-save -t nat
""")
    if "not supported" in done.stderr or "Table does not exist" in done.stderr:
        pytest.skip(f"THIS KERNEL HAS NO nat TABLE: {done.stderr.strip()}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "-A PREROUTING -p tcp -j ISTIO_INBOUND" in done.stdout
    assert "-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001" in done.stdout
