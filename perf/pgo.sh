#!/usr/bin/env bash
# Builds what a release ships: target/pgo/millrace, laid out by how the lab's traffic ran through an instrumented build
# (docs/decisions/0023-releases-are-profile-guided.md). Needs what `perf run` needs; half an hour on two cores.
set -euo pipefail
cd "$(dirname "$0")/.."

# What the paths are weighed by. Every protocol pair, with and without a log and filters; configurations of many clusters.
scenarios=(
    http1-small http1-64k http1-connect http1-access-log http1-filters http1-clusters-few mesh-http1
    h2-8x8 h2-1x100 h2-64k grpc-unary mesh-h2-8x8 http1-to-h2 h2-to-http1
    tcp-small mtls-http1-small mtls-h2-8x8 tls-handshakes
)

target=$PWD/target/pgo
host=$(rustc -vV | sed -n 's/^host: //p')
tools=$(rustc --print sysroot)/lib/rustlib/$host/bin
[ -x "$tools/llvm-profdata" ] || rustup component add llvm-tools
export MILLRACE_REVISION="${MILLRACE_REVISION:-$(git rev-parse HEAD 2>/dev/null || printf '%040d' 0)}"

# `--target` keeps build scripts and macros out of it.
build() {
    RUSTFLAGS="$2" cargo build --locked --release -p millrace --target "$host" --target-dir "$target/$1"
}

build generate "-Cprofile-generate=$target/raw"
cargo build --locked --release -p millrace-perf

rm -rf "$target/raw"
# The profile of a run is written when the process ends.
MILLRACE_BIN=$target/generate/$host/release/millrace LLVM_PROFILE_FILE=$target/raw/%p-%m.profraw \
    target/release/perf run "${scenarios[@]}" --peers millrace-uring,millrace-epoll --rounds 1 --seconds 1 --no-save
profile=$target/$(date +%s).profdata
rm -f "$target"/*.profdata
"$tools/llvm-profdata" merge -o "$profile" "$target"/raw/*.profraw

MILLRACE_PROFILE_GUIDED=1 build use "-Cprofile-use=$profile"
cp "$target/use/$host/release/millrace" "$target/millrace"
"$target/millrace" --version
