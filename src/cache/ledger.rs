//! The ledger's SQL: raising versions in a write's transaction, and asking what has changed since a snapshot. All of the cache's
//! SQL is in this file; the tables are in the migration `0001_cache_ledger.sql`.

use std::{collections::BTreeSet, sync::LazyLock, time::Duration};

use sqlx::{AssertSqlSafe, Connection, PgConnection, Postgres, Row, Transaction, postgres::PgRow};

use super::{
    entry::{DbTime, TagVersion},
    freshness::Freshness,
    key::{Tag, Tenant},
    pool::ConnectionPool,
    tenants::TenantRecord,
};

/// Begins a transaction whose writer names its changes itself, so the triggers for all other writers leave it alone. For this transaction
/// only: what the same connection changes outside of a write is named by the triggers. It names its isolation level too: at one that
/// the database may have by default, two writes of one row fail where the second can wait. One round trip, as any begin.
pub(super) async fn begin(db: &ConnectionPool) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    db.begin_with("begin isolation level read committed; set local aside.invalidates = 'on'").await
}

/// Whether a connection that is given back to its pool is outside of any transaction: for `after_release` of the pool that the cache works
/// with. Who is cut off while a transaction begins leaves it open and the client doesn't know, so whatever is done next on that
/// connection would be part of it, and undone at some time.
///
/// # Errors
/// When the connection can't be asked, or what is open has failed: it is of no use either way.
pub async fn is_outside_transaction(db: &mut PgConnection) -> Result<bool, sqlx::Error> {
    // In the simple protocol a statement by itself begins its transaction, so these are one moment.
    sqlx::raw_sql("select now() = statement_timestamp()").fetch_one(db).await?.try_get(0)
}

/// Tags that one write raises one by one. Of more it raises their patterns, as `cache_raise` does.
const MAX_TAGS: usize = 1_000;

/// Raises the version of every tag, in the transaction of `db`. One statement; sorted, because two writers that lock the same
/// rows in different orders deadlock.
pub(super) async fn bump(db: &mut PgConnection, tags: &BTreeSet<Tag>) -> Result<Vec<TagVersion>, sqlx::Error> {
    if tags.len() > MAX_TAGS {
        return Box::pin(bump(db, &tags.iter().map(Tag::pattern_wildcard).collect())).await;
    }
    let names: Vec<&str> = tags.iter().map(Tag::as_str).collect();
    let rows = sqlx::query(
        "insert into cache_ledger as ledger (tag, version)
         select tag, nextval('cache_version') from unnest($1::text[]) as invalidated (tag) order by tag
         on conflict (tag) do update set version = greatest(nextval('cache_version'), ledger.version + 1), xid = pg_current_xact_id(),
             at = clock_timestamp()
         returning tag, version",
    )
    .bind(names)
    .fetch_all(db)
    .await?;
    rows.iter().map(tag_version).collect()
}

/// Versions that were not raised for so long ($2, in seconds) demand nothing: what was read before is too old to be served, and their rows
/// may be removed at any time.
const RECENTLY_CHANGED: &str = "at > clock_timestamp() - $2 * interval '1 second'";

/// The versions of tags as they stand; tags that were idle for long have none.
pub(super) async fn versions(db: &mut PgConnection, tags: &BTreeSet<Tag>) -> Result<Vec<TagVersion>, sqlx::Error> {
    let names: Vec<&str> = tags.iter().map(Tag::as_str).collect();
    let sql = format!("select tag, version from cache_ledger where tag = any($1) and {RECENTLY_CHANGED}");
    let rows =
        sqlx::query(AssertSqlSafe(sql)).bind(names).bind(Freshness::memory().as_secs_f64()).fetch_all(db).await?;
    rows.iter().map(tag_version).collect()
}

