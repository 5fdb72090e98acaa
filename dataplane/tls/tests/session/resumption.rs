//! Sessions that resume: on either side, across shards, and not where trust has changed.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use millrace_base::WallTime;
use millrace_config::{
    DownstreamTls, SecretSource, SessionTickets, TicketKeys, TlsVersion, UpstreamTls, ValidationContext,
};
use millrace_tls::{ClientContext, ClientOptions, Local, ServerContext, Shared};

use crate::world::*;

struct Scene {
    authority: Authority,
    shared: Arc<Shared>,
    local: Rc<Local>,
    down: DownstreamTls,
    up: UpstreamTls,
}

fn scene(version: TlsVersion) -> Scene {
    let authority = Authority::new("root");
    let shared = Shared::new([3; 32]);
    let down = mutual(downstream(&[authority.leaf(&["server.test"], Kind::Ecdsa)]), authority.trust());
    let mut up = upstream(Some(authority.trust()), Some(authority.leaf(&["client.test"], Kind::Ecdsa)));
    (up.common.params.minimum, up.common.params.maximum) = (version, version);
    Scene { local: shard(&shared), shared, authority, down, up }
}

impl Scene {
    fn server(&self) -> Rc<ServerContext> {
        server_context(&self.down, &self.local)
    }

    fn client(&self) -> Rc<ClientContext> {
        client_context(&self.up, &self.local)
    }
}

/// A connection with some data, and whether it was a resumption.
fn meet(client: &Rc<ClientContext>, server: &Rc<ServerContext>, extra: Option<&str>) -> bool {
    let options =
        ClientOptions { server_name: "server.test", extra_dns_san: extra, ..ClientOptions::default() };
    let (mut client, mut server) = (End::client(client, options), End::server(server));
    exchange(&mut client, &mut server, usize::MAX);
    assert_eq!((&client.error, &server.error), (&None, &None));
    client.send(b"ping");
    server.send(b"pong");
    exchange(&mut client, &mut server, 100);
    assert_eq!((&client.data[..], &server.data[..]), (&b"pong"[..], &b"ping"[..]));
    let (of_client, of_server) =
        (client.session.facts().expect("there"), server.session.facts().expect("there"));
    assert_eq!(of_client.resumed, of_server.resumed);
    let peer = of_server.peer.as_ref().expect("known again when resumed");
    assert!(&*peer.dns_sans[0] == "client.test" && of_server.peer_validated && of_client.peer_validated);
    assert!(of_client.peer.is_some() && of_server.local.is_some() && of_client.local.is_some());
    of_client.resumed
}

const VERSIONS: [TlsVersion; 2] = [TlsVersion::V1_2, TlsVersion::V1_3];

#[test]
fn sessions_resume_again_and_again_and_on_every_shard() {
    for version in VERSIONS {
        let scene = scene(version);
        let (client, server) = (scene.client(), scene.server());
        assert!(!meet(&client, &server, None));
        for _ in 0..3 {
            assert!(meet(&client, &server, None), "{version:?}");
        }
        // Another shard of the process: its own clock, caches and context, the same seed.
        let elsewhere = shard(&scene.shared);
        assert!(meet(&client, &server_context(&scene.down, &elsewhere), None));
        // Another process.
        let stranger = shard(&Shared::new([9; 32]));
        assert!(!meet(&client, &server_context(&scene.down, &stranger), None));
    }
}

