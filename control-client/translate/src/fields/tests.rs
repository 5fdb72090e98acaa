//! The tables of fields against the schema, and the committed document against the tables.

use std::collections::BTreeSet;

use super::*;

#[test]
fn every_field_of_every_table_is_judged_once() {
    let mut messages = BTreeSet::new();
    for table in tables().chain(control_tables()) {
        let new =
            messages.insert((table.message, control_tables().any(|control| std::ptr::eq(control, table))));
        assert!(new, "{} has two tables", table.message);
        let message =
            Message::by_name(table.message).unwrap_or_else(|| panic!("{} is no message", table.message));
        let mut judged = BTreeSet::new();
        for name in table.fields.iter().flat_map(|(_, names)| names.split_whitespace()) {
            let field =
                message.field_by_name(name).unwrap_or_else(|| panic!("{} has no {name}", table.message));
            assert!(judged.insert(field.name()), "{}.{name} is judged twice", table.message);
        }
        let missing: Vec<_> =
            message.fields().map(Field::name).filter(|name| !judged.contains(name)).collect();
        assert!(missing.is_empty(), "{} does not judge {missing:?}", table.message);
    }
}

#[test]
fn messages_inside_served_fields_have_tables() {
    for (table, index) in
        tables().map(|table| (table, &INDEX)).chain(control_tables().map(|table| (table, &CONTROL_INDEX)))
    {
        let message = Message::by_name(table.message).unwrap();
        for field in message.fields().filter(|f| index[&message][f] == Status::Served) {
            let Some(inner) = field.message() else { continue };
            let leaf = inner.name().starts_with("google.protobuf.") || inner.is_map_entry();
            assert!(
                leaf || index.contains_key(&inner),
                "{}.{} holds {}",
                table.message,
                field.name(),
                inner.name()
            );
        }
    }
}

#[test]
fn the_committed_document_is_this_table() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let read = |file: &str| std::fs::read_to_string(format!("{root}/{file}")).unwrap_or_default();
    let document = document(&read("tests/e2e/parity.tsv"));
    assert!(
        read("docs/configuration.md") == document,
        "run: cargo run -p millrace-translate --example configuration-table"
    );
}
