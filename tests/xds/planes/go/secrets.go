// Secrets of a round: a self-signed pair whose name tells the round.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tls "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
)

const pairName = "pair"

func text(kind string, der []byte) *core.DataSource {
	bytes := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	return &core.DataSource{Specifier: &core.DataSource_InlineBytes{InlineBytes: bytes}}
}

// A certificate for round-N.test. Panics only when the machine has no randomness.
func pair(round int) *tls.Secret {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(int64(round)),
		DNSNames:     []string{fmt.Sprintf("round-%d.test", round)},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(err)
	}
	return &tls.Secret{Name: pairName, Type: &tls.Secret_TlsCertificate{TlsCertificate: &tls.TlsCertificate{
		CertificateChain: text("CERTIFICATE", der),
		PrivateKey:       text("PRIVATE KEY", private),
	}}}
}

// A transport socket that shows the pair.
func secured(source string) *core.TransportSocket {
	context := &tls.DownstreamTlsContext{CommonTlsContext: &tls.CommonTlsContext{
		TlsCertificateSdsSecretConfigs: []*tls.SdsSecretConfig{{
			Name:      pairName,
			SdsConfig: configSource(source),
		}},
	}}
	return &core.TransportSocket{
		Name:       "envoy.transport_sockets.tls",
		ConfigType: &core.TransportSocket_TypedConfig{TypedConfig: pack(context)},
	}
}