/// The epoch that holds now, as `cache_epoch()` of the migration says it. It is null when no row names the epoch of this run of this
/// server, and on a standby. As a sub-query it is evaluated once, however many rows the statement brings.
const EPOCH: &str = "(
    select left(md5(min(id::text)), 12) from cache_epochs
    where started = pg_postmaster_start_time() and recovered is not distinct from pg_stat_get_bgwriter_stat_reset_time()
        and ledger = 'cache_ledger'::regclass and not pg_is_in_recovery()
        and database = (select oid from pg_catalog.pg_database where datname = current_database())
    having count(*) = 1
)";

/// The epoch of the database, and the versions of tags as they stand now.
pub(super) async fn versions_with_epoch(
    db: &ConnectionPool,
    tags: impl IntoIterator<Item = Tag>,
) -> Result<(String, Vec<TagVersion>), sqlx::Error> {
    let names: Vec<String> = tags.into_iter().map(|tag| tag.to_string()).collect();
    let sql = format!(
        "select {EPOCH} as epoch, tag, version
         from (select 1) as always left join cache_ledger on tag = any($1) and {RECENTLY_CHANGED}"
    );
    let rows =
        sqlx::query(AssertSqlSafe(sql)).bind(names).bind(Freshness::memory().as_secs_f64()).fetch_all(db).await?;
    let first = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    Ok((first.try_get("epoch")?, rows.iter().filter(|row| has_tag(row)).map(tag_version).collect::<Result<_, _>>()?))
}

/// Whether an error says that an earlier statement of the same transaction has failed.
pub(super) fn is_aborted(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == "25P02")
}

/// What is known of a tenant; makes its secret when there is none yet.
pub(super) async fn load_or_create_tenant(db: &ConnectionPool, tenant: &Tenant) -> Result<TenantRecord, sqlx::Error> {
    let sql = "select home_region, secret from cache_tenants where tenant = $1";
    if let Some(row) = sqlx::query(sql).bind(tenant.as_str()).fetch_optional(db).await? {
        return record(&row);
    }
    // An update that changes nothing, so that who loses the race is told too.
    let sql = "insert into cache_tenants (tenant) values ($1)
               on conflict (tenant) do update set tenant = excluded.tenant returning home_region, secret";
    record(&sqlx::query(sql).bind(tenant.as_str()).fetch_one(db).await?)
}

/// What is known of tenants; `None` where a row can't be read, which says nothing of the others.
pub(super) async fn load_tenants(
    db: &ConnectionPool,
    tenants: &[Tenant],
) -> Result<Vec<(Tenant, Option<TenantRecord>)>, sqlx::Error> {
    let names: Vec<&str> = tenants.iter().map(Tenant::as_str).collect();
    let sql = "select tenant, home_region, secret from cache_tenants where tenant = any($1)";
    let rows = sqlx::query(sql).bind(names).fetch_all(db).await?;
    let known = |row: &PgRow| {
        let tenant = Tenant::parse(row.try_get("tenant")?).ok_or(sqlx::Error::RowNotFound)?;
        let record = record(row).inspect_err(|_| tracing::error!(%tenant, "the row of a tenant can't be read")).ok();
        Ok((tenant, record))
    };
    rows.iter().map(known).collect()
}

/// Gives a tenant another secret, in the transaction of `db`: nothing that was cached of it can be opened again. Whether there is such a
/// tenant.
pub(super) async fn rotate_secret(db: &mut PgConnection, tenant: &Tenant) -> Result<bool, sqlx::Error> {
    let sql = "update cache_tenants set secret = default where tenant = $1";
    Ok(sqlx::query(sql).bind(tenant.as_str()).execute(db).await?.rows_affected() > 0)
}

fn record(row: &PgRow) -> Result<TenantRecord, sqlx::Error> {
    let secret: Vec<u8> = row.try_get("secret")?;
    let secret = secret.try_into().map_err(|_| sqlx::Error::Decode("a secret has 32 bytes".into()))?;
    Ok(TenantRecord { region: row.try_get("home_region")?, secret })
}

