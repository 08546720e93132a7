"""gRPC's public interoperability service, grpc.testing.TestService, and its client's half.

Messages and behaviour follow the description of the test cases
(https://github.com/grpc/grpc/blob/master/doc/interop-test-descriptions.md). Not the cases.
"""

import concurrent.futures
import queue
import threading

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from .deadline import seconds

SERVICE = "grpc.testing.TestService"
_INT, _BOOL, _STRING, _BYTES, _DOUBLE = 5, 8, 9, 12, 1

#: {message: [(field, number, type, repeated)]}; a type that is a name is a message.
_MESSAGES = {
    "Empty": [],
    "BoolValue": [("value", 1, _BOOL)],
    "EchoStatus": [("code", 1, _INT), ("message", 2, _STRING)],
    "Payload": [("type", 1, _INT), ("body", 2, _BYTES)],
    "SimpleRequest": [("response_type", 1, _INT), ("response_size", 2, _INT),
                      ("payload", 3, "Payload"), ("response_compressed", 6, "BoolValue"),
                      ("response_status", 7, "EchoStatus"), ("expect_compressed", 8, "BoolValue"),
                      ("orca_per_query_report", 11, "TestOrcaReport")],
    "SimpleResponse": [("payload", 1, "Payload")],
    "StreamingInputCallRequest": [("payload", 1, "Payload"), ("expect_compressed", 2, "BoolValue")],
    "StreamingInputCallResponse": [("aggregated_payload_size", 1, _INT)],
    "ResponseParameters": [("size", 1, _INT), ("interval_us", 2, _INT),
                           ("compressed", 3, "BoolValue")],
    "StreamingOutputCallRequest": [("response_type", 1, _INT),
                                   ("response_parameters", 2, "ResponseParameters", True),
                                   ("payload", 3, "Payload"), ("response_status", 7, "EchoStatus"),
                                   ("orca_oob_report", 8, "TestOrcaReport")],
    "StreamingOutputCallResponse": [("payload", 1, "Payload")],
    # Of OrcaLoadReport the numbers of these two fields are the same.
    "TestOrcaReport": [("cpu_utilization", 1, _DOUBLE), ("memory_utilization", 2, _DOUBLE)],
}


