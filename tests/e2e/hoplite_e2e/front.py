"""One sidecar in front of upstreams that a test plays, and some ways an upstream can be. Not what
comes of it: that is each test's matter."""

import socket

from .ledger import expect_ends
from .topology import HOST, inbound_config, outbound_config, podinfo_at

GET = b"GET /x HTTP/1.1\r\nHost: " + HOST.encode() + b"\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

#: Responses that end too soon.
CUTS = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n",
    "inside a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nsome",
    "before the last line": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n0\r\n",
    "until close": b"HTTP/1.1 200 OK\r\n\r\nsome",
}


_reserved = []  # until this process ends: else another test's socket may be given the port


def free_address():
    """Where nobody listens, and nobody else can: connects are refused."""
    reserved = socket.socket()
    _reserved.append(reserved)
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind(("127.0.0.1", 0))
    return f"127.0.0.1:{reserved.getsockname()[1]}"


class FullServer:
    """A listening socket whose queue is full: further SYNs are dropped, connects hang."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=0)
        port = self._listener.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        self._fillers = []
        for _ in range(8):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            self._fillers.append(filler)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for one in (*self._fillers, self._listener):
            one.close()


class Front:
    """One sidecar in front of `addresses`, in one direction."""

    def __init__(self, world, direction, addresses, sections):
        if direction == "inbound":
            self.sidecar = world.hoplite(inbound_config(addresses[0], **sections))
            self.port = self.sidecar.inbound
        else:
            self.sidecar = world.hoplite(outbound_config(podinfo_at(*addresses), **sections))
            self.port = self.sidecar.outbound
        self.world = world

    def client(self):
        return self.world.client(self.port)

    def ends(self, **wanted):
        """ends(UF_503=1): that, and nothing else, was counted."""
        return expect_ends(self.sidecar, {(key.split("_")[1], key.split("_")[0].replace("no", "-")):
                                          count for key, count in wanted.items()})


def answer_all(wire, number):
    while True:
        wire.read_head()
        wire.send(OK)
