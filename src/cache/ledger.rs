//! The ledger's SQL: raising numbers in a write's transaction, and asking what has changed since a snapshot. All of the cache's
//! SQL is in this file; the tables are in the migration `0001_cache_ledger.sql`.

use std::{collections::BTreeSet, sync::LazyLock, time::Duration};

use sqlx::{AssertSqlSafe, Connection, PgConnection, Postgres, Row, Transaction, postgres::PgRow};

use super::{
    entry::{DbTime, Label},
    fence::Fence,
    key::{Name, Tenant},
    pool::ConnectionPool,
    tenants::Home,
};

/// Begins a transaction whose writer names its changes itself, so the triggers for all other writers leave it alone. For this transaction
/// only: what the same connection changes outside of a write is named by the triggers. It names its isolation level too: at one that
/// the database may have by default, two writes of one row fail where the second can wait. One round trip, as any begin.
pub(super) async fn begin(db: &ConnectionPool) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    db.begin_with("begin isolation level read committed; set local aside.names_changes = 'on'").await
}

/// Whether a connection that is given back to its pool is outside of any transaction: for `after_release` of the pool that the cache works
/// with. Who is cut off while a transaction begins leaves it open and the client doesn't know, so whatever is done next on that
/// connection would be part of it, and undone at some time.
///
/// # Errors
/// When the connection can't be asked, or what is open has failed: it is of no use either way.
pub async fn is_idle(db: &mut PgConnection) -> Result<bool, sqlx::Error> {
    // In the simple protocol a statement by itself begins its transaction, so these are one moment.
    sqlx::raw_sql("select now() = statement_timestamp()").fetch_one(db).await?.try_get(0)
}

/// Names that one write raises one by one. Of more it raises their patterns, as `cache_raise` does.
const MOST_NAMES: usize = 1_000;

/// Raises the number of every name, in the transaction of `db`. One statement; sorted, because two writers that lock the same
/// rows in different orders deadlock.
pub(super) async fn bump(db: &mut PgConnection, names: &BTreeSet<Name>) -> Result<Vec<Label>, sqlx::Error> {
    if names.len() > MOST_NAMES {
        return Box::pin(bump(db, &names.iter().map(Name::of_its_pattern).collect())).await;
    }
    let names: Vec<&str> = names.iter().map(Name::as_str).collect();
    let rows = sqlx::query(
        "insert into cache_ledger as ledger (name, ver)
         select name, nextval('cache_ver') from unnest($1::text[]) as touched (name) order by name
         on conflict (name) do update set ver = greatest(nextval('cache_ver'), ledger.ver + 1), xid = pg_current_xact_id(),
             at = clock_timestamp()
         returning name, ver",
    )
    .bind(names)
    .fetch_all(db)
    .await?;
    rows.iter().map(label).collect()
}

/// Numbers that were not raised for so long ($2, in seconds) demand nothing: what was read before is too old to be served, and their rows
/// may be removed at any time.
const NOT_QUIET: &str = "at > clock_timestamp() - $2 * interval '1 second'";

/// The numbers of names as they stand; names that were quiet for long have none.
pub(super) async fn numbers(db: &mut PgConnection, names: &BTreeSet<Name>) -> Result<Vec<Label>, sqlx::Error> {
    let names: Vec<&str> = names.iter().map(Name::as_str).collect();
    let sql = format!("select name, ver from cache_ledger where name = any($1) and {NOT_QUIET}");
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(names).bind(Fence::memory().as_secs_f64()).fetch_all(db).await?;
    rows.iter().map(label).collect()
}

/// The epoch that holds now, as `cache_life()` of the migration says it. It is null when no row names the epoch of this run of this
/// server, and on a standby. As a sub-query it is evaluated once, however many rows the statement brings.
const ERA: &str = "(
    select left(md5(min(id::text)), 12) from cache_era
    where started = pg_postmaster_start_time() and recovered is not distinct from pg_stat_get_bgwriter_stat_reset_time()
        and ledger = 'cache_ledger'::regclass and not pg_is_in_recovery()
        and place = (select oid from pg_catalog.pg_database where datname = current_database())
    having count(*) = 1
)";