def _make():
    file = descriptor_pb2.FileDescriptorProto(name="interop.proto", package="grpc.testing",
                                              syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind, *repeated in fields:
            made = message.field.add(name=field, number=number, label=3 if repeated else 1)
            if isinstance(kind, str):
                made.type, made.type_name = 11, f".grpc.testing.{kind}"
            else:
                made.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    factory = message_factory.MessageFactory(pool)
    return {name: factory.GetPrototype(pool.FindMessageTypeByName(f"grpc.testing.{name}"))
            for name in _MESSAGES}


_made = _make()
Empty, BoolValue, EchoStatus, Payload = (_made[n] for n in ("Empty", "BoolValue", "EchoStatus",
                                                            "Payload"))
SimpleRequest, SimpleResponse = _made["SimpleRequest"], _made["SimpleResponse"]
StreamingInputCallRequest = _made["StreamingInputCallRequest"]
StreamingInputCallResponse = _made["StreamingInputCallResponse"]
ResponseParameters = _made["ResponseParameters"]
StreamingOutputCallRequest = _made["StreamingOutputCallRequest"]
StreamingOutputCallResponse = _made["StreamingOutputCallResponse"]
TestOrcaReport = _made["TestOrcaReport"]

#: {method: (kind, request class, response class)}
METHODS = {
    "EmptyCall": ("unary_unary", Empty, Empty),
    "UnaryCall": ("unary_unary", SimpleRequest, SimpleResponse),
    "StreamingInputCall": ("stream_unary", StreamingInputCallRequest, StreamingInputCallResponse),
    "StreamingOutputCall": ("unary_stream", StreamingOutputCallRequest,
                            StreamingOutputCallResponse),
    "FullDuplexCall": ("stream_stream", StreamingOutputCallRequest, StreamingOutputCallResponse),
    "UnimplementedCall": ("unary_unary", Empty, Empty),
}
ORCA = "/xds.service.orca.v3.OpenRcaService/StreamCoreMetrics"


def payload(size):
    return Payload(body=bytes(size))


def outputs(*sizes, request_size=0, **more):
    return StreamingOutputCallRequest(
        response_parameters=[ResponseParameters(size=size) for size in sizes],
        payload=payload(request_size), **more)


class Requests:
    """The requests of a stream, one by one as the test wants them."""

    def __init__(self):
        self._queue = queue.Queue()

    def __iter__(self):
        return iter(self._queue.get, None)

    def send(self, request):
        self._queue.put(request)

    def end(self):
        self._queue.put(None)


class Stub:
    """The methods of TestService on a channel, and of what is no service at all."""

    def __init__(self, channel):
        for name, (kind, request, response) in METHODS.items():
            made = getattr(channel, kind)(f"/{SERVICE}/{name}",
                                          request_serializer=request.SerializeToString,
                                          response_deserializer=response.FromString)
            setattr(self, name, made)
        self.NoService = channel.unary_unary("/grpc.testing.UnimplementedService/UnimplementedCall",
                                             Empty.SerializeToString, Empty.FromString)
        self.CoreMetrics = channel.unary_stream(ORCA, Empty.SerializeToString,
                                                TestOrcaReport.FromString)


class InteropServer:
    """The service on a port of 127.0.0.1, by default a free one, in threads of this process."""

    def __init__(self, workers=8, address="127.0.0.1:0", options=()):
        self._reports = TestOrcaReport()
        self._stopping = threading.Event()
        #: Methods of the calls that have come, and of those whose end the server has seen.
        self.begun = []
        self.ended = []
        self._server = grpc.server(concurrent.futures.ThreadPoolExecutor(workers),
                                   options=[("grpc.so_reuseport", 0),
                                            ("grpc.max_receive_message_length", -1),
                                            ("grpc.max_send_message_length", -1), *options])
        handlers = {}
        for name, (kind, request, response) in METHODS.items():
            if name == "UnimplementedCall":
                continue
            handler = getattr(grpc, f"{kind}_rpc_method_handler")
            handlers[name] = handler(self._watched(name), request.FromString,
                                     response.SerializeToString)
        orca = grpc.unary_stream_rpc_method_handler(self._core_metrics, Empty.FromString,
                                                    TestOrcaReport.SerializeToString)
        _, service, method = ORCA.split("/")
        self._server.add_generic_rpc_handlers((
            grpc.method_handlers_generic_handler(SERVICE, handlers),
            grpc.method_handlers_generic_handler(service, {method: orca})))
        self.port = self._server.add_insecure_port(address)
        self.address = f"127.0.0.1:{self.port}"
        self._server.start()

    def stop(self):
        self._stopping.set()
        self._server.stop(None).wait(seconds())

    def _watched(self, name):
        method = getattr(self, f"_{name}")

        def call(request, context):
            if not context.add_callback(lambda: self.ended.append(name)):
                self.ended.append(name)  # it was over before it began
            self.begun.append(name)
            self._echo_metadata(context)
            return method(request, context)

        return call

    @staticmethod
    def _echo_metadata(context):
        for key, value in context.invocation_metadata():
            if key == "x-grpc-test-echo-initial":
                context.send_initial_metadata(((key, value),))
            elif key == "x-grpc-test-echo-trailing-bin":
                context.set_trailing_metadata(((key, value),))

    @staticmethod
    def _maybe_abort(request, context):
        if request.response_status.code:
            context.abort(_status(request.response_status.code), request.response_status.message)

    def _EmptyCall(self, request, context):
        return Empty()

    def _UnaryCall(self, request, context):
        self._maybe_abort(request, context)
        if request.response_compressed.value:
            context.set_compression(grpc.Compression.Gzip)
        if request.HasField("orca_per_query_report"):
            context.set_trailing_metadata((("endpoint-load-metrics-bin",
                                            request.orca_per_query_report.SerializeToString()),))
        return SimpleResponse(payload=payload(request.response_size))

    def _StreamingInputCall(self, requests, context):
        size = sum(len(each.payload.body) for each in requests)
        return StreamingInputCallResponse(aggregated_payload_size=size)

    def _StreamingOutputCall(self, request, context):
        yield from self._outputs(request, context)

    def _FullDuplexCall(self, requests, context):
        for request in requests:
            if request.HasField("orca_oob_report"):
                self._reports = request.orca_oob_report
            yield from self._outputs(request, context)

    def _outputs(self, request, context):
        self._maybe_abort(request, context)
        for wanted in request.response_parameters:
            if wanted.interval_us:
                self._stopping.wait(wanted.interval_us / 1e6)
            if wanted.HasField("compressed") and not wanted.compressed.value:
                context.disable_next_message_compression()
            yield StreamingOutputCallResponse(payload=payload(wanted.size))

    def _core_metrics(self, request, context):
        while context.is_active() and not self._stopping.wait(0.02):
            yield self._reports


def _status(number):
    return next(code for code in grpc.StatusCode if code.value[0] == number)


def sleep_us(duration):
    """A response that comes only after so many seconds."""
    return ResponseParameters(size=1, interval_us=int(duration * 1e6))
