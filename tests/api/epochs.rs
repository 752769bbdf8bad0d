//! Epochs of the ledger. The tests restart, crash, copy, clone, promote and restore servers to show
//! which events end an epoch.

use std::process::Command;

use aside_cache::{Cache, CacheConfig, Tag};
use sqlx::{
    AssertSqlSafe, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::support::{
    Temporary, eventually,
    postgres_server::{Postgres, binary},
    process::shell,
};

/// Starts a server with the service's tables.
async fn server(folder: &Temporary) -> (Postgres, PgPool) {
    let server = Postgres::start(folder).await;
    let pool = pool(&server);
    sqlx::migrate!().run(&pool).await.expect("migrations");
    (server, pool)
}

fn pool(server: &Postgres) -> PgPool {
    pool_of(server.url(server.port).parse().expect("a URL of Postgres"))
}

fn pool_of(options: PgConnectOptions) -> PgPool {
    PgPoolOptions::new().max_connections(4).connect_lazy_with(options)
}

fn instance(pool: &PgPool) -> Cache {
    Cache::start(CacheConfig::default(), pool.clone())
}

/// Returns the epoch of an instance once its polls are reliable and the database agrees.
async fn epoch(cache: &Cache, pool: &PgPool) -> String {
    eventually("the instance follows the ledger in the epoch of the database", || async {
        let named = named(pool).await.ok()??;
        let token = cache.token_now()?.to_string();
        (cache.is_current() && token.split_once('-')?.0 == named).then_some(named)
    })
    .await
}

/// Returns the epoch that a new instance begins or finds.
async fn epoch_of_another_instance(pool: &PgPool) -> String {
    let cache = instance(pool);
    let epoch = epoch(&cache, pool).await;
    cache.shutdown().await;
    epoch
}

/// Returns the epoch that the database's function reports.
async fn named(pool: &PgPool) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar("select cache_epoch()").fetch_one(pool).await
}

async fn told(pool: &PgPool, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

#[tokio::test]
async fn an_epoch_ends_with_the_run_of_the_server_and_not_with_its_upkeep() {
    let folder = Temporary::folder("epochs");
    let (mut server, pool) = server(&folder).await;
    let cache = instance(&pool);
    let first = epoch(&cache, &pool).await;
    for upkeep in ["vacuum full cache_ledger", "vacuum full cache_epochs", "reindex table cache_ledger", "analyze"] {
        told(&pool, upkeep).await;
        assert_eq!(named(&pool).await.expect("an answer").as_ref(), Some(&first), "{upkeep}");
    }
    assert_eq!(epoch_of_another_instance(&pool).await, first, "it is found by who comes later");

    let mut epochs = vec![first];
    server.restart(false).await;
    epochs.push(epoch(&cache, &pool).await);
    server.restart(true).await;
    epochs.push(epoch(&cache, &pool).await);
    told(&pool, "truncate cache_ledger").await;
    epochs.push(epoch(&cache, &pool).await);
    assert_all_different(&epochs);
    cache.shutdown().await;
}

/// Some providers preserve unlogged tables through a crash and hide the position of the write-ahead
/// log.
#[tokio::test]
async fn crash_recovery_ends_the_epoch_also_where_the_table_survives_and_the_log_is_a_secret() {
    let folder = Temporary::folder("recovery");
    let (server, owner) = server(&folder).await;
    told(
        &owner,
        "alter table cache_epochs set logged;
         create role service login;
         select cache_grant('service');
         revoke execute on function pg_current_wal_lsn(), pg_walfile_name(pg_lsn), pg_control_system() from public",
    )
    .await;
    let options: PgConnectOptions = server.url(server.port).parse().expect("a URL of Postgres");
    let pool = pool_of(options.username("service"));
    sqlx::query("select pg_current_wal_lsn()").fetch_one(&pool).await.expect_err("the log is a secret");
    let cache = instance(&pool);
    let first = epoch(&cache, &pool).await;
    told(&owner, "create table kept as select * from cache_epochs").await;

    // One process of the server dies, so the server recovers. It does not restart.
    let started = "select pg_postmaster_start_time()::text";
    let before: String = sqlx::query_scalar(started).fetch_one(&pool).await.expect("a time");
    let victim: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&owner).await.expect("a process");
    assert!(shell(&format!("kill -9 {victim}")));
    eventually("another epoch", || async { (epoch(&cache, &pool).await != first).then_some(()) }).await;
    let after: String = sqlx::query_scalar(started).fetch_one(&pool).await.expect("a time");
    assert_eq!(before, after, "the server as a whole went on");

    // The row from before the crash names no epoch, even if it still exists afterwards.
    let mut transaction = owner.begin().await.expect("a transaction");
    let replaced = "delete from cache_epochs; insert into cache_epochs select * from kept";
    sqlx::raw_sql(replaced).execute(&mut *transaction).await.expect("as before");
    let named: Option<String> =
        sqlx::query_scalar("select cache_epoch()").fetch_one(&mut *transaction).await.expect("an answer");
    assert_eq!(named, None);
    transaction.rollback().await.expect("undone");
    cache.shutdown().await;
}