/// The life of the database, and the numbers of names as they stand now.
pub(super) async fn numbers_now(
    db: &ConnectionPool,
    names: impl IntoIterator<Item = Name>,
) -> Result<(String, Vec<Label>), sqlx::Error> {
    let names: Vec<String> = names.into_iter().map(|name| name.to_string()).collect();
    let sql = format!(
        "select {ERA} as era, name, ver
         from (select 1) as always left join cache_ledger on name = any($1) and {NOT_QUIET}"
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(names).bind(Fence::memory().as_secs_f64()).fetch_all(db).await?;
    let first = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    Ok((first.try_get("era")?, rows.iter().filter(|row| has_name(row)).map(label).collect::<Result<_, _>>()?))
}

/// Whether an error says that an earlier statement of the same transaction has failed.
pub(super) fn is_aborted(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == "25P02")
}

/// What is known of a tenant; makes its secret when there is none yet.
pub(super) async fn meet(db: &ConnectionPool, tenant: &Tenant) -> Result<Home, sqlx::Error> {
    let sql = "select home_region, secret from cache_tenants where tenant = $1";
    if let Some(row) = sqlx::query(sql).bind(tenant.as_str()).fetch_optional(db).await? {
        return home(&row);
    }
    // An update that changes nothing, so that who loses the race is told too.
    let sql = "insert into cache_tenants (tenant) values ($1)
               on conflict (tenant) do update set tenant = excluded.tenant returning home_region, secret";
    home(&sqlx::query(sql).bind(tenant.as_str()).fetch_one(db).await?)
}

/// What is known of tenants; `None` where a row can't be read, which says nothing of the others.
pub(super) async fn homes(db: &ConnectionPool, tenants: &[Tenant]) -> Result<Vec<(Tenant, Option<Home>)>, sqlx::Error> {
    let names: Vec<&str> = tenants.iter().map(Tenant::as_str).collect();
    let sql = "select tenant, home_region, secret from cache_tenants where tenant = any($1)";
    let rows = sqlx::query(sql).bind(names).fetch_all(db).await?;
    let known = |row: &PgRow| {
        let tenant = Tenant::parse(row.try_get("tenant")?).ok_or(sqlx::Error::RowNotFound)?;
        let home = home(row).inspect_err(|_| tracing::error!(%tenant, "the row of a tenant can't be read")).ok();
        Ok((tenant, home))
    };
    rows.iter().map(known).collect()
}

/// Gives a tenant another secret, in the transaction of `db`: nothing that was cached of it can be opened again. Whether there is such a
/// tenant.
pub(super) async fn forget_secret(db: &mut PgConnection, tenant: &Tenant) -> Result<bool, sqlx::Error> {
    let sql = "update cache_tenants set secret = default where tenant = $1";
    Ok(sqlx::query(sql).bind(tenant.as_str()).execute(db).await?.rows_affected() > 0)
}

fn home(row: &PgRow) -> Result<Home, sqlx::Error> {
    let secret: Vec<u8> = row.try_get("secret")?;
    let secret = secret.try_into().map_err(|_| sqlx::Error::Decode("a secret has 32 bytes".into()))?;
    Ok(Home { region: row.try_get("home_region")?, secret })
}

/// A snapshot in which everything is visible.
pub(super) const FAR_FUTURE: &str = "9000000000000000000:9000000000000000000:";

/// What one look at the ledger brought.
pub(super) struct Look {
    /// The life of the database that numbers and snapshots belong to; `None`: nobody has named it yet.
    pub(super) era: Option<String>,
    /// The snapshot of this look, for the next one.
    pub(super) snapshot: String,
    /// When the statement's transaction began, so not after its snapshot. (`statement_timestamp()` may be after it: it is set
    /// again when a prepared statement is executed.)
    pub(super) statement: DbTime,
    /// Names changed since the last look, with their numbers.
    pub(super) changes: Vec<Label>,
    /// Whether these are all of them. If not, any name may have changed.
    pub(super) complete: bool,
    /// When these numbers were raised, each a little before its commit or, in a long transaction, long before.
    pub(super) raised_at: Vec<DbTime>,
}

