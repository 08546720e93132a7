"""A pod with the rules of `hoplite redirect`, and who listens where in it and outside of it."""

import os
import re
import subprocess

import pytest

from hoplite_e2e import netns

OK, FAILURE, USAGE = 0, 1, 64
PROXY = 1337
APP = 1000
INJECTED = ("-b", "*", "-d", "15090,15021,15020", "-i", "*", "-u", str(PROXY))
RULES = 18  # of INJECTED, in each family
COMMENT = "hoplite-redirect"

# Addresses of the pod, of what is outside, and of loopback, by family.
POD = {4: "10.9.0.2", 6: "fd09::2"}
OUTSIDE = {4: "10.9.0.1", 6: "fd09::1"}
OTHER_NET = {4: ("10.8.0.2", "10.8.0.1"), 6: ("fd08::2", "fd08::1")}
LOOPBACK = {4: "127.0.0.1", 6: "::1"}
PASSTHROUGH = {4: "127.0.0.6", 6: "::6"}


class Pod(netns.Namespace):
    """A namespace with two interfaces to an outside, and the command that is tested."""

    def __init__(self, binary, backend):
        super().__init__()
        self._command = [binary, "redirect"]
        self._backend = backend
        self.outside = netns.Namespace()
        self.link(self.outside, 0, [f"{POD[4]}/24", f"{POD[6]}/64"],
                  [f"{OUTSIDE[4]}/24", f"{OUTSIDE[6]}/64"])
        self.listeners = netns.Listeners()

    def second_link(self):
        self.link(self.outside, 1, [f"{OTHER_NET[4][0]}/24", f"{OTHER_NET[6][0]}/64"],
                  [f"{OTHER_NET[4][1]}/24", f"{OTHER_NET[6][1]}/64"])

    def try_redirect(self, verb, *flags, **options):
        environment = {"FORCE_IPTABLES_BINARY": self._backend, **options.pop("env", {})}
        return self.run(*self._command, verb, *flags, env=environment, **options)

    def redirect(self, verb, *flags, **options):
        done = self.try_redirect(verb, *flags, **options)
        assert done.returncode == OK, done.stdout + done.stderr
        return done.stdout

    def start_redirect(self, verb, *flags):
        """As redirect(), which goes on meanwhile; the caller waits for its end."""
        environment = {**os.environ, "FORCE_IPTABLES_BINARY": self._backend}
        with self.entered():
            return subprocess.Popen([*self._command, verb, *flags], env=environment, text=True,
                                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                    stderr=subprocess.STDOUT)

    def packets(self, rule):
        """How many this rule of IPv4 has met, as it is written by iptables-save."""
        text = self.must(f"iptables-{self._backend}-save", "-c")
        return int(re.search(rf"^\[(\d+):\d+\] -A {re.escape(rule)}$", text, re.M).group(1))

    def saved(self, backend=None):
        """All rules of both families, without what changes by itself."""
        out = []
        for family in ("iptables", "ip6tables"):
            text = self.must(f"{family}-{backend or self._backend}-save")
            out += [re.sub(r" \[\d+:\d+\]", "", line) for line in text.splitlines()
                    if not line.startswith("#")]
        return out

    def rules(self, backend=None):
        return [line for line in self.saved(backend) if line.startswith("-A")]

    def restore(self, text, program="iptables"):
        self.must(f"{program}-{self._backend}-restore", "--noflush", netns.WAIT_FOR_LOCK,
                  input=text)

    def network(self):
        """Addresses, policy rules and routes, without the links', which the kernel is still making."""
        out = []
        for number in ("-4", "-6"):
            for words in (("-o", "address"), ("rule",), ("route", "show", "table", "all")):
                found = self.must("ip", number, *words).splitlines()
                out.append([line for line in found if not re.search(r"\beth\d", line)])
        return out

    def listen(self, family, transparent=False):
        """In the place of the proxy, of the app with its other ports, and of the world."""
        any_address = "0.0.0.0" if family == 4 else "::"
        self.listeners.add("outbound", self, any_address, 15001)
        self.listeners.add("inbound", self, any_address, 15006, transparent)
        for port in (8080, 8081, 15008, 15021):
            self.listeners.add(f"app:{port}", self, any_address, port)
        for port in (80, 443, 3306):
            self.listeners.add(f"world:{port}", self.outside, any_address, port)

    def from_outside(self, family, port):
        return self.listeners.arrival(self.outside, (POD[family], port))

    def from_app(self, target, **how):
        return self.listeners.arrival(self, target, **{"uid": APP, "gid": APP, **how})

    def from_proxy(self, target, **how):
        return self.listeners.arrival(self, target, **{"uid": PROXY, "gid": PROXY, **how})


@pytest.fixture(scope="module", params=["nft", "legacy"])
def backend(request):
    why = netns.why_not(request.param)
    if why:
        pytest.skip(f"iptables-{request.param}: {why}")
    return request.param


@pytest.fixture(params=[4, 6])
def family(request):
    return request.param


@pytest.fixture
def pod(build_dir, backend):
    made = Pod(build_dir / "hoplite", backend)
    yield made
    made.listeners.close()


def without_capabilities(*kept):
    words = "".join(f",+{name}" for name in kept)
    return ["setpriv", f"--inh-caps=-all{words}", f"--bounding-set=-all{words}"]
