"""The command line: what each command prints, where, and with which exit code it ends."""

import os
import re
import signal
import socket
import stat
import subprocess

import pytest
from hoplite_e2e.deadline import poll_until, seconds
from hoplite_e2e.topology import inbound_config

OK, FAILURE, USAGE, BAD_CONFIGURATION = 0, 1, 64, 78


@pytest.fixture
def command(build_dir, tmp_path):
    """Runs hoplite to its end, in a folder of its own; what it printed and its exit code."""

    def run(*arguments, env=None):
        clean = {name: value for name, value in os.environ.items()
                 if not name.startswith("HOPLITE_")}
        return subprocess.run([build_dir / "hoplite", *map(str, arguments)], text=True,
                              capture_output=True, timeout=seconds(), cwd=tmp_path,
                              stdin=subprocess.DEVNULL, env={**clean, **(env or {})})

    return run


@pytest.fixture
def held_port():
    """A port of 127.0.0.1 on which this process listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


# --- help and usage -----------------------------------------------------------------------------


def test_without_arguments_it_says_how_to_begin(command):
    done = command()
    assert done.returncode == USAGE
    assert done.stdout == ""
    assert "hoplite --from :8000 --to 127.0.0.1:9898" in done.stderr


@pytest.mark.parametrize("arguments", [
    [], ["run"], ["check"], ["certs"], ["certs", "init"], ["certs", "issue"], ["inject"],
    ["uninject"], ["version"]])
def test_help_has_an_example(command, arguments):
    done = command(*arguments, "--help")
    assert done.returncode == OK
    assert done.stderr == ""
    assert re.search(r"Examples?:\n(.*\n)* +hoplite " + " ".join(arguments), done.stdout)


def test_help_of_run_lists_the_flag_of_every_scalar_key(command):
    text = command("run", "--help").stdout
    for flag in ("--from", "--to", "--stats-listen", "--timeouts-body-idle", "--mtls-trust-domain",
                 "--workers"):
        assert re.search(rf"^ *{flag}\b", text, re.MULTILINE), flag


@pytest.mark.parametrize("arguments, said", [
    (["rnu"], 'hoplite: unknown command "rnu"; did you mean hoplite run?'),
    (["certs", "inti"], 'hoplite certs: unknown command "inti"; did you mean hoplite certs init?'),
    (["certs"], "hoplite certs: a command is missing; there are: init issue"),
    (["frobnicate"], 'hoplite: unknown command "frobnicate"; there are: run check certs '),
    (["--form", ":8000"], 'hoplite run: unknown option "--form"; did you mean --from?'),
    (["check", "--pirnt"], 'hoplite check: unknown option "--pirnt"; did you mean --print?'),
    (["run", "nowhere.yaml"], 'hoplite run: unexpected argument "nowhere.yaml"'),
    (["--from", ":8000"], "--from without --to"),
    (["--to", ":8000"], "--to without --from"),
    (["run"], "neither a file (-c) nor addresses"),
    (["check"], "neither a file (-c) nor addresses"),
])
def test_wrong_usage_is_explained(command, arguments, said):
    done = command(*arguments)
    assert done.returncode == USAGE
    assert said in done.stderr
    assert done.stdout == ""


def test_a_file_without_the_option_is_recognised(command, tmp_path):
    (tmp_path / "mine.yaml").write_text("")
    done = command("run", "mine.yaml")
    assert done.returncode == USAGE
    assert "did you mean -c mine.yaml?" in done.stderr


def test_version(command):
    done = command("version")
    assert done.returncode == OK
    assert re.fullmatch(r"hoplite \d+\.\d+\.\d+\n", done.stdout)
    assert command("--version").stdout == done.stdout


# --- check ----------------------------------------------------------------------------------------


BAD = """\
inbound: {lisen: ":8000", app: 127.0.0.1:9898}
timeouts:
  header: 10
