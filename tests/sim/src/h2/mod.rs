//! Peers that speak HTTP/2: the codec of the other role on a simulated socket, with windows that open late, credit that
//! comes back late, and streams that end before their time.
//!
//! [`link`] is what both have in common, [`client`] asks and checks answers, [`upstream`] checks requests and answers
//! them, [`pipe`] are both ends of tunnels, [`reporter`] streams load reports; [`upstream`] writes the frames of [`answer`], [`windows`] keeps back what the codec would announce at once.

mod answer;
pub mod client;
mod link;
pub mod pipe;
pub mod reporter;
pub mod upstream;
mod windows;

use millrace_http::{HeaderMap, ResponseHead};

use crate::wire::Head;

/// Fields in the form that the checks of HTTP/1.1 use.
fn fields(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    headers.iter().map(|(name, value)| (text(name), text(value))).collect()
}

/// A response head in the form that the checks of HTTP/1.1 use.
fn response(head: &ResponseHead) -> Head {
    Head { start: format!("HTTP/1.1 {} ", head.status), fields: fields(&head.headers) }
}
