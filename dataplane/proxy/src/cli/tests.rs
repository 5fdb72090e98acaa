//! The command line against Envoy's: values, defaults, texts and exit codes.

use super::*;

fn run(args: &[&str]) -> Result<Options, CliExit> {
    let args: Vec<String> = std::iter::once("envoy").chain(args.iter().copied()).map(str::to_owned).collect();
    parse(&args)
}

fn refused(args: &[&str]) -> String {
    let exit = run(args).unwrap_err();
    assert_eq!((exit.code, exit.stdout.as_str()), (1, ""), "{args:?}");
    exit.stderr
}

#[test]
fn defaults_are_envoys() {
    let options = run(&[]).unwrap();
    assert_eq!(options.mode, Mode::Serve);
    assert_eq!(options.concurrency, None);
    assert_eq!(options.drain_time, Duration::from_secs(600));
    assert_eq!(options.file_flush_interval, Duration::from_secs(10));
    assert_eq!(options.file_flush_min_bytes, 64 * 1024);
    assert_eq!(options.log_level, Level::Info);
    assert_eq!(options.io, IoChoice::Auto);
    assert!(options.without_effect.is_empty() && !options.demo);
}

#[test]
fn what_pilot_agent_passes() {
    let options = run(&[
        "-c",
        "etc/istio/proxy/envoy-rev.json",
        "--drain-time-s",
        "45",
        "--drain-strategy",
        "immediate",
        "--local-address-ip-version",
        "v4",
        "--file-flush-interval-msec",
        "1000",
        "--disable-hot-restart",
        "--allow-unknown-static-fields",
        "-l",
        "warning",
        "--component-log-level",
        "misc:error",
        "--skip-deprecated-logs",
        "--config-yaml",
        "{\"a\": 1}",
        "--concurrency",
        "2",
    ])
    .unwrap();
    assert_eq!(options.config_path, "etc/istio/proxy/envoy-rev.json");
    assert_eq!(options.config_yaml, "{\"a\": 1}");
    assert_eq!(options.drain_time, Duration::from_secs(45));
    assert_eq!(options.drain_strategy, DrainStrategy::Immediate);
    assert_eq!(options.component_levels, [("misc", Level::Error)]);
    assert_eq!(options.log_level, Level::Warning);
    assert_eq!(options.concurrency, Some(2));
    assert!(
        options.allow_unknown_static_fields && options.skip_deprecated_logs && options.disable_hot_restart
    );
    assert!(options.without_effect.is_empty());
}

#[test]
fn what_other_meshes_pass() {
    let contour = run(&["-c", "/c.json", "--service-cluster projectcontour", "--log-level info"]).unwrap();
    assert_eq!(contour.service_cluster, "projectcontour");
    let consul = run(&[
        "--config-yaml",
        "{}",
        "--log-format",
        "%Y-%m-%dT%T.%eZ%z [%l] envoy.%n(%t) %v",
        "--log-level",
        "warn",
        "--disable-hot-restart",
    ])
    .unwrap();
    assert_eq!(consul.log_format, "%Y-%m-%dT%T.%eZ%z [%l] envoy.%n(%t) %v");
    assert!(consul.log_format_set);
    assert_eq!(consul.log_level, Level::Warning);
    let gateway = run(&[
        "--service-cluster",
        "c",
        "--service-node",
        "n",
        "--config-yaml",
        "{}",
        "--log-level",
        "warn",
        "--cpuset-threads",
        "--drain-strategy",
        "immediate",
        "--component-log-level",
        "misc:error",
        "--drain-time-s",
        "60",
    ])
    .unwrap();
    assert!(gateway.cpuset_threads);
    assert_eq!(gateway.service_node, "n");
}

#[test]
fn a_value_is_the_rest_of_the_element_or_the_next_element() {
    assert_eq!(run(&["--log-format [%l] %v"]).unwrap().log_format, "[%l] %v");
    assert_eq!(run(&["--service-node", "--version"]).unwrap().service_node, "--version");
    assert_eq!(run(&["--concurrency", "0"]).unwrap().concurrency, Some(1));
    assert_eq!(run(&["--concurrency", " +3"]).unwrap().concurrency, Some(3));
}

