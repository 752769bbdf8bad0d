//! The tables of the test's database with their rows, and the changes that are tried on them.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{AssertSqlSafe, PgPool, Row as _};

use super::change::{Change, Row};

/// The largest number of rows of a table that are changed.
const MAX_ROWS: i64 = 24;
/// The largest number of values of other rows that are tried for one column.
const MAX_VALUES: usize = 3;

struct Column {
    name: String,
    /// The type, as in SQL.
    kind: String,
    is_nullable: bool,
    is_generated: bool,
    /// Values that the column may have: labels of its type, values of the parent, and texts of its
    /// constraints.
    candidates: Vec<String>,
}

struct StoredRow {
    /// The condition that selects the row.
    place: String,
    json: String,
    values: Row,
}

struct Table {
    /// The name, as in SQL.
    name: String,
    is_tracked: bool,
    columns: Vec<Column>,
    rows: Vec<StoredRow>,
    /// SQL that drops the foreign keys of other tables that refer to this one. Their actions would
    /// raise tags that the change itself forgets.
    unreferenced: String,
    /// For each foreign key, its columns, and the values of the parent's rows.
    parents: Vec<(Vec<String>, Vec<Vec<String>>)>,
}

pub(super) struct Catalog(Vec<Table>);

impl Catalog {
    /// Reads these tables, or all tables of the schema except those of the cache and of migrations.
    pub(super) async fn read(db: &PgPool, only: Option<&[String]>) -> Self {
        let sql = "select relation.oid::regclass::text, exists (
                with recursive above as (
                    select relation.oid as oid union select inhparent from pg_inherits join above on inhrelid = above.oid)
                select from cache_tracked join above on above.oid = tracked)
            from pg_class relation
            where relkind in ('r', 'p') and relnamespace = current_schema()::regnamespace
                and relname not like 'cache\\_%' and relname <> '_sqlx_migrations'
            order by 1";
        let named: Vec<(String, bool)> = sqlx::query_as(sql).fetch_all(db).await.expect("the tables");
        let mut tables = Vec::new();
        for (name, is_tracked) in named {
            if only.is_none_or(|only| only.contains(&name)) {
                tables.push(Table::read(db, name, is_tracked).await);
            }
        }
        Self(tables)
    }

    /// All changes, table by table.
    pub(super) fn changes(&self) -> Vec<Change> {
        self.0.iter().flat_map(Table::changes).collect()
    }
}

impl Table {
    async fn read(db: &PgPool, name: String, is_tracked: bool) -> Self {
        let (columns, rows) = (columns(db, &name).await, rows(db, &name).await);
        let sql = format!(
            "select coalesce(string_agg(format('alter table %s drop constraint %I;', conrelid::regclass, conname), ' '), '')
             from pg_constraint where confrelid = '{name}'::regclass and contype = 'f' and conparentid = 0"
        );
        let unreferenced = text(db, &sql).await;
        let parents = parents(db, &name).await;
        Self { name, is_tracked, columns, rows, unreferenced, parents }
    }

    fn changes(&self) -> Vec<Change> {
        let mut changes = Vec::new();
        if let Some(row) = self.rows.first() {
            let truncated = self.change("truncated", None, format!("truncate {}", self.name), row);
            changes.push(Change { counts_no_rows: true, ..truncated });
        }
        for row in &self.rows {
            let gone = format!("delete from {} where {}", self.name, row.place);
            let back = format!("set local aside.invalidates = off; {}", self.insert(row));
            let quietly = format!("set local aside.invalidates = 'on'; {gone}");
            changes.push(self.change("a row goes", None, gone, row));
            changes.push(self.change("a row comes", Some(quietly), back, row));
            changes.extend(self.columns.iter().flat_map(|column| self.column_changes(row, column)));
            changes.extend(self.moves(row));
        }
        changes
    }

