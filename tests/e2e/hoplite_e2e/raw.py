"""HTTP by hand: a client and a server that send exactly the bytes they are told, and time out.

Not a library that repairs anything: what arrives is checked as strictly as it is sent.
"""

import contextlib
import socket
import ssl
import struct
import threading

from .deadline import Deadline, ready, seconds

_PIECE = 16384  # what a non-blocking TLS socket is offered again as a whole
_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


def shorten(data):
    return repr(bytes(data[:300])) + (f"... ({len(data)} bytes)" if len(data) > 300 else "")


class Closed(AssertionError):
    """The other side closed (or reset) before what was waited for had come."""

    def __init__(self, what, received, reset=False):
        super().__init__(f"{'reset' if reset else 'closed'} while waiting for {what}; got {shorten(received)}")
        self.received = bytes(received)
        self.reset = reset


class Response:
    def __init__(self, status, reason, version, headers):
        self.status = status
        self.reason = reason
        self.version = version
        self.headers = headers  # [(name, value)] as received
        self.body = b""
        self.trailers = []
        self.complete = False  # as its framing says; never for a body that ends with the connection
        self.until_close = False

    def header(self, name):
        """The value of the only header of this name, or None."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} more than once: {values}"
        return values[0] if values else None

    def all(self, name):
        return [v for n, v in self.headers if n.lower() == name.lower()]


class Wire:
    """A connected socket with a buffer: reads by pattern or size, with a deadline each."""

    def __init__(self, connected):
        self.socket = connected
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send(self, data):
        self.socket.settimeout(seconds())
        self.socket.sendall(data)

    def send_pieces(self, data, size=1):
        for at in range(0, len(data), size):
            self.send(data[at : at + size])

    def send_reading(self, data):
        """As send(), but takes in what comes meanwhile, as any client has to: who answers while it
        reads would else wait for us as we for it. Stops early when the other side is through.
        """
        rest = memoryview(data)
        self.socket.setblocking(False)
        while rest:
            readable, writable = ready([self.socket], [self.socket], seconds())
            if not (readable or writable):
                raise AssertionError(f"timed out with {len(rest)} bytes unsent; "
                                     f"got {shorten(self.buffer)}")
            try:
                if readable and not self._take_in():
                    return
                with contextlib.suppress(*_NOT_NOW):
                    rest = rest[self.socket.send(rest[:_PIECE]):]
            except ConnectionError:
                if not self.buffer:
                    raise
                return  # what was said before that is an answer

    def _take_in(self):
        """Reads all that is there, without waiting. False when nothing will come any more."""
        with contextlib.suppress(*_NOT_NOW):
            while data := self.socket.recv(65536):
                self.buffer += data
            return False
        return True

    def finish_sending(self):
        self.socket.shutdown(socket.SHUT_WR)

    def close(self):
        self.socket.close()

    def reset(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def _fill(self, what, deadline):
        self.socket.settimeout(max(deadline.left(), 0.001))
        try:
            data = self.socket.recv(65536)
        except socket.timeout:
            raise AssertionError(f"timed out waiting for {what}; got {shorten(self.buffer)}"
                                 ) from None
        except ConnectionError:
            raise Closed(what, self.buffer, reset=True) from None
        if not data:
            raise Closed(what, self.buffer)
        self.buffer += data

    def _take(self, size):
        found = bytes(self.buffer[:size])
        del self.buffer[:size]
        return found

    def read_until(self, mark, wanted=10.0):
        deadline = Deadline(wanted)
        while (at := self.buffer.find(mark)) < 0:
            self._fill(repr(mark), deadline)
        return self._take(at + len(mark))

    def read_exactly(self, size, wanted=10.0):
        deadline = Deadline(wanted)
        while len(self.buffer) < size:
            self._fill(f"{size} bytes", deadline)
        return self._take(size)

    def read_to_end(self, wanted=10.0):
        """All up to the end of the stream. A reset is an error (Closed with reset set)."""
        deadline = Deadline(wanted)
        while True:
            try:
                self._fill("the end", deadline)
            except Closed as closed:
                if closed.reset:
                    raise
                return self._take(len(self.buffer))

    def expect_end(self, wanted=10.0):
        rest = self.read_to_end(wanted)
        assert rest == b"", f"unexpected bytes before the end: {rest!r}"

    def read_head(self, wanted=10.0):
        """(start line, [(name, value)]), the names and values as sent but for outer blanks."""
        head = self.read_until(b"\r\n\r\n", wanted).decode("latin-1")
        start, *lines = head[:-4].split("\r\n")
        headers = []
        for line in lines:
            name, colon, value = line.partition(":")
            assert colon, f"not a header: {line!r}"
            headers.append((name, value.strip(" \t")))
        return start, headers

    def read_chunked(self, wanted=10.0):
        """(body, trailers) of a chunked body."""
        body = b""
        while True:
            size = int(self.read_until(b"\r\n", wanted).split(b";")[0], 16)
            if size == 0:
                break
            body += self.read_exactly(size, wanted)
            assert self.read_exactly(2, wanted) == b"\r\n"
        trailers = []
        while (line := self.read_until(b"\r\n", wanted)) != b"\r\n":
            name, _, value = line[:-2].decode("latin-1").partition(":")
            trailers.append((name, value.strip(" \t")))
        return body, trailers


class RawClient(Wire):
    def __init__(self, port, host="127.0.0.1"):
        super().__init__(socket.create_connection((host, port), timeout=seconds()))

    def read_response(self, head_only=False, wanted=10.0):
        """The next response, 1xx ones as well; its body by its framing.

        A body cut short is not an error here: `complete` is then false and `body` what came.
        """
        start, headers = self.read_head(wanted)
        version, status, *reason = start.split(" ", 2)
        response = Response(int(status), reason[0] if reason else "", version, headers)
        try:
            self._read_body(response, head_only, wanted)
        except Closed:
            response.body += self._take(len(self.buffer))
        return response

    def _read_body(self, response, head_only, wanted):
        codings, lengths = response.all("transfer-encoding"), response.all("content-length")
        assert not (codings and lengths), "a response with both framings"
        if head_only or response.status < 200 or response.status in (204, 304):
            response.complete = True
        elif codings:
            assert codings == ["chunked"], f"transfer-encoding {codings}"
            response.body, response.trailers = self.read_chunked(wanted)
            response.complete = True
        elif lengths:
            assert len(set(lengths)) == 1
            response.body = self.read_exactly(int(lengths[0]), wanted)
            response.complete = True
        else:
            response.until_close = True
            response.body = self.read_to_end(wanted)

    def request(self, method="GET", target="/version", host="localhost", headers=(), body=b"",
                version="HTTP/1.1"):
        """Sends one request as told and reads its final response. `body` gets a Content-Length.

        An answer that comes before all is sent, and an end behind it, is taken as such.
        """
        lines = [f"{method} {target} {version}"]
        if host is not None:
            lines.append(f"Host: {host}")
        lines += [f"{name}: {value}" for name, value in headers]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        self.send_reading("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)
        response = self.read_response(head_only=method == "HEAD")
        while 100 <= response.status < 200 and response.status != 101:
            response = self.read_response(head_only=method == "HEAD")
        return response


class RawServer:
    """An upstream whose every connection is played by `script(wire, number)`, number from 0.

    The script runs in a thread of its own; the connection is closed after it. What it raises fails
    the test when the server is stopped, but Closed does not: being hung up on is a part of the game.
    """

    def __init__(self, script, host="127.0.0.1", port=0):
        self._script = script
        self._listener = socket.create_server((host, port), backlog=128)
        self.port = self._listener.getsockname()[1]
        self.errors = []
        self.accepted = 0
        self._wires = []
        self._threads = []
        self._stopping = False
        self._lock = threading.Lock()
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def _accept(self):
        while True:
            try:
                connected, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if self._stopping:
                    connected.close()
                    return
                wire = Wire(connected)
                thread = threading.Thread(target=self._play, args=(wire, self.accepted), daemon=True)
                self.accepted += 1
                self._wires.append(wire)
                self._threads.append(thread)
                thread.start()

    def _play(self, wire, number):
        try:
            self._script(wire, number)
        except Closed:
            pass
        except Exception as error:  # of whatever kind: it belongs into the test's report
            if not self._stopping:
                self.errors.append(f"upstream script, connection {number}: {error!r}")
        finally:
            wire.close()

    def stop(self):
        with self._lock:
            self._stopping = True
            for wire in self._wires:
                try:
                    wire.socket.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._listener.close()
        self._acceptor.join(seconds())
        for thread in self._threads:
            thread.join(seconds())
