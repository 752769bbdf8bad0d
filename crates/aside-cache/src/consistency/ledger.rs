//! The ledger's SQL. It raises versions in a write's transaction and polls the changes since a
//! snapshot. All of the cache's SQL is in this file and in `raise.rs`, except a check of the triggers
//! (`triggers.rs`). The migration `0001_cache.sql` creates the tables.

pub(crate) mod raise;

use std::{collections::BTreeSet, sync::LazyLock, time::Duration};

use sqlx::{
    AssertSqlSafe, Connection, PgConnection, Postgres, Row, Transaction,
    postgres::{PgRow, types::PgInterval},
};

use crate::{
    consistency::address::AddressWatch,
    database::pool::ConnectionPool,
    entry::{DbTime, TagVersion},
    key::{Tag, Tenant},
    protect::tenants::TenantRecord,
};

/// Begins a transaction whose writer invalidates its tags itself, so the triggers for all other
/// writers do nothing. This applies to this transaction only. If the same connection changes data
/// outside of a write, the triggers invalidate the tags.
///
/// The statement also sets the isolation level. At another default level of the database, two
/// writes of one row would fail where the second could wait. It takes one round trip, like any
/// `begin`.
pub(crate) async fn begin(db: &ConnectionPool) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    db.begin_with("begin isolation level read committed; set local aside.invalidates = 'on'").await
}

/// Whether a connection that returns to its pool is outside of any transaction, for
/// `after_release` of the pool that the cache uses. A task that is cancelled while a transaction
/// begins leaves it open, and the next statements would be part of it.
///
/// # Errors
/// Returns an error if the connection does not answer, or if an open transaction has failed. The
/// connection is useless in both cases.
pub async fn is_outside_transaction(db: &mut PgConnection) -> Result<bool, sqlx::Error> {
    // In the simple protocol a statement alone begins its transaction, so both times are the same.
    sqlx::raw_sql("select now() = statement_timestamp()").fetch_one(db).await?.try_get(0)
}

/// The condition for versions that were raised in the last $2 seconds. Older versions protect
/// nothing, because answers read before they were raised are too old to be served. Their rows may
/// be removed at any time.
const RECENTLY_CHANGED: &str = "at > clock_timestamp() - $2 * interval '1 second'";

/// The current versions of tags. Tags that were idle for long have none.
pub(crate) async fn versions(
    db: &mut PgConnection,
    tags: &BTreeSet<Tag>,
    retention: Duration,
) -> Result<Vec<TagVersion>, sqlx::Error> {
    let names: Vec<&str> = tags.iter().map(Tag::as_str).collect();
    let sql = format!("select tag, version from cache_ledger where tag = any($1) and {RECENTLY_CHANGED}");
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(names).bind(retention.as_secs_f64()).fetch_all(db).await?;
    rows.iter().map(tag_version).collect()
}

/// The current epoch, as `cache_epoch()` of the migration returns it. It is null if no row has the
/// epoch of this run of this server, and on a standby. As a sub-query it is evaluated once, however
/// many rows the statement returns.
const EPOCH: &str = "(
    select left(md5(min(id::text)), 12) from cache_epochs
    where started = pg_postmaster_start_time() and recovered is not distinct from pg_stat_get_bgwriter_stat_reset_time()
        and ledger = 'cache_ledger'::regclass and not pg_is_in_recovery()
        and database = (select oid from pg_catalog.pg_database where datname = current_database())
    having count(*) = 1
)";