#[tokio::test]
async fn copies_of_a_servers_files_live_in_epochs_of_their_own() {
    let folder = Temporary::folder("copies");
    let (mut server, pool) = server(&folder).await;
    let mut epochs = vec![epoch_of_another_instance(&pool).await];
    pool.close().await;
    server.stop(false).await;
    let (mut backup, mut clone) = (server.copy("backup"), server.copy("clone"));
    server.launch().await;
    epochs.push(epoch_of_another_instance(&self::pool(&server)).await);
    server.stop(false).await;
    for copy in [&mut backup, &mut clone] {
        copy.launch_on_a_free_port().await;
        let pool = self::pool(copy);
        assert_eq!(named(&pool).await.expect("an answer"), None, "what was copied names no epoch");
        epochs.push(epoch_of_another_instance(&pool).await);
    }
    assert_all_different(&epochs);
}

#[tokio::test]
async fn a_promoted_replica_begins_an_epoch() {
    let folder = Temporary::folder("promotion");
    let (mut primary, pool) = server(&folder).await;
    told(&pool, "alter table cache_epochs set logged").await;
    let replica = primary.replica().await;
    let cache = instance(&pool);
    let first = epoch(&cache, &pool).await;
    let standby = self::pool(&replica);
    eventually("the row has reached the replica", || async {
        let rows: i64 = sqlx::query_scalar("select count(*) from cache_epochs where started > '2000-01-01'")
            .fetch_one(&standby)
            .await
            .ok()?;
        (rows == 1).then_some(())
    })
    .await;
    assert_eq!(named(&standby).await.expect("an answer"), None, "a standby is in no epoch");
    told(&standby, "select pg_promote()").await;
    let second = epoch_of_another_instance(&standby).await;
    assert_ne!(second, first);
    assert_eq!(epoch(&cache, &pool).await, first, "the old primary stays what it was");
    cache.shutdown().await;
}

#[tokio::test]
async fn a_restored_dump_and_a_copied_database_are_in_other_epochs_and_two_rows_are_repaired() {
    let folder = Temporary::folder("restores");
    let (server, pool) = server(&folder).await;
    let cache = instance(&pool);
    let mut epochs = vec![epoch(&cache, &pool).await];

    // The dump holds data alone, and the target tables have triggers.
    told(
        &pool,
        "insert into products (name, department, brand, category, type, price_cents, currency, stock)
         values ('Mango', 'D', 'B', 'C D', 'T', 129, 'USD', 5)",
    )
    .await;
    let (url, dump) = (server.url(server.port), folder.join("dump").display().to_string());
    let data = ["--format=custom", "--data-only", "--table=products", "--file", &dump, &url];
    assert!(Command::new(binary("pg_dump")).args(data).status().expect("pg_dump runs").success());
    told(&pool, "truncate products cascade; delete from cache_ledger").await;
    let restored = Command::new(binary("pg_restore")).args(["--dbname", &url, &dump]).status();
    assert!(restored.expect("pg_restore runs").success(), "the triggers find what they need");
    let raised: i64 = sqlx::query_scalar("select count(*) from cache_ledger where tag like 'product:%'")
        .fetch_one(&pool)
        .await
        .expect("names");
    assert_eq!(raised, 1, "what was restored is named");

    let dumped = Command::new(binary("pg_dump")).args(["--format=custom", "--file", &dump, &url]).status();
    assert!(dumped.expect("pg_dump runs").success());
    // If the instance has recorded the epoch before the table has its key, `pg_restore` reports an
    // error and continues.
    Command::new(binary("pg_restore")).args(["--clean", "--dbname", &url, &dump]).status().expect("pg_restore runs");
    epochs.push(epoch(&cache, &pool).await);

    // A restore that creates the key last leaves this state, if an instance has already recorded
    // the epoch.
    told(&pool, "alter table cache_epochs drop constraint cache_epochs_pkey; insert into cache_epochs default values")
        .await;
    eventually("one row is left", || async {
        let rows: i64 = sqlx::query_scalar("select count(*) from cache_epochs").fetch_one(&pool).await.ok()?;
        (rows == 1).then_some(())
    })
    .await;
    epochs.push(epoch(&cache, &pool).await);
    cache.shutdown().await;
    pool.close().await;

    let maintenance = self::pool_of(url.parse::<PgConnectOptions>().expect("a URL").database("postgres"));
    told(&maintenance, "create database copy template aside").await;
    let copy = self::pool_of(url.parse::<PgConnectOptions>().expect("a URL").database("copy"));
    assert_eq!(named(&copy).await.expect("an answer"), None);
    epochs.push(epoch_of_another_instance(&copy).await);
    assert_all_different(&epochs);
}

