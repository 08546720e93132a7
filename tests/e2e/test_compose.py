"""docker/compose.yaml without an engine: each service's own command, in a network namespace.

What an engine would add is made here: two networks, names, users, capabilities, the volume.
Not the image (test_image.py): the programs are this build's, and a test service stands for podinfo.
"""

import contextlib
import pathlib
import shutil
import socket
import subprocess

import pytest
from hoplite_e2e import cluster, metrics, pods, prometheus
from hoplite_e2e.deadline import poll_until, seconds
from hoplite_e2e.process import Process

yaml = pytest.importorskip(
    "yaml", reason="python3-yaml IS NOT INSTALLED (docker/install-deps.sh test): compose.yaml was "
                   "not run")

WHY_NOT = pods.missing()
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=f"compose.yaml WAS NOT RUN: {WHY_NOT}")

DOCKER = pathlib.Path(__file__).resolve().parents[2] / "docker"
COMPOSE = DOCKER / "compose.yaml"
HOPLITE_IMAGE, APP_IMAGE = "hoplite:0.1.0", "stefanprodan/podinfo:6.7.1"


class Composition(cluster.Cluster):
    """The pods `client`, `server` and `outside` (Prometheus), which know each other's names."""

    def __init__(self, world):
        self.composition = yaml.safe_load(COMPOSE.read_text())
        self._hosts = []
        self._loop = None
        super().__init__(world)
        self.certs = self.folder / "certs"
        self.certs.mkdir()
        programs = self.folder / "bin"
        programs.mkdir()
        (programs / "hoplite").symlink_to(world.hoplite_binary)
        self.path = f"{programs}:/usr/sbin:/usr/bin:/sbin:/bin"
        for pod in (self.client, self.server, self.outside):
            self._name_hosts(pod)

    def _name_hosts(self, pod):
        """`ip netns exec` puts this file in the place of /etc/hosts."""
        folder = pathlib.Path("/etc/netns") / pod.name
        while not folder.exists():
            with contextlib.suppress(FileNotFoundError):  # another test has just cleaned up
                folder.mkdir(parents=True)
        self._hosts.append(folder)
        # Prometheus looks up its own name, and there is no DNS here.
        (folder / "hosts").write_text(f"127.0.0.1 localhost {socket.gethostname()}\n"
                                      f"{self.client.v4} client\n{self.server.v4} server\n")

    def pod_of(self, name):
        host = self.composition["services"][name].get("network_mode", f"service:{name}")
        return {"client": self.client, "server": self.server}.get(
            host.removeprefix("service:"), self.outside)

    def argv(self, name):
        """The command line of the service's container, with its user and capabilities."""
        service = self.composition["services"][name]
        if service["image"] == APP_IMAGE:
            command = [self.world.service_binary, "--listen", "[::]:9898", "--name", "podinfo"]
        else:
            command = [*service.get("entrypoint", ["hoplite"]), *service.get("command", [])]
        user, group = service.get("user", "1337:1337").split(":")
        limits = [f"--reuid={user}", f"--regid={group}", "--clear-groups"]
        if service.get("cap_drop") == ["ALL"]:
            kept = [f"+{one.lower()}" for one in service.get("cap_add", [])]
            limits.append("--bounding-set=" + ",".join(["-all", *kept]))
        if "no-new-privileges:true" in service.get("security_opt", []):
            limits.append("--no-new-privs")
        return [shutil.which("ip"), "netns", "exec", self.pod_of(name).name,
                shutil.which("setpriv"), *limits, "env", f"PATH={self.path}", *map(self._placed, command)]

    def _placed(self, text):
        """The volume `certs` is a folder of the test."""
        return str(text).replace("/certs", str(self.certs))

    def run(self, name):
        """A service that ends."""
        done = subprocess.run([str(word) for word in self.argv(name)], text=True,
                              capture_output=True, timeout=seconds(30))
        assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"

    def start(self, name):
        environment = self.composition["services"][name].get("environment", {})
        process = Process(self.argv(name), name,
                          env={key: self._placed(value) for key, value in environment.items()})
        self.world.processes.append(process)
        if name == "client":
            self._loop = process
        return process

    def close(self):
        if self._loop is not None:
            self.world.kill(self._loop)  # a shell that ends by a signal did nothing wrong
        for folder in self._hosts:
            shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            pathlib.Path("/etc/netns").rmdir()
        super().close()


@pytest.fixture
def composition(world):
    made = Composition(world)
    yield made
    made.close()


def in_order(services):
    """Names, each behind what it depends on."""
    out = []
    while len(out) < len(services):
        ready = [name for name, service in services.items() if name not in out and
                 set(service.get("depends_on", [])) <= set(out)]
        assert ready, f"a circle among {set(services) - set(out)}"
        out += ready
    return out


def total(pod, **labels):
    with contextlib.suppress(OSError):
        status, _, body = pod.fetch("http://127.0.0.1:15090/stats/prometheus")
        assert status == 200
        return metrics.Metrics(body.decode()).total("istio_requests_total", **labels)
    return 0


def test_every_service_by_its_own_command(composition):
    """Ten requests, and more, of a client that knows nothing are in the metrics of both sides."""
    services = composition.composition["services"]
    images = {service["image"] for service in services.values()}
    assert images == {HOPLITE_IMAGE, APP_IMAGE, services["prometheus"]["image"]}
    for name in in_order(services):
        if name == "prometheus":
            continue
        if name == "certs" or name.endswith("-redirect"):
            composition.run(name)
            continue
        process = composition.start(name)
        if name.endswith("-sidecar"):
            process.wait_line(r"^ready in \d+ ms")
    both = {"source_workload": "client", "destination_workload": "podinfo",
            "destination_version": "6.7.1", "response_code": "200"}
    poll_until(lambda: total(composition.client, reporter="source", **both) >= 10,
               "ten requests at the client's sidecar", 60)
    poll_until(lambda: total(composition.server, reporter="destination",
                             connection_security_policy="mutual_tls", **both) >= 10,
               "and at the server's", 60)


def test_prometheus_scrapes_both_by_the_composition_s_job(composition):
    """The very file, from a network of its own, with the names that the composition gives."""
    if prometheus.binary("prometheus") is None:
        pytest.skip("prometheus IS NOT INSTALLED (docker/install-deps.sh test)")
    composition.run("certs")
    for side in ("server", "client"):
        composition.start(side)
        composition.run(f"{side}-redirect")
        composition.start(f"{side}-sidecar").wait_line(r"^ready in \d+ ms")
    service = composition.composition["services"]["prometheus"]
    assert service["command"] == ["--config.file=/etc/prometheus/compose.yml"]
    assert service["volumes"] == ["./prometheus:/etc/prometheus:ro"]
    jobs = yaml.safe_load((DOCKER / "prometheus/compose.yml").read_text())["scrape_configs"]
    ask = prometheus.Prometheus(composition.folder, pod=composition.outside, scrape_configs=[
        {**job, "scrape_interval": "1s", "scrape_timeout": "1s"} for job in jobs])
    composition.world.processes.append(ask)
    ask.wait_ready()
    for reporter in ("source", "destination"):
        expression = f'sum(istio_requests_total{{reporter="{reporter}"}})'
        poll_until(lambda: (ask.value(expression) or 0) >= 2, f"two in {expression}", 60)
    assert {target["scrapeUrl"] for target in ask.targets()} == {
        "http://client:15090/stats/prometheus", "http://server:15090/stats/prometheus"}
