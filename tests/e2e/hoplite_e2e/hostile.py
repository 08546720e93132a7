"""The tables of hostile messages in tests/support/*.def, read for real sockets. Not their meaning."""

import pathlib
import re

_SUPPORT = pathlib.Path(__file__).resolve().parents[2] / "support"
_LITERAL = r'"((?:[^"\\]|\\.)*)"'


def _bytes(literal):
    """What the C string literal stands for; its escapes are \\ooo, \\r, \\n, \\t, \\" and \\\\."""
    return literal.encode("latin-1").decode("unicode_escape").encode("latin-1")


def _table(name, pattern):
    lines = (_SUPPORT / name).read_text().splitlines()
    rows = [re.fullmatch(pattern, line) for line in lines if line.startswith("HOSTILE(")]
    assert rows and all(rows), f"{name} is not written as expected"
    return rows


class HostileRequest:
    def __init__(self, name, status, word, raw):
        self.name = name
        self.status = status
        #: What is wrong with it, as the access log says.
        self.word = word
        self.raw = raw
        #: Its head is well-formed and may have been passed on before the rest was seen.
        self.head_passes = any(word in name for word in ("chunk size", "a chunk that", "a last chunk",
                                                         "extension", "trailer"))
        #: The response flag it is counted with: a CONNECT is well-formed, only not for us.
        self.flag = "-" if status == 405 else "DPE"


def requests():
    return [HostileRequest(row[1], int(row[2]), row[3], _bytes(row[4]))
            for row in _table("hostile_requests.def", rf'HOSTILE\({_LITERAL}, (\d+), {_LITERAL}, {_LITERAL}\)')
            # A codec of HTTP/1 refuses it; where connections begin it is HTTP/2.
            if not row[4].startswith(r"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")]


def responses():
    """[(name, bytes)]; every one answers a GET."""
    return [(row[1], _bytes(row[3]))
            for row in _table("hostile_responses.def", rf'HOSTILE\({_LITERAL}, {_LITERAL}, {_LITERAL}\)')]
