//! A Rust file split into code and comments, without a parser: enough to search one and not the other.

/// One line.
#[derive(Debug, Default)]
pub struct Line {
    /// The code, with comments removed and the contents of string and character literals blanked.
    pub code: String,
    /// The comment text, if any.
    pub comment: String,
    /// Inside a `#[cfg(test)]` item.
    pub test: bool,
}

/// One file.
#[derive(Debug)]
pub struct Source {
    /// Path below the repository's root, with `/`.
    pub path: String,
    /// As it stands on disk.
    pub text: String,
    /// Line by line.
    pub lines: Vec<Line>,
    /// Declared under `#[cfg(test)]` elsewhere.
    pub declared_test: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Code,
    LineComment,
    BlockComment(u32),
    Text,
    RawText(usize),
}

impl Source {
    /// Splits a file.
    pub fn new(path: String, text: String) -> Self {
        let mut lines = split(&text);
        mark_tests(&mut lines);
        Self { path, text, lines, declared_test: false }
    }

    /// True when the whole file is test code.
    pub fn is_test_file(&self) -> bool {
        let in_tests_directory = |p: &str| p.split('/').any(|part| part == "tests" || part == "tests.rs");
        // The crates below `tests/` are test code; so are `src/tests.rs` and `<crate>/tests/*`.
        self.declared_test || in_tests_directory(&self.path) || self.path.contains("/benches/")
    }

    /// Paths that `#[cfg(test)] mod name;` of this file may mean.
    pub fn test_modules(&self) -> Vec<String> {
        let (folder, file) = self.path.rsplit_once('/').unwrap_or_default();
        let folder = match file {
            "mod.rs" | "lib.rs" | "main.rs" => folder.to_owned(),
            other => format!("{folder}/{}", other.trim_end_matches(".rs")),
        };
        let declared = self.lines.iter().filter(|line| line.test).filter_map(|line| {
            let (_, name) = line.code.trim().trim_end_matches(';').split_once("mod ")?;
            line.code.trim_end().ends_with(';').then(|| name.to_owned())
        });
        declared.flat_map(|name| [format!("{folder}/{name}.rs"), format!("{folder}/{name}/mod.rs")]).collect()
    }

    /// Lines outside tests, numbered from 1.
    pub fn product(&self) -> impl Iterator<Item = (usize, &Line)> {
        let all_test = self.is_test_file();
        self.lines
            .iter()
            .enumerate()
            .filter(move |(_, line)| !all_test && !line.test)
            .map(|(i, l)| (i + 1, l))
    }
}

fn split(text: &str) -> Vec<Line> {
    let chars: Vec<char> = text.chars().collect();
    let mut lines = vec![Line::default()];
    let mut mode = Mode::Code;
    let mut at = 0;
    while at < chars.len() {
        let (c, next) = (chars[at], chars.get(at + 1).copied());
        if c == '\n' {
            lines.push(Line::default());
            if mode == Mode::LineComment {
                mode = Mode::Code;
            }
            at += 1;
            continue;
        }
        let Some(line) = lines.last_mut() else { break };
        let used;
        (mode, used) = match mode {
            Mode::Code => code(&chars, at, line),
            Mode::LineComment => {
                line.comment.push(c);
                (mode, 1)
            }
            Mode::BlockComment(depth) => match (c, next) {
                ('*', Some('/')) if depth == 1 => (Mode::Code, 2),
                ('*', Some('/')) => (Mode::BlockComment(depth - 1), 2),
                ('/', Some('*')) => (Mode::BlockComment(depth + 1), 2),
                _ => {
                    line.comment.push(c);
                    (mode, 1)
                }
            },
            Mode::Text if c == '\\' && next != Some('\n') => (mode, 2),
            Mode::Text if c == '"' => (push(line, '"', Mode::Code), 1),
            Mode::RawText(hashes) if c == '"' && closes(&chars, at, hashes) => {
                (push(line, '"', Mode::Code), 1 + hashes)
            }
            Mode::Text | Mode::RawText(_) => (mode, 1),
        };
        at += used;
    }
    lines
}

