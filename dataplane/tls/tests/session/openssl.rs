//! OpenSSL's own client and server over loopback, as far as `openssl` is installed.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use millrace_config::{TlsCertificate, TlsVersion};
use millrace_tls::{ClientOptions, Shared};

use crate::world::*;

/// Says that it skips where there is no `openssl`, and fails where `CI=true`.
fn installed() -> bool {
    let found = Command::new("openssl").arg("version").output().is_ok_and(|output| output.status.success());
    let in_ci = std::env::var_os("CI").is_some_and(|v| v == "true");
    assert!(found || !in_ci, "openssl must be installed in CI");
    if !found {
        println!("skipped: 0 cases, openssl is not installed");
    }
    found
}

fn pem(label: &str, der: &[u8]) -> String {
    use std::fmt::Write as _;
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in der.chunks(48) {
        for three in line.chunks(3) {
            let bits = three.iter().fold(0u32, |bits, byte| (bits << 8) | u32::from(*byte))
                << (8 * (3 - three.len()));
            for i in 0..4 {
                let digit = ALPHABET[(bits >> (18 - 6 * i)) as usize & 63] as char;
                text.push(if i <= three.len() { digit } else { '=' });
            }
        }
        text.push('\n');
    }
    writeln!(text, "-----END {label}-----").expect("memory");
    text
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("a file");
    path
}

/// A folder with an authority, a certificate and its key, for `openssl`.
struct Files {
    folder: PathBuf,
    ca: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    fn new(name: &str, authority: &Authority, leaf: &TlsCertificate) -> Self {
        let folder = std::env::temp_dir().join(format!("millrace-tls-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        Self {
            ca: write(&folder, "ca.pem", &pem("CERTIFICATE", &authority.der())),
            certificate: write(&folder, "leaf.pem", &pem("CERTIFICATE", &leaf.chain[0])),
            key: write(&folder, "key.pem", &pem("PRIVATE KEY", leaf.key.der())),
            folder,
        }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Drives our end over a socket until `done`.
fn drive(end: &mut End, socket: &mut TcpStream, done: impl Fn(&End) -> bool) {
    let mut buffer = [0; 20_000];
    loop {
        socket.write_all(&end.take()).expect("the peer reads");
        if done(end) || end.error.is_some() {
            return;
        }
        match socket.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(received) => end.feed(&buffer[..received]),
        }
    }
}

fn patient(socket: &TcpStream) {
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
}

#[test]
fn s_client_talks_to_our_server() {
    if !installed() {
        return;
    }
    let authority = Authority::new("root");
    let local = shard(&Shared::new([1; 32]));
    for kind in [Kind::Ecdsa, Kind::Rsa] {
        let files =
            Files::new(&format!("s_client-{kind:?}"), &authority, &authority.leaf(&["client.test"], kind));
        let config = mutual(downstream(&[authority.leaf(&["server.test"], kind)]), authority.trust());
        let context = server_context(&config, &local);
        let suites = match kind {
            Kind::Ecdsa => [
                "ECDHE-ECDSA-AES128-GCM-SHA256",
                "ECDHE-ECDSA-AES256-GCM-SHA384",
                "ECDHE-ECDSA-CHACHA20-POLY1305",
            ],
            Kind::Rsa => {
                ["ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-CHACHA20-POLY1305"]
            }
        };
        let tls13 = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];
        let cases = suites
            .map(|suite| (["-tls1_2", "-cipher", suite], "TLSv1.2"))
            .into_iter()
            .chain(tls13.map(|suite| (["-tls1_3", "-ciphersuites", suite], "TLSv1.3")));
        for (arguments, version) in cases {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            let address = listener.local_addr().expect("bound").to_string();
            let mut child = Running(
                Command::new("openssl")
                    .args([
                        "s_client",
                        "-connect",
                        &address,
                        "-servername",
                        "server.test",
                        "-quiet",
                        "-no_ign_eof",
                    ])
                    .args(["-verify_return_error", "-verify", "3", "-CAfile"])
                    .args(
                        [&files.ca, Path::new("-cert"), &files.certificate, Path::new("-key"), &files.key]
                            .map(|p| p as &Path),
                    )
                    .args(arguments)
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::null())
                    .spawn()
                    .expect("openssl"),
            );
            let (mut socket, _) = listener.accept().expect("openssl connects");
            patient(&socket);
            let mut server = End::server(&context);
            child.0.stdin.as_mut().expect("piped").write_all(b"hello from openssl\n").expect("openssl reads");
            drive(&mut server, &mut socket, |end| end.data.ends_with(b"\n"));
            assert_eq!(
                (&server.data[..], &server.error),
                (&b"hello from openssl\n"[..], &None),
                "{arguments:?}"
            );
            let facts = server.session.facts().expect("established").clone();
            assert_eq!((facts.version, facts.cipher), (version, arguments[2]));
            assert_eq!(&*facts.peer.as_ref().expect("mutual").dns_sans[0], "client.test");
            server.send(b"hello from us\n");
            server.session.close_notify(&mut server.output);
            drive(&mut server, &mut socket, |end| end.closed);
            drop(socket);
            let mut said = String::new();
            child.0.stdout.take().expect("piped").read_to_string(&mut said).expect("text");
            assert_eq!(said, "hello from us\n");
        }
    }
}

/// `s_server -www` answers one request and then says close_notify; the second connection resumes.
#[test]
fn our_client_talks_to_s_server() {
    if !installed() {
        return;
    }
    let authority = Authority::new("root");
    let local = shard(&Shared::new([1; 32]));
    for (kind, version) in [
        (Kind::Ecdsa, TlsVersion::V1_3),
        (Kind::Ecdsa, TlsVersion::V1_2),
        (Kind::Rsa, TlsVersion::V1_3),
        (Kind::Rsa, TlsVersion::V1_2),
    ] {
        let files = Files::new(
            &format!("s_server-{kind:?}-{version:?}"),
            &authority,
            &authority.leaf(&["server.test"], kind),
        );
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
        let _child = Running(
            Command::new("openssl")
                .args([
                    "s_server",
                    "-accept",
                    &format!("127.0.0.1:{port}"),
                    "-www",
                    "-Verify",
                    "3",
                    "-verify_return_error",
                    "-CAfile",
                ])
                .args(
                    [&files.ca, Path::new("-cert"), &files.certificate, Path::new("-key"), &files.key]
                        .map(|p| p as &Path),
                )
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("openssl"),
        );
        let mut up = upstream(Some(authority.trust()), Some(authority.leaf(&["client.test"], kind)));
        (up.common.params.minimum, up.common.params.maximum) = (version, version);
        let context = client_context(&up, &local);
        for resumed in [false, true] {
            let mut socket = (0..500)
                .find_map(|_| match TcpStream::connect(("127.0.0.1", port)) {
                    Ok(socket) => Some(socket),
                    Err(_) => {
                        std::thread::sleep(Duration::from_millis(20));
                        None
                    }
                })
                .expect("openssl listens");
            patient(&socket);
            let options = ClientOptions { server_name: "server.test", ..ClientOptions::default() };
            let mut client = End::client(&context, options);
            drive(&mut client, &mut socket, |end| end.session.is_established());
            assert_eq!(client.error, None, "{kind:?} {version:?}");
            client.send(b"GET / HTTP/1.0\r\n\r\n");
            drive(&mut client, &mut socket, |end| end.closed);
            assert!(client.data.starts_with(b"HTTP/1.0 200"), "{:?}", client.error);
            assert_eq!(
                client.session.facts().map(|facts| facts.resumed),
                Some(resumed),
                "{kind:?} {version:?}"
            );
        }
    }
}
