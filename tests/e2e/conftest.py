"""Fixtures and options of the end-to-end tests. What they are made of is in hoplite_e2e/."""

import pathlib
import sys

import pytest

from hoplite_e2e import deadline
from hoplite_e2e.world import World

ROOT = pathlib.Path(__file__).resolve().parents[2]


def pytest_addoption(parser):
    parser.addoption("--build-dir", default=ROOT / "build" / "release", type=pathlib.Path,
                     help="the build to test, for example build/asan (default build/release)")


def pytest_configure(config):
    sys.dont_write_bytecode = True
    config.addinivalue_line("markers", "long: takes minutes; only with tests/run.sh --long")
    cache = config.getoption("--build-dir") / "CMakeCache.txt"
    if cache.exists() and "HOPLITE_SANITIZE:STRING=\n" not in cache.read_text():
        deadline.stretch(4.0)


@pytest.fixture(scope="session")
def build_dir(request):
    return request.config.getoption("--build-dir").resolve()


@pytest.fixture(scope="session")
def sanitized():
    """True for a sanitizer build, where loads are made smaller."""
    return deadline.seconds(1) > 1


@pytest.fixture
def world(request, build_dir, tmp_path):
    binary = build_dir / "hoplite"
    service = build_dir / "tests" / "support" / "test_service"
    made = World(binary, service, tmp_path)
    request.node.world = made
    yield made
    faults = made.close()
    if faults:
        pytest.fail("\n".join(faults), pytrace=False)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Shows what the processes of a failed test printed."""
    report = (yield).get_result()
    made = getattr(item, "world", None)
    if report.failed and made is not None:
        for process in made.processes:
            report.sections.append((f"{process.name}, pid {process.pid}", process.output()))
