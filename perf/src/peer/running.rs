//! A started peer: its processes, its directory, and where clients connect to.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Binary, Foreign, Peer, Process, Ready};
use crate::credentials::{Caller, Credentials};
use crate::process::{pinned, terminate};
use crate::scenario::Load;
use crate::template::{Places, render};

/// A large configuration may take this long.
const START_LIMIT: Duration = Duration::from_secs(90);

/// A started proxy with everything that it needs; ended when dropped.
pub(crate) struct Running {
    children: Vec<Child>,
    measured: Vec<u32>,
    address: SocketAddr,
    admin: u16,
    caller: Option<Caller>,
    directory: PathBuf,
    /// When the proxy itself was executed.
    pub(crate) began: Instant,
}

struct Start<'a> {
    peer: &'a Peer,
    load: &'a Load,
    places: Places,
    directory: PathBuf,
}

impl Running {
    /// Starts a peer in front of an origin's port. It returns when the proxy is executed; `wait` for the rest.
    pub(crate) fn start(
        peer: &Peer,
        folder: &Path,
        load: &Load,
        origin: u16,
        credentials: Option<&Credentials>,
    ) -> Result<Self, String> {
        let directory =
            std::env::temp_dir().join(format!("millrace-perf-{}-{}", std::process::id(), peer.name));
        fs::create_dir_all(&directory).map_err(|e| e.to_string())?;
        let listen = if peer.is_direct() { origin } else { free_port()? };
        let extension = peer.template(load).and_then(|t| Path::new(t).extension()).unwrap_or_default();
        let config = directory.join("config").with_extension(extension);
        let places = Places {
            listen,
            admin: free_port()?,
            origin,
            directory: directory.to_string_lossy().into_owned(),
            tls: credentials.map_or(String::new(), |made| made.directory().to_string_lossy().into_owned()),
            config: config.to_string_lossy().into_owned(),
        };
        let address = match &peer.address {
            Some(text) => {
                let text = render(text, &places, load)?;
                text.parse().map_err(|_| format!("{}: bad address {text:?}", peer.name))?
            }
            None => SocketAddr::from((Ipv4Addr::LOCALHOST, listen)),
        };
        let mut running = Self {
            children: Vec::new(),
            measured: Vec::new(),
            address,
            admin: places.admin,
            caller: None,
            directory: directory.clone(),
            began: Instant::now(),
        };
        let start = Start { peer, load, places, directory };
        running.caller = peer.tls.as_ref().map(|foreign| start.caller(foreign)).transpose()?;
        start.write_files(&folder.join("peers"), &config)?;
        for command in &peer.setup {
            start.set_up(command)?;
        }
        for (n, process) in peer.before.iter().enumerate() {
            let log = format!("before-{n}");
            let child = start.spawn(process, &log)?;
            running.adopt(child, process.measured);
            if let Some(ready) = &process.ready {
                running.wait_for(&start.ready(ready)?, &log)?;
            }
        }
        if let Some(binary) = &peer.binary {
            let main = main_process(peer, binary);
            running.began = Instant::now();
            let child = start.spawn(&main, "stderr")?;
            running.adopt(child, true);
            if let Some(ready) = &peer.ready {
                running.wait_for(&start.ready(ready)?, "stderr")?;
            }
        }
        Ok(running)
    }

    fn adopt(&mut self, child: Child, measured: bool) {
        if measured {
            self.measured.push(child.id());
        }
        self.children.push(child);
    }

    /// Processes whose cost is the proxy's.
    pub(crate) fn measured(&self) -> &[u32] {
        &self.measured
    }

    /// Where clients connect to.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port of the admin interface.
    pub(crate) fn admin(&self) -> u16 {
        self.admin
    }

    /// Who a client has to be, if not the lab's own.
    pub(crate) fn caller(&self) -> Option<Caller> {
        self.caller.clone()
    }

