"""A WebSocket client over a RawClient (RFC 6455): handshake, masked frames. Not for servers."""

import base64
import hashlib
import os
import struct

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def connect(client, target="/ws/echo", host="localhost", headers=()):
    """Upgrades `client` and checks the handshake's answer, which is returned."""
    key = base64.b64encode(os.urandom(16))
    answer = client.request(target=target, host=host, headers=[
        ("Upgrade", "websocket"), ("Connection", "Upgrade"),
        ("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", key.decode()), *headers])
    assert answer.status == 101, f"no upgrade: {answer.status} {answer.body!r}"
    assert answer.header("upgrade").lower() == "websocket"
    accept = base64.b64encode(hashlib.sha1(key + _GUID).digest()).decode()
    assert answer.header("sec-websocket-accept") == accept
    return answer


def frame(payload, opcode=TEXT):
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", 0x80 | opcode, 0x80 | size)
    elif size < 65536:
        head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, size)
    mask = os.urandom(4)
    key = (mask * (size // 4 + 1))[:size]
    masked = (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")
    return head + mask + masked


def read_frame(client):
    """(opcode, payload) of the next frame from the server."""
    first, size = client.read_exactly(2)
    assert size & 0x80 == 0, "a server's frame must not be masked"
    if size == 126:
        (size,) = struct.unpack("!H", client.read_exactly(2))
    elif size == 127:
        (size,) = struct.unpack("!Q", client.read_exactly(8))
    return first & 0x0F, client.read_exactly(size)
