//! `GET /metrics` in the OpenMetrics text format, and the gauges of the process: connection pool and tasks.

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text::encode},
    metrics::gauge::ConstGauge,
    registry::Registry,
};
use sqlx::PgPool;

use super::{Management, problem::problem};

const FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub async fn show_metrics(State(state): State<Management>) -> Response {
    let mut text = String::with_capacity(16 * 1024);
    match encode(&mut text, &state.registry) {
        Ok(()) => ([(header::CONTENT_TYPE, FORMAT)], text).into_response(),
        Err(_) => problem(StatusCode::INTERNAL_SERVER_ERROR, "The metrics could not be written."),
    }
}

/// Registers the gauges of the pool and of the runtime, read when somebody asks.
pub fn register_process(registry: &mut Registry, pool: PgPool) {
    registry.register_collector(Box::new(ProcessGauges(pool)));
}

#[derive(Debug)]
struct ProcessGauges(PgPool);

impl Collector for ProcessGauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let (open, idle) = (i64::from(self.0.size()), i64::try_from(self.0.num_idle()).unwrap_or(i64::MAX));
        let tasks = tokio::runtime::Handle::try_current().map_or(0, |runtime| runtime.metrics().num_alive_tasks());
        let tasks = i64::try_from(tasks).unwrap_or(i64::MAX);
        let values = [
            ("database_connections_open", "Open connections to Postgres", open),
            ("database_connections_in_use", "Connections to Postgres that are doing something", (open - idle).max(0)),
            (
                "database_connections_max",
                "Connections to Postgres at most",
                i64::from(self.0.options().get_max_connections()),
            ),
            ("tokio_tasks_alive", "Tasks that have not ended", tasks),
        ];
        for (name, help, value) in values {
            let gauge = ConstGauge::new(value);
            let descriptor = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(descriptor)?;
        }
        Ok(())
    }
}
