//! The SQL that raises versions: in a write's transaction, or together with a change.

use std::{
    borrow::Cow,
    collections::BTreeSet,
    sync::{Arc, LazyLock, atomic::AtomicBool},
};

use sqlx::{Arguments, PgConnection, Row, postgres::PgRow};

use super::tag_version;
use crate::{
    database::{pool::ConnectionPool, statement::Statement},
    entry::TagVersion,
    key::Tag,
};

/// The largest number of tags that one write raises one by one. For more tags it raises their
/// patterns, as `cache_raise` does.
const MAX_TAGS: usize = 1_000;

/// Raises the version of every tag of `invalidated`. The tags are sorted, because two writers that
/// lock the same rows in different orders deadlock.
fn raise(invalidated: &str) -> String {
    format!(
        "insert into cache_ledger as ledger (tag, version)
         select tag, nextval('cache_version') from {invalidated} order by tag
         on conflict (tag) do update set version = greatest(nextval('cache_version'), ledger.version + 1), xid = pg_current_xact_id(),
             at = clock_timestamp()
         returning tag, version"
    )
}

static RAISE: LazyLock<String> = LazyLock::new(|| raise("unnest($1::text[]) as invalidated (tag)"));

/// The tags that a write raises: these, or their patterns if they are too many.
fn bounded(tags: &BTreeSet<Tag>) -> Cow<'_, BTreeSet<Tag>> {
    if tags.len() > MAX_TAGS {
        return Cow::Owned(tags.iter().map(Tag::pattern_wildcard).collect());
    }
    Cow::Borrowed(tags)
}

/// Raises the version of every tag, in the transaction of `db`. It takes one statement.
pub(crate) async fn bump(db: &mut PgConnection, tags: &BTreeSet<Tag>) -> Result<Vec<TagVersion>, sqlx::Error> {
    let tags = bounded(tags);
    let names: Vec<&str> = tags.iter().map(Tag::as_str).collect();
    let rows = sqlx::query(RAISE.as_str()).bind(names).fetch_all(db).await?;
    rows.iter().map(tag_version).collect()
}

/// Executes a statement that changes rows and, if it changed any, raises the version of every tag.
/// Both are one statement and thus one transaction. Returns the first changed row and the versions.
///
/// All rows are changed, and so locked, before the first tag is. The triggers for other writers run
/// at the end of the statement and do nothing. `is_sent` is set when the statement is sent.
pub(crate) async fn change_and_raise(
    db: &ConnectionPool,
    change: &Statement,
    tags: &BTreeSet<Tag>,
    is_sent: Arc<AtomicBool>,
) -> Result<Option<(PgRow, Vec<TagVersion>)>, sqlx::Error> {
    let tags = bounded(tags);
    let mut arguments = change.arguments();
    let last = arguments.len() + 1;
    arguments.add(tags.iter().map(Tag::as_str).collect::<Vec<_>>()).map_err(sqlx::Error::Encode)?;
    let sql = format!(
        "with changed as ({}), raised as ({})
         select changed.*, (select count(*) from changed) as \"cache.changed\",
             array(select version from raised order by tag collate \"C\") as \"cache.versions\"
         from (select set_config('aside.invalidates', 'on', true)) as quiet left join changed on true limit 1",
        change.text(),
        raise(&format!("unnest(${last}::text[]) as invalidated (tag) where (select count(*) from changed) > 0")),
    );
    let row = db.fetch_row(Statement::write(sql, arguments, is_sent)).await?;
    if row.try_get::<i64, _>("cache.changed")? == 0 {
        return Ok(None);
    }
    // A set of tags has the order of their bytes.
    let versions: Vec<i64> = row.try_get("cache.versions")?;
    let raised = tags.iter().zip(versions).map(|(tag, version)| TagVersion { tag: tag.clone(), version }).collect();
    Ok(Some((row, raised)))
}
