"""gRPC's own xDS client as a check on the scripted control plane: resolves `xds:///NAME` and calls it.

usage: grpc_client.py NAME [CALLS]     with GRPC_XDS_BOOTSTRAP in the environment
Starts a gRPC server that echoes, prints `backend PORT`, waits for a line on standard input (the resources are then in
place), calls /echo/Echo through xDS and prints `answer TEXT` or `failed CODE DETAILS` for every call.
"""

import sys
from concurrent import futures

import grpc


def echo(request, context):
    return b"echo " + request


def main():
    handlers = {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("echo", handlers),))
    print("backend", server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    calls = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    with grpc.insecure_channel(f"xds:///{sys.argv[1]}") as channel:
        call = channel.unary_unary("/echo/Echo")
        for _ in range(calls):
            if not sys.stdin.readline():
                break
            try:
                print("answer", call(b"hello", timeout=10, wait_for_ready=True).decode(), flush=True)
            except grpc.RpcError as error:
                print("failed", error.code(), error.details(), flush=True)
    server.stop(0)


main()
