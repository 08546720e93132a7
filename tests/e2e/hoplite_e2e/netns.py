"""Network namespaces without names: sockets and programs in them, and where connections arrive.

A namespace is gone when its last descriptor is, so nothing has to be cleaned up by name. Not pods
with services and sidecars in them: these are in pods.py.
"""

import contextlib
import ctypes
import fcntl
import os
import shutil
import socket
import struct
import subprocess

from .deadline import Deadline, ready, seconds

_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
_SO_ORIGINAL_DST = 80
_IPV6_TRANSPARENT = 75
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1
_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
#: For iptables-legacy, whose lock all namespaces share.
WAIT_FOR_LOCK = "--wait=60"


def _call(function, *arguments):
    if function(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{function.__name__}: {os.strerror(number)}")


def why_not(backend):
    """Why redirection cannot be tried with this backend here, in words, or None."""
    if os.geteuid() != 0:
        return "network namespaces take root"
    program = f"iptables-{backend}-restore"
    if shutil.which(program, path=_PATH) is None:
        return f"{program} is not installed (docker/install-deps.sh test)"
    try:
        namespace = Namespace()
    except (OSError, subprocess.CalledProcessError) as error:
        return f"network namespaces cannot be made here: {error}"
    rules = "*nat\n-A OUTPUT -p tcp -m owner --uid-owner 1 -j REDIRECT --to-ports 1\nCOMMIT\n"
    done = namespace.run(program, "--noflush", WAIT_FOR_LOCK, input=rules)
    return None if done.returncode == 0 else f"the kernel takes no rules: {done.stderr.strip()}"


class Namespace:
    """A fresh network namespace whose loopback is up."""

    def __init__(self):
        with open("/proc/thread-self/ns/net", "rb") as here:
            _call(_LIBC.unshare, _CLONE_NEWNET)
            self._fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            _call(_LIBC.setns, here.fileno(), _CLONE_NEWNET)
        with self.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            up = struct.pack("16sH14x", b"lo", _IFF_UP)
            fcntl.ioctl(any_socket, _SIOCSIFFLAGS, up)

    def __del__(self):
        if hasattr(self, "_fd"):
            os.close(self._fd)

    @property
    def path(self):
        return f"/proc/{os.getpid()}/fd/{self._fd}"

    @contextlib.contextmanager
    def entered(self):
        """Sockets made in here, and programs started, are in the namespace, and stay there."""
        with open("/proc/thread-self/ns/net", "rb") as here:
            _call(_LIBC.setns, self._fd, _CLONE_NEWNET)
            try:
                yield
            finally:
                _call(_LIBC.setns, here.fileno(), _CLONE_NEWNET)

    def run(self, *argv, **options):
        options = {"text": True, "capture_output": True, "timeout": seconds(30), **options}
        if "input" not in options:
            options["stdin"] = subprocess.DEVNULL
        environment = {**os.environ, "PATH": _PATH, "LC_ALL": "C", **options.pop("env", {})}
        with self.entered():
            return subprocess.run(list(map(str, argv)), check=False, env=environment, **options)

    def must(self, *argv, **options):
        """As run(), for what has to succeed; its output."""
        done = self.run(*argv, **options)
        assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
        return done.stdout

    def link(self, other, number, ours, theirs):
        """eth<number> here and there, with these addresses (each a list, with prefix lengths)."""
        name = f"eth{number}"
        # The two ends get different numbers: the kernel is in no hurry to announce that a link has
        # come up when it looks like no link to something else.
        made = f"link add {name} index {100 + number} type veth peer name {name} netns {other.path}"
        for namespace, first, addresses in ((self, [made], ours), (other, [], theirs)):
            lines = [*first, *(f"address add {each} dev {name} nodad" for each in addresses),
                     f"link set {name} up"]
            namespace.must("ip", "-batch", "-", input="\n".join(lines) + "\n")


@contextlib.contextmanager
def owned_by(uid, gid):
    """Sockets made in here belong to these, as iptables' owner match sees it; no other thread's."""
    before = _LIBC.setfsgid(gid), _LIBC.setfsuid(uid)
    try:
        yield
    finally:
        _LIBC.setfsuid(before[1])
        _LIBC.setfsgid(before[0])


def _family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _transparent(made):
    if made.family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, _IPV6_TRANSPARENT, 1)
    else:
        made.setsockopt(socket.IPPROTO_IP, socket.IP_TRANSPARENT, 1)


def listen(namespace, address, port, transparent=False):
    with namespace.entered():
        made = socket.socket(_family(address), socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if made.family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    if transparent:
        _transparent(made)
    made.bind((address, port))
    made.listen()
    return made


def original_destination(accepted):
    """As a proxy asks for it; None where nothing was rewritten."""
    v6 = accepted.family == socket.AF_INET6
    level = socket.IPPROTO_IPV6 if v6 else socket.IPPROTO_IP
    try:
        raw = accepted.getsockopt(level, _SO_ORIGINAL_DST, 28 if v6 else 16)
    except OSError:
        return None
    port = struct.unpack("!H", raw[2:4])[0]
    return socket.inet_ntop(accepted.family, raw[8:24] if v6 else raw[4:8]), port


class Arrival:
    """Where a connection came out: the name of the listener, and what its socket says there."""

    def __init__(self, name, accepted):
        self.name = name
        self.original = original_destination(accepted)
        self.local = accepted.getsockname()[:2]
        self.peer = accepted.getpeername()[0]

    def __repr__(self):
        return f"{self.name}, original {self.original}, local {self.local}, from {self.peer}"


class Listeners:
    """Named listeners, in whatever namespaces. Each connection is found at one of them."""

    def __init__(self):
        self._by_name = []

    def add(self, name, namespace, address, port, transparent=False):
        self._by_name.append((name, listen(namespace, address, port, transparent)))

    def arrival(self, namespace, target, uid=0, gid=0, source=None, mark=None):
        """Connects from the namespace, passes bytes both ways, and says where they arrived."""
        address, port = target
        with namespace.entered(), owned_by(uid, gid):
            client = socket.socket(_family(address), socket.SOCK_STREAM)
        with client:
            if mark is not None:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
                _transparent(client)
            if source is not None:
                client.bind((source, 0))
            client.setblocking(False)
            client.connect_ex((address, port))
            name, accepted = self._accept()
            with accepted:
                client.settimeout(seconds())
                client.sendall(b"there")
                accepted.settimeout(seconds())
                assert accepted.recv(5, socket.MSG_WAITALL) == b"there"
                accepted.sendall(b"back")
                assert client.recv(4, socket.MSG_WAITALL) == b"back"
                return Arrival(name, accepted)

    def _accept(self):
        deadline = Deadline()
        found, _ = ready([made for _, made in self._by_name], [], deadline.left())
        assert found, "the connection arrived nowhere"
        name = next(name for name, made in self._by_name if made is found[0])
        return name, found[0].accept()[0]

    def close(self):
        for _, made in self._by_name:
            made.close()
