"""`hoplite redirect` in real network namespaces: what it installs, and where connections then go."""

import os
import re
import shutil

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


@pytest.fixture(scope="module", params=["nft", "legacy"])
def backend(request):
    why = netns.why_not(request.param)
    if why:
        pytest.skip(f"iptables-{request.param}: {why}")
    return request.param


@pytest.fixture(params=[4, 6])
def family(request):
    return request.param


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
        self.must(f"{program}-{self._backend}-restore", "--noflush", input=text)

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


@pytest.fixture
def pod(build_dir, backend):
    made = Pod(build_dir / "hoplite", backend)
    yield made
    made.listeners.close()


@pytest.fixture
def command(build_dir):
    """The command where it can do no harm: in a namespace of its own if that is possible."""
    why = netns.why_not("nft")
    if why:
        pytest.skip(why)
    namespace = netns.Namespace()
    return lambda *argv, **options: namespace.run(build_dir / "hoplite", "redirect", *argv,
                                                  **options)


# --- where connections arrive -------------------------------------------------------------------


def test_inbound_arrives_at_the_proxy(pod, family):
    pod.listen(family)
    pod.redirect("apply", *INJECTED)
    taken = pod.from_outside(family, 8080)
    assert (taken.name, taken.original) == ("inbound", (POD[family], 8080))
    assert taken.peer == OUTSIDE[family]
    assert pod.from_outside(family, 15021).name == "app:15021"
    assert pod.from_outside(family, 15008).name == "app:15008"


def test_outbound_arrives_at_the_proxy_but_for_its_own(pod, family):
    pod.listen(family)
    pod.redirect("apply", *INJECTED)
    world = (OUTSIDE[family], 80)
    taken = pod.from_app(world)
    assert (taken.name, taken.original) == ("outbound", world)
    assert pod.from_proxy(world).name == "world:80"
    assert pod.from_app(world, uid=PROXY).name == "world:80"
    assert pod.from_app(world, gid=PROXY).name == "world:80"


def test_calls_within_the_pod(pod, family):
    pod.listen(family)
    pod.redirect("apply", *INJECTED)
    own = (POD[family], 8080)
    assert pod.from_app((LOOPBACK[family], 8080)).name == "app:8080"
    assert pod.from_app(own).name == "app:8080"
    again = pod.from_proxy(own)
    assert (again.name, again.original) == ("inbound", own)
    assert pod.from_proxy((LOOPBACK[family], 8080)).name == "app:8080"
    passed = pod.from_proxy(own, source=PASSTHROUGH[family])
    assert (passed.name, passed.peer) == ("app:8080", PASSTHROUGH[family])
    assert pod.from_proxy((POD[family], 15008)).name == "app:15008"


def test_users_groups_and_ports_of_ones_own(pod, family):
    any_address = "0.0.0.0" if family == 4 else "::"
    pod.listen(family)
    pod.listeners.add("mine", pod, any_address, 16001)
    pod.redirect("apply", "-b", "8080", "-i", "*", "-p", "16001", "-u", "77,78", "-g", "79")
    world = (OUTSIDE[family], 80)
    assert pod.from_app(world).name == "mine"
    assert pod.from_app(world, uid=PROXY).name == "mine"
    for owner in ({"uid": 77}, {"uid": 78}, {"gid": 79}):
        assert pod.from_app(world, **owner).name == "world:80", owner
    assert pod.from_outside(family, 8080).name == "inbound"
    assert pod.from_outside(family, 8081).name == "app:8081"


