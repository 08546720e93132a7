"""What a large body, a slow reader, an idle connection and one request cost a proxy.

The companion of main.py, which measures rates: here nothing runs against the clock.
"""

import argparse
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time

import contenders
import main as rates
import measure

BULK = 10 * 1024 * 1024
BULK_TIMES = 20
SLOW = 1024 * 1024 * 1024
IDLE = 5000
IDLE_TLS = 1000
REQUESTS = 1000
HEAD = f"Host: {contenders.HOST}\r\nUser-Agent: bench\r\nAccept: */*\r\n"
GET = f"GET /version HTTP/1.1\r\n{HEAD}\r\n".encode()


def connect(address, tls=None):
    host, port = address.rsplit(":", 1)
    plain = socket.create_connection((host, int(port)), 60)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return tls.wrap_socket(plain, server_hostname=contenders.HOST) if tls else plain


def mutual(folder):
    """A client's TLS with the benchmark's certificates, as a sidecar would offer it."""
    context = ssl.create_default_context(cafile=folder / "ca.pem")
    context.load_cert_chain(folder / "client.pem", folder / "client-key.pem")
    context.set_alpn_protocols(["istio-http/1.1", "istio", "http/1.1"])
    return context


def read_answer(connection):
    """Reads one answer with a Content-Length; its body is thrown away."""
    buffer = bytearray(1 << 20)
    head = b""
    while b"\r\n\r\n" not in head:
        got = connection.recv_into(buffer)
        if got == 0:
            raise SystemExit("a connection was closed instead of answered")
        head += buffer[:got]
    head, body = head.split(b"\r\n\r\n", 1)
    if not head.startswith(b"HTTP/1.1 200 "):
        raise SystemExit(f"a wrong answer: {head.decode()}")
    left = int(re.search(rb"(?i)\r\ncontent-length: (\d+)", head).group(1)) - len(body)
    while left > 0:
        got = connection.recv_into(buffer)
        if got == 0:
            raise SystemExit("an answer was cut")
        left -= got


def bulk(address, pids, upload):
    """Microseconds of CPU for each MiB of a large body."""
    body = bytes(BULK) if upload else b""
    head = (f"POST /version HTTP/1.1\r\n{HEAD}Content-Length: {BULK}\r\n\r\n" if upload
            else f"GET /bytes/{BULK} HTTP/1.1\r\n{HEAD}\r\n").encode()
    with connect(address) as connection:
        for turn in range(BULK_TIMES + 2):
            if turn == 2:  # the first ones warm up
                before = measure.cpu_us(pids)
            connection.sendall(head + body)
            read_answer(connection)
    return (measure.cpu_us(pids) - before) / (BULK_TIMES * BULK / 2**20)


def settled_rss(pids):
    """RSS once it stays the same for a second."""
    last = -1
    for _ in range(30):
        now = measure.rss_kib(pids)
        if now == last:
            break
        last = now
        time.sleep(1)
    return last


def slow_reader(address, pids):
    """KiB that a response of 1 GiB costs while nobody reads it."""
    before = settled_rss(pids)
    with connect(address) as connection:
        connection.sendall(f"GET /bytes/{SLOW} HTTP/1.1\r\n{HEAD}\r\n".encode())
        return settled_rss(pids) - before


