"""What tests/again.py forgives and what it does not, with a run of pytest of its own."""

import pathlib
import subprocess
import sys

import pytest

TESTS = pathlib.Path(__file__).resolve().parents[1]

PASSES = "def test_passes(): pass\n"
FAILS = "def test_fails(): assert False\n"
FAILS_ONCE = """
def test_fails_once(request):
    seen = pathlib.Path(__file__).with_name(request.node.name)
    before = len(seen.read_text()) if seen.exists() else 0
    seen.write_text("x" * (before + 1))
    assert before != 0, "the first time"
"""
FAILS_TWICE = FAILS_ONCE.replace("before != 0", "before not in (0, 2)")
LEAVES_A_FAULT = """
@pytest.fixture
def world():
    yield
    pytest.fail("WARNING: ThreadSanitizer", pytrace=False)
def test_leaves_a_fault(world): pass
"""


def run(folder, source):
    """(exit code of again.py, what it printed, the last line of summary.py)."""
    (folder / "test_it.py").write_text("import pathlib, pytest\n" + source)
    (folder / "pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider\n")
    pytest_command = [sys.executable, "-B", "-m", "pytest", "-q", "--basetemp", folder / "tmp"]
    report = folder / "report.xml"
    subprocess.run([*pytest_command, "--junitxml", report], cwd=folder, check=False,
                   stdout=subprocess.DEVNULL)
    judged = subprocess.run([sys.executable, "-B", TESTS / "again.py", report, *pytest_command],
                            cwd=folder, check=False, capture_output=True, text=True)
    total = subprocess.run([sys.executable, "-B", TESTS / "summary.py", report],
                           check=False, capture_output=True, text=True)
    assert (judged.returncode == 0) == (total.returncode == 0)
    return judged.returncode, judged.stdout, total.stdout.strip()


def test_once_among_others_is_unstable(tmp_path):
    code, said, total = run(tmp_path, PASSES + FAILS_ONCE)
    assert (code, total) == (0, "1 passed, 0 failed, 1 unstable")
    assert "UNSTABLE test_it.py::test_fails_once" in said
    assert "the first time" in (tmp_path / "report.xml").read_text()


@pytest.mark.parametrize("source, total", [
    (PASSES + FAILS, "1 passed, 1 failed"),
    (PASSES + FAILS_TWICE, "1 passed, 1 failed"),
    (PASSES + LEAVES_A_FAULT, "1 passed, 1 failed"),
    (FAILS_ONCE + LEAVES_A_FAULT, "0 passed, 2 failed"),
    ("".join(FAILS_ONCE.replace("once", f"once_{n}") for n in range(3)), "0 passed, 3 failed"),
], ids=["always", "two of three", "fault", "fault beside", "three"])
def test_the_rest_stays_failed(tmp_path, source, total):
    code, _, said = run(tmp_path, source)
    assert (code, said) == (1, total)
