//! Logs and traces. Logs go to standard error (standard output belongs to the answers of subcommands), as text for people or JSON
//! for machines. A thread of its own writes them: when standard error takes nothing more, because nothing reads the pipe, lines are
//! dropped and counted, and the service goes on. Spans go to a collector by OTLP over HTTP, if one is named; otherwise no span is ever made. Imports nothing else
//! of this crate.

use std::{collections::HashMap, io, sync::OnceLock, time::Duration};

use async_trait::async_trait;
use opentelemetry::{
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

/// The target of all spans, here and in the cache: only the layer for traces wants them.
const SPANS: &str = "spans";
/// Longest time for one request to the collector.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// Lines that wait for standard error at most; about a megabyte and a half.
const WAITING_LINES: usize = 8_192;

/// Counts the lines that were dropped.
static DROPPED_LINES: OnceLock<ErrorCounter> = OnceLock::new();

/// Started logs and traces.
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
    /// Dropped, it ends the thread that writes the log.
    log: WorkerGuard,
}

/// Starts logging for the process, and tracing if there is a collector. Later calls change nothing, so tests may call it as often
/// as they like.
///
/// `filter`: a level, and levels of single targets, as [`Targets`] reads them. One that can't be understood lets everything of level info
/// through; `config` has checked it before.
/// `collector`: base URL of an OTLP receiver, to which `/v1/traces` is added.
pub fn init(filter: &str, json: bool, collector: Option<&str>) -> Telemetry {
    let traces = collector.and_then(provider);
    let (lines, log) = NonBlockingBuilder::default()
        .buffered_lines_limit(WAITING_LINES)
        .lossy(true)
        .thread_name("log")
        .finish(io::stderr());
    let _ = DROPPED_LINES.set(lines.error_counter());
    // A second subscriber is refused; the first one stays.
    let _ = subscriber(filter, json, lines, traces.as_ref()).try_init();
    Telemetry { traces, log }
}

/// How many lines of the log were dropped because standard error did not take them.
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
    // One filter for all, unless there are two readers: what it turns off then costs the look at one static value.
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
    let resource = Resource::builder().with_service_name("aside").build();
    Some(SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build())
}

/// Sends spans to the collector. The exporter calls it from a thread of its own, which is none of the runtime's, while the client needs the
/// runtime's clock and sockets.
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
    /// Sends what was not sent yet, and writes the lines that wait: blocks for as long as the collector takes, and a second at most for
    /// standard error.
    pub fn flush(self) {
        if let Some(Err(error)) = self.traces.map(|provider| provider.shutdown()) {
            tracing::warn!(%error, "the last traces were not sent");
        }
        drop(self.log);
    }
}

/// The span of a request. With `traceparent` (W3C Trace Context) it belongs to the caller's trace.
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

/// Says how a request was answered. An error of the service marks its span as failed.
pub fn answered(request: &Span, status: u16) {
    if !request.is_disabled() {
        request.record("http.response.status_code", status);
        if status >= 500 {
            request.record("otel.status_code", "ERROR");
        }
    }
}

/// The trace that a span belongs to, for the log; `None` when nothing is traced.
pub fn trace_id(span: &Span) -> Option<String> {
    if span.is_disabled() {
        return None;
    }
    let context = span.context();
    Some(context.span().span_context().trace_id().to_string())
}

/// Sends panics to the log, where the other lines are, instead of to standard error in a form of their own.
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
