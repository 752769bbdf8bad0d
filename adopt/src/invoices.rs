//! Invoices of a tenant's customers. An invoice has lines, and it is in the list of its customer and
//! its status.
//!
//! A read is one `get` around a plain select. A write changes the rows and invalidates the tags of
//! the invoice before and after the change. A refused write observes the tags that it has read, so
//! that a later read is not older than the refusal.

use std::time::Duration;

use aside_cache::{Cache, CacheMode, Cacheable, Cached, Error, Key, Policy, Tag, Tenant, Write};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, FromRow, PgConnection, types::Json};

/// An invoice with its lines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, FromRow)]
pub struct Invoice {
    pub number: String,
    pub customer: i64,
    pub status: Status,
    pub due_at: DateTime<Utc>,
    #[sqlx(json)]
    pub lines: Vec<Line>,
    /// Raised by every change.
    #[serde(default)]
    pub version: i64,
}

/// A line of an invoice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    pub text: String,
    pub amount_cents: i64,
}

/// The status of an invoice, which can only become the next one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum Status {
    #[default]
    Draft,
    Sent,
    Paid,
}

/// A customer's invoices in one status, by number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InvoiceList(pub Vec<Invoice>);

impl From<Vec<Invoice>> for InvoiceList {
    fn from(invoices: Vec<Invoice>) -> Self {
        Self(invoices)
    }
}

impl Cacheable for Invoice {
    const POLICY: Policy = Policy::regulated("invoice", Duration::from_mins(5));
}

impl Cacheable for InvoiceList {
    const POLICY: Policy = Invoice::POLICY.named("invoice-list");
}

impl Invoice {
    /// The key of one invoice.
    pub fn key(tenant: &Tenant, number: &str) -> Key<Self> {
        Key::of_tenant(tenant, number)
    }

    /// The tags that a change of this invoice invalidates: its own, and the tag of its list.
    fn tags(&self, tenant: &Tenant) -> [Tag; 2] {
        [Self::key(tenant, &self.number).into(), InvoiceList::key(tenant, self.customer, self.status).into()]
    }
}

impl InvoiceList {
    /// The key of a list, and the tag on which it depends.
    pub fn key(tenant: &Tenant, customer: i64, status: Status) -> Key<Self> {
        Key::of_tenant(tenant, (customer, status.as_str()))
    }
}

impl Status {
    fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Sent => "sent",
            Self::Paid => "paid",
        }
    }
}

/// A refusal: the current data do not allow the write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("no such invoice")]
    NotFound,
    #[error("this number is in use")]
    NumberTaken,
    #[error("the version is {0} by now")]
    VersionConflict(i64),
    #[error("an invoice can't become {to} when it is {from}", from = .0.as_str(), to = .1.as_str())]
    IllegalStep(Status, Status),
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::other(refusal)
    }
}

/// The columns of an invoice `i`. A `*` would break prepared statements when a column is added.
const COLUMNS: &str = "i.number, i.customer, i.status, i.due_at, i.version, (
    select coalesce(json_agg(json_build_object('text', l.text, 'amount_cents', l.amount_cents) order by l.position), '[]')
    from invoice_lines l where l.tenant = i.tenant and l.number = i.number) as lines";

/// The cached service of invoices. It is cheap to clone.
#[derive(Clone)]
pub struct CachedInvoiceService {
    pub cache: Cache,
}

impl CachedInvoiceService {
    /// Reads one invoice. An absence is an answer too.
    pub async fn get(&self, tenant: &Tenant, number: &str, mode: CacheMode) -> Result<Cached<Invoice>, Error> {
        let sql = format!("select {COLUMNS} from invoices i where i.tenant = $1 and i.number = $2");
        let select = sqlx::query_as(AssertSqlSafe(sql)).bind(tenant.as_str()).bind(number);
        self.cache.get(Invoice::key(tenant, number)).mode(mode).one(select).await
    }

