// TLS by Go's crypto/tls on both sides: `tls-peer serve CA CHAIN KEY` is an HTTPS upstream that demands a certificate, says
// where it listens and ends with its input; `tls-peer call ADDRESS NAME CA CHAIN KEY` checks what it gets from a server.
package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
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

// serve answers every request with its body, and says in fields which protocol and whose certificate it was.
func serve(ca, chain, key string) error {
	pool, pair, err := files(ca, chain, key)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Proto", r.Proto)
		if peer := r.TLS.PeerCertificates; len(peer) > 0 && len(peer[0].URIs) > 0 {
			w.Header().Set("X-Peer", peer[0].URIs[0].String())
		}
		body, err := io.ReadAll(r.Body)
		if err == nil {
			_, _ = w.Write(body)
		}
	})
	server := &http.Server{Handler: handler, TLSConfig: &tls.Config{
		Certificates: []tls.Certificate{pair},
		ClientCAs:    pool,
		ClientAuth:   tls.RequireAndVerifyClientCert,
	}}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	fmt.Println("listening", listener.Addr())
	return server.ServeTLS(listener, "", "")
}

type peer struct {
	address string
	config  *tls.Config
}

func call(address, name, ca, chain, key string) error {
	pool, pair, err := files(ca, chain, key)
	if err != nil {
		return err
	}
	config := &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}, ServerName: name}
	p := peer{address, config}
	checks := []struct {
		name string
		run  func() error
	}{
		{"http/1.1 over 1.2", func() error { return p.exchanges(tls.VersionTLS12, false) }},
		{"http/1.1 over 1.3", func() error { return p.exchanges(tls.VersionTLS13, false) }},
		{"h2 over 1.2", func() error { return p.exchanges(tls.VersionTLS12, true) }},
		{"h2 over 1.3", func() error { return p.exchanges(tls.VersionTLS13, true) }},
		{"resumption", p.resumption},
		{"curves", p.curves},
		{"without a certificate", p.anonymous},
	}
	for _, check := range checks {
		if err := check.run(); err != nil {
			return fmt.Errorf("%s: %w", check.name, err)
		}
	}
	fmt.Println("passed", len(checks))
	return nil
}

func (p peer) client(config *tls.Config, two bool) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!two)
	protocols.SetHTTP2(two)
	dial := &net.Dialer{}
	return &http.Client{Transport: &http.Transport{
		Protocols: protocols, TLSClientConfig: config, DialContext: dial.DialContext,
	}}
}

func (p peer) exchanges(version uint16, two bool) error {
	config := p.config.Clone()
	config.MinVersion, config.MaxVersion = version, version
	client := p.client(config, two)
	var group sync.WaitGroup
	failures := make(chan error, 64)
	for n := range 32 {
		group.Go(func() { failures <- p.exchange(client, bytes.Repeat([]byte{byte(n)}, n*n*1000), version, two) })
	}
	group.Wait()
	close(failures)
	for err := range failures {
		if err != nil {
			return err
		}
	}
	return nil
}

func (p peer) exchange(client *http.Client, body []byte, version uint16, two bool) error {
	response, err := client.Post("https://"+p.address+"/", "application/octet-stream", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	back, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	right := response.StatusCode == 200 && bytes.Equal(back, body) && (response.ProtoMajor == 2) == two
	if !right || response.TLS.Version != version {
		return fmt.Errorf("%s %d %s, %d octets of %d", response.Proto, response.StatusCode,
			tls.VersionName(response.TLS.Version), len(back), len(body))
	}
	return nil
}

// shake makes one request on a connection of its own and tells what was agreed upon.
func (p peer) shake(config *tls.Config) (tls.ConnectionState, error) {
	conn, err := tls.Dial("tcp", p.address, config)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")); err != nil {
		return tls.ConnectionState{}, err
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	if !bytes.HasPrefix(answer, []byte("HTTP/1.1 200")) {
		return tls.ConnectionState{}, fmt.Errorf("answer %q", answer)
	}
	return conn.ConnectionState(), nil
}

func (p peer) resumption() error {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		config := p.config.Clone()
		config.MinVersion, config.MaxVersion = version, version
		config.ClientSessionCache = tls.NewLRUClientSessionCache(8)
		for n := range 4 {
			state, err := p.shake(config)
			if err != nil {
				return err
			}
			if state.DidResume != (n > 0) {
				return fmt.Errorf("%s, round %d: resumed %v", tls.VersionName(version), n, state.DidResume)
			}
		}
	}
	return nil
}

func (p peer) curves() error {
	for _, curve := range []tls.CurveID{tls.X25519, tls.CurveP256} {
		config := p.config.Clone()
		config.CurvePreferences = []tls.CurveID{curve}
		config.MinVersion = tls.VersionTLS13
		if _, err := p.shake(config); err != nil {
			return fmt.Errorf("%v: %w", curve, err)
		}
	}
	// Whatever Go offers by itself, a key exchange of two kinds included.
	_, err := p.shake(p.config)
	return err
}

func (p peer) anonymous() error {
	config := p.config.Clone()
	config.Certificates = nil
	if _, err := p.shake(config); err == nil {
		return errors.New("served without a certificate")
	}
	return nil
}