def test_ranges_and_ports_are_included_and_excluded(pod, family):
    pod.listen(family)
    prefix = 32 if family == 4 else 128
    world = OUTSIDE[family]
    pod.redirect("apply", "-i", "*", "-o", "443", "-u", PROXY)
    assert pod.from_app((world, 80)).name == "outbound"
    assert pod.from_app((world, 443)).name == "world:443"
    assert pod.from_outside(family, 8080).name == "app:8080"  # no inbound port was given
    pod.redirect("apply", "-i", "*", "-x", f"{world}/{prefix}", "-q", "3306", "-u", PROXY)
    assert pod.from_app((world, 80)).name == "world:80"
    assert pod.from_app((world, 443)).name == "world:443"
    pod.redirect("apply", "-i", f"{world}/{prefix}", "-u", PROXY)
    assert pod.from_app((world, 80)).name == "outbound"
    pod.redirect("apply", "-i", "192.0.2.0/24,2001:db8::/32", "-q", "3306", "-u", PROXY)
    assert pod.from_app((world, 80)).name == "world:80"
    assert pod.from_app((world, 3306)).name == "outbound"


def test_interfaces_are_excluded(pod, family):
    pod.second_link()
    pod.listen(family)
    pod.redirect("apply", *INJECTED, "-c", "eth1")
    ours, theirs = OTHER_NET[family]
    assert pod.from_app((theirs, 80)).name == "world:80"
    assert pod.listeners.arrival(pod.outside, (ours, 8080)).name == "app:8080"
    assert pod.from_app((OUTSIDE[family], 80)).name == "outbound"
    assert pod.from_outside(family, 8080).name == "inbound"


def test_groups_choose_whose_traffic_is_captured(pod, family):
    pod.listen(family)
    world = (OUTSIDE[family], 80)
    pod.redirect("apply", *INJECTED, env={"ISTIO_OUTBOUND_OWNER_GROUPS": "500,501"})
    assert pod.from_app(world).name == "world:80"
    assert pod.from_app(world, gid=501).name == "outbound"
    pod.redirect("apply", *INJECTED, env={"ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE": "500"})
    assert pod.from_app(world).name == "outbound"
    assert pod.from_app(world, gid=500).name == "world:80"


def test_what_a_virtual_machine_sends_counts_as_outbound(pod, family):
    pod.listen(family)
    pod.redirect("apply", *INJECTED, "-k", "eth0")
    assert pod.from_outside(family, 8080).name == "outbound"


def test_tproxy_keeps_both_addresses(pod, family):
    pod.listen(family, transparent=True)
    pod.redirect("apply", *INJECTED, "-m", "TPROXY")
    taken = pod.from_outside(family, 8080)
    assert (taken.name, taken.local) == ("inbound", (POD[family], 8080))
    assert taken.peer == OUTSIDE[family]
    assert pod.from_outside(family, 15021).name == "app:15021"
    # The proxy passes it on with its client's address; the app's answers come back to the proxy.
    passed = pod.from_proxy((POD[family], 8080), uid=0, source=OUTSIDE[family], mark=PROXY)
    assert (passed.name, passed.peer) == ("app:8080", OUTSIDE[family])
    # Its own service: as uid 0 with the proxy's group, which is how it runs under TPROXY.
    own = pod.from_proxy((POD[family], 8080), uid=0)
    assert (own.name, own.local) == ("inbound", (POD[family], 8080))
    assert pod.from_app((POD[family], 8080)).name == "app:8080"
    assert pod.from_app((OUTSIDE[family], 80)).name == "outbound"


# --- applying -----------------------------------------------------------------------------------


CONFIGURATIONS = {
    "injected": INJECTED,
    "tproxy": (*INJECTED, "-m", "TPROXY", "-c", "eth1", "--drop-invalid"),
    "tproxy by port": ("-b", "80,443", "-m", "TPROXY", "-t", "99", "-r", "77", "-u", "5,6"),
    "lists": ("-b", "80,443", "-i", "10.0.0.0/8,fd00::/8", "-x", "10.1.2.3/16", "-o", "25", "-q",
              "8080", "-c", "eth1", "-k", "vm0,vm+", "-u", "5,6", "-g", "7"),
    "everything": ("-b", "*", "-i", "0.0.0.0/0,::/0,127.0.0.0/8", "-k", "vm0"),
}


