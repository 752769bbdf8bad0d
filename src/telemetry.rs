//! Logs and traces. Logs go to standard error, as text for people or JSON for machines. Standard
//! output is reserved for the answers of subcommands. A separate thread writes the logs. If
//! standard error is blocked because no process reads the pipe, lines are dropped and counted, and
//! the service continues. Spans go to a collector by OTLP over HTTP if one is configured. Otherwise
//! no span is created. This module imports nothing else of this crate.

use std::{collections::HashMap, io, sync::OnceLock, time::Duration};

use async_trait::async_trait;
use opentelemetry::{
    KeyValue,
    propagation::TextMapPropagator,
    trace::{TraceContextExt, TracerProvider},
};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response, hyper::HyperClient};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use tokio::runtime::Handle;
use tokio_util::context::TokioContext;
use tracing::{Span, Subscriber, level_filters::LevelFilter};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{
    Layer, filter::Targets, fmt, layer::SubscriberExt, registry, registry::LookupSpan, util::SubscriberInitExt,
};

/// The target of all spans, here and in the cache. Only the trace layer records it.
const SPANS: &str = "spans";
/// The time limit of one request to the collector.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// The maximum number of lines that wait for standard error, about a megabyte and a half.
const WAITING_LINES: usize = 8_192;

/// Counts dropped lines.
static DROPPED_LINES: OnceLock<ErrorCounter> = OnceLock::new();

/// The handle of running logs and traces.
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
    /// Its drop ends the thread that writes the log.
    log: WorkerGuard,
}

/// Starts logging for the process, and tracing if there is a collector. Later calls change nothing,
/// so tests may call it often.
///
/// `filter` is a level and optional levels of single targets, in the syntax of [`Targets`]. An
/// invalid filter lets all events of level info through; `config` has checked it before.
/// `collector` is the base URL of an OTLP receiver, to which `/v1/traces` is added.
pub fn init(filter: &str, json: bool, collector: Option<&str>) -> Telemetry {
    let traces = collector.and_then(provider);
    let (lines, log) = NonBlockingBuilder::default()
        .buffered_lines_limit(WAITING_LINES)
        .lossy(true)
        .thread_name("log")
        .finish(io::stderr());
    let _ = DROPPED_LINES.set(lines.error_counter());
    // A second subscriber is refused, and the first one stays.
    let _ = subscriber(filter, json, lines, traces.as_ref()).try_init();
    Telemetry { traces, log }
}

/// How many log lines were dropped because standard error was blocked.
pub fn dropped_lines() -> u64 {
    DROPPED_LINES.get().map_or(0, |counter| counter.dropped_lines() as u64)
}

fn subscriber(
    filter: &str,
    json: bool,
    lines: NonBlocking,
    provider: Option<&SdkTracerProvider>,
) -> Box<dyn Subscriber + Send + Sync> {
    let filter: Targets = filter.parse().unwrap_or_else(|_| Targets::new().with_default(LevelFilter::INFO));
    let filter = filter.with_target(SPANS, LevelFilter::OFF);
    // Without traces, one filter is shared. A disabled event then costs only one read of a static
    // value.
    let Some(provider) = provider else { return Box::new(registry().with(filter).with(logs(json, lines))) };
    let traces = tracing_opentelemetry::layer().with_tracer(provider.tracer("aside"));
    let traces = traces.with_location(false).with_threads(false);
    let traces = traces.with_filter(Targets::new().with_target(SPANS, LevelFilter::INFO));
    Box::new(registry().with(logs(json, lines).with_filter(filter)).with(traces))
}

fn logs<S: Subscriber + for<'a> LookupSpan<'a>>(json: bool, lines: NonBlocking) -> Box<dyn Layer<S> + Send + Sync> {
    let logs = fmt::layer().with_writer(lines);
    if json {
        logs.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
    } else {
        logs.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).boxed()
    }
}

fn provider(collector: &str) -> Option<SdkTracerProvider> {
    let endpoint = format!("{}/v1/traces", collector.trim_end_matches('/'));
    let runtime = Handle::try_current().inspect_err(|error| eprintln!("aside: no traces are sent: {error}")).ok()?;
    let client = CollectorClient { http: HyperClient::with_default_connector(EXPORT_TIMEOUT, None), runtime };
    let exporter = SpanExporter::builder().with_http().with_http_client(client).with_endpoint(endpoint).build();
    let exporter = exporter.inspect_err(|error| eprintln!("aside: no traces are sent: {error}")).ok()?;
    let resource = Resource::builder()
        .with_service_name("aside")
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    Some(SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build())
}

/// Sends spans to the collector. The exporter calls it from its own thread outside the runtime, but
/// the client needs the runtime's clock and sockets.
#[derive(Debug)]
struct CollectorClient {
    http: HyperClient,
    runtime: Handle,
}

#[async_trait]
impl HttpClient for CollectorClient {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        TokioContext::new(self.http.send_bytes(request), self.runtime.clone()).await
    }
}

impl Telemetry {
    /// Sends the remaining spans and writes the waiting log lines. It blocks until the collector
    /// has answered, and at most a second for standard error.
    pub fn flush(self) {
        if let Some(Err(error)) = self.traces.map(|provider| provider.shutdown()) {
            tracing::warn!(%error, "failed to send the last traces");
        }
        drop(self.log);
    }
}

/// Creates the span of a request. With `traceparent` (W3C Trace Context) it belongs to the caller's
/// trace.
pub fn request_span(method: &str, route: &str, traceparent: Option<&str>) -> Span {
    let span = tracing::info_span!(
        target: SPANS,
        "request",
        otel.name = tracing::field::Empty,
        otel.kind = "server",
        http.request.method = method,
        http.route = route,
        http.response.status_code = tracing::field::Empty,
        otel.status_code = tracing::field::Empty,
    );
    if !span.is_disabled() {
        span.record("otel.name", format!("{method} {route}"));
        if let Some(parent) = traceparent {
            let carrier = HashMap::from([("traceparent".to_owned(), parent.to_owned())]);
            let _ = span.set_parent(TraceContextPropagator::new().extract(&carrier));
        }
    }
    span
}

/// Records the status of a request. A server error marks its span as failed.
pub fn answered(request: &Span, status: u16) {
    if !request.is_disabled() {
        request.record("http.response.status_code", status);
        if status >= 500 {
            request.record("otel.status_code", "ERROR");
        }
    }
}

/// The trace id of a span for the log; `None` if tracing is off.
pub fn trace_id(span: &Span) -> Option<String> {
    if span.is_disabled() {
        return None;
    }
    let context = span.context();
    Some(context.span().span_context().trace_id().to_string())
}

/// Sends panics to the log, instead of to standard error in a different format.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "a task panicked")));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_collector_no_span_is_made() {
        let provider = SdkTracerProvider::builder().build();
        for (provider, disabled) in [(None, true), (Some(&provider), false)] {
            let (lines, _log) = NonBlockingBuilder::default().finish(io::sink());
            tracing::subscriber::with_default(subscriber("trace", true, lines, provider), || {
                let span = request_span("GET", "/products/{id}", None);
                assert_eq!((span.is_disabled(), trace_id(&span).is_none()), (disabled, disabled));
            });
        }
    }
}
