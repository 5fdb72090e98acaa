#!/usr/bin/env bash
# Brings the programs of others that tests/e2e drives HTTP/2 and TLS with into target/http2-tools: h2spec, grpc-go's interop
# client and server, and our own Go programs on net/http2 and crypto/tls. Does nothing where they are already there; prints what it has.
set -euo pipefail
cd "$(dirname "$0")"
root=$(cd ../../.. && pwd)
tools=${CARGO_TARGET_DIR:-$root/target}/http2-tools
mkdir -p "$tools"

PATH=$PATH:/usr/local/go/bin
if ! command -v go >/dev/null; then
    echo "go is not installed: h2spec and the interop tests of Go cannot run"
    [ "${CI:-false}" != true ] || exit 1
    exit 0
fi
go version

# The newest release is v2.6.0 (147 strict cases), which module proxies know by its commit only, and some not at all; what
# they all have is v2.2.1 (146).
if [ ! -x "$tools/h2spec" ]; then
    for version in af83a65f0b6273ef38bf778d400d98892e7653d8 v2.2.1+incompatible; do
        if GOBIN=$tools go install "github.com/summerwind/h2spec/cmd/h2spec@$version"; then
            echo "h2spec $version"
            break
        fi
    done
fi
test -x "$tools/h2spec"

(
    cd go
    go build -o "$tools/interop-client" google.golang.org/grpc/interop/client
    go build -o "$tools/interop-server" google.golang.org/grpc/interop/server
    go build -o "$tools/http2-peer" .
    go build -o "$tools/tls-peer" ./tls
    go build -o "$tools/grpc-peer" ./grpc
    go list -m google.golang.org/grpc golang.org/x/net
)