    /// Reads a customer's invoices in one status.
    pub async fn list(
        &self,
        tenant: &Tenant,
        customer: i64,
        status: Status,
        mode: CacheMode,
    ) -> Result<Cached<InvoiceList>, Error> {
        let sql = format!(
            "select {COLUMNS} from invoices i where i.tenant = $1 and i.customer = $2 and i.status = $3
             order by i.number limit 100"
        );
        let select = sqlx::query_as::<_, Invoice>(AssertSqlSafe(sql)).bind(tenant.as_str()).bind(customer).bind(status);
        let key = InvoiceList::key(tenant, customer, status);
        self.cache.get(key.clone()).mode(mode).depends_on(key).list(select).await
    }

    /// Creates an invoice with its lines.
    pub async fn create(&self, tenant: &Tenant, new: Invoice) -> Result<Invoice, Error> {
        let owner = tenant.clone();
        let create = async move |tx: &mut Write| {
            tx.observe([Invoice::key(&owner, &new.number)]);
            let sql = "insert into invoices (tenant, number, customer, due_at) values ($1, $2, $3, $4) on conflict do nothing";
            let insert = sqlx::query(sql).bind(owner.as_str()).bind(&new.number).bind(new.customer).bind(new.due_at);
            if insert.execute(tx.conn()).await?.rows_affected() == 0 {
                return Err(Refusal::NumberTaken.into());
            }
            let sql =
                "insert into invoice_lines select $1, $2, position, line->>'text', (line->>'amount_cents')::bigint
                       from jsonb_array_elements($3) with ordinality as lines (line, position)";
            let insert = sqlx::query(sql).bind(owner.as_str()).bind(&new.number).bind(Json(&new.lines));
            insert.execute(tx.conn()).await?;
            let created = lock(tx.conn(), &owner, &new.number).await?;
            tx.invalidate_all(created.tags(&owner));
            Ok(created)
        };
        self.cache.write_for(tenant, create).await
    }

    /// Moves an invoice to its next status, and thus to another list. `expected` is the version that
    /// the caller has seen. `None` accepts any version.
    pub async fn set_status(
        &self,
        tenant: &Tenant,
        number: &str,
        to: Status,
        expected: Option<i64>,
    ) -> Result<Invoice, Error> {
        let (owner, number) = (tenant.clone(), number.to_owned());
        let change = async move |tx: &mut Write| {
            tx.observe([Invoice::key(&owner, &number)]);
            let before = lock(tx.conn(), &owner, &number).await?;
            tx.observe(before.tags(&owner));
            if expected.is_some_and(|version| version != before.version) {
                return Err(Refusal::VersionConflict(before.version).into());
            }
            if !matches!((before.status, to), (Status::Draft, Status::Sent) | (Status::Sent, Status::Paid)) {
                return Err(Refusal::IllegalStep(before.status, to).into());
            }
            let sql = format!(
                "update invoices i set status = $3, version = version + 1 where i.tenant = $1 and i.number = $2 returning {COLUMNS}"
            );
            let update = sqlx::query_as(AssertSqlSafe(sql)).bind(owner.as_str()).bind(&number).bind(to);
            let after: Invoice = update.fetch_one(tx.conn()).await?;
            tx.invalidate_all(before.tags(&owner));
            tx.invalidate_all(after.tags(&owner));
            Ok(after)
        };
        self.cache.write_for(tenant, change).await
    }
}

/// Reads an invoice and locks it until the transaction ends.
async fn lock(db: &mut PgConnection, tenant: &Tenant, number: &str) -> Result<Invoice, Error> {
    let sql = format!("select {COLUMNS} from invoices i where i.tenant = $1 and i.number = $2 for no key update of i");
    let found = sqlx::query_as(AssertSqlSafe(sql)).bind(tenant.as_str()).bind(number).fetch_optional(db).await?;
    found.ok_or_else(|| Refusal::NotFound.into())
}