@pytest.mark.parametrize("flags", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_applying_twice_changes_nothing(pod, flags):
    first = pod.redirect("apply", *flags)
    rules, network = pod.saved(), pod.network()
    assert first.count("installed") == 2
    again = pod.redirect("apply", *flags)
    assert again.count("nothing changed") == len(again.splitlines()) == 2
    assert (pod.saved(), pod.network()) == (rules, network)
    for jump in ("-A OUTPUT -j ISTIO_OUTPUT", "-A PREROUTING -p tcp -j ISTIO_INBOUND"):
        assert rules.count(jump) <= 2
    pod.redirect("apply", *flags, "--force-apply")
    assert (pod.saved(), pod.network()) == (rules, network)


def test_older_rules_give_way(pod, build_dir, backend):
    for name in ("tproxy", "lists", "tproxy by port", "injected"):
        fresh = Pod(build_dir / "hoplite", backend)
        for each in (pod, fresh):
            each.redirect("apply", *CONFIGURATIONS[name])
        assert sorted(pod.rules()) == sorted(fresh.rules()), name
        assert pod.must("ip", "rule") == fresh.must("ip", "rule"), name


def test_what_show_prints_is_what_apply_installs(pod, build_dir, backend):
    for flags in (CONFIGURATIONS["tproxy"], CONFIGURATIONS["lists"]):
        fresh = Pod(build_dir / "hoplite", backend)
        fresh.restore(fresh.redirect("show", "-4", *flags))
        fresh.restore(fresh.redirect("show", "-6", *flags), "ip6tables")
        pod.redirect("apply", *flags)
        assert sorted(fresh.rules()) == sorted(pod.rules())


def test_showing_changes_nothing(pod):
    before = pod.saved(), pod.network()
    shown = pod.redirect("show", *INJECTED, "-m", "TPROXY")
    assert shown == pod.redirect("apply", "--dry-run", *INJECTED, "-m", "TPROXY")
    assert "# besides: ip -6 address add ::6/128 dev lo" in shown
    assert "# besides: ip -4 rule add fwmark 0x539 lookup 133" in shown
    assert (pod.saved(), pod.network()) == before


def test_tproxy_has_its_routes(pod):
    pod.redirect("apply", *INJECTED, "-m", "TPROXY")
    for number in ("-4", "-6"):
        assert "fwmark 0x539 lookup 133" in pod.must("ip", number, "rule", "show")
        assert "local default dev lo" in pod.must("ip", number, "route", "show", "table", "133")
    assert "::6/128" in pod.must("ip", "-6", "address", "show", "dev", "lo")
    pod.redirect("apply", *INJECTED)
    assert "fwmark" not in pod.must("ip", "rule") + pod.must("ip", "-6", "rule")


def test_a_failure_leaves_things_as_they_were(pod):
    pod.redirect("apply", *INJECTED, "-m", "TPROXY")
    # Removing this chain, as redirection without TPROXY does, is now impossible, for IPv6 only.
    pod.restore("*mangle\n-N THEIRS\n-A THEIRS -j ISTIO_TPROXY\nCOMMIT\n", "ip6tables")
    before = sorted(pod.saved()), pod.network()
    done = pod.try_redirect("apply", *INJECTED)
    assert done.returncode == FAILURE
    assert "A rule that is not ours leads into one of our chains" in done.stderr
    assert "Everything is as it was" in done.stderr
    assert "could not be put back" not in done.stderr
    assert (sorted(pod.saved()), pod.network()) == before


def test_rules_of_the_other_backend_give_way(pod, backend):
    other = {"nft": "legacy", "legacy": "nft"}[backend]
    why = netns.why_not(other)
    if why:
        pytest.skip(why)
    pod.redirect("apply", *INJECTED, env={"FORCE_IPTABLES_BINARY": other})
    assert len(pod.rules(other)) == 2 * RULES
    assert f"removed older rules of ours from iptables-{other}" in pod.redirect("apply", *INJECTED)
    assert pod.rules(other) == []
    assert len(pod.rules()) == 2 * RULES


def test_the_backend_in_use_is_found(pod, backend):
    pod.restore("*filter\n-A INPUT -i eth9 -j DROP\nCOMMIT\n")
    pod.redirect("apply", *INJECTED, env={"FORCE_IPTABLES_BINARY": ""})
    assert "-A OUTPUT -j ISTIO_OUTPUT" in pod.rules(backend)
    assert pod.redirect("apply", *INJECTED, env={"FORCE_IPTABLES_BINARY": ""}).count("nothing") == 2


def test_ipv6_that_is_off_is_passed_over_in_words(pod):
    pod.must("sh", "-c", "for f in /proc/sys/net/ipv6/conf/*/disable_ipv6; do echo 1 >$f; done")
    done = pod.try_redirect("apply", *INJECTED)
    assert done.returncode == OK
    assert "IPv6: left out: IPv6 is disabled on all interfaces" in done.stderr
    assert len(pod.rules()) == RULES
    assert "ISTIO" not in pod.must("ip6tables-save")
    checked = pod.redirect("check", *INJECTED)
    assert "FAILED" not in checked
    assert "skipped  IPv6: IPv6 is disabled" in checked


def test_another_namespace_by_path(pod, build_dir):
    elsewhere = netns.Namespace()
    elsewhere.must(build_dir / "hoplite", "redirect", "apply", *INJECTED, "--cni-mode",
                   "--network-namespace", pod.path,
                   env={"FORCE_IPTABLES_BINARY": pod._backend})  # pylint: disable=protected-access
    assert "-A OUTPUT -j ISTIO_OUTPUT" in pod.rules()
    assert "::6/128" in pod.must("ip", "-6", "address", "show", "dev", "lo")
    assert "::6/128" not in elsewhere.must("ip", "-6", "address", "show", "dev", "lo")


# --- cleaning -----------------------------------------------------------------------------------


THEIRS = f"""\
*nat
:KUBE-SERVICES - [0:0]
-A PREROUTING -m comment --comment "not -j ISTIO_INBOUND" -j KUBE-SERVICES
-A PREROUTING -i eth1 -j RETURN
-A PREROUTING -i eth1 -m comment --comment "{COMMENT} not" -j RETURN
-A OUTPUT -o eth1 -j RETURN
-A OUTPUT -p tcp -m tcp --dport 15001 -j RETURN
-A KUBE-SERVICES -p tcp -j REDIRECT --to-ports 15006
COMMIT
*mangle
-A OUTPUT -p tcp -m mark --mark 0x539 -j RETURN
-A PREROUTING -p tcp -m mark --mark 0x539 -j CONNMARK --save-mark
COMMIT
*raw
-A OUTPUT -p udp -j NOTRACK
COMMIT
*filter
-A INPUT -p tcp --dport 15006 -j ACCEPT
COMMIT
"""


@pytest.mark.parametrize("flags", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_clean_removes_what_apply_installed_and_nothing_else(pod, flags):
    pod.restore(THEIRS)
    pod.restore(THEIRS, "ip6tables")
    pod.must("ip", "rule", "add", "fwmark", "0x7", "lookup", "133")
    before = pod.saved(), pod.network()
    pod.redirect("apply", *flags)
    assert pod.saved() != before[0]
    pretended = pod.redirect("clean", "--dry-run")
    assert "-F ISTIO_OUTPUT" in pretended
    assert pod.saved() != before[0]
    pod.redirect("clean")
    assert (pod.saved(), pod.network()) == before
    assert pod.redirect("clean") == "nothing of ours is here\n"
    assert (pod.saved(), pod.network()) == before


def test_what_was_there_before_is_used_and_kept(pod):
    pod.must("ip", "-6", "address", "add", "::6/128", "dev", "lo")
    for number in ("-4", "-6"):
        pod.must("ip", number, "rule", "add", "fwmark", "1337", "lookup", "133")
        pod.must("ip", number, "route", "add", "local", "default", "dev", "lo", "table", "133")
    before = pod.network()
    pod.redirect("apply", *INJECTED, "-m", "TPROXY")
    assert pod.network() == before
    pod.redirect("clean")
    assert pod.network() == before


# --- checking -----------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [
    (), ("-b", "8080", "-i", "10.0.0.0/8,fd00::/8"), ("-q", "8080", "-o", "25"),
    (*INJECTED, "-x", "192.0.2.0/24,2001:db8::/32")])
