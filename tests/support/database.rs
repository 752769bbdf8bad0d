//! Reads and writes of the database that bypass the service.

use std::collections::BTreeMap;

use sqlx::{PgConnection, PgPool};

/// The role of the service. It owns nothing.
pub const SERVICE_ROLE: &str = "aside_service";

/// Creates the role of the service, and gives it its rights on this database, as docs/production.md
/// says. Returns its password.
pub async fn create_service_role(pool: &PgPool) -> &'static str {
    const PASSWORD: &str = "of-no-secret";
    // The server is shared, and another test may create the role at this moment.
    let create = format!(
        "do $$ begin
             create role {SERVICE_ROLE} login password '{PASSWORD}';
         exception when duplicate_object or unique_violation then null; end $$"
    );
    let grants = format!(
        "select cache_grant('{SERVICE_ROLE}');
         grant select, insert, update, delete on products, orders, order_items, idempotency_keys, instances, cdn_cursor to {SERVICE_ROLE};
         grant select on _sqlx_migrations to {SERVICE_ROLE}"
    );
    for sql in [create, grants] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(pool).await.expect("the role of the service");
    }
    PASSWORD
}

/// Returns whether the database has the schema of the service.
pub async fn is_migrated(pool: &PgPool) -> bool {
    let sql = "select to_regprocedure('cache_grant(regrole)') is not null and to_regclass('products') is not null";
    sqlx::query_scalar(sql).fetch_one(pool).await.expect("an answer")
}

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
