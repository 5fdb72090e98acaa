//! `docs/configuration.md`, printed from the tables.

use std::fmt::Write;

use millrace_config::Http2Options;
use millrace_proto::schema::Message;

use super::{Status, Table, compared, control_tables, tables};

const HEAD: &str = "# Configuration coverage

Printed by `cargo run -p millrace-translate --example configuration-table` from the table in
`control-client/translate/src/fields/`; a test fails when the two differ. Do not edit by hand.

For every message that Millrace reads, each field is one of:

- **served**: it does what Envoy documents;
- **no effect**: accepted, and nothing would change if it were served;
- **reported**: accepted with one warning in the log that names the field; the text says what happens instead;
- **refused**: the resource is rejected with the field's path, because ignoring the field would change security
  or correctness.

A field that is set to its default value is never reported or refused. Messages without a section here belong to
extensions that this build does not have: a resource that uses one is refused by name. A field that Envoy's
messages do not have is refused in files (`--allow-unknown-static-fields` turns that into a warning), and reported once
in what a control plane sends (`--reject-unknown-dynamic-fields`, `--ignore-unknown-dynamic-fields`).

How far this carries with real control planes: golden resources (clusters, load assignments, listeners, route
configurations) of their own tests, judged by this build. `tests/conformance/verdicts/resources.tsv` says what those
that are not served ask for; a test compares both with what it finds.

| plane | accepted | not served yet | refused, or of unknown types |
|---|---|---|---|
| consul | 53 | 8 | 2 |
| kuma | 152 | 6 | 12 |
| gateway | 133 | 18 | 2 |
| envoy | 2 | 0 | 6 |
| istio | 29 | 7 | 41 |

";

const DISCOVERY: &str = "
## What comes on its own

CDS, EDS, LDS, RDS, RTDS, SDS, SRDS and VHDS are served.

SDS (`sds_config`) brings certificates, authorities and session ticket keys: over ADS, over a gRPC stream for each name,
from files. Listeners and clusters wait for their secrets, `initial_fetch_timeout` at most; then they serve, and
handshakes fail until the secrets come. A secret that cannot be used (broken PEM, a key that does not fit, another kind)
is refused with its field path, and the one before it stays. So is a certificate that has expired already while one that
has not is held; Envoy would take it. Files that a secret names are read when the secret comes, and again when the file
that holds it is moved into place once more.

VHDS (`RouteConfiguration.vhds`) adds virtual hosts to tables of RDS, over
the incremental variant only, as in Envoy; an inline table with it is refused. A listener waits for the first answer.
Virtual hosts are not asked for on demand: the filter `envoy.filters.http.on_demand` is refused.

SRDS (`scoped_routes.scoped_rds`) brings scopes, which hold their route table or name one of RDS. A listener waits for
the first scopes and their tables. Scopes in the listener (`scoped_route_configurations_list`) hold their tables, as in
Envoy. A request without a scope gets 404.

ECDS (`HttpFilter.config_discovery`) is refused.
";

const TLS: &str = "
## TLS

Where this differs from Envoy 1.40, on purpose:

- TLS 1.2 and 1.3 only, on both sides, and clients offer 1.3 unless `tls_maximum_protocol_version` says otherwise (Envoy's
  clients offer 1.2 by default). A lower minimum is reported, a lower maximum refused.
- Suites with CBC, key exchange by RSA and pre-shared keys do not exist: of a list that names some of them the rest is
  used, and a list of nothing else is refused. Groups of equal preference are read in their order.
- Chains whose leaf has an RSA or an ECDSA key (P-256, P-384, P-521); encrypted keys and PKCS#12 are refused.
- Keys of sessions are never logged (`key_log`), and no dump, log line or refusal shows a private key.
- Connections that ask for renegotiation are closed.
- The endpoint's metadata chooses among `transport_socket_matches`; the locality's counts where the endpoint has none at
  all. Envoy also asks the locality when the endpoint has some and none of them matches.
";

const GRPC: &str = "
## gRPC

