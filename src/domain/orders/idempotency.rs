//! `POST /orders` happens once per idempotency key: the first request's answer is recorded in the transaction of its work, and
//! later requests with the key get that answer.
//!
//! Promised: for at least [`KEPT`] after the first request, whatever crashes meanwhile. Only success is recorded: a refused
//! order changed nothing, so the same request may be sent again and is examined anew. Keys belong to a tenant and a route.

use std::time::Duration;

use bytes::Bytes;
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;

use super::Placed;
use crate::{
    cache::{ConnectionPool, Tenant},
    domain::error::DomainError,
};

/// How long a key is remembered, at least.
pub const KEPT: Duration = Duration::from_secs(24 * 3600);
/// The route whose keys these are.
const ROUTE: &str = "POST /orders";
/// How long a request waits for another one with the same key: well below the time that a request may take.
const BOUND_WAIT: &str = "set local lock_timeout to '2s'";
/// The version of every order when it is placed: the default of the column.
const FIRST_VERSION: i64 = 1;
/// Keys removed in one statement: bounds how long its locks are held.
const BATCH: i64 = 1000;
/// Pause between two removals.
const INTERVAL: Duration = Duration::from_secs(600);

/// What a client sends to have a request done once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// The key, without quotes: 1 to 255 printable ASCII characters.
    pub key: String,
    /// A digest of the payload, 1 to 64 bytes: the key may not be used again with another payload.
    pub fingerprint: Vec<u8>,
}

/// Takes the key for the caller's transaction: `None`, and the caller does the work; or the answer recorded before.
///
/// While another transaction holds the key, this waits for its end: after a commit the answer is there to be replayed, after
/// a rollback the key is free.
pub async fn claim(db: &mut PgConnection, tenant: &Tenant, once: &Idempotency) -> Result<Option<Placed>, DomainError> {
    sqlx::query(BOUND_WAIT).execute(&mut *db).await?;
    let sql =
        "insert into idempotency_keys (tenant, route, key, fingerprint) values ($1, $2, $3, $4) on conflict do nothing";
    let inserted = sqlx::query(sql)
        .bind(tenant.as_str())
        .bind(ROUTE)
        .bind(&once.key)
        .bind(&once.fingerprint)
        .execute(&mut *db)
        .await
        .map_err(in_progress_if_busy)?;
    // Elsewhere in the transaction, a wait for a lock says nothing about the key.
    sqlx::query("set local lock_timeout to default").execute(&mut *db).await?;
    if inserted.rows_affected() == 1 {
        return Ok(None);
    }
    let sql =
        "select fingerprint, order_id, response from idempotency_keys where tenant = $1 and route = $2 and key = $3";
    let found: Option<(Vec<u8>, i64, Vec<u8>)> =
        sqlx::query_as(sql).bind(tenant.as_str()).bind(ROUTE).bind(&once.key).fetch_optional(db).await?;
    // Removed between the two statements: so old that it may be removed, so new that it was still there. The client's next
    // attempt finds the key free.
    let (fingerprint, order_id, response) = found.ok_or(DomainError::IdempotencyInProgress)?;
    if fingerprint != once.fingerprint {
        return Err(DomainError::IdempotencyMismatch);
    }
    let body = Bytes::from(response);
    Ok(Some(Placed { id: order_id, version: FIRST_VERSION, body, replayed: true }))
}

/// Records the answer under the key that the same transaction has claimed.
pub async fn record(
    db: &mut PgConnection,
    tenant: &Tenant,
    once: &Idempotency,
    placed: &Placed,
) -> Result<(), DomainError> {
    let sql = "update idempotency_keys set order_id = $4, response = $5 where tenant = $1 and route = $2 and key = $3";
    sqlx::query(sql)
        .bind(tenant.as_str())
        .bind(ROUTE)
        .bind(&once.key)
        .bind(placed.id)
        .bind(placed.body.as_ref())
        .execute(db)
        .await?;
    Ok(())
}

/// Removes keys older than [`KEPT`], in small batches; returns how many.
pub async fn remove_expired(db: &ConnectionPool) -> Result<u64, sqlx::Error> {
    let sql = "delete from idempotency_keys where ctid = any (array(
                   select ctid from idempotency_keys
                   where created_at < statement_timestamp() - make_interval(secs => $1)
                   order by created_at limit $2 for update skip locked))";
    let mut removed = 0;
    loop {
        let batch = sqlx::query(sql).bind(KEPT.as_secs_f64()).bind(BATCH).execute(db).await?.rows_affected();
        removed += batch;
        if batch < BATCH.unsigned_abs() {
            return Ok(removed);
        }
    }
}

/// Removes expired keys now and then until `shutdown`.
pub async fn run_removal(db: ConnectionPool, shutdown: CancellationToken) {
    loop {
        match remove_expired(&db).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "expired idempotency keys removed"),
            Err(error) => {
                tracing::warn!(%error, "expired idempotency keys could not be removed; tried again later")
            }
        }
        if tokio::time::timeout(INTERVAL, shutdown.cancelled()).await.is_ok() {
            return;
        }
    }
}

fn in_progress_if_busy(error: sqlx::Error) -> DomainError {
    match DomainError::from(error) {
        DomainError::Busy => DomainError::IdempotencyInProgress,
        other => other,
    }
}
