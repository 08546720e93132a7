"""A real Prometheus that scrapes what a test started, and its HTTP API. Not promtool: see lint()."""

import json
import shutil
import subprocess
import urllib.parse

from . import metrics
from .deadline import poll_until, seconds
from .front import free_address
from .process import Process


def binary(name):
    """Where Debian's package prometheus has put this program, or None."""
    return shutil.which(name, path="/usr/bin:/usr/local/bin") or shutil.which(name)


class Prometheus(Process):
    """Scrapes `targets` (host:port) every second as the job envoy-stats, as Istio's own does.

    Or by other `scrape_configs`; and in a pod, where it is then asked too.
    """

    def __init__(self, folder, targets=(), scrape_configs=None, pod=None):
        config = folder / "prometheus.yaml"
        config.write_text(json.dumps({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
            "scrape_configs": scrape_configs or [
                {"job_name": "envoy-stats", "metrics_path": "/stats/prometheus",
                 "static_configs": [{"targets": targets}]}]}))
        self._fetch = metrics.fetch if pod is None else pod.fetch
        self._address = free_address()
        argv = [binary("prometheus"), f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address={self._address}"]
        super().__init__(argv if pod is None else pod.wrap(argv), "prometheus")

    def _get(self, path, **parameters):
        url = f"http://{self._address}{path}?{urllib.parse.urlencode(parameters)}"
        try:
            return self._fetch(url)
        except OSError:  # not up yet
            return 0, {}, b""

    def wait_ready(self):
        poll_until(lambda: self._get("/-/ready")[0] == 200, "Prometheus is ready", 30)

    def query(self, expression):
        """[(labels, value)] of an instant query; an expression it refuses fails."""
        status, _, body = self._get("/api/v1/query", query=expression)
        answer = json.loads(body)
        assert status == 200 and answer["status"] == "success", f"{expression}: {body!r}"
        result = answer["data"]["result"]
        if answer["data"]["resultType"] == "scalar":
            return [({}, float(result[1]))]
        return [(one["metric"], float(one["value"][1])) for one in result]

    def value(self, expression):
        """The only value of an expression, or None."""
        found = self.query(expression)
        assert len(found) <= 1, f"{expression} has {len(found)} results: {found}"
        return found[0][1] if found else None

    def targets(self):
        """What it says of its targets: [{"scrapeUrl":, "health":, "lastError":, ...}]."""
        return json.loads(self._get("/api/v1/targets")[2])["data"]["activeTargets"]


def lint(text):
    """What `promtool check metrics` has to say about a scrape, line by line."""
    done = subprocess.run([binary("promtool"), "check", "metrics"], input=text, timeout=seconds(30),
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return done.returncode, done.stdout.decode().splitlines()
