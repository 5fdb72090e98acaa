"""A control plane on grpcio and xds-protos for the tests: state of the world and delta, aggregated.

usage: plane.py UPSTREAM_HOST:PORT
Obeys the lines `set N`, `churn N M` and `empty N` on standard input and prints `listening ADDRESS`, `ack TYPE VERSION`,
`nack TYPE MESSAGE`; see go/main.go, which speaks the same.
"""

import queue
import sys
import threading
import time
from concurrent import futures

import grpc
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2  # noqa: F401, known to Any
from envoy.extensions.filters.network.http_connection_manager.v3 import (  # noqa: F401
    http_connection_manager_pb2,
)
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2
from google.protobuf import json_format

PREFIX = "type.googleapis.com/"
CLUSTER = PREFIX + "envoy.config.cluster.v3.Cluster"
ENDPOINT = PREFIX + "envoy.config.endpoint.v3.ClusterLoadAssignment"
LISTENER = PREFIX + "envoy.config.listener.v3.Listener"
ROUTE = PREFIX + "envoy.config.route.v3.RouteConfiguration"
ORDER = [CLUSTER, ENDPOINT, LISTENER, ROUTE]
ADS = {"ads": {}, "resource_api_version": "V3"}
ROUTER = {"@type": PREFIX + "envoy.extensions.filters.http.router.v3.Router"}
MANAGER = PREFIX + "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"

printing = threading.Lock()


def say(*words):
    with printing:
        print(*words, flush=True)


def address(host, port):
    return {"socket_address": {"address": host, "port_value": int(port)}}


def cluster(name, milliseconds):
    fields = {"name": name, "type": "EDS", "eds_cluster_config": {"eds_config": ADS}}
    fields["connect_timeout"] = f"{1 + milliseconds / 1000:.3f}s"
    return json_format.ParseDict(fields, cluster_pb2.Cluster())


def assignment(name, host, port):
    endpoint = {"endpoint": {"address": address(host, port)}}
    fields = {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]}
    return json_format.ParseDict(fields, endpoint_pb2.ClusterLoadAssignment())


def listener():
    manager = {
        "@type": MANAGER,
        "stat_prefix": "main",
        "rds": {"route_config_name": "r", "config_source": ADS},
        "http_filters": [{"name": "router", "typed_config": ROUTER}],
    }
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    fields = {"name": "main", "address": address("127.0.0.1", 0), "filter_chains": [chain]}
    return json_format.ParseDict(fields, listener_pb2.Listener())


def routes(number):
    version = {"status": 200, "body": {"inline_string": str(number)}}
    table = [
        {"match": {"prefix": "/version"}, "direct_response": version},
        {"match": {"prefix": "/"}, "route": {"cluster": "up"}},
    ]
    fields = {"name": "r", "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": table}]}
    return json_format.ParseDict(fields, route_pb2.RouteConfiguration())


class World:
    """The resources of a round by type and name, each with its version."""

    def __init__(self, upstream):
        self.host, self.port = upstream.rsplit(":", 1)
        self.lock = threading.Lock()
        self.streams = []
        self.round = 0
        self.kinds = {ty: {} for ty in ORDER}

    def apply(self, number, empty=False):
        kinds = {ty: {} for ty in ORDER}
        if not empty:
            kinds[CLUSTER] = {"up": cluster("up", 0), "more": cluster("more", number)}
            kinds[ENDPOINT] = {
                "up": assignment("up", self.host, self.port),
                "more": assignment("more", "127.0.0.1", 1 + number % 1000),
            }
            kinds[LISTENER] = {"main": listener()}
            kinds[ROUTE] = {"r": routes(number)}
        with self.lock:
            self.round = number
            for ty, new in kinds.items():
                old = self.kinds[ty]
                for name, message in new.items():
                    same = name in old and old[name][0] == message
                    new[name] = (message, old[name][1] if same else str(number))
            self.kinds = kinds
            for stream in self.streams:
                for ty in ORDER:
                    stream.push(ty)


