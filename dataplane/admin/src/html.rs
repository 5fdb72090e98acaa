//! The index page and the frame of other pages.

use std::fmt::Write as _;

use crate::Response;
use crate::endpoint::{Call, ENDPOINTS, Endpoint};
use crate::state::AdminState;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
    table{border-collapse:collapse;width:100%}td{padding:.3rem .6rem;border-top:1px solid #ddd;\
    vertical-align:top}code,pre{font:13px ui-monospace,monospace}button{font:inherit}\
    small{color:#666}.state{padding:.1rem .5rem;border-radius:.3rem;background:#e6f4ea}\
    @media(prefers-color-scheme:dark){body{background:#16181c;color:#ddd}a{color:#8ab4f8}td{border-color:#333}\
    .state{background:#1e3a2a}}";

/// A complete page around `content`, which is HTML already.
pub(crate) fn page(title: &str, content: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{0}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<h1>{0}</h1>\n{content}</body>\n</html>\n",
        escape(title)
    )
}

/// Text as a `<pre>` block.
pub(crate) fn preformatted(text: &[u8]) -> String {
    format!("<pre>{}</pre>\n", escape(&String::from_utf8_lossy(text)))
}

/// Replaces the characters that mean something in HTML.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

pub(crate) fn index(_: &Call<'_>, state: &mut dyn AdminState) -> Response {
    let mut body = format!(
        "<p><span class=\"state\">{}</span> <small>{} &middot; up {} s</small></p>\n<table>\n",
        state.server_state().name(),
        escape(&state.version()),
        state.uptime().as_secs()
    );
    for endpoint in ENDPOINTS.iter().filter(|endpoint| endpoint.path != "/") {
        row(&mut body, endpoint);
    }
    body.push_str("</table>\n");
    Response::html(page("Millrace admin", &body))
}

fn row(out: &mut String, endpoint: &Endpoint) {
    let path = endpoint.path;
    // Paths hold nothing that HTML would need escaped; mutations are forms, so that no link changes state.
    let link = if endpoint.mutates {
        format!("<form method=\"post\" action=\"{path}\"><button>{path}</button></form>")
    } else {
        format!("<a href=\"{path}\"><code>{path}</code></a>")
    };
    let _ = write!(out, "<tr><td>{link}</td><td>{}", escape(endpoint.about));
    for (name, about) in endpoint.parameters {
        let _ = write!(out, "<br><small><code>{}</code> {}</small>", escape(name), escape(about));
    }
    out.push_str("</td></tr>\n");
}