Where the filters differ from Envoy 1.40, on purpose:

- `grpc_stats`: a `grpc-status` that gRPC does not define counts as `unknown_status` instead of under its own text, and
  the number of methods with statistics of their own is bounded (`docs/limits.md`). Calls of the Connect protocol are
  not counted.
- `grpc_web`: padded messages of a text request may follow each other in one piece, as the protocol allows (Envoy
  answers 400). Messages of a text response pass as they come instead of one by one; the bytes are the same.
- `grpc_http1_bridge`: with `upgrade_protobuf_to_grpc` protobufs over HTTP/2 stay as they are (Envoy makes them gRPC
  without a length prefix), a request longer than the buffer gets 413, and a `content-length` that counts the removed
  prefix is not passed on.
";

const SHAPING: &str = "
## Endpoints that misbehave, and x-envoy headers

Compared with Envoy 1.40 with the same bytes: answers that are cut, late, malformed or interim, every `retry_on`, hedging,
timeouts and `x-envoy-` request headers. Where it differs:

- What is stricter about HTTP/1.1 stands in docs/threat-model.md. An answer without a length whose connection is reset is
  cut short for the client, too; Envoy takes it for whole.
- After an answer that is cut short, or that comes before the end of its request, the client's connection gets its FIN at
  once, and `delayed_close_timeout` bounds how long its rest is read. Envoy waits that long for the client's FIN first, so
  that `downstream_cx_destroy_remote` or `downstream_cx_delayed_close_timeout` counts what is `destroy_local` here.
- A body of a refused try, or of a followed redirect, that has come whole is read, and its connection serves on.
- `100 Continue` is sent once the body is wanted, in Envoy with the head: a request that is refused, or answered while a
  filter delays it, gets its final answer alone.
- An endpoint that two rules of outlier detection name in one interval is out once, and counts so (twice in Envoy, whose
  `ejections_active` never goes down again by that).
- `x-envoy-upstream-alt-stat-name` makes no statistics: clients do not name counters. Of a header that stands twice the
  first one counts; Envoy joins them, which makes numbers unreadable.
- With `budget_interval` a retry budget counts in parts of a 32nd of it: a request counts for that much less at most.
- An assignment in which nothing but `drop_overloads` is new takes effect at once; in Envoy, with the next change of the
  endpoints. `upstream_rq_drop_overload`, which is for load reports in Envoy, is printed once requests were refused.

## Filters that shape

Where the filters differ from Envoy 1.40, on purpose or because something is not served yet:

- Percentages and figures that the runtime may override are read when their resource is translated.
- `fault`: requests are not counted by the client's cluster (`fault.<cluster>.aborts_injected`), nor has the runtime keys
  for one cluster. `max_active_faults` is exact; Envoy's may be passed by requests at the same moment.
- `local_ratelimit`: what `x-ratelimit-remaining` and `x-ratelimit-reset` say is of the moment at which the request came.
  Metadata of clusters make no descriptors. Where more than one descriptor without a value matches, the first one counts.
- `connection_limit`: a connection that is kept for the `delay` makes no TLS handshake meanwhile.
- `set_filter_state`: objects that nobody here reads are refused by the name of their type. Where Envoy throws, because a
  read-only object is written again or a stream writes a key of its connection, the first object stays.
- `header_to_metadata`, `json_to_metadata`: numbers in hexadecimal are none.
- `local_reply_config`: answers of the filters `cors` and `health_check` are as they are.
- `header_mutation`: query parameters keep their escapes (Envoy writes them decoded, also into the request line). The
  parts of a head that are no fields cannot be removed.
- `buffer`: what comes while an earlier filter delays the request counts, too (1.40 lets it pass, however long it is). What
  is kept for a retry has the bound of docs/limits.md, whatever `max_request_bytes` says.
- `compressor`: with a `compressor_library` of the route the body has the coding that the head names (1.40 sends that of the
  filter), and `zstd`, too, hands on what it has when the endpoint pauses (1.40 keeps it until the end). `input_block_bits`
  is no more than `window_bits`, and a `compression_level` of `zstd` no more than 19. With `status_header_enabled` a response
  that is too short counts once (twice in 1.40).
