//! What a control plane only wants checked.

use millrace_ads::ResourceType::Cluster;
use millrace_config::ClusterId;
use millrace_proto::{message_from_json, schema, yaml};

use super::lab::*;

const CHECK: &str =
    "{timeout: 1s, interval: 1s, unhealthy_threshold: 1, healthy_threshold: 1, tcp_health_check: {}}";

fn cluster(name: &str, ports: &[u16]) -> String {
    let one =
        |port: &u16| format!("{{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}");
    let all: Vec<String> = ports.iter().map(one).collect();
    format!(
        "{{cluster_name: '{name}', health_checks: [{CHECK}], locality_endpoints: [{{endpoints: [{}]}}]}}",
        all.join(", ")
    )
}

fn specifier(clusters: &[String]) -> Vec<u8> {
    let text = format!("{{interval: 2s, cluster_health_checks: [{}]}}", clusters.join(", "));
    let schema = schema::Message::by_name("envoy.service.health.v3.HealthCheckSpecifier").unwrap();
    message_from_json(schema, &yaml::parse(&text).unwrap()).unwrap()
}

/// What shards are told: names that are checked, and ids that are not any more.
fn assign(lab: &mut Lab, bytes: &[u8]) -> Result<(Vec<String>, Vec<ClusterId>), String> {
    let mut result = Ok(None);
    let actions = lab.work(|assembly, turn| result = assembly.assign_checks(turn, bytes));
    result?;
    let update = published(&actions).into_iter().next();
    let checked = update.iter().flat_map(|u| &u.warming).map(|cluster| cluster.name.to_string()).collect();
    let gone = update.iter().flat_map(|u| &u.clusters);
    let gone = gone.inspect(|(_, cluster)| assert!(cluster.is_none())).map(|(id, _)| *id).collect();
    Ok((checked, gone))
}

fn ids(lab: &Lab) -> Vec<ClusterId> {
    lab.assembly.health_clusters().map(|cluster| cluster.id).collect()
}

#[test]
fn clusters_are_checked_and_serve_nothing() {
    let mut lab = Lab::serving();
    lab.say(Cluster, &[static_cluster("a", 1)], &[]);
    let traffic = lab.assembly.snapshot().cluster_by_name("a").map(|cluster| cluster.id).unwrap();
    let both = [cluster("a", &[1, 2]), cluster("b", &[3]), cluster("a", &[4])];
    assert_eq!(assign(&mut lab, &specifier(&both)), Ok((vec!["a".into(), "b".into()], vec![])));
    let first = ids(&lab);
    assert!(first.len() == 2 && !first.contains(&traffic), "ids of their own");
    assert!(lab.assembly.snapshot().cluster_by_name("b").is_none());
    // A name that stays keeps its id, one that goes is named.
    let next = [cluster("", &[5]), cluster("a", &[1]), cluster("", &[6])];
    let (checked, gone) = assign(&mut lab, &specifier(&next)).unwrap();
    assert_eq!((checked, gone), (vec![String::new(), "a".into(), String::new()], vec![first[1]]));
    assert_eq!(ids(&lab)[1], first[0]);
    assert_eq!(assign(&mut lab, &specifier(&[])).unwrap().1.len(), 3);
    assert!(lab.assembly.snapshot().cluster_by_name("a").is_some(), "traffic does not notice");
}

#[test]
fn what_is_refused_leaves_the_last_one_in_force() {
    let mut lab = Lab::serving();
    assign(&mut lab, &specifier(&[cluster("a", &[1])])).unwrap();
    let before = ids(&lab);
    let twice = cluster("b", &[1]).replace(CHECK, &format!("{CHECK}, {CHECK}"));
    let named = cluster("b", &[1]).replace("127.0.0.1", "some.host");
    let redis = cluster("b", &[1])
        .replace("tcp_health_check: {}", "custom_health_check: {name: envoy.health_checkers.redis}");
    for (bad, why) in [
        (specifier(&[twice]), "cluster_health_checks[0].health_checks: Multiple health checks"),
        (specifier(&[cluster("a", &[2]), named]), "cluster_health_checks[1]"),
        (specifier(&[redis]), "health_checks[0].custom_health_check"),
        (vec![0xff], ""),
    ] {
        let refused = assign(&mut lab, &bad).unwrap_err();
        assert!(refused.contains(why), "{refused}");
        assert_eq!(ids(&lab), before);
    }
}
