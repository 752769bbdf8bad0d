//! Reading the truth back from Postgres, past the service.

use std::collections::BTreeMap;

use sqlx::{PgConnection, PgPool};

/// A digest of every table's contents, by table. Equal digests before and after mean that nothing was written.
///
/// Left out is what changes without a client's doing: the ledger's checkpoint, the purger's cursor, tenants that are cached, what instances say of
/// themselves and the counted views.
pub async fn digest(pool: &PgPool) -> BTreeMap<String, String> {
    let sql = "select table_name::text from information_schema.tables
        where table_schema = 'public' and table_type = 'BASE TABLE' and table_name not in ('cache_checkpoints', 'cache_tenants', 'cdn_cursor', 'instances', '_sqlx_migrations')";
    let tables: Vec<String> = sqlx::query_scalar(sql).fetch_all(pool).await.expect("the list of tables");
    assert!(tables.len() >= 3, "these are not the service's tables: {tables:?}");
    let mut digests = BTreeMap::new();
    for table in tables {
        let sql = format!(
            "select count(*) || ' ' || coalesce(md5(string_agg(line, ',' order by line)), '')
             from (select (to_jsonb(t) - 'view_count')::text as line from {table} t) lines"
        );
        let digest: String =
            sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(pool).await.expect("a table's digest");
        digests.insert(table, digest);
    }
    digests
}

/// How many rows a table holds.
pub async fn count(pool: &PgPool, table: &str) -> i64 {
    one(pool, &format!("select count(*) from {table}")).await
}

/// One integer from the database.
pub async fn one(pool: &PgPool, sql: &str) -> i64 {
    sqlx::query_scalar(sqlx::AssertSqlSafe(format!("select ({sql})::bigint")))
        .fetch_one(pool)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// Changes the database behind the service's back: nothing is invalidated, so that only a cache can still show what was there.
pub async fn sabotage(pool: &PgPool, sql: &str) {
    // What keeps the triggers for outside writers quiet, as in a write that forgot to name its change.
    let quiet = "begin; set local aside.invalidates = 'on'";
    let mut transaction = pool.begin_with(quiet).await.expect("a transaction");
    change(&mut transaction, sql).await;
    transaction.commit().await.expect("a commit");
}

/// Changes the database as any other program does: the triggers raise the numbers.
pub async fn outside(pool: &PgPool, sql: &str) {
    change(&mut pool.acquire().await.expect("a connection"), sql).await;
}

async fn change(connection: &mut PgConnection, sql: &str) {
    let done = sqlx::query(sqlx::AssertSqlSafe(sql)).execute(connection).await;
    let done = done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    assert!(done.rows_affected() > 0, "{sql}: no row was there to change");
}
