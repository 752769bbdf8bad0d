//! The probes of an orchestrator: `/livez` (is the process alive?) and `/readyz` (should it get
//! requests?).
//!
//! Neither fails when Redis is down, because the service answers without it. If all instances left
//! service at once, a slow minute would become an outage. The body reports Redis as `degraded`
//! instead.

use aside_cache::{CacheReadiness, MemoryState};
use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::WebState;
use crate::readiness::Phase;

/// That the process is alive.
#[derive(Debug, Serialize, ToSchema)]
pub struct Alive {
    #[schema(example = "alive")]
    status: &'static str,
}

/// Whether the instance should get requests, and the state of its dependencies.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ReadyReport {
    /// `ready`, `degraded` (L2 down), `starting`, `draining` or `unavailable` (Postgres down).
    #[schema(example = "ready")]
    status: &'static str,
    /// `up` or `down`.
    #[schema(example = "up")]
    postgres: &'static str,
    /// L2, which is Redis or Memcached: `up`, `down`, or `off` if the instance has none.
    #[schema(example = "up")]
    redis: &'static str,
    /// How full the fullest node of L2 is: `normal`, `warning` (from 70 %), `critical` (from 85 %) or `unknown`.
    #[schema(example = "normal")]
    redis_memory: &'static str,
}

impl ReadyReport {
    fn new(phase: Phase, postgres: bool, redis: Option<bool>, memory: Option<MemoryState>) -> Self {
        let status = match (phase, postgres, redis) {
            (Phase::Starting, ..) => "starting",
            (Phase::Draining, ..) => "draining",
            (Phase::Ready, false, _) => "unavailable",
            (Phase::Ready, true, Some(false)) => "degraded",
            (Phase::Ready, true, _) => "ready",
        };
        let word = |up: bool| if up { "up" } else { "down" };
        Self {
            status,
            postgres: word(postgres),
            redis: redis.map_or("off", word),
            redis_memory: memory.map_or("unknown", MemoryState::as_str),
        }
    }

    fn is_ready(&self) -> bool {
        matches!(self.status, "ready" | "degraded")
    }
}

/// Reports that the process is alive.
///
/// Checks nothing else, because a restart would not repair a database.
#[utoipa::path(get, path = "/livez", tag = "health", security(()), responses((status = 200, description = "Alive.", body = Alive)))]
pub async fn livez() -> Response {
    ([(header::CACHE_CONTROL, "no-store")], Json(Alive { status: "alive" })).into_response()
}

/// Reports whether the instance should get requests.
///
/// Checks only Postgres. The answer has this form in both cases, because orchestrators show the
/// body.
#[utoipa::path(get, path = "/readyz", tag = "health", security(()), responses(
    (status = 200, description = "Ready; `degraded` while L2 is down.", body = ReadyReport),
    (status = 503, description = "Starting, draining, or Postgres is down.", body = ReadyReport),
))]
pub async fn readyz(State(state): State<WebState>) -> Response {
    let services = &state.services;
    let CacheReadiness { database, l2, l2_memory, .. } = services.cache.readiness().await;
    let report = ReadyReport::new(state.readiness.phase(), database, l2, l2_memory);
    let status = if report.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(header::CACHE_CONTROL, "no-store")], Json(report)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_ready_while_it_serves_and_postgres_answers() {
        let cases = [
            (Phase::Ready, true, Some(true), "ready", true),
            (Phase::Ready, true, None, "ready", true),
            (Phase::Ready, true, Some(false), "degraded", true),
            (Phase::Ready, false, Some(true), "unavailable", false),
            (Phase::Starting, true, Some(true), "starting", false),
            (Phase::Draining, true, Some(true), "draining", false),
        ];
        for (phase, postgres, redis, status, ready) in cases {
            let report = ReadyReport::new(phase, postgres, redis, Some(MemoryState::Critical));
            assert_eq!((report.status, report.is_ready()), (status, ready));
        }
    }
}
