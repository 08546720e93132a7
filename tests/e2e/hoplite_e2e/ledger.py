"""What every request leaves behind: one series, and books that balance. Not which labels it has."""

from .deadline import poll_until


def check_ledger(metrics):
    """started = completed + in flight, and completed = the sum of istio_requests_total."""
    started = metrics.total("hoplite_requests_started_total")
    completed = metrics.total("hoplite_requests_completed_total")
    in_flight = metrics.total("hoplite_requests_in_flight")
    counted = metrics.total("istio_requests_total")
    expired = metrics.total("hoplite_requests_expired_total")
    assert (started, completed) == (completed + in_flight, counted + expired), (
        f"started {started}, completed {completed}, in flight {in_flight}, counted {counted}")


def wait_idle(sidecar):
    """The metrics once no request is in flight any more."""
    last = None

    def idle():
        nonlocal last
        last = sidecar.metrics()
        check_ledger(last)
        return last.total("hoplite_requests_in_flight") == 0

    poll_until(idle, lambda: "nothing in flight; it is\n" + last.text("hoplite_requests_in_flight"))
    return last


def ends(metrics):
    """{(response_code, response_flags): requests} over all series."""
    found = {}
    for labels, value in metrics.series("istio_requests_total"):
        key = (labels["response_code"], labels["response_flags"])
        found[key] = found.get(key, 0) + value
    return found


def expect_ends(sidecar, wanted):
    """Waits for exactly these ends of requests: {("503", "UF"): 2}. The metrics then."""
    metrics = sidecar.wait_total("istio_requests_total", sum(wanted.values()))
    check_ledger(metrics)
    assert metrics.total("hoplite_requests_in_flight") == 0
    assert ends(metrics) == wanted
    return metrics


def expect_local_reply(answer, status):
    """An answer the proxy made itself: complete, short, with a request id."""
    assert answer.status == status, (answer.status, answer.body)
    assert answer.complete
    assert 1 < len(answer.body) <= 200 and answer.body.endswith(b"\n")
    assert answer.header("content-type") == "text/plain"
    assert len(answer.header("x-request-id")) == 36