    /// The changes of one column of a row.
    fn column_changes(&self, row: &StoredRow, column: &Column) -> Vec<Change> {
        if column.is_generated {
            return Vec::new();
        }
        let Column { name, kind, .. } = column;
        let others = self.rows.iter().filter_map(|other| other.values.get(name)?.clone());
        let values: BTreeSet<String> = others.take(MAX_VALUES).chain(column.candidates.iter().cloned()).collect();
        let own = row.values.get(name).cloned().flatten();
        let mut expressions: Vec<String> = values
            .into_iter()
            .filter(|value| Some(value) != own.as_ref())
            .map(|value| format!("{}::{kind}", quoted(&value)))
            .collect();
        expressions.extend(new_value(name, kind, own.is_none()));
        if column.is_nullable && own.is_some() {
            expressions.push("null".to_owned());
        }
        let update = |value: String| {
            let sql = format!("update {} set \"{name}\" = {value} where {}", self.name, row.place);
            Change { name: format!("{}.{name}", self.name), ..self.change("", None, sql, row) }
        };
        expressions.into_iter().map(update).collect()
    }

    /// The row as a child of each other parent.
    fn moves(&self, row: &StoredRow) -> Vec<Change> {
        let mut moves = Vec::new();
        for (columns, parents) in self.parents.iter().filter(|(columns, _)| columns.len() > 1) {
            for parent in parents {
                let set: Vec<String> = columns
                    .iter()
                    .zip(parent)
                    .map(|(column, value)| format!("\"{column}\" = {}", quoted(value)))
                    .collect();
                let sql = format!("update {} set {} where {}", self.name, set.join(", "), row.place);
                moves.push(self.change("a row moves to another parent", None, sql, row));
            }
        }
        moves
    }

    fn change(&self, what: &str, prepare: Option<String>, sql: String, row: &StoredRow) -> Change {
        let prepare = match (self.unreferenced.as_str(), prepare) {
            ("", prepare) => prepare,
            (keys, prepare) => Some(format!("{keys} {}", prepare.unwrap_or_default())),
        };
        Change {
            name: format!("{}: {what}", self.name),
            table: Some(self.name.clone()),
            prepare,
            sql,
            values: self.values(row),
            counts_no_rows: false,
            is_tracked: self.is_tracked,
        }
    }

    /// The values of a row and of its parents, of which tags are made.
    fn values(&self, row: &StoredRow) -> Vec<String> {
        let names = self.columns.iter().map(|column| column.name.clone());
        row.values.values().flatten().cloned().chain(names).collect()
    }

    fn insert(&self, row: &StoredRow) -> String {
        let columns: Vec<String> =
            self.columns.iter().filter(|c| !c.is_generated).map(|c| format!("\"{}\"", c.name)).collect();
        let columns = columns.join(", ");
        format!(
            "insert into {0} ({columns}) overriding system value select {columns} from jsonb_populate_record(null::{0}, {1}::jsonb)",
            self.name,
            quoted(&row.json)
        )
    }
}