/// The epoch of the database, and the current versions of tags.
pub(crate) async fn versions_with_epoch(
    db: &ConnectionPool,
    tags: impl IntoIterator<Item = Tag>,
    retention: Duration,
) -> Result<(String, Vec<TagVersion>), sqlx::Error> {
    let names: Vec<String> = tags.into_iter().map(|tag| tag.to_string()).collect();
    let sql = format!(
        "select {EPOCH} as epoch, tag, version
         from (select 1) as always left join cache_ledger on tag = any($1) and {RECENTLY_CHANGED}"
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(names).bind(retention.as_secs_f64()).fetch_all(db).await?;
    let first = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    Ok((first.try_get("epoch")?, rows.iter().filter(|row| has_tag(row)).map(tag_version).collect::<Result<_, _>>()?))
}

/// Whether an error says that an earlier statement of the same transaction has failed.
pub(crate) fn is_aborted(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == "25P02")
}

/// Reads the record of a tenant. Creates its secret if there is none yet.
pub(crate) async fn load_or_create_tenant(db: &ConnectionPool, tenant: &Tenant) -> Result<TenantRecord, sqlx::Error> {
    let sql = "select home_region, secret from cache_tenants where tenant = $1";
    if let Some(row) = sqlx::query(sql).bind(tenant.as_str()).fetch_optional(db).await? {
        return record(&row);
    }
    // The update changes nothing, but it also returns the row to a caller that loses the race.
    let sql = "insert into cache_tenants (tenant) values ($1)
               on conflict (tenant) do update set tenant = excluded.tenant returning home_region, secret";
    record(&sqlx::query(sql).bind(tenant.as_str()).fetch_one(db).await?)
}

/// Reads the records of tenants. `None` marks a row that can't be read, which does not affect the
/// others.
pub(crate) async fn load_tenants(
    db: &ConnectionPool,
    tenants: &[Tenant],
) -> Result<Vec<(Tenant, Option<TenantRecord>)>, sqlx::Error> {
    let names: Vec<&str> = tenants.iter().map(Tenant::as_str).collect();
    let sql = "select tenant, home_region, secret from cache_tenants where tenant = any($1)";
    let rows = sqlx::query(sql).bind(names).fetch_all(db).await?;
    let known = |row: &PgRow| {
        let tenant = Tenant::parse(row.try_get("tenant")?).ok_or(sqlx::Error::RowNotFound)?;
        let record = record(row).inspect_err(|_| tracing::error!(%tenant, "failed to decode a tenant's record")).ok();
        Ok((tenant, record))
    };
    rows.iter().map(known).collect()
}

/// Replaces the secret of a tenant, in the transaction of `db`. Nothing that was cached for the
/// tenant can be opened again. Returns whether the tenant exists.
pub(crate) async fn rotate_secret(db: &mut PgConnection, tenant: &Tenant) -> Result<bool, sqlx::Error> {
    let sql = "update cache_tenants set secret = default where tenant = $1";
    Ok(sqlx::query(sql).bind(tenant.as_str()).execute(db).await?.rows_affected() > 0)
}

fn record(row: &PgRow) -> Result<TenantRecord, sqlx::Error> {
    let secret: Vec<u8> = row.try_get("secret")?;
    let secret = secret.try_into().map_err(|_| sqlx::Error::Decode("a secret has 32 bytes".into()))?;
    Ok(TenantRecord { region: row.try_get("home_region")?, secret })
}

/// A snapshot in which everything is visible.
pub(crate) const FAR_FUTURE: &str = "9000000000000000000:9000000000000000000:";

