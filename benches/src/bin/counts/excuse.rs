//! Trailers in commit messages that say why something got slower.
//!
//! `Instructions-Regression: <bench>: <reason>` in the last paragraph of a message; `*` at the end of the name
//! stands for any rest, so that `*` alone means every bench and `shard/*` those of the shard.

const KEY: &str = "Instructions-Regression:";

/// One trailer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excuse {
    /// The bench, or the beginning of several with `*` behind it.
    pub bench: String,
    /// Why.
    pub reason: String,
}

/// The trailers of one commit message. One without a reason is none.
pub fn excuses(message: &str) -> Vec<Excuse> {
    let message = message.trim_end();
    let last = message.rsplit("\n\n").next().unwrap_or_default();
    let trailer = |line: &str| {
        let (bench, reason) = line.trim().strip_prefix(KEY)?.split_once(':')?;
        let (bench, reason) = (bench.trim(), reason.trim());
        let complete = !bench.is_empty() && !bench.contains(' ') && !reason.is_empty();
        complete.then(|| Excuse { bench: bench.to_owned(), reason: reason.to_owned() })
    };
    last.lines().filter_map(trailer).collect()
}

/// The reason given for a bench.
pub fn excused<'e>(bench: &str, excuses: &'e [Excuse]) -> Option<&'e str> {
    let covers = |excuse: &&Excuse| match excuse.bench.strip_suffix('*') {
        Some(start) => bench.starts_with(start),
        None => bench == excuse.bench,
    };
    excuses.iter().find(covers).map(|excuse| excuse.reason.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailers_stand_in_the_last_paragraph() {
        let message = "http: check more\n\nInstructions-Regression: a/body: not a trailer\n\n\
            Instructions-Regression: http/parse_response: RFC 9112: bare CR\n\
            Signed-off-by: A\nInstructions-Regression: shard/*: same\n";
        let found = excuses(message);
        assert_eq!(found.len(), 2);
        assert_eq!(excused("http/parse_response", &found), Some("RFC 9112: bare CR"));
        assert_eq!(excused("shard/http_get", &found), Some("same"));
        assert_eq!(excused("http/parse_response_2", &found), None);
        assert_eq!(excused("a/body", &found), None);
    }

    #[test]
    fn a_reason_is_needed() {
        for line in ["*", "*:", "* :  ", ": why", "two words: why", ""] {
            assert!(excuses(&format!("x\n\n{KEY} {line}")).is_empty(), "{line}");
        }
        let all = excuses(&format!("x\n\n{KEY} *: rustc 1.96"));
        assert_eq!(excused("anything", &all), Some("rustc 1.96"));
    }
}
