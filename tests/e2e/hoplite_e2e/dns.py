"""A name server on a free loopback port that answers as a test says. UDP alone; no zones, no cache."""

import ipaddress
import socket
import struct
import threading

from .deadline import poll_until

A, AAAA = 1, 28
NOERROR, SERVFAIL, NXDOMAIN = 0, 2, 3


class Query:
    """One question, of RFC 1035 4.1: `name` in lower case without the last dot."""

    def __init__(self, data):
        self.data = data
        self.id = data[:2]
        labels, at = [], 12
        while data[at]:
            labels.append(data[at + 1:at + 1 + data[at]].decode().lower())
            at += 1 + data[at]
        self.name = ".".join(labels)
        self.type, = struct.unpack_from("!H", data, at + 1)
        self.question = data[12:at + 5]

    def reply(self, addresses=(), ttl=1, rcode=NOERROR):
        """A message with those of the addresses that are of the type asked for."""
        wanted = [address for address in map(ipaddress.ip_address, addresses)
                  if address.version == (4 if self.type == A else 6)]
        records = b"".join(struct.pack("!HHHIH", 0xc00c, self.type, 1, ttl, len(address.packed))
                           + address.packed for address in wanted)
        return (self.id + struct.pack("!HHHHH", 0x8580 | rcode, 1, len(wanted), 0, 0)
                + self.question + records)


class NameServer:
    """`answer` is called with each Query and returns the messages to send; it may be replaced."""

    def __init__(self, answer):
        self.answer = answer
        self.asked = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def address(self):
        return "127.0.0.1:%d" % self._socket.getsockname()[1]

    def section(self):
        """For a configuration whose names are to be asked of this server."""
        return {"dns": {"servers": [self.address]}}

    def wait_asked(self, times):
        """Waits until it has been asked so many times more, and has answered."""
        wanted = len(self.asked) + times
        poll_until(lambda: len(self.asked) >= wanted, f"the name server is asked {times} times")

    def _run(self):
        while True:
            data, client = self._socket.recvfrom(4096)
            if not data:
                return
            query = Query(data)
            for message in self.answer(query):
                self._socket.sendto(message, client)
            self.asked.append(query)

    def stop(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
            own.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()


def at(*addresses, ttl=1):
    """An answer: every name is at these addresses."""
    return lambda query: [query.reply(addresses, ttl)]


def failing(rcode):
    return lambda query: [query.reply(rcode=rcode)]


def silent(query):
    return []
