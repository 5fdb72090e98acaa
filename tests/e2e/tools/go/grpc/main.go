// gRPC by grpc-go over mutual TLS on both sides: `grpc-peer serve CA CHAIN KEY` is the interop service behind TLS, says where
// it listens and ends with its input; `grpc-peer call ADDRESS NAME CA CHAIN KEY` runs the interop cases against a server.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
)

func main() {
	var err error
	switch {
	case len(os.Args) == 5 && os.Args[1] == "serve":
		err = serve(os.Args[2], os.Args[3], os.Args[4])
	case len(os.Args) == 7 && os.Args[1] == "call":
		err = call(os.Args[2], os.Args[3], os.Args[4], os.Args[5], os.Args[6])
	default:
		err = fmt.Errorf("usage: %s serve CA CHAIN KEY | call ADDRESS NAME CA CHAIN KEY", os.Args[0])
	}
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
}

func files(ca, chain, key string) (*x509.CertPool, tls.Certificate, error) {
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, tls.Certificate{}, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, tls.Certificate{}, errors.New("no certificate in " + ca)
	}
	pair, err := tls.LoadX509KeyPair(chain, key)
	return pool, pair, err
}

func serve(ca, chain, key string) error {
	pool, pair, err := files(ca, chain, key)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	config := &tls.Config{
		Certificates: []tls.Certificate{pair},
		ClientCAs:    pool,
		ClientAuth:   tls.RequireAndVerifyClientCert,
	}
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(config)))
	testgrpc.RegisterTestServiceServer(server, interop.NewTestServer())
	fmt.Println("listening", listener.Addr())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	return server.Serve(listener)
}

// call ends the process with a message when a case fails.
func call(address, name, ca, chain, key string) error {
	pool, pair, err := files(ca, chain, key)
	if err != nil {
		return err
	}
	config := &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: pool, ServerName: name}
	connection, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	if err != nil {
		return err
	}
	defer connection.Close()
	client := testgrpc.NewTestServiceClient(connection)
	// Not DoTimeoutOnSleepingServer: who of client and server is first to see the deadline is a matter of luck behind a proxy.
	cases := []func(context.Context){
		func(c context.Context) { interop.DoEmptyUnaryCall(c, client) },
		func(c context.Context) { interop.DoLargeUnaryCall(c, client) },
		func(c context.Context) { interop.DoClientStreaming(c, client) },
		func(c context.Context) { interop.DoServerStreaming(c, client) },
		func(c context.Context) { interop.DoPingPong(c, client) },
		func(c context.Context) { interop.DoEmptyStream(c, client) },
		func(c context.Context) { interop.DoCancelAfterBegin(c, client) },
		func(c context.Context) { interop.DoCancelAfterFirstResponse(c, client) },
		func(c context.Context) { interop.DoCustomMetadata(c, client) },
		func(c context.Context) { interop.DoStatusCodeAndMessage(c, client) },
		func(c context.Context) { interop.DoSpecialStatusMessage(c, client) },
		func(c context.Context) { interop.DoUnimplementedMethod(c, connection) },
	}
	for _, one := range cases {
		limit, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		one(limit)
		cancel()
	}
	fmt.Println("passed", len(cases))
	return nil
}