def test_check_agrees_with_apply(pod, flags):
    pod.redirect("apply", *flags)
    before = pod.saved(), pod.network()
    said = pod.redirect("check", *flags)
    assert "FAILED" not in said
    assert said.count("\nok ") > 8
    assert (pod.saved(), pod.network()) == before


@pytest.mark.parametrize("mode", ["REDIRECT", "TPROXY"])
def test_check_sees_where_bytes_arrive(pod, mode):
    pod.redirect("apply", *INJECTED, "-m", mode)
    said = pod.redirect("check", *INJECTED, "-m", mode)
    for family in ("IPv4", "IPv6"):
        for line in (rf"ok +{family}: the rules are as wanted",
                     rf"ok +{family}: outbound: what the app sends .* arrived at port 15001, bytes",
                     rf"ok +{family}: outbound: what the proxy's user sends .* passes the proxy by",
                     rf"ok +{family}: loopback: what the proxy sends .* arrived at port 15006, byt",
                     rf"ok +{family}: loopback: what the app sends to itself .* at port 15002, byt",
                     rf"ok +{family}: inbound: what arrives at port 15002 .* at port 15006, bytes",
                     rf"ok +{family}: inbound: what arrives at the excluded port 15090 passes"):
            assert re.search(line, said), f"{line}\n{said}"


