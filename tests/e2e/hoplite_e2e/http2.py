"""HTTP/2 by hand: frames sent exactly as told and read one by one, from either side (RFC 9113).

Not a library that repairs anything. Only HPACK is python3-hpack's, and even that can be bypassed.
"""

import struct

import hpack

from .deadline import Deadline
from .raw import Closed

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, \
    CONTINUATION = range(10)
KINDS = ("DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS", "PUSH_PROMISE", "PING", "GOAWAY",
         "WINDOW_UPDATE", "CONTINUATION")
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY_FLAG = 0x1, 0x1, 0x4, 0x8, 0x20

CODES = ("NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT",
         "STREAM_CLOSED", "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR",
         "CONNECT_ERROR", "ENHANCE_YOUR_CALM", "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED")
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED, \
    FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, \
    ENHANCE_YOUR_CALM, INADEQUATE_SECURITY, HTTP_1_1_REQUIRED = range(14)

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, \
    MAX_HEADER_LIST_SIZE = range(1, 7)
ENABLE_CONNECT_PROTOCOL = 8

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
ISTIO_H2 = ("istio-h2", "istio", "h2")


def frame(kind, flags=0, stream=0, payload=b"", length=None):
    """The bytes of a frame; `length` may lie."""
    size = len(payload) if length is None else length
    return struct.pack("!I", size)[1:] + struct.pack("!BBI", kind, flags, stream) + payload


def settings(values=(), ack=False):
    payload = b"".join(struct.pack("!HI", key, value) for key, value in dict(values).items())
    return frame(SETTINGS, ACK if ack else 0, 0, payload)


def rst_stream(stream, code=CANCEL):
    return frame(RST_STREAM, 0, stream, struct.pack("!I", code))


def goaway(last=0, code=NO_ERROR, text=b""):
    return frame(GOAWAY, 0, 0, struct.pack("!II", last, code) + text)


def window_update(stream, increment):
    return frame(WINDOW_UPDATE, 0, stream, struct.pack("!I", increment))


def ping(payload=b"hoplite!", ack=False):
    return frame(PING, ACK if ack else 0, 0, payload)


def priority(stream, dependency=0, weight=16, exclusive=False):
    word = dependency | (0x80000000 if exclusive else 0)
    return frame(PRIORITY, 0, stream, struct.pack("!IB", word, weight - 1))


def data(stream, payload=b"", end=False, padding=None):
    flags = END_STREAM if end else 0
    if padding is not None:
        flags |= PADDED
        payload = bytes([padding]) + payload + bytes(padding)
    return frame(DATA, flags, stream, payload)


def literal(name, value):
    """An HPACK field that touches no table and no Huffman code: any bytes at all can be in it."""
    name, value = (text.encode("latin-1") if isinstance(text, str) else text
                   for text in (name, value))
    return b"\x00" + length_of(name) + name + length_of(value) + value


def length_of(text):
    """An HPACK string's length, not in Huffman code (RFC 7541 5.1)."""
    if len(text) < 127:
        return bytes([len(text)])
    rest, out = len(text) - 127, [127]
    while rest >= 128:
        out.append(rest % 128 | 128)
        rest //= 128
    return bytes(out + [rest])


def block(fields):
    return b"".join(literal(name, value) for name, value in fields)


class Frame:
    def __init__(self, kind, flags, stream, payload):
        self.kind = kind
        self.flags = flags
        self.stream = stream
        self.payload = payload
        self.fields = None  # of HEADERS whose block is complete

    def has(self, flag):
        return self.flags & flag != 0

    @property
    def code(self):
        """The error code of RST_STREAM and GOAWAY."""
        at = 4 if self.kind == GOAWAY else 0
        return struct.unpack("!I", self.payload[at:at + 4])[0]

    @property
    def last(self):
        return struct.unpack("!I", self.payload[:4])[0] & 0x7FFFFFFF

    def __repr__(self):
        kind = KINDS[self.kind] if self.kind < len(KINDS) else self.kind
        more = ""
        if self.kind in (RST_STREAM, GOAWAY):
            more = " " + (CODES[self.code] if self.code < len(CODES) else str(self.code))
        return f"<{kind} stream {self.stream} flags {self.flags:#x} {len(self.payload)} bytes{more}>"


class Message:
    """One side of a stream, as it comes in."""

    def __init__(self):
        self.headers = None
        self.informational = []  # their fields
        self.body = b""
        self.trailers = []
        self.complete = False
        self.reset = None  # the code of the RST_STREAM

    @property
    def status(self):
        return int(dict(self.headers)[":status"]) if self.headers else None

    def header(self, name):
        values = self.all(name)
        assert len(values) <= 1, f"{name} more than once: {values}"
        return values[0] if values else None

    def all(self, name):
        return [value for key, value in self.headers or () if key == name]