class Stream:
    """What one client subscribed to, and what it was sent."""

    def __init__(self, world, delta):
        self.world, self.delta = world, delta
        self.out = queue.Queue()
        self.names, self.sent, self.nonce = {}, {}, 0

    def wants(self, ty, name):
        return "*" in self.names[ty] or name in self.names[ty]

    def push(self, ty, force=False):
        if ty not in self.names:
            return
        have = self.sent.setdefault(ty, {})
        kind = {n: r for n, r in self.world.kinds[ty].items() if self.wants(ty, n)}
        fresh = [n for n, (_, version) in kind.items() if have.get(n) != version]
        gone = [n for n in have if n not in self.world.kinds[ty]]
        if not (force or fresh or gone):
            return
        self.nonce += 1
        version = str(self.world.round)
        if self.delta:
            response = discovery_pb2.DeltaDiscoveryResponse(
                system_version_info=version, type_url=ty, nonce=str(self.nonce), removed_resources=gone
            )
            for name in fresh:
                added = response.resources.add(name=name, version=kind[name][1])
                added.resource.Pack(kind[name][0])
        else:
            response = discovery_pb2.DiscoveryResponse(version_info=version, type_url=ty, nonce=str(self.nonce))
            for message, _ in kind.values():
                response.resources.add().Pack(message)
        for name in gone:
            del have[name]
        have.update({n: v for n, (_, v) in kind.items()})
        self.out.put(response)

    def request(self, message):
        ty = message.type_url
        short = ty.rsplit(".", 1)[-1]
        if message.HasField("error_detail"):
            say("nack", short, repr(message.error_detail.message))
        elif message.response_nonce:
            say("ack", short, "-" if self.delta else message.version_info)
        first = ty not in self.names
        names = self.names.setdefault(ty, set())
        if self.delta:
            if first and not message.resource_names_subscribe:
                names.add("*")
            if message.initial_resource_versions:
                self.sent[ty] = dict(message.initial_resource_versions)
            names |= set(message.resource_names_subscribe)
            names -= set(message.resource_names_unsubscribe)
            for name in message.resource_names_subscribe:
                self.sent.setdefault(ty, {}).pop(name, None)
            changed = first or bool(message.resource_names_subscribe)
        else:
            wanted = set(message.resource_names) or ({"*"} if ty in (CLUSTER, LISTENER) else set())
            changed = first or bool(wanted - names)
            self.names[ty] = wanted
        if changed and ty in self.world.kinds:
            self.push(ty, force=first and "*" in self.names[ty] or not self.delta)

    def run(self, requests):
        def read():
            try:
                for message in requests:
                    with self.world.lock:
                        self.request(message)
            except grpc.RpcError:
                pass
            self.out.put(None)

        with self.world.lock:
            self.world.streams.append(self)
        threading.Thread(target=read, daemon=True).start()
        while (response := self.out.get()) is not None:
            yield response
        with self.world.lock:
            self.world.streams.remove(self)


class Service(ads_pb2_grpc.AggregatedDiscoveryServiceServicer):
    def __init__(self, world):
        self.world = world

    def StreamAggregatedResources(self, request_iterator, context):
        return Stream(self.world, False).run(request_iterator)

    def DeltaAggregatedResources(self, request_iterator, context):
        return Stream(self.world, True).run(request_iterator)


def main():
    world = World(sys.argv[1])
    world.apply(1)
    server = grpc.server(futures.ThreadPoolExecutor(8))
    ads_pb2_grpc.add_AggregatedDiscoveryServiceServicer_to_server(Service(world), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    say("listening", f"127.0.0.1:{port}")
    for line in sys.stdin:
        command, *numbers = line.split()
        if command == "churn":
            for number in range(int(numbers[0]), int(numbers[1]) + 1):
                world.apply(number)
                time.sleep(0.001)
            say("churned", numbers[1])
        else:
            world.apply(int(numbers[0]), empty=command == "empty")
    server.stop(0)


main()
