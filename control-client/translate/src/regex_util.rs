//! Regular expressions as Envoy's RE2 takes them, compiled with a bound on their size.

use millrace_config::RegexRewrite;
use millrace_proto::Path;
use millrace_proto::pb::envoy::r#type::matcher::v3::{RegexMatchAndSubstitute, RegexMatcher};
use regex::bytes::{Regex, RegexBuilder};
use std::sync::Arc;

use crate::error::Rejection;

/// Largest compiled program, bytes.
const COMPILED_BYTES_MAX: usize = 1 << 20;

fn compile(pattern: &str, path: &Path) -> Result<Regex, Rejection> {
    let built = RegexBuilder::new(pattern).size_limit(COMPILED_BYTES_MAX).build();
    built.map_err(|error| {
        // The engine draws the pattern over several lines; the last one says what is wrong.
        let text = error.to_string();
        let why = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        Rejection::new(&path.join("regex"), format!("{why}: {pattern}"))
    })
}

/// A pattern that must match the whole text.
pub(crate) fn full(matcher: &RegexMatcher, path: &Path) -> Result<Regex, Rejection> {
    whole(&matcher.regex, path)
}

/// The same of a bare pattern; `path` leads to the message that has it in `regex`.
pub(crate) fn whole(pattern: &str, path: &Path) -> Result<Regex, Rejection> {
    // Alone first, so that a pattern such as `a)(b` cannot escape the group around it.
    compile(pattern, path)?;
    compile(&format!(r"\A(?:{pattern})\z"), path)
}

/// As [`substitution`], in one piece.
pub(crate) fn rewrite(rewrite: &RegexMatchAndSubstitute, path: &Path) -> Result<RegexRewrite, Rejection> {
    let (pattern, substitution) = substitution(rewrite, path)?;
    Ok(RegexRewrite { pattern, substitution })
}

/// A pattern and what replaces its matches, in the regex crate's syntax.
pub(crate) fn substitution(
    rewrite: &RegexMatchAndSubstitute,
    path: &Path,
) -> Result<(Regex, Arc<[u8]>), Rejection> {
    let pattern = match &rewrite.pattern {
        Some(matcher) => compile(&matcher.regex, &path.join("pattern"))?,
        None => return Err(Rejection::new(&path.join("pattern"), "value is required")),
    };
    let mut out = String::new();
    let mut chars = rewrite.substitution.chars();
    while let Some(c) = chars.next() {
        match c {
            '$' => out.push_str("$$"),
            '\\' => match chars.next() {
                Some(digit @ '0'..='9') => {
                    out.push_str("${");
                    out.push(digit);
                    out.push('}');
                }
                Some('\\') => out.push('\\'),
                _ => {
                    let why = format!("invalid substitution string: {}", rewrite.substitution);
                    return Err(Rejection::new(&path.join("substitution"), why));
                }
            },
            c => out.push(c),
        }
    }
    Ok((pattern, Arc::from(out.into_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matcher(regex: &str) -> RegexMatcher {
        RegexMatcher { regex: regex.into(), ..RegexMatcher::default() }
    }

    #[test]
    fn matches_are_of_the_whole_text() {
        let path = Path::from("safe_regex");
        let regex = full(&matcher("a|bc"), &path).unwrap();
        assert!(
            regex.is_match(b"a")
                && regex.is_match(b"bc")
                && !regex.is_match(b"ac")
                && !regex.is_match(b"a\n")
        );
        for bad in ["a(", "a)(b", "(?=a)", "(a{1000}){1000}"] {
            let error = full(&matcher(bad), &path).unwrap_err();
            assert!(error.path == "safe_regex.regex" && !error.reason.contains('\n'), "{error}");
        }
    }

    #[test]
    fn substitutions_are_rewritten() {
        let rewrite = |text: &str| RegexMatchAndSubstitute {
            pattern: Some(matcher("(a)(b)")),
            substitution: text.into(),
        };
        let (regex, by) = substitution(&rewrite(r"\2$\\\1"), &Path::default()).unwrap();
        assert_eq!(&*regex.replace_all(b"xabx", &by[..]), br"xb$\ax");
        assert!(substitution(&rewrite(r"\x"), &Path::default()).is_err());
        assert!(substitution(&rewrite("\\"), &Path::default()).is_err());
    }
}
