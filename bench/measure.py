"""What a load costs: the CPU time and memory of processes, their syscalls. Not the load."""

import pathlib
import re
import shutil
import signal
import subprocess
import tempfile


def with_children(pids):
    """These processes and all below them, now."""
    found = list(pids)
    for pid in found:
        for children in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
            found += [int(child) for child in children.read_text().split()]
    return found


def cpu_us(pids):
    """Microseconds of CPU that the threads of these processes have used so far, in user and kernel."""
    total = 0
    for pid in pids:
        for schedule in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat"):
            total += int(schedule.read_text().split()[0])
    return total / 1000


def rss_kib(pids):
    total = 0
    for pid in pids:
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        total += int(re.search(r"^VmRSS:\s+(\d+)", status, re.M).group(1))
    return total


def measure(contender, load, host, seconds, cpus):
    """One round for one contender."""
    load.run(contender.address, host, 1, cpus)  # connections opened, caches warm
    pids = with_children(contender.pids)
    before = cpu_us(pids)
    result = load.run(contender.address, host, seconds, cpus)
    result["cpu_us_per_request"] = (cpu_us(pids) - before) / result["requests"]
    result["proxy_cpu_share"] = (cpu_us(pids) - before) / (seconds * 1e6)
    result["rss_kib"] = rss_kib(pids)
    return load.latencies(result, contender.address, host, cpus)


def syscalls_per_request(contender, load, host, cpus):
    """Counted by perf where the kernel lets it, else by strace, which slows what it counts."""
    pids = with_children(contender.pids)
    if not pids:
        return None
    listed = ",".join(map(str, pids))
    count = "perf" if perf_works() else "strace"
    with tempfile.NamedTemporaryFile("r") as out:
        if count == "perf":
            command = ["perf", "stat", "-x", ";", "-e", "raw_syscalls:sys_enter", "-p", listed,
                       "-o", out.name]
        else:
            command = ["strace", "-c", "-f", "-o", out.name,
                       *(word for pid in pids for word in ("-p", str(pid)))]
        counter = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        done = load.run(contender.address, host, 2, cpus)
        counter.send_signal(signal.SIGINT)
        counter.wait()
        text = out.read()
    found = (re.search(r"^(\d+);", text, re.M) if count == "perf"
             else re.search(r"^100\.00\s+\S+\s+\S+\s+(\d+)", text, re.M))
    return int(found.group(1)) / done["requests"] if found else None


def perf_works():
    if shutil.which("perf") is None:
        return False
    probe = subprocess.run(["perf", "stat", "-x", ";", "-e", "raw_syscalls:sys_enter", "true"],
                           capture_output=True, text=True)
    return probe.returncode == 0 and re.search(r"^\d+;", probe.stderr, re.M) is not None
