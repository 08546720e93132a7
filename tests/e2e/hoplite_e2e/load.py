"""Constant load: many keep-alive clients, each request judged. Not a benchmark."""

import threading

from .deadline import seconds
from .raw import Closed, RawClient


class Load:
    """`clients` threads that send one request after another until stopped.

    `answers` counts statuses. `lost` has every request that was sent and not answered whole;
    `refused` counts connects that failed. A client whose connection ends between two answers opens
    another one; a request that meets such an end before any byte of its answer is lost.
    """

    def __init__(self, port, clients=8, host="localhost", target="/version", method="GET"):
        self.answers = {}
        self.lost = []
        self.refused = 0
        self._request = (method, target, host)
        self._port = port
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._started = threading.Semaphore(0)
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(clients)]
        for thread in self._threads:
            thread.start()
        for _ in self._threads:
            assert self._started.acquire(timeout=seconds()), "the load does not get under way"

    def total(self):
        with self._lock:
            return sum(self.answers.values())

    def stop(self):
        self._stop.set()
        for thread in self._threads:
            thread.join(seconds())
            assert not thread.is_alive(), "a client of the load hangs"

    def _run(self):
        client = None
        told = False
        method, target, host = self._request
        while not self._stop.is_set():
            try:
                if client is None:
                    client = RawClient(self._port)
            except OSError:
                with self._lock:
                    self.refused += 1
                self._stop.wait(0.01)
                continue
            try:
                answer = client.request(method, target, host=host)
                with self._lock:
                    self.answers[answer.status] = self.answers.get(answer.status, 0) + 1
                    if not answer.complete:
                        self.lost.append(f"cut: {answer.status}")
            except (Closed, OSError) as lost:
                with self._lock:
                    self.lost.append(str(lost))
                client.close()
                client = None
                continue
            if not told:
                told = True
                self._started.release()
            if answer.header("connection") == "close":
                client.close()
                client = None
        if client is not None:
            client.close()
