//! Numbers of metadata, as Envoy prints doubles.

/// Appends the shortest of 15 and 17 significant digits that reads back as `n`, with an exponent where that is far from
/// the digits; `null` for what JSON has no number for.
pub(crate) fn push_double(n: f64, out: &mut Vec<u8>) {
    if !n.is_finite() {
        return out.extend_from_slice(b"null");
    }
    let short = format!("{n:.14e}");
    let exact = short.parse() == Ok(n);
    let (text, precision) = if exact { (short, 15) } else { (format!("{n:.16e}"), 17) };
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    out.extend_from_slice(sign.as_bytes());
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let digits = digits.trim_end_matches('0');
    let digits = if digits.is_empty() { "0" } else { digits };
    let written = match usize::try_from(exponent) {
        Ok(whole) if exponent < precision => {
            let padded = format!("{digits:0<width$}", width = whole + 1);
            match padded.split_at(whole + 1) {
                (whole, "") => whole.to_owned(),
                (whole, rest) => format!("{whole}.{rest}"),
            }
        }
        Err(_) if exponent >= -4 => {
            let zeros = "0".repeat(usize::try_from(-exponent - 1).unwrap_or(0));
            format!("0.{zeros}{digits}")
        }
        _ => {
            let (first, rest) = digits.split_at(1);
            let point = if rest.is_empty() { "" } else { "." };
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{first}{point}{rest}e{sign}{:02}", exponent.abs())
        }
    };
    out.extend_from_slice(written.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Envoy 1.40 printed them.
    #[test]
    fn doubles() {
        for (n, text) in [
            (0.0, "0"),
            (200.0, "200"),
            (2.5, "2.5"),
            (-0.1, "-0.1"),
            (1e30, "1e+30"),
            (1.2e-7, "1.2e-07"),
            (0.00012, "0.00012"),
            (12_345_678_901_234_568.0, "12345678901234568"),
            (1e14, "100000000000000"),
            (1e15, "1e+15"),
            (0.1 + 0.2, "0.30000000000000004"),
            (f64::NAN, "null"),
        ] {
            let mut out = Vec::new();
            push_double(n, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), text);
        }
    }
}
