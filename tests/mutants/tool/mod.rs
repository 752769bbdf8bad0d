//! Mutation testing: makes mutants of the tree from the files in `tests/mutants`.
//!
//! A mutant breaks one rule of the code on purpose, and names the tests that must catch it. Its
//! edits name a file, an item of it and an expression in that item. An expression is compared token
//! by token. So a mutant stays valid when code is formatted, moves within its item or moves with
//! it. `tests/README.md` describes the format. `scripts/prove.sh` runs the tests against each
//! mutant. `tests/contract/prove.rs` checks on every test run that each mutant can be made.

pub mod format;
pub mod items;
pub mod mutant;
mod tests;
pub mod tokens;
