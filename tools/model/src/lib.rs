//! A model of the protocol in `src/cache`, checked in every order in which its steps can happen.
//!
//! The model has one tag, two instances and one common clock. Redis may lose its contents or return
//! to old ones. Messages to Redis may arrive late or never. Instances may crash, answers of
//! Postgres may take any time, and another server may become the primary. In all of these cases, no
//! request may get a value that it must no longer get. `docs/model.md` lists what the model
//! includes and what it leaves out.
//!
//! `protocol.rs` defines the possible steps, and `reading.rs` and `following.rs` define the
//! protocol. `rules.rs` has the rules that a run may leave out. `runs.rs` has the runs.
//! `make model` starts the long ones.
// D is zero ticks here. The comparisons are written for any value.
#![allow(clippy::absurd_extreme_comparisons)]

pub mod check;
pub mod events;
pub mod following;
pub mod protocol;
pub mod reading;
pub mod rules;
#[cfg(test)]
mod runs;
pub mod state;
