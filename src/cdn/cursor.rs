//! The purger's state in the database: which instance purges, and the cursor up to which all
//! changes were purged. The migration `0007_cdn_cursor.sql` creates its table.

use sqlx::{PgConnection, Row};

use aside_cache::{ChangeCursor, DbTime};

/// Makes this connection's instance the active purger for as long as the connection lives. It
/// returns `false` if another instance is active. The server closes an idle connection after a
/// time, so an instance that is frozen or disconnected releases the role.
pub(super) async fn claim(db: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query("set idle_session_timeout = '15s'").execute(&mut *db).await?;
    sqlx::query_scalar("select pg_try_advisory_lock(hashtextextended('aside.cdn', 0))").fetch_one(db).await
}

/// Prevents the connection from becoming idle.
pub(super) async fn keep(db: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("select 1").execute(db).await.map(drop)
}

/// The cursor up to which all changes were purged; `None` if it is unknown.
pub(super) async fn recall(db: &mut PgConnection) -> Result<Option<ChangeCursor>, sqlx::Error> {
    let sql = "select epoch, snap::text as snap, (extract(epoch from at) * 1000000)::bigint as at from cdn_cursor";
    let row = sqlx::query(sql).fetch_optional(db).await?;
    let cursor = |row: sqlx::postgres::PgRow| {
        Ok(ChangeCursor {
            epoch: row.try_get("epoch")?,
            snapshot: row.try_get("snap")?,
            at: DbTime(row.try_get("at")?),
        })
    };
    row.map(cursor).transpose()
}

/// Stores the cursor up to which all changes were purged.
pub(super) async fn remember(db: &mut PgConnection, cursor: &ChangeCursor) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into cdn_cursor (epoch, snap, at)
         values ($1, $2::pg_snapshot, timestamptz 'epoch' + $3 * interval '1 microsecond')
         on conflict (one) do update set epoch = excluded.epoch, snap = excluded.snap, at = excluded.at",
    )
    .bind(&cursor.epoch)
    .bind(&cursor.snapshot)
    .bind(cursor.at.0)
    .execute(db)
    .await
    .map(drop)
}
