//! Writes `docs/configuration.md` from the table of fields, and from what the end-to-end tests recorded.

fn main() -> std::io::Result<()> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let record = std::fs::read_to_string(format!("{root}/tests/e2e/parity.tsv"))?;
    std::fs::write(format!("{root}/docs/configuration.md"), millrace_translate::fields::document(&record))
}
