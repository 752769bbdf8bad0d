//! Runs a caller's plain select so that its rows, the versions of the tags on which the answer
//! depends, and the read time come from one snapshot.
//!
//! The select becomes a subquery, so Postgres plans it as it stands. A read of one row has the
//! versions beside its columns. If there is no row, the select is repeated below a head row that is
//! always returned: an absence needs its versions and its read time too, and both statements must
//! not mix snapshots. The order of a list is kept by numbering its rows.

use std::fmt::Write;

use sqlx::{
    Arguments, AssertSqlSafe, FromRow, Postgres, Row,
    postgres::{PgArguments, PgRow},
    query::QueryAs,
};

use crate::{
    ConnectionPool,
    database::{read_at::READ_AT, statement::Statement},
    entry::{DbTime, Loaded, TagVersion},
    key::Tag,
};

/// A caller's select.
#[derive(Clone)]
pub(crate) struct Select {
    statement: Statement,
    /// The column with the end of the answer.
    end: Option<&'static str>,
}

/// The tag of each row of a list: a pattern, and the column that identifies the row.
#[derive(Clone, Copy)]
pub(crate) struct RowTag {
    pub(crate) pattern: &'static str,
    pub(crate) column: &'static str,
}

impl RowTag {
    /// An expression for the tag of a row of `numbered`.
    fn expression(self) -> String {
        format!("'{}:' || {}", self.pattern, segment(&format!("numbered.{}", quoted(self.column))))
    }
}

