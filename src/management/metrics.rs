//! `GET /metrics`. The format is OpenMetrics for clients that ask for it, as Prometheus does, and
//! otherwise the older format of Prometheus. This file also has the gauges of the process:
//! connection pool and tasks.

use std::collections::HashSet;

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text::encode},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};
use sqlx::PgPool;

use super::{Management, problem::problem, process::Process};
use crate::telemetry;

const OPEN_METRICS: &str = "application/openmetrics-text";

pub async fn show_metrics(State(state): State<Management>, headers: HeaderMap) -> Response {
    let mut text = String::with_capacity(16 * 1024);
    if encode(&mut text, &state.registry).is_err() {
        return problem(StatusCode::INTERNAL_SERVER_ERROR, "The metrics could not be written.");
    }
    let mut accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    if accepted.any(wants_open_metrics) {
        ([(header::CONTENT_TYPE, format!("{OPEN_METRICS}; version=1.0.0; charset=utf-8"))], text).into_response()
    } else {
        ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], classic(&text)).into_response()
    }
}

/// Returns whether `Accept` lists OpenMetrics without refusing it (RFC 9110, 12.5.1). A client that
/// accepts both formats gets OpenMetrics.
fn wants_open_metrics(accept: &str) -> bool {
    let mut ranges = accept.split(',').map(|range| range.split(';').map(str::trim));
    ranges.any(|mut range| {
        range.next().is_some_and(|kind| kind.eq_ignore_ascii_case(OPEN_METRICS))
            && !range.any(|weight| weight.strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0)))
    })
}

/// Converts the metrics to the older format. It includes a counter's suffix in the description too,
/// and it has neither units nor an end mark.
fn classic(open_metrics: &str) -> String {
    let counters: HashSet<&str> =
        open_metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    let mut text = String::with_capacity(open_metrics.len());
    for line in open_metrics.lines().filter(|line| *line != "# EOF" && !line.starts_with("# UNIT ")) {
        let described =
            ["# HELP ", "# TYPE "].into_iter().find_map(|word| Some((word, line.strip_prefix(word)?.split_once(' ')?)));
        match described {
            Some((word, (name, rest))) if counters.contains(name) => {
                text.extend([word, name, "_total ", rest]);
            }
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

/// Registers the gauges of the pool, the runtime and the dropped log lines, and the process and
/// build metrics. They are read at each scrape.
pub fn register_process(registry: &mut Registry, pool: PgPool) {
    registry.register_collector(Box::new(Process));
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
        let (name, help) = ("log_lines_dropped", "Lines of the log that standard error did not take");
        let counter = ConstCounter::new(telemetry::dropped_lines());
        counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_refuses_the_newer_format_gets_the_older_one() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.1";
        assert!(wants_open_metrics(prometheus));
        for other in ["text/plain", "*/*", "application/openmetrics-text;q=0, text/plain", ""] {
            assert!(!wants_open_metrics(other), "{other}");
        }
    }

    #[test]
    fn the_older_format_names_counters_with_their_suffix() {
        let open_metrics = "# HELP reads Reads.\n# TYPE reads counter\nreads_total{a=\"b\"} 1\n# HELP took_seconds Time.\n\
            # TYPE took_seconds histogram\n# UNIT took_seconds seconds\ntook_seconds_sum 2\n# EOF\n";
        let older = "# HELP reads_total Reads.\n# TYPE reads_total counter\nreads_total{a=\"b\"} 1\n# HELP took_seconds Time.\n\
            # TYPE took_seconds histogram\ntook_seconds_sum 2\n";
        assert_eq!(classic(open_metrics), older);
    }
}
