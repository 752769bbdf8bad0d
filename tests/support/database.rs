//! Reads and writes of the database that bypass the service.

use std::collections::BTreeMap;

use sqlx::{PgConnection, PgPool};

/// Returns a digest of the contents of each table. Equal digests before and after mean that no row
/// was written.
///
/// The digest leaves out data that change without a client's request. These are the ledger's
/// checkpoint, the purger's cursor, cached tenants, the instances' reports and the counted views.
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

/// Counts the rows of a table.
pub async fn count(pool: &PgPool, table: &str) -> i64 {
    one(pool, &format!("select count(*) from {table}")).await
}

/// Reads one integer from the database.
pub async fn one(pool: &PgPool, sql: &str) -> i64 {
    sqlx::query_scalar(sqlx::AssertSqlSafe(format!("select ({sql})::bigint")))
        .fetch_one(pool)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// Changes the database without an invalidation. Afterwards only a cache can still show the old
/// data.
pub async fn sabotage(pool: &PgPool, sql: &str) {
    // The setting disables the triggers for outside writers, as in a write that does not invalidate
    // its tags.
    let quiet = "begin; set local aside.invalidates = 'on'";
    let mut transaction = pool.begin_with(quiet).await.expect("a transaction");
    change(&mut transaction, sql).await;
    transaction.commit().await.expect("a commit");
}

/// Changes the database as any other program does. The triggers raise the tag versions.
pub async fn outside(pool: &PgPool, sql: &str) {
    change(&mut pool.acquire().await.expect("a connection"), sql).await;
}

async fn change(connection: &mut PgConnection, sql: &str) {
    let done = sqlx::query(sqlx::AssertSqlSafe(sql)).execute(connection).await;
    let done = done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    assert!(done.rows_affected() > 0, "{sql}: no row was there to change");
}
