//! A run: every peer in its turn, A B A B, point by point; the result is saved after each scenario, so that a
//! run which is cut off keeps what it has.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::host::Host;
use crate::peer::{self, Peer};
use crate::result::{Point, Sample, ScenarioResult, Series, Skipped};
use crate::scenario::{self, Kind, Load, Scenario};
use crate::validity;

/// Share of the slowest peer's saturation at which response times are read.
const LATENCY_SHARE: f64 = 0.5;
/// Seconds in which each peer shows its saturation rate first.
const CALIBRATION_SECONDS: f64 = 2.0;

/// What the command line asks for.
pub(crate) struct Plan {
    /// Of every scenario; otherwise what each asks for, or 3 rounds of 2 s.
    pub(crate) rounds: Option<usize>,
    pub(crate) seconds: Option<f64>,
    pub(crate) peers: Option<Vec<String>>,
    pub(crate) scenarios: Vec<String>,
    /// Only the quick scenarios, and of their points the first and the last.
    pub(crate) quick: bool,
    pub(crate) save: bool,
}

/// A peer that can be measured here.
pub(crate) struct Contender {
    pub(crate) peer: Peer,
    pub(crate) path: PathBuf,
    pub(crate) version: String,
    /// Takes the place of the executable that the peer's file names.
    pub(crate) replaced: bool,
}

struct Runner<'a> {
    folder: &'a Path,
    plan: &'a Plan,
    host: Host,
    contenders: Vec<Contender>,
    missing: Vec<Skipped>,
}

/// Measures what the plan names.
pub(crate) fn run(folder: &Path, plan: &Plan) -> Result<(), String> {
    let host = Host::read();
    host.check()?;
    host.print();
    let (contenders, missing) = contenders(folder, plan)?;
    let scenarios = chosen(folder, plan)?;
    let runner = Runner { folder, plan, host, contenders, missing };
    let mut failed = Vec::new();
    for scenario in &scenarios {
        // One scenario that cannot run here takes no other with it.
        if let Err(reason) = runner.scenario(scenario) {
            println!("\n{}: not measured: {reason}", scenario.name);
            failed.push(scenario.name.clone());
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("not measured: {}", failed.join(", "))) }
}

/// The scenarios that a plan names, or an error with the name that does not exist.
pub(crate) fn chosen(folder: &Path, plan: &Plan) -> Result<Vec<Scenario>, String> {
    let all = scenario::load_all(folder)?;
    if let Some(name) = plan.scenarios.iter().find(|n| all.iter().all(|s| s.name != **n)) {
        return Err(format!("no scenario {name:?}; `perf list` names them"));
    }
    let wanted = |s: &Scenario| {
        if plan.scenarios.is_empty() { s.quick || !plan.quick } else { plan.scenarios.contains(&s.name) }
    };
    Ok(all.into_iter().filter(wanted).collect())
}

fn contenders(folder: &Path, plan: &Plan) -> Result<(Vec<Contender>, Vec<Skipped>), String> {
    let (mut contenders, mut missing) = (Vec::new(), Vec::new());
    let all = peer::load_all(folder)?;
    if let Some(name) = plan.peers.iter().flatten().find(|n| all.iter().all(|p| p.name != **n)) {
        return Err(format!("no peer {name:?}; `perf list` names them"));
    }
    for peer in all {
        if plan.peers.as_ref().is_some_and(|names| !names.contains(&peer.name)) {
            continue;
        }
        match peer.locate() {
            Ok(path) => {
                let version = peer.version(&path);
                contenders.push(Contender { peer, path, version, replaced: false });
            }
            Err(reason) => {
                println!("{}: {reason}", peer.name);
                missing.push(Skipped { peer: peer.name, point: String::new(), reason });
            }
        }
    }
    if contenders.is_empty() { Err("no peer to measure".into()) } else { Ok((contenders, missing)) }
}

