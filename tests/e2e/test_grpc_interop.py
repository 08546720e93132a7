"""gRPC's public list of interoperability cases: without a proxy, through one sidecar, through two.

https://github.com/grpc/grpc/blob/master/doc/interop-test-descriptions.md
"""

import base64

import grpc
import pytest

from hoplite_e2e import interop
from hoplite_e2e.calls import WAYS, Way, counted, raw_call, status_of
from hoplite_e2e.deadline import poll_until, seconds
from hoplite_e2e.interop import (BoolValue, EchoStatus, Empty, Requests, ResponseParameters,
                                 SimpleRequest, StreamingInputCallRequest,
                                 StreamingOutputCallRequest, outputs, payload)

REQUEST_SIZES = (27182, 8, 1828, 45904)
RESPONSE_SIZES = (31415, 9, 2653, 58979)
GZIP = grpc.Compression.Gzip
WAIT = {"timeout": seconds(20)}


@pytest.fixture(params=WAYS)
def way(request, world):
    server = interop.InteropServer()
    try:
        made = Way(world, request.param, server.address)
        made.server = server
        yield made
    finally:
        server.stop()


@pytest.fixture
def stub(way):
    with way.channel() as channel:
        yield interop.Stub(channel)


def large_unary(stub):
    answer = stub.UnaryCall(SimpleRequest(response_size=314159, payload=payload(271828)), **WAIT)
    assert answer.payload.body == bytes(314159)


def test_empty_unary(way, stub):
    assert stub.EmptyCall(Empty(), **WAIT) == Empty()
    way.check({0: 1}, (1, 1))


def test_large_unary(way, stub):
    large_unary(stub)
    way.check({0: 1}, (1, 1))


def test_client_compressed_unary(way, stub):
    """Bytes on the wire show that a compressed message was sent as such, and went on as such."""
    for compression in (GZIP, None):
        answer = stub.UnaryCall(SimpleRequest(response_size=31, payload=payload(271828),
                                              expect_compressed=BoolValue(value=bool(compression))),
                                compression=compression, **WAIT)
        assert answer.payload.body == bytes(31)
        for sidecar in way.sidecars:
            sidecar.wait_total("istio_requests_total", 1 if compression else 2)
            sent = sidecar.metrics().total("istio_request_bytes_sum")
            assert sent < 5000 if compression else sent > 271828
    way.check({0: 2}, (2, 2))


def test_server_compressed_unary(way, stub):
    for compressed in (True, False):
        answer = stub.UnaryCall(SimpleRequest(response_size=314159, payload=payload(27),
                                              response_compressed=BoolValue(value=compressed)),
                                **WAIT)
        assert answer.payload.body == bytes(314159)
        for sidecar in way.sidecars:
            sidecar.wait_total("istio_requests_total", 1 if compressed else 2)
            sent = sidecar.metrics().total("istio_response_bytes_sum")
            assert sent < 5000 if compressed else sent > 314159
    way.check({0: 2}, (2, 2))


def test_client_streaming(way, stub):
    requests = [StreamingInputCallRequest(payload=payload(size)) for size in REQUEST_SIZES]
    answer = stub.StreamingInputCall(iter(requests), **WAIT)
    assert answer.aggregated_payload_size == sum(REQUEST_SIZES)
    way.check({0: 1}, (4, 1))


def test_client_compressed_streaming(way, stub):
    requests = [StreamingInputCallRequest(payload=payload(size)) for size in REQUEST_SIZES]
    answer = stub.StreamingInputCall(iter(requests), compression=GZIP, **WAIT)
    assert answer.aggregated_payload_size == sum(REQUEST_SIZES)
    way.check({0: 1}, (4, 1))
    for sidecar in way.sidecars:
        assert sidecar.metrics().total("istio_request_bytes_sum") < 5000


