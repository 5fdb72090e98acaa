//! A control plane's words in, actions out.

mod checks;
mod clusters;
mod endpoints;
mod health_discovery;
mod lab;
mod listeners;
mod scopes;
mod secrets;
mod start;
mod virtual_hosts;