impl Runner<'_> {
    fn scenario(&self, scenario: &Scenario) -> Result<(), String> {
        let (rounds, seconds) = if self.plan.quick { (2, 2.0) } else { (3, 2.0) };
        self.host.check_for(scenario)?;
        let once = scenario.kind == Kind::Size;
        let own = if self.plan.quick { (None, None) } else { (scenario.rounds, scenario.seconds) };
        let mut result = ScenarioResult {
            scenario: scenario.name.clone(),
            title: scenario.title.clone(),
            group: scenario.group.clone(),
            kind: scenario.kind,
            host: self.host.clone(),
            rounds: if once { 1 } else { self.plan.rounds.or(own.0).unwrap_or(rounds) },
            seconds: self.plan.seconds.or(own.1).unwrap_or(seconds),
            axis: scenario.axis.clone(),
            points: Vec::new(),
            skipped: self.missing(scenario),
        };
        for (index, load) in scenario.loads.iter().enumerate() {
            let inner = index > 0 && index + 1 < scenario.loads.len();
            if self.plan.quick && inner {
                continue;
            }
            let point = self.point(scenario, index, load, &mut result)?;
            crate::table::print(&result, &point);
            result.points.push(point);
        }
        if self.plan.save {
            println!("  saved {}", save(self.folder, &result)?.display());
        }
        Ok(())
    }

    fn missing(&self, scenario: &Scenario) -> Vec<Skipped> {
        let asked = |s: &&Skipped| scenario.wants(&s.peer, false);
        self.missing.iter().filter(asked).cloned().collect()
    }

    fn point(
        &self,
        scenario: &Scenario,
        index: usize,
        load: &Load,
        result: &mut ScenarioResult,
    ) -> Result<Point, String> {
        let mut field = Vec::new();
        for contender in &self.contenders {
            let name = &contender.peer.name;
            if !takes_part(scenario, contender) {
                continue;
            }
            match contender.peer.lacks(load).or(scenario.skips(name, load)) {
                None => field.push(contender),
                Some(reason) => result.skipped.push(Skipped {
                    peer: name.clone(),
                    point: scenario.point_name(load),
                    reason: reason.to_owned(),
                }),
            }
        }
        let turn = |contender: &Contender, kind: Kind, rate: f64, seconds: f64| {
            self.turn(scenario, index, contender, kind, rate, seconds)
        };
        let rate = if scenario.kind == Kind::Latency { offered(&field, &turn)? } else { 0.0 };
        let mut all: Vec<Series> = field.iter().map(|c| new_series(c)).collect();
        for _ in 0..result.rounds {
            for (contender, series) in field.iter().zip(&mut all) {
                match turn(contender, scenario.kind, rate, result.seconds) {
                    Ok(sample) => series.samples.push(sample),
                    Err(reason) => {
                        println!("  ! {}: {reason}", series.peer);
                        let (peer, point) = (series.peer.clone(), scenario.point_name(load));
                        result.skipped.push(Skipped { peer, point, reason });
                    }
                }
            }
        }
        all.retain(|series| !series.samples.is_empty());
        let offered_rate = (rate > 0.0).then_some(rate);
        for series in &mut all {
            validity::close(series, scenario.kind, offered_rate);
        }
        Ok(Point { at: load.at as f64, offered_rate, series: all })
    }

    fn turn(
        &self,
        scenario: &Scenario,
        index: usize,
        contender: &Contender,
        kind: Kind,
        rate: f64,
        seconds: f64,
    ) -> Result<Sample, String> {
        turn_in_child(scenario, index, contender, kind == Kind::Http && scenario.kind != kind, rate, seconds)
    }
}

fn takes_part(scenario: &Scenario, contender: &Contender) -> bool {
    let peer = &contender.peer;
    scenario.wants(&peer.name, peer.on_request) && (scenario.kind == Kind::Latency || !peer.is_direct())
}

/// Half of what the slowest can do, so that nobody is judged at its limit.
fn offered(
    field: &[&Contender],
    turn: &dyn Fn(&Contender, Kind, f64, f64) -> Result<Sample, String>,
) -> Result<f64, String> {
    let mut slowest: Option<f64> = None;
    for contender in field.iter().filter(|c| !c.peer.is_direct()) {
        // Whoever cannot serve at all is reported by the turns themselves.
        if let Ok(sample) = turn(contender, Kind::Http, 0.0, CALIBRATION_SECONDS)
            && sample.rate > 0.0
        {
            slowest = Some(slowest.map_or(sample.rate, |s| s.min(sample.rate)));
        }
    }
    let slowest = slowest.ok_or("no peer served anything")?;
    Ok((slowest * LATENCY_SHARE / 100.0).floor().max(1.0) * 100.0)
}

fn new_series(contender: &Contender) -> Series {
    Series {
        peer: contender.peer.name.clone(),
        version: contender.version.clone(),
        median: Sample::default(),
        samples: Vec::new(),
        doubts: Vec::new(),
        saturated: false,
    }
}

/// One turn as a process of its own; in a network namespace of its own where the peer wants that.
pub(crate) fn turn_in_child(
    scenario: &Scenario,
    index: usize,
    contender: &Contender,
    calibrate: bool,
    rate: f64,
    seconds: f64,
) -> Result<Sample, String> {
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    let mut command = if contender.peer.namespace {
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", "ip link set lo up && exec \"$@\"", "perf"]).arg(own);
        command
    } else {
        Command::new(own)
    };
    command.args(["turn", "--scenario", &scenario.name, "--peer", &contender.peer.name]);
    command.args(["--point", &index.to_string(), "--seconds", &seconds.to_string()]);
    command.args(["--rate", &rate.to_string()]);
    if calibrate {
        command.arg("--calibrate");
    }
    if contender.replaced {
        command.arg("--binary").arg(&contender.path);
    }
    let out = command.stdin(Stdio::null()).output().map_err(|e| format!("turn: {e}"))?;
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    let told = String::from_utf8_lossy(&out.stderr).trim().to_owned();
    if !out.status.success() {
        return Err(told.strip_prefix("perf: ").unwrap_or(&told).to_owned());
    }
    serde_json::from_str(said.trim()).map_err(|e| format!("turn said {said:?}: {e}"))
}

/// Writes `results/<host>/<scenario>.json`; history is git's.
fn save(folder: &Path, result: &ScenarioResult) -> Result<PathBuf, String> {
    let directory = folder.join("results").join(&result.host.slug);
    fs::create_dir_all(&directory).map_err(|e| e.to_string())?;
    let path = directory.join(format!("{}.json", result.scenario));
    let text = serde_json::to_string_pretty(result).map_err(|e| e.to_string())?;
    fs::write(&path, text + "\n").map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(path)
}
