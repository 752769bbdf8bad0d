//! A process killed at every step between a request and its reply: no acknowledged write is lost, nothing older is shown after.
//!
//! The steps are the messages that the process gets from and sends to Postgres, Redis and its client: what it does in between
//! can't be told apart from outside. Each is a run of its own with a process of its own (`support/lines.rs`). Messages with Postgres
//! and the reply come in one order and are walked until a reply has come before the kill; those with Redis run beside them after
//! the commit, and are walked on their own until Redis has been told all there is to tell.

mod kill;
mod reads;
mod works;
mod writes;

use std::time::Duration;

use sqlx::PgPool;
use works::Work;

/// The promised bound D plus the time that the test's own requests take on a busy machine.
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
