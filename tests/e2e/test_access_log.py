"""The access log: one line a request, whole, in the form and of the kind that was asked for."""

import json
import os
import re
import subprocess

import pytest

from hoplite_e2e.deadline import poll_until, seconds
from hoplite_e2e.load import Load
from hoplite_e2e.metrics import scrape
from hoplite_e2e.topology import HOST, Pair, inbound_config, outbound_config, podinfo_at

TRACE = "0af7651916cd43dd8448eb211c80319c"
ALL = {"access": "all"}


def lines(sidecar, count):
    """The first `count` access log lines, parsed; more would be a fault."""
    def found():
        return [line for line in sidecar.stdout if line.startswith('{"start"')]
    poll_until(lambda: len(found()) >= count, lambda: f"{count} lines; there are {len(found())}")
    assert len(found()) == count
    return [json.loads(line) for line in found()]


def test_the_fields_of_a_line(world):
    app = world.service()
    sidecar = world.hoplite(inbound_config(app.address, log=ALL))
    answer = world.client(sidecar.inbound).request(
        "POST", "/echo?x=1", host="web.example.com:81", body=b"hello",
        headers=[("traceparent", f"00-{TRACE}-b7ad6b7169203331-01"), ("x-request-id", "my-own-id")])
    assert answer.status == 200
    [line] = lines(sidecar, 1)
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["start"])
    wanted = {"reporter": "destination", "method": "POST", "path": "/echo?x=1",
              "authority": "web.example.com:81", "protocol": "HTTP/1.1", "code": 200, "flags": "-",
              "upstream_address": app.address, "trace_id": TRACE, "peer_principal": ""}
    assert {name: line[name] for name in wanted} == wanted
    assert line["request_id"] and re.fullmatch(r"[0-9a-zA-Z-]+", line["request_id"])
    metrics = sidecar.wait_total("istio_requests_total", 1)
    assert line["bytes_received"] == metrics.total("istio_request_bytes_sum")
    assert line["bytes_sent"] == metrics.total("istio_response_bytes_sum")
    assert 0 < line["upstream_ms"] <= line["first_byte_ms"] <= line["duration_ms"]
    duration = metrics.total("istio_request_duration_milliseconds_sum")
    assert line["duration_ms"] == pytest.approx(duration, abs=0.0011)


def test_what_is_no_trace_id_is_not_logged(world):
    app = world.service()
    sidecar = world.hoplite(inbound_config(app.address, log=ALL))
    for trace in ("g" * 32, '"' * 32, TRACE.upper(), TRACE[:-1]):
        assert world.client(sidecar.inbound).request(
            headers=[("traceparent", f"00-{trace}-b7ad6b7169203331-01")]).status == 200
    assert ["trace_id" in line for line in lines(sidecar, 4)] == [False] * 4


def test_durations_tell_where_the_time_went(world):
    app = world.service()
    sidecar = world.hoplite(inbound_config(app.address, log=ALL))
    assert world.client(sidecar.inbound).request(target="/delay/0.3").status == 200
    [line] = lines(sidecar, 1)
    assert 290 <= line["upstream_ms"] < 300 + 1000 * seconds(1)


def test_both_sides_of_the_pair(world):
    app = world.service()
    pair = Pair(world, app.address, {"log": ALL}, {"log": ALL})
    answer = world.client(pair.port).request(host=HOST)
    assert answer.status == 200
    [client], [server] = lines(pair.client, 1), lines(pair.server, 1)
    assert client["reporter"] == "source" and server["reporter"] == "destination"
    assert client["peer_principal"] == pair.server_identity.principal
    assert server["peer_principal"] == pair.client_identity.principal
    assert client["request_id"] == server["request_id"] != ""
    assert client["upstream_address"] == f"127.0.0.1:{pair.server.inbound}"
    assert server["upstream_address"] == app.address
    assert client["start"] <= server["start"]


def test_errors_alone_by_default(world):
    app = world.service()
    sidecar = world.hoplite(inbound_config(app.address))
    client = world.client(sidecar.inbound)
    for target in ("/version", "/status/404", "/status/302", "/status/503", "/version"):
        client.request(target=target)
    client.send(b"nonsense\r\n\r\n")
    assert client.read_response().status == 400
    assert [(line["code"], line["flags"]) for line in lines(sidecar, 3)] == [
        (404, "-"), (503, "-"), (400, "DPE")]


