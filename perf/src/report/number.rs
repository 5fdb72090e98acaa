//! Figures as a reader wants them: few digits, thousands apart, ratios with a sign.

/// Three digits or so: 0.55, 24.5, 954, 37,207.
pub(crate) fn figure(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        return "-".to_owned();
    }
    match size {
        s if s >= 999.5 => thousands(value),
        s if s >= 99.95 => format!("{value:.0}"),
        s if s >= 9.995 => format!("{value:.1}"),
        s if s >= 0.0995 => format!("{value:.2}"),
        0.0 => "0".to_owned(),
        _ => format!("{value:.3}"),
    }
}

/// 1.14×, 5.2×, 17×.
pub(crate) fn ratio(value: f64) -> String {
    match value {
        v if !v.is_finite() => "-".to_owned(),
        v if v >= 99.5 => format!("{}×", thousands(v)),
        v if v >= 9.95 => format!("{v:.0}×"),
        v if v >= 1.995 => format!("{v:.1}×"),
        v => format!("{v:.2}×"),
    }
}

fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if value < 0.0 { format!("-{out}") } else { out }
}

/// A value on an axis: 1, 64, 4,096; without thousandths that a linear axis might leave.
pub(crate) fn tick(value: f64) -> String {
    let text = if value.abs() >= 1000.0 { thousands(value) } else { format!("{value:.3}") };
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// The first version number in what a program says of itself: "HAProxy version 2.6.12-1" gives 2.6.12.
pub(crate) fn short_version(text: &str) -> Option<String> {
    let words = text.split(|c: char| !(c.is_ascii_digit() || c == '.'));
    words
        .map(|word| word.trim_matches('.'))
        .find(|word| word.contains('.') && word.split('.').all(|part| !part.is_empty() && part.len() < 5))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits_or_so() {
        let text = [0.0, 0.554, 0.0123, 9.999, 24.46, 128.62, 954.0, 37_207.1, 1_234_567.0].map(figure);
        assert_eq!(text, ["0", "0.55", "0.012", "10.0", "24.5", "129", "954", "37,207", "1,234,567"]);
        assert_eq!(figure(-1500.0), "-1,500");
        assert_eq!(figure(f64::NAN), "-");
    }

    #[test]
    fn ratios() {
        assert_eq!([1.0, 1.144, 5.24, 16.9, 250.4].map(ratio), ["1.00×", "1.14×", "5.2×", "17×", "250×"]);
    }

    #[test]
    fn ticks_are_short() {
        assert_eq!([0.0, 2.5, 64.0, 4096.0].map(tick), ["0", "2.5", "64", "4,096"]);
    }

    #[test]
    fn versions_are_found() {
        for (said, version) in [
            ("9e5580933739775e8bce/1.40.0/Clean/RELEASE/BoringSSL", Some("1.40.0")),
            ("HAProxy version 2.6.12-1+deb12u4 2024/01/01", Some("2.6.12")),
            ("nginx version: nginx/1.22.1", Some("1.22.1")),
            ("this checkout", None),
        ] {
            assert_eq!(short_version(said).as_deref(), version, "{said}");
        }
    }
}
