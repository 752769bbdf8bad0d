//! One kill: a request is sent, all lines stop at a chosen message, and the process is killed.

use std::time::Instant;

use reqwest::{RequestBuilder, StatusCode};

use crate::support::{ChildProcess, Message, Speech, Stop, eventually};

/// Which messages a walk counts.
#[derive(Clone, Copy, Debug)]
pub enum Steps {
    /// Those with Postgres and the reply: they come in one order.
    InOrder,
    /// Those with Redis, some of which come while others do.
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

    /// Before and after the first message, the second, the third and so on.
    pub fn stops() -> impl Iterator<Item = Stop> {
        (1..).flat_map(|at| [Stop::Before(at), Stop::After(at)])
    }
}

/// Whether a message is one of the work. The others say nothing and change nothing, and come when they like: Sync alone, by which
/// the pool asks whether a connection lives; Parse, by which a connection gets a statement that it has not used before; answers.
fn works(message: &Message) -> bool {
    let alone = message.bytes.len() <= b"Z\0\0\0\x05I".len();
    !alone && !message.bytes.starts_with(if message.sent { b"P" } else { b"1" })
}

/// What was seen of a process until it was killed.
pub struct Killed {
    /// The status of the reply, if it came whole.
    pub reply: Option<StatusCode>,
    /// What passed since the request was sent.
    pub passed: Vec<Message>,
    /// Whether there was no such step: before it the reply had come and Redis had been told what there was to tell.
    pub beyond: bool,
    pub at: Instant,
}

/// Kills `child` at a step of `request`. `tells` is the call of L2 with which the work ends.
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

/// How many calls of L2 there have been.
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

    /// Returns when one more has succeeded; `false`: a call failed, as it may on a busy machine.
    pub async fn goes_on(&self, child: &ChildProcess) -> bool {
        eventually("one more call of L2", || async {
            let now = Self::of(child, self.operation).await;
            (now.done > self.done || now.failed > self.failed).then_some(now.done > self.done)
        })
        .await
    }
}