class Peer:
    """Either end, over a raw.Wire. What is read is kept: messages by stream, GOAWAYs, settings.

    Settings and PINGs of the other side are acknowledged and its DATA credited while reading,
    unless told otherwise.
    """

    def __init__(self, wire, values=(), acknowledge=True, credit=True, window=None):
        self.wire = wire
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()
        self.decoder.max_header_list_size = 1 << 24
        self.messages = {}
        self.frames = []
        self.goaways = []
        self.settings = None  # the other side's, once they came
        self.acknowledge = acknowledge
        self.credit = credit
        self._pings = 0
        self._block = None
        self._begin(values)
        if window is not None:
            self.send(window_update(0, window))

    def _begin(self, values):
        self.send(settings(values))

    def send(self, *frames):
        self.wire.send(b"".join(frames))

    def header_frames(self, stream, fields, end=True):
        """HEADERS, and CONTINUATIONs when it takes more than a frame."""
        encoded = self.encoder.encode(fields)
        pieces = [encoded[at:at + 16384] for at in range(0, len(encoded), 16384)] or [b""]
        out = []
        for number, piece in enumerate(pieces):
            flags = END_HEADERS if number == len(pieces) - 1 else 0
            if number == 0 and end:
                flags |= END_STREAM
            out.append(frame(CONTINUATION if number else HEADERS, flags, stream, piece))
        return b"".join(out)

    def read_frame(self, wanted=10.0):
        deadline = Deadline(wanted)
        head = self.wire.read_exactly(9, wanted)
        size = int.from_bytes(head[:3], "big")
        kind, flags, stream = struct.unpack("!BBI", head[3:])
        got = Frame(kind, flags, stream & 0x7FFFFFFF,
                    self.wire.read_exactly(size, max(deadline.left(), 0.001)))
        self.frames.append(got)
        self._note(got)
        return got

    def _note(self, got):
        if got.kind == SETTINGS and not got.has(ACK):
            pairs = struct.iter_unpack("!HI", got.payload)
            self.settings = {**(self.settings or {}), **dict(pairs)}
            if self.acknowledge:
                self.send(settings(ack=True))
        elif got.kind == PING and not got.has(ACK) and self.acknowledge:
            self.send(ping(got.payload, ack=True))
        elif got.kind == GOAWAY:
            self.goaways.append(got)
        elif got.kind == RST_STREAM:
            self.message(got.stream).reset = got.code
        elif got.kind in (HEADERS, CONTINUATION):
            self._note_block(got)
        elif got.kind == DATA:
            self._note_data(got)

    def _note_block(self, got):
        payload = got.payload
        if got.kind == HEADERS:
            if got.has(PADDED):
                payload = payload[1:len(payload) - payload[0]]
            if got.has(PRIORITY_FLAG):
                payload = payload[5:]
            self._block = [got, b""]
        self._block[1] += payload
        if not got.has(END_HEADERS):
            return
        first, encoded = self._block
        got.fields = self.decoder.decode(encoded)
        message = self.message(got.stream)
        status = dict(got.fields).get(":status", "")
        if message.headers is not None:
            message.trailers = got.fields
        elif status.startswith("1"):
            message.informational.append(got.fields)
        else:
            message.headers = got.fields
        message.complete = message.complete or first.has(END_STREAM)

    def _note_data(self, got):
        payload = got.payload
        if got.has(PADDED):
            payload = payload[1:len(payload) - payload[0]]
        message = self.message(got.stream)
        message.body += payload
        message.complete = message.complete or got.has(END_STREAM)
        if self.credit and got.payload:
            self.send(window_update(0, len(got.payload)))
            if not message.complete:
                self.send(window_update(got.stream, len(got.payload)))

    def message(self, stream):
        return self.messages.setdefault(stream, Message())

    def read_until(self, done, what, wanted=10.0):
        deadline = Deadline(wanted)
        while True:
            answer = done()
            if answer:
                return answer
            if deadline.passed():
                raise AssertionError(f"not within {wanted:g} s: {what}; got {self.frames[-20:]}")
            try:
                self.read_frame(wanted)
            except Closed as closed:
                answer = done()
                if answer:
                    return answer
                raise Closed(f"{what}; frames {self.frames[-20:]}", closed.received,
                             closed.reset) from None

    def wait_settings(self):
        self.read_until(lambda: self.settings is not None, "SETTINGS")
        return self

    def round_trip(self):
        """All that was sent before has been read by the other side, and what it said at once is here."""
        self._pings += 1
        mark = b"mark%04d" % self._pings
        self.send(ping(mark))
        self.read_until(lambda: any(f.kind == PING and f.has(ACK) and f.payload == mark
                                    for f in self.frames), "the answer to a PING")

    def expect_goaway(self, *codes):
        """A connection error: GOAWAY with one of these codes, then the end."""
        got = self.read_until(lambda: [g for g in self.goaways if g.code != NO_ERROR],
                              f"GOAWAY({[CODES[c] for c in codes]})")[0]
        assert got.code in codes, f"{got}, wanted {[CODES[c] for c in codes]}"
        self.expect_end()
        return got

    def expect_end(self, wanted=10.0):
        while True:
            try:
                self.read_frame(wanted)
            except Closed:
                return

    def expect_reset(self, stream, *codes):
        """RST_STREAM with one of these codes, on a connection that lives on."""
        message = self.message(stream)
        self.read_until(lambda: message.reset is not None or self.goaways,
                        f"RST_STREAM({[CODES[c] for c in codes]})")
        assert message.reset in codes, f"{message.reset}, wanted {[CODES[c] for c in codes]}; " \
                                       f"{self.frames[-5:]}"
        self.round_trip()

    def expect_error(self, stream, *codes):
        """A stream error or the connection error with the same code (RFC 9113 5.4.2 allows both)."""
        message = self.message(stream)
        self.read_until(lambda: message.reset is not None or self.goaways, "an error")
        got = message.reset if message.reset is not None else self.goaways[0].code
        assert got in codes, f"{got}, wanted {[CODES[c] for c in codes]}; {self.frames[-5:]}"

    def close(self):
        self.wire.close()


