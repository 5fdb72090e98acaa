//! Local replies as `local_reply_config` wants them.

use std::borrow::Cow;

use millrace_config::{HeaderOption, LocalReplyConfig};
use millrace_http::{RequestHead, ResponseHead};
use millrace_observe::access_log::{StreamInfo, render_line, wanted};

use super::{Render, mutation};

/// What a reply has become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewritten<'c> {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: Cow<'c, [u8]>,
    /// The type of its body, where no field says another.
    pub content_type: &'c str,
}

/// Applies the first mapper that wants the reply, and the format of the body. `head` has the reply's status and fields;
/// `info` says everything else of its stream. `random` is one draw.
pub fn rewrite<'c>(
    config: &'c LocalReplyConfig,
    render: &impl Render,
    (request, head): (&RequestHead, &mut ResponseHead),
    body: Cow<'c, [u8]>,
    info: &StreamInfo<'_>,
    random: u64,
) -> Rewritten<'c> {
    let (mut status, mut body, mut format) = (head.status, body, config.body_format.as_ref());
    let info = StreamInfo { request: Some(request), ..*info };
    let seen = StreamInfo { response: Some(&*head), response_code: Some(status), ..info };
    let mapper = config.mappers.iter().find(|mapper| wanted(&mapper.filter, &seen, random));
    if let Some(mapper) = mapper {
        body = mapper.body.as_deref().map_or(body, Cow::Borrowed);
        add(&mapper.headers, render, request, head);
        status = mapper.status.unwrap_or(status);
        format = mapper.body_format.as_ref().or(format);
    }
    head.status = status;
    let Some(format) = format else {
        return Rewritten { status, body, content_type: "text/plain" };
    };
    let mut text = Vec::new();
    let info = StreamInfo {
        response: Some(&*head),
        response_code: Some(status),
        local_reply_body: Some(&body),
        ..info
    };
    render_line(&format.format, &info, &mut Vec::new(), &mut text);
    Rewritten { status, body: Cow::Owned(text), content_type: &format.content_type }
}

fn add(options: &[HeaderOption], render: &impl Render, request: &RequestHead, head: &mut ResponseHead) {
    for option in options {
        let mut value = Vec::new();
        render.render(&option.value, request, Some(head), &mut value);
        mutation::add_one(option, &mut head.headers, &value);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use millrace_config::format::Template;
    use millrace_config::{
        AccessLogFilter, AccessLogFormat, AppendAction, Comparison, ReplyBodyFormat, ReplyMapper,
    };

    use super::*;
    use crate::http::test::{Literal, head, lines, option, response};

    fn format(text: &str) -> ReplyBodyFormat {
        let format = AccessLogFormat::Text(Template::parse(text).expect("a format"));
        ReplyBodyFormat { format, content_type: "text/html".into() }
    }

    fn mapper(status: u32, to: Option<u16>) -> ReplyMapper {
        ReplyMapper {
            filter: AccessLogFilter::StatusCode(Comparison::Equal(status)),
            status: to,
            body: None,
            body_format: None,
            headers: vec![option("x-mapped", "yes", AppendAction::AppendIfExistsOrAdd)],
        }
    }

    #[test]
    fn the_first_mapper_that_matches_counts() {
        let own: Arc<[u8]> = b"own"[..].into();
        let config = LocalReplyConfig {
            mappers: vec![
                mapper(500, Some(200)),
                ReplyMapper { body: Some(own), ..mapper(503, Some(429)) },
                mapper(503, None),
                ReplyMapper { body_format: Some(format("<%LOCAL_REPLY_BODY%>")), ..mapper(404, None) },
            ],
            body_format: Some(format("%RESPONSE_CODE% %LOCAL_REPLY_BODY% %RESPONSE_CODE_DETAILS%")),
        };
        let ask = |status| {
            let mut made = response(status, &[("x-own", "1")]);
            let info = StreamInfo { response_code_details: Some("why"), ..StreamInfo::default() };
            let rewritten =
                rewrite(&config, &Literal, (&head("/", &[]), &mut made), Cow::Borrowed(b"body"), &info, 0);
            let body = String::from_utf8_lossy(&rewritten.body).into_owned();
            (rewritten.status, body, lines(&made.headers))
        };
        let mapped = "x-own: 1 | x-mapped: yes".to_owned();
        assert_eq!(ask(503), (429, "429 own why".to_owned(), mapped.clone()));
        assert_eq!(ask(404), (404, "<body>".to_owned(), mapped));
        assert_eq!(ask(400), (400, "400 body why".to_owned(), "x-own: 1".to_owned()));
    }
}
