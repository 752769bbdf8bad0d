//! Gates in the database, with which a test stops a statement or a write at a chosen point.
//!
//! A gate is an open transaction that holds a lock. Postgres reports the statements that wait
//! behind it, so no test guesses by time.

use sqlx::{PgPool, Postgres, Transaction};

use super::eventually;

/// A closed gate. It opens when [`Gate::open`] is called or when it is dropped.
pub struct Gate {
    pool: PgPool,
    lock: Transaction<'static, Postgres>,
}

impl Gate {
    /// Stops every statement that uses `table`, including reads. This simulates a slow loader.
    pub async fn table(pool: &PgPool, table: &str) -> Self {
        Self::closed_by(pool, format!("lock table {table} in access exclusive mode")).await
    }

    /// Stops every write of the row `id` of `table`. Reads continue.
    pub async fn row(pool: &PgPool, table: &str, id: i64) -> Self {
        Self::closed_by(pool, format!("select 1 from {table} where id = {id} for update")).await
    }

    /// Stops every statement that requests this advisory lock.
    pub async fn advisory(pool: &PgPool, number: i64) -> Self {
        Self::closed_by(pool, format!("select pg_advisory_xact_lock({number})")).await
    }

    /// Stops every poll of the ledger and nothing else. Instances then learn of no write of another
    /// instance.
    pub async fn polls(pool: &PgPool) -> Self {
        Self::table(pool, "cache_epochs").await
    }

    async fn closed_by(pool: &PgPool, statement: String) -> Self {
        let mut lock = pool.begin().await.expect("a transaction for the gate");
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut *lock).await.expect("the gate's lock");
        Self { pool: pool.clone(), lock }
    }

    /// Counts the connections to this database that wait for a lock now.
    pub async fn waiting(&self) -> i64 {
        waiting(&self.pool).await
    }

    /// Returns when at least `count` connections wait behind the gate.
    pub async fn until_waiting(&self, count: i64) {
        eventually(&format!("{count} statements wait behind the gate"), || async {
            (self.waiting().await >= count).then_some(())
        })
        .await;
    }

    /// Releases all statements that wait.
    pub async fn open(self) {
        self.lock.rollback().await.expect("the gate opens");
    }
}

async fn waiting(pool: &PgPool) -> i64 {
    let sql = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    sqlx::query_scalar(sql).fetch_one(pool).await.expect("pg_stat_activity")
}