/// The statement of a look.
static LOOK: LazyLock<String> = LazyLock::new(|| {
    format!(
        "with changes as (
             select name, ver, at from cache_ledger where xid >= pg_snapshot_xmax($1::pg_snapshot)
             union all
             select name, ver, at from cache_ledger
             where xid = any (array(select pg_snapshot_xip($1::pg_snapshot)))
             limit $2 + 1
         )
         select {ERA} as era, pg_current_snapshot()::text as snapshot, now() as statement, name, ver, at as raised_at
         from (select 1) as always left join changes on true"
    )
});

/// Changes that a look brings one by one. The time of a look is bounded so, however much was changed.
pub(super) const MOST_CHANGES: i64 = 10_000;
/// The same for the look with which an instance begins: what it can't learn by name it must load.
pub(super) const MOST_CHANGES_AT_START: i64 = 100_000;

/// A connection of its own to look at the ledger: a busy pool must not make an instance lose its trust.
pub(super) struct Looker {
    db: PgConnection,
    /// The highest version that a look has brought.
    highest: i64,
}

impl Looker {
    /// Connects; every statement ends after `limit` at the latest, and takes the index also where a table that was just filled has
    /// no statistics yet. A plan that must do without an index counts as costly then, and compiling it would take longer than `limit`.
    /// Each statement is planned once: for a snapshot that it knows, Postgres would plan every look anew.
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
    pub(super) fn db(&mut self) -> &mut PgConnection {
        &mut self.db
    }

    /// Everything committed that was not visible in the snapshot `since`. `xid >= xmax or xid in xip` is exactly that, so every
    /// change is seen once whatever the order of commits, and a long transaction costs nothing. Two index scans: as one
    /// condition it would read the whole table. It brings `most` changes at most. On a standby, whose answers prove nothing, the
    /// statement fails or names no epoch.
    pub(super) async fn look(&mut self, since: &str, most: i64) -> Result<Look, sqlx::Error> {
        let rows = sqlx::query(LOOK.as_str()).bind(since).bind(most).fetch_all(&mut self.db).await?;
        let first = rows.first().ok_or(sqlx::Error::RowNotFound)?;
        let changes = || rows.iter().filter(|row| has_name(row));
        let labels: Vec<Label> = changes().map(label).collect::<Result<_, _>>()?;
        self.highest = labels.iter().map(|label| label.version).max().unwrap_or(0).max(self.highest);
        Ok(Look {
            era: first.try_get("era")?,
            snapshot: first.try_get("snapshot")?,
            statement: first.try_get("statement")?,
            complete: labels.len() as i64 <= most,
            changes: labels,
            raised_at: changes().map(|row| row.try_get("raised_at")).collect::<Result<_, _>>()?,
        })
    }

    /// The snapshot to begin with: the newest that is older than any entry that may be served; else the oldest there is, with
    /// the moment before which entries must be refused.
    pub(super) async fn horizon(&mut self) -> Result<Option<(String, DbTime)>, sqlx::Error> {
        let sql = format!(
            "select snap::text as snapshot, taken_at
             from (
                 (select *, 1 as choice from cache_horizon
                  where life = {ERA} and taken_at < clock_timestamp() - $1 * interval '1 second'
                  order by taken_at desc limit 1)
                 union all
                 (select *, 2 from cache_horizon where life = {ERA} order by taken_at limit 1)
             ) as candidates
             order by choice limit 1"
        );
        let memory = Fence::memory().as_secs_f64();
        let row = sqlx::query(AssertSqlSafe(sql)).bind(memory).fetch_optional(&mut self.db).await?;
        row.map(|row| Ok((row.try_get("snapshot")?, row.try_get("taken_at")?))).transpose()
    }

    /// Names the epoch, if nobody has yet, and makes rows of another one (a dump restored into a younger cluster brings transaction
    /// ids that lie ahead) changes of this one. Where nothing is to be done it writes nothing, so a read-only server is no
    /// hindrance.
    ///
    /// # Errors
    /// When the database can't be asked, or is a standby.
    pub(super) async fn name_era(&mut self) -> Result<(), sqlx::Error> {
        let ask = format!(
            "select {ERA} as era, pg_is_in_recovery() as standby,
                 exists (select from cache_ledger where xid >= pg_snapshot_xmax(pg_current_snapshot())) as foreign"
        );
        let row = sqlx::query(AssertSqlSafe(ask)).fetch_one(&mut self.db).await?;
        if row.try_get("standby")? {
            return Err(sqlx::Error::Protocol("the server is a standby".into()));
        }
        if row.try_get::<Option<String>, _>("era")?.is_none() {
            self.begin_era().await?;
        }
        if row.try_get("foreign")? {
            let own = "update cache_ledger set xid = pg_current_xact_id() where xid >= pg_snapshot_xmax(pg_current_snapshot())";
            sqlx::query(own).execute(&mut self.db).await?;
        }
        Ok(())
    }

