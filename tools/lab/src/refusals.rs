//! Counts refused requests and measures the speed of the others. The parts are a cold catalogue, a
//! Redis outage, more requests than Postgres can serve, many clients of one tenant, and a distant
//! Postgres. Some of them are compared with a service without a cache.

use crate::{
    cold, distance,
    environment::Environment,
    goals::{self, Goal},
    outage, overload,
    pace::blocking,
    peers::Peers,
    report::Section,
    slow_database, tenants, unreachable,
};

/// The parts that `--only` can name.
pub const PARTS: [&str; 6] = ["cold", "redis", "distance", "overload", "tenants", "postgres"];

pub async fn measure(environment: &mut Environment, only: Option<&str>, is_short: bool) -> Section {
    let rounds = if is_short { 1 } else { 3 };
    let peers = Peers::prepare(environment).await;
    let slow_url = slow_database::make(environment).await;
    let mut found: Vec<Goal> = Vec::new();
    for part in PARTS.into_iter().filter(|part| only.is_none_or(|only| only == *part)) {
        eprintln!("  {part}");
        found.extend(match part {
            "cold" => blocking(|| cold::measure(&peers, rounds)),
            "redis" => outage::measure(environment, &peers, rounds).await,
            "distance" => distance::measure(&peers, ([127, 0, 0, 1], environment.postgres.port).into(), rounds).await,
            "overload" => overload::measure(&peers, &slow_url, rounds),
            "tenants" => tenants::measure(&peers, &slow_url, rounds).await,
            _ => unreachable::measure(environment, &peers, rounds).await,
        });
    }
    let method = format!(
        "Each row is one promise with its figure: counts of {rounds} rounds together, or the median of the rounds with the lowest and the \
         highest. `plain` is a separate axum program whose every request is one plain select (`benches/peers`); it and the service take \
         turns on one core, and the clients have the other core with Postgres and Redis. Where Postgres is to be the bottleneck, each of \
         its rows takes {} ms to read, so that ten connections read {} a second.",
        slow_database::ROW.as_millis(),
        10_000 / slow_database::ROW.as_millis()
    );
    goals::section(method, &found, is_short)
}
