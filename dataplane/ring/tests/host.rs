//! What the host may forbid: io_uring by seccomp, more descriptors by its limit.
#![cfg(test)]

use millrace_ring::{
    Backend, Config, ConnectOptions, Event, IoChoice, IoErrorKind, Op, OpenError, SocketAddress, Token,
    sockets,
};
use std::time::Duration;

/// Makes `io_uring_setup` fail with EPERM on this thread, as container runtimes do.
fn forbid_io_uring() {
    const LOAD_NUMBER: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut program = [
        step(LOAD_NUMBER, 0, 0, 0),
        step(IF_EQUAL, 0, 1, libc::SYS_io_uring_setup as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: plain flags; affects this thread only.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    // SAFETY: the program is a local that outlives the call; affects this thread only.
    let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) };
    assert_eq!(result, 0);
}

#[test]
fn a_seccomp_profile_means_epoll_and_a_reason() {
    std::thread::spawn(|| {
        forbid_io_uring();
        let (backend, report) = Backend::open(IoChoice::Auto, &Config::default()).unwrap();
        assert!(matches!(backend, Backend::Epoll(_)));
        // Where the sysctl forbids it as well, that is the reason given.
        let setting = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
        let sysctl = !matches!(setting.trim(), "" | "0");
        assert_eq!(report.fallback, Some(OpenError::Forbidden { sysctl }));
        let cause =
            if sysctl { "sysctl kernel.io_uring_disabled" } else { "seccomp profile of the container" };
        assert_eq!(report.to_string(), format!("io: epoll; io_uring is forbidden here (EPERM: {cause})"));
        let error = Backend::open(IoChoice::Uring, &Config::default()).unwrap_err();
        assert_eq!(error, OpenError::Forbidden { sysctl });
    })
    .join()
    .unwrap();
}

#[test]
fn auto_takes_io_uring_where_it_works() {
    let (backend, report) = Backend::open(IoChoice::Auto, &Config::default()).unwrap();
    match report.fallback {
        None => {
            assert!(matches!(backend, Backend::Uring(_)));
            assert!(report.to_string().starts_with("io: uring (multishot accept and recv, provided buffers"));
        }
        Some(reason) => println!("skipped: 1 ({reason})"),
    }
}

/// Run in a child process by the next test, since the limit is the process's.
#[test]
#[ignore = "changes the limits of its process; started by out_of_files_pauses_accepting"]
fn out_of_files_child() {
    for choice in [IoChoice::Uring, IoChoice::Epoll] {
        match Backend::open(choice, &Config::default()) {
            Ok((backend, _)) => out_of_files(backend),
            Err(error) => println!("skipped: 1 ({error})"),
        }
    }
}

fn set_file_limit(limit: u64) {
    let limit = libc::rlimit { rlim_cur: limit, rlim_max: 1000 };
    // SAFETY: reads a local.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
}

fn out_of_files(mut backend: Backend) {
    let address = SocketAddress::Inet("127.0.0.1:0".parse().unwrap());
    let listener = sockets::listen(&address, &sockets::ListenOptions::default()).unwrap();
    let address = sockets::local_address(listener).unwrap();
    let client = std::net::TcpStream::connect(address.inet().unwrap()).unwrap();
    let (mut ops, mut events) = (vec![Op::Accept { listener, token: Token(1) }], Vec::new());
    set_file_limit(3);
    for _ in 0..5 {
        backend.turn(&mut ops, Some(Duration::from_millis(10)), &mut events).unwrap();
    }
    // One report, no spinning, and a failed connect that leaves nothing behind.
    let [Event::Accepted { token: Token(1), result: Err(error), more: false }] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!(error.kind(), IoErrorKind::OutOfFiles);
    events.clear();
    ops.push(Op::Connect { token: Token(2), address, options: Box::new(ConnectOptions::default()) });
    backend.turn(&mut ops, Some(Duration::ZERO), &mut events).unwrap();
    let [Event::Connected { token: Token(2), result: Err(error) }] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(error.kind(), IoErrorKind::OutOfFiles);
    events.clear();
    set_file_limit(1000);
    ops.push(Op::Accept { listener, token: Token(3) });
    while events.is_empty() {
        backend.turn(&mut ops, Some(Duration::from_millis(100)), &mut events).unwrap();
    }
    let [Event::Accepted { token: Token(3), result: Ok(accepted), more: true }] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!(accepted.peer.inet(), client.local_addr().ok());
    ops.push(Op::Close { socket: accepted.socket, reset: false });
    ops.push(Op::Close { socket: listener, reset: false });
    backend.turn(&mut ops, Some(Duration::ZERO), &mut events).unwrap();
}

#[test]
fn out_of_files_pauses_accepting() {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "out_of_files_child", "--ignored", "--test-threads=1"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
}
