"""Calls each kind of method: unary, both one-sided streams, both sides at once, an error with its status, many in parallel.

    client.py HOST:PORT [PROXY]

PROXY is an HTTP proxy, http://HOST:PORT, which is asked for CONNECT.
"""

import queue
import sys
from concurrent import futures

import grpc

proxy = ("grpc.http_proxy", sys.argv[2]) if len(sys.argv) > 2 else ("grpc.enable_http_proxy", 0)
channel = grpc.insecure_channel(sys.argv[1], options=[proxy])
DEADLINE = 30

upper = channel.unary_unary("/example.Demo/Upper")
answer, call = upper.with_call(b"hello", timeout=DEADLINE)
assert answer == b"HELLO"
assert ("seen-by", "server") in [tuple(item) for item in call.trailing_metadata()], "trailers are lost"

count = channel.unary_stream("/example.Demo/Count")
assert list(count(b"10", timeout=DEADLINE)) == [str(number).encode() for number in range(10)]

total = channel.stream_unary("/example.Demo/Total")
assert total((b"x" * 100_000 for _ in range(50)), timeout=DEADLINE) == b"5000000"

# Each next message is sent only after the answer to the one before.
outgoing = queue.SimpleQueue()
replies = channel.stream_stream("/example.Demo/Echo")(iter(outgoing.get, None), timeout=DEADLINE)
for number in range(20):
    outgoing.put(str(number).encode())
    assert next(replies) == str(number).encode()
outgoing.put(None)
assert next(replies, None) is None

try:
    channel.unary_unary("/example.Demo/Fail")(b"", timeout=DEADLINE)
    sys.exit("a failing call succeeded")
except grpc.RpcError as error:
    assert (error.code(), error.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "not today")

with futures.ThreadPoolExecutor(16) as pool:
    answers = pool.map(lambda number: upper(b"n%d" % number, timeout=DEADLINE), range(200))
    assert list(answers) == [b"N%d" % number for number in range(200)]

print("grpc: unary, streams and status pass; 200 parallel calls")
