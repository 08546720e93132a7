"""`hoplite redirect` in real network namespaces: what it installs, and where connections then go."""

import os
import re
import shutil

import pytest

from hoplite_e2e import netns
from hoplite_e2e.redirected import (  # noqa: F401 (fixtures among them)
    COMMENT, FAILURE, INJECTED, LOOPBACK, OK, OTHER_NET, OUTSIDE, PASSTHROUGH, POD, PROXY,
    RULES, USAGE, Pod, backend, family, pod, without_capabilities)


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