impl Select {
    /// Takes the statement and the arguments of a query.
    pub(crate) fn new<R>(query: QueryAs<'_, Postgres, R, PgArguments>) -> Result<Self, sqlx::Error>
    where
        R: Send,
    {
        Ok(Self { statement: Statement::new(query)?, end: None })
    }

    /// Names the column whose earliest value is the end of the answer.
    pub(crate) fn ending(self, end: Option<&'static str>) -> Self {
        Self { end, ..self }
    }

    /// The earliest end of these rows.
    fn end(&self, rows: &[PgRow]) -> Result<Option<DbTime>, sqlx::Error> {
        let Some(column) = self.end else { return Ok(None) };
        let ends: Vec<Option<DbTime>> = rows.iter().map(|row| row.try_get(column)).collect::<Result<_, _>>()?;
        Ok(ends.into_iter().flatten().min())
    }

    /// The first row of the select, or the absence of one.
    pub(crate) async fn load_one<T>(&self, pool: &ConnectionPool, tags: &[Tag]) -> Result<Loaded<T>, sqlx::Error>
    where
        T: for<'r> FromRow<'r, PgRow>,
    {
        let versions = self.versions(tags.len());
        let rows = self.run(self.with_columns(&versions), tags, pool).await?;
        if let Some(row) = rows.first() {
            return Ok(Loaded { valid_until: self.end(&rows)?, ..loaded(row, tags, Some(T::from_row(row)?))? });
        }
        let rows = self.run(self.below_head(&versions, None), tags, pool).await?;
        let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
        let value = is_there(row)?.then(|| T::from_row(row)).transpose()?;
        Ok(Loaded { valid_until: self.end(&rows)?, ..loaded(row, tags, value)? })
    }

    /// All rows of the select, in their order. With `row_tag`, the answer depends on each of them.
    pub(crate) async fn load_list<R>(
        &self,
        pool: &ConnectionPool,
        tags: &[Tag],
        row_tag: Option<RowTag>,
    ) -> Result<Loaded<Vec<R>>, sqlx::Error>
    where
        R: for<'r> FromRow<'r, PgRow>,
    {
        let statement = self.below_head(&self.versions(tags.len()), row_tag);
        let mut rows = self.run(statement, tags, pool).await?;
        rows.sort_by_key(|row| row.try_get::<Option<i64>, _>("cache.row").ok().flatten());
        let head = rows.first().ok_or(sqlx::Error::RowNotFound)?;
        let Loaded { mut tag_versions, loaded_at, .. } = loaded::<()>(head, tags, None)?;
        let mut found = Vec::with_capacity(rows.len());
        for row in &rows {
            if !is_there(row)? {
                continue;
            }
            found.push(R::from_row(row)?);
            if row_tag.is_some() {
                let tag = Tag::from_ledger(row.try_get("cache.row_tag")?);
                tag_versions.push(TagVersion { tag, version: row.try_get("cache.row_version")? });
            }
        }
        Ok(Loaded { value: Some(found), tag_versions, loaded_at, valid_until: self.end(&rows)? })
    }

    /// The rows of the select by the tags of their keys, of which there are as many as answers. A
    /// tag ends with the escaped value of `column` in its row.
    pub(crate) async fn load_rows<T>(
        &self,
        pool: &ConnectionPool,
        tags: &[Tag],
        column: &str,
    ) -> Result<Vec<Loaded<T>>, sqlx::Error>
    where
        T: for<'r> FromRow<'r, PgRow>,
    {
        let segment = segment(&format!("numbered.{}", quoted(column)));
        let statement = format!(
            "select q.*, head.*, asked.at as \"cache.at\",
                 coalesce((select version from cache_ledger where tag = asked.tag), 0) as \"cache.version_0\"
             from (select {READ_AT} as \"cache.read_at\") as head
             cross join unnest(${}::text[]) with ordinality as asked (tag, at)
             left join (
                 select numbered.*, {segment} as \"cache.segment\", row_number() over () as \"cache.row\"
                 from ({}) as numbered
             ) as q on right(asked.tag, length(q.\"cache.segment\") + 1) = ':' || q.\"cache.segment\"
             order by asked.at",
            self.statement.arguments().len() + 1,
            self.statement.text()
        );
        let mut arguments = self.statement.arguments();
        arguments.add(tags.iter().map(Tag::as_str).collect::<Vec<_>>()).map_err(sqlx::Error::Encode)?;
        let rows = sqlx::query_with(AssertSqlSafe(statement), arguments).fetch_all(pool).await?;
        if rows.len() != tags.len() {
            return Err(sqlx::Error::Protocol(format!("the select has several rows with the same {column}")));
        }
        let one = |(row, tag): (&PgRow, &Tag)| {
            let value = is_there(row)?.then(|| T::from_row(row)).transpose()?;
            loaded(row, std::slice::from_ref(tag), value)
        };
        rows.iter().zip(tags).map(one).collect()
    }

    /// The first row of the select, with columns for the versions and the read time.
    fn with_columns(&self, versions: &str) -> String {
        format!("select q.*, {READ_AT} as \"cache.read_at\"{versions} from ({}) as q limit 1", self.statement.text())
    }

    /// The select below a head row that is always returned.
    fn below_head(&self, versions: &str, row_tag: Option<RowTag>) -> String {
        let (row, row_version) = row_tag.map_or_else(Default::default, |row_tag| {
            let tag = format!(", {} as \"cache.row_tag\"", row_tag.expression());
            let version = ", coalesce((select version from cache_ledger where tag = q.\"cache.row_tag\"), 0) \
                           as \"cache.row_version\"";
            (tag, version)
        });
        // Columns of the select come first, so that a tuple can be read from the row too.
        format!(
            "select q.*, head.*{row_version} from (select {READ_AT} as \"cache.read_at\"{versions}) as head
             left join lateral (
                 select numbered.*, row_number() over () as \"cache.row\"{row} from ({}) as numbered
             ) as q on true",
            self.statement.text()
        )
    }

    /// A column for the version of each tag. The tags are the last arguments.
    fn versions(&self, tags: usize) -> String {
        let first = self.statement.arguments().len() + 1;
        (0..tags).fold(String::new(), |mut columns, at| {
            // Writing to a `String` does not fail.
            let _ = write!(
                columns,
                ", coalesce((select version from cache_ledger where tag = ${}), 0) as \"cache.version_{at}\"",
                first + at
            );
            columns
        })
    }

    async fn run(&self, statement: String, tags: &[Tag], pool: &ConnectionPool) -> Result<Vec<PgRow>, sqlx::Error> {
        let mut arguments = self.statement.arguments();
        for tag in tags {
            arguments.add(tag.as_str()).map_err(sqlx::Error::Encode)?;
        }
        sqlx::query_with(AssertSqlSafe(statement), arguments).fetch_all(pool).await
    }
}

/// A column's name as an SQL identifier.
fn quoted(column: &str) -> String {
    format!("\"{}\"", column.replace('"', "\"\""))
}

/// An SQL expression for the segment of a tag that has the value of `column`.
fn segment(column: &str) -> String {
    format!("case when {column}::text ~ '^[A-Za-z0-9._-]*$' then {column}::text else cache_segment({column}::text) end")
}

fn loaded<T>(row: &PgRow, tags: &[Tag], value: Option<T>) -> Result<Loaded<T>, sqlx::Error> {
    let version = |(at, tag): (usize, &Tag)| {
        let version = row.try_get(format!("cache.version_{at}").as_str())?;
        Ok(TagVersion { tag: tag.clone(), version })
    };
    let tag_versions = tags.iter().enumerate().map(version).collect::<Result<_, sqlx::Error>>()?;
    let loaded_at: DbTime = row.try_get("cache.read_at")?;
    Ok(Loaded { value, tag_versions, loaded_at, valid_until: None })
}

/// Whether a row below the head row is one of the select.
fn is_there(row: &PgRow) -> Result<bool, sqlx::Error> {
    Ok(row.try_get::<Option<i64>, _>("cache.row")?.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words of a statement, so that line breaks do not matter. Statements for pgbench have
    /// their variables instead of arguments.
    fn words(statement: &str) -> Vec<String> {
        let lines = statement.lines().filter(|line| !line.starts_with('\\'));
        let words = lines.flat_map(str::split_whitespace).map(|word| word.trim_end_matches(';').to_owned());
        words.filter(|word| !word.is_empty()).collect()
    }

    fn select(sql: &str, arguments: usize) -> Select {
        let mut bound = PgArguments::default();
        (0..arguments).for_each(|_| bound.add(1_i64).expect("an argument"));
        Select::new(sqlx::query_as_with::<_, (i64,), _>(AssertSqlSafe(sql.to_owned()), bound)).expect("a statement")
    }

    #[test]
    fn the_cost_of_wrapped_selects_is_measured_with_these_statements() {
        let plain = include_str!("../../../../scripts/load-cost/one-plain.sql");
        let plain = plain.split_once('\n').expect("a line of pgbench").1.replace(":id", "$1");
        let one = select(&plain, 1);
        let one = one.with_columns(&one.versions(1)).replace("$2", "'product:' || :id").replace("$1", ":id");
        assert_eq!(words(&one), words(include_str!("../../../../scripts/load-cost/one-wrapped.sql")));
        let plain = include_str!("../../../../scripts/load-cost/page-plain.sql");
        let plain = plain.split_once("rows 21\n").expect("lines of pgbench").1;
        let page = select(plain, 0);
        let page = page.below_head(&page.versions(1), Some(RowTag { pattern: "product", column: "id" }));
        let page = page.replace("$1", "E'product-list\\x3acategory\\x3aCATEGORY' || :n");
        assert_eq!(words(&page), words(include_str!("../../../../scripts/load-cost/page-wrapped.sql")));
    }
}