fn push(line: &mut Line, c: char, mode: Mode) -> Mode {
    line.code.push(c);
    mode
}

fn closes(chars: &[char], at: usize, hashes: usize) -> bool {
    (1..=hashes).all(|i| chars.get(at + i) == Some(&'#'))
}

/// One step in code: the mode after it and the characters used.
fn code(chars: &[char], at: usize, line: &mut Line) -> (Mode, usize) {
    let (c, next) = (chars[at], chars.get(at + 1).copied());
    match (c, next) {
        ('/', Some('/')) => (Mode::LineComment, 2),
        ('/', Some('*')) => (Mode::BlockComment(1), 2),
        ('"', _) => (push(line, '"', Mode::Text), 1),
        ('r', Some('"' | '#')) if !in_word(line) || line.code.ends_with('b') => {
            let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
            if chars.get(at + 1 + hashes) == Some(&'"') {
                (push(line, '"', Mode::RawText(hashes)), 2 + hashes)
            } else {
                (push(line, c, Mode::Code), 1)
            }
        }
        ('\'', Some('\\')) => {
            // Past the escaped character, which may be a quote itself, to the closing quote.
            let rest = chars.get(at + 3..).unwrap_or_default();
            let length = rest.iter().position(|c| *c == '\'').unwrap_or(0) + 4;
            (push(line, '\'', Mode::Code), length)
        }
        ('\'', Some(_)) if chars.get(at + 2) == Some(&'\'') => (push(line, '\'', Mode::Code), 3),
        _ => (push(line, c, Mode::Code), 1),
    }
}

fn in_word(line: &Line) -> bool {
    line.code.chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_')
}

/// Marks the items under `#[cfg(test)]`, by counting braces.
fn mark_tests(lines: &mut [Line]) {
    let mut depth = 0i32;
    let mut pending = false;
    let mut inside: Option<i32> = None;
    for line in lines {
        if inside.is_none() && line.code.replace(' ', "").contains("#[cfg(test)]") {
            pending = true;
        }
        line.test = pending || inside.is_some();
        for c in line.code.chars() {
            match c {
                '{' => {
                    if pending {
                        pending = false;
                        inside = Some(depth);
                    }
                    depth += 1;
                }
                '}' => {
                    depth -= 1;
                    if inside == Some(depth) {
                        inside = None;
                    }
                }
                ';' if pending => pending = false,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::new("a/src/lib.rs".to_owned(), text.to_owned())
    }

    #[test]
    fn literals_and_comments_are_not_code() {
        let source = source(
            "let a = \"unsafe // x\"; // why\nlet b = r#\"un\"safe\"#; let c = '\"'; /* in\n/* n */ out */ d()",
        );
        let code: Vec<_> = source.lines.iter().map(|l| l.code.trim().to_owned()).collect();
        assert_eq!(code, ["let a = \"\";", "let b = \"\"; let c = ';", "d()"]);
        assert_eq!(source.lines[0].comment, " why");
    }

    #[test]
    fn lifetimes_escapes_and_byte_strings_are_told_apart() {
        let source = source("fn f<'a>(x: &'a str) { b\"\\\"unsafe\"; '\\''; '\\u{1F}'; g() } // end");
        assert_eq!(source.lines[0].code, "fn f<'a>(x: &'a str) { b\"\"; '; '; g() } ");
    }

    #[test]
    fn test_modules_are_recognised() {
        let source = source(
            "fn a() {}\n#[cfg(test)]\nmod tests {\n fn b() {}\n}\nfn c() {}\n#[cfg(test)]\nmod t;\nfn d() {}",
        );
        let product: Vec<_> = source.product().map(|(number, _)| number).collect();
        assert_eq!(product, [1, 6, 9]);
        assert_eq!(source.test_modules(), ["a/src/t.rs", "a/src/t/mod.rs"]);
    }
}
