//! Writers outside of the service. They change rows by SQL, and the triggers of the ledger raise
//! the versions of the changed tags.

use std::{sync::Arc, time::Duration};

use sqlx::{PgPool, Postgres, Row, Transaction};

use crate::{
    check::history::{Ack, Micros, Record, Told},
    clients::World,
    fixture::WILD,
    notes::Notes,
    pace::{Clock, pause},
};

pub struct SqlWriter {
    pub db: PgPool,
    pub world: Arc<World>,
    pub notes: Arc<Notes>,
    pub clock: Clock,
    pub rng: fastrand::Rng,
}

impl SqlWriter {
    /// Runs until it is aborted, with about `rate` writes a second.
    pub async fn run(mut self, rate: f64) {
        loop {
            pause(Duration::from_secs_f64(self.rng.f64() * 2.0 / rate)).await;
            let invoked = self.clock.now();
            let (verb, wrote) = match self.rng.u32(..10) {
                0..5 => ("sql price", self.price().await),
                5..8 => ("sql revive", self.revive().await),
                _ => ("sql replace", self.replace().await),
            };
            self.notes.record(record(verb, invoked, self.clock.now(), wrote));
        }
    }

    async fn price(&mut self) -> Result<u64, sqlx::Error> {
        let ordered = &self.world.hot.ordered;
        let id = ordered[self.rng.usize(..ordered.len())];
        let mut write = self.db.begin().await?;
        sqlx::query(
            "update products set price_cents = 100 + (price_cents + 1) % 3, version = version + 1, updated_at = clock_timestamp()
             where id = $1",
        )
        .bind(id)
        .execute(&mut *write)
        .await?;
        finish(write).await
    }

    /// Makes up to two discontinued products available again, under their old ids.
    async fn revive(&mut self) -> Result<u64, sqlx::Error> {
        let ids: Vec<i64> = self.world.hot.products.iter().map(|(id, _)| *id).collect();
        let mut write = self.db.begin().await?;
        sqlx::query(
            "update products p set discontinued_at = null, version = version + 1, updated_at = clock_timestamp()
             from (select id from products where id = any($1) and discontinued_at is not null
                   order by id limit 2 for update) found
             where p.id = found.id",
        )
        .bind(ids)
        .execute(&mut *write)
        .await?;
        finish(write).await
    }

    /// Deletes a row, or inserts it again with the same id. Its version continues to rise.
    async fn replace(&mut self) -> Result<u64, sqlx::Error> {
        let id = WILD[self.rng.usize(..WILD.len())];
        let category = self.world.hot.categories[self.rng.usize(..self.world.hot.categories.len())].clone();
        let mut write = self.db.begin().await?;
        let deleted = sqlx::query("delete from products where id = $1").bind(id).execute(&mut *write).await?;
        if deleted.rows_affected() == 0 {
            sqlx::query(
                "insert into products (id, name, department, brand, category, type, price_cents, currency, stock, version)
                 select $1, 'Checked ' || $1, $2, 'Private', $3, 'CHECKED', 100, 'USD', 1,
                        (select max(version) + 1 from checker.audit where kind = 'product' and id = $1)",
            )
            .bind(id)
            .bind(&self.world.hot.department)
            .bind(category)
            .execute(&mut *write)
            .await?;
        }
        finish(write).await
    }
}

/// Commits. Returns the transaction's number.
pub async fn finish(mut write: Transaction<'_, Postgres>) -> Result<u64, sqlx::Error> {
    let row = sqlx::query("select pg_current_xact_id()::text as xid").fetch_one(&mut *write).await?;
    let xid: String = row.try_get("xid")?;
    write.commit().await?;
    Ok(xid.parse().unwrap_or_default())
}

/// The record of a direct write. After a failure, the outcome of the write is unknown.
pub fn record(verb: &'static str, invoked: Micros, completed: Micros, wrote: Result<u64, sqlx::Error>) -> Record {
    let told = wrote.map_or(Told::Lost, |xid| Told::Written(Ack::Transaction(xid)));
    Record {
        client: u16::MAX,
        instance: None,
        process_run: 0,
        verb,
        invoked,
        completed,
        status: 0,
        source: "",
        told,
        token_of: None,
        fleet: false,
    }
}
