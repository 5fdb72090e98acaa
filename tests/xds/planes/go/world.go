// The resources of a round, and the services that serve them.
package main

import (
	"fmt"
	"net"
	"strconv"
	"time"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	router "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	clusterservice "github.com/envoyproxy/go-control-plane/envoy/service/cluster/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	endpointservice "github.com/envoyproxy/go-control-plane/envoy/service/endpoint/v3"
	listenerservice "github.com/envoyproxy/go-control-plane/envoy/service/listener/v3"
	routeservice "github.com/envoyproxy/go-control-plane/envoy/service/route/v3"
	secretservice "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
)

func register(service *grpc.Server, xds server.Server) {
	discovery.RegisterAggregatedDiscoveryServiceServer(service, xds)
	clusterservice.RegisterClusterDiscoveryServiceServer(service, xds)
	endpointservice.RegisterEndpointDiscoveryServiceServer(service, xds)
	listenerservice.RegisterListenerDiscoveryServiceServer(service, xds)
	routeservice.RegisterRouteDiscoveryServiceServer(service, xds)
	secretservice.RegisterSecretDiscoveryServiceServer(service, xds)
}

// Panics only when a message of our own cannot be encoded.
func pack(message proto.Message) *anypb.Any {
	packed, err := anypb.New(message)
	if err != nil {
		panic(err)
	}
	return packed
}

func configSource(kind string) *core.ConfigSource {
	source := &core.ConfigSource{ResourceApiVersion: core.ApiVersion_V3}
	if kind == "ads" {
		source.ConfigSourceSpecifier = &core.ConfigSource_Ads{Ads: &core.AggregatedConfigSource{}}
		return source
	}
	api := core.ApiConfigSource_GRPC
	if kind == "delta" {
		api = core.ApiConfigSource_DELTA_GRPC
	}
	source.ConfigSourceSpecifier = &core.ConfigSource_ApiConfigSource{ApiConfigSource: &core.ApiConfigSource{
		ApiType:                   api,
		TransportApiVersion:       core.ApiVersion_V3,
		SetNodeOnFirstMessageOnly: true,
		GrpcServices: []*core.GrpcService{{TargetSpecifier: &core.GrpcService_EnvoyGrpc_{
			EnvoyGrpc: &core.GrpcService_EnvoyGrpc{ClusterName: "xds"},
		}}},
	}}
	return source
}

func address(hostPort string) *core.Address {
	host, text, err := net.SplitHostPort(hostPort)
	if err != nil {
		panic(err)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		panic(err)
	}
	return &core.Address{Address: &core.Address_SocketAddress{SocketAddress: &core.SocketAddress{
		Address:       host,
		PortSpecifier: &core.SocketAddress_PortValue{PortValue: uint32(port)},
	}}}
}

func edsCluster(source, name string, round int) *cluster.Cluster {
	return &cluster.Cluster{
		Name:                 name,
		ConnectTimeout:       durationpb.New(time.Second + time.Duration(round)*time.Millisecond),
		ClusterDiscoveryType: &cluster.Cluster_Type{Type: cluster.Cluster_EDS},
		EdsClusterConfig:     &cluster.Cluster_EdsClusterConfig{EdsConfig: configSource(source)},
	}
}

func assignment(name, hostPort string) *endpoint.ClusterLoadAssignment {
	return &endpoint.ClusterLoadAssignment{
		ClusterName: name,
		Endpoints: []*endpoint.LocalityLbEndpoints{{LbEndpoints: []*endpoint.LbEndpoint{{
			HostIdentifier: &endpoint.LbEndpoint_Endpoint{
				Endpoint: &endpoint.Endpoint{Address: address(hostPort)},
			},
		}}}},
	}
}

func routes(round int) *route.RouteConfiguration {
	prefix := func(path string) *route.RouteMatch {
		return &route.RouteMatch{PathSpecifier: &route.RouteMatch_Prefix{Prefix: path}}
	}
	version := &route.Route_DirectResponse{DirectResponse: &route.DirectResponseAction{
		Status: 200,
		Body: &core.DataSource{Specifier: &core.DataSource_InlineString{
			InlineString: strconv.Itoa(round),
		}},
	}}
	forward := &route.Route_Route{Route: &route.RouteAction{
		ClusterSpecifier: &route.RouteAction_Cluster{Cluster: "up"},
	}}
	return &route.RouteConfiguration{Name: "r", VirtualHosts: []*route.VirtualHost{{
		Name:    "all",
		Domains: []string{"*"},
		Routes:  []*route.Route{{Match: prefix("/version"), Action: version}, {Match: prefix("/"), Action: forward}},
	}}}
}

func httpListener(source string, socket *core.TransportSocket) *listener.Listener {
	manager := &hcm.HttpConnectionManager{
		StatPrefix: "main",
		RouteSpecifier: &hcm.HttpConnectionManager_Rds{Rds: &hcm.Rds{
			RouteConfigName: "r",
			ConfigSource:    configSource(source),
		}},
		HttpFilters: []*hcm.HttpFilter{{
			Name:       "envoy.filters.http.router",
			ConfigType: &hcm.HttpFilter_TypedConfig{TypedConfig: pack(&router.Router{})},
		}},
	}
	return &listener.Listener{
		Name:    "main",
		Address: address("127.0.0.1:0"),
		FilterChains: []*listener.FilterChain{{
			TransportSocket: socket,
			Filters: []*listener.Filter{{
				Name:       "envoy.filters.network.http_connection_manager",
				ConfigType: &listener.Filter_TypedConfig{TypedConfig: pack(manager)},
			}},
		}},
	}
}

// The clusters but `up` change with every round; so do the route table and, with TLS, the pair of the listener.
func world(source, upstream string, clusters, round int, withTLS bool) map[resource.Type][]types.Resource {
	groups := []types.Resource{edsCluster(source, "up", 0)}
	endpoints := []types.Resource{assignment("up", upstream)}
	for n := range clusters {
		name := fmt.Sprintf("more-%d", n)
		groups = append(groups, edsCluster(source, name, round))
		endpoints = append(endpoints, assignment(name, fmt.Sprintf("127.0.0.1:%d", 1+round%1000)))
	}
	resources := map[resource.Type][]types.Resource{
		resource.ClusterType:  groups,
		resource.EndpointType: endpoints,
		resource.RouteType:    {routes(round)},
	}
	var socket *core.TransportSocket
	if withTLS {
		socket = secured(source)
		resources[resource.SecretType] = []types.Resource{pair(round)}
	}
	resources[resource.ListenerType] = []types.Resource{httpListener(source, socket)}
	return resources
}
