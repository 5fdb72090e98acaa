//! Numbers of metadata, as Envoy prints doubles.

/// Appends the fewest digits that read back as `n`, with an exponent where that is shorter, and whole numbers exactly (C++'s
/// `to_chars`); `null` for what JSON has no number for.
pub(crate) fn push_double(n: f64, out: &mut Vec<u8>) {
    if !n.is_finite() {
        return out.extend_from_slice(b"null");
    }
    let short = format!("{n:e}");
    let (mantissa, exponent) = short.split_once('e').unwrap_or((&short, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let sign = if exponent < 0 { '-' } else { '+' };
    let scientific = format!("{mantissa}e{sign}{:02}", exponent.abs());
    // Farther out zeros alone make it longer.
    let plain = (-30..=30).contains(&exponent).then(|| match n.fract() == 0.0 {
        true => format!("{n:.0}"),
        false => n.to_string(),
    });
    let text = plain.filter(|plain| plain.len() <= scientific.len()).unwrap_or(scientific);
    out.extend_from_slice(text.as_bytes());
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
            (10_000.0, "10000"),
            (100_000.0, "1e+05"),
            (12_300_000.0, "12300000"),
            (1e14, "1e+14"),
            (9_007_199_254_740_992.0, "9007199254740992"),
            (-9_007_199_254_740_992.0, "-9007199254740992"),
            (123_456_789_012_345_680.0, "123456789012345680"),
            (18_446_744_073_709_551_616.0, "18446744073709551616"),
            (1e22, "1e+22"),
            (1e-5, "1e-05"),
            (0.000_123, "0.000123"),
            (1.5e300, "1.5e+300"),
            (-0.0, "-0"),
            (0.1 + 0.2, "0.30000000000000004"),
            (f64::NAN, "null"),
        ] {
            let mut out = Vec::new();
            push_double(n, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), text);
        }
    }
}
