//! Style and layering as a test: what a reviewer would otherwise have to repeat.
//!
//! Every rule is a function from the [`Repository`] to a list of complaints, each naming a file and what to do
//! about it. `tests/tidy.rs` runs them; `src/` only reads.

mod documents;
mod layering;
mod manifests;
mod repository;
mod source;
mod style;

pub use documents::{
    documents_name_what_exists, limits_are_documented, metrics_are_documented, readme_and_ci,
};
pub use layering::{crates_keep_their_layer, sans_io_crates_pull_in_no_io};
pub use manifests::{bans, licences, lints_are_inherited, top_level};
pub use repository::{Repository, Result};
pub use source::{Line, Source};
pub use style::{
    core_crates_stay_pure, corpora_are_required_in_ci, file_lengths, markers, modules_say_what_they_own,
    unsafe_stays_in_ring,
};