def test_check_with_the_proxy_running(pod):
    for family in (4, 6):
        pod.listen(family)
    pod.redirect("apply", *INJECTED)
    said = pod.redirect("check", *INJECTED)
    assert "FAILED" not in said
    assert re.search(r"ok +IPv4: inbound: what arrives at port 15002 arrived at port 15006\n", said)
    assert re.search(r"ok +IPv6: outbound: what the app .* arrived at port 15001\n", said)


@pytest.mark.parametrize("broken, said", [
    ("-D OUTPUT -j ISTIO_OUTPUT", [
        "FAILED   IPv4: table nat: the rule is missing: -A OUTPUT -j ISTIO_OUTPUT",
        "outbound: what the app sends"]),
    ("-D PREROUTING -p tcp -j ISTIO_INBOUND", [
        "FAILED   IPv4: table nat: the rule is missing: -A PREROUTING -p tcp -j ISTIO_INBOUND",
        "inbound: what arrives at port 15002 arrived at port 15002, not at port 15006"]),
    ("-D ISTIO_OUTPUT -m owner --uid-owner 1337 -j RETURN", [
        "is missing: -A ISTIO_OUTPUT -m owner --uid-owner 1337 -j RETURN",
        "outbound: what the proxy's user sends (uid 1337, gid 65534) arrived at port 15001"]),
    ("-D ISTIO_OUTPUT -o lo -s 127.0.0.6/32 -j RETURN", [
        "from 127.0.0.6:15002 (uid 1337, gid 65534) arrived at port 15006, not at port 15002"]),
    ("-I PREROUTING 1 -p tcp -j ISTIO_INBOUND", ["or there more than once"]),
])
def test_check_says_what_is_missing(pod, broken, said):
    pod.redirect("apply", *INJECTED)
    pod.restore(f"*nat\n{broken}\nCOMMIT\n")
    done = pod.try_redirect("check", *INJECTED, "--probe-timeout", "400ms")
    assert done.returncode == FAILURE
    for words in said:
        assert words in done.stdout
    assert "`hoplite redirect apply` with the same flags installs what is missing" in done.stderr
    pod.redirect("apply", *INJECTED)
    assert "FAILED" not in pod.redirect("check", *INJECTED)


