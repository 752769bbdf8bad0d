//! The dependency check finds a forgotten tag. It changes the test's data, one small change at a
//! time. If an answer differs afterwards, the change must have raised one of the answer's tags.
//!
//! It changes each column of each row, by values that occur elsewhere and by new ones. It deletes
//! each row and inserts it again, and it truncates each table. Statements name partitions too. A
//! change that matters is repeated once as logical replication would apply it. Each change runs in a
//! transaction that is rolled back. The writes of the service run last, and stay.
//!
//! ```no_run
//! # async fn example(pool: sqlx::PgPool, load: impl AsyncFn(sqlx::PgPool) -> (String, Vec<String>) + Copy + 'static) {
//! use aside_testkit::dependencies::{Answer, DependencyCheck};
//!
//! let mut check = DependencyCheck::new(&pool);
//! let db = check.pool();
//! check.load("product", move || {
//!     let db = db.clone();
//!     async move {
//!         let (body, tags) = load(db).await;
//!         Answer::new(body, tags)
//!     }
//! });
//! check.may_differ("product", "products.view_count", "views are counted, not invalidated");
//! check.run().await.assert_complete();
//! # }
//! ```
//!
//! It depends on the test's data. A list needs a row inside, a row outside, and a row with children. It changes at most 24 rows of a table.

mod catalog;
mod change;
mod report;
mod tags;

use std::{collections::BTreeSet, future::Future, path::PathBuf, pin::Pin};

use sqlx::{AssertSqlSafe, PgPool, postgres::PgPoolOptions};

pub use self::report::{Finding, Report};
use self::{
    catalog::Catalog,
    change::{Change, REPLICATED, Writer},
};

type Boxed<T> = Pin<Box<dyn Future<Output = T>>>;

/// The answer of a load: its bytes, and the tags on which it depends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    body: Vec<u8>,
    tags: Vec<String>,
    is_failure: bool,
}

impl Answer {
    /// An answer with these bytes and tags.
    pub fn new(body: impl AsRef<[u8]>, tags: impl IntoIterator<Item = impl ToString>) -> Self {
        let tags = tags.into_iter().map(|tag| tag.to_string()).collect();
        Self { body: body.as_ref().to_vec(), tags, is_failure: false }
    }

    /// A load that failed. It differs from every answer, and no cache stores it.
    pub fn failed(error: impl ToString) -> Self {
        Self { body: error.to_string().into_bytes(), tags: Vec::new(), is_failure: true }
    }
}

/// A load under its name.
struct Load {
    name: &'static str,
    run: Box<dyn Fn() -> Boxed<Answer>>,
}

/// A write of the service under its name.
struct Write {
    name: String,
    run: Box<dyn FnOnce() -> Boxed<()>>,
}

/// An answer that may differ although none of its tags rose.
struct Exception {
    load: &'static str,
    change: &'static str,
}

/// The loads and writes of a service, whose tags are to be checked.
pub struct DependencyCheck {
    /// A pool of one connection, so that the loads run inside the transaction of a change.
    db: PgPool,
    loads: Vec<Load>,
    writes: Vec<Write>,
    exceptions: Vec<Exception>,
    sources: Vec<PathBuf>,
    tables: Option<Vec<String>>,
}

impl DependencyCheck {
    /// A check on the database of this pool.
    pub fn new(pool: &PgPool) -> Self {
        let options = PgPoolOptions::new().max_connections(1).test_before_acquire(false);
        let db = options.connect_lazy_with((*pool.connect_options()).clone());
        Self { db, loads: Vec::new(), writes: Vec::new(), exceptions: Vec::new(), sources: Vec::new(), tables: None }
    }

    /// The pool for the loads. It has one connection, inside the transaction of a change.
    pub fn pool(&self) -> PgPool {
        self.db.clone()
    }

