//! How connections end: GOAWAY in two steps, what a client makes of the server's, PING.

use millrace_http::h2::{ErrorCode, GoAway, Side};

use crate::support::*;

fn goaways(end: &mut End2) -> Vec<(u32, u32)> {
    let code = |f: &Frame| u32::from_be_bytes(f.payload[4..8].try_into().expect("four octets"));
    end.take().iter().filter(|f| f.kind == GOAWAY).map(|f| (f.number(), code(f))).collect()
}

#[test]
fn servers_leave_in_two_steps() {
    let mut server = End2::server(&server_options());
    assert!(server.feed(&headers(1, 0, POST)).is_ok());
    server.connection.goaway(GoAway::Drain);
    server.connection.goaway(GoAway::Drain);
    assert_eq!(goaways(&mut server), [(0x7fff_ffff, 0)]);
    assert!(server.connection.is_going_away());
    // What was on its way is still served.
    assert_eq!(server.feed(&headers(3, END, GET)).map(|seen| seen.len()), Ok(1));
    server.connection.goaway(GoAway::Final(ErrorCode::NoError));
    server.connection.goaway(GoAway::Drain);
    assert_eq!(goaways(&mut server), [(3, 0)]);
    let late =
        [headers(5, 0, POST), frame(DATA, END, 5, b"late"), rst_stream(5, 8), window_update(5, 1)].concat();
    assert_eq!(server.feed(&late), Ok(vec![]), "6.8: frames of later streams are ignored");
    assert_eq!(server.connection.unreleased(), 0);
    let seen = server.feed(&frame(DATA, END, 1, b"body")).expect("open streams go on");
    assert_eq!(seen, [Seen::Data { id: 1, bytes: b"body".to_vec(), end: true }]);
    server.respond(1, true);
    server.respond(3, true);
    assert_eq!(server.connection.open_streams(), 0);
    assert!(server.take().is_empty());
    // The announcement does not count.
    assert_eq!(server.connection.take_counts().goaway_sent, 1);
}

#[test]
fn clients_hear_which_streams_were_not_taken() {
    let mut client = End2::client(&client_options());
    for _ in 0..5 {
        client.get(false);
    }
    let goaway = |last: u32, code: u32| {
        frame(GOAWAY, 0, 0, &[&last.to_be_bytes()[..], &code.to_be_bytes(), b"why"].concat())
    };
    let refused = |id| Seen::Reset { id, code: ErrorCode::RefusedStream, by: Side::Peer };
    let gone = |last, code| Seen::GoAway { last, code };
    assert_eq!(client.feed(&goaway(0x7fff_ffff, 0)), Ok(vec![gone(0x7fff_ffff, ErrorCode::NoError)]));
    assert!(client.connection.is_going_away() && !client.connection.can_open());
    let seen = client.feed(&[goaway(5, 2), headers(1, END, OK)].concat()).expect("no error");
    assert_eq!(seen[..3], [gone(5, ErrorCode::Internal), refused(7), refused(9)]);
    assert!(matches!(seen[3], Seen::Response { id: 1, .. }), "what came behind GOAWAY is read");
    assert_eq!(client.feed(&goaway(9, 0)), Ok(vec![gone(5, ErrorCode::NoError)]), "it never rises again");
    assert_eq!(
        client.feed(&goaway(0, 0)),
        Ok(vec![gone(0, ErrorCode::NoError), refused(1), refused(3), refused(5)])
    );
    assert_eq!(client.connection.open_streams(), 0);
}

#[test]
fn no_more_streams_than_both_sides_allow() {
    let mut client =
        End2::new(&millrace_http::h2::Options { max_concurrent_streams: 150, ..client_options() });
    assert!(client.connection.can_open(), "also before SETTINGS came");
    assert_eq!(client.connection.peer_max_streams(), 100);
    assert!(client.feed(&settings(&[])).is_ok());
    assert_eq!(client.connection.peer_max_streams(), 150);
    assert!(client.feed(&settings(&[(3, 2)])).is_ok());
    client.get(true);
    client.get(true);
    let mut out = Vec::new();
    assert!(!client.connection.can_open());
    assert!(client.connection.send_request(&request(GET), 0, true, &mut out).is_none() && out.is_empty());
    assert!(client.feed(&rst_stream(1, 7)).is_ok());
    assert!(client.connection.can_open());
    client.connection.goaway(GoAway::Final(ErrorCode::NoError));
    assert!(!client.connection.can_open());
    assert!(!End2::server(&server_options()).connection.can_open());
}

#[test]
fn one_ping_at_a_time() {
    let mut client = End2::client(&client_options());
    client.connection.ping();
    client.connection.ping();
    let pings = client.take();
    assert_eq!((pings.len(), pings[0].kind, pings[0].flags), (1, PING, 0));
    assert_eq!(client.feed(&frame(PING, ACK, 0, &[0; 8])), Ok(vec![]));
    assert_eq!(client.feed(&frame(PING, ACK, 0, &pings[0].payload)), Ok(vec![Seen::Pong]));
    assert_eq!(client.feed(&frame(PING, ACK, 0, &pings[0].payload)), Ok(vec![]));
    client.connection.ping();
    assert_eq!(client.take().len(), 1);
}

#[test]
fn errors_name_the_last_stream() {
    let mut server = End2::server(&server_options());
    assert!(server.feed(&[headers(1, END, GET), headers(7, END, GET)].concat()).is_ok());
    assert!(server.feed(&frame(SETTINGS, 0, 1, &[])).is_err());
    assert_eq!(goaways(&mut server), [(7, 1)]);
    assert_eq!(server.connection.take_counts().connection_errors, 1);
}
