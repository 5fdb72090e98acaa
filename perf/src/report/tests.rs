//! Synthetic results through the whole of the report. Peers and figures are made up and say so.

use std::fs;
use std::path::{Path, PathBuf};

use super::goals::{self, State};
use super::model::{Metric, Standing, verdict};
use super::{between, write};
use crate::host::Host;
use crate::result::{Latency, Point, Sample, ScenarioResult, Series, Skipped};
use crate::scenario::Kind;

/// A folder of its own that goes away.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("millrace-report-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn save(&self, result: &ScenarioResult) {
        let path = self.0.join(format!("{}.json", result.scenario));
        fs::write(path, serde_json::to_string(result).unwrap()).unwrap();
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.0.join(file)).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn host() -> Host {
    Host {
        slug: "synthetic".into(),
        cpu: "SYNTHETIC <CPU> & \"test\"".into(),
        cores: 2,
        memory_mib: 4096,
        kernel: "0.0.0-synthetic".into(),
        descriptors: "1".into(),
        load_average: "0.10 0.10 0.10".into(),
        wrk: "synthetic".into(),
        h2load: "synthetic".into(),
        commit: "synthetic".into(),
        date: "2000-01-01T00:00:00Z".into(),
    }
}

fn series(peer: &str, samples: Vec<Sample>) -> Series {
    let median = samples[samples.len() / 2].clone();
    Series {
        peer: peer.into(),
        version: "synthetic 0.0.1".into(),
        median,
        samples,
        doubts: Vec::new(),
        saturated: true,
    }
}

/// Three rounds around a CPU figure, with a rate that fits and a memory of 10 MiB.
fn loaded(peer: &str, cpu: f64) -> Series {
    let round = |factor: f64| Sample {
        operations: 100.0,
        cpu_us: cpu * factor,
        rate: 1e6 / (cpu * factor),
        rss_mib: 10.0,
        proxy_busy: 1.0,
        ..Sample::default()
    };
    series(peer, [0.98, 1.0, 1.02].map(round).to_vec())
}

fn at(at: f64, series: Vec<Series>) -> Point {
    Point { at, offered_rate: None, series }
}

fn result(scenario: &str, kind: Kind, axis: &str, points: Vec<Point>) -> ScenarioResult {
    ScenarioResult {
        scenario: scenario.into(),
        title: format!("synthetic {scenario}"),
        group: "Synthetic".into(),
        kind,
        host: host(),
        rounds: 3,
        seconds: 1.0,
        axis: axis.into(),
        points,
        skipped: Vec::new(),
    }
}

fn http(peers: &[(&str, f64)]) -> ScenarioResult {
    let series = peers.iter().map(|(peer, cpu)| loaded(peer, *cpu)).collect();
    result("http1-small", Kind::Http, "", vec![at(0.0, series)])
}

fn latency(peer: &str, base: f64) -> Series {
    let latency = Latency {
        p50_us: base,
        p90_us: base * 2.0,
        p99_us: base * 3.0,
        p999_us: base * 4.0,
        max_us: base * 9.0,
        curve: vec![(0.0, base / 2.0), (50.0, base), (99.0, base * 3.0), (100.0, base * 9.0)],
    };
    series(peer, vec![Sample { rate: 1000.0, latency: Some(latency), ..Sample::default() }])
}

