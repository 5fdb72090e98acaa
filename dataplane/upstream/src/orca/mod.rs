//! Load that endpoints report of themselves in headers or trailers (ORCA, `xds.data.orca.v3`).

mod json;
mod wire;

use wire::{Wire, base64, entry_of, field};

/// Most named values of one report that are kept.
const NAMED_MAX: usize = 64;

/// `xds.data.orca.v3.OrcaLoadReport`, as far as weights are made of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoadReport {
    /// `cpu_utilization`.
    pub cpu: f64,
    /// `mem_utilization`.
    pub memory: f64,
    /// `application_utilization`.
    pub application: f64,
    /// `rps_fractional`.
    pub rps: f64,
    /// `eps`.
    pub eps: f64,
    /// `named_metrics`, `utilization` and `request_cost`, with these words and a dot before their names.
    pub named: Vec<(String, f64)>,
}

/// Why a report is not used. Nobody is told but the application log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadReport {
    /// Its format is none that this build reads.
    Format,
    /// A value has no name, or an unknown one, or one that came before.
    Name,
    /// A value is no finite number.
    Value,
    /// Not a message of protobuf in base64, or no JSON object.
    Encoding,
}

impl LoadReport {
    /// A report out of header or trailer fields; `None` when there is none.
    ///
    /// # Errors
    /// A report that cannot be read.
    pub fn from_fields<'f>(get: impl Fn(&[u8]) -> Option<&'f [u8]>) -> Option<Result<Self, BadReport>> {
        if let Some(value) = get(b"endpoint-load-metrics-bin") {
            return Some(Self::from_base64(value));
        }
        let value = get(b"endpoint-load-metrics")?;
        let at = value.iter().position(|byte| *byte == b' ').unwrap_or(value.len());
        let (format, rest) = value.split_at(at);
        Some(match format {
            b"TEXT" => Self::from_text(rest.trim_ascii()),
            b"BIN" => Self::from_base64(rest.trim_ascii()),
            b"JSON" => Self::from_json(rest.trim_ascii()),
            _ => Err(BadReport::Format),
        })
    }

    /// `cpu_utilization=0.3,named_metrics.x:1`.
    fn from_text(text: &[u8]) -> Result<Self, BadReport> {
        let text = std::str::from_utf8(text).map_err(|_| BadReport::Name)?;
        let (mut report, mut seen) = (Self::default(), Vec::new());
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once(['=', ':']).ok_or(BadReport::Value)?;
            let (name, value) = (name.trim(), value.trim());
            let value: f64 = value.parse().map_err(|_| BadReport::Value)?;
            if !value.is_finite() {
                return Err(BadReport::Value);
            }
            if seen.contains(&name) || seen.len() >= NAMED_MAX {
                return Err(BadReport::Name);
            }
            seen.push(name);
            match name {
                "cpu_utilization" => report.cpu = value,
                "mem_utilization" => report.memory = value,
                "application_utilization" => report.application = value,
                "rps_fractional" => report.rps = value,
                "eps" => report.eps = value,
                _ if name.strip_prefix("named_metrics.").is_some_and(|name| !name.is_empty()) => {
                    report.named.push((name.to_owned(), value));
                }
                _ => return Err(BadReport::Name),
            }
        }
        Ok(report)
    }

    fn from_base64(text: &[u8]) -> Result<Self, BadReport> {
        Self::from_message(&base64(text).ok_or(BadReport::Encoding)?)
    }

    /// A message of protobuf.
    pub(crate) fn from_message(mut rest: &[u8]) -> Result<Self, BadReport> {
        let mut report = Self::default();
        while !rest.is_empty() {
            match field(&mut rest).ok_or(BadReport::Encoding)? {
                (1, Wire::Double(value)) => report.cpu = value,
                (2, Wire::Double(value)) => report.memory = value,
                (6, Wire::Double(value)) => report.rps = value,
                (7, Wire::Double(value)) => report.eps = value,
                (9, Wire::Double(value)) => report.application = value,
                (number @ (4 | 5 | 8), Wire::Bytes(entry)) => {
                    let (name, value) = entry_of(entry).ok_or(BadReport::Encoding)?;
                    let kind = match number {
                        4 => "request_cost",
                        5 => "utilization",
                        _ => "named_metrics",
                    };
                    if report.named.len() < NAMED_MAX {
                        report.named.push((format!("{kind}.{name}"), value));
                    }
                }
                _ => {}
            }
        }
        Ok(report)
    }

    fn from_json(text: &[u8]) -> Result<Self, BadReport> {
        let mut report = Self::default();
        let take = |path: &[&str], value: f64| match path {
            ["cpu_utilization" | "cpuUtilization"] => report.cpu = value,
            ["mem_utilization" | "memUtilization"] => report.memory = value,
            ["application_utilization" | "applicationUtilization"] => report.application = value,
            ["rps_fractional" | "rpsFractional"] => report.rps = value,
            ["eps"] => report.eps = value,
            ["named_metrics" | "namedMetrics", name] if report.named.len() < NAMED_MAX => {
                report.named.push((format!("named_metrics.{name}"), value));
            }
            ["utilization", name] if report.named.len() < NAMED_MAX => {
                report.named.push((format!("utilization.{name}"), value));
            }
            ["request_cost" | "requestCost", name] if report.named.len() < NAMED_MAX => {
                report.named.push((format!("request_cost.{name}"), value));
            }
            _ => {}
        };
        json::numbers(text, take).ok_or(BadReport::Encoding)?;
        Ok(report)
    }

    /// The values of a metric, with their whole names: `cpu_utilization`, `named_metrics.x`, or `named_metrics.*` for all
    /// of them. What has no name of its own is 0 where the endpoint does not say it.
    pub(crate) fn each(&self, wanted: &str, mut take: impl FnMut(&str, f64)) {
        let value = match wanted {
            "cpu_utilization" => self.cpu,
            "mem_utilization" => self.memory,
            "application_utilization" => self.application,
            "eps" => self.eps,
            "rps_fractional" => self.rps,
            _ => {
                let kind = wanted.strip_suffix('*').filter(|kind| kind.ends_with('.'));
                let is_wanted = |name: &str| kind.map_or(name == wanted, |kind| name.starts_with(kind));
                let named = self.named.iter().filter(|(name, _)| is_wanted(name));
                return named.for_each(|(name, value)| take(name, *value));
            }
        };
        take(wanted, value);
    }

    /// The value of a metric of `metric_names_for_computing_utilization`.
    fn metric(&self, name: &str) -> f64 {
        let mut most = 0.0;
        self.each(name, |_, value| most = f64::max(most, value));
        most
    }

    /// Requests per second over utilization; `None` when either says nothing.
    pub(crate) fn weight(&self, metrics: &[std::sync::Arc<str>], error_penalty: f64) -> Option<u32> {
        if self.rps.is_nan() || self.rps <= 0.0 {
            return None;
        }
        let named = metrics.iter().map(|name| self.metric(name)).fold(0.0, f64::max);
        let base = [named, self.application].into_iter().find(|value| *value > 0.0).unwrap_or(self.cpu);
        let utilization = base + error_penalty * self.eps / self.rps;
        (utilization > 0.0).then(|| (self.rps / utilization).min(f64::from(u32::MAX)) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, value: &str) -> Option<Result<LoadReport, BadReport>> {
        LoadReport::from_fields(|wanted| (wanted == name.as_bytes()).then_some(value.as_bytes()))
    }

    #[test]
    fn texts_and_messages() {
        let text = "TEXT cpu_utilization=0.5, rps_fractional=100,eps=2,named_metrics.q=0.7";
        let report = read("endpoint-load-metrics", text).unwrap().unwrap();
        assert_eq!((report.cpu, report.rps, report.eps), (0.5, 100.0, 2.0));
        assert_eq!(report.named, [("named_metrics.q".to_owned(), 0.7)]);
        // cpu 0.5, rps_fractional 100, utilization {"a": 1.0}.
        let bin = "CQAAAAAAAOA/MQAAAAAAAFlAKgwKAWERAAAAAAAA8D8=";
        let report = read("endpoint-load-metrics-bin", bin).unwrap().unwrap();
        assert_eq!((report.cpu, report.rps), (0.5, 100.0));
        assert_eq!(report.named, [("utilization.a".to_owned(), 1.0)]);
        assert_eq!(read("endpoint-load-metrics", &format!("BIN {bin}")), Some(Ok(report.clone())));
        for json in [
            r#"{"cpu_utilization": 0.5, "rpsFractional": 1e2, "utilization": {"a": 1}, "other": {"x": [true, "}"]}}"#,
            r#" { "utilization" : { "a" : "1.0" } , "rps_fractional":100,"cpuUtilization":0.5 } "#,
        ] {
            assert_eq!(read("endpoint-load-metrics", &format!("JSON {json}")), Some(Ok(report.clone())));
        }
        // request_cost {"a": 1.0}.
        for cost in ["BIN IgwKAWERAAAAAAAA8D8=", r#"JSON {"requestCost": {"a": 1}}"#] {
            let report = read("endpoint-load-metrics", cost).unwrap().unwrap();
            assert_eq!(report.named, [("request_cost.a".to_owned(), 1.0)], "{cost}");
            let report = LoadReport { rps: 100.0, cpu: 0.1, ..report };
            assert_eq!(report.weight(&["request_cost.a".into()], 0.0), Some(100));
        }
        let mixed = read("endpoint-load-metrics", "TEXT cpu_utilization:0.5, utilization=1");
        assert_eq!(mixed, Some(Err(BadReport::Name)));
        assert_eq!(read("other", "x"), None);
    }

    #[test]
    fn what_is_no_report_is_refused() {
        for (text, why) in [
            ("XML <a/>", BadReport::Format),
            ("JSON [1]", BadReport::Encoding),
            ("JSON {\"eps\": 1", BadReport::Encoding),
            ("", BadReport::Format),
            ("TEXT cpu_utilization", BadReport::Value),
            ("TEXT cpu_utilization=nan", BadReport::Value),
            ("TEXT cpu_utilization=inf", BadReport::Value),
            ("TEXT cpu_utilization=x", BadReport::Value),
            ("TEXT nonsense=1", BadReport::Name),
            ("TEXT named_metrics.=1", BadReport::Name),
            ("TEXT eps=1,eps=2", BadReport::Name),
            ("BIN !", BadReport::Encoding),
            ("BIN CQAA", BadReport::Encoding),
        ] {
            assert_eq!(read("endpoint-load-metrics", text), Some(Err(why)), "{text}");
        }
        let mut rng = millrace_base::Rng::new(1);
        for _ in 0..5000 {
            let text: String = (0..rng.below(40)).map(|_| (b'+' + rng.below(80) as u8) as char).collect();
            let _ = read("endpoint-load-metrics-bin", &text);
            let _ = read("endpoint-load-metrics", &format!("JSON {{{text}"));
            let _ = read("endpoint-load-metrics", &format!("TEXT {text}"));
        }
    }

    #[test]
    fn weights_follow_envoys_formula() {
        let report = LoadReport { cpu: 0.5, rps: 100.0, eps: 10.0, ..LoadReport::default() };
        assert_eq!(report.weight(&[], 0.0), Some(200));
        assert_eq!(report.weight(&[], 5.0), Some(100), "0.5 and 5 * 10 / 100");
        let named = LoadReport {
            named: vec![("named_metrics.a".into(), 0.8), ("named_metrics.b".into(), 0.2)],
            application: 0.4,
            ..report.clone()
        };
        assert_eq!(named.weight(&[], 0.0), Some(250));
        assert_eq!(named.weight(&["named_metrics.b".into()], 0.0), Some(500));
        assert_eq!(named.weight(&["named_metrics.*".into()], 0.0), Some(125));
        assert_eq!(LoadReport { rps: 0.0, ..report.clone() }.weight(&[], 1.0), None);
        assert_eq!(LoadReport { cpu: 0.0, eps: 0.0, ..report.clone() }.weight(&[], 1.0), None);
        assert_eq!(LoadReport { cpu: 1e-30, ..report }.weight(&[], 0.0), Some(u32::MAX));
    }
}
