//! A model of the protocol in `src/cache`, checked in every order in which its steps can happen.
//!
//! One name, two instances, one clock that all read alike. Redis may lose its contents or go back to old ones, messages to it may
//! come late or never, instances may crash, answers of Postgres may take any time, another server may become the primary. In
//! all of that no request may be given what it must not be given any more. `docs/model.md` says what is in it and what is not.
//!
//! `protocol.rs` is what may happen, `reading.rs` and `following.rs` are the protocol, `rules.rs` what a run may leave out,
//! `runs.rs` the runs themselves. `make model` makes the long ones.
// D is zero ticks here; the comparisons say what they would for any other.
#![allow(clippy::absurd_extreme_comparisons)]

mod check;
mod events;
mod following;
mod protocol;
mod reading;
mod rules;
mod runs;
mod state;
