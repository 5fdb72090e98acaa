//! Who is measured: one proxy for each TOML file in `perf/peers/`, with the templates beside it.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::scenario::Scenario;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Binary {
    /// Environment variable with a path; wins over the rest.
    env: Option<String>,
    /// Name looked up on PATH.
    path: Option<String>,
    /// A Python expression that prints the path.
    python: Option<String>,
    /// File in this build's own release directory.
    cargo: Option<String>,
}

/// One proxy.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Peer {
    #[serde(skip)]
    pub(crate) name: String,
    binary: Binary,
    version: Vec<String>,
    arguments: Vec<String>,
    http: Option<String>,
    tcp: Option<String>,
}

/// Every peer, by name.
pub(crate) fn load_all(folder: &Path) -> Result<Vec<Peer>, String> {
    let mut all = Vec::new();
    for (name, text) in crate::files(&folder.join("peers"), "toml")? {
        let mut peer: Peer = toml::from_str(&text).map_err(|e| format!("peer {name}: {e}"))?;
        peer.name = name;
        all.push(peer);
    }
    Ok(all)
}

impl Peer {
    /// The executable, or `None` when it is not installed.
    pub(crate) fn locate(&self) -> Option<PathBuf> {
        let from_env = self.binary.env.as_ref().and_then(std::env::var_os).map(PathBuf::from);
        let own = std::env::current_exe().ok()?;
        let built = self.binary.cargo.as_ref().and_then(|n| Some(own.parent()?.join(n)));
        let printed = self.binary.python.as_ref().and_then(|script| output("python3", &["-c", script]));
        let found = self.binary.path.as_ref().and_then(|name| output("which", &[name]));
        let candidates = [from_env, built, printed.map(PathBuf::from), found.map(PathBuf::from)];
        candidates.into_iter().flatten().find(|p| p.is_file())
    }

    /// The line in which the program names its version.
    pub(crate) fn version(&self, binary: &Path) -> String {
        let said = Command::new(binary).args(&self.version).stdin(Stdio::null()).output();
        let text = match said {
            Ok(out) if !self.version.is_empty() => [out.stdout, out.stderr].concat(),
            _ => b"this checkout".to_vec(),
        };
        let text = String::from_utf8_lossy(&text).into_owned();
        let line = text.lines().map(str::trim).find(|l| !l.is_empty()).unwrap_or("unknown");
        line.rsplit_once("version: ").map_or(line, |(_, v)| v).to_owned()
    }

    /// Starts it on core 0 in front of the origin.
    pub(crate) fn start(
        &self,
        binary: &Path,
        folder: &Path,
        scenario: &Scenario,
        origin: u16,
    ) -> Result<Running, String> {
        let directory =
            std::env::temp_dir().join(format!("millrace-perf-{}-{}", std::process::id(), self.name));
        fs::create_dir_all(&directory).map_err(|e| e.to_string())?;
        let (listen, admin) = (free_port()?, free_port()?);
        let fill = |text: &str| {
            text.replace("@LISTEN@", &listen.to_string())
                .replace("@ADMIN@", &admin.to_string())
                .replace("@ORIGIN@", &origin.to_string())
                .replace("@DIR@", &directory.to_string_lossy())
                .replace(
                    "@CONFIG@",
                    &directory.join("config").with_extension(self.extension(scenario)).to_string_lossy(),
                )
        };
        if let Some(template) = self.template(scenario) {
            let text = fs::read_to_string(folder.join("peers").join(template)).map_err(|e| e.to_string())?;
            let path = directory.join("config").with_extension(self.extension(scenario));
            fs::write(path, fill(&text)).map_err(|e| e.to_string())?;
        }
        let log = fs::File::create(directory.join("stderr")).map_err(|e| e.to_string())?;
        let child = crate::process::pinned(0, binary)
            .args(self.arguments.iter().map(|a| fill(a)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|e| format!("cannot start {}: {e}", self.name))?;
        let mut running = Running { child, listen, directory };
        running.wait_listening().map_err(|e| format!("{}: {e}", self.name))?;
        Ok(running)
    }

    fn template(&self, scenario: &Scenario) -> Option<&String> {
        if scenario.is_http() { self.http.as_ref() } else { self.tcp.as_ref() }
    }

    fn extension(&self, scenario: &Scenario) -> String {
        let template = self.template(scenario).map(String::as_str).unwrap_or("");
        Path::new(template).extension().map_or(String::new(), |e| e.to_string_lossy().into_owned())
    }
}

/// A started proxy; killed when dropped.
pub(crate) struct Running {
    child: Child,
    pub(crate) listen: u16,
    directory: PathBuf,
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn wait_listening(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                let said = fs::read_to_string(self.directory.join("stderr")).unwrap_or_default();
                return Err(format!("ended with {status}: {said}"));
            }
            if TcpStream::connect((Ipv4Addr::LOCALHOST, self.listen)).is_ok() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err("does not listen".into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        crate::process::terminate(&mut self.child);
        // A leftover in /tmp is harmless.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A port that was free a moment ago.
fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|e| e.to_string())?;
    listener.local_addr().map(|a| a.port()).map_err(|e| e.to_string())
}

/// The first line a command prints when it succeeds.
pub(crate) fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let out = Command::new(program).args(arguments).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&out.stdout).trim().to_owned();
    (out.status.success() && !text.is_empty()).then_some(text)
}
