//! HTTP/1.1 corpora: each case runs through the codec as a listener would run it, and whatever is accepted is
//! encoded again and judged by two independent parsers.

mod exchange;
mod llhttp;
mod oracle;
mod probe;
mod replay;
mod seeds;
