//! Our own HTTP/2 for tests: a client and a scripted upstream on blocking sockets that build every frame by hand. They
//! can send anything, judge strictly what they receive, and share nothing with the proxy's codec.

pub mod client;
pub mod frame;
pub mod hpack;
pub mod reply;
pub mod rules;
mod serve;
pub mod session;
mod tables;
pub mod upstream;

pub use client::{Client, Lost, Response};
pub use reply::{Act, Reply};
pub use session::{End, Session};
pub use upstream::{Asked, Upstream};

#[cfg(test)]
mod tests {
    use super::frame::{code, setting};
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn requests_and_answers_without_a_proxy() {
        let upstream = Upstream::start(|asked| {
            Reply::default()
                .head(103, &[("link", "a")], false)
                .head(200, &[("x-path", asked.get(":path"))], false)
                .data(&asked.body, false)
                .trailers(&[("x-t", "1")])
        });
        let mut client = Client::connect(upstream.address());
        for size in [1, 70_000, 300_000] {
            let body = Rng::new(size).bytes(size as usize);
            let response = client.exchange("POST", "/p", &[], &body).unwrap();
            assert!(response.body == body && response.status == 200);
            assert_eq!((response.interim[0].0, response.trailers.get("x-t")), (103, Some("1")));
        }
        assert!(client.is_alive());
        client.assert_strict();
        upstream.assert_strict();
        assert_eq!((upstream.requests().len(), upstream.connections()), (3, 1));
    }

    #[test]
    fn resets_holds_and_limits_show() {
        let settings = [(setting::INITIAL_WINDOW_SIZE, 1000)];
        let hold = |asked: &Asked| (asked.get(":path") == "/hold").then(|| Reply::default().act(Act::Hold));
        let upstream = Upstream::with(&settings, hold, |_| Reply::reset(code::REFUSED_STREAM));
        let mut client = Client::connect(upstream.address());
        assert_eq!(
            client.exchange("GET", "/", &[], b"").unwrap_err(),
            Lost::Reset(code::REFUSED_STREAM, None)
        );
        let held = client.head("POST", "/hold", &[], false);
        assert!(client.session().until(|s| s.settings.0 > 0));
        let sent = client.body_within(held, &[0; 5000], true, std::time::Duration::from_millis(200));
        assert_eq!(sent, 1000);
        client.reset(held, code::CANCEL);
        crate::wait::for_true("the reset", || upstream.resets() == [(0, held, code::CANCEL)]);
    }

    #[test]
    fn malformed_requests_are_violations() {
        let upstream = Upstream::fixed("x");
        let mut client = Client::connect(upstream.address());
        for (name, value) in [("Upper", "x"), ("a", "b\r\nc"), ("te", "gzip"), ("connection", "x")] {
            client.exchange("GET", "/", &[(name, value)], b"").unwrap();
        }
        client.exchange("GET", "/a b", &[], b"").unwrap();
        assert_eq!(upstream.violations().len(), 5);
    }
}
