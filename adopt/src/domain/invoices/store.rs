//! The SQL of invoices. This file does not depend on the cache.
//!
//! Every read is one statement and thus one snapshot. The data, the version of the tag on which it
//! depends, and the read time belong together. Every statement names the tenant, so another
//! tenant's invoice looks like one that does not exist.

use sqlx::{AssertSqlSafe, FromRow, PgConnection, Row, postgres::PgRow};

use super::{Invoice, InvoiceList};
use crate::{
    cache::{ConnectionPool, Loaded, Tag, TagVersion, Tenant},
    domain::error::DomainError,
};

/// The columns are listed, because with `*` a new column would break the prepared statements of
/// running instances.
const COLUMNS: &str = "i.id, i.customer_id, i.amount_cents, i.paid, i.version";

/// One row that is always returned: a time that is not after the statement's snapshot, and the
/// version of the tag `$1`.
const HEAD: &str = "(select now() as loaded_at,
     coalesce((select version from cache_ledger where tag = $1), 0) as tag_version) as head";

/// The maximum number of invoices in a list.
const LONGEST_LIST: i64 = 100;

/// Invoices in Postgres. The store is cheap to clone.
#[derive(Clone)]
pub struct InvoiceStore {
    pub db: ConnectionPool,
}

impl InvoiceStore {
    /// Loads one invoice of the tenant.
    pub async fn load(&self, tenant: &Tenant, id: i64) -> Result<Loaded<Invoice>, DomainError> {
        let sql = format!("select head.*, {COLUMNS} from {HEAD} left join invoices i on i.tenant = $2 and i.id = $3");
        let name = Invoice::key(tenant, id).tag().clone();
        let row = sqlx::query(AssertSqlSafe(sql))
            .bind(name.as_str())
            .bind(tenant.as_str())
            .bind(id)
            .fetch_one(&self.db)
            .await?;
        loaded(name, &row, invoice(&row)?)
    }

    /// Loads a customer's newest invoices.
    pub async fn load_list(&self, tenant: &Tenant, customer_id: i64) -> Result<Loaded<InvoiceList>, DomainError> {
        let sql = format!(
            "select head.*, {COLUMNS} from {HEAD} left join lateral (
                 select * from invoices where tenant = $2 and customer_id = $3 order by id desc limit $4
             ) i on true
             order by i.id desc"
        );
        let name = InvoiceList::key(tenant, customer_id).tag().clone();
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(name.as_str())
            .bind(tenant.as_str())
            .bind(customer_id)
            .bind(LONGEST_LIST)
            .fetch_all(&self.db)
            .await?;
        let head = rows.first().ok_or(sqlx::Error::RowNotFound)?;
        let items = rows.iter().filter_map(|row| invoice(row).transpose()).collect::<Result<_, _>>()?;
        loaded(name, head, Some(InvoiceList { items }))
    }
}

/// Issues an invoice.
pub async fn insert(
    db: &mut PgConnection,
    tenant: &Tenant,
    customer_id: i64,
    amount_cents: i64,
) -> Result<Invoice, DomainError> {
    let sql = format!(
        "insert into invoices as i (tenant, customer_id, amount_cents) values ($1, $2, $3) returning {COLUMNS}"
    );
    let inserted = sqlx::query_as(AssertSqlSafe(sql))
        .bind(tenant.as_str())
        .bind(customer_id)
        .bind(amount_cents)
        .fetch_one(db)
        .await?;
    Ok(inserted)
}

/// Reads an invoice and locks it until the transaction ends.
pub async fn lock(db: &mut PgConnection, tenant: &Tenant, id: i64) -> Result<Invoice, DomainError> {
    let sql = format!("select {COLUMNS} from invoices i where i.tenant = $1 and i.id = $2 for no key update");
    let found: Option<Invoice> =
        sqlx::query_as(AssertSqlSafe(sql)).bind(tenant.as_str()).bind(id).fetch_optional(db).await?;
    found.ok_or(DomainError::NotFound { kind: "invoice", id })
}

/// Marks a locked invoice as paid.
pub async fn set_paid(db: &mut PgConnection, tenant: &Tenant, id: i64) -> Result<Invoice, DomainError> {
    let sql = format!(
        "update invoices i set paid = true, version = version + 1 where i.tenant = $1 and i.id = $2 returning {COLUMNS}"
    );
    Ok(sqlx::query_as(AssertSqlSafe(sql)).bind(tenant.as_str()).bind(id).fetch_one(db).await?)
}

/// The invoice of a row, or `None` if the outer join found no invoice.
fn invoice(row: &PgRow) -> Result<Option<Invoice>, sqlx::Error> {
    let there = row.try_get::<Option<i64>, _>("id")?.is_some();
    there.then(|| Invoice::from_row(row)).transpose()
}

fn loaded<T>(name: Tag, head: &PgRow, value: Option<T>) -> Result<Loaded<T>, DomainError> {
    let tag_versions = vec![TagVersion { tag: name, version: head.try_get("tag_version")? }];
    Ok(Loaded { value, tag_versions, loaded_at: head.try_get("loaded_at")? })
}
