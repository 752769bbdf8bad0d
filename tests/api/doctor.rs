//! The doctor of the database. A healthy one gives it nothing to say, and each planted fault gives
//! one line.

use aside_cache::{Finding, examine};
use sqlx::{AssertSqlSafe, PgConnection, PgPool};

use crate::support::TestApp;

/// A role with the rights of docs/production.md, and the settings of a healthy session. The servers
/// of the tests are fast rather than durable.
const HEALTHY: &str = "
    create role doctored login;
    select cache_grant('doctored');
    set local synchronous_commit = on";

/// Faults of the server that the tests' own servers have, because no data must survive them.
const OF_THE_SERVER: [&str; 2] = ["fsync", "full-page-writes"];

/// Faults, as SQL, and the checks that find them.
const FAULTS: &[(&str, &str)] = &[
    ("synchronous-commit", "set local synchronous_commit = off"),
    ("read-only", "set local default_transaction_read_only = on"),
    ("isolation", "set local default_transaction_isolation = 'repeatable read'"),
    ("replication-role", "set local session_replication_role = replica"),
    ("statement-timeout", "set local statement_timeout = 900"),
    ("string-literals", "set local standard_conforming_strings = off"),
    (
        "search-path",
        "create schema other; grant usage on schema other to doctored; set local search_path = other, public",
    ),
    ("connection-limit", "alter role doctored connection limit 3"),
    ("autovacuum", "alter table cache_ledger set (autovacuum_enabled = false)"),
    ("ledger-durability", "alter table cache_ledger set unlogged"),
    ("ledger-key", "alter table cache_ledger drop constraint cache_ledger_pkey"),
    ("ledger-index", "drop index cache_ledger_xid_idx"),
    ("ledger-rules", "alter table cache_ledger enable row level security"),
    ("ledger-rules", "create rule quiet as on delete to cache_ledger do instead nothing"),
    ("ledger-triggers", "alter table cache_ledger disable trigger begins_epoch"),
    ("ledger-triggers", "drop trigger only_raises on cache_ledger"),
    ("rights-to-lower", "grant delete on cache_ledger to doctored"),
    ("rights-to-lower", "grant update on sequence cache_version to doctored"),
    ("sequence-behind", "insert into cache_ledger (tag, version) values ('product:1', 1000000000)"),
    ("sequence-form", "alter sequence cache_version cycle"),
    ("sequence-form", "alter sequence cache_version maxvalue 1000000000"),
    ("versions-ahead", "insert into cache_ledger (tag, version, at) values ('product:1', 0, now() + interval '1 day')"),
    (
        "versions-ahead",
        "insert into cache_checkpoints (taken_at, epoch, snap) values (now() + interval '1 day', 'e', pg_current_snapshot())",
    ),
    (
        "epochs",
        "alter table cache_epochs drop constraint cache_epochs_pkey;
         insert into cache_epochs default values; insert into cache_epochs default values",
    ),
    ("functions", "alter function cache_epoch() rename to former_epoch"),
    ("search-paths", "alter function cache_raise(text[]) reset search_path"),
    ("definer", "alter function cache_raise(text[]) security invoker"),
    ("definer-rights", "create role poor; alter function cache_raise(text[]) owner to poor"),
    ("callers", "revoke execute on function cache_raise(text[]) from public, doctored"),
    ("rights", "revoke update on cache_ledger from doctored"),
    ("rights", "revoke usage on sequence cache_version from doctored"),
    ("public-rights", "grant update on cache_ledger to public"),
    ("triggers-missing", "drop trigger invalidates_updated on products"),
    ("triggers-disabled", "alter table products disable trigger invalidates_inserted"),
    (
        "triggers-disabled",
        "alter table products disable trigger invalidates_deleted; alter table products enable trigger invalidates_deleted",
    ),
    (
        "partitions",
        "create table events (id bigint, kind text) partition by list (kind);
         create table events_a partition of events for values in ('a');
         select cache_track('events', array['event:{id}']);
         create table events_b (like events);
         alter table events attach partition events_b for values in ('b')",
    ),
    (
        "tracked-tables",
        "create table former (id bigint); select cache_track('former', array['former:{id}']); drop table former",
    ),
    ("tracked-functions", "alter function cache_products_changed() rename to cache_former_changed"),
    ("changed-functions", "alter function cache_products_changed() security invoker"),
    ("tracked-rules", "create rule quiet as on update to products do instead nothing"),
    ("superuser", "alter role doctored superuser"),
];

/// Examines the database as the role, after these statements. Everything is undone afterwards.
async fn findings(connection: &mut PgConnection, fault: &str) -> Vec<Finding> {
    use sqlx::Connection;
    let mut transaction = connection.begin().await.expect("a transaction");
    let planted = format!("{HEALTHY}; {fault}; set local role doctored");
    sqlx::raw_sql(AssertSqlSafe(planted))
        .execute(&mut *transaction)
        .await
        .unwrap_or_else(|error| panic!("{fault}: {error}"));
    let mut found = examine(&mut transaction).await.expect("an examination");
    transaction.rollback().await.expect("undone");
    found.retain(|finding| !OF_THE_SERVER.contains(&finding.check));
    found
}

#[sqlx::test]
async fn a_service_does_not_start_on_a_database_that_can_keep_no_promise(pool: PgPool) {
    let app = TestApp::start(pool).await;
    for (fault, undone, check) in [
        ("alter table cache_ledger set unlogged", "alter table cache_ledger set logged", "ledger-durability"),
        (
            "alter function cache_raise(text[]) security invoker",
            "alter function cache_raise(text[]) security definer",
            "definer",
        ),
    ] {
        sqlx::raw_sql(fault).execute(&app.pool).await.expect("planted");
        let error = match aside::app::App::build(app.config.clone()).await {
            Ok(_) => panic!("it starts after: {fault}"),
            Err(error) => error.to_string(),
        };
        assert!(error.starts_with(check) && error.contains("aside doctor"), "{error}");
        sqlx::raw_sql(undone).execute(&app.pool).await.expect("mended");
    }
    drop(app.another().await);
}

#[sqlx::test]
async fn each_planted_fault_gives_one_line_and_a_healthy_database_none(pool: PgPool) {
    let mut connection = pool.acquire().await.expect("a connection");
    let healthy = findings(&mut connection, "select 1").await;
    assert_eq!(healthy, [], "a healthy database gives the doctor nothing to say");
    let mut wrong = Vec::new();
    for (check, fault) in FAULTS {
        let found = findings(&mut connection, fault).await;
        let lines: Vec<String> = found.iter().map(Finding::to_string).collect();
        if found.len() != 1 || found[0].check != *check || found[0].what.contains("can't be checked") {
            wrong.push(format!("{check}: {fault} gives {lines:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(FAULTS.len() >= 30);
}
