//! A trace collector in the test's own process. It accepts spans over OTLP and shows them to the
//! test.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{Router, body::Bytes, extract::State, http::StatusCode, routing::post};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest, common::v1::any_value::Value, trace::v1::Span,
};
use prost::Message;

type Spans = Arc<Mutex<Vec<Span>>>;

/// A listening collector.
pub struct Collector {
    address: SocketAddr,
    spans: Spans,
}

impl Collector {
    pub async fn start() -> Self {
        let spans = Spans::default();
        let router = Router::new().route("/v1/traces", post(take)).with_state(Arc::clone(&spans));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = listener.local_addr().expect("its address");
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, spans }
    }

    /// Returns the value for `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the spans of one trace that have arrived so far.
    pub fn of(&self, trace: &str) -> Vec<Seen> {
        let spans = self.spans.lock().expect("nobody panics with it");
        spans.iter().map(Seen::from).filter(|span| span.trace == trace).collect()
    }
}

async fn take(State(spans): State<Spans>, body: Bytes) -> StatusCode {
    let Ok(request) = ExportTraceServiceRequest::decode(body) else { return StatusCode::BAD_REQUEST };
    let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
    spans.lock().expect("nobody panics with it").extend(scopes.flat_map(|scope| scope.spans));
    StatusCode::OK
}

/// A received span.
#[derive(Clone, Debug)]
pub struct Seen {
    pub name: String,
    trace: String,
    pub id: String,
    pub parent: String,
    attributes: Vec<(String, String)>,
}

impl Seen {
    /// Returns the value of an attribute as text.
    pub fn says(&self, attribute: &str) -> Option<&str> {
        self.attributes.iter().find(|(name, _)| name == attribute).map(|(_, value)| value.as_str())
    }

    /// Returns whether its name or an attribute contains `text`.
    pub fn names(&self, text: &str) -> bool {
        self.name.contains(text) || self.attributes.iter().any(|(_, value)| value.contains(text))
    }
}

impl From<&Span> for Seen {
    fn from(span: &Span) -> Self {
        let attribute = |value: Option<Value>| match value {
            Some(Value::StringValue(text)) => text,
            Some(Value::IntValue(number)) => number.to_string(),
            other => format!("{other:?}"),
        };
        let attributes = span
            .attributes
            .iter()
            .map(|pair| (pair.key.clone(), attribute(pair.value.as_ref().and_then(|value| value.value.clone()))));
        Self {
            name: span.name.clone(),
            trace: hex(&span.trace_id),
            id: hex(&span.span_id),
            parent: hex(&span.parent_span_id),
            attributes: attributes.collect(),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
