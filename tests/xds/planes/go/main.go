// A control plane on go-control-plane for the tests. It serves every xDS service on a port of the kernel's choice,
// prints `listening ADDRESS`, and then obeys the lines of its standard input:
//
//	set N      resources of round N, which the route /version answers
//	churn N M  the rounds N to M, one each millisecond
//	empty N    no resources at all, as round N
//
// It prints `ack TYPE VERSION` and `nack TYPE MESSAGE` for what it is answered, and ends with its input.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
)

// Every node is served alike.
type anyNode struct{}

func (anyNode) ID(*core.Node) string { return "all" }

var printing sync.Mutex

func say(format string, values ...any) {
	printing.Lock()
	defer printing.Unlock()
	fmt.Printf(format+"\n", values...)
}

func short(url string) string {
	return url[strings.LastIndex(url, ".")+1:]
}

// What the client answers, in state of the world and in delta.
func callbacks() server.Callbacks {
	return server.CallbackFuncs{
		StreamRequestFunc: func(_ int64, request *discovery.DiscoveryRequest) error {
			if e := request.GetErrorDetail(); e != nil {
				say("nack %s %q", short(request.GetTypeUrl()), e.GetMessage())
			} else if request.GetResponseNonce() != "" {
				say("ack %s %s", short(request.GetTypeUrl()), request.GetVersionInfo())
			}
			return nil
		},
		StreamDeltaRequestFunc: func(_ int64, request *discovery.DeltaDiscoveryRequest) error {
			if e := request.GetErrorDetail(); e != nil {
				say("nack %s %q", short(request.GetTypeUrl()), e.GetMessage())
			} else if request.GetResponseNonce() != "" {
				say("ack %s -", short(request.GetTypeUrl()))
			}
			return nil
		},
	}
}

func main() {
	upstream := flag.String("upstream", "127.0.0.1:1", "the endpoint of cluster up")
	source := flag.String("source", "ads", "what resources name as their source: ads, sotw or delta")
	clusters := flag.Int("clusters", 10, "how many more clusters there are")
	withTLS := flag.Bool("tls", false, "the listener shows a pair from SDS, named round-N.test")
	flag.Parse()

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	snapshots := cache.NewSnapshotCache(*source == "ads", anyNode{}, nil)
	apply := func(round int, empty bool) {
		resources := map[resource.Type][]types.Resource{}
		if !empty {
			resources = world(*source, *upstream, *clusters, round, *withTLS)
		}
		snapshot, err := cache.NewSnapshot(strconv.Itoa(round), resources)
		if err == nil {
			err = snapshots.SetSnapshot(ctx, "all", snapshot)
		}
		if err != nil {
			say("error %v", err)
		}
	}
	apply(1, false)

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		say("error %v", err)
		os.Exit(1)
	}
	service := grpc.NewServer()
	register(service, server.NewServer(ctx, snapshots, callbacks()))
	go func() {
		if err := service.Serve(listener); err != nil {
			say("error %v", err)
		}
	}()
	say("listening %s", listener.Addr())
	obey(apply)
	service.Stop()
}

// Reads commands until the input ends.
func obey(apply func(round int, empty bool)) {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		numbers := make([]int, 0, 2)
		for _, word := range words[min(1, len(words)):] {
			number, err := strconv.Atoi(word)
			if err != nil {
				say("error %v", err)
			}
			numbers = append(numbers, number)
		}
		switch {
		case len(numbers) == 1 && words[0] == "set":
			apply(numbers[0], false)
		case len(numbers) == 1 && words[0] == "empty":
			apply(numbers[0], true)
		case len(numbers) == 2 && words[0] == "churn":
			for round := numbers[0]; round <= numbers[1]; round++ {
				apply(round, false)
				time.Sleep(time.Millisecond)
			}
			say("churned %d", numbers[1])
		default:
			say("error unknown command %q", lines.Text())
		}
	}
}