def test_server_streaming(way, stub):
    answers = list(stub.StreamingOutputCall(outputs(*RESPONSE_SIZES), **WAIT))
    assert [len(each.payload.body) for each in answers] == list(RESPONSE_SIZES)
    way.check({0: 1}, (1, 4))


def test_server_compressed_streaming(way, stub):
    request = StreamingOutputCallRequest(response_parameters=[
        ResponseParameters(size=31415, compressed=BoolValue(value=True)),
        ResponseParameters(size=92653, compressed=BoolValue(value=False))])
    answers = list(stub.StreamingOutputCall(request, **WAIT))
    assert [len(each.payload.body) for each in answers] == [31415, 92653]
    way.check({0: 1}, (1, 2))


def test_ping_pong(way, stub):
    ours = Requests()
    call = stub.FullDuplexCall(iter(ours), **WAIT)
    for request_size, response_size in zip(REQUEST_SIZES, RESPONSE_SIZES):
        ours.send(outputs(response_size, request_size=request_size))
        assert len(next(call).payload.body) == response_size
    ours.end()
    assert list(call) == []
    assert call.code() == grpc.StatusCode.OK
    way.check({0: 1}, (4, 4))


def test_empty_stream(way, stub):
    call = stub.FullDuplexCall(iter(()), **WAIT)
    assert list(call) == []
    assert call.code() == grpc.StatusCode.OK
    way.check({0: 1}, (0, 0))


def test_cancel_after_begin(way, stub):
    ours = Requests()
    call = stub.StreamingInputCall.future(iter(ours), **WAIT)
    poll_until(lambda: way.server.begun, "the call to begin")
    call.cancel()
    assert call.code() == grpc.StatusCode.CANCELLED
    poll_until(lambda: way.server.ended == ["StreamingInputCall"], "the server to be told")
    way.check({("0", "DC", ""): 1}, (0, 0))
    ours.end()


def test_cancel_after_first_response(way, stub):
    ours = Requests()
    call = stub.FullDuplexCall(iter(ours), **WAIT)
    ours.send(outputs(31415, request_size=27182))
    assert len(next(call).payload.body) == 31415
    call.cancel()
    assert call.code() == grpc.StatusCode.CANCELLED
    poll_until(lambda: way.server.ended == ["FullDuplexCall"], "the server to be told")
    way.check({("200", "DC", "2"): 1}, (1, 1))
    ours.end()


def test_timeout_on_sleeping_server(way, stub):
    request = StreamingOutputCallRequest(payload=payload(27182),
                                         response_parameters=[interop.sleep_us(0.3)])
    call = stub.FullDuplexCall(iter([request]), timeout=0.001)
    code, _ = status_of(lambda: next(call))
    assert code == grpc.StatusCode.DEADLINE_EXCEEDED
    # The call may be over before it was sent; else its sender, its server or our clock ended it.
    ends = {("0", "DC", ""), ("200", "-", "4"), ("200", "UT", "4")}
    for metrics in way.wait_idle():
        assert metrics.total("istio_requests_total") <= 1 and counted(metrics).keys() <= ends


def test_custom_metadata(way, stub):
    metadata = (("x-grpc-test-echo-initial", "test_initial_metadata_value"),
                ("x-grpc-test-echo-trailing-bin", b"\xab\xab\xab"))

    def check(call):
        assert ("x-grpc-test-echo-initial",
                "test_initial_metadata_value") in call.initial_metadata()
        assert ("x-grpc-test-echo-trailing-bin", b"\xab\xab\xab") in call.trailing_metadata()

    _, call = stub.UnaryCall.with_call(SimpleRequest(response_size=314159, payload=payload(271828)),
                                       metadata=metadata, **WAIT)
    check(call)
    ours = Requests()
    call = stub.FullDuplexCall(iter(ours), metadata=metadata, **WAIT)
    ours.send(outputs(314159, request_size=271828))
    assert len(next(call).payload.body) == 314159
    ours.end()
    assert list(call) == []
    check(call)
    way.check({0: 2}, (2, 2))


