"""Adds up JUnit files of ctest and pytest and prints one line: N passed, N failed, with
", N skipped" and ", N unstable" (see again.py) when there were any.

A test program counts by its Catch2 test cases, or as one test when it prints no Catch2 summary. A
file that is missing counts as one failure, for its tests did not run. Exits 1 on any failure.
"""

import re
import sys
import xml.etree.ElementTree

ALL_PASSED = re.compile(r"^All tests passed \(.* in (\d+) test cases?\)", re.M)
SOME_FAILED = re.compile(r"^test cases:\s*(\d+)(.*)$", re.M)


def count_program(output, ok):
    """[passed, failed, skipped, unstable] of one ctest entry."""
    if match := ALL_PASSED.search(output):
        return int(match.group(1)), int(not ok), 0, 0
    if match := SOME_FAILED.search(output):
        parts = {word: int(number) for number, word in re.findall(r"(\d+) ([a-z]+)", match.group(2))}
        failed = parts.get("failed", 0) or int(not ok)
        return parts.get("passed", 0), failed, parts.get("skipped", 0), 0
    return int(ok), int(not ok), 0, 0


def count_case(case):
    skipped = case.find("skipped")
    if skipped is not None and not skipped.get("message", "").startswith("Unable to find"):
        return 0, 0, 1, 0  # else ctest calls a program that was never built skipped
    if case.find("unstable") is not None:
        return 0, 0, 0, 1
    ok = not any(case.find(what) is not None for what in ("failure", "error", "skipped"))
    return count_program(case.findtext("system-out") or "", ok)


def main(paths):
    totals = [0, 0, 0, 0]
    for path in paths:
        try:
            cases = list(xml.etree.ElementTree.parse(path).iter("testcase"))
        except (OSError, xml.etree.ElementTree.ParseError):
            totals[1] += 1
            continue
        for case in cases:
            totals = [a + b for a, b in zip(totals, count_case(case))]
    passed, failed, skipped, unstable = totals
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else "")
          + (f", {unstable} unstable" if unstable else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
