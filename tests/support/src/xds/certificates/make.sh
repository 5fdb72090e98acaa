#!/bin/sh
# Makes the throw-away certificates of the scripted control plane: a CA, a server and a client, valid for 100 years.
set -eu
cd "$(dirname "$0")"
key() { openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out "$1.key.pem"; }
key ca
openssl req -x509 -new -key ca.key.pem -days 36500 -subj "/CN=test control plane CA" -out ca.pem
leaf() {
    key "$1"
    openssl req -new -key "$1.key.pem" -subj "/CN=$1" -out "$1.csr"
    printf 'subjectAltName=%s\nbasicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth,clientAuth\n' "$2" > ext
    openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key.pem -CAcreateserial -days 36500 -extfile ext -out "$1.pem"
    rm "$1.csr" ext
}
leaf server "DNS:control.test,DNS:localhost,IP:127.0.0.1,URI:spiffe://test/control"
leaf client "DNS:sidecar.test,URI:spiffe://test/sidecar"
rm -f ca.key.pem ca.srl