async fn columns(db: &PgPool, table: &str) -> Vec<Column> {
    let sql = format!(
        "select attname::text as name, format_type(atttypid, atttypmod) as kind, not attnotnull as is_nullable,
             attgenerated <> '' as is_generated,
             array(select enumlabel::text from pg_enum where enumtypid = atttypid)
             || array(select part[1] from pg_constraint,
                    regexp_matches(pg_get_constraintdef(oid), '''([^'']*)''::', 'g') as part
                    where conrelid = attrelid and contype = 'c' and conkey = array[attnum]) as candidates
         from pg_attribute where attrelid = '{table}'::regclass and attnum > 0 and not attisdropped order by attnum"
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(db).await.expect("the columns");
    let column = |row: sqlx::postgres::PgRow| Column {
        name: row.get("name"),
        kind: row.get("kind"),
        is_nullable: row.get("is_nullable"),
        is_generated: row.get("is_generated"),
        candidates: row.get("candidates"),
    };
    let mut columns: Vec<Column> = rows.into_iter().map(column).collect();
    // A column that alone refers to a parent may have the values of the parent's rows.
    for (names, values) in parents(db, table).await {
        if let ([name], Some(column)) = (&names[..], columns.iter_mut().find(|column| names == [column.name.clone()])) {
            debug_assert_eq!(*name, column.name);
            column.candidates.extend(values.into_iter().flatten());
        }
    }
    columns
}

async fn rows(db: &PgPool, table: &str) -> Vec<StoredRow> {
    let sql = format!(
        "select format('tableoid = %s and ctid = %L', tableoid, ctid) as place, to_jsonb(changed)::text as json,
             array(select key from jsonb_each_text(to_jsonb(changed)) order by key) as names,
             array(select value from jsonb_each_text(to_jsonb(changed)) order by key) as values
         from {table} as changed order by 2 limit {MAX_ROWS}"
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(db).await.expect("the rows");
    let row = |row: sqlx::postgres::PgRow| {
        let (names, values): (Vec<String>, Vec<Option<String>>) = (row.get("names"), row.get("values"));
        let values: BTreeMap<String, Option<String>> = names.into_iter().zip(values).collect();
        StoredRow { place: row.get("place"), json: row.get("json"), values }
    };
    rows.into_iter().map(row).collect()
}

/// The columns of each foreign key of a table, with the values that the parent's rows have.
async fn parents(db: &PgPool, table: &str) -> Vec<(Vec<String>, Vec<Vec<String>>)> {
    let sql = format!(
        "select confrelid::regclass::text, array(select attname::text from unnest(conkey) with ordinality as k (n, place)
                 join pg_attribute on attrelid = conrelid and attnum = n order by place),
             array(select attname::text from unnest(confkey) with ordinality as k (n, place)
                 join pg_attribute on attrelid = confrelid and attnum = n order by place)
         from pg_constraint where conrelid = '{table}'::regclass and contype = 'f'"
    );
    let keys: Vec<(String, Vec<String>, Vec<String>)> =
        sqlx::query_as(AssertSqlSafe(sql)).fetch_all(db).await.expect("the foreign keys");
    let mut parents = Vec::new();
    for (parent, columns, referenced) in keys {
        let list: Vec<String> = referenced.iter().map(|column| format!("\"{column}\"::text")).collect();
        let sql = format!("select array[{}] from {parent} order by 1 limit {MAX_VALUES}", list.join(", "));
        let values = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(db).await.expect("the parents");
        parents.push((columns, values));
    }
    parents
}

async fn text(db: &PgPool, sql: &str) -> String {
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(db).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

fn quoted(value: &str) -> String {
    // The escape form, because a value may contain a backslash.
    format!("E'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

/// Expressions of new values of a type. A text keeps its shape, so that most constraints accept it.
fn new_value(column: &str, kind: &str, is_null: bool) -> Vec<String> {
    const FROM: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    const TO: &str = "bcdefghijklmnopqrstuvwxyzaBCDEFGHIJKLMNOPQRSTUVWXYZA1234567890";
    let kind = kind.split('(').next().unwrap_or(kind).trim();
    let (from_old, from_null) = match kind {
        "smallint" | "integer" | "bigint" | "numeric" | "real" | "double precision" => ("{} + 1".to_owned(), "1"),
        "text" | "character varying" | "character" => (format!("translate({{}}, '{FROM}', '{TO}')"), "'new'"),
        "boolean" => ("not {}".to_owned(), "true"),
        "date" => ("{} + 1".to_owned(), "current_date"),
        _ if kind.starts_with("timestamp") => ("{} + interval '1 day'".to_owned(), "clock_timestamp()"),
        "interval" => ("{} + interval '1 day'".to_owned(), "interval '1 day'"),
        "uuid" => ("gen_random_uuid()".to_owned(), "gen_random_uuid()"),
        "json" | "jsonb" => ("jsonb_build_object('aside', 'changed')".to_owned(), "'{}'"),
        "bytea" => ("{} || '\\x00'".to_owned(), "'\\x00'"),
        _ if kind.ends_with("[]") => ("{} || {}".to_owned(), "'{}'"),
        _ => return Vec::new(),
    };
    vec![if is_null { from_null.to_owned() } else { from_old.replace("{}", &format!("\"{column}\"")) }]
}