/// A snapshot in which everything is visible.
pub(super) const FAR_FUTURE: &str = "9000000000000000000:9000000000000000000:";

/// What one poll of the ledger brought.
pub(super) struct ChangeBatch {
    /// The epoch of the database that versions and snapshots belong to; `None`: nobody has named it yet.
    pub(super) epoch: Option<String>,
    /// The snapshot of this poll, for the next one.
    pub(super) snapshot: String,
    /// When the statement's transaction began, so not after its snapshot. (`statement_timestamp()` may be after it: it is set
    /// again when a prepared statement is executed.)
    pub(super) statement: DbTime,
    /// Tags changed since the last poll, with their versions.
    pub(super) changes: Vec<TagVersion>,
    /// Whether these are all of them. If not, any name may have changed.
    pub(super) complete: bool,
    /// When these numbers were raised, each a little before its commit or, in a long transaction, long before.
    pub(super) raised_at: Vec<DbTime>,
}

/// The statement of a poll.
static POLL: LazyLock<String> = LazyLock::new(|| {
    format!(
        "with changes as (
             select tag, version, at from cache_ledger where xid >= pg_snapshot_xmax($1::pg_snapshot)
             union all
             select tag, version, at from cache_ledger
             where xid = any (array(select pg_snapshot_xip($1::pg_snapshot)))
             limit $2 + 1
         )
         select {EPOCH} as epoch, pg_current_snapshot()::text as snapshot, now() as statement, tag, version, at as raised_at
         from (select 1) as always left join changes on true"
    )
});

/// Changes that a poll brings one by one. The time of a poll is bounded so, however much was changed.
pub(super) const MAX_CHANGES: i64 = 10_000;
/// The same for the poll with which an instance begins: what it can't learn by name it must load.
pub(super) const MAX_CHANGES_AT_START: i64 = 100_000;

/// A connection of its own to poll the ledger: a busy pool must not make an instance's floors count as not current.
pub(super) struct LedgerConnection {
    db: PgConnection,
    /// The highest version that a poll has brought.
    highest: i64,
}

impl LedgerConnection {
    /// Connects; every statement ends after `limit` at the latest, and takes the index also where a table that was just filled has
    /// no statistics yet. A plan that must do without an index counts as costly then, and compiling it would take longer than `limit`.
    /// Each statement is planned once: for a snapshot that it knows, Postgres would plan every poll anew.
    pub(super) async fn connect(pool: &ConnectionPool, limit: Duration) -> Result<Self, sqlx::Error> {
        let milliseconds = limit.as_millis().to_string();
        let settings = [
            ("statement_timeout", milliseconds.as_str()),
            ("enable_seqscan", "off"),
            ("jit", "off"),
            ("plan_cache_mode", "force_generic_plan"),
        ];
        Ok(Self { db: pool.connect(&settings).await?, highest: 0 })
    }

    /// The connection, for who keeps something of its own beside what it hears.
    pub(super) fn conn(&mut self) -> &mut PgConnection {
        &mut self.db
    }

    /// Everything committed that was not visible in the snapshot `since`. `xid >= xmax or xid in xip` is exactly that, so every
    /// change is seen once whatever the order of commits, and a long transaction costs nothing. Two index scans: as one
    /// condition it would read the whole table. It brings `most` changes at most. On a standby, whose answers prove nothing, the
    /// statement fails or names no epoch.
    pub(super) async fn poll(&mut self, since: &str, most: i64) -> Result<ChangeBatch, sqlx::Error> {
        let rows = sqlx::query(POLL.as_str()).bind(since).bind(most).fetch_all(&mut self.db).await?;
        let first = rows.first().ok_or(sqlx::Error::RowNotFound)?;
        let changes = || rows.iter().filter(|row| has_tag(row));
        let tag_versions: Vec<TagVersion> = changes().map(tag_version).collect::<Result<_, _>>()?;
        self.highest = tag_versions.iter().map(|tag_version| tag_version.version).max().unwrap_or(0).max(self.highest);
        Ok(ChangeBatch {
            epoch: first.try_get("epoch")?,
            snapshot: first.try_get("snapshot")?,
            statement: first.try_get("statement")?,
            complete: tag_versions.len() as i64 <= most,
            changes: tag_versions,
            raised_at: changes().map(|row| row.try_get("raised_at")).collect::<Result<_, _>>()?,
        })
    }

