//! A control plane's words in, actions out.

mod clusters;
mod lab;
mod listeners;
mod scopes;
mod start;
mod virtual_hosts;