#[test]
fn parse_errors_have_envoys_text() {
    for (args, label, what) in [
        (&["--bogus"][..], "--bogus", "Couldn't find match for argument"),
        (&["-lX"], "-lX", "Couldn't find match for argument"),
        (&["extra"], "extra", "Couldn't find match for argument"),
        (&["--concurrency=2"], "--concurrency=2", "Couldn't find match for argument"),
        (&["--cpuset-threads x"], "--cpuset-threads x", "Couldn't find match for argument"),
        (&["--", "-c", "x"], "-c", "Couldn't find match for argument"),
        (&["--concurrency", "abc"], "(--concurrency)", "Couldn't read argument value from string 'abc'"),
        (
            &["--concurrency", "99999999999"],
            "(--concurrency)",
            "Couldn't read argument value from string '99999999999'",
        ),
        (&["--concurrency", "-1"], "(--concurrency)", "Couldn't read argument value from string '-1'"),
        (&["--concurrency", "2 3"], "(--concurrency)", "More than one valid value parsed from string '2 3'"),
        (&["--concurrency"], "(--concurrency)", "Missing a value for this argument!"),
        (&["-c"], "-c (--config-path)", "Missing a value for this argument!"),
        (&["-c", "a", "--config-path", "b"], "-c (--config-path)", "Argument already set!"),
        (
            &["--disable-hot-restart", "--disable-hot-restart"],
            "(--disable-hot-restart)",
            "Argument already set!",
        ),
    ] {
        let text = refused(args);
        let head =
            format!("PARSE ERROR: Argument: {label}\n             {what}\n\nBrief USAGE: \n   envoy  [");
        assert!(text.starts_with(&head), "{text}");
        let tail = format!("For complete USAGE and HELP type: \n   envoy --help\n\n{label} -- {what}\n");
        assert!(text.ends_with(&tail), "{text}");
    }
}

#[test]
fn bad_values_have_envoys_text() {
    for (args, text) in [
        (&["-l", "INFO"][..], "invalid log level specified 'INFO'"),
        (&["--mode", "foo"], "unknown mode 'foo'"),
        (&["--local-address-ip-version", "v5"], "unknown IP address version 'v5'"),
        (&["--component-log-level", "foo:bar"], "invalid log level specified 'bar'"),
        (&["--component-log-level", "foo:info"], "invalid component specified 'foo'"),
        (&["--component-log-level", "foo"], "component log level not correctly specified 'foo'"),
        (&["--stats-tag", "a"], "misformatted stats-tag 'a'"),
        (&["--stats-tag", "a:b.c"], "misformatted stats-tag 'a:b.c' contains invalid char in 'b.c'"),
        (&["--io", "iocp"], "unknown io 'iocp', expected auto, uring or epoll"),
        (&["--default-overload", "maybe"], "unknown default-overload 'maybe', expected on or off"),
        (
            &["--certificate-rules", "none"],
            "unknown certificate-rules 'none', expected mesh, rfc5280 or webpki",
        ),
        (&["--cpus", "3-2"], "misformatted cpus '3-2', expected for example 2-3,7"),
        (&["--cpus", "1,,2"], "misformatted cpus '1,,2', expected for example 2-3,7"),
        (&["--cpus", "0-99999"], "misformatted cpus '0-99999', expected for example 2-3,7"),
        (
            &["--restart-epoch", "1"],
            "--restart-epoch 1: hot restart is not supported; use --disable-hot-restart",
        ),
    ] {
        assert_eq!(refused(args), format!("error: {text}\n"));
    }
}

