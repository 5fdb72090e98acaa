//! `millrace demo`: the proxy, two demo upstreams and a control plane in one process, with URLs to try.

mod control_plane;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use millrace_config::Address;

use super::listeners::Bound;
use crate::cli::Options;

/// The embedded bootstrap; `{xds}` is the control plane's port.
const BOOTSTRAP: &str = include_str!("bootstrap.yaml");

/// The running upstreams.
pub struct Demo;

impl Demo {
    /// Starts two upstreams and the control plane on free ports and points the command line at the embedded
    /// bootstrap.
    ///
    /// # Errors
    /// No free port, or `-c` was given, too.
    pub fn start(options: &mut Options) -> Result<Self, String> {
        if !options.config_path.is_empty() || !options.config_yaml.is_empty() {
            return Err("demo brings its own configuration: leave --config-path and --config-yaml out".into());
        }
        let blue = upstream("blue")?;
        let green = upstream("green")?;
        let xds = control_plane::start(blue.port(), green.port())?;
        options.config_yaml = BOOTSTRAP.replace("{xds}", &xds.port().to_string());
        Ok(Self)
    }

    /// Prints what to try.
    pub fn announce(&self, bound: &[Bound], admin: Option<&Address>) {
        let find = |name: &str| {
            let listener = bound.iter().find(|b| &*b.listener.name == name);
            listener.and_then(|b| b.addresses.first()).map(ToString::to_string).unwrap_or_default()
        };
        let (http, tcp) = (find("http"), find("tcp"));
        let admin = admin.map(ToString::to_string).unwrap_or_default();
        let text = format!(
            "Millrace demo: one proxy, two upstreams (blue and green) and a control plane. Try:\n\
             \n  curl http://{http}/            # balanced over both upstreams\
             \n  curl -i http://{http}/release  # blue or green: the control plane changes its route every 5 s\
             \n  curl http://{http}/green       # one of them, prefix rewritten\
             \n  curl -i http://{http}/old      # a redirect\
             \n  curl -i http://{http}/teapot   # a direct response\
             \n  curl -i --http2-prior-knowledge http://{http}/twice  # HTTP/2 to the proxy, and from it to itself\
             \n  curl http://{tcp}/             # the same upstreams through the TCP proxy\
             \n  curl http://{admin}/stats?filter=upstream_rq_total\
             \n  curl http://{admin}/config_dump?include_eds  # everything as the control plane sent it\
             \n  open http://{admin}/           # the admin page\n\
             \nCtrl-C drains and ends it.\n"
        );
        // A closed stdout only loses the hint.
        let _ = std::io::stdout().write_all(text.as_bytes());
    }
}

/// A tiny HTTP/1.1 server: enough for curl, not for the internet.
fn upstream(name: &'static str) -> Result<SocketAddr, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|e| format!("demo upstream: {e}"))?;
    let address = listener.local_addr().map_err(|e| format!("demo upstream: {e}"))?;
    let serve = move || {
        for connection in listener.incoming().flatten() {
            let spawned =
                std::thread::Builder::new().stack_size(128 * 1024).spawn(move || answer(&connection, name));
            // Without a thread the connection is dropped, which the proxy retries.
            drop(spawned);
        }
    };
    std::thread::Builder::new()
        .name(format!("demo_{name}"))
        .stack_size(128 * 1024)
        .spawn(serve)
        .map_err(|e| format!("demo upstream: {e}"))?;
    Ok(address)
}

fn answer(connection: &TcpStream, name: &str) {
    let _ = connection.set_read_timeout(Some(Duration::from_secs(3600)));
    let mut reader = BufReader::new(connection);
    loop {
        let mut request = String::new();
        let mut length = 0;
        loop {
            let mut line = String::new();
            match reader.by_ref().take(16 * 1024).read_line(&mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) if line == "\r\n" => break,
                Ok(_) => {}
            }
            if request.is_empty() {
                line.trim_end().clone_into(&mut request);
            } else if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        let mut body = reader.by_ref().take(length);
        if std::io::copy(&mut body, &mut std::io::sink()).is_err() {
            return;
        }
        let body = format!("{name} answers: {request}\n");
        let head = format!("HTTP/1.1 200 OK\r\nx-upstream: {name}\r\ncontent-length: {}\r\n\r\n", body.len());
        let mut writer = connection;
        if writer.write_all(head.as_bytes()).and_then(|()| writer.write_all(body.as_bytes())).is_err() {
            return;
        }
    }
}
