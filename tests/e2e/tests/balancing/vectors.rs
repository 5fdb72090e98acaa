//! The same endpoints have the same ring and the same table as in Envoy.
//!
//! `dataplane/upstream/tests/data/vectors.tsv` was recorded from Envoy 1.40 by `MILLRACE_RECORD=1
//! MILLRACE_E2E_SUBJECT=envoy cargo test -p millrace-e2e --test e2e balancing`; the crate's own tests read it, too.

use std::path::PathBuf;
use std::time::Duration;

use millrace_e2e::{Case, case};
use millrace_support::subject::Subject;
use millrace_support::upstream::{Reply, Upstream};

use super::{Host, ask, cluster, lb, locality, policy, routed};

pub(crate) const CASES: &[Case] = &[case!(rings_and_tables), case!(bounded_loads)];

/// Name, balancer (`hostname`: keys are names of endpoints, else metadata), and localities: `weight:key*weight,...`, without weights where there are none.
const VECTORS: &[(&str, &str, &str)] = &[
    ("ring", "ring 1024 8388608 xx", "host-0,host-1,host-2,host-3,host-4,host-5,host-6,host-7,host-8,host-9"),
    ("ring-weights", "ring 64 8388608 xx", "a*1,b*2,c*7"),
    ("ring-small", "ring 1 8388608 xx", "a,b,c,d,e,f,g"),
    ("ring-capped", "ring 6 6 xx", "k0,k1,k2,k3"),
    ("ring-murmur", "ring 100 8388608 murmur", "10.0.0.1:80,10.0.0.2:80,10.0.0.3:80,10.0.0.4:80,10.0.0.5:80"),
    ("ring-localities", "ring 200 8388608 xx", "1:a,b*3;3:c,d;0:e"),
    ("maglev", "maglev 65537", "host-0,host-1,host-2,host-3,host-4,host-5,host-6,host-7,host-8,host-9"),
    ("maglev-weights", "maglev 1009", "a*1,b*2,c*7,d*30"),
    ("maglev-small", "maglev 11", "d,a,c,b"),
    ("ring-hostname", "ring 1024 8388608 xx hostname", "host-0,host-1*3,host-2,host-3"),
    ("ring-murmur-weights", "ring 512 8388608 murmur", "a*1,b*2,c*7"),
    ("ring-default", "ring 1024 8388608 murmur", "host-0*5,host-1*1,host-2*4,host-3*3"),
    ("maglev-hostname", "maglev 65537 hostname", "host-0,host-1*3,host-2,host-3"),
    ("maglev-localities", "maglev 997", "1:a,b*3;3:c,d;0:e"),
];

const REQUESTS: usize = 1000;

fn rings_and_tables(subject: &Subject) {
    let mut lines = String::new();
    for (name, balancer, localities) in VECTORS {
        let picks = drive(subject, balancer, localities);
        lines.push_str(&format!("{name}\t{balancer}\t{localities}\t{picks}\n"));
    }
    let file =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../dataplane/upstream/tests/data/vectors.tsv");
    if std::env::var_os("MILLRACE_RECORD").is_some() && subject.is_envoy() {
        std::fs::write(&file, lines).expect("the vectors are written");
        return;
    }
    let recorded = std::fs::read_to_string(&file).expect("the vectors are there");
    for (got, want) in lines.lines().zip(recorded.lines()) {
        assert_eq!(got, want);
    }
    assert_eq!(lines.lines().count(), recorded.lines().count());
}

