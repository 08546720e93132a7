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
    if _is_sanitized(config):
        deadline.stretch(15.0)


def _is_sanitized(config):
    cache = config.getoption("--build-dir") / "CMakeCache.txt"
    return cache.exists() and "HOPLITE_SANITIZE:STRING=\n" not in cache.read_text()


@pytest.fixture(scope="session")
def build_dir(request):
    return request.config.getoption("--build-dir").resolve()


@pytest.fixture(scope="session")
def sanitized(request):
    """True for a sanitizer build, where loads are made smaller."""
    return _is_sanitized(request.config)


def _world(node, build_dir, folder):
    made = World(build_dir / "hoplite", build_dir / "tests" / "support" / "test_service", folder)
    node.world = made
    yield made
    faults = made.close()
    if faults:
        pytest.fail("\n".join(faults), pytrace=False)


@pytest.fixture
def world(request, build_dir, tmp_path):
    yield from _world(request.node, build_dir, tmp_path)


@pytest.fixture(scope="module")
def module_world(request, build_dir, tmp_path_factory):
    """A world that all tests of a file share, for tables of many short cases."""
    yield from _world(request.node, build_dir, tmp_path_factory.mktemp("world"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Shows what the processes of a failed test printed."""
    report = (yield).get_result()
    made = getattr(item, "world", None) or getattr(item.getparent(pytest.Module), "world", None)
    if report.failed and made is not None:
        for process in made.processes:
            report.sections.append((f"{process.name}, pid {process.pid}", process.output()))