/// Two tickets for a newcomer, as from BoringSSL, and one for each that a client used: its stock stays as it is.
#[test]
fn a_resumed_session_is_worth_one_ticket() {
    let mut scene = scene(TlsVersion::V1_3);
    scene.up.max_session_keys = 8;
    let (client, server) = (scene.client(), scene.server());
    let bytes_of_tickets = || {
        let (mut client, mut server) = (End::to(&client), End::server(&server));
        server.feed(&client.take());
        client.feed(&server.take());
        server.feed(&client.take());
        assert!(server.session.is_established());
        let tickets = server.take();
        client.feed(&tickets);
        assert_eq!((&client.error, &server.error), (&None, &None));
        (client.session.facts().is_some_and(|facts| facts.resumed), tickets.len())
    };
    let (resumed, two) = bytes_of_tickets();
    assert!(!resumed && two > 0);
    for _ in 0..4 {
        let (resumed, one) = bytes_of_tickets();
        assert!(resumed);
        assert!(one < two / 2 + 32, "{one} of {two}");
    }
    // Two at the same time have one each.
    let begin = || (End::to(&client), End::server(&server));
    for (mut client, mut server) in [begin(), begin()] {
        exchange(&mut client, &mut server, usize::MAX);
        assert!(client.session.facts().is_some_and(|facts| facts.resumed));
    }
}

#[test]
fn a_changed_trust_ends_sessions() {
    for version in VERSIONS {
        let mut scene = scene(version);
        let (client, server) = (scene.client(), scene.server());
        meet(&client, &server, None);
        assert!(meet(&client, &scene.server(), None), "the same configuration again");
        let second = Authority::new("second");
        let both = ValidationContext {
            trusted_ca: Some(Arc::from([scene.authority.der(), second.der()])),
            ..ValidationContext::default()
        };
        scene.down = mutual(scene.down.clone(), both);
        assert!(!meet(&client, &scene.server(), None), "another bundle");
        let rotated = scene.authority.leaf(&["server.test"], Kind::Ecdsa);
        scene.down.common.certificates = vec![SecretSource::Inline(rotated)];
        assert!(!meet(&client, &scene.server(), None), "another certificate");
        scene.down.require_client_certificate = false;
        assert!(!meet(&client, &scene.server(), None), "another policy");
        assert!(meet(&client, &scene.server(), None));
        assert!(!meet(&scene.client(), &scene.server(), None), "a client's sessions end with its context");
    }
}

#[test]
fn a_name_that_must_be_there_is_not_skipped_by_resuming() {
    let scene = scene(TlsVersion::V1_3);
    let (client, server) = (scene.client(), scene.server());
    meet(&client, &server, None);
    assert!(!meet(&client, &server, Some("server.test")), "verified anew");
    assert!(meet(&client, &server, Some("server.test")));
    assert!(meet(&client, &server, None));
}

#[test]
fn time_ends_sessions() {
    for version in VERSIONS {
        let mut scene = scene(version);
        scene.down.session_timeout = Some(Duration::from_secs(60));
        let (client, server) = (scene.client(), scene.server());
        meet(&client, &server, None);
        let at = |seconds: u64| scene.local.set_wall(WallTime((NOW + seconds) * 1_000_000_000));
        at(59);
        assert!(meet(&client, &server, None));
        at(59 + 61);
        assert!(!meet(&client, &server, None), "{version:?}");
        at(0);
    }
}

#[test]
fn resumption_can_be_off_on_either_side() {
    for version in VERSIONS {
        let mut off = scene(version);
        off.down.tickets = SessionTickets::Disabled;
        let (client, server) = (off.client(), off.server());
        assert!(!meet(&client, &server, None) && !meet(&client, &server, None));
        let mut off = scene(version);
        off.up.max_session_keys = 0;
        let (client, server) = (off.client(), off.server());
        assert!(!meet(&client, &server, None) && !meet(&client, &server, None));
    }
}

#[test]
fn configured_keys_are_shared_by_processes() {
    let mut scene = scene(TlsVersion::V1_3);
    let keys = |bytes: &[u8]| {
        let keys = TicketKeys(bytes.iter().map(|byte| [*byte; 80]).collect());
        SessionTickets::Keys(SecretSource::Inline(Arc::new(keys)))
    };
    scene.down.tickets = keys(&[1]);
    let client = scene.client();
    meet(&client, &scene.server(), None);
    let stranger = shard(&Shared::new([9; 32]));
    scene.down.tickets = keys(&[2, 1]);
    assert!(meet(&client, &server_context(&scene.down, &stranger), None));
    scene.down.tickets = keys(&[3]);
    assert!(!meet(&client, &server_context(&scene.down, &stranger), None));
}
