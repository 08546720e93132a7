"""The two programs under test as objects: hoplite and the test service. Not how to find them."""

import json
import re
import signal
import urllib.parse

from . import metrics
from .deadline import poll_until
from .process import Process


class TestService(Process):
    """`test_service` on free ports of 127.0.0.1, one of them for gRPC.

    Started when the constructor returns.
    """

    __test__ = False  # not a test class, whatever its name

    def __init__(self, binary, name, record=None, threads=1):
        argv = [binary, "--listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:0", "--name", name,
                "--threads", threads]
        if record is not None:
            argv += ["--record", record]
        super().__init__(argv, name)
        self._record = record
        self.port = int(self.wait_line(r"^listening on \S+:(\d+)$").group(1))
        self.grpc_address = self.wait_line(r"^serving gRPC on (\S+)$").group(1)

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def received(self):
        """What each connection received so far: a list of bytes, in the order they were opened.

        It is complete for every request whose answer has been seen.
        """
        data = self._record.read_bytes()
        connections = {}
        at = 0
        while at < len(data):
            end = data.find(b"\n", at)
            if end < 0:
                break
            what, number, *size = data[at:end].split()
            at = end + 1
            bytes_so_far = connections.setdefault(int(number), bytearray())
            if what == b"read":
                bytes_so_far += data[at : at + int(size[0])]
                at += int(size[0]) + 1
        return [bytes(connections[number]) for number in sorted(connections)]

    def events(self):
        """The record without its bytes: a list of (what, connection number)."""
        data = self._record.read_bytes()
        events = []
        at = 0
        while (end := data.find(b"\n", at)) >= 0:
            what, number, *size = data[at:end].split()
            at = end + 1 + (int(size[0]) + 1 if size else 0)
            events.append((what.decode(), int(number)))
        return events


class Hoplite(Process):
    """`hoplite run` with a configuration given as a dict, or with other arguments.

    Ready when the constructor returns, unless `wait_ready` is false. A port 0 in the configuration
    is a free port; the addresses are read from what hoplite prints.
    """

    def __init__(self, binary, name, config=None, folder=None, arguments=None, env=None,
                 wait_ready=True):
        self.config_path = None
        if config is not None:
            self.config_path = folder / f"{name}.yaml"
            self.write_config(config)
            arguments = ["run", "-c", self.config_path]
        super().__init__([binary, *arguments], name, env=env)
        if wait_ready:
            self.wait_ready()

    def write_config(self, config):
        self.config_path.write_text(json.dumps(config, indent=2) + "\n")  # JSON is YAML

    def reload(self, config=None):
        if config is not None:
            self.write_config(config)
        self.signal(signal.SIGHUP)

    def wait_ready(self):
        self.wait_line(r"^ready in \d+ ms")

    def addresses(self, listener):
        """All (host, port) that `listener`, inbound or outbound, listens on."""
        found = []
        for line in self.stdout:
            match = re.match(rf"listening {listener} (\S+):(\d+)", line)
            if match:
                found.append((match.group(1).strip("[]"), int(match.group(2))))
        assert found, f"{self.name} did not print that it listens {listener}"
        return found

    @property
    def inbound(self):
        return self.addresses("inbound")[0][1]

    @property
    def outbound(self):
        return self.addresses("outbound")[0][1]

    @property
    def stats_url(self):
        return self.wait_line(r"^stats (http://\S+)$").group(1)

    @property
    def stats_port(self):
        return urllib.parse.urlsplit(self.stats_url).port

    def metrics(self):
        return metrics.scrape(self.stats_url)

    def wait_total(self, name, value, **labels):
        """Waits until the series of `name` with these labels add up to `value`; the metrics then.

        An exchange ends after its last byte is out, so a client can be faster than the counter.
        More than `value` fails at once: nothing but a gauge counts back.
        """
        last = None

        def reached():
            nonlocal last
            last = self.metrics()
            total = last.total(name, **labels)
            assert total <= value or last.types[name] == "gauge", (
                f"{name}{labels} is {total}, more than {value}:\n{last.text(name)}")
            return total == value

        poll_until(reached, lambda: f"{name}{labels} == {value}; it is\n{last.text(name)}")
        return last
