"""A gRPC server with one method of each kind. Messages are plain bytes, so that no generated code is needed.

    server.py PORT
"""

import sys
import time
from concurrent import futures

import grpc


def upper(request, context):
    context.set_trailing_metadata((("seen-by", "server"),))
    return request.upper()


def count(request, context):
    for number in range(int(request)):
        time.sleep(0.02)
        yield str(number).encode()


def total(requests, context):
    return str(sum(len(request) for request in requests)).encode()


def echo(requests, context):
    yield from requests


def fail(request, context):
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today")


handlers = grpc.method_handlers_generic_handler("example.Demo", {
    "Upper": grpc.unary_unary_rpc_method_handler(upper),
    "Count": grpc.unary_stream_rpc_method_handler(count),
    "Total": grpc.stream_unary_rpc_method_handler(total),
    "Echo": grpc.stream_stream_rpc_method_handler(echo),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
})
server = grpc.server(futures.ThreadPoolExecutor(8))
server.add_generic_rpc_handlers((handlers,))
if server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}") == 0:
    sys.exit(f"port {sys.argv[1]} is taken")
server.start()
server.wait_for_termination()
