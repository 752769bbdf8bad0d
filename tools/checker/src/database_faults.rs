//! The faults of Postgres.

use crate::{
    fixture::SLOW,
    nemesis::Arena,
    pace::pause,
    sql_writers::{finish, record},
};

pub const CRASHED: &str = "Postgres crashed";
pub const RESTARTED: &str = "Postgres restarted";
pub const TERMINATED: &str = "connections to Postgres terminated";
pub const TAILS_TERMINATED: &str = "connections of the tails terminated";
pub const SLOW_WRITER: &str = "a writer open for long";

pub const KINDS: [&str; 5] = [CRASHED, RESTARTED, TERMINATED, TAILS_TERMINATED, SLOW_WRITER];

/// Plays one fault to its end. Returns a note for the report.
pub async fn play(arena: &Arena, kind: &str, rng: &mut fastrand::Rng) -> String {
    match kind {
        CRASHED | RESTARTED => {
            arena.postgres.lock().await.restart(kind == CRASHED).await;
            String::new()
        }
        TERMINATED => terminate(arena, "true").await,
        // A poller is recognised by its only query.
        TAILS_TERMINATED => terminate(arena, "query like 'with changes as%'").await,
        _ => slow_writer(arena, rng).await,
    }
}

async fn terminate(arena: &Arena, which: &'static str) -> String {
    let sql = format!(
        "select count(pg_terminate_backend(pid)) from pg_stat_activity
         where application_name = 'aside' and pid <> pg_backend_pid() and {which}"
    );
    match sqlx::query_scalar::<_, i64>(sqlx::AssertSqlSafe(sql)).fetch_one(&arena.db).await {
        Ok(ended) => format!("{ended} of them"),
        Err(error) => format!("not done: {error}"),
    }
}

/// A writer that takes its version at once and commits late. Meanwhile others have taken and
/// committed higher ones.
async fn slow_writer(arena: &Arena, rng: &mut fastrand::Rng) -> String {
    let id = SLOW[rng.usize(..SLOW.len())];
    let (from, to) = if arena.long { (2_000, 30_000) } else { (1_000, 6_000) };
    let invoked = arena.clock.now();
    let write = async {
        let mut write = arena.db.begin().await?;
        sqlx::query("select cache_raise(array['product:' || $1::bigint])").bind(id).execute(&mut *write).await?;
        sqlx::query(
            "update products set price_cents = price_cents % 1000 + 1, version = version + 1, updated_at = clock_timestamp()
             where id = $1",
        )
        .bind(id)
        .execute(&mut *write)
        .await?;
        pause(arena.between(rng, from, to)).await;
        finish(write).await
    };
    let wrote = write.await;
    let note = wrote.as_ref().map_or_else(|error| format!("not committed: {error}"), |_| format!("product {id}"));
    arena.notes.record(record("sql slow", invoked, arena.clock.now(), wrote));
    note
}
