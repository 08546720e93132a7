"""How long tests wait for what must happen. Not for sleeping: nothing here waits for time to pass."""

import select
import time

#: Seconds on a machine that has nothing else to do.
DEFAULT_SECONDS = 10.0
#: A busy machine takes as many times as long; conftest.py raises it for sanitizer builds. It costs
#: nothing where all is well: everything waited for has happened long before.
_stretch = 6.0


def stretch(factor):
    global _stretch
    _stretch = factor


def seconds(wanted=DEFAULT_SECONDS):
    return wanted * _stretch


def ready(readers, writers, wanted):
    """Which of these sockets can be read, and which written, within `wanted` seconds.

    As select.select, which knows no descriptors above 1023.
    """
    poll = select.poll()
    events = {}
    for socket in readers:
        events[socket.fileno()] = select.POLLIN
    for socket in writers:
        events[socket.fileno()] = events.get(socket.fileno(), 0) | select.POLLOUT
    for number, wish in events.items():
        poll.register(number, wish)
    gone = select.POLLHUP | select.POLLERR
    found = dict(poll.poll(wanted * 1000))
    return ([s for s in readers if found.get(s.fileno(), 0) & (select.POLLIN | gone)],
            [s for s in writers if found.get(s.fileno(), 0) & (select.POLLOUT | gone)])


class Deadline:
    """A point in time by which something has to have happened."""

    def __init__(self, wanted=DEFAULT_SECONDS):
        self._end = time.monotonic() + seconds(wanted)

    def left(self):
        return max(0.0, self._end - time.monotonic())

    def passed(self):
        return self.left() == 0.0


def poll_until(ask, what, wanted=DEFAULT_SECONDS):
    """Calls `ask` until it returns something true, and returns that.

    Where there is nothing to wait on (a counter behind HTTP, a file) it asks again every few
    milliseconds. `what` says in the failure what did not happen; when it is callable, its result.
    """
    deadline = Deadline(wanted)
    while True:
        answer = ask()
        if answer:
            return answer
        if deadline.passed():
            raise AssertionError(f"not within {seconds(wanted):g} s: "
                                 f"{what() if callable(what) else what}")
        select.select([], [], [], 0.005)