def test_binary_metadata_of_any_bytes(way, stub):
    """Names in -bin are base64 on the wire; a long and an empty value, and every byte there is."""
    for value in (bytes(range(256)), bytes(4000), b""):
        metadata = (("x-grpc-test-echo-trailing-bin", value),)
        _, call = stub.EmptyCall.with_call(Empty(), metadata=metadata, **WAIT)
        assert metadata[0] in call.trailing_metadata()
    way.check({0: 3}, (3, 3))


def test_status_code_and_message(way, stub):
    status = EchoStatus(code=2, message="test status message")
    wanted = (grpc.StatusCode.UNKNOWN, "test status message")
    request = SimpleRequest(response_status=status)
    assert status_of(lambda: stub.UnaryCall(request, **WAIT)) == wanted
    call = stub.FullDuplexCall(iter([outputs(response_status=status)]), **WAIT)
    assert status_of(lambda: next(call)) == wanted
    way.check({2: 2}, (2, 0))


def test_special_status_message(way, stub):
    message = "\t\ntest with whitespace\r\nand Unicode BMP \u263a and non-BMP \U0001f608\t\n"
    request = SimpleRequest(response_status=EchoStatus(code=2, message=message))
    assert status_of(lambda: stub.UnaryCall(request, **WAIT)) == (grpc.StatusCode.UNKNOWN, message)
    way.check({2: 1}, (1, 0))


def test_unimplemented_method(way, stub):
    code, _ = status_of(lambda: stub.UnimplementedCall(Empty(), **WAIT))
    assert code == grpc.StatusCode.UNIMPLEMENTED
    way.check({12: 1})


def test_unimplemented_service(way, stub):
    code, _ = status_of(lambda: stub.NoService(Empty(), **WAIT))
    assert code == grpc.StatusCode.UNIMPLEMENTED
    way.check({12: 1})


def test_rpc_soak(way, stub):
    for _ in range(30):
        large_unary(stub)
    way.check({0: 30}, (30, 30))


def test_channel_soak(way):
    for _ in range(10):
        with way.channel() as channel:
            large_unary(interop.Stub(channel))
    way.check({0: 10}, (10, 10))


def test_concurrent_large_unary(way, stub):
    request = SimpleRequest(response_size=314159, payload=payload(271828))
    for call in [stub.UnaryCall.future(request, **WAIT) for _ in range(20)]:
        assert call.result().payload.body == bytes(314159)
    way.check({0: 20}, (20, 20))


def test_orca_per_rpc(way, tmp_path):
    """By curl, since a gRPC client keeps this trailer to itself."""
    report = interop.TestOrcaReport(cpu_utilization=0.8210, memory_utilization=0.5847)
    request = SimpleRequest(orca_per_query_report=report).SerializeToString()
    answer = raw_call(tmp_path, way.target, f"/{interop.SERVICE}/UnaryCall", request)
    found = base64.b64decode(answer["endpoint-load-metrics-bin"] + "==")
    assert interop.TestOrcaReport.FromString(found) == report
    assert answer["grpc-status"] == "0"
    way.check({0: 1}, (1, 1))


def test_orca_out_of_band(way, stub):
    """Reports come on a stream of their own, on the same connection, while calls go on."""
    reports = stub.CoreMetrics(Empty(), **WAIT)
    assert next(reports) == interop.TestOrcaReport()
    ours = Requests()
    call = stub.FullDuplexCall(iter(ours), **WAIT)
    for load in (0.3, 0.9):
        wanted = interop.TestOrcaReport(cpu_utilization=load)
        ours.send(outputs(1, orca_oob_report=wanted))
        next(call)
        assert next(each for each in reports if each == wanted)
    ours.end()
    assert list(call) == []
    reports.cancel()
    way.check({0: 1, ("200", "DC", "2"): 1})
