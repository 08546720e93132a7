"""Full load from a process of its own: pipelined GETs over many connections until SIGTERM.

Not for judging answers: `python3 hammer.py PORT HOST` prints how many requests it sent when every
answer has come. See load.py for clients that look.
"""

import select
import signal
import socket
import sys

CONNECTIONS = 16
DEPTH = 16  # requests in a batch; the next one goes out when all are answered


class Connection:
    def __init__(self, port, host):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._batch = b"GET /version HTTP/1.1\r\nHost: %s\r\n\r\n" % host.encode() * DEPTH
        self._tail = b""
        self.waiting = 0

    def begin(self):
        self.socket.sendall(self._batch)
        self.waiting = DEPTH
        return DEPTH

    def read(self):
        data = self.socket.recv(65536)
        assert data, "closed in the middle"
        data = self._tail + data
        self.waiting -= data.count(b"HTTP/1.1 200")
        self._tail = data[-11:] if not data.endswith(b"HTTP/1.1 200") else b""


def main():
    port, host = int(sys.argv[1]), sys.argv[2]
    stopping = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
    connections = {}
    for _ in range(CONNECTIONS):
        connection = Connection(port, host)
        connections[connection.socket.fileno()] = connection
    sent = sum(connection.begin() for connection in connections.values())
    print("started", flush=True)
    while any(connection.waiting for connection in connections.values()):
        for number in select.select(list(connections), [], [], 10)[0]:
            connection = connections[number]
            connection.read()
            if connection.waiting == 0 and not stopping:
                sent += connection.begin()
    print(f"sent {sent}", flush=True)


if __name__ == "__main__":
    main()