- `decompressor`: a body that is malformed, ends early or grows too much ends its stream (`docs/limits.md`); 1.40 ends it as
  if what it could decompress were all of it. Members of a gzip body that follow the first one are decompressed, too.
- `bandwidth_limit`: the bucket begins with one `fill_interval` at the first request, Envoy's when it was configured. Bytes
  of a response are counted as they leave for the client, behind every other filter, and local replies over HTTP/1.1 are
  not held back.
- `admission_control`: trailers of HTTP/1.1 endpoints count, whether the cluster passes them on or not.
- `adaptive_concurrency`: no more requests pass than the limit says (Envoy's may be passed by requests at the same moment).
  Its timers are looked at when requests come and go, its gauges are there once a request came.
- `custom_response`: a redirected HEAD asks with HEAD (1.40 asks with GET, and sends the body of that answer to a client that
  expects none), and the request that is made instead has no body (1.40 sends what it has kept for retries, in the GET).
  Answers that become a 204 or 304 lose their body, or keep their status if the body is on its way already (1.40 sends bodies
  behind such heads). The connection of the answer that is replaced serves on.
";

const FORWARD_PROXY: &str = "
## Dynamic forward proxy

Answers, details, counters and what `/clusters` lists are Envoy 1.40's. Where it differs:

- A host with a port that is none (`a.test:99999`) and an empty one are malformed requests (400 before any filter); Envoy
  asks for the former as a name, which fails.
- `max_hosts` is exact. `dns_refresh_rate` counts in milliseconds (in 1.40 in whole seconds).
- Details of failed questions are in the words of Envoy's c-ares, as far as the resolver of this build tells causes apart.
- `sub_clusters_config` and `sub_cluster_config` are refused; hosts do not share connections
  (`allow_coalesced_connections`), and nothing is kept when the process ends (`key_value_config`).
- `sni_dynamic_forward_proxy` is served in front of `tcp_proxy` only.
- Endpoints are not checked (`health_checks`).
- What it opens, and what to do about it, stands in docs/threat-model.md.
";

const OVERLOAD: &str = "
## Overload

Names, figures, answers and counters are Envoy 1.40's, measured with a pressure written to a file. Where it differs:

- `fixed_heap` counts resident anonymous memory. `cgroup_memory` looks at ancestors of the group, too. All free memory is
  given back by `shrink_heap`, at once and then every `timer_interval`.
- Streams are reset over HTTP/2 only, as in Envoy; what is kept for a retry counts with what they hold.
- `HTTP_DOWNSTREAM_STREAM_FLUSH` is reported: how long a client may leave a response unread has a bound of its own.
- A connection that was told `connection: close` (`disable_http_keepalive`, `http2_server_go_away_on_dispatch` over
  HTTP/1.1, or because it had been idle for too long) ends with that response; Envoy goes on answering on it.
- `close_idle_http_connections` and the points of HTTP/3 have nothing to do. Points of other names are taken and reported;
  Envoy takes them too.
- With `connection_pool_new_connection` a request without an idle connection fails, and whoever waits already goes on waiting.
- Connections of listeners with `ignore_global_conn_limit` do not count at all. The admin endpoint counts nowhere.
- Without `overload_manager` some bounds hold: docs/operations.md.
";

const HTTP2: &str = "
## HTTP/2

`codec_type: AUTO` serves HTTP/2 where a connection begins with its preface (prior knowledge), else HTTP/1.1; `HTTP2` serves
nothing else. Clusters speak the version that their options name, `use_downstream_protocol_config` that of the request.
`auto_config` chooses by ALPN and needs TLS on every transport socket: without it the cluster is refused, as by Envoy.

Defaults are Envoy's but for these, where Envoy's are more than its own documentation recommends for peers that are not
trusted (its guide to edge proxies). What is configured holds as it is.

| field of `http2_protocol_options` | Envoy | listeners | clusters |
|---|---|---|---|
| `max_concurrent_streams` | 1,024 | STREAMS_DOWN | STREAMS_UP |
| `initial_stream_window_size` | 16 MiB | STREAM_WINDOW | STREAM_WINDOW |
| `initial_connection_window_size` | 24 MiB | CONNECTION_WINDOW | CONNECTION_WINDOW |

With Envoy's windows one peer may have 24 MiB of a connection buffered. Endpoints with a long round trip and large bodies
need more than ours: raise both windows of their cluster.

An invalid message always resets its stream and leaves its neighbours alone; Envoy closes the connection unless
`override_stream_error_on_invalid_http_message` is set. That field, the deprecated one and the connection manager's are
reported, because they cannot make it otherwise. Floods of frames close their connection as in Envoy; docs/limits.md has
the figures.
";

const CONTROL: &str = "
## Static clusters that a control plane is reached through

A config source names a static cluster (`envoy_grpc.cluster_name`, `cluster_names`). Most clusters serve
traffic too. A static cluster that only the control client can use is kept
out of the data plane and named in the log; routes and TCP proxies that name it are refused. For control planes, and for
the secrets of their clusters, these tables replace the ones above.
";

/// The whole document; `record` is the text of `tests/e2e/parity.tsv`.
pub fn document(record: &str) -> String {
    let mut out = HEAD.to_owned();
    let counts = [Status::Served, Status::NoEffect(""), Status::Reported(""), Status::Refused("")]
        .map(|status| (<&str>::from(status), tables().map(|table| count(table, status)).sum::<usize>()));
    let total: usize = counts.iter().map(|(_, n)| n).sum();
    let parts = counts.map(|(name, n)| format!("{n} {name}"));
    let _ = writeln!(out, "{} messages, {total} fields: {}.", tables().count(), parts.join(", "));
    for table in tables() {
        section(table, 2, &mut out);
    }
    out.push_str(DISCOVERY);
    out.push_str(TLS);
    out.push_str(&http2());
    out.push_str(GRPC);
    out.push_str(SHAPING);
    out.push_str(FORWARD_PROXY);
    out.push_str(OVERLOAD);
    compared::section(record, &mut out);
    out.push_str(CONTROL);
    for table in control_tables() {
        section(table, 3, &mut out);
    }
    out
}

fn http2() -> String {
    let (down, up) = (Http2Options::DOWNSTREAM, Http2Options::UPSTREAM);
    let thousands = |number: u32| match number / 1000 {
        0 => number.to_string(),
        above => format!("{above},{:03}", number % 1000),
    };
    HTTP2
        .replace("STREAMS_DOWN", &thousands(down.max_concurrent_streams))
        .replace("STREAMS_UP", &thousands(up.max_concurrent_streams))
        .replace("STREAM_WINDOW", &format!("{} KiB", down.initial_stream_window / 1024))
        .replace("CONNECTION_WINDOW", &format!("{} MiB", down.initial_connection_window / 1024 / 1024))
}

fn count(table: &Table, status: Status) -> usize {
    let name = <&str>::from(status);
    let same = table.fields.iter().filter(|(s, _)| <&str>::from(*s) == name);
    same.map(|(_, names)| names.split_whitespace().count()).sum()
}

fn section(table: &Table, level: usize, out: &mut String) {
    let _ = writeln!(out, "\n{} {}\n", "#".repeat(level), table.message);
    if Message::by_name(table.message).is_none_or(|message| message.fields().next().is_none()) {
        out.push_str("No fields.\n");
        return;
    }
    out.push_str("| fields | status | |\n|---|---|---|\n");
    for (status, names) in table.fields {
        let names: Vec<String> = names.split_whitespace().map(|name| format!("`{name}`")).collect();
        let why = match status {
            Status::Served => "",
            Status::NoEffect(why) | Status::Reported(why) | Status::Refused(why) => why,
        };
        let _ = writeln!(out, "| {} | {} | {why} |", names.join(", "), <&str>::from(*status));
    }
}
