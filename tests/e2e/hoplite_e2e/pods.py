"""Pods as network namespaces: joined by veth, with service addresses and the rules of a sidecar.

Names of namespaces are unique, so tests may run side by side. Not what runs in them.
"""

import contextlib
import ctypes
import os
import pathlib
import queue
import shutil
import socket
import subprocess
import tempfile
import threading

from . import metrics
from .deadline import seconds
from .netns import WAIT_FOR_LOCK
from .programs import Hoplite, TestService
from .process import Process

PROXY_ID = 1337
_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000


def missing():
    """Why pods cannot be made here, in words, or None."""
    if os.geteuid() != 0:
        return "making network namespaces takes root"
    for name in ("ip", "iptables-restore", "ip6tables-restore", "setpriv"):
        if shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is None:
            return f"{name} IS NOT INSTALLED (docker/install-deps.sh test)"
    probe = f"hoplite-probe-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", probe], stderr=subprocess.PIPE, check=False)
    if made.returncode != 0:
        return "network namespaces cannot be made here: " + made.stderr.decode().strip()
    nat = subprocess.run(["ip", "netns", "exec", probe, "iptables-restore", "--noflush",
                          WAIT_FOR_LOCK],
                         input=b"*nat\n-A OUTPUT -p tcp -j REDIRECT --to-ports 1\nCOMMIT\n",
                         stderr=subprocess.PIPE, check=False)
    subprocess.run(["ip", "netns", "del", probe], check=False)
    if nat.returncode != 0:
        return "the kernel has no nat table with REDIRECT: " + nat.stderr.decode().strip()
    return None


class _Worker(threading.Thread):
    """A thread that lives in a namespace and runs what it is given."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self._path = path
        self._work = queue.Queue()
        self.start()

    def run(self):
        with open(self._path, "rb") as namespace:
            if _LIBC.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
        while (item := self._work.get()) is not None:
            work, answer = item
            try:
                answer.put((work(), None))
            except BaseException as error:  # pylint: disable=broad-except
                answer.put((None, error))

    def call(self, work):
        answer = queue.Queue()
        self._work.put((work, answer))
        result, error = answer.get()
        if error is not None:
            raise error
        return result

    def stop(self):
        self._work.put(None)


class Pod:
    """One network namespace with eth0, `v4` and `v6` on it."""

    def __init__(self, name, v4, v6):
        self.name = f"hoplite-{name}-{os.getpid()}-{os.urandom(3).hex()}"
        self.v4 = v4
        self.v6 = v6
        self.processes = []
        _run("ip", "netns", "add", self.name)
        self._worker = _Worker(f"/run/netns/{self.name}")
        self.ip("link", "set", "lo", "up")

    def ip(self, *words):
        _run("ip", "-n", self.name, *words)

    def run(self, *argv, stdin=None, check=True, uid=None):
        """Runs a program in the pod to its end; what it printed."""
        return subprocess.run([str(a) for a in self.wrap(argv, uid)], input=stdin, check=check,
                              timeout=seconds(20), stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE)

    def wrap(self, argv, uid=None):
        """The command line that runs `argv` in the pod, as `uid`."""
        gid = PROXY_ID if uid == 0 else uid  # root as the sidecar's group is TPROXY's sidecar
        ids = [] if uid is None else [shutil.which("setpriv"), f"--reuid={uid}", f"--regid={gid}",
                                      "--clear-groups"]
        return [shutil.which("ip"), "netns", "exec", self.name, *ids, *argv]

    def call(self, work):
        """work(), in a thread of the pod: sockets it makes are the pod's."""
        return self._worker.call(work)

    def connect(self, host, port, wanted=5.0):
        return self.call(lambda: socket.create_connection((host, port), timeout=seconds(wanted)))

    def listen(self, host, port):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET

        def make():
            server = socket.socket(family)
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind((host, port))
            server.listen(512)
            return server

        return self.call(make)

    def fetch(self, url, headers=None):
        return self.call(lambda: metrics.fetch(url, headers))

    def rules(self, text, v6=False):
        """Applies iptables-restore text."""
        self.run("ip6tables-restore" if v6 else "iptables-restore", "--noflush", WAIT_FOR_LOCK,
                 stdin=text.encode())

    def close(self):
        self._worker.stop()
        subprocess.run(["ip", "netns", "del", self.name], check=False, stderr=subprocess.DEVNULL)


def _run(*argv):
    subprocess.run(argv, check=True, timeout=seconds(20), stdout=subprocess.DEVNULL)


def join(first, second):
    """A veth pair between two pods, each the other's way to everywhere."""
    _run("ip", "link", "add", "eth0", "netns", first.name, "type", "veth", "peer", "name", "eth0",
         "netns", second.name)
    for pod, other in ((first, second), (second, first)):
        pod.ip("address", "add", f"{pod.v4}/24", "dev", "eth0")
        pod.ip("address", "add", f"{pod.v6}/64", "dev", "eth0", "nodad")
        pod.ip("link", "set", "eth0", "up")
        pod.ip("route", "add", "default", "via", other.v4)
        pod.ip("-6", "route", "add", "default", "via", other.v6)
        pod.ip("-6", "address", "add", "::6/128", "dev", "lo", "nodad")


