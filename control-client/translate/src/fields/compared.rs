//! What the end-to-end tests recorded of Envoy and Millrace under the same traffic, as a table.

use std::fmt::Write;

const HEAD: &str = "
## Compared with Envoy

Each row is one configuration under the same requests on Envoy 1.40 and on this build, recorded by
`tests/e2e/tests/parity` and checked by every run of it. Compared are the statuses that the client saw, response flags,
response code details, the requests that reached each endpoint, and every counter and gauge of the cluster and of the
connection manager that is not 0, all equal unless the last column says otherwise. Where chance decides, the requests of
endpoints, and what follows from them, are compared within the share that the test states.

| | requests | figures | requests of the endpoints: Envoy | Millrace | what differs |
|---|---|---|---|---|---|
";

#[derive(Default)]
struct Row<'a> {
    requests: &'a str,
    figures: u32,
    endpoints: [Vec<&'a str>; 2],
    differs: Vec<(&'a str, &'a str)>,
}

/// The section. Columns of the record: area, feature, requests, figure, Envoy's, Millrace's, why they differ
/// (`tests/e2e/tests/parity`).
pub(super) fn section(record: &str, out: &mut String) {
    out.push_str(HEAD);
    let mut at = ("", "");
    let mut row = Row::default();
    for line in record.lines().filter(|line| !line.starts_with('#')) {
        let mut columns = line.split('\t');
        let mut next = || columns.next().unwrap_or("");
        let (here, requests, figure) = ((next(), next()), next(), next());
        let (values, why) = ([next(), next()], next());
        if here != at {
            row.write(at, out);
            (at, row) = (here, Row { requests, ..Row::default() });
        }
        row.figures += 1;
        if figure.starts_with("requests of endpoint") {
            row.endpoints[0].push(values[0]);
            row.endpoints[1].push(values[1]);
        } else if !why.is_empty() {
            row.differs.push((figure, why));
        }
    }
    row.write(at, out);
}

impl Row<'_> {
    fn write(&self, (area, feature): (&str, &str), out: &mut String) {
        if self.figures == 0 {
            return;
        }
        let [envoy, millrace] = self.endpoints.each_ref().map(|counts| counts.join(" "));
        let differs: Vec<String> =
            self.differs.iter().map(|(figure, why)| format!("`{figure}`: {why}")).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "| {area}: {feature} | {} | {} | {envoy} | {millrace} | {} |",
            self.requests,
            self.figures,
            differs.join("; ")
        );
    }
}
