"""The service and the calls of tests/e2e/src/grpc by grpcio.

usage: grpc_peer.py serve            says `listening ADDRESS` and ends with its input
       grpc_peer.py call ADDRESS [NAME CA CHAIN KEY]     says `passed N` or what was wrong; with files, over mutual TLS
"""
import sys
import threading
import time
from concurrent import futures

import grpc

SERVICE = "interop.Test"
LARGE = [("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", 64 << 20)]
CODES = {code.value[0]: code for code in grpc.StatusCode}
METHODS = ["Echo", "Count", "Send", "Fail", "FailLate", "Sleep", "Cancelled"]


class Service:
    def __init__(self):
        self.cancelled = 0

    def serve(self, method):
        def run(requests, context):
            echoed = [(k, v) for k, v in context.invocation_metadata() if k in ("x-echo", "x-echo-bin")]
            context.send_initial_metadata(echoed)
            messages = octets = 0
            for message in requests:
                messages += 1
                octets += len(message)
                number, _, rest = message.partition(b":")
                if method == "Echo":
                    yield message
                elif method == "Send":
                    for _ in range(int(number)):
                        yield b"x" * int(rest)
                elif method in ("Fail", "FailLate"):
                    if method == "FailLate":
                        yield b"before"
                        yield b"before"
                    context.set_trailing_metadata(echoed)
                    context.abort(CODES[int(number)], rest.decode())
                elif method == "Sleep":
                    ended = threading.Event()
                    context.add_callback(ended.set)
                    ended.wait(30)
                    self.cancelled += 1
                    return
            if method == "Count":
                yield b"%d:%d" % (messages, octets)
            elif method == "Cancelled":
                yield b"%d" % self.cancelled

        return run


def serve():
    server = grpc.server(futures.ThreadPoolExecutor(32), options=LARGE)
    service = Service()
    handlers = {name: grpc.stream_stream_rpc_method_handler(service.serve(name)) for name in METHODS}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"listening 127.0.0.1:{port}", flush=True)
    sys.stdin.read()
    server.stop(0)


class Calls:
    def __init__(self, channel):
        self.channel = channel

    def open(self, method, messages, **options):
        return self.channel.stream_stream(f"/{SERVICE}/{method}")(iter(messages), **options)

    def unary(self, method, message, **options):
        return self.channel.unary_unary(f"/{SERVICE}/{method}").with_call(message, **options)

    def failure(self, method, message, **options):
        try:
            self.unary(method, message, **options)
        except grpc.RpcError as error:
            return error
        raise AssertionError("no failure")

    def check_unary(self):
        for size in (0, 1, 271828, 4 << 20):
            assert self.unary("Echo", b"m" * size)[0] == b"m" * size

    def check_streams(self):
        assert list(self.open("Echo", [])) == []
        for count, size in ((1, 0), (4, 31415), (1000, 100), (20, 500000)):
            sizes = [len(m) for m in self.open("Send", [b"%d:%d" % (count, size)])]
            assert sizes == [size] * count, sizes[:5]
            total = list(self.open("Count", [b"m" * size] * count))
            assert total == [b"%d:%d" % (count, count * size)], total

    def check_ping_pong(self):
        turn = threading.Semaphore(1)

        def messages():
            for n in range(50):
                turn.acquire()
                yield b"p" * (700 * n)

        for n, back in enumerate(self.open("Echo", messages())):
            assert back == b"p" * (700 * n)
            turn.release()

    def check_statuses(self):
        for code in range(1, 17):
            for text in ("", "plain", "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n", "100%"):
                error = self.failure("Fail", f"{code}:{text}".encode())
                assert (error.code(), error.details()) == (CODES[code], text), (code, error.details())
        back = []
        try:
            for message in self.open("FailLate", [b"9:late"]):
                back.append(message)
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.FAILED_PRECONDITION
        assert len(back) == 2
        assert self.failure("Nothing", b"").code() == grpc.StatusCode.UNIMPLEMENTED

    def check_metadata(self):
        sent = (("x-echo", "one, two"), ("x-echo-bin", bytes([0, 1, 0xAB, 0xFF, 44])))

        def echoed(metadata):
            return tuple(sorted((k, v) for k, v in metadata if k in ("x-echo", "x-echo-bin")))

        _, call = self.unary("Echo", b"", metadata=sent)
        assert echoed(call.initial_metadata()) == sent, call.initial_metadata()
        error = self.failure("Fail", b"5:gone", metadata=sent)
        assert echoed(error.trailing_metadata()) == sent, error.trailing_metadata()

    def check_deadline(self):
        started = time.monotonic()
        error = self.failure("Sleep", b"", timeout=0.3)
        assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert time.monotonic() - started < 5

    def check_cancel(self):
        before = int(self.unary("Cancelled", b"")[0])
        call = self.open("Sleep", [b""])
        time.sleep(0.3)
        call.cancel()
        for _ in range(200):
            if int(self.unary("Cancelled", b"")[0]) > before:
                return
            time.sleep(0.02)
        raise AssertionError("the server did not learn that the call was cancelled")

    def check_concurrent(self):
        pending = [
            (n, self.channel.unary_unary(f"/{SERVICE}/Echo").future(b"c" * (n * 1000))) for n in range(100)
        ]
        for n, future in pending:
            assert future.result(timeout=20) == b"c" * (n * 1000)


def connect(address, security):
    if not security:
        return grpc.insecure_channel(address, options=LARGE)
    name, *files = security
    ca, chain, key = (open(path, "rb").read() for path in files)
    credentials = grpc.ssl_channel_credentials(ca, key, chain)
    return grpc.secure_channel(address, credentials, options=[*LARGE, ("grpc.ssl_target_name_override", name)])


def call(address, *security):
    passed, wrong = 0, []
    with connect(address, security) as channel:
        calls = Calls(channel)
        for name in [n for n in dir(calls) if n.startswith("check_")]:
            try:
                getattr(calls, name)()
                passed += 1
            except Exception as error:  # every failure is a line of the report
                wrong.append(f"{name}: {error!r}")
    if wrong:
        print("\n".join(wrong))
        sys.exit(1)
    print("passed", passed)


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
    else:
        call(*sys.argv[2:])
