//! Idempotency of `POST /orders`: each idempotency key places one order. The first request records
//! its answer in the transaction that places the order. Later requests with the key get that
//! answer.
//!
//! A key is kept for at least [`KEPT`] after the first request, and crashes do not lose it. Only
//! success is recorded. A refused order changed nothing, so the client may send the same request
//! again and it is examined again. Keys belong to a tenant and a route.

use std::time::Duration;

use aside_cache::{ConnectionPool, Tenant};
use bytes::Bytes;
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;

use super::Placed;
use crate::domain::error::DomainError;

/// The minimum time for which a key is kept.
pub const KEPT: Duration = Duration::from_secs(24 * 3600);
/// The route to which these keys belong.
const ROUTE: &str = "POST /orders";
/// The longest wait for another request with the same key. It is well below the time limit of a
/// request.
const BOUND_WAIT: &str = "set local lock_timeout to '2s'";
/// The version of every order when it is placed: the default value of the column.
const FIRST_VERSION: i64 = 1;
/// How many keys one statement removes. This bounds how long the statement holds its locks.
const BATCH: i64 = 1000;
/// Pause between two removals.
const INTERVAL: Duration = Duration::from_secs(600);

/// The data by which a client's request is executed only once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// The key without quotes: 1 to 255 printable ASCII characters.
    pub key: String,
    /// A digest of the payload, 1 to 64 bytes. A request that repeats the key with another payload
    /// is refused.
    pub fingerprint: Vec<u8>,
}

/// Claims the key for the caller's transaction. It returns `None` if the caller must do the work,
/// or the answer that an earlier request recorded.
///
/// While another transaction holds the key, this call waits until that transaction ends. After a
/// commit it returns the recorded answer, and after a rollback the key is free.
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
    // For the rest of the transaction, a lock timeout has nothing to do with the key.
    sqlx::query("set local lock_timeout to default").execute(&mut *db).await?;
    if inserted.rows_affected() == 1 {
        return Ok(None);
    }
    let sql =
        "select fingerprint, order_id, response from idempotency_keys where tenant = $1 and route = $2 and key = $3";
    let found: Option<(Vec<u8>, i64, Vec<u8>)> =
        sqlx::query_as(sql).bind(tenant.as_str()).bind(ROUTE).bind(&once.key).fetch_optional(db).await?;
    // A concurrent cleanup removed the key between the two statements. The client's next attempt
    // finds the key free.
    let (fingerprint, order_id, response) = found.ok_or(DomainError::IdempotencyInProgress)?;
    if fingerprint != once.fingerprint {
        return Err(DomainError::IdempotencyMismatch);
    }
    let body = Bytes::from(response);
    Ok(Some(Placed { id: order_id, version: FIRST_VERSION, body, replayed: true }))
}

/// Records the answer under the key that the same transaction claimed.
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

/// Removes keys older than [`KEPT`] in small batches and returns how many it removed.
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

/// Removes expired keys at regular intervals until `shutdown`.
pub async fn run_removal(db: ConnectionPool, shutdown: CancellationToken) {
    loop {
        match remove_expired(&db).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "expired idempotency keys removed"),
            Err(error) => {
                tracing::warn!(%error, "failed to remove expired idempotency keys; retrying later")
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
