//! The numbers of a JSON object, and of objects one level within: all that a report has.

/// Deepest nesting that is passed over.
const DEPTH_MAX: usize = 16;

/// Calls `take` with the path of each number; a string that is a number counts as one. `None` when the text is no object.
pub(super) fn numbers(text: &[u8], mut take: impl FnMut(&[&str], f64)) -> Option<()> {
    let mut rest = std::str::from_utf8(text).ok()?;
    object(&mut rest, &mut Vec::new(), &mut take)?;
    rest.trim_ascii().is_empty().then_some(())
}

fn after<'t>(rest: &mut &'t str, wanted: char) -> Option<&'t str> {
    *rest = rest.trim_ascii_start().strip_prefix(wanted)?;
    Some(rest)
}

fn object<'t>(
    rest: &mut &'t str,
    path: &mut Vec<&'t str>,
    take: &mut impl FnMut(&[&str], f64),
) -> Option<()> {
    if path.len() == DEPTH_MAX {
        return None;
    }
    after(rest, '{')?;
    if after(rest, '}').is_some() {
        return Some(());
    }
    loop {
        let name = string(rest)?;
        after(rest, ':')?;
        path.push(name);
        value(rest, path, take)?;
        path.pop();
        if after(rest, ',').is_none() {
            return after(rest, '}').map(|_| ());
        }
    }
}

fn value<'t>(rest: &mut &'t str, path: &mut Vec<&'t str>, take: &mut impl FnMut(&[&str], f64)) -> Option<()> {
    *rest = rest.trim_ascii_start();
    match rest.bytes().next()? {
        b'{' => object(rest, path, take),
        b'[' => array(rest, path, take),
        b'"' => {
            if let Ok(number) = string(rest)?.parse::<f64>() {
                number.is_finite().then(|| take(path, number))?;
            }
            Some(())
        }
        _ => {
            let end = rest.find([',', '}', ']']).unwrap_or(rest.len());
            let (word, later) = rest.split_at(end);
            *rest = later;
            match word.trim_ascii_end() {
                "true" | "false" | "null" => {}
                word => {
                    let number = word.parse::<f64>().ok().filter(|number| number.is_finite())?;
                    take(path, number);
                }
            }
            Some(())
        }
    }
}

/// No report has arrays: what is in them is passed over.
fn array<'t>(rest: &mut &'t str, path: &mut Vec<&'t str>, take: &mut impl FnMut(&[&str], f64)) -> Option<()> {
    if path.len() >= DEPTH_MAX {
        return None;
    }
    after(rest, '[')?;
    if after(rest, ']').is_some() {
        return Some(());
    }
    // Two names more than any that a report has.
    path.extend(["", ""]);
    loop {
        value(rest, path, take)?;
        if after(rest, ',').is_none() {
            break;
        }
    }
    path.truncate(path.len() - 2);
    after(rest, ']').map(|_| ())
}

/// The text between quotes, escapes as they are written.
fn string<'t>(rest: &mut &'t str) -> Option<&'t str> {
    let text = after(rest, '"')?;
    let mut escaped = false;
    let end = text.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })?;
    *rest = text.get(end + 1..)?;
    text.get(..end)
}
