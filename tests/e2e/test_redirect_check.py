"""`hoplite redirect check`: whether the rules are there, and whether bytes arrive by them."""

import re

import pytest

from hoplite_e2e.deadline import poll_until, seconds
from hoplite_e2e.redirected import (  # noqa: F401 (fixtures among them)
    FAILURE, INJECTED, PROXY, backend, family, pod, without_capabilities)


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
    done = pod.try_redirect("check", *INJECTED, "--probe-timeout", "2s")
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
    said = pod.try_redirect("check", *INJECTED, "-m", "TPROXY", "--probe-timeout", "2s").stdout
    assert "FAILED   IPv6: the address ::6/128 on lo is missing" in said
    assert 'FAILED   IPv4: the policy rule "fwmark 0x539 lookup 133" is missing' in said
    assert 'FAILED   IPv6: the route "local default dev lo table 133" is missing' in said


def test_check_as_the_proxy_itself(pod, build_dir):
    pod.redirect("apply", *INJECTED)
    said = pod.must(*without_capabilities(), "--reuid", PROXY, "--regid", PROXY, "--clear-groups",
                    build_dir / "hoplite", "redirect", "check", *INJECTED)
    assert "skipped  IPv4: the rules cannot be read: the capability NET_ADMIN is missing" in said
    assert re.search(r"ok +IPv4: loopback: what the proxy sends to its own pod .* 15006, byt", said)


def test_check_tries_again_what_the_kernel_refuses(pod):
    """As it may just after the rules came; here it is told to, until it was asked twice."""
    rule = "INPUT -s 127.0.0.6/32 -p tcp -m tcp --dport 15002 -j REJECT --reject-with tcp-reset"
    pod.redirect("apply", *INJECTED)
    pod.restore(f"*filter\n-I {rule}\nCOMMIT\n")
    check = pod.start_redirect("check", *INJECTED, "--probe-timeout", "60s")
    poll_until(lambda: pod.packets(rule) > 1, "refused twice")
    pod.restore(f"*filter\n-D {rule}\nCOMMIT\n")
    said, _ = check.communicate(timeout=seconds(60))
    assert check.returncode == 0, said
    assert re.search(r"ok +IPv4: loopback: what the proxy passes to the app .* at port 15002, byt",
                     said)


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
