//! One kill. The test sends a request, all connections stop at a chosen message, and the process is
//! killed.

use std::time::Instant;

use reqwest::{RequestBuilder, StatusCode};

use crate::support::{ChildProcess, Message, Speech, Stop, eventually};

/// The messages that a walk counts.
#[derive(Clone, Copy, Debug)]
pub enum Steps {
    /// The messages with Postgres, and the reply. They have one order.
    InOrder,
    /// The messages with Redis. Some of them overlap with others.
    Redis,
}

impl Steps {
    pub const ALL: [Self; 2] = [Self::InOrder, Self::Redis];

    fn counts(self, message: &Message) -> bool {
        match (self, message.speech) {
            (Self::InOrder, Speech::Postgres) => works(message),
            (Self::InOrder, Speech::Http) => message.sent,
            (Self::Redis, Speech::Redis) => true,
            _ => false,
        }
    }

    /// Returns the stops before and after the first message, the second, the third and so on.
    pub fn stops() -> impl Iterator<Item = Stop> {
        (1..).flat_map(|at| [Stop::Before(at), Stop::After(at)])
    }
}

/// Returns whether a message belongs to the work. The other messages change no data and come at any
/// time.
///
/// They are a lone Sync, by which the pool checks a connection, and a Parse, by which a connection
/// prepares a statement. Their answers do not belong to the work either.
fn works(message: &Message) -> bool {
    let alone = message.bytes.len() <= b"Z\0\0\0\x05I".len();
    !alone && !message.bytes.starts_with(if message.sent { b"P" } else { b"1" })
}

/// The observations of a process until it was killed.
pub struct Killed {
    /// The status of the reply, if the whole reply came.
    pub reply: Option<StatusCode>,
    /// The messages since the request was sent.
    pub passed: Vec<Message>,
    /// Whether the step does not exist. The reply and the last call of Redis had come before it.
    pub beyond: bool,
    pub at: Instant,
}

/// Kills `child` at a step of `request`. `tells` is the L2 call that ends the work.
pub async fn kill(
    child: ChildProcess,
    request: RequestBuilder,
    steps: Steps,
    stop: Stop,
    tells: &'static str,
) -> Killed {
    let calls = Calls::of(&child, tells).await;
    child.wire.stop_at(stop, move |message| steps.counts(message));
    let reply = tokio::spawn(async move {
        let response = request.send().await.ok()?;
        let status = response.status();
        response.bytes().await.ok().map(|_| status)
    });
    let finished = async {
        eventually("a reply", || async { reply.is_finished().then_some(()) }).await;
        calls.goes_on(&child).await
    };
    let told = tokio::select! {
        () = child.wire.stopped() => false,
        told = finished => told,
    };
    let beyond = !child.wire.stop() && told;
    let (passed, at) = (child.wire.passed(), Instant::now());
    child.kill_9().await;
    Killed { reply: reply.await.expect("the client does not panic"), passed, beyond, at }
}

/// The counts of L2 calls.
pub struct Calls {
    operation: &'static str,
    done: f64,
    failed: f64,
}

impl Calls {
    pub async fn of(child: &ChildProcess, operation: &'static str) -> Self {
        let metrics = child.metrics().await;
        let calls = |tag_versions: &[_]| metrics.sum("cache_l2_calls_total", tag_versions);
        let done = calls(&[("operation", operation), ("result", "ok")]);
        Self { operation, done, failed: calls(&[]) - calls(&[("result", "ok")]) }
    }

    /// Returns after one more call. `false` means that a call failed, as it may on a busy machine.
    pub async fn goes_on(&self, child: &ChildProcess) -> bool {
        eventually("one more call of L2", || async {
            let now = Self::of(child, self.operation).await;
            (now.done > self.done || now.failed > self.failed).then_some(now.done > self.done)
        })
        .await
    }
}
