//! The help text.

use super::flags::{FLAGS, Flag, Kind};

/// Columns of the usage lines.
const WIDTH: usize = 78;

/// All flags on a few wrapped lines, without their meaning.
pub(super) fn brief(program: &str) -> String {
    let mut out = String::new();
    let mut line = format!("   {program} ");
    // A long path would leave no room beside it.
    let indent = " ".repeat(line.len().min(24));
    for flag in FLAGS {
        let word = match flag.kind {
            Kind::List => format!(" [{}] ...", form(flag)),
            _ => format!(" [{}]", form(flag)),
        };
        if line.len() + word.len() > WIDTH {
            out.push_str(line.trim_end());
            out.push('\n');
            line.clone_from(&indent);
        }
        line.push_str(&word);
    }
    out.push_str(&line);
    out.push('\n');
    out
}

/// The text of `--help`.
pub(super) fn full(program: &str) -> String {
    let mut out = format!("\nUSAGE: \n\n{}\n\nWhere: \n\n", brief(program));
    for flag in FLAGS {
        let long = match flag.short {
            Some(letter) => format!("-{letter}{0},  --{1}{0}", value(flag), flag.name),
            None => format!("--{}{}", flag.name, value(flag)),
        };
        let many = if flag.kind == Kind::List { "  (accepted multiple times)" } else { "" };
        out.push_str(&format!("   {long}{many}\n     {}\n\n", flag.about));
    }
    out.push_str("\n   millrace\n\n");
    out
}

fn form(flag: &Flag) -> String {
    match flag.short {
        Some(letter) => format!("-{letter}{}", value(flag)),
        None => format!("--{}{}", flag.name, value(flag)),
    }
}

fn value(flag: &Flag) -> &'static str {
    match flag.kind {
        Kind::Switch => "",
        Kind::Text | Kind::List => " <string>",
        Kind::Number => " <uint32_t>",
    }
}
