//! `counts`: instructions of the hot paths under callgrind, compared with `benches/baseline.txt`.

mod baseline;
mod compare;
mod excuse;
mod history;
mod valgrind;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;

use millrace_benches::Bench;

use baseline::{Baseline, Figures};
use compare::{Verdict, compare, table, with};
use history::{BASELINE, History};

const USAGE: &str = "\
usage: counts <command>
  list              the benches
  run [name...]     counts them; a name may end in `*`
  check             counts all and compares with benches/baseline.txt; fails above +3 %
  bless             counts all and writes benches/baseline.txt
  profile <name>    writes target/callgrind.<name>.out for callgrind_annotate
Benches are built with `--release`; anything else is refused.";

const NO_VALGRIND: &str =
    "valgrind is not installed: nothing was counted. On Debian: apt-get install valgrind";

type Result<T> = std::result::Result<T, String>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["child", name, calls] => child(name, calls),
        ["list"] => {
            list();
            Ok(true)
        }
        ["run", names @ ..] => counted(|_| run(names)),
        ["check"] => counted(check),
        ["bless"] => counted(bless),
        ["profile", name] => counted(|_| profile(name)),
        _ => Err(USAGE.to_owned()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

/// Does something that needs valgrind; without it only CI fails.
fn counted(act: impl FnOnce(String) -> Result<bool>) -> Result<bool> {
    if cfg!(debug_assertions) {
        return Err(
            "counts of a debug build say nothing: cargo run --release -p millrace-benches --bin counts"
                .into(),
        );
    }
    match valgrind::version() {
        Some(version) => act(version),
        None => {
            println!("{NO_VALGRIND}");
            Ok(std::env::var("CI").map_or(true, |ci| ci != "true"))
        }
    }
}

/// What runs under valgrind.
fn child(name: &str, calls: &str) -> Result<bool> {
    let bench = find(name)?;
    let calls = calls.parse().map_err(|_| format!("{calls} is no number of calls"))?;
    let mut routine = (bench.prepare)();
    millrace_benches::counted_routine(&mut routine, calls);
    Ok(true)
}

fn find(name: &str) -> Result<&'static Bench> {
    millrace_benches::find(name).ok_or_else(|| format!("no bench is called {name}; see `counts list`"))
}

fn list() {
    for bench in millrace_benches::all() {
        println!("{:32} {}", bench.name, bench.what);
    }
}

fn root() -> PathBuf {
    let package = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    package.parent().map_or(package.clone(), PathBuf::from)
}

fn run(names: &[&str]) -> Result<bool> {
    let wanted = |bench: &&Bench| {
        names.is_empty()
            || names.iter().any(|name| match name.strip_suffix('*') {
                Some(start) => bench.name.starts_with(start),
                None => bench.name == *name,
            })
    };
    let benches: Vec<&Bench> = millrace_benches::all().filter(wanted).collect();
    if benches.is_empty() {
        return Err("no bench has such a name; see `counts list`".into());
    }
    for (name, figure) in figures(&benches)? {
        println!("{name:32} {figure:>10.1}");
    }
    Ok(true)
}

/// Counts on every core: instructions do not care who else runs.
fn figures(benches: &[&'static Bench]) -> Result<Figures> {
    let (next, counted) = (Mutex::new(benches.iter()), Mutex::new(Vec::new()));
    let take = || next.lock().map_or(None, |mut next| next.next().copied());
    let work = || {
        while let Some(bench) = take() {
            let figure = valgrind::count(bench);
            if let Ok(mut counted) = counted.lock() {
                counted.push((bench.name.to_owned(), figure));
            }
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(work);
        }
    });
    let counted = counted.into_inner().map_err(|error| error.to_string())?;
    counted.into_iter().map(|(name, figure)| Ok((name, figure?))).collect()
}

fn measure(valgrind: String) -> Result<Baseline> {
    let benches: Vec<&Bench> = millrace_benches::all().collect();
    Ok(Baseline { host: valgrind::host(valgrind), figures: figures(&benches)? })
}