def test_check_misses_address_and_routes(pod):
    pod.redirect("apply", *INJECTED, "-m", "TPROXY")
    pod.must("ip", "-6", "address", "del", "::6/128", "dev", "lo")
    pod.must("ip", "rule", "del", "fwmark", "1337", "lookup", "133")
    pod.must("ip", "-6", "route", "flush", "table", "133")
    said = pod.try_redirect("check", *INJECTED, "-m", "TPROXY", "--probe-timeout", "400ms").stdout
    assert "FAILED   IPv6: the address ::6/128 on lo is missing" in said
    assert 'FAILED   IPv4: the policy rule "fwmark 0x539 lookup 133" is missing' in said
    assert 'FAILED   IPv6: the route "local default dev lo table 133" is missing' in said


def without_capabilities(*kept):
    words = "".join(f",+{name}" for name in kept)
    return ["setpriv", f"--inh-caps=-all{words}", f"--bounding-set=-all{words}"]


def test_check_as_the_proxy_itself(pod, build_dir):
    pod.redirect("apply", *INJECTED)
    said = pod.must(*without_capabilities(), "--reuid", PROXY, "--regid", PROXY, "--clear-groups",
                    build_dir / "hoplite", "redirect", "check", *INJECTED)
    assert "skipped  IPv4: the rules cannot be read: the capability NET_ADMIN is missing" in said
    assert re.search(r"ok +IPv4: loopback: what the proxy sends to its own pod .* 15006, byt", said)


def test_validation_after_applying(pod):
    assert "outbound: what the app sends" in pod.redirect("apply", *INJECTED, "--run-validation")
    pod.redirect("clean")
    done = pod.try_redirect("apply", *INJECTED, "--skip-rule-apply", "--run-validation",
                            "--probe-timeout", "300ms")
    assert done.returncode == FAILURE
    assert pod.rules() == []
    pod.redirect("apply", *INJECTED)
    pod.redirect("apply", "--cleanup-only")
    assert pod.rules() == []


# --- what is missing, and what is wrong ---------------------------------------------------------


def test_an_init_container_has_the_capabilities_that_are_needed(pod, build_dir):
    binary = build_dir / "hoplite"
    init = without_capabilities("net_admin", "net_raw")
    pod.must(*init, binary, "redirect", "apply", *INJECTED, "-m", "TPROXY", "--run-validation")
    pod.must(*init, binary, "redirect", "clean")
    assert pod.rules() == []


@pytest.mark.parametrize("backend_wanted, kept, named", [
    ("nft", [], "the capability NET_ADMIN is missing"),
    ("legacy", ["net_admin"], "the capability NET_RAW is missing"),
    ("legacy", [], "the capability NET_ADMIN and NET_RAW is missing"),
])
def test_a_missing_capability_is_named(pod, build_dir, backend_wanted, kept, named):
    for verb in ("apply", "clean"):
        done = pod.run(*without_capabilities(*kept), build_dir / "hoplite", "redirect", verb,
                       env={"FORCE_IPTABLES_BINARY": backend_wanted})
        assert done.returncode == FAILURE
        assert named in done.stderr
        assert "securityContext.capabilities.add: [NET_ADMIN, NET_RAW]" in done.stderr


def test_missing_programs_are_named(pod, build_dir, tmp_path):
    binary = tmp_path / "hoplite"
    shutil.copy(build_dir / "hoplite", binary)
    hide = "for d in /usr/sbin /usr/local/sbin; do mount -t tmpfs none $d; done; exec \"$@\""
    done = pod.run("unshare", "--mount", "sh", "-c", hide, "sh", binary, "redirect", "apply")
    if "mount:" in done.stderr:
        pytest.skip(f"no mounts here: {done.stderr}")
    assert done.returncode == FAILURE
    assert "iptables-restore and iptables-save were not found" in done.stderr
    assert "apt-get install iptables" in done.stderr