/// The positions of the endpoints that requests with `x-key: v0` and so on reach, one digit each.
fn drive(subject: &Subject, balancer: &str, localities: &str) -> String {
    let (plain, by_name) =
        balancer.strip_suffix(" hostname").map_or((balancer, false), |plain| (plain, true));
    let words: Vec<&str> = plain.split(' ').collect();
    let weighted = localities.contains(';');
    let mut fields = match words[..] {
        ["ring", min, max, hash] => format!(
            "lb_policy: RING_HASH\nring_hash_lb_config: {{minimum_ring_size: {min}, maximum_ring_size: {max}, \
             hash_function: {}}}",
            if hash == "xx" { "XX_HASH" } else { "MURMUR_HASH_2" }
        ),
        ["maglev", size] => format!("lb_policy: MAGLEV\nmaglev_lb_config: {{table_size: {size}}}"),
        _ => unreachable!("{balancer}: an unknown balancer"),
    };
    if by_name {
        // Of static endpoints only a typed policy hashes names.
        let own = "consistent_hashing_lb_config: {use_hostname_for_hashing: true}";
        let kind = match words[..] {
            ["ring", min, max, _] => {
                format!("ring_hash.v3.RingHash, minimum_ring_size: {min}, maximum_ring_size: {max}, {own}")
            }
            _ => format!("maglev.v3.Maglev, {own}"),
        };
        fields = format!("load_balancing_policy: {}", policy(&kind));
    }
    if weighted {
        fields.push_str("\ncommon_lb_config: {locality_weighted_lb_config: {}}");
    }
    let (mut all, mut count) = (Vec::new(), 0);
    let mut kept = Vec::new();
    for (zone, text) in localities.split(';').enumerate() {
        let (weight, list) = text.split_once(':').filter(|_| weighted).unwrap_or(("", text));
        let keys: Vec<(&str, &str)> =
            list.split(',').map(|host| host.split_once('*').unwrap_or((host, "1"))).collect();
        let group: Vec<Host> = keys
            .iter()
            .enumerate()
            .map(|(n, (key, weight))| Host {
                upstream: Upstream::fixed(&(count + n).to_string()),
                fields: match by_name {
                    true => format!(", load_balancing_weight: {weight}"),
                    false => {
                        lb(&format!("hash_key: \"{key}\"")) + &format!(", load_balancing_weight: {weight}")
                    }
                },
            })
            .collect();
        count += group.len();
        let weight = if matches!(weight, "" | "0") {
            String::new()
        } else {
            format!("load_balancing_weight: {weight},")
        };
        let mut text = locality(&format!("locality: {{zone: z{zone}}}, {weight}"), &group);
        for (key, _) in keys.iter().filter(|_| by_name) {
            text =
                text.replacen("{endpoint: {address", &format!("{{endpoint: {{hostname: {key}, address"), 1);
        }
        all.push(text);
        kept.push(group);
    }
    let proxy = routed(subject, ", hash_policy: [{header: {header_name: x-key}}]", &cluster(&fields, &all));
    let mut client = proxy.client();
    let digits = (0..REQUESTS).map(|n| ask(&mut client, "/", &[("x-key", &format!("v{n}"))]));
    digits.map(|host| char::from_digit(host.unsigned_abs(), 36).unwrap_or('?')).collect()
}

/// With a bound, requests of one hash go on to others while its endpoint is busy, in an order of the hash.
fn bounded_loads(subject: &Subject) {
    let mut seen = Vec::new();
    for policy in ["RING_HASH", "MAGLEV"] {
        let slow = |n: usize| {
            let body = n.to_string();
            Upstream::start(move |_| Reply::ok(&body).after(Duration::from_millis(1500)))
        };
        let all: Vec<Host> =
            (0..4).map(|n| Host { upstream: slow(n), fields: lb(&format!("hash_key: host-{n}")) }).collect();
        let fields = format!(
            "lb_policy: {policy}\ncommon_lb_config: {{consistent_hashing_lb_config: {{hash_balance_factor: 100}}}}"
        );
        let hash = ", hash_policy: [{header: {header_name: x-key}}]";
        let proxy = routed(subject, hash, &cluster(&fields, &[locality("", &all)]));
        let mut clients: Vec<_> = (0..10).map(|_| proxy.client()).collect();
        for (n, client) in clients.iter_mut().enumerate() {
            client.request("GET", "/", &[("host", "h"), ("x-key", "v1")], b"");
            proxy.wait_stat("cluster.up.upstream_rq_total", n as u64 + 1);
        }
        let answers: String =
            clients.iter_mut().map(|client| client.response("GET").expect("an answer").text()).collect();
        seen.push(answers);
    }
    assert_eq!(seen, ["2211213321", "2211213321"], "the order of Envoy");
}
