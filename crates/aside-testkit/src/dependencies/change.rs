//! One change of the test's data, as SQL.

use std::collections::BTreeMap;

/// The end of the names of changes that are replicated.
pub(super) const REPLICATED: &str = " (replicated)";

/// The way in which a change reaches Postgres.
#[derive(Clone, Copy)]
pub(super) enum Writer {
    /// A statement of a session, such as psql or another program.
    Session,
    /// The worker that applies logical replication. It fires only triggers of rows.
    Replication,
}

/// One change.
pub(super) struct Change {
    /// The name in reports, such as `products.price_cents`.
    pub(super) name: String,
    /// The changed table. `None` for a write of the service.
    pub(super) table: Option<String>,
    /// SQL that runs before, and that is not a part of the change.
    pub(super) prepare: Option<String>,
    pub(super) sql: String,
    /// The values of the changed row, by which the expected tag is found.
    pub(super) values: Vec<String>,
    /// Whether the statement reports no number of rows.
    pub(super) counts_no_rows: bool,
    /// Whether the table has triggers for logical replication.
    pub(super) is_tracked: bool,
}

/// A change that is known by its name only: a write of the service.
pub(super) fn named(name: String) -> Change {
    let (table, prepare, sql, values) = (None, None, name.clone(), Vec::new());
    Change { name, table, prepare, sql, values, counts_no_rows: false, is_tracked: false }
}

impl Change {
    /// Whether logical replication is to be tried too. It applies no truncation by row triggers.
    pub(super) fn is_replicated(&self) -> bool {
        self.is_tracked && !self.counts_no_rows
    }

    /// SQL that makes the session one in which only the triggers for logical replication fire.
    pub(super) fn as_replication(&self) -> String {
        format!(
            "do $$ declare fires text; begin
                 for fires in select tgname from pg_trigger where tgrelid = '{}'::regclass and not tgisinternal and (tgtype & 1) = 0 loop
                     execute format('alter table {0} disable trigger %I', fires);
                 end loop;
             end $$;
             set local session_replication_role = replica",
            self.table.as_deref().unwrap_or_default()
        )
    }

    /// The same change under the name that it has when it is replicated.
    pub(super) fn replicated(&self) -> Self {
        Self {
            name: format!("{}{REPLICATED}", self.name),
            table: self.table.clone(),
            prepare: self.prepare.clone(),
            sql: self.sql.clone(),
            values: self.values.clone(),
            ..*self
        }
    }
}

/// The values of a row as texts, by column.
pub(super) type Row = BTreeMap<String, Option<String>>;