fn each_kind() -> Vec<ScenarioResult> {
    let start = |peer, ms| {
        series(
            peer,
            vec![Sample { ready_ms: Some(ms), start_cpu_ms: Some(ms), rss_mib: ms, ..Sample::default() }],
        )
    };
    let idle = |peer, kib: Option<f64>| {
        series(peer, vec![Sample { rss_mib: 7.0, kib_per_connection: kib, ..Sample::default() }])
    };
    let size = |peer, mib| series(peer, vec![Sample { stripped_mib: Some(mib), ..Sample::default() }]);
    let pair = |a: Series, b: Series| vec![a, b];
    let mut all = vec![
        http(&[("millrace-uring", 20.0), ("millrace-epoll", 21.0), ("envoy", 100.0), ("floor", 18.0)]),
        result(
            "http1-latency",
            Kind::Latency,
            "",
            vec![at(
                0.0,
                vec![latency("direct", 50.0), latency("millrace-uring", 80.0), latency("envoy", 250.0)],
            )],
        ),
        result("tcp-small", Kind::TcpEcho, "", vec![at(0.0, vec![loaded("millrace-uring", 9.0)])]),
        result("tcp-bulk", Kind::TcpStream, "", vec![at(0.0, vec![loaded("millrace-uring", 900.0)])]),
        result(
            "idle-memory",
            Kind::Idle,
            "connections",
            vec![
                at(0.0, pair(idle("millrace-uring", None), idle("envoy", None))),
                at(10_000.0, pair(idle("millrace-uring", Some(0.5)), idle("envoy", Some(16.0)))),
            ],
        ),
        result(
            "start",
            Kind::Start,
            "clusters",
            vec![
                at(1.0, pair(start("millrace-uring", 4.0), start("envoy", 80.0))),
                at(5000.0, pair(start("millrace-uring", 200.0), start("envoy", 3000.0))),
            ],
        ),
        result(
            "h2-streams",
            Kind::Streams,
            "",
            vec![at(0.0, pair(idle("millrace-uring", Some(2.5)), idle("envoy", Some(20.0))))],
        ),
        result("size", Kind::Size, "", vec![at(0.0, pair(size("millrace-uring", 5.0), size("nginx", 1.0)))]),
        result(
            "http1-connections",
            Kind::Http,
            "connections",
            vec![
                at(8.0, vec![loaded("millrace-uring", 20.0), loaded("envoy", 90.0)]),
                at(10_000.0, vec![loaded("millrace-uring", 21.0), loaded("envoy", 120.0)]),
            ],
        ),
        result("runtimes", Kind::Http, "", vec![at(0.0, vec![loaded("floor", 9.0), loaded("relay-x", 8.0)])]),
    ];
    all[0].skipped.push(Skipped {
        peer: "synthetic-peer".into(),
        point: String::new(),
        reason: "not <installed> | here".into(),
    });
    all[0].points[0].series[2].doubts.push("doubt & <b>bold</b> | pipe".into());
    all[0].points[0].series[0].saturated = false;
    all
}

fn written(name: &str, results: &[ScenarioResult]) -> (Folder, Vec<PathBuf>) {
    let folder = Folder::new(name);
    results.iter().for_each(|result| folder.save(result));
    let paths = write(&folder.0, &folder.0).unwrap();
    (folder, paths)
}

#[test]
fn each_kind_gets_its_plots_and_figures() {
    let (folder, paths) = written("kinds", &each_kind());
    let has = |name: &str| paths.iter().any(|path| path.ends_with(name));
    for name in [
        "report.html",
        "report.md",
        "headline.svg",
        "plots/http1-small.svg",
        "plots/http1-latency.svg",
        "plots/tcp-bulk.svg",
        "plots/idle-memory-0.svg",
        "plots/idle-memory-10000.svg",
        "plots/start-time.svg",
        "plots/start-memory.svg",
        "plots/size.svg",
        "plots/http1-connections.svg",
        "plots/runtimes.svg",
    ] {
        assert!(has(name), "{name} is not among {paths:?}");
    }
    let markdown = folder.read("report.md");
    for line in [
        "| **Millrace** | **20.0** (19.6–20.4) | ≥ **50,000** (49,020–51,020) | **10.0** |",
        "| Envoy † | 100 (98.0–102) 5.0× | 10,000 (9,804–10,204) 0.20× | 10.0 1.00× |",
        "| Envoy | 200 6.7× | 600 6.7× | 800 6.7× |",
        "| floor (L4 relay) | 9.00 (8.82–9.18) |",
    ] {
        assert!(markdown.contains(line), "{line}\n{markdown}");
    }
}

