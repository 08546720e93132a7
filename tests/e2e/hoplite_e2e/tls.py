"""TLS clients and servers made with Python's ssl, and what they are refused with.

Not certificates (certs.py, forge.py).
"""

import ctypes
import hashlib
import pathlib
import socket
import ssl
import warnings

from .deadline import seconds
from .raw import Closed, RawClient

ISTIO_HTTP11 = ("istio-http/1.1", "istio", "http/1.1")
ISTIO_HTTP10 = ("istio-http/1.0", "istio", "http/1.0")


def client_context(ca, identity=None, alpn=ISTIO_HTTP11, version=None):
    """A client that verifies the server against `ca`; names are not its matter."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(str(ca))
    if identity is not None:
        context.load_cert_chain(str(identity.cert), str(identity.key))
    _settle(context, alpn, version)
    return context


def server_context(identity, ca=None, alpn=("http/1.1",), version=None):
    """A server; with `ca` it requires a certificate of that CA."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(str(identity.cert), str(identity.key))
    if ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(str(ca))
    _settle(context, alpn, version)
    return context


def _settle(context, alpn, version):
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if version is None:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        if version < ssl.TLSVersion.TLSv1_2:
            context.set_ciphers("DEFAULT@SECLEVEL=0")
        context.minimum_version = version
        context.maximum_version = version


class TlsClient(RawClient):
    def __init__(self, port, context, sni=None, session=None, host="127.0.0.1"):
        super().__init__(port, host)
        self.local_address = "%s:%d" % self.socket.getsockname()
        self.socket.settimeout(seconds())
        plain = self.socket
        try:
            self.socket = context.wrap_socket(plain, server_hostname=sni, session=session)
        except BaseException:
            plain.close()
            raise


class Refusal:
    """How a server refused a client: the alert's name, or None when it just closed."""

    def __init__(self, local_address, alert):
        self.local_address = local_address
        self.alert = alert


def refusal(port, context, sni=None):
    """Connects, asks for /version, and expects to get no byte of an answer."""
    plain = socket.create_connection(("127.0.0.1", port), timeout=seconds())
    local = "%s:%d" % plain.getsockname()
    try:
        with context.wrap_socket(plain, server_hostname=sni) as secure:
            secure.settimeout(seconds())
            secure.sendall(b"GET /version HTTP/1.1\r\nHost: a\r\n\r\n")
            answer = secure.recv(1000)
            assert answer == b"", f"not refused: {answer!r}"
            return Refusal(local, None)
    except ssl.SSLError as error:
        return Refusal(local, error.reason)
    except ConnectionError:
        return Refusal(local, None)
    finally:
        plain.close()


def fingerprint(identity):
    """SHA-256 of the certificate's DER, in lower-case hex."""
    text = pathlib.Path(identity.cert).read_text()
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(text)).hexdigest()


def serve(context, script):
    """A script for World.raw_server that does TLS first and then plays `script(wire, number)`.

    A handshake that fails ends the connection: the client's side of it is what a test looks at.
    """
    def play(wire, number):
        wire.socket.settimeout(seconds())
        try:
            wire.socket = context.wrap_socket(wire.socket, server_side=True)
        except (ssl.SSLError, OSError) as error:
            raise Closed(f"the handshake ({error})", b"") from None
        try:
            script(wire, number)
        except ssl.SSLError as error:
            raise Closed(f"TLS ({error})", b"") from None

    return play


def answer_requests(wire, _number):
    """A server's script: 200 to each request without a body."""
    while True:
        wire.read_head()
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def refragment(record, size):
    """The handshake message of one TLS record, cut over records of `size` bytes."""
    head, body = record[:3], record[5:]
    assert len(body) == int.from_bytes(record[3:5], "big")
    return b"".join(head + len(body[at:at + size]).to_bytes(2, "big") + body[at:at + size]
                    for at in range(0, len(body), size))


class PumpedClient:
    """A TLS client over a Wire that it is given, whose ClientHello goes out as `send_hello` says."""

    def __init__(self, wire, context, send_hello, sni=None):
        self._wire = wire
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.ssl = context.wrap_bio(self._incoming, self._outgoing, server_hostname=sni)
        try:
            self.ssl.do_handshake()
        except ssl.SSLWantReadError:
            send_hello(wire, self._outgoing.read())
        self._until(self.ssl.do_handshake)

    def _flush(self):
        if out := self._outgoing.read():
            self._wire.send(out)

    def _until(self, step):
        while True:
            try:
                done = step()
                self._flush()
                return done
            except ssl.SSLWantReadError:
                self._flush()
                self._incoming.write(self._wire.socket.recv(65536) or self._ended())

    def _ended(self):
        raise Closed("TLS bytes", b"")

    def send(self, data):
        self.ssl.write(data)
        self._flush()

    def read_until(self, mark):
        got = b""
        while mark not in got:
            got += self._until(lambda: self.ssl.read(65536))
        return got


class KeyUpdates:
    """A TLS 1.3 client that can do what Python's ssl does not offer, through libssl itself."""

    _REQUESTED = 1
    _PEM = 1

    def __init__(self, port, identity):
        self._lib = ctypes.CDLL("libssl.so.3")
        for name in ("TLS_client_method", "SSL_CTX_new", "SSL_new"):
            getattr(self._lib, name).restype = ctypes.c_void_p
        context = ctypes.c_void_p(self._lib.SSL_CTX_new(
            ctypes.c_void_p(self._lib.TLS_client_method())))
        cert, key = str(identity.cert).encode(), str(identity.key).encode()
        assert self._lib.SSL_CTX_use_certificate_file(context, cert, self._PEM) == 1
        assert self._lib.SSL_CTX_use_PrivateKey_file(context, key, self._PEM) == 1
        self._ssl = ctypes.c_void_p(self._lib.SSL_new(context))
        self._socket = socket.socket()
        # The kernel is not to swallow megabytes of answers.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.connect(("127.0.0.1", port))
        self._lib.SSL_set_fd(self._ssl, self._socket.fileno())
        self._lib.SSL_set_connect_state(self._ssl)
        assert self._lib.SSL_do_handshake(self._ssl) == 1

    def send(self, most):
        """Sends so many, or until the server has had enough. How many went."""
        with self._socket:
            for sent in range(most):
                self._lib.SSL_key_update(self._ssl, self._REQUESTED)
                if self._lib.SSL_do_handshake(self._ssl) != 1:
                    return sent
            return most