    /// Adds a load. It must not use a cache tier, and it must use [`DependencyCheck::pool`].
    pub fn load<F, Fut>(&mut self, name: &'static str, load: F) -> &mut Self
    where
        F: Fn() -> Fut + 'static,
        Fut: Future<Output = Answer> + 'static,
    {
        self.loads.push(Load { name, run: Box::new(move || Box::pin(load())) });
        self
    }

    /// Adds a write of the service. Writes run in this order, after all other changes, and stay.
    pub fn write<F>(&mut self, name: impl Into<String>, write: F) -> &mut Self
    where
        F: Future<Output = ()> + 'static,
    {
        self.writes.push(Write { name: name.into(), run: Box::new(move || Box::pin(write)) });
        self
    }

    /// Allows that a change makes the answers of a load, or of all loads (`*`), differ without a tag,
    /// and says why. A change is named as in the report, such as `products.view_count`. A `*` at its
    /// end stands for any text. An exception that is never needed is reported.
    pub fn may_differ(&mut self, load: &'static str, change: &'static str, _reason: &'static str) -> &mut Self {
        self.exceptions.push(Exception { load, change });
        self
    }

    /// Names a folder with declarations (`cache_track`), for the lines in the report.
    pub fn declared_in(&mut self, folder: impl Into<PathBuf>) -> &mut Self {
        self.sources.push(folder.into());
        self
    }

    /// Changes only these tables. Without it, all tables of the schema are changed.
    pub fn only(&mut self, tables: &[&str]) -> &mut Self {
        self.tables = Some(tables.iter().map(ToString::to_string).collect());
        self
    }

    /// Runs all changes, then the writes.
    pub async fn run(&mut self) -> Report {
        let mut report = self.changes(false).await;
        for Write { name, run } in std::mem::take(&mut self.writes) {
            let (before, newest) = (self.answers().await, self.newest().await);
            run().await;
            let after = self.answers().await;
            let sql = format!("select tag from cache_ledger where version > {newest}");
            let raised: Vec<String> = self.column(&sql).await;
            report.changes += 1;
            self.compare(&mut report, &change::named(format!("the write: {name}")), &before, &after, &raised);
        }
        self.note_vain(&mut report);
        report
    }

    /// Whether any change or write finds something. It ends with the first finding.
    pub async fn first_finding(&mut self) -> Option<Finding> {
        self.changes(true).await.findings.into_iter().next()
    }

    /// The tags on which each load depends. All shards of a tag are one tag.
    pub async fn depends_on(&self) -> Vec<(&'static str, BTreeSet<String>)> {
        let answers = self.answers().await;
        let unsharded = |tag: &String| tag.split('#').next().unwrap_or_default().to_owned();
        let tags = |(load, answer): (&Load, &Answer)| (load.name, answer.tags.iter().map(unsharded).collect());
        self.loads.iter().zip(&answers).map(tags).collect()
    }

    /// Runs all changes in transactions that are rolled back.
    async fn changes(&self, only_first: bool) -> Report {
        let mut report = Report::default();
        let base = self.answers().await;
        for ((load, first), second) in self.loads.iter().zip(&base).zip(&self.answers().await) {
            if first != second {
                report.findings.push(Finding::of_itself(load.name));
            }
        }
        let catalog = Catalog::read(&self.db, self.tables.as_deref()).await;
        for change in catalog.changes() {
            let effective = self.try_change(&mut report, &change, Writer::Session, &base).await;
            // One change of a kind shows whether its triggers fire in replication.
            let is_known = report.effective.contains(&change.replicated().name);
            if effective && change.is_replicated() && !is_known {
                self.try_change(&mut report, &change, Writer::Replication, &base).await;
            }
            if only_first && !report.findings.is_empty() {
                break;
            }
        }
        report
    }

    /// Runs one change and compares the answers. Returns whether one of them differs.
    async fn try_change(&self, report: &mut Report, change: &Change, writer: Writer, base: &[Answer]) -> bool {
        self.execute("begin").await.expect("a transaction");
        let effective = self.in_transaction(report, change, writer, base).await;
        self.execute("rollback").await.expect("the change is rolled back");
        effective
    }

    async fn in_transaction(&self, report: &mut Report, change: &Change, writer: Writer, base: &[Answer]) -> bool {
        let prepared = match &change.prepare {
            Some(sql) if self.execute(sql).await.is_err() => return false,
            Some(_) => Some(self.answers().await),
            None => None,
        };
        let before = prepared.as_deref().unwrap_or(base);
        if let Writer::Replication = writer
            && self.execute(&change.as_replication()).await.is_err()
        {
            return false;
        }
        // Constraints refuse some of the values that are tried.
        if !matches!(self.execute(&change.sql).await, Ok(rows) if rows > 0 || change.counts_no_rows) {
            return false;
        }
        report.changes += 1;
        let raised = self.column("select tag from cache_ledger where xid = pg_current_xact_id()").await;
        let after = self.answers().await;
        let change = if let Writer::Replication = writer { &change.replicated() } else { change };
        self.compare(report, change, before, &after, &raised)
    }

    /// Adds a finding for each answer that differs, and of which no tag rose.
    fn compare(
        &self,
        report: &mut Report,
        change: &Change,
        before: &[Answer],
        after: &[Answer],
        raised: &[String],
    ) -> bool {
        let mut differs = false;
        for ((load, before), after) in self.loads.iter().zip(before).zip(after) {
            if before.body == after.body || before.is_failure {
                continue;
            }
            differs = true;
            report.changed.insert(load.name.to_owned());
            report.effective.insert(change.name.clone());
            let excepted = self.exceptions.iter().position(|exception| exception.allows(load.name, &change.name));
            if before.tags.iter().any(|tag| raised.iter().any(|raised| tags::covers(raised, tag))) {
                continue;
            }
            match excepted {
                Some(at) => drop(report.needed.insert(at)),
                None => report.add(Finding::new(change, load.name, &before.tags, raised, &self.sources)),
            }
        }
        differs
    }

    /// Reports what was declared in vain: loads that no change affected, and exceptions that were not
    /// needed.
    fn note_vain(&self, report: &mut Report) {
        for load in &self.loads {
            if !report.changed.contains(load.name) {
                report.findings.push(Finding::without_change(load.name));
            }
        }
        for (at, Exception { load, change }) in self.exceptions.iter().enumerate() {
            if !report.needed.contains(&at) {
                report.findings.push(Finding::vain_exception(load, change));
            }
        }
    }

    async fn answers(&self) -> Vec<Answer> {
        let mut answers = Vec::with_capacity(self.loads.len());
        for load in &self.loads {
            answers.push((load.run)().await);
        }
        answers
    }

    async fn newest(&self) -> i64 {
        let versions = self.column("select coalesce(max(version), 0)::text from cache_ledger").await;
        versions.first().and_then(|version| version.parse().ok()).unwrap_or(0)
    }

    /// Runs SQL and returns the number of rows. A failure leaves the transaction usable.
    async fn execute(&self, sql: &str) -> Result<u64, sqlx::Error> {
        let in_transaction = sql != "begin" && sql != "rollback";
        let mut db = self.db.acquire().await?;
        if in_transaction {
            sqlx::raw_sql("savepoint change").execute(&mut *db).await?;
        }
        let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *db).await;
        if in_transaction && done.is_err() {
            sqlx::raw_sql("rollback to savepoint change").execute(&mut *db).await?;
        }
        done.map(|done| done.rows_affected())
    }

    async fn column(&self, sql: &str) -> Vec<String> {
        let rows = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&self.db).await;
        rows.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }
}

impl Exception {
    fn allows(&self, load: &str, change: &str) -> bool {
        let change = change.strip_suffix(REPLICATED).unwrap_or(change);
        (self.load == "*" || self.load == load)
            && match self.change.strip_suffix('*') {
                Some(beginning) => change.starts_with(beginning),
                None => self.change == change,
            }
    }
}