def test_requests_that_got_no_answer(world):
    sidecar = world.hoplite(inbound_config(
        world.raw_server(lambda wire, number: wire.read_until(b"never")).address, log=ALL))
    client = world.client(sidecar.inbound)
    client.send(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
    poll_until(lambda: sidecar.metrics().total("hoplite_upstream_requests_total") == 1, "sent")
    client.reset()
    lines(sidecar, 1)
    client = world.client(sidecar.inbound)
    client.send(b"GE")
    poll_until(lambda: sidecar.metrics().total("hoplite_requests_in_flight") == 1, "begun")
    client.reset()
    first, second = lines(sidecar, 2)
    assert (first["code"], first["flags"], first["path"]) == (0, "DC", "/x")
    assert first["upstream_ms"] is None and first["first_byte_ms"] is None
    assert (second["code"], second["flags"], second["method"]) == (0, "DC", "")


def test_hostile_text_stays_inside_its_line(world):
    app = world.service()
    sidecar = world.hoplite(outbound_config(podinfo_at(app.address), log=ALL))
    client = world.client(sidecar.outbound)
    target = '/"}{"start":"x"\\n%0a\\u0000'
    client.request(target=target, host="nowhere")
    assert lines(sidecar, 1)[0]["path"] == target


def test_off_and_on_by_reload(world):
    app = world.service()
    config = inbound_config(app.address, log={"access": "off"})
    sidecar = world.hoplite(config)
    client = world.client(sidecar.inbound)
    client.request(target="/status/500")
    sidecar.wait_total("istio_requests_total", 1)  # its line was judged before it was counted
    sidecar.reload({**config, "log": ALL})
    poll_until(lambda: sidecar.metrics().total("hoplite_reloads_total", result="accepted") == 1,
               "reloaded")
    client.request(target="/status/501")
    assert [line["code"] for line in lines(sidecar, 1)] == [501]


def test_text_lines(world):
    app = world.service()
    sidecar = world.hoplite(inbound_config(app.address, log={"access": "all", "format": "text"}))
    world.client(sidecar.inbound).request(target="/version?a", host="web")
    line = sidecar.wait_line(r"^20\S+Z destination GET web /version\?a HTTP/1.1 200 - \d+ \d+ ")
    assert app.address in line.string


def test_a_line_for_each_request_under_load(world):
    app = world.service()
    sidecar = world.hoplite(inbound_config(app.address, log=ALL, workers=2))
    load = Load(sidecar.inbound, clients=8)
    poll_until(lambda: load.total() > 3000, "three thousand requests")
    load.stop()
    def written(metrics):
        return metrics.total("hoplite_access_log_lines_total")

    def all_told():
        found = sidecar.metrics()
        told = written(found) + found.total("hoplite_access_log_dropped_total")
        return found if told == load.total() else None

    lines(sidecar, written(poll_until(all_told, "each request written or dropped")))


def test_nobody_reads_the_log(world, tmp_path):
    """A full pipe costs lines, which are counted, and no request; leaving is not held up either."""
    app = world.service()
    config = tmp_path / "unread.yaml"
    config.write_text(json.dumps(inbound_config(app.address, log=ALL, workers=1)))
    process = subprocess.Popen([world.hoplite_binary, "run", "-c", config], stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL)
    try:
        seen = b""
        while b"ready in" not in seen:
            seen += process.stdout.readline()
        port = int(re.search(rb"listening inbound \S+:(\d+)", seen).group(1))
        stats = int(re.search(rb"stats http://\S+?:(\d+)/", seen).group(1))
        load = Load(port, clients=4, target="/version?" + "x" * 3000)
        url = f"http://127.0.0.1:{stats}/stats/prometheus"
        poll_until(lambda: scrape(url).total("hoplite_access_log_dropped_total") > 100, "drops", 30)
        load.stop()
        assert load.lost == [] and set(load.answers) == {200}
        process.terminate()
        assert process.wait(seconds()) == 0
    finally:
        process.kill()
        process.stdout.close()


def test_a_log_whose_reader_went_away(world, tmp_path):
    """SIGPIPE kills nobody."""
    app = world.service()
    config = tmp_path / "closed.yaml"
    config.write_text(json.dumps(inbound_config(app.address, log=ALL, workers=1)))
    reader, writer = os.pipe()
    process = subprocess.Popen([world.hoplite_binary, "run", "-c", config], stdout=writer,
                               stderr=subprocess.DEVNULL)
    os.close(writer)
    try:
        with os.fdopen(reader, "rb") as pipe:
            seen = b""
            while b"ready in" not in seen:
                seen += pipe.readline()
        port = int(re.search(rb"listening inbound \S+:(\d+)", seen).group(1))
        client = world.client(port)
        for _ in range(50):
            assert client.request().status == 200
        process.terminate()
        assert process.wait(seconds()) == 0
    finally:
        process.kill()