#[test]
fn version_help_and_hot_restart_version() {
    let exit = run(&["--version"]).unwrap_err();
    assert_eq!(exit.code, 0);
    let line = exit.stdout.trim();
    let version = line.strip_prefix("envoy  version: ").unwrap();
    let parts: Vec<&str> = version.split('/').collect();
    assert_eq!((parts.len(), parts[1], parts[2]), (5, "1.40.0", "Clean"));
    assert_eq!((parts[0].len(), parts[4].starts_with("millrace-")), (40, true));
    let found = regex::Regex::new(r"\d+\.\d+\.\d+").unwrap().find(&exit.stdout).unwrap().as_str().to_owned();
    assert_eq!(found, "1.40.0", "Consul reads the first dotted number");
    let help = run(&["-h"]).unwrap_err();
    assert!(help.stdout.starts_with("\nUSAGE: \n\n   envoy  ["), "{}", help.stdout);
    assert_eq!(run(&["--hot-restart-version"]).unwrap_err().stdout, "disabled");
}

#[test]
fn every_flag_of_envoy_is_known() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/corpora/envoy/reference/envoy-1.40.0-cli-help.txt"
    );
    let Ok(help) = std::fs::read_to_string(path) else {
        println!("skipped: {path} is absent");
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"));
        return;
    };
    let mut seen = 0;
    for line in help.lines().filter(|line| line.starts_with("   -")) {
        let long = line.split([' ', ',']).find(|word| word.starts_with("--")).unwrap();
        let name = long.trim_start_matches("--");
        if matches!(name, "" | "ignore_rest") {
            continue;
        }
        let flag = flags::FLAGS.iter().find(|flag| flag.name == name);
        let flag = flag.unwrap_or_else(|| panic!("{line}"));
        let kind = match () {
            () if line.contains("multiple times") => flags::Kind::List,
            () if line.contains("<uint32_t>") => flags::Kind::Number,
            () if line.contains("<string>") => flags::Kind::Text,
            () => flags::Kind::Switch,
        };
        assert_eq!(flag.kind, kind, "{line}");
        seen += 1;
    }
    assert_eq!(
        seen + 5,
        flags::FLAGS.len(),
        "--io, --cpus, --certificate-rules, --default-overload and --max-waiting-mib are ours"
    );
}

#[test]
fn our_own_flags() {
    let options = run(&["demo", "--io", "epoll", "--cpus", "2-3,7,3"]).unwrap();
    assert!(options.demo);
    assert_eq!(options.io, IoChoice::Epoll);
    assert_eq!(options.cpus, Some(vec![2, 3, 7]));
    assert_eq!(options.certificate_rules, CertificateRules::Mesh);
    assert!(options.default_overload && !run(&["--default-overload", "off"]).unwrap().default_overload);
    assert_eq!(options.max_waiting_mib, None);
    assert_eq!(run(&["--max-waiting-mib", "64"]).unwrap().max_waiting_mib, Some(64));
    let options = run(&["--certificate-rules", "rfc5280"]).unwrap();
    assert_eq!(options.certificate_rules, CertificateRules::Rfc5280);
}

#[test]
fn accepted_without_effect_is_reported() {
    let options = run(&["--restart-epoch", "0", "--base-id", "7", "--enable-core-dump"]).unwrap();
    let names: Vec<&str> = options.without_effect.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["restart-epoch", "base-id", "enable-core-dump"]);
    let options = run(&["--restart-epoch", "3", "--disable-hot-restart"]).unwrap();
    assert_eq!(options.restart_epoch, 3);
}

#[test]
fn server_info_has_every_option_of_envoy() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/corpora/envoy/reference/envoy-1.40.0-server_info.json"
    );
    let Ok(text) = std::fs::read_to_string(path) else {
        println!("skipped: {path} is absent");
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"));
        return;
    };
    let theirs: serde_json::Value = serde_json::from_str(&text).unwrap();
    let theirs = theirs["command_line_options"].as_object().unwrap();
    let ours = run(&["--file-flush-interval-msec", "1500"]).unwrap().to_json(1);
    let keys = |object: &serde_json::Map<String, serde_json::Value>| -> Vec<String> {
        object.keys().cloned().collect()
    };
    assert_eq!(keys(ours.as_object().unwrap()), keys(theirs));
    assert_eq!(ours["file_flush_interval"], "1.500s");
    assert_eq!(ours["socket_path"], "@envoy_domain_socket");
}
