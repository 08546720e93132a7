"""Prometheus text, fetched and parsed. Not promtool: what is malformed fails here, but lint is its job."""

import math
import re
import urllib.error
import urllib.request

from .deadline import seconds

_SAMPLE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')
_ESCAPES = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}


class Metrics:
    """One scrape: `samples` is {name: {labels: value}}, labels a frozenset of (name, value)."""

    def __init__(self, text):
        self.types = {}
        self.samples = {}
        for line in text.splitlines():
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split()
                assert name not in self.types, f"two TYPE lines for {name}"
                self.types[name] = kind
            elif line and not line.startswith("#"):
                self._add(line)

    def _add(self, line):
        match = _SAMPLE.match(line)
        assert match, f"not a sample: {line!r}"
        name, inside, number = match.groups()
        labels = []
        at = 0
        while inside and at < len(inside):
            label = _LABEL.match(inside, at)
            assert label, f"malformed labels: {line!r}"
            value = re.sub(r'\\[\\"n]', lambda m: _ESCAPES[m.group()], label.group(2))
            labels.append((label.group(1), value))
            at = label.end()
        series = self.samples.setdefault(name, {})
        key = frozenset(labels)
        assert len(key) == len(labels), f"a label twice: {line!r}"
        assert key not in series, f"a series twice: {line!r}"
        series[key] = math.inf if number == "+Inf" else float(number)

    def series(self, name, **labels):
        """[(labels as dict, value)] of the series of `name` that have these labels."""
        wanted = set(labels.items())
        return [(dict(key), value) for key, value in self.samples.get(name, {}).items()
                if wanted <= key]

    def total(self, name, **labels):
        return sum(value for _, value in self.series(name, **labels))

    def one(self, name, **labels):
        """The labels of the only series of `name` with these labels."""
        found = self.series(name, **labels)
        assert len(found) == 1, f"{len(found)} series of {name}{labels}:\n{self.text(name)}"
        return found[0][0]

    def text(self, name):
        """The series of `name` for a failure's message."""
        lines = []
        for labels, value in self.series(name):
            inside = ",".join(f'{k}="{v}"' for k, v in sorted(labels.items()))
            lines.append(f"{name}{{{inside}}} {value:g}")
        return "\n".join(lines) or f"(no series of {name})"


def fetch(url, headers=None):
    """(status, headers, body) of a GET; any status is an answer."""
    request = urllib.request.Request(url, headers=headers or {})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=seconds()) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def scrape(url):
    status, _, body = fetch(url)
    assert status == 200, f"{url} answered {status}"
    return Metrics(body.decode("utf-8"))
