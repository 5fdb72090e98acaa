//! The list of end-to-end cases becomes one test for each subject: `uring::forwarding::keep_alive`.
//!
//! A case is written once and runs against every subject that `MILLRACE_E2E_SUBJECT` names. Run with
//! `MILLRACE_E2E_SUBJECT=envoy` it proves that what the case demands of millrace is what Envoy does.

pub mod grpc;
pub mod tools;

use libtest_mimic::{Arguments, Conclusion, Trial};
use millrace_support::subject::Subject;

/// One end-to-end test.
#[derive(Clone, Copy)]
pub struct Case {
    /// Its name within the module.
    pub name: &'static str,
    /// Fails by panicking.
    pub run: fn(&Subject),
    /// Why Envoy cannot be the subject: where millrace is stricter or has something of its own.
    pub not_envoy: Option<&'static str>,
}

/// A case that holds for Envoy and millrace alike.
#[macro_export]
macro_rules! case {
    ($function:ident) => {
        $crate::Case { name: stringify!($function), run: $function, not_envoy: None }
    };
    ($function:ident, not_envoy: $reason:literal) => {
        $crate::Case { name: stringify!($function), run: $function, not_envoy: Some($reason) }
    };
}

/// A case that a table makes: its name, and what it does with a subject.
pub type Row = (String, fn(&Subject, usize), usize);

/// Runs the modules' cases against every subject of the environment.
pub fn run(modules: &[(&'static str, &[Case])]) -> Conclusion {
    run_with(modules, &[])
}

/// [`run`], and the rows of tables.
pub fn run_with(modules: &[(&'static str, &[Case])], rows: &[Row]) -> Conclusion {
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    match Subject::from_env() {
        Ok(subjects) => {
            for subject in subjects {
                for (module, cases) in modules {
                    trials.extend(cases.iter().map(|case| trial(&subject, module, *case)));
                }
                trials.extend(rows.iter().map(|row| row_trial(&subject, row)));
            }
        }
        Err(reason) => trials.push(Trial::test("subjects", move || Err(reason.into()))),
    }
    libtest_mimic::run(&arguments, trials)
}

fn trial(subject: &Subject, module: &str, case: Case) -> Trial {
    let skipped = subject.is_envoy() && case.not_envoy.is_some();
    let owned = subject.clone();
    Trial::test(format!("{}::{module}::{}", subject.kind, case.name), move || {
        if !skipped {
            (case.run)(&owned);
        }
        Ok(())
    })
    .with_ignored_flag(skipped)
}

fn row_trial(subject: &Subject, (name, run, index): &Row) -> Trial {
    let (owned, run, index) = (subject.clone(), *run, *index);
    Trial::test(format!("{}::{name}", subject.kind), move || {
        run(&owned, index);
        Ok(())
    })
}
