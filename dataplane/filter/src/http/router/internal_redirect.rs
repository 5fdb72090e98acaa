//! Redirects of the upstream that are followed here (`internal_redirect_policy`): what the next request is, and whether
//! it may be made.

use std::sync::Arc;

use millrace_config::{AbsoluteUrl, InternalRedirects, RedirectPredicate};
use millrace_http::{HeaderId, Method, RequestHead, ResponseHead};

use crate::http::custom_response::CustomRedirect;

/// The redirects of one request that were followed so far.
#[derive(Clone, Debug, Default)]
pub struct Followed {
    count: u32,
    /// From one route to another, by name, for [`RedirectPredicate::PreviousRoutes`].
    steps: Vec<(Arc<str>, Arc<str>)>,
    /// A policy of `custom_response` made one of them, and is applied to the answer.
    pub custom: Option<CustomRedirect>,
}

/// Why the redirect goes to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The response has no `location`, or the request is not kept whole. Not counted.
    Impossible,
    /// `passthrough_internal_redirect_bad_location`: the location is no absolute URL.
    BadLocation,
    /// `passthrough_internal_redirect_unsafe_scheme`.
    UnsafeScheme,
    /// `passthrough_internal_redirect_too_many_redirects`.
    TooMany,
    /// `passthrough_internal_redirect_no_route`.
    NoRoute,
    /// `passthrough_internal_redirect_predicate`.
    Predicate,
}

/// The request that a redirect asks for.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its head; the method is still that of the first one.
    pub head: Box<RequestHead>,
    from_https: bool,
    to_https: bool,
}

/// What a redirect asks for, given the head as it went upstream. `secure` says that the client's connection has TLS.
///
/// # Errors
/// Why it is not followed, as far as that does not depend on the next route.
pub fn target(
    policy: &InternalRedirects,
    followed: &Followed,
    response: &ResponseHead,
    sent: &RequestHead,
    secure: bool,
) -> Result<Target, Refusal> {
    let location = response.headers.get(HeaderId::Location).ok_or(Refusal::Impossible)?;
    let url = AbsoluteUrl::parse(location).ok_or_else(|| match AbsoluteUrl::has_other_scheme(location) {
        true => Refusal::UnsafeScheme,
        false => Refusal::BadLocation,
    })?;
    let to_https = url.https;
    let from_https = secure && sent.scheme() != b"http";
    if !policy.allow_cross_scheme && from_https != to_https {
        return Err(Refusal::UnsafeScheme);
    }
    if followed.count >= policy.max {
        return Err(Refusal::TooMany);
    }
    let mut head = Box::new(sent.clone());
    for name in &policy.copied_headers {
        head.headers.remove_name(name);
        for value in response.headers.values_name(name) {
            head.headers.append(name, value);
        }
    }
    lead_to(&mut head, &url);
    Ok(Target { head, from_https, to_https })
}

/// Makes a head ask for a URL.
pub(crate) fn lead_to(head: &mut RequestHead, url: &AbsoluteUrl<'_>) {
    head.set_scheme(url.scheme());
    head.set_authority(url.authority);
    match url.path.first() {
        Some(b'/') => head.set_path(url.path),
        _ => head.set_path(&[b"/", url.path].concat()),
    }
}

impl Target {
    /// Asks the predicates about the route that the next request takes.
    ///
    /// # Errors
    /// [`Refusal::Predicate`].
    pub fn accept(
        &self,
        policy: &InternalRedirects,
        followed: &mut Followed,
        from: &Arc<str>,
        to: &Arc<str>,
    ) -> Result<(), Refusal> {
        for predicate in &policy.predicates {
            let accepted = match predicate {
                RedirectPredicate::AllowListedRoutes(names) => names.contains(to),
                RedirectPredicate::SafeCrossScheme => self.from_https || !self.to_https,
                RedirectPredicate::PreviousRoutes => {
                    let step = (Arc::clone(from), Arc::clone(to));
                    let is_new = !followed.steps.contains(&step);
                    if is_new {
                        followed.steps.push(step);
                    }
                    is_new
                }
            };
            if !accepted {
                return Err(Refusal::Predicate);
            }
        }
        Ok(())
    }

