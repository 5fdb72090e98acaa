//! The router: what a forwarding route does to a request and to its response, when a try is repeated, and
//! what is answered when no upstream does.
//!
//! In the order of a request's life: [`timeout`], [`request`], [`retry`], [`reply`], [`response`],
//! [`outcome`].

pub mod internal_redirect;
pub mod mirror;
pub mod mutation;
pub mod outcome;
pub mod reply;
pub mod request;
pub mod response;
pub mod retry;
pub mod rewrite;
pub mod strict;
pub mod timeout;

use millrace_config::format::Template;
use millrace_http::{RequestHead, ResponseHead};

/// Evaluates templates for header mutations and bodies; `shard` implements it over its stream info.
pub trait Render {
    /// Appends the value of `template` to `out`, given the heads as they are now.
    fn render(
        &self,
        template: &Template,
        request: &RequestHead,
        response: Option<&ResponseHead>,
        out: &mut Vec<u8>,
    );

    /// As [`Render::render`], with `-` for operators without a value, as in logs.
    fn render_text(
        &self,
        template: &Template,
        request: &RequestHead,
        response: Option<&ResponseHead>,
        out: &mut Vec<u8>,
    ) {
        self.render(template, request, response, out);
    }
}
