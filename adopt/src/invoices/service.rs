//! START HERE: cache-aside with explicit invalidation, for data of a tenant.
//!
//! A read is one `get` around a plain select. A write changes rows and invalidates the tags of the
//! invoice before and after the change. A refused write observes the tags that it has read, so that
//! no later read is older than the refusal. The tenant is part of every key, tag and statement.

use aside_cache::{CacheMode, Cached, Error, ExpectedVersion, Tenant, Write};
use sqlx::{AssertSqlSafe, PgConnection, types::Json};

use super::{Invoice, NewInvoice};
use crate::{refusal::Refusal, session::Session};

/// The columns of an invoice `i`. A `*` would break prepared statements when a column is added.
const COLUMNS: &str = "i.number, i.customer, i.status, i.due_at, i.version, (
    select coalesce(json_agg(json_build_object('text', l.text, 'amount_cents', l.amount_cents) order by l.position), '[]')
    from invoice_lines l where l.tenant = i.tenant and l.number = i.number) as lines";

impl Session {
    /// Reads one invoice. An absence is an answer too.
    pub async fn invoice(&self, number: &str, mode: CacheMode) -> Result<Cached<Invoice>, Error> {
        let sql = format!("select {COLUMNS} from invoices i where i.tenant = $1 and i.number = $2");
        let select = sqlx::query_as(AssertSqlSafe(sql)).bind(self.tenant.as_str()).bind(number);
        self.cache.get(Invoice::key(&self.tenant, number)).mode(mode).one(select).await
    }

    /// Reads a customer's first hundred invoices in one status.
    pub async fn invoices(&self, customer: i64, status: &str, mode: CacheMode) -> Result<Cached<Vec<Invoice>>, Error> {
        let sql = format!(
            "select {COLUMNS} from invoices i where (i.tenant, i.customer, i.status) = ($1, $2, $3) order by i.number limit 100"
        );
        let select = sqlx::query_as::<_, Invoice>(AssertSqlSafe(sql)).bind(self.tenant.as_str());
        let (select, key) = (select.bind(customer).bind(status), Invoice::list_key(&self.tenant, customer, status));
        self.cache.get(key.clone()).mode(mode).depends_on(key).list(select).await
    }

    /// Creates an invoice with its lines.
    pub async fn create_invoice(&self, new: NewInvoice) -> Result<Invoice, Error> {
        let tenant = self.tenant.clone();
        let create = async move |tx: &mut Write| {
            tx.observe([Invoice::key(&tenant, &new.number)]);
            let sql = "insert into invoices (tenant, number, customer, due_at) values ($1, $2, $3, $4) on conflict do nothing";
            let insert = sqlx::query(sql).bind(tenant.as_str()).bind(&new.number).bind(new.customer).bind(new.due_at);
            if insert.execute(tx.conn()).await?.rows_affected() == 0 {
                return Err(Refusal::Taken("the number").into());
            }
            let sql =
                "insert into invoice_lines select $1, $2, position, line->>'text', (line->>'amount_cents')::bigint
                       from jsonb_array_elements($3) with ordinality as lines (line, position)";
            let insert = sqlx::query(sql).bind(tenant.as_str()).bind(&new.number).bind(Json(&new.lines));
            insert.execute(tx.conn()).await?;
            let created = lock(tx.conn(), &tenant, &new.number).await?;
            tx.invalidate_all(created.tags(&tenant));
            Ok(created)
        };
        self.cache.write_for(&self.tenant, create).await
    }

    /// Moves an invoice to its next status, and thus to another list.
    pub async fn move_invoice(&self, number: String, to: String, expected: ExpectedVersion) -> Result<Invoice, Error> {
        let tenant = self.tenant.clone();
        let change = async move |tx: &mut Write| {
            tx.observe([Invoice::key(&tenant, &number)]);
            let before = lock(tx.conn(), &tenant, &number).await?;
            tx.observe(before.tags(&tenant));
            expected.check(before.version).map_err(Refusal::from)?;
            if !matches!((before.status.as_str(), to.as_str()), ("draft", "sent") | ("sent", "paid")) {
                return Err(Refusal::IllegalStep(before.status, to.clone()).into());
            }
            let sql = "update invoices set status = $3, version = version + 1 where tenant = $1 and number = $2";
            sqlx::query(sql).bind(tenant.as_str()).bind(&number).bind(&to).execute(tx.conn()).await?;
            let after = lock(tx.conn(), &tenant, &number).await?;
            tx.invalidate_all([before.tags(&tenant), after.tags(&tenant)].concat());
            Ok(after)
        };
        self.cache.write_for(&self.tenant, change).await
    }
}

/// Reads an invoice and locks it until the transaction ends.
async fn lock(db: &mut PgConnection, tenant: &Tenant, number: &str) -> Result<Invoice, Error> {
    let sql = format!("select {COLUMNS} from invoices i where i.tenant = $1 and i.number = $2 for no key update of i");
    let found = sqlx::query_as(AssertSqlSafe(sql)).bind(tenant.as_str()).bind(number).fetch_optional(db).await?;
    found.ok_or_else(|| Refusal::NotFound.into())
}