log: {level: loud}
"""


@pytest.mark.parametrize("subcommand", ["check", "run"])
def test_all_problems_come_at_once(command, tmp_path, subcommand):
    (tmp_path / "bad.yaml").write_text(BAD)
    done = command(subcommand, "-c", "bad.yaml")
    assert done.returncode == BAD_CONFIGURATION
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert any(re.match(r'bad.yaml:1:11: inbound\.lisen: .*"?listen', line) for line in lines)
    assert any(line.startswith("bad.yaml:3:11: timeouts.header: ") for line in lines)
    assert any(line.startswith("bad.yaml:4:14: log.level: ") for line in lines)
    assert "error" in lines[-1]


def test_bad_configuration_is_refused_before_any_socket(command, tmp_path, held_port):
    """The address in use is never got to."""
    (tmp_path / "bad.yaml").write_text(BAD)
    done = command("run", "-c", "bad.yaml", "--outbound-listen", f"127.0.0.1:{held_port}")
    assert done.returncode == BAD_CONFIGURATION
    assert "in use" not in done.stderr


def test_a_file_that_is_not_there(command):
    done = command("check", "-c", "nowhere.yaml")
    assert done.returncode == BAD_CONFIGURATION
    assert done.stderr.startswith("nowhere.yaml: cannot be opened: No such file")


def test_a_good_file(command, tmp_path):
    (tmp_path / "good.yaml").write_text('inbound: {listen: ":0", app: "127.0.0.1:9898"}\n')
    done = command("check", "-c", "good.yaml")
    assert (done.returncode, done.stdout, done.stderr) == (OK, "good.yaml: ok\n", "")


def test_print_tells_where_values_come_from_and_can_be_used_again(command, tmp_path):
    (tmp_path / "good.yaml").write_text('inbound: {listen: ":8000", app: "127.0.0.1:9898"}\n'
                                        "log: {level: debug, access: off}\n")
    env = {"HOPLITE_LOG_ACCESS": "errors", "HOPLITE_WORKERS": "3"}
    done = command("check", "-c", "good.yaml", "--print", "--workers", "4", env=env)
    assert done.returncode == OK
    for line in (r"workers: 4 +# --workers", r" +access: errors +# HOPLITE_LOG_ACCESS",
                 r" +level: debug +# good.yaml:2:\d+", r" +idle: 75s +# default"):
        assert re.search(f"^{line}$", done.stdout, re.MULTILINE), line
    (tmp_path / "printed.yaml").write_text(done.stdout)
    again = command("check", "-c", "printed.yaml", "--print")
    assert again.returncode == OK

    def without_origins(text):
        return [line.split("#")[0].rstrip() for line in text.splitlines()]

    assert without_origins(again.stdout) == without_origins(done.stdout)


def test_the_reference_names_keys(command):
    done = command("check", "--reference")
    assert done.returncode == OK
    assert "| `timeouts.header` | `10s` |" in done.stdout


# --- certs ----------------------------------------------------------------------------------------


def test_certificates_are_what_openssl_takes_for_good(command, tmp_path):
    assert command("certs", "init", "--dir", "ca", "--trust-domain", "example.org").returncode == OK
    done = command("certs", "issue", "--dir", "ca", "--namespace", "shop", "--service-account",
                   "web", "--dns", "web.example.org")
    assert done.returncode == OK
    assert "spiffe://example.org/ns/shop/sa/web" in done.stdout
    for name in ("ca-key.pem", "web-key.pem"):
        assert stat.S_IMODE((tmp_path / "ca" / name).stat().st_mode) == 0o600
    verified = subprocess.run(
        ["openssl", "verify", "-x509_strict", "-CAfile", "ca/ca.pem", "ca/web.pem"], cwd=tmp_path,
        text=True, capture_output=True, timeout=seconds())
    assert verified.stdout == "ca/web.pem: OK\n", verified.stderr
    text = subprocess.run(["openssl", "x509", "-in", "ca/web.pem", "-noout", "-text"], cwd=tmp_path,
                          text=True, capture_output=True, timeout=seconds()).stdout
    assert "URI:spiffe://example.org/ns/shop/sa/web" in text
    assert "DNS:web.example.org" in text
    assert "NIST CURVE: P-256" in text

    # The configuration that `issue` prints as the next step is a good one.
    section = re.search(r"^ *mtls: .*$", done.stdout, re.MULTILINE).group(0).strip()
    (tmp_path / "next.yaml").write_text(f'inbound: {{listen: ":0", app: ":9898"}}\n{section}\n')
    checked = command("check", "-c", "next.yaml")
    assert checked.returncode == OK, checked.stderr


def test_certificates_are_not_overwritten_unasked(command, tmp_path):
    command("certs", "init", "--dir", ".")
    before = (tmp_path / "ca.pem").read_bytes()
    done = command("certs", "init", "--dir", ".")
    assert done.returncode == FAILURE
    assert "--force" in done.stderr
    assert (tmp_path / "ca.pem").read_bytes() == before


def test_issue_without_a_ca_says_how_to_make_one(command):
    done = command("certs", "issue", "--dir", "none")
    assert done.returncode == FAILURE
    assert "`hoplite certs init --dir none` makes a CA" in done.stderr


# --- run ------------------------------------------------------------------------------------------


def test_in_front_of_a_service(world):
    """No file: a few lines tell all there is to know."""
    app = world.service()
    sidecar = world.hoplite(arguments=["--from", "127.0.0.1:0", "--to", app.address,
                                       "--stats-listen", "127.0.0.1:0"])
    lines = sidecar.stdout
    assert re.fullmatch(r"listening inbound 127\.0\.0\.1:\d+", lines[0])
    assert re.fullmatch(r"stats http://127\.0\.0\.1:\d+/stats/prometheus", lines[1])
    assert re.fullmatch(r"ready in \d+ ms", lines[2])
    answer = world.client(sidecar.inbound).request(host="anything")
    assert answer.status == 200
    sidecar.wait_total("istio_requests_total", 1, reporter="destination")


def test_a_bare_port_is_both_loopback_addresses(world):
    app = world.service()
    sidecar = world.hoplite(arguments=["--from", ":0", "--to", app.address, "--stats-listen",
                                       "127.0.0.1:0"])
    found = dict(sidecar.addresses("inbound"))
    if socket.has_ipv6 and os.path.exists("/proc/net/if_inet6"):
        assert set(found) == {"127.0.0.1", "::1"}
    for host, port in found.items():
        assert world.client(port, host).request(host="anything").status == 200


def test_a_port_in_use_names_its_holder(command, held_port):
    done = command("--from", f"127.0.0.1:{held_port}", "--to", "127.0.0.1:9", "--stats-listen",
                   "127.0.0.1:0")
    assert done.returncode == FAILURE
    assert "ready" not in done.stdout
    assert f"127.0.0.1:{held_port}" in done.stderr
    assert f"(pid {os.getpid()}) holds port {held_port}" in done.stderr
    assert f"kill {os.getpid()}" in done.stderr


def test_a_second_hoplite_is_an_error_too(world, command):
    app = world.service()
    first = world.hoplite(inbound_config(app.address))
    done = command("--from", f"127.0.0.1:{first.inbound}", "--to", app.address, "--stats-listen",
                   "127.0.0.1:0")
    assert done.returncode == FAILURE
    assert f"hoplite (pid {first.pid}) holds port {first.inbound}" in done.stderr


def test_the_limit_on_descriptors_is_raised(world):
    app = world.service()
    sidecar = world.hoplite(inbound_config(app.address))
    with open(f"/proc/{sidecar.pid}/limits") as limits:
        line = next(line for line in limits if line.startswith("Max open files"))
    soft, hard = line.split()[3:5]
    assert soft == hard


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_well_on(world, number):
    app = world.service()
    sidecar = world.hoplite(inbound_config(app.address))
    sidecar.signal(number)
    assert sidecar.wait() == OK


def test_signals_are_the_main_thread_s(world):
    """The others never get one, so that none is lost or does harm while they come and go."""
    sidecar = world.hoplite(inbound_config("127.0.0.1:1", workers=2))
    ours = {signal.SIGHUP, signal.SIGINT, signal.SIGTERM}

    def blocked(thread):
        with open(f"/proc/{sidecar.pid}/task/{thread}/status") as status:
            mask = next(line for line in status if line.startswith("SigBlk:"))
        return {number for number in ours if int(mask.split()[1], 16) >> (number - 1) & 1}

    threads = set(os.listdir(f"/proc/{sidecar.pid}/task"))
    assert len(threads) >= 4  # the access log's and two workers
    poll_until(lambda: blocked(sidecar.pid) == set(), "the main thread to listen")
    for thread in threads - {str(sidecar.pid)}:
        assert blocked(thread) == ours