fn bless(valgrind: String) -> Result<bool> {
    let file = root().join(BASELINE);
    let baseline = measure(valgrind)?;
    std::fs::write(&file, baseline.text()).map_err(|error| format!("{BASELINE}: {error}"))?;
    print!("{}", baseline.text());
    println!("Written to {BASELINE}. If a figure rose, say why in the commit that holds it:");
    println!("Instructions-Regression: <bench or *>: <reason>");
    Ok(true)
}

fn check(valgrind: String) -> Result<bool> {
    let text =
        std::fs::read_to_string(root().join(BASELINE)).map_err(|error| format!("{BASELINE}: {error}"))?;
    let old = Baseline::parse(&text).map_err(|error| format!("{BASELINE}: {error}"))?;
    let new = measure(valgrind)?;
    let history = History::read(&root());
    if let Some(missing) = &history.missing {
        println!("No commit message was read, so nothing is excused: {missing}.");
    }
    let rows = compare(&old.figures, &new.figures, &history.since);
    print!("{}", table(&rows));
    for note in old.host.notes(&new.host) {
        println!("note: baseline made with another {note}");
    }
    let raised = raised(&history);
    let incomparable = old.host.incomparable(&new.host);
    if !incomparable.is_empty() {
        println!(
            "Not compared: the baseline is from another machine or compiler ({}).",
            incomparable.join("; ")
        );
        println!("Nothing fails; bless the baseline where CI runs.");
        return Ok(true);
    }
    let worse = with(&rows, &Verdict::Worse);
    for name in &worse {
        println!(
            "{name}: more than 3 % above the baseline. Make it cheaper, or say why in a commit message:"
        );
        println!("    Instructions-Regression: {name}: <reason>");
    }
    for line in &raised {
        println!("{line}");
    }
    Ok(worse.is_empty() && raised.is_empty())
}

/// A baseline that was raised without a word would make the check worthless: its last change must explain itself.
fn raised(history: &History) -> Vec<String> {
    let Some(change) = &history.last_change else { return Vec::new() };
    let (Ok(before), Ok(after)) = (Baseline::parse(&change.before), Baseline::parse(&change.after)) else {
        return Vec::new();
    };
    if !before.host.incomparable(&after.host).is_empty() {
        return Vec::new();
    }
    let rows = compare(&before.figures, &after.figures, &change.excuses);
    let line = |name| {
        format!(
            "{name}: commit {} raised the baseline by more than 3 % and no commit up to it says why",
            change.commit
        )
    };
    with(&rows, &Verdict::Worse).into_iter().map(line).collect()
}

fn profile(name: &str) -> Result<bool> {
    let bench = find(name)?;
    let file = valgrind::profile_file(&root(), bench);
    let calls = valgrind::profile(bench, &file)?;
    println!(
        "{} calls of {} operations, what comes before them in a turn's scope included:",
        calls, bench.per_call
    );
    println!("callgrind_annotate --inclusive=yes {}", file.display());
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use excuse::Excuse;
    use history::Change;

    #[test]
    fn a_baseline_is_not_raised_in_silence() {
        let history = |before: &str, after: &str, excuses: Vec<Excuse>| History {
            last_change: Some(Change {
                commit: "c0ffee".into(),
                before: before.into(),
                after: after.into(),
                excuses,
            }),
            ..History::default()
        };
        let said = raised(&history("a 100\nb 100\n", "a 104\nb 102\n", Vec::new()));
        assert!(said.len() == 1 && said[0].starts_with("a: commit c0ffee raised"), "{said:?}");
        let excuse = Excuse { bench: "*".into(), reason: "checks more".into() };
        assert!(raised(&history("a 100\n", "a 104\n", vec![excuse])).is_empty());
        let compiler = raised(&history("# rustc: 1.95.0\na 100\n", "# rustc: 1.96.0\na 104\n", Vec::new()));
        assert!(compiler.is_empty(), "another compiler is no regression");
        assert!(raised(&History::default()).is_empty());
    }
}
