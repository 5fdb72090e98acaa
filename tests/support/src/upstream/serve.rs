//! One upstream connection: read strictly, record, perform the scripted steps.

use std::net::TcpStream;
use std::sync::atomic::Ordering;

use super::{Reply, Shared, Step, Then, Violation};
use crate::message::{self, Request};
use crate::strict::Declared;
use crate::wire::{self, Fault, Wire};

/// Whether the connection goes on.
enum Flow {
    Next,
    Continue,
    Over,
}

pub(super) fn connection(stream: TcpStream, number: usize, shared: &Shared) {
    let mut wire = Wire::new(stream, shared.patience);
    while !shared.stop.load(Ordering::SeqCst) {
        let (request, declared) = match message::request_head(&mut wire, number) {
            Ok(read) => read,
            Err(fault) => return report(&mut wire, shared, "head", &fault),
        };
        if !exchange(&mut wire, shared, request, declared) {
            return;
        }
    }
}

/// Serves one request; false when the connection is over.
fn exchange(wire: &mut Wire, shared: &Shared, mut request: Request, declared: Declared) -> bool {
    let early = (shared.on_head)(&request);
    let answered = match early {
        None => false,
        Some(reply) => match perform(wire, &reply) {
            Flow::Over => return false,
            Flow::Continue => false,
            Flow::Next => true,
        },
    };
    if let Err(fault) = message::request_body(wire, &mut request, declared) {
        report(wire, shared, &format!("body of {} {}", request.method, request.target), &fault);
        return false;
    }
    let reply = if answered { None } else { Some((shared.on_request)(&request)) };
    let tunnels = reply.as_ref().is_some_and(|r| r.steps.iter().any(|s| matches!(s, Step::EchoTunnel)));
    if !wire.ahead().is_empty() && !tunnels {
        let bytes = [&request.raw[..], wire.ahead()].concat();
        let rule = "pipelined bytes behind a request that has no answer yet".to_owned();
        shared.log().violations.push(Violation { rule, bytes });
        return false;
    }
    shared.log().requests.push(request);
    reply.is_none_or(|reply| !matches!(perform(wire, &reply), Flow::Over))
}

fn report(wire: &mut Wire, shared: &Shared, place: &str, fault: &Fault) {
    match fault {
        Fault::Closed => {}
        Fault::Grammar(rule) => {
            let bytes = [wire.take_record(), wire.ahead().to_vec()].concat();
            shared.log().violations.push(Violation { rule: format!("{rule} ({place})"), bytes });
        }
        // A reset between requests is as good as a FIN.
        Fault::Reset | Fault::Timeout if place == "head" && wire.ahead().is_empty() => {}
        other => shared.log().aborted.push(format!("{place}: {other}")),
    }
}

fn perform(wire: &mut Wire, reply: &Reply) -> Flow {
    for step in &reply.steps {
        let done = match step {
            Step::Send(bytes) => wire.send(bytes),
            Step::Sleep(time) => {
                std::thread::sleep(*time);
                Ok(())
            }
            Step::Finish => {
                wire.finish_sending();
                Ok(())
            }
            Step::Reset => {
                wire::reset(wire.stream());
                return Flow::Over;
            }
            Step::Hang => {
                // Ends when the peer closes or the read timeout strikes; either is the end.
                let _ = wire.rest();
                return Flow::Over;
            }
            Step::EchoTunnel => {
                echo(wire);
                return Flow::Over;
            }
        };
        if done.is_err() {
            return Flow::Over;
        }
    }
    match reply.then {
        Then::Next => Flow::Next,
        Then::Continue => Flow::Continue,
        Then::Close => Flow::Over,
    }
}

fn echo(wire: &mut Wire) {
    while let Ok(bytes) = wire.some() {
        if bytes.is_empty() || wire.send(&bytes).is_err() {
            return;
        }
    }
}