def idle(address, pids, count, tls=None):
    """Bytes of RSS for each of `count` connections that have had one request."""
    held = []
    try:
        for _ in range(count // 10):  # what the first ones make grow is not counted
            held.append(connect(address, tls))
            held[-1].sendall(GET)
            read_answer(held[-1])
        before = settled_rss(pids)
        for _ in range(count):
            held.append(connect(address, tls))
            held[-1].sendall(GET)
            read_answer(held[-1])
        return (settled_rss(pids) - before) * 1024 / count
    finally:
        for connection in held:
            connection.close()


class Counted(contenders.Bench):
    """Starts proxies under callgrind, which counts from when it is told to."""

    def start(self, name, argv, is_proxy=True):
        if is_proxy:
            argv = ["valgrind", "--tool=callgrind", "--instr-atstart=no",
                    f"--callgrind-out-file={self.folder}/{name}.callgrind", *argv]
        return super().start(name, argv, is_proxy)


def allocations(profile):
    """Calls of the allocator that a callgrind profile counted."""
    allocators = set()
    count = 0
    called = False
    for line in profile.splitlines():
        if line.startswith(("fn=", "cfn=")):
            number, _, name = line.partition("=")[2].partition(" ")
            if re.fullmatch(r"(malloc|calloc|realloc|memalign)('\d+)?", name):
                allocators.add(number)
            called = line.startswith("cfn=") and number in allocators
        elif called and line.startswith("calls="):
            count += int(line[len("calls="):].split()[0])
    return count


def user_space(bench, name, app):
    """Instructions and allocations for each request, of each process of `name`."""
    contender = contenders.Contender(bench, name, app)
    with connect(contender.address) as connection:
        def load():
            for _ in range(REQUESTS):
                connection.sendall(GET)
                read_answer(connection)
        load()
        for switch in ("on", "off"):
            for pid in contender.pids:
                subprocess.run(["callgrind_control", "-i", switch, str(pid)], check=True,
                               capture_output=True)
            if switch == "on":
                load()
    for pid in contender.pids:
        os.kill(pid, signal.SIGTERM)
    for process in bench.processes:
        if process.pid in contender.pids:
            process.wait(60)
    counts = {"instructions": [], "allocations": []}
    for path in sorted(bench.folder.glob(f"{name}*.callgrind")):
        profile = path.read_text()
        total = int(re.search(r"^totals: (\d+)", profile, re.M).group(1))
        counts["instructions"].append(total / REQUESTS)
        counts["allocations"].append(allocations(profile) / REQUESTS)
    return counts


def run(build, names, folder):
    proxy_cpus, other_cpus = rates.split_cpus()
    bench = contenders.Bench(build, folder, proxy_cpus, other_cpus)
    results = {}
    try:
        app = contenders.service(bench)
        for name in names:
            print(name, flush=True)
            contender = contenders.Contender(bench, name, app)
            pids = measure.with_children(contender.pids)
            results[name] = {
                "idle_bytes": idle(contender.address, pids, IDLE),
                "slow_reader_kib": slow_reader(contender.address, pids),
                "download_us_per_mib": bulk(contender.address, pids, False),
                "upload_us_per_mib": bulk(contender.address, pids, True),
            }
        if "hoplite-pair" in names:
            address = contenders.free_address()
            pid = contenders.hoplite(bench, "hoplite-tls", address, app, "accept")
            contenders.await_port(address)
            results["hoplite-pair"]["idle_tls_bytes"] = idle(address, [pid], IDLE_TLS,
                                                             mutual(folder))
    finally:
        bench.stop()
    if shutil.which("valgrind"):
        counted = Counted(build, folder, proxy_cpus, other_cpus)
        try:
            app = contenders.service(counted)
            for name in (n for n in names if n.startswith("hoplite")):
                results[name] |= user_space(counted, name, app)
        finally:
            counted.stop()
    return results


def table(results):
    lines = ["| | CPU µs/MiB down | up | KiB for an unread GiB | bytes/idle connection "
             "| with TLS | instructions/request | allocations/request |",
             "|---|---:|---:|---:|---:|---:|---:|---:|"]
    for name, each in results.items():
        instructions = " + ".join(f"{count:,.0f}" for count in each.get("instructions", []))
        made = " + ".join(f"{count:.1f}" for count in each.get("allocations", []))
        tls = each.get("idle_tls_bytes")
        lines.append(f"| {name} | {each['download_us_per_mib']:.0f} "
                     f"| {each['upload_us_per_mib']:.0f} | {each['slow_reader_kib']} "
                     f"| {each['idle_bytes']:,.0f} | {f'{tls:,.0f}' if tls else ''} "
                     f"| {instructions} | {made} |")
    return lines


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # stops what was started, too
    parser = argparse.ArgumentParser()
    parser.add_argument("--build-dir", type=lambda path: pathlib.Path(path).resolve(), required=True)
    parser.add_argument("--only", type=lambda text: text.split(","),
                        default=contenders.names()[1:])
    arguments = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory(prefix="hoplite-costs.") as folder:
        results = run(arguments.build_dir, arguments.only, pathlib.Path(folder))
    kept = pathlib.Path(__file__).resolve().parents[1] / "build" / "bench"
    kept.mkdir(parents=True, exist_ok=True)
    path = kept / "costs.json"
    path.write_text(json.dumps(results, indent=1) + "\n")
    print()
    print("\n".join(table(results)))
    print(path)


if __name__ == "__main__":
    main()
