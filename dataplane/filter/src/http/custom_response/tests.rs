//! Policies, and what they make of answers.

use millrace_config::{
    AppendAction, HeaderMutations, HttpFilter, MatchInput, MatchKind, MatchPredicate, MatchTree, OnMatch,
    ResponseDetails, StringMatcher,
};
use millrace_observe::stats::ScopeKind;

use super::*;
use crate::http::stream_filters::Start;
use crate::http::test::{Room, Running, bytes, hcm, head, lines, option, response, text};

/// Requests may begin anew below `/known`.
struct Known;

impl Restart for Known {
    fn may_restart(&mut self, head: &RequestHead) -> Restarted {
        match head.path() {
            path if path.starts_with(b"/known") => Restarted::Yes,
            b"/early" => Restarted::TooEarly,
            _ => Restarted::NoRoute,
        }
    }
}

fn local() -> ResponsePolicy {
    ResponsePolicy::Local(Arc::new(LocalResponsePolicy {
        body: None,
        body_format: None,
        status: Some(480),
        headers: HeaderMutations::default(),
        details: ResponseDetails::Clear,
    }))
}

fn added(name: &str) -> HeaderMutations {
    HeaderMutations { add: vec![option(name, "1", AppendAction::AppendIfExistsOrAdd)], remove: Vec::new() }
}

fn redirect_to(uri: &str, room: &Room) -> ResponsePolicy {
    ResponsePolicy::Redirect(Arc::new(RedirectPolicy {
        to: CustomRedirectTo::Uri(bytes(uri)),
        status: None,
        response_headers: added("x-response"),
        request_headers: added("x-request"),
        scope: room.registry.scope(ScopeKind::CustomResponse, ""),
    }))
}

/// 503 leads to the policy.
fn on_503(policy: ResponsePolicy) -> CustomResponse {
    let exact = StringMatcher::Exact { value: bytes("503"), ignore_case: false };
    let entry = (MatchPredicate::Single(MatchInput::ResponseStatus, exact), OnMatch::Action(policy));
    CustomResponse { policies: Some(MatchTree { kind: MatchKind::List(vec![entry]), on_no_match: None }) }
}

/// What becomes of an answer with this status to a request.
fn ask(room: Room, policy: ResponsePolicy, request: RequestHead, status: u16) -> Option<Instead> {
    let mut hcm = hcm();
    let mut filter: HttpFilter = hcm.http_filters[0].clone();
    (filter.name, filter.kind) = ("c".into(), HttpFilterKind::CustomResponse(Arc::new(on_503(policy))));
    hcm.http_filters.insert(0, filter);
    let mut request = request;
    let mut running =
        Running::begin_in(room, Start::of(&hcm, None), &mut request).expect("a filter that takes part");
    running.restart = Box::new(Known);
    running.request = request;
    running.response_head(&mut response(status, &[]), false);
    running.take_instead()
}

#[test]
fn answers_that_match_give_way() {
    let ask = |status| ask(Room::new(), local(), head("/", &[]), status);
    let Some(Instead::Reply(policy)) = ask(503) else { panic!("a reply") };
    assert_eq!(policy.status, Some(480));
    assert!(ask(500).is_none());
}

#[test]
fn requests_begin_anew_where_there_is_a_route() {
    let ask = |uri: &str, request| {
        let room = Room::new();
        let policy = redirect_to(uri, &room);
        ask(room, policy, request, 503)
    };
    let post = || {
        let mut request = head("/", &[("content-length", "5"), ("x-mine", "1")]);
        request.set_method(b"POST");
        request
    };
    let Some(Instead::Redirect(next, custom)) = ask("https://o:1/known?q#part", post()) else {
        panic!("a redirect")
    };
    assert_eq!((next.method(), next.scheme()), (&b"GET"[..], &b"https"[..]));
    assert_eq!((text(next.authority()), text(next.path())), ("o:1".to_owned(), "/known?q".to_owned()));
    assert_eq!((lines(&next.headers), custom.status), ("x-mine: 1 | x-request: 1".to_owned(), 503));
    let mut of_head = head("/", &[]);
    of_head.set_method(b"HEAD");
    let Some(Instead::Redirect(next, _)) = ask("http://o/known", of_head) else { panic!("a redirect") };
    assert_eq!(next.method(), b"HEAD");
    assert!(ask("http://o/unknown", post()).is_none());
    assert!(ask("http://o/early", post()).is_none());
}

#[test]
fn the_answer_to_a_redirected_request_has_the_first_status() {
    let room = Room::new();
    let ResponsePolicy::Redirect(policy) = redirect_to("http://o/", &room) else { panic!("a redirect") };
    let answered = |policy: RedirectPolicy, end: bool| {
        let custom = CustomRedirect { policy: Arc::new(policy), status: 503 };
        let mut answer = response(200, &[("x-own", "1")]);
        let request = head("/", &[]);
        finish(&custom, &mut answer, end, &crate::http::test::Literal, &request);
        (answer.status, lines(&answer.headers))
    };
    assert_eq!(answered((*policy).clone(), false), (503, "x-own: 1 | x-response: 1".to_owned()));
    let with = |status, end| answered(RedirectPolicy { status: Some(status), ..(*policy).clone() }, end).0;
    assert_eq!((with(207, false), with(304, false), with(304, true)), (207, 200, 304));
}
