//! Load at a fixed rate. Requests are sent by the clock, whether or not earlier ones were answered.

use std::time::{Duration, Instant};

use reqwest::{Method, RequestBuilder, Response, StatusCode};
use tokio::{task::JoinSet, time};

/// The end of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// Answered from the instance's own L1.
    L1,
    /// Answered from Redis.
    L2,
    /// Answered from the database.
    Loaded,
    /// Answered with a value that is flagged as stale.
    Stale,
    /// A write that was carried out.
    Written,
    /// Refused: 503 with Retry-After.
    Refused,
    /// No answer, or an answer that is never permitted.
    Failed,
}

impl End {
    pub const ALL: [Self; 7] =
        [Self::L1, Self::L2, Self::Loaded, Self::Stale, Self::Written, Self::Refused, Self::Failed];

    pub fn name(self) -> &'static str {
        match self {
            Self::L1 => "L1",
            Self::L2 => "L2",
            Self::Loaded => "database",
            Self::Stale => "stale",
            Self::Written => "written",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }

    fn of(answer: &Response, method: &Method) -> Self {
        let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let cache = header("cache-status");
        match answer.status() {
            StatusCode::SERVICE_UNAVAILABLE if !header("retry-after").is_empty() => Self::Refused,
            status if !status.is_success() => Self::Failed,
            _ if *method != Method::GET => Self::Written,
            _ if cache.contains("detail=database-away") => Self::Stale,
            _ if cache.contains("aside-l1; hit") => Self::L1,
            _ if cache.contains("aside-l2; hit") => Self::L2,
            _ => Self::Loaded,
        }
    }
}

/// A request with its end. Times are since the beginning of the run.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// When the request was due, not when it was sent. So a client that slow answers delay does not
    /// improve the result.
    pub at: Duration,
    pub took: Duration,
    pub end: End,
}

/// Sends one request and reads its answer to the end.
pub async fn ask(begun: Instant, due: Instant, request: RequestBuilder) -> Asked {
    let (http, request) = request.build_split();
    let request = request.expect("a request");
    let method = request.method().clone();
    let end = match http.execute(request).await {
        Ok(answer) => {
            let end = End::of(&answer, &method);
            if end == End::Failed {
                eprintln!("  {} {}: {}", method, answer.url().path(), answer.status());
            }
            answer.bytes().await.map_or(End::Failed, |_| end)
        }
        Err(error) => {
            eprintln!("  {method}: {error:?}");
            End::Failed
        }
    };
    Asked { at: due - begun, took: due.elapsed(), end }
}

/// Sends `rate` requests a second for `lasting`, and waits for all answers.
pub async fn by_the_clock(
    begun: Instant,
    rate: f64,
    lasting: Duration,
    request: impl Fn() -> RequestBuilder,
) -> Vec<Asked> {
    let (from, mut flying, mut asked) = (Instant::now(), JoinSet::new(), Vec::new());
    for number in 0..(rate * lasting.as_secs_f64()) as u64 {
        let due = from + Duration::from_secs_f64(number as f64 / rate);
        time::sleep_until(due.into()).await;
        flying.spawn(ask(begun, due, request()));
        while let Some(Ok(one)) = flying.try_join_next() {
            asked.push(one);
        }
    }
    asked.extend(flying.join_all().await);
    asked
}

/// How many of `asked` had this end.
pub fn count(asked: &[Asked], end: End) -> usize {
    asked.iter().filter(|one| one.end == end).count()
}

/// Times in milliseconds.
pub fn milliseconds<'a>(asked: impl IntoIterator<Item = &'a Asked>) -> Vec<f64> {
    asked.into_iter().map(|one| one.took.as_secs_f64() * 1000.0).collect()
}