def test_a_table_made_with_nft_is_left_alone_in_words(pod, backend):
    if backend != "nft" or shutil.which("nft", path=os.environ["PATH"] + ":/usr/sbin") is None:
        pytest.skip("this takes the nft tool and its backend")
    pod.must("nft", "table ip nat { chain OUTPUT { type nat hook output priority -100; "
                    "tcp dport { 1, 2 } counter redirect to :3; }; }")
    before = pod.must("nft", "list", "ruleset")
    done = pod.try_redirect("apply", *INJECTED)
    assert done.returncode == FAILURE
    assert "table of their own" in done.stderr
    assert pod.must("nft", "list", "ruleset") == before
    assert "::6/128" not in pod.must("ip", "-6", "address", "show", "dev", "lo")


@pytest.mark.parametrize("arguments, said", [
    (["-i", "10.0.0.0/8;reboot"], '--istio-service-cidr (-i): "10.0.0.0/8;reboot" is not allowed'),
    (["-i", "10.0.0.0/8\n-A OUTPUT -j DROP"], "--istio-service-cidr (-i): "),
    (["-b", "$(id)"], "--istio-inbound-ports (-b): "),
    (["-d", "80 90"], "--istio-local-exclude-ports (-d): "),
    (["-c", "eth0 -j ACCEPT"], "--istio-exclude-interfaces (-c): "),
    (["-k", "a/b"], "--kube-virt-interfaces (-k): "),
    (["-u", "no-such-user"], "--proxy-uid (-u): "),
    (["-x", "*"], "--istio-service-exclude-cidr (-x): "),
    (["-m", "NONE"], "allowed: REDIRECT or TPROXY"),
    (["--force-iptables-binary", "nftables"], "allowed: nft or legacy"),
    (["--redirect-dns"], "Hoplite is no DNS proxy"),
    (["--native-nftables"], "--force-iptables-binary nft"),
    (["--istio-inbound-port", "80"], "did you mean --istio-inbound-ports?"),
    (["everything"], 'unexpected argument "everything"'),
])
def test_wrong_usage_is_refused_before_anything_is_done(command, arguments, said):
    for verb in ("apply", "check"):
        done = command(verb, *arguments)
        assert done.returncode == USAGE
        assert done.stdout == ""
        assert said in done.stderr


def test_variables_are_as_flags(command):
    variables = {"ENVOY_PORT": "1501", "ISTIO_INBOUND_PORTS": "80", "ISTIO_SERVICE_CIDR": "*",
                 "ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE": "25", "PROXY_UID": "7", "PROXY_GID": "8",
                 "INVALID_DROP": "true"}
    flags = ["-p", "1501", "-b", "80", "-i", "*", "-o", "25", "-u", "7", "-g", "8",
             "--drop-invalid"]
    assert command("show", env=variables).stdout == command("show", *flags).stdout
    assert "--to-ports 15001" in command("show", "-p", "15001", env=variables).stdout
    done = command("show", env={"ISTIO_INBOUND_PORTS": "tcp://10.0.0.1:80"})
    assert done.returncode == USAGE
    assert "--istio-inbound-ports (-b): " in done.stderr


def test_empty_values_are_taken(command):
    assert command("show", "-x", "", "-b", "", "-i", "").returncode == OK


@pytest.mark.parametrize("verb", [[], ["apply"], ["show"], ["clean"], ["check"]])
def test_help_has_an_example(command, verb):
    done = command(*verb, "--help")
    assert done.returncode == OK
    assert re.search(r"Examples?:\n(.*\n)* +hoplite redirect " + " ".join(verb), done.stdout)


def test_it_can_only_be_tried_as_told(command):
    done = command()
    assert done.returncode == USAGE
    assert "there are: apply show clean check" in done.stderr
