"""The numbers of a run as a table, with their spread. Not their interpretation."""

import statistics


def median(rounds, key):
    return statistics.median(r[key] for r in rounds)


def spread(rounds, key):
    """How far the rounds lie apart, as a share of their median."""
    values = [r[key] for r in rounds]
    middle = statistics.median(values)
    return (max(values) - min(values)) / middle if middle else 0.0


def table(results):
    """Lines of a Markdown table. CPU counts all processes of the proxy, both of a pair."""
    lines = [
        "| | CPU µs/request | best | ± | ratio to floor | requests/s | p50 µs | p99 µs | RSS MiB "
        "| syscalls/request |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    by_name = {c["name"]: c for c in results["contenders"]}
    for contender in results["contenders"]:
        rounds = contender["rounds"]
        cells = [contender["name"]]
        if contender["name"] == "direct":
            cells += ["", "", "", ""]
        else:
            cpu = median(rounds, "cpu_us_per_request")
            floor = by_name.get(contender["floor"])
            ratio = cpu / median(floor["rounds"], "cpu_us_per_request") if floor else None
            best = min(r["cpu_us_per_request"] for r in rounds)
            cells += [f"{cpu:.1f}", f"{best:.1f}", f"{spread(rounds, 'cpu_us_per_request') / 2:.0%}",
                      f"{ratio:.2f}" if ratio else ""]
        cells += [f"{median(rounds, 'requests_per_second'):,.0f}",
                  f"{median(rounds, 'p50_us'):.0f}", f"{median(rounds, 'p99_us'):.0f}"]
        syscalls = contender["syscalls_per_request"]
        cells += [f"{median(rounds, 'rss_kib') / 1024:.1f}" if contender["name"] != "direct" else "",
                  f"{syscalls:.2f}" if syscalls else ""]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def footer(results):
    machine = results["machine"]
    spreads = [spread(c["rounds"], "requests_per_second") for c in results["contenders"]]
    return (f"{results['date']}, {machine['cpu']} x {machine['cpus']}, Linux {machine['kernel']}; "
            f"{results['what']}, {results['rounds']} rounds of {results['seconds']} s; "
            f"proxies on CPU {results['proxy_cpus']}, clients and service on "
            f"{results['other_cpus']}; load average before the run {results['load_before']:.1f}. "
            f"Medians; within a row requests/s varied by up to "
            f"{max(spreads) / 2:.0%} either way.")