    /// Where its files are, until it is dropped.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Waits until somebody listens for clients.
    pub(crate) fn wait_listening(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + START_LIMIT;
        while TcpStream::connect(self.address).is_err() {
            self.check_alive("stderr")?;
            if Instant::now() > deadline {
                return Err(format!("does not listen; it said: {}", self.said("stderr")));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn wait_for(&mut self, ready: &Ready, log: &str) -> Result<(), String> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let done = match ready {
                Ready::Log(text) => self.said(log).contains(text.as_str()),
                Ready::Http(url) => answers(url),
            };
            if done {
                return Ok(());
            }
            self.check_alive(log)?;
            if Instant::now() > deadline {
                return Err(format!("is not ready; it said: {}", self.said(log)));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// An error when one of the processes has ended.
    pub(crate) fn check_alive(&mut self, log: &str) -> Result<(), String> {
        for child in &mut self.children {
            if let Ok(Some(status)) = child.try_wait() {
                let said = fs::read_to_string(self.directory.join(log)).unwrap_or_default();
                return Err(format!("ended with {status}: {}", last_lines(&said)));
            }
        }
        Ok(())
    }

    fn said(&self, log: &str) -> String {
        fs::read_to_string(self.directory.join(log)).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for child in self.children.iter_mut().rev() {
            terminate(child);
        }
        // A leftover in /tmp is harmless.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Start<'_> {
    fn fill(&self, text: &str) -> Result<String, String> {
        render(text, &self.places, self.load)
    }

    fn caller(&self, foreign: &Foreign) -> Result<Caller, String> {
        Ok(Caller {
            ca: self.fill(&foreign.ca)?.into(),
            certificate: self.fill(&foreign.certificate)?.into(),
            key: self.fill(&foreign.key)?.into(),
            name: self.fill(&foreign.name)?,
            alpn: self.fill(&foreign.alpn)?,
        })
    }

    fn write_files(&self, peers: &Path, config: &Path) -> Result<(), String> {
        let template = self.peer.template(self.load).map(|name| (name, config.to_owned()));
        let others = self.peer.files.iter().map(|name| (name, self.directory.join(name)));
        for (name, path) in template.into_iter().chain(others) {
            let text = fs::read_to_string(peers.join(name)).map_err(|e| format!("{name}: {e}"))?;
            fs::write(path, self.fill(&text)?).map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    fn set_up(&self, command: &[String]) -> Result<(), String> {
        let words: Result<Vec<_>, _> = command.iter().map(|w| self.fill(w)).collect();
        let words = words?;
        let (program, arguments) = words.split_first().ok_or("an empty command in `setup`")?;
        let out = Command::new(program).args(arguments).output().map_err(|e| format!("{program}: {e}"))?;
        if out.status.success() {
            return Ok(());
        }
        Err(format!("{}: {}", words.join(" "), String::from_utf8_lossy(&out.stderr).trim()))
    }

    fn ready(&self, ready: &Ready) -> Result<Ready, String> {
        Ok(match ready {
            Ready::Log(text) => Ready::Log(self.fill(text)?),
            Ready::Http(url) => Ready::Http(self.fill(url)?),
        })
    }

    fn spawn(&self, process: &Process, log: &str) -> Result<Child, String> {
        let path = process.binary.locate()?;
        let file = |name: &str| fs::File::create(self.directory.join(name)).map_err(|e| e.to_string());
        let core = usize::from(!process.measured);
        let mut command = match process.user {
            Some(user) => {
                let mut command = pinned(core, Path::new("setpriv"));
                command.arg(format!("--reuid={user}")).arg(format!("--regid={user}"));
                command.arg("--clear-groups").arg(&path);
                command
            }
            None => pinned(core, &path),
        };
        for argument in &process.arguments {
            command.arg(self.fill(argument)?);
        }
        for (name, value) in &process.environment {
            // A value that begins with `@` is the content of that file.
            let value = self.fill(value)?;
            let value = match value.strip_prefix('@') {
                Some(path) => fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))?,
                None => value,
            };
            command.env(name, value);
        }
        command.stdin(Stdio::null()).stdout(file(&format!("{log}.out"))?).stderr(file(log)?);
        command.spawn().map_err(|e| format!("cannot start {}: {e}", path.display()))
    }
}

fn main_process(peer: &Peer, binary: &Binary) -> Process {
    Process {
        binary: binary.clone(),
        arguments: peer.arguments.clone(),
        environment: peer.environment.clone(),
        user: peer.user,
        measured: true,
        ready: None,
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines.iter().skip(lines.len().saturating_sub(5)).copied().collect::<Vec<_>>().join("\n")
}

fn answers(url: &str) -> bool {
    let (address, path) = url.split_once('/').unwrap_or((url, ""));
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        write!(stream, "GET /{path} HTTP/1.1\r\nhost: perf\r\nconnection: close\r\n\r\n")?;
        let mut said = [0; 12];
        stream.read_exact(&mut said)?;
        Ok(said.starts_with(b"HTTP/1.1 200"))
    };
    ask().unwrap_or(false)
}

/// A port that was free a moment ago.
fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|e| e.to_string())?;
    listener.local_addr().map(|a| a.port()).map_err(|e| e.to_string())
}
