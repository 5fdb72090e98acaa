//! Writes `docs/configuration.md` from the table of fields.

fn main() -> std::io::Result<()> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
    std::fs::write(path, millrace_translate::fields::document())
}