    /// The next request's head. True when it has no body any more: 303 makes it a GET (RFC 9110 section 15.4.4).
    pub fn follow(
        self,
        followed: &mut Followed,
        status: u16,
        sent: &RequestHead,
    ) -> (Box<RequestHead>, bool) {
        followed.count += 1;
        let mut head = self.head;
        let becomes_get = status == 303 && !matches!(sent.method_kind(), Method::Get | Method::Head);
        if becomes_get {
            head.set_method(b"GET");
            head.headers.remove_id(HeaderId::ContentLength);
        }
        let scheme: &[u8] = if self.from_https { b"https://" } else { b"http://" };
        head.headers.set_id(HeaderId::XEnvoyOriginalUrl, &[scheme, sent.authority(), sent.path()].concat());
        (head, becomes_get)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::test::{bytes, fields, head, lines, text};

    fn policy() -> InternalRedirects {
        InternalRedirects {
            max: 1,
            statuses: vec![302],
            predicates: Vec::new(),
            allow_cross_scheme: false,
            copied_headers: vec![bytes("x-copy"), bytes("x-gone")],
        }
    }

    fn answer(location: &str) -> ResponseHead {
        let mut response = ResponseHead::new();
        fields(&mut response.headers, &[("location", location), ("x-copy", "answer")]);
        response
    }

    fn ask(policy: &InternalRedirects, location: &str) -> Result<(String, String), Refusal> {
        let sent = head("/a?b", &[("x-copy", "request"), ("x-gone", "request")]);
        let found = target(policy, &Followed::default(), &answer(location), &sent, false)?;
        assert_eq!(lines(&found.head.headers), "x-copy: answer");
        Ok((text(found.head.authority()), text(found.head.path())))
    }

    #[test]
    fn only_absolute_urls_are_followed() {
        let went = |authority: &str, path: &str| Ok((authority.into(), path.into()));
        assert_eq!(ask(&policy(), "http://o:81/t?q#f"), went("o:81", "/t?q"));
        assert_eq!(ask(&policy(), "HTTP://o"), went("o", "/"));
        assert_eq!(ask(&policy(), "http://o?x"), went("o", "/?x"));
        for bad in ["", "/t", "nonsense", "http://", "http://u@o/", "http://o o/", "http:///t"] {
            assert_eq!(ask(&policy(), bad), Err(Refusal::BadLocation), "{bad:?}");
        }
        assert_eq!(ask(&policy(), "ftp://o/t"), Err(Refusal::UnsafeScheme));
        assert_eq!(ask(&policy(), "https://o/"), Err(Refusal::UnsafeScheme));
        let cross = InternalRedirects { allow_cross_scheme: true, ..policy() };
        assert_eq!(ask(&cross, "https://o/"), went("o", "/"));
        let none = InternalRedirects { max: 0, ..policy() };
        assert_eq!(ask(&none, "http://o/"), Err(Refusal::TooMany));
        let nowhere = target(&policy(), &Followed::default(), &ResponseHead::new(), &head("/", &[]), false);
        assert_eq!(nowhere.err(), Some(Refusal::Impossible));
    }

    #[test]
    fn predicates_refuse() {
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let mut followed = Followed::default();
        let mut step = |predicate, location: &str| {
            let policy = InternalRedirects {
                allow_cross_scheme: true,
                max: 9,
                predicates: vec![predicate],
                ..policy()
            };
            let sent = head("/", &[]);
            let target = target(&policy, &followed, &answer(location), &sent, false).unwrap();
            target.accept(&policy, &mut followed, &a, &b).is_ok()
        };
        assert!(step(RedirectPredicate::PreviousRoutes, "http://o/"));
        assert!(!step(RedirectPredicate::PreviousRoutes, "http://o/"));
        assert!(!step(RedirectPredicate::SafeCrossScheme, "https://o/"));
        assert!(step(RedirectPredicate::SafeCrossScheme, "http://o/"));
        assert!(step(RedirectPredicate::AllowListedRoutes(vec!["x".into(), "b".into()]), "http://o/"));
        assert!(!step(RedirectPredicate::AllowListedRoutes(vec!["a".into()]), "http://o/"));
    }

    #[test]
    fn see_other_makes_a_get() {
        let mut followed = Followed::default();
        let mut sent = head("/a?b", &[("content-length", "5")]);
        sent.set_method(b"POST");
        let next = |followed: &mut Followed, status, sent: &RequestHead| {
            let policy = InternalRedirects { max: 9, ..policy() };
            let found = target(&policy, followed, &answer("http://o/t"), sent, false).unwrap();
            let (head, becomes_get) = found.follow(followed, status, sent);
            (text(head.method()), becomes_get, lines(&head.headers))
        };
        let original = "x-envoy-original-url: http://h:80/a?b";
        assert_eq!(
            next(&mut followed, 303, &sent),
            ("GET".into(), true, format!("x-copy: answer | {original}"))
        );
        assert_eq!(
            next(&mut followed, 307, &sent),
            ("POST".into(), false, format!("content-length: 5 | x-copy: answer | {original}"))
        );
        sent.set_method(b"HEAD");
        assert_eq!(next(&mut followed, 303, &sent).0, "HEAD");
        assert_eq!(followed.count, 3);
    }
}