    /// Replaces the rows of other epochs by one of this run of this server. Instances that do so at the same time agree on one row:
    /// the key of the table sees to it. While a restore has not made that key yet there may be two rows, and then they begin anew.
    async fn begin_era(&mut self) -> Result<(), sqlx::Error> {
        // A ledger that was moved by copying its rows left its sequence behind. The next versions must be above all of its own, by
        // so much that those which writers take meanwhile don't matter.
        let sequence = "select setval('cache_ver', highest + 1000000)
            from (select max(ver) as highest from cache_ledger) as ledger, cache_ver where highest > last_value";
        sqlx::query(sequence).execute(&mut self.db).await?;
        let mut transaction = self.db.begin_with("begin isolation level read committed").await?;
        sqlx::query("delete from cache_era where cache_life() is null").execute(&mut *transaction).await?;
        sqlx::query("insert into cache_era select where cache_life() is null on conflict do nothing")
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await
    }

    /// Leaves what instances that start later need, and removes what nobody needs any more.
    pub(super) async fn keep_house(&mut self) -> Result<(), sqlx::Error> {
        self.mark_horizon().await?;
        self.remove_quiet().await?;
        self.expect_versions_to_rise().await
    }

    /// Begins another epoch if the sequence was set back: versions would be given a second time.
    async fn expect_versions_to_rise(&mut self) -> Result<(), sqlx::Error> {
        let sql = "select setval('cache_ver', $1 + 1000000) from cache_ver where last_value < $1";
        if sqlx::query(sql).bind(self.highest).fetch_optional(&mut self.db).await?.is_some() {
            tracing::error!(highest = self.highest, "the sequence cache_ver was set back: all tiers begin anew");
            sqlx::query("update cache_era set id = gen_random_uuid()").execute(&mut self.db).await?;
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
    async fn mark_horizon(&mut self) -> Result<(), sqlx::Error> {
        let sql = format!(
            "with old as (
                 delete from cache_horizon
                 where taken_at < clock_timestamp() - 3 * $1 * interval '1 second'
             )
             insert into cache_horizon (life, snap)
             select era, pg_current_snapshot() from (select {ERA} as era) as now
             where era is not null and not exists
                 (select 1 from cache_horizon where life = era and taken_at > clock_timestamp() - interval '5 seconds')"
        );
        sqlx::query(AssertSqlSafe(sql)).bind(Fence::memory().as_secs_f64()).execute(&mut self.db).await?;
        Ok(())
    }

    /// Removes some rows of names that have been quiet for twice as long as any entry or floor lives: without a row a name's number is
    /// 0, and by then nothing remembers a higher one. Numbers come from one sequence, so the next change is above all of them.
    async fn remove_quiet(&mut self) -> Result<(), sqlx::Error> {
        let sql = format!(
            "delete from cache_ledger where ctid = any (array(
                 select ctid from cache_ledger
                 where xid < (select pg_snapshot_xmin(snap) from cache_horizon
                              where life = {ERA} and taken_at < clock_timestamp() - 2 * $1 * interval '1 second'
                              order by taken_at desc limit 1)
                 order by xid limit 1000 for update skip locked))"
        );
        sqlx::query(AssertSqlSafe(sql)).bind(Fence::memory().as_secs_f64()).execute(&mut self.db).await?;
        Ok(())
    }
}

/// Whether a row is more than the one that always comes.
fn has_name(row: &PgRow) -> bool {
    row.try_get::<Option<String>, _>("name").is_ok_and(|name| name.is_some())
}

fn label(row: &PgRow) -> Result<Label, sqlx::Error> {
    Ok(Label { name: Name::from_ledger(row.try_get("name")?), version: row.try_get("ver")? })
}
