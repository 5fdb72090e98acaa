//! An upstream whose answers the request itself lists, one for each try.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use millrace_support::message::Request;
use millrace_support::upstream::{Reply, Upstream};

/// `x-answers` lists what the tries of the request `x-case` are answered, the last one again and again: a status with
/// fields (`503|a: b`), `hang`, `reset`, `half` (a response that stops in the middle), `200@300` (after so many
/// milliseconds). The body names the try, from 1.
pub(super) fn upstream() -> Upstream {
    let counts: Mutex<HashMap<String, usize>> = Mutex::default();
    Upstream::start(move |request: &Request| {
        let case = request.fields.get("x-case").unwrap_or_default().to_owned();
        let mut counts = counts.lock().expect("no panic while counting");
        let count = counts.entry(case).or_default();
        *count += 1;
        let answers: Vec<&str> = request.fields.get("x-answers").unwrap_or("200").split(',').collect();
        let answer = answers[(*count - 1).min(answers.len() - 1)].trim();
        reply(answer, *count)
    })
}

fn reply(answer: &str, number: usize) -> Reply {
    match answer {
        "hang" => return Reply::hang(),
        "reset" => return Reply::reset(),
        "half" => {
            let half = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";
            return Reply::raw(half).step(millrace_support::upstream::Step::Hang);
        }
        _ => {}
    }
    let mut parts = answer.split('|');
    let first = parts.next().unwrap_or_default();
    let (status, delay) = first.split_once('@').unwrap_or((first, "0"));
    let fields: Vec<(&str, &str)> = parts.filter_map(|field| field.split_once(": ")).collect();
    let body = format!("try {number}");
    let reply = Reply::with(status.parse().unwrap_or(500), &fields, body.as_bytes());
    match delay.parse() {
        Ok(0) | Err(_) => reply,
        Ok(millis) => reply.after(Duration::from_millis(millis)),
    }
}

/// Fast back-offs.
pub(super) const BACK_OFF: &str = "retry_back_off: {base_interval: 0.001s, max_interval: 0.002s}";