/// The result of one poll of the ledger.
pub(crate) struct ChangeBatch {
    /// The epoch of the database to which versions and snapshots belong. `None` means that no row
    /// has it yet.
    pub(crate) epoch: Option<String>,
    /// The snapshot of this poll, for the next poll.
    pub(crate) snapshot: String,
    /// The time when the statement's transaction began. It is not after the snapshot, as
    /// `statement_timestamp()` may be.
    pub(crate) statement: DbTime,
    /// The tags changed since the last poll, with their versions.
    pub(crate) changes: Vec<TagVersion>,
    /// Whether these are all changes. If not, any tag may have changed.
    pub(crate) complete: bool,
    /// The times when these versions were raised. Each is a little before its commit or, in a long
    /// transaction, long before.
    pub(crate) raised_at: Vec<DbTime>,
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

/// The largest number of changes that a poll returns one by one. It bounds the time of a poll after
/// any number of changes.
pub(crate) const MAX_CHANGES: i64 = 10_000;
/// The same limit for the first poll of an instance. With more changes, the instance can't tell
/// which entries are stale and must load them.
pub(crate) const MAX_CHANGES_AT_START: i64 = 100_000;

/// A separate connection for polls of the ledger, which must not wait for a busy pool.
pub(crate) struct LedgerConnection {
    pub(crate) db: PgConnection,
    address: AddressWatch,
    /// The highest version that a poll has returned.
    highest: i64,
    /// The time for which the service keeps entries and floors.
    retention: Duration,
}

impl LedgerConnection {
    /// Connects. Every statement on this connection ends after `limit` at the latest.
    ///
    /// Statements use the index even if a table that was just filled has no statistics yet. JIT
    /// compilation could take longer than `limit`, so it is off. Each statement is planned once.
    pub(crate) async fn connect(
        pool: &ConnectionPool,
        limit: Duration,
        retention: Duration,
    ) -> Result<Self, sqlx::Error> {
        let milliseconds = limit.as_millis().to_string();
        let settings = [
            ("statement_timeout", milliseconds.as_str()),
            ("enable_seqscan", "off"),
            ("jit", "off"),
            ("plan_cache_mode", "force_generic_plan"),
        ];
        let mut db = pool.connect(&settings).await?;
        let address = AddressWatch::new(pool, &mut db).await?;
        Ok(Self { db, address, highest: 0, retention })
    }

    /// The connection, for callers that store their own state beside the changes.
    pub(crate) fn conn(&mut self) -> &mut PgConnection {
        &mut self.db
    }