#[test]
fn the_same_results_give_the_same_octets() {
    let (folder, paths) = written("same", &each_kind());
    let before: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    let again = write(&folder.0, &folder.0).unwrap();
    assert_eq!(paths, again);
    let after: Vec<Vec<u8>> = again.iter().map(|path| fs::read(path).unwrap()).collect();
    assert!(before == after);
}

#[test]
fn texts_cannot_break_out_of_the_page() {
    let (folder, _) = written("escape", &each_kind());
    let html = folder.read("report.html");
    assert!(!html.contains("<b>bold</b>") && html.contains("&lt;b&gt;bold&lt;"));
    assert!(!html.contains("<CPU>") && !folder.read("headline.svg").contains("<CPU>"));
    for outside in ["http://", "https://", "<script", "url(", "@import"] {
        let rest = html.replace("http://www.w3.org/2000/svg", "");
        assert!(!rest.contains(outside), "{outside}");
    }
    let markdown = folder.read("report.md");
    assert!(markdown.contains("doubt &amp; &lt;b>bold&lt;/b> \\| pipe"), "{markdown}");
    assert!(markdown.contains("- synthetic-peer is missing: not &lt;installed> \\| here"));
}

#[test]
fn doubts_and_missing_peers_stand_beside_the_figures() {
    let (folder, _) = written("doubts", &each_kind());
    let html = folder.read("report.html");
    assert!(html.contains("synthetic-peer</b> is missing"));
    assert!(html.contains("<li class=\"doubt\"><b>Envoy</b>"));
    assert!(html.contains("had time to spare"));
}

#[test]
fn what_cannot_be_read_is_named_and_takes_no_other_with_it() {
    let folder = Folder::new("corrupt");
    folder.save(&http(&[("millrace-uring", 20.0), ("envoy", 100.0)]));
    fs::write(folder.0.join("a-cut.json"), "{\"scenario\": ").unwrap();
    fs::write(folder.0.join("b-old.json"), "{\"scenario\": \"x\", \"peers\": []}").unwrap();
    fs::write(folder.0.join("c-other.json"), "{\"points\": 3}").unwrap();
    fs::write(folder.0.join("d-binary.json"), [0xff, 0xfe, 0]).unwrap();
    folder.save(&result("e-empty", Kind::Http, "", Vec::new()));
    write(&folder.0, &folder.0).unwrap();
    for text in [folder.read("report.html"), folder.read("report.md")] {
        for (file, reason) in [
            ("a-cut.json", "not JSON"),
            ("b-old.json", "written by an older version: run it again"),
            ("c-other.json", "not a result of a scenario"),
            ("d-binary.json", "UTF-8"),
            ("e-empty.json", "nobody was measured"),
        ] {
            let line = text.lines().find(|line| line.contains(file)).unwrap();
            assert!(line.contains(reason), "{line}");
        }
        assert!(text.contains("synthetic http1-small"));
    }
}

#[test]
fn a_folder_with_nothing_to_report_is_an_error_with_reasons() {
    let folder = Folder::new("nothing");
    fs::write(folder.0.join("old.json"), "{\"peers\": []}").unwrap();
    let reason = write(&folder.0, &folder.0).unwrap_err();
    assert!(reason.contains("old.json: written by an older version"), "{reason}");
    assert!(write(&folder.0.join("absent"), &folder.0).is_err());
}

#[test]
fn plots_of_scenarios_that_are_gone_go_but_nobody_elses_files() {
    let folder = Folder::new("sweep");
    folder.save(&http(&[("millrace-uring", 20.0), ("envoy", 100.0)]));
    fs::create_dir_all(folder.0.join("plots")).unwrap();
    fs::write(folder.0.join("plots/gone.svg"), format!("{}\n<svg/>", super::svg::MARK)).unwrap();
    fs::write(folder.0.join("plots/drawn-by-hand.svg"), "<svg/>").unwrap();
    write(&folder.0, &folder.0).unwrap();
    assert!(!folder.0.join("plots/gone.svg").exists());
    assert!(
        folder.0.join("plots/drawn-by-hand.svg").exists() && folder.0.join("plots/http1-small.svg").exists()
    );
}