/// The rows were copied without their sequence, for example by logical replication.
#[sqlx::test]
async fn no_version_falls_when_the_ledger_was_moved_without_its_sequence(pool: PgPool) {
    told(&pool, "insert into cache_ledger (tag, version) values ('product:1', 70000000)").await;
    let cache = instance(&pool);
    epoch(&cache, &pool).await;
    for name in ["product:1", "product:2"] {
        sqlx::query("select cache_raise(array[$1])").bind(name).execute(&pool).await.expect("raised");
        let raised: i64 = sqlx::query_scalar("select version from cache_ledger where tag = $1")
            .bind(name)
            .fetch_one(&pool)
            .await
            .expect("a version");
        assert!(raised > 70_000_000, "{name} is at {raised}");
    }
    cache.shutdown().await;
}

/// A restore of the sequence alone does this, for example.
#[sqlx::test]
async fn a_sequence_that_was_set_back_begins_an_epoch(pool: PgPool) {
    let cache = instance(&pool);
    let first = epoch(&cache, &pool).await;
    told(&pool, "select setval('cache_version', 5000); select cache_raise(array['product:1'])").await;
    eventually("the instance has heard of it", || async {
        (cache.inspect(&Tag::from_ledger("product:1")).floor? > 5000).then_some(())
    })
    .await;
    told(&pool, "select setval('cache_version', 1)").await;
    let second = eventually("another epoch", || async {
        let now = epoch(&cache, &pool).await;
        (now != first).then_some(now)
    })
    .await;
    assert_eq!(second, epoch_of_another_instance(&pool).await);
    told(&pool, "select cache_raise(array['product:2'])").await;
    let raised: i64 =
        sqlx::query_scalar("select min(version) from cache_ledger").fetch_one(&pool).await.expect("versions");
    assert!(raised > 5_000, "{raised}");
    cache.shutdown().await;
}

/// Floors and checkpoints of the future would otherwise refuse everything for a day.
#[sqlx::test]
async fn a_clock_that_was_ahead_for_a_while_begins_an_epoch(pool: PgPool) {
    told(
        &pool,
        "create schema fake;
         create table fake.clock (ahead interval not null);
         insert into fake.clock values ('0');
         create function fake.now() returns timestamptz language sql stable as 'select pg_catalog.now() + ahead from fake.clock'",
    )
    .await;
    // Sessions of the instance see this clock instead of the server's.
    let options = PgConnectOptions::clone(&pool.connect_options()).options([("search_path", "fake,pg_catalog,public")]);
    let cache = instance(&pool_of(options));
    let first = epoch(&cache, &pool).await;
    let ahead = || {
        let token = cache.token_now()?.to_string();
        let there = token.split_once('-')?.1.parse::<i64>().ok()?;
        let here = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?;
        Some(there - here.as_micros() as i64 > 3_600_000_000)
    };
    told(&pool, "update fake.clock set ahead = '1 day'").await;
    eventually("the instance follows a clock that is ahead", || async { ahead().filter(|ahead| *ahead) }).await;
    told(&pool, "update fake.clock set ahead = '0'").await;
    let second = eventually("another epoch", || async {
        let now = epoch(&cache, &pool).await;
        (now != first && ahead() == Some(false)).then_some(now)
    })
    .await;
    cache.shutdown().await;

    // The clock was ahead, and was set back while no instance ran.
    told(
        &pool,
        "insert into cache_checkpoints (taken_at, epoch, snap) values (now() + interval '1 day', cache_epoch(), pg_current_snapshot())",
    )
    .await;
    assert_all_different(&[first, second, epoch_of_another_instance(&pool).await]);
}

fn assert_all_different(epochs: &[String]) {
    let mut sorted = epochs.to_vec();
    sorted.sort();
    sorted.dedup();
    assert_eq!(sorted.len(), epochs.len(), "{epochs:?}");
}