    /// Returns every committed change that was not visible in the snapshot `since`, at most `most`
    /// of them. `xid >= xmax or xid in xip` is exactly this condition. Every change is therefore
    /// seen once, in any order of commits, and a long transaction costs nothing.
    ///
    /// The statement uses two index scans, because one condition would read the whole table. On a
    /// standby, whose answers prove nothing, it fails or returns no epoch. It also fails
    /// once the address of the database leads to another server.
    pub(crate) async fn poll(&mut self, since: &str, most: i64) -> Result<ChangeBatch, sqlx::Error> {
        self.address.look(&mut self.db).await?;
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

    /// Returns the snapshot with which an instance starts. It is the newest one that is older than
    /// any entry that may be served. If there is none, it is the oldest one, with the moment before
    /// which entries must be refused.
    pub(crate) async fn checkpoint(&mut self) -> Result<Option<(String, DbTime)>, sqlx::Error> {
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
        let row =
            sqlx::query(AssertSqlSafe(sql)).bind(self.retention.as_secs_f64()).fetch_optional(&mut self.db).await?;
        row.map(|row| Ok((row.try_get("snapshot")?, row.try_get("taken_at")?))).transpose()
    }

    /// Creates the epoch if there is none yet. It also turns rows of another epoch into changes of
    /// this one. A dump that is restored into a younger cluster has transaction ids that lie ahead.
    /// If there is nothing to do, it writes nothing, so it also works on a read-only server.
    ///
    /// # Errors
    /// Returns an error if the database does not answer or is a standby.
    pub(crate) async fn ensure_epoch(&mut self) -> Result<(), sqlx::Error> {
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

    /// Replaces the rows of other epochs by one row of this run of this server. The table's key lets
    /// instances agree on one row. Until a restore has created the key, there may be two rows. Then
    /// no epoch is valid, and the instances begin one again.
    async fn begin_epoch(&mut self) -> Result<(), sqlx::Error> {
        // A ledger that was moved by copying its rows has a sequence below its versions. The next
        // versions must be above all versions in the ledger. The distance is large enough for the
        // versions that writers take in the meantime.
        let sequence = "select cache_lift_versions()";
        sqlx::query(sequence).execute(&mut self.db).await?;
        let mut transaction = self.db.begin_with("begin isolation level read committed").await?;
        sqlx::query("delete from cache_epochs where cache_epoch() is null").execute(&mut *transaction).await?;
        sqlx::query("insert into cache_epochs select where cache_epoch() is null on conflict do nothing")
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await
    }

    /// Stores a checkpoint for instances that start later, and removes rows that are not needed any
    /// more.
    pub(crate) async fn run_maintenance(&mut self) -> Result<(), sqlx::Error> {
        self.record_checkpoint().await?;
        self.prune_idle_tags().await?;
        self.expect_versions_to_rise().await
    }

    /// Begins another epoch if the sequence was set back, because versions would otherwise be
    /// repeated.
    async fn expect_versions_to_rise(&mut self) -> Result<(), sqlx::Error> {
        let lifted: Option<Option<i64>> =
            sqlx::query_scalar("select cache_lift_versions($1) from cache_version where last_value < $1")
                .bind(self.highest)
                .fetch_optional(&mut self.db)
                .await?;
        if lifted.flatten().is_some() {
            tracing::error!(highest = self.highest, "cache_version was set back: all cached entries are invalid");
            sqlx::query("update cache_epochs set id = gen_random_uuid()").execute(&mut self.db).await?;
        }
        Ok(())
    }

    /// Invalidates every answer that was read before.
    pub(crate) async fn raise_everything(&mut self) -> Result<(), sqlx::Error> {
        sqlx::query("select cache_raise(array['*'])").execute(&mut self.db).await.map(drop)
    }

    /// Stores a snapshot for instances that start later, unless another instance did so in the last
    /// five seconds. It also removes snapshots that are too old for every service.
    async fn record_checkpoint(&mut self) -> Result<(), sqlx::Error> {
        let sql = format!(
            "with old as (
                 delete from cache_checkpoints
                 where taken_at < clock_timestamp() - 3 * greatest($1::interval, {LONGEST_RETENTION})
             )
             insert into cache_checkpoints (epoch, snap, retention)
             select epoch, pg_current_snapshot(), $1 from (select {EPOCH} as epoch) as now
             where epoch is not null and not exists
                 (select 1 from cache_checkpoints
                  where epoch = now.epoch and retention >= $1 and taken_at > clock_timestamp() - interval '5 seconds')"
        );
        sqlx::query(AssertSqlSafe(sql)).bind(interval(self.retention)).execute(&mut self.db).await?;
        Ok(())
    }

    /// Removes some rows of tags that have been idle for twice as long as any entry or floor of any
    /// service lives.
    /// Without a row, the version of a tag is 0, and by then no instance remembers a higher one.
    /// Versions come from one sequence, so the next change is above all of them.
    async fn prune_idle_tags(&mut self) -> Result<(), sqlx::Error> {
        sqlx::query("select cache_prune($1)").bind(interval(self.retention)).execute(&mut self.db).await?;
        Ok(())
    }
}

/// The longest retention of all services that share the ledger.
const LONGEST_RETENTION: &str = "(select coalesce(max(retention), '0') from cache_checkpoints)";

fn interval(duration: Duration) -> PgInterval {
    PgInterval { months: 0, days: 0, microseconds: i64::try_from(duration.as_micros()).unwrap_or(i64::MAX) }
}

/// Whether a row has a tag. One row without a tag always comes.
fn has_tag(row: &PgRow) -> bool {
    row.try_get::<Option<String>, _>("tag").is_ok_and(|tag| tag.is_some())
}

fn tag_version(row: &PgRow) -> Result<TagVersion, sqlx::Error> {
    Ok(TagVersion { tag: Tag::from_ledger(row.try_get("tag")?), version: row.try_get("version")? })
}
