//! One bench in a process of its own under callgrind, the same way every time.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use millrace_benches::{Bench, Scope};

use crate::baseline::Host;

/// Operations whose cost is counted: the second half of a run of twice as many.
const OPERATIONS: u64 = 400;
/// Calls at least, where one call is many operations.
const CALLS_MIN: u64 = 20;

/// glibc chooses `memcpy` by what the processor has. Valgrind shows the same Haswell on every host with AVX2; its
/// `rep movsb` would count every byte as an instruction, so copies go through vectors instead.
const TUNABLES: &str = "glibc.cpu.hwcaps=-ERMS,-FSRM";

/// Instructions of one operation: what `2n` calls cost more than `n`, so neither setting up nor warming up counts.
pub fn count(bench: &Bench) -> Result<f64, String> {
    let calls = (OPERATIONS / bench.per_call).max(CALLS_MIN);
    let (once, twice) = (collected(bench, calls)?, collected(bench, 2 * calls)?);
    if once == 0 || twice <= once {
        return Err(format!("{}: callgrind collected {once} and {twice} instructions", bench.name));
    }
    Ok((twice - once) as f64 / (calls * bench.per_call) as f64)
}

fn collected(bench: &Bench, calls: u64) -> Result<u64, String> {
    let directory = std::env::temp_dir();
    let file = format!("millrace-counts-{}-{}", std::process::id(), bench.name.replace('/', "-"));
    let out = directory.join(file);
    let result = run(bench, calls, &out, true).and_then(|()| {
        let text = std::fs::read_to_string(&out).map_err(|error| format!("{}: {error}", out.display()))?;
        total(&text).ok_or_else(|| format!("{}: no `totals:` in callgrind's file", bench.name))
    });
    let _ = std::fs::remove_file(&out);
    result
}

/// The profile of a bench, for callgrind_annotate; returns the calls of the routine.
pub fn profile(bench: &Bench, out: &Path) -> Result<u64, String> {
    let calls = (OPERATIONS / bench.per_call).max(CALLS_MIN);
    run(bench, calls, out, false).map(|()| calls)
}

fn run(bench: &Bench, calls: u64, out: &Path, bare: bool) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let inside = match bench.scope {
        Scope::Routine => "*counted_routine*",
        Scope::Turn => "*counted_turn*",
    };
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--quiet", "--vgdb=no", "--error-exitcode=99"])
        .arg(format!("--toggle-collect={inside}"))
        .arg(format!("--callgrind-out-file={}", out.display()))
        .args(if bare {
            &["--compress-strings=yes"][..]
        } else {
            &["--dump-line=yes", "--compress-strings=no"]
        })
        .arg(program)
        .args(["child", bench.name, &format!("{calls:08}")])
        // The environment lies on the program's stack: nothing of the caller's may move it.
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("LC_ALL", "C")
        .env("GLIBC_TUNABLES", TUNABLES)
        .stdin(Stdio::null());
    let output = command.output().map_err(|error| format!("valgrind cannot be run: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{}: {}: {}", bench.name, output.status, said.trim()));
    }
    Ok(())
}

/// The sum at the end of callgrind's file.
fn total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("totals:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// `valgrind-3.19.0`, or `None` where there is no valgrind.
pub fn version() -> Option<String> {
    let output = Command::new("valgrind").arg("--version").output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// This host, as far as figures depend on it.
pub fn host(valgrind: String) -> Host {
    let said = |program: &str, argument: &str| {
        let output = Command::new(program).arg(argument).output();
        output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default()
    };
    let rustc = said("rustc", "-V").split_whitespace().nth(1).unwrap_or("unknown").to_owned();
    let libc = said("getconf", "GNU_LIBC_VERSION").trim().to_owned();
    Host { rustc, arch: std::env::consts::ARCH.to_owned(), cpu: cpu(), valgrind, libc }
}

/// What the host has of the extensions that valgrind passes on and that some library looks for.
fn cpu() -> String {
    const LOOKED_FOR: [&str; 5] = ["avx", "avx2", "bmi2", "sse4_2", "asimd"];
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = text.lines().find(|line| line.starts_with("flags") || line.starts_with("Features"));
    let has = |flag: &&&str| flags.is_some_and(|line| line.split_whitespace().any(|word| word == **flag));
    LOOKED_FOR.iter().filter(has).copied().collect::<Vec<_>>().join(" ")
}

/// Where `counts profile` writes.
pub fn profile_file(root: &Path, bench: &Bench) -> PathBuf {
    root.join("target").join(format!("callgrind.{}.out", bench.name.replace('/', ".")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_found() {
        assert_eq!(total("events: Ir\nsummary: 0\n\nfn=a\n1 2\ntotals: 4711\n"), Some(4711));
        assert_eq!(total("events: Ir\n"), None);
    }
}
