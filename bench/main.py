"""Measures every contender in turn, several times over, and keeps and prints the result.

Not a judge: nothing here passes or fails but a proxy that answers wrongly.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import signal
import sys
import tempfile

import contenders
import loads
import measure
import report


def machine():
    cpu = re.search(r"^model name\s*:\s*(.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    return {"cpu": cpu.group(1) if cpu else platform.machine(), "cpus": os.cpu_count(),
            "kernel": platform.release()}


def split_cpus():
    """(the proxies' CPUs, everyone else's): one for the proxies, so that CPU is what limits them."""
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) == 1:
        return str(cpus[0]), str(cpus[0])
    return str(cpus[-1]), ",".join(map(str, cpus[:-1]))


def run(arguments, folder):
    load = loads.LOADS[arguments.load]
    proxy_cpus, other_cpus = split_cpus()
    bench = contenders.Bench(arguments.build_dir, folder, proxy_cpus, other_cpus)
    results = {"date": datetime.datetime.now().isoformat(timespec="minutes"), "machine": machine(),
               "load_before": os.getloadavg()[0],
               "rounds": arguments.rounds, "seconds": arguments.seconds,
               "load": arguments.load, "what": load.describe(), "proxy_cpus": proxy_cpus, "other_cpus": other_cpus}
    try:
        app = contenders.service(bench, load.http2)
        field = [contenders.Contender(bench, name, app, load) for name in arguments.only]
        rounds = {c.name: [] for c in field}
        for number in range(arguments.rounds):
            turn = number % len(field)
            for contender in field[turn:] + field[:turn]:  # nobody is always first
                print(f"round {number + 1}: {contender.name}", flush=True)
                rounds[contender.name].append(measure.measure(
                    contender, load, contenders.HOST, arguments.seconds, other_cpus))
        results["contenders"] = [
            {"name": c.name, "floor": c.floor, "rounds": rounds[c.name],
             "syscalls_per_request": measure.syscalls_per_request(
                 c, load, contenders.HOST, other_cpus)} for c in field]
    finally:
        bench.stop()
    return results


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # stops what was started, too
    parser = argparse.ArgumentParser()
    parser.add_argument("--build-dir", type=lambda path: pathlib.Path(path).resolve(), required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--load", choices=loads.LOADS, default="http1")
    parser.add_argument("--only", type=lambda text: text.split(","))
    arguments = parser.parse_args()
    names = contenders.names(loads.LOADS[arguments.load].http2)
    arguments.only = arguments.only or names
    if unknown := [name for name in arguments.only if name not in names]:
        parser.error(f"{unknown[0]} is none of {', '.join(names)}")
    with tempfile.TemporaryDirectory(prefix="hoplite-bench.") as folder:
        results = run(arguments, pathlib.Path(folder))

    kept = pathlib.Path(__file__).resolve().parents[1] / "build" / "bench"
    kept.mkdir(parents=True, exist_ok=True)
    path = kept / f"results-{arguments.load}-{results['date'].replace(':', '')}.json"
    path.write_text(json.dumps(results, indent=1) + "\n")
    print()
    print("\n".join(report.table(results)))
    print(f"\n{report.footer(results)}\n{path}")


if __name__ == "__main__":
    main()
