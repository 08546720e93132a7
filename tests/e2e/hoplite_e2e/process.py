"""Child processes: started, waited for by what they print, stopped, and judged. Not their meaning."""

import os
import pathlib
import re
import resource
import signal
import subprocess
import threading

from .deadline import Deadline, seconds

_SANITIZER = re.compile(
    r"ERROR: AddressSanitizer|ERROR: LeakSanitizer|WARNING: ThreadSanitizer"
    r"|runtime error:|AddressSanitizer:DEADLYSIGNAL"
)

_SUPPRESSIONS = pathlib.Path(__file__).resolve().parents[2] / "support" / "tsan.supp"


def _tsan_options():
    return ":".join(filter(None, (os.environ.get("TSAN_OPTIONS"), f"suppressions={_SUPPRESSIONS}")))


class Process:
    """One child. Its output is read as it comes, line by line, so it can never block on a pipe."""

    def __init__(self, argv, name, env=None, cwd=None):
        self.name = name
        self.argv = [str(a) for a in argv]
        assert os.access(self.argv[0], os.X_OK), f"{self.argv[0]} is not there: build it first"
        self._lines = {"stdout": [], "stderr": []}
        self._ended = set()
        self._news = threading.Condition()
        # Its own process group, so that nothing of it outlives the test.
        self._child = subprocess.Popen(
            self.argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "TSAN_OPTIONS": _tsan_options(), **(env or {})},
            cwd=cwd,
            start_new_session=True,
        )
        self._readers = [
            threading.Thread(target=self._read, args=(which,), daemon=True)
            for which in ("stdout", "stderr")
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, which):
        for raw in getattr(self._child, which):
            with self._news:
                self._lines[which].append(raw.decode("utf-8", "replace").rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._ended.add(which)
            self._news.notify_all()

    @property
    def pid(self):
        return self._child.pid

    @property
    def stdout(self):
        with self._news:
            return list(self._lines["stdout"])

    @property
    def stderr(self):
        with self._news:
            return list(self._lines["stderr"])

    def running(self):
        return self._child.poll() is None

    def wait_line(self, pattern, which="stdout", wanted=10.0):
        """The match of the first line, past or future, in which `pattern` is found."""
        deadline = Deadline(wanted)
        seen = 0
        with self._news:
            while True:
                lines = self._lines[which]
                while seen < len(lines):
                    match = re.search(pattern, lines[seen])
                    seen += 1
                    if match:
                        return match
                if which in self._ended:
                    raise AssertionError(f"{self.name} ended without printing {pattern!r}")
                if not self._news.wait(deadline.left()) and deadline.passed():
                    raise AssertionError(f"{self.name} did not print {pattern!r} within "
                                         f"{seconds(wanted):g} s")

    def signal(self, number):
        self._child.send_signal(number)

    def open_files(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def limit_files(self, spare):
        """It may open so many more. The limits before, for resource.prlimit."""
        before = resource.prlimit(self.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (self.open_files() + spare, before[1]))
        return before

    def wait(self, wanted=10.0):
        """The exit code, once it is known and all output has been read."""
        code = self._child.wait(seconds(wanted))
        for reader in self._readers:
            reader.join(seconds(wanted))
        return code

    def stop(self, wanted=15.0):
        """SIGTERM, and SIGKILL when that is not obeyed in time. The exit code, or None if killed."""
        if self.running():
            self.signal(signal.SIGTERM)
        try:
            return self.wait(wanted)
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    def kill(self):
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.wait()

    def sanitizer_reports(self):
        return [line for line in self.stderr if _SANITIZER.search(line)]

    def output(self):
        """All it printed, for the report of a failed test."""
        parts = [f"$ {' '.join(self.argv)}"]
        for which in ("stdout", "stderr"):
            lines = self._lines[which]
            shown = lines if len(lines) <= 200 else lines[:100] + ["..."] + lines[-100:]
            parts += [f"--- {which}", *shown]
        parts.append(f"--- exit code {self._child.poll()}")
        return "\n".join(parts)