    /// The snapshot to begin with: the newest that is older than any entry that may be served; else the oldest there is, with
    /// the moment before which entries must be refused.
    pub(super) async fn checkpoint(&mut self) -> Result<Option<(String, DbTime)>, sqlx::Error> {
        let sql = format!(
            "select snap::text as snapshot, taken_at
             from (
                 (select *, 1 as choice from cache_checkpoints
                  where epoch = {EPOCH} and taken_at < clock_timestamp() - $1 * interval '1 second'
                  order by taken_at desc limit 1)
                 union all
                 (select *, 2 from cache_checkpoints where epoch = {EPOCH} order by taken_at limit 1)
             ) as candidates
             order by choice limit 1"
        );
        let memory = Freshness::memory().as_secs_f64();
        let row = sqlx::query(AssertSqlSafe(sql)).bind(memory).fetch_optional(&mut self.db).await?;
        row.map(|row| Ok((row.try_get("snapshot")?, row.try_get("taken_at")?))).transpose()
    }

    /// Names the epoch, if nobody has yet, and makes rows of another one (a dump restored into a younger cluster brings transaction
    /// ids that lie ahead) changes of this one. Where nothing is to be done it writes nothing, so a read-only server is no
    /// hindrance.
    ///
    /// # Errors
    /// When the database can't be asked, or is a standby.
    pub(super) async fn ensure_epoch(&mut self) -> Result<(), sqlx::Error> {
        let ask = format!(
            "select {EPOCH} as epoch, pg_is_in_recovery() as standby,
                 exists (select from cache_ledger where xid >= pg_snapshot_xmax(pg_current_snapshot())) as foreign"
        );
        let row = sqlx::query(AssertSqlSafe(ask)).fetch_one(&mut self.db).await?;
        if row.try_get("standby")? {
            return Err(sqlx::Error::Protocol("the server is a standby".into()));
        }
        if row.try_get::<Option<String>, _>("epoch")?.is_none() {
            self.begin_epoch().await?;
        }
        if row.try_get("foreign")? {
            let own = "update cache_ledger set xid = pg_current_xact_id() where xid >= pg_snapshot_xmax(pg_current_snapshot())";
            sqlx::query(own).execute(&mut self.db).await?;
        }
        Ok(())
    }

    /// Replaces the rows of other epochs by one of this run of this server. Instances that do so at the same time agree on one row:
    /// the key of the table sees to it. While a restore has not made that key yet there may be two rows, and then they begin anew.
    async fn begin_epoch(&mut self) -> Result<(), sqlx::Error> {
        // A ledger that was moved by copying its rows left its sequence behind. The next versions must be above all of its own, by
        // so much that those which writers take meanwhile don't matter.
        let sequence = "select setval('cache_version', highest + 1000000)
            from (select max(version) as highest from cache_ledger) as ledger, cache_version where highest > last_value";
        sqlx::query(sequence).execute(&mut self.db).await?;
        let mut transaction = self.db.begin_with("begin isolation level read committed").await?;
        sqlx::query("delete from cache_epochs where cache_epoch() is null").execute(&mut *transaction).await?;
        sqlx::query("insert into cache_epochs select where cache_epoch() is null on conflict do nothing")
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await
    }

