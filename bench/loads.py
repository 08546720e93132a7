"""What the clients send: HTTP/1 by wrk, HTTP/2 and gRPC-shaped requests by h2load.

Not what it costs (measure.py) nor who takes it (contenders.py).
"""

import math
import re
import subprocess
import tempfile

UNITS = {"us": 1.0, "ms": 1e3, "s": 1e6, "m": 60e6}


def microseconds(text):
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text).groups()
    return float(number) * UNITS[unit]


def percentile(values, share):
    """Of sorted values; the nearest rank."""
    return values[max(0, math.ceil(share * len(values)) - 1)]


class Wrk:
    """GET /version over 32 connections, one request at a time on each."""

    http2 = False
    connections = 32

    def run(self, address, host, seconds, cpus):
        """One run: requests, rate and latencies. Any answer but 2xx ends the benchmark."""
        text = subprocess.run(
            ["taskset", "-c", cpus, "wrk", "-t", "1", "-c", str(self.connections), "-d",
             f"{seconds}s", "--latency", "-H", f"Host: {host}", f"http://{address}/version"],
            check=True, capture_output=True, text=True).stdout
        if "Non-2xx" in text or "Socket errors" in text:
            raise SystemExit(f"errors under load at {address}:\n{text}")
        return {
            "requests": int(re.search(r"(\d+) requests in", text).group(1)),
            "requests_per_second": float(re.search(r"Requests/sec:\s+([\d.]+)", text).group(1)),
            "p50_us": microseconds(re.search(r"^\s+50%\s+(\S+)$", text, re.M).group(1)),
            "p99_us": microseconds(re.search(r"^\s+99%\s+(\S+)$", text, re.M).group(1)),
        }

    def latencies(self, result, *_):
        return result

    def describe(self):
        return f"GET /version by wrk over {self.connections} connections"


class H2load:
    """Requests over 8 connections without TLS, 16 at a time on each."""

    http2 = True
    connections = 8
    streams = 16

    def __init__(self, path, what, headers=(), body=None):
        self._path = path
        self._what = what
        self._headers = headers
        self._body = body

    def _command(self, address, host, cpus, *more):
        words = ["taskset", "-c", cpus, "h2load", "-t", "1", "-c", str(self.connections),
                 "-m", str(self.streams), "-H", f":authority: {host}", *more]
        for header in self._headers:
            words += ["-H", header]
        if self._body is not None:
            body = tempfile.NamedTemporaryFile()
            body.write(self._body)
            body.flush()
            words += ["-d", body.name]
        else:
            body = None
        return [*words, f"http://{address}{self._path}"], body

    def _run(self, address, host, cpus, *more):
        command, body = self._command(address, host, cpus, *more)
        try:
            text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        finally:
            if body is not None:
                body.close()
        found = re.search(r"(\d+) succeeded, 0 failed, 0 errored", text)
        good = int(found.group(1)) if found else 0
        if good == 0 or " 2xx, 0 3xx, 0 4xx, 0 5xx" not in text:
            raise SystemExit(f"errors under load at {address}:\n{text}")
        return good, float(re.search(r"finished in .*?, ([\d.]+) req/s", text).group(1))

    def run(self, address, host, seconds, cpus):
        requests, rate = self._run(address, host, cpus, "-D", str(seconds))
        return {"requests": requests, "requests_per_second": rate}

    def latencies(self, result, address, host, cpus):
        """Of a run of its own, because writing them down takes time."""
        with tempfile.NamedTemporaryFile("r") as log:
            self._run(address, host, cpus, "-D", "1", f"--log-file={log.name}")
            times = sorted(int(line.rsplit("\t", 1)[1]) for line in log)
        return {**result, "p50_us": percentile(times, 0.5), "p99_us": percentile(times, 0.99)}

    def describe(self):
        return (f"{self._what} by h2load over {self.connections} connections of {self.streams} "
                "streams")


LOADS = {
    "http1": Wrk(),
    "h2c": H2load("/version", "GET /version"),
    "grpc": H2load("/echo.EchoService/Echo", "unary calls of 64 bytes",
                   ("content-type: application/grpc", "te: trailers"),
                   b"\0\0\0\0\x40\x0a\x3e" + b"x" * 62),
}
