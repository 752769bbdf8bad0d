//! One request of a client. Sends it, times it, and turns the answer into a record.

use std::{sync::Arc, time::Duration};

use aside::domain::{
    orders::{Order, OrderPage},
    products::{Product, ProductPage},
};
use reqwest::{Method, StatusCode, header::HeaderMap};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    check::history::{Ack, Key, List, Record, Sight, Told},
    fixture::{sight_of_order, sight_of_product},
    fleet::Instance,
    notes::Notes,
    pace::Clock,
};

/// The longest wait for an answer.
const LIMIT: Duration = Duration::from_millis(1500);
/// For how long an instance that did not answer gets fewer requests, in microseconds.
const AVOIDED: u64 = 150_000;
/// At least as many products as the largest category can have.
pub const CATEGORY_LIMIT: usize = 100;
/// The page size of order lists.
pub const ORDERS_LIMIT: usize = 20;

/// The content that a request asks for, as far as the checker must understand the answer.
#[derive(Clone, Debug)]
pub enum Want {
    Product(i64),
    Batch,
    Order(i64),
    List(List),
    /// The new state of a product.
    ProductWritten,
    /// No content. The product is deleted, in the state after this version.
    ProductDeleted(i64, i64),
    OrderWritten,
    OrderPlaced,
}

/// A request that is not sent yet.
pub struct Call {
    pub verb: &'static str,
    pub method: Method,
    pub path: String,
    pub want: Want,
    pub body: Option<Value>,
    pub headers: Vec<(&'static str, String)>,
    pub token_of: Option<usize>,
}

impl Call {
    pub fn read(verb: &'static str, path: String, want: Want) -> Self {
        Self { verb, method: Method::GET, path, want, body: None, headers: Vec::new(), token_of: None }
    }

    pub fn write(verb: &'static str, method: Method, path: String, want: Want, body: Option<Value>) -> Self {
        Self { verb, method, path, want, body, headers: Vec::new(), token_of: None }
    }

    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// The outcome of a request.
pub struct Outcome {
    /// The index of its record.
    pub record: usize,
    pub told: Told,
    pub token: Option<String>,
    pub etag: Option<String>,
}

/// The access of one client to the fleet.
#[derive(Clone)]
pub struct Line {
    pub client: u16,
    pub fleet: Arc<Vec<Instance>>,
    pub http: reqwest::Client,
    pub notes: Arc<Notes>,
    pub clock: Clock,
}

impl Line {
    /// Sends a request to an instance. `unchanged` is the representation that a 304 confirms.
    pub async fn send(&self, at: usize, call: Call, unchanged: Option<Sight>) -> Outcome {
        let instance = &self.fleet[at];
        let url = format!("http://127.0.0.1:{}{}", instance.port, call.path);
        let mut request = self.http.request(call.method, url).timeout(LIMIT);
        for (name, value) in &call.headers {
            request = request.header(*name, value);
        }
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        let (invoked, process_run) = (self.clock.now(), instance.process_run());
        let answer = async {
            let answer = request.send().await?;
            let (status, headers) = (answer.status(), answer.headers().clone());
            Ok::<_, reqwest::Error>((status, headers, answer.bytes().await?))
        };
        let answer = answer.await;
        let completed = self.clock.now();
        let mut record = Record {
            client: self.client,
            instance: Some(at as u8),
            process_run,
            verb: call.verb,
            invoked,
            completed,
            status: 0,
            source: "",
            told: Told::Lost,
            token_of: call.token_of,
            fleet: false,
        };
        let (mut token, mut etag) = (None, None);
        if let Ok((status, headers, body)) = &answer {
            record.status = status.as_u16();
            record.source = source(headers);
            record.told = told(&call.want, *status, body, unchanged);
            record.fleet =
                text(headers, "preference-applied").is_some_and(|applied| applied.contains("fleet-consistent"));
            token = text(headers, "consistency-token").map(str::to_owned);
            etag = text(headers, "etag").map(str::to_owned);
        } else {
            instance.avoid_until(completed + AVOIDED);
        }
        let told = record.told.clone();
        Outcome { record: self.notes.record(record), told, token, etag }
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// The body of a batch answer.
#[derive(Deserialize)]
struct Batch {
    items: Vec<Product>,
    unknown: Vec<i64>,
}

fn told(want: &Want, status: StatusCode, body: &[u8], unchanged: Option<Sight>) -> Told {
    match (status.as_u16(), want) {
        (200 | 201 | 204, _) => {
            understood(want, body).unwrap_or_else(|wrong| Told::VerifyError(format!("{status}: {wrong}")))
        }
        (304, Want::Product(id)) if unchanged.is_some() => Told::Values(vec![(Key::Product(*id), unchanged)]),
        (404, Want::Product(id)) => Told::Values(vec![(Key::Product(*id), None)]),
        (404, Want::Order(id)) => Told::Values(vec![(Key::Order(*id), None)]),
        (503, _) => Told::Unavailable,
        (400..=499, _) => Told::Refused,
        _ => Told::VerifyError(format!("{status}: {}", String::from_utf8_lossy(body))),
    }
}

fn understood(want: &Want, body: &[u8]) -> Result<Told, serde_json::Error> {
    let product = |product: Product| (Key::Product(product.id), sight_of_product(product));
    let order = |order: Order| (Key::Order(order.id), sight_of_order(&order));
    let one = |(key, sight)| Told::Values(vec![(key, Some(sight))]);
    let version = |(key, sight): (Key, Sight)| Told::Written(Ack::Version(key, sight.version));
    Ok(match want {
        Want::Product(_) => one(product(parse(body)?)),
        Want::Order(_) => one(order(parse(body)?)),
        Want::Batch => {
            let Batch { items, unknown } = parse(body)?;
            let items = items.into_iter().map(product).map(|(key, sight)| (key, Some(sight)));
            Told::Values(items.chain(unknown.into_iter().map(|id| (Key::Product(id), None))).collect())
        }
        Want::List(list @ List::Category(_)) => {
            let page: ProductPage = parse(body)?;
            let cut = page.next_cursor.is_some();
            Told::Page { list: list.clone(), items: page.items.into_iter().map(product).collect(), cut }
        }
        Want::List(list @ List::Customer(_)) => {
            let page: OrderPage = parse(body)?;
            let cut = page.next_cursor.is_some();
            Told::Page { list: list.clone(), items: page.items.into_iter().map(order).collect(), cut }
        }
        Want::ProductWritten => version(product(parse(body)?)),
        Want::ProductDeleted(id, before) => Told::Written(Ack::Version(Key::Product(*id), before + 1)),
        Want::OrderWritten | Want::OrderPlaced => {
            let (key, sight) = order(parse(body)?);
            Told::Written(Ack::TransactionOf(key, sight.version))
        }
    })
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(body)
}

/// The source of an answer, from `Cache-Status`.
fn source(headers: &HeaderMap) -> &'static str {
    let Some(status) = text(headers, "cache-status") else { return "" };
    let named = [
        ("detail=database-away", "stale"),
        ("aside-l1; hit", "l1_hit"),
        ("aside-l2; hit", "l2_hit"),
        ("collapsed", "collapsed"),
        ("detail=invalidated", "loaded_invalidated"),
        ("detail=not-current", "loaded_not_current"),
        ("detail=unreadable", "loaded_unreadable"),
        ("detail=error", "l2_error"),
        ("detail=breaker-open", "l2_skipped"),
        ("fwd=request", "bypass"),
        ("detail=expired", "loaded_expired"),
    ];
    named.iter().find(|(mark, _)| status.contains(mark)).map_or("loaded_cold", |(_, name)| name)
}