#[test]
fn behind_level_and_ahead_are_told_apart() {
    let peers =
        [("millrace-uring", 20.0), ("haproxy", 10.0), ("nginx", 20.5), ("envoy", 60.0), ("floor", 5.0)];
    let mut all = http(&peers);
    all.points[0].series[1].doubts.push("synthetic".into());
    let told = verdict(&[all]);
    let cpu: Vec<_> = told.not_ahead.iter().filter(|e| e.metric == Metric::Cpu).collect();
    let short: Vec<_> = cpu.iter().map(|e| (e.peer.as_str(), e.standing, e.doubtful)).collect();
    // nginx is better by nothing: the rounds overlap. The floor is not a competitor.
    assert_eq!(short, [("haproxy", Standing::Behind, true), ("nginx", Standing::Level, false)]);
    assert!((cpu[0].factor - 2.0).abs() < 1e-9);
    // CPU, rate and memory against three competitors; memory is the same everywhere.
    assert_eq!((told.compared, told.ahead), (9, 2));
    assert_eq!(told.not_ahead[0].standing, Standing::Behind);
}

#[test]
fn a_rate_counts_only_at_its_limit() {
    let mut all = http(&[("millrace-uring", 20.0), ("haproxy", 10.0), ("nginx", 40.0)]);
    let rates = |all: &ScenarioResult| {
        let told = verdict(std::slice::from_ref(all));
        let rates = told.not_ahead.iter().filter(|e| e.metric == Metric::Rate);
        (rates.map(|e| e.peer.clone()).collect::<Vec<_>>(), told.compared)
    };
    assert_eq!(rates(&all), (vec!["haproxy".to_owned()], 6));
    all.points[0].series[2].saturated = false;
    assert_eq!(rates(&all).1, 5, "nobody knows what nginx could have done");
    all.points[0].series[0].saturated = false;
    assert_eq!(rates(&all), (Vec::new(), 4));
}

#[test]
fn points_of_one_comparison_are_one_entry_with_the_worst_figures() {
    let point = |place, cpu| at(place, vec![loaded("millrace-uring", cpu), loaded("haproxy", 10.0)]);
    let points = vec![point(1.0, 15.0), point(8.0, 30.0), point(64.0, 5.0), point(512.0, 20.0)];
    let told = verdict(&[result("http1-connections", Kind::Http, "connections", points)]);
    let cpu: Vec<_> = told.not_ahead.iter().filter(|e| e.metric == Metric::Cpu).collect();
    assert_eq!(cpu.len(), 1);
    assert_eq!((cpu[0].point.as_str(), &cpu[0].others[..]), ("8 connections", &[1.0, 512.0][..]));
}

#[test]
fn added_response_times_are_judged_instead_of_whole_ones() {
    let series = vec![latency("direct", 50.0), latency("millrace-uring", 80.0), latency("haproxy", 60.0)];
    let told = verdict(&[result("http1-latency", Kind::Latency, "", vec![at(0.0, series)])]);
    let found: Vec<_> = told.not_ahead.iter().map(|e| e.metric).collect();
    assert_eq!(found, [Metric::AddedP50, Metric::AddedP99, Metric::AddedP999]);
    assert!((told.not_ahead[0].factor - 3.0).abs() < 1e-9);
}

#[test]
fn nobody_behind_is_said() {
    let mut all = http(&[("millrace-uring", 20.0), ("envoy", 100.0)]);
    all.points[0].series[1].samples.iter_mut().for_each(|s| s.rss_mib = 60.0);
    all.points[0].series[1].median.rss_mib = 60.0;
    let (folder, _) = written("nobody", &[all]);
    assert!(folder.read("report.md").contains("Nowhere: all 3 comparisons"));
    assert!(folder.read("report.html").contains("Nowhere: 3 comparisons"));
}

