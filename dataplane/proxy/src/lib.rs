//! Everything around the shards: command line, application log, signals and the life of the process.
//!
//! Read [`cli`] (what was asked for), [`logging`], [`signals`], then [`control`] (what happens when) and [`run`] (what does it).

pub mod cli;
pub mod control;
pub mod logging;
pub mod run;
pub mod signals;
