"""Judges an end-to-end run that ended with failures: again.py REPORT COMMAND...

A test that waits on an event can still lose against a machine that stops for seconds. So when one or
two of the thousands of tests failed, each is run alone by COMMAND (pytest; the test's name is added)
and has to pass three times in a row: then it counts as unstable, which the last line of the run
says, and the report keeps how it failed. Nothing is forgiven that a retry can't judge: a crash, a
leak, a process that does not end or a sanitizer's word is an error of the fixture, not a failure,
and stays; so do three failures or more. Envoy's integration tests are run by the same rule
(bazel's --flaky_test_attempts), but pass on one success. Exits 0 when nothing but unstable is left.
"""

import subprocess
import sys
import xml.etree.ElementTree

MOST = 2
TIMES = 3


def name_of(case):
    return f"{case.get('classname').replace('.', '/')}.py::{case.get('name')}"


def passes(command, name):
    for attempt in range(1, TIMES + 1):
        print(f"again, alone, {attempt} of {TIMES}: {name}", flush=True)
        done = subprocess.run([*command, name], check=False, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)
        if done.returncode != 0:
            print(done.stdout)
            return False
    return True


def main(report, *command):
    try:
        tree = xml.etree.ElementTree.parse(report)
    except (OSError, xml.etree.ElementTree.ParseError) as error:
        print(f"{report}: {error}")
        return 1
    cases = list(tree.iter("testcase"))
    failed = [case for case in cases if case.find("failure") is not None]
    errors = [case for case in cases if case.find("error") is not None]
    if errors or not 0 < len(failed) <= MOST:
        return 1
    if not all(passes(command, name_of(case)) for case in failed):
        return 1
    for case in failed:
        case.find("failure").tag = "unstable"
        print(f"UNSTABLE {name_of(case)}: failed once, then passed {TIMES} times alone")
    tree.write(report)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