def sidecar_rules(v6=False, excluded_inbound=(15090, 15021, 15020), excluded_outbound=()):
    """The nat table of an Istio sidecar in REDIRECT mode, as iptables-restore takes it."""
    loopback = "::1/128" if v6 else "127.0.0.1/32"
    source = "::6/128" if v6 else "127.0.0.6/32"
    inbound = [f"-A ISTIO_INBOUND -p tcp --dport {port} -j RETURN" for port in excluded_inbound]
    outbound = [f"-A ISTIO_OUTPUT -p tcp --dport {port} -j RETURN" for port in excluded_outbound]
    owner = []
    for kind in ("uid", "gid"):
        own = f"-m owner --{kind}-owner {PROXY_ID}"
        owner += [f"-A ISTIO_OUTPUT -o lo ! -d {loopback} -p tcp ! --dport 15008 {own} "
                  "-j ISTIO_IN_REDIRECT",
                  f"-A ISTIO_OUTPUT -o lo -m owner ! --{kind}-owner {PROXY_ID} -j RETURN",
                  f"-A ISTIO_OUTPUT {own} -j RETURN"]
    return "\n".join([
        "*nat", ":ISTIO_INBOUND - [0:0]", ":ISTIO_REDIRECT - [0:0]", ":ISTIO_IN_REDIRECT - [0:0]",
        ":ISTIO_OUTPUT - [0:0]",
        "-A ISTIO_INBOUND -p tcp --dport 15008 -j RETURN",
        "-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001",
        "-A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006",
        "-A PREROUTING -p tcp -j ISTIO_INBOUND", *inbound,
        "-A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT",
        "-A OUTPUT -p tcp -j ISTIO_OUTPUT", *outbound,
        f"-A ISTIO_OUTPUT -o lo -s {source} -j RETURN", *owner,
        f"-A ISTIO_OUTPUT -d {loopback} -j RETURN", "-A ISTIO_OUTPUT -j ISTIO_REDIRECT", "COMMIT",
        ""])


class PodHoplite(Hoplite):
    """A sidecar in a pod, as the uid that the rules leave alone."""

    def __init__(self, binary, name, config, folder, pod, uid=PROXY_ID, more=()):
        self.pod = pod
        self.config_path = folder / f"{name}.yaml"
        self.write_config(config)
        argv = pod.wrap([binary, "run", "-c", self.config_path], uid)
        Process.__init__(self, argv, name)
        self.wait_ready()

    def metrics(self):
        status, _, body = self.pod.fetch(self.stats_url)
        assert status == 200
        return metrics.Metrics(body.decode())


class PodService(TestService):
    """The test service in a pod, on its own address, as an ordinary user."""

    def __init__(self, binary, name, pod, port, grpc_port=None, uid=1000):
        argv = [binary, "--listen", f"[::]:{port}", "--name", name]
        if grpc_port is not None:
            argv += ["--grpc-listen", f"[::]:{grpc_port}"]
        Process.__init__(self, pod.wrap(argv, uid), name)
        self.port = int(self.wait_line(r"^listening on \S+:(\d+)$").group(1))


class Wire:
    """What passes between a pod's eth0 and another pod, as an AF_PACKET socket sees it."""

    def __init__(self, pod, other):
        self._addresses = [socket.inet_aton(other.v4), socket.inet_pton(socket.AF_INET6, other.v6)]
        self._socket = pod.call(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW,
                                                      socket.htons(3)))
        self._socket.settimeout(0.1)
        self._bytes = bytearray()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        while True:
            try:
                frame, address = self._socket.recvfrom(65535)
            except TimeoutError:
                if self._stop.is_set():  # and what came before that is read
                    return
                continue
            if address[0] == "eth0" and any(each in frame[:54] for each in self._addresses):
                self._bytes += frame

    def stop(self):
        self._stop.set()
        self._thread.join()
        self._socket.close()
        return bytes(self._bytes)


class Lab:
    """Two joined pods and a folder that the sidecars' user can read."""

    def __init__(self, world):
        self.world = world
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="hoplite-pods-"))
        self.folder.chmod(0o755)
        self.pods = []
        self._sockets = []
        self._lay_out()
        authority = world.authority()
        self.authority = authority
        self.client_identity = authority.issue("default", "client")
        self.server_identity = authority.issue("test", "podinfo")

    def _lay_out(self):
        self.client = self._pod("client", "10.77.0.1", "fd77::1")
        self.server = self._pod("server", "10.77.0.2", "fd77::2")
        join(self.client, self.server)

    def _pod(self, *arguments):
        self.pods.append(Pod(*arguments))
        return self.pods[-1]

    def mtls(self, identity, mode="strict", **more):
        """The section `mtls`, with files that the sidecar's user can read."""
        section = identity.mtls(mode, **more)
        for key in ("cert", "key", "ca"):
            path = pathlib.Path(section[key])
            copy = self.folder / path.name
            shutil.copy(path, copy)
            os.chown(copy, PROXY_ID, PROXY_ID)
            section[key] = str(copy)
        return section

    def sidecar(self, name, config, pod, uid=PROXY_ID):
        process = PodHoplite(self.world.hoplite_binary, name, config, self.folder, pod, uid)
        self.world.processes.append(process)
        return process

    def service(self, name, pod, port, grpc_port=None):
        process = PodService(self.world.service_binary, name, pod, port, grpc_port)
        self.world.processes.append(process)
        return process

    def serve(self, pod, host, port, handle):
        """handle(connection, peer) in a thread for every connection to host:port of the pod."""
        server = pod.listen(host, port)
        self._sockets.append(server)

        def one(connection, peer):
            with contextlib.suppress(OSError), connection:
                handle(connection, peer)

        def accept():
            with contextlib.suppress(OSError):
                while True:
                    connection, peer = server.accept()
                    threading.Thread(target=one, args=(connection, peer), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        return server

    def close(self):
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for pod in self.pods:
            pod.close()
        shutil.rmtree(self.folder, ignore_errors=True)
