//! Runs every rule over the repository. A failure lists what to mend, file by file.

use std::sync::OnceLock;

use millrace_tidy::{self as tidy, Repository};

/// Complaints printed for one rule.
const SHOWN: usize = 40;

fn repository() -> &'static Repository {
    static REPOSITORY: OnceLock<Repository> = OnceLock::new();
    REPOSITORY.get_or_init(|| match Repository::read() {
        Ok(repository) => repository,
        Err(error) => unreachable!("the repository cannot be read: {error}"),
    })
}

fn clean(complaints: Vec<String>) {
    let first = complaints[..complaints.len().min(SHOWN)].join("\n");
    assert!(complaints.is_empty(), "{} complaints, the first ones:\n{first}", complaints.len());
}

macro_rules! rules {
    ($($rule:ident)*) => {
        $(#[test]
        fn $rule() {
            clean(tidy::$rule(repository()));
        })*
    };
}

rules! {
    crates_keep_their_layer
    sans_io_crates_pull_in_no_io
    unsafe_stays_in_ring
    core_crates_stay_pure
    file_lengths
    modules_say_what_they_own
    markers
    corpora_are_required_in_ci
    lints_are_inherited
    licences
    bans
    limits_are_documented
    metrics_are_documented
    readme_and_ci
}

#[test]
fn documents_name_what_exists() {
    clean(tidy::documents_name_what_exists(repository()).unwrap());
}

#[test]
fn top_level() {
    clean(tidy::top_level(repository()).unwrap());
}