#[test]
fn goals_are_reached_missed_or_not_measured() {
    let text = r#"
        goal = [
            { group = "g", text = "ratio", scenario = "http1-small", metric = "cpu", peer = "envoy", at_least = 4.5 },
            { group = "g", text = "floor", scenario = "http1-small", metric = "cpu", peer = "floor", at_most = 1.05 },
            { group = "g", text = "no peer", scenario = "http1-small", metric = "cpu", peer = "linkerd", at_least = 4 },
            { group = "g", text = "flat", scenario = "http1-connections", metric = "cpu", flat_from = 8, at_most = 1.1 },
            { group = "g", text = "figure", scenario = "start", metric = "ready", at = 5000, at_most = 300 },
            { group = "g", text = "no point", scenario = "start", metric = "ready", at = 7, at_most = 300 },
            { group = "g", text = "no result", scenario = "absent", metric = "cpu", at_most = 1 },
            { group = "g", text = "later", not_measured = "not in the product yet" },
        ]"#;
    let judged = goals::judge(goals::parse(text).unwrap(), &each_kind());
    let states: Vec<_> = judged.iter().map(|j| (j.state, j.measured.as_str(), j.bound.as_str())).collect();
    let expected = [
        (State::Reached, "5.0× (20.0 µs, Envoy 100)", "≥ 4.5×"),
        (State::NotReached, "1.11× (20.0 µs, floor (L4 relay) 18.0)", "≤ 1.05×"),
        (State::NotMeasured, "not measured yet: linkerd2-proxy is not in the result", "≥ 4.0×"),
        (State::Reached, "1.05× (20.0 to 21.0 µs)", "≤ 1.10×"),
        (State::Reached, "200 ms", "≤ 300 ms"),
        (State::NotMeasured, "not measured yet: no point at 7 clusters", "≤ 300 ms"),
        (State::NotMeasured, "not measured yet: no result of absent", "≤ 1"),
        (State::NotMeasured, "not measured: not in the product yet", ""),
    ];
    assert_eq!(states, expected);
    assert!(judged[0].doubtful && !judged[1].doubtful);
}

#[test]
fn the_goals_of_the_repository_are_sound_and_wrong_ones_are_refused() {
    assert!(goals::load().unwrap().len() > 15);
    for wrong in [
        "[[goal]]\ngroup = 'g'\ntext = 'no bound'\nscenario = 's'\nmetric = 'cpu'\n",
        "[[goal]]\ngroup = 'g'\ntext = 'no metric'\nscenario = 's'\nat_most = 1\n",
        "[[goal]]\ngroup = 'g'\ntext = 'no peer'\nscenario = 's'\nmetric = 'cpu'\nat_least = 1\n",
        "[[goal]]\ngroup = 'g'\ntext = 't'\nscenario = 's'\nmetric = 'speed'\nat_most = 1\n",
    ] {
        assert!(goals::parse(wrong).unwrap_err().contains("goals.toml"));
    }
}

#[test]
fn a_block_is_replaced_between_its_markers_only() {
    let text = "before\n<!-- report:begin -->\nold\n<!-- report:end -->\nafter\n";
    let once = between(text, "new\n").unwrap();
    assert_eq!(once, "before\n<!-- report:begin -->\n\nnew\n\n<!-- report:end -->\nafter\n");
    assert_eq!(between(&once, "new\n").unwrap(), once);
    assert!(between("no markers", "new").unwrap_err().contains("report:begin"));
}

#[test]
fn the_newest_host_is_found() {
    let folder = Folder::new("hosts");
    for (slug, date) in [("a", "2002-01-01T00:00:00Z"), ("b", "2001-01-01T00:00:00Z"), ("c", "")] {
        let path = folder.0.join(slug);
        fs::create_dir_all(&path).unwrap();
        let mut result = http(&[("millrace-uring", 20.0)]);
        result.host.date = date.into();
        fs::write(path.join("http1-small.json"), serde_json::to_string(&result).unwrap()).unwrap();
    }
    assert!(super::read::newest_host(&folder.0).unwrap().ends_with("a"));
    assert!(super::read::newest_host(Path::new("/absent")).is_err());
}