    /// Leaves what instances that start later need, and removes what nobody needs any more.
    pub(super) async fn run_maintenance(&mut self) -> Result<(), sqlx::Error> {
        self.record_checkpoint().await?;
        self.prune_idle_tags().await?;
        self.expect_versions_to_rise().await
    }

    /// Begins another epoch if the sequence was set back: versions would be given a second time.
    async fn expect_versions_to_rise(&mut self) -> Result<(), sqlx::Error> {
        let sql = "select setval('cache_version', $1 + 1000000) from cache_version where last_value < $1";
        if sqlx::query(sql).bind(self.highest).fetch_optional(&mut self.db).await?.is_some() {
            tracing::error!(highest = self.highest, "the sequence cache_version was set back: all tiers begin anew");
            sqlx::query("update cache_epochs set id = gen_random_uuid()").execute(&mut self.db).await?;
        }
        Ok(())
    }

    /// Triggers for other writers that don't fire in every session, as `table.trigger`, each with whether it fires at all.
    pub(super) async fn silent_triggers(&mut self) -> Result<Vec<(String, bool)>, sqlx::Error> {
        let sql = "select tgrelid::regclass || '.' || tgname, tgenabled <> 'D'
            from pg_catalog.pg_trigger t join pg_catalog.pg_proc p on p.oid = t.tgfoid
            where tgenabled <> 'A' and not tgisinternal and proname like 'cache\\_%'
                and pronamespace = (select relnamespace from pg_catalog.pg_class where oid = 'cache_ledger'::regclass)
            order by 1";
        sqlx::query_as(sql).fetch_all(&mut self.db).await
    }

    /// Makes everything old that was read before.
    pub(super) async fn raise_everything(&mut self) -> Result<(), sqlx::Error> {
        sqlx::query("select cache_raise(array['*'])").execute(&mut self.db).await.map(drop)
    }

    /// Leaves a snapshot for instances that start later, unless another instance did so in the last five seconds, and removes
    /// those that nobody needs any more.
    async fn record_checkpoint(&mut self) -> Result<(), sqlx::Error> {
        let sql = format!(
            "with old as (
                 delete from cache_checkpoints
                 where taken_at < clock_timestamp() - 3 * $1 * interval '1 second'
             )
             insert into cache_checkpoints (epoch, snap)
             select epoch, pg_current_snapshot() from (select {EPOCH} as epoch) as now
             where epoch is not null and not exists
                 (select 1 from cache_checkpoints where epoch = now.epoch and taken_at > clock_timestamp() - interval '5 seconds')"
        );
        sqlx::query(AssertSqlSafe(sql)).bind(Freshness::memory().as_secs_f64()).execute(&mut self.db).await?;
        Ok(())
    }

    /// Removes some rows of tags that have been idle for twice as long as any entry or floor lives: without a row a tag's version is
    /// 0, and by then nothing remembers a higher one. Versions come from one sequence, so the next change is above all of them.
    async fn prune_idle_tags(&mut self) -> Result<(), sqlx::Error> {
        let sql = format!(
            "delete from cache_ledger where ctid = any (array(
                 select ctid from cache_ledger
                 where xid < (select pg_snapshot_xmin(snap) from cache_checkpoints
                              where epoch = {EPOCH} and taken_at < clock_timestamp() - 2 * $1 * interval '1 second'
                              order by taken_at desc limit 1)
                 order by xid limit 1000 for update skip locked))"
        );
        sqlx::query(AssertSqlSafe(sql)).bind(Freshness::memory().as_secs_f64()).execute(&mut self.db).await?;
        Ok(())
    }
}

/// Whether a row is more than the one that always comes.
fn has_tag(row: &PgRow) -> bool {
    row.try_get::<Option<String>, _>("tag").is_ok_and(|tag| tag.is_some())
}

fn tag_version(row: &PgRow) -> Result<TagVersion, sqlx::Error> {
    Ok(TagVersion { tag: Tag::from_ledger(row.try_get("tag")?), version: row.try_get("version")? })
}
