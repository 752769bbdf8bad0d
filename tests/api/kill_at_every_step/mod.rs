//! A process is killed at every step between a request and its reply. No acknowledged write is
//! lost, and no later answer is older.
//!
//! The steps are the messages that the process exchanges with Postgres, Redis and its client. Its
//! actions between two messages look the same from outside. Each step is a run of its own with a
//! process of its own (`support/wire.rs`).
//!
//! The messages with Postgres and the reply have one order. The test walks them until a reply has
//! come before the kill. The messages with Redis overlap with them after the commit. The test walks
//! these on their own until Redis has received all of them.

mod kill;
mod reads;
mod works;
mod writes;

use std::time::Duration;

use sqlx::PgPool;
use works::Work;

/// The promised bound D. `SLACK` is the time that the test's own requests may take on a busy
/// machine.
const PROMISED: Duration = Duration::from_millis(500);
const SLACK: Duration = Duration::from_secs(10);

#[sqlx::test]
async fn a_new_price_is_there_or_not_wherever_its_writer_is_killed(pool: PgPool) {
    writes::killed_at_every_step(pool, Work::NewPrice).await;
}

#[sqlx::test]
async fn a_product_is_removed_or_not_wherever_its_writer_is_killed(pool: PgPool) {
    writes::killed_at_every_step(pool, Work::Removal).await;
}

#[sqlx::test]
async fn an_order_is_placed_once_wherever_its_writer_is_killed(pool: PgPool) {
    writes::killed_at_every_step(pool, Work::Order).await;
}

#[sqlx::test]
async fn an_order_is_cancelled_or_not_wherever_its_writer_is_killed(pool: PgPool) {
    writes::killed_at_every_step(pool, Work::Cancellation).await;
}

#[sqlx::test]
async fn a_read_killed_anywhere_leaves_nothing_that_is_shown_after_a_write(pool: PgPool) {
    reads::killed_at_every_step(pool).await;
}
