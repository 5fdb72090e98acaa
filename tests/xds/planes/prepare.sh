#!/usr/bin/env bash
# Brings the real control planes of the tests onto this machine: a Python environment in target/xds-venv and the Go
# program in target/xds-go. Does nothing where they are already there; prints what it has.
set -euo pipefail
cd "$(dirname "$0")"
root=$(cd ../../.. && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
venv=$target/xds-venv
wanted=$(sha256sum requirements.txt | cut -d' ' -f1)

if [ "$(cat "$venv/prepared" 2>/dev/null)" != "$wanted" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r requirements.txt
    echo "$wanted" > "$venv/prepared"
fi
"$venv/bin/python" --version
"$venv/bin/python" - <<'PYTHON'
from importlib.metadata import version
for name in ("grpcio", "xds-protos", "protobuf", "sovereign"):
    print(name, version(name))
PYTHON

PATH=$PATH:/usr/local/go/bin
if command -v go >/dev/null; then
    go version
    mkdir -p "$target/xds-go"
    (cd go && go build -o "$target/xds-go/control-plane" . && go list -m github.com/envoyproxy/go-control-plane)
else
    echo "go is not installed: the go-control-plane tests cannot run"
    [ "${CI:-false}" != true ] || exit 1
fi