class Client(Peer):
    """`wire` is a RawClient or TlsClient. Streams are numbered by request(), unless told.

    `begin`: bytes to send instead of the preface and SETTINGS.
    """

    def __init__(self, wire, values=(), begin=None, **more):
        self._next = 1
        self._first_bytes = begin
        super().__init__(wire, values, **more)

    def _begin(self, values):
        if self._first_bytes is None:
            self.send(PREFACE, settings(values))
        else:
            self.send(self._first_bytes)

    def next_stream(self):
        stream = self._next
        self._next += 2
        return stream

    def request(self, method="GET", path="/version", headers=(), body=None, trailers=None,
                authority="localhost", stream=None, end=None, scheme="http"):
        """Sends a request, whole unless `end` is false; its stream."""
        stream = stream or self.next_stream()
        fields = [(":method", method), (":scheme", scheme), (":authority", authority),
                  (":path", path), *headers]
        end = True if end is None else end
        self.send(self.header_frames(stream, fields, end and body is None and trailers is None))
        if body is not None:
            pieces = [body[at:at + 16384] for at in range(0, len(body), 16384)] or [b""]
            for number, piece in enumerate(pieces):
                last = number == len(pieces) - 1
                self.send(data(stream, piece, last and end and trailers is None))
        if trailers is not None:
            self.send(self.header_frames(stream, trailers, True))
        return stream

    def response(self, stream, wanted=10.0):
        """The complete response, or what of it came before a reset."""
        message = self.message(stream)
        self.read_until(lambda: message.complete or message.reset is not None,
                        f"the response on stream {stream}", wanted)
        return message

    def head(self, stream):
        message = self.message(stream)
        self.read_until(lambda: message.headers is not None or message.reset is not None,
                        f"a response's head on stream {stream}")
        return message

    def ask(self, **more):
        return self.response(self.request(**more))


class Server(Peer):
    """The other end of a connection that a script of World.raw_server plays."""

    def __init__(self, wire, values=(), **more):
        assert wire.read_exactly(len(PREFACE)) == PREFACE
        self._told = set()
        super().__init__(wire, values, **more)

    def next_request(self, wanted=10.0):
        """The stream of the next request whose head is here."""
        def fresh():
            return [s for s, m in self.messages.items() if m.headers is not None
                    and s not in self._told]

        stream = self.read_until(fresh, "a request", wanted)[0]
        self._told.add(stream)
        return stream

    def complete(self, stream):
        message = self.message(stream)
        self.read_until(lambda: message.complete or message.reset is not None, "a request's end")
        return message

    def respond(self, stream, status=200, body=b"ok", headers=(), trailers=None, end=True):
        fields = [(":status", str(status)), *headers]
        out = self.header_frames(stream, fields, end and not body and trailers is None)
        if body:
            out += data(stream, body, end and trailers is None)
        if trailers is not None:
            out += self.header_frames(stream, trailers, True)
        self.send(out)


def answer_all(values=(), **more):
    """A script: 200 to every request, once it is complete."""
    def play(wire, _number):
        server = Server(wire, values, **more)
        while True:
            stream = server.next_request()
            server.complete(stream)
            server.respond(stream)

    return play
