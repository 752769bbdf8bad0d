//! Who read and changed what is regulated: one record for each access, in a file in which nothing can be removed or changed unseen
//! (`chain.rs`). Writing never holds a request up: records wait in a bounded queue for a thread of their own (`sink.rs`), and what finds
//! no room, or no disk, is counted, shown as a metric, and told by the next record that is written. Imports nothing else of this crate.

mod chain;
mod files;
mod sink;
#[cfg(test)]
mod tests;

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    thread::JoinHandle,
};

use chrono::{DateTime, Utc};
use prometheus_client::{metrics::counter::ConstCounter, registry::Registry};
use serde::Serialize;

pub use chain::{Head, Verified, VerifyError, verify};
pub use files::{ChainError, Span, verify_files};
use sink::Sink;

/// Records that may wait to be written.
const QUEUE: usize = 16 * 1024;
/// How many of them may be of refused callers: who is let in nowhere must not push out what is recorded of the others.
const REFUSALS: usize = QUEUE / 4;
/// The outcome of who was refused.
const REFUSED: &str = "refused";

/// One access. Says nothing of values, and names keys only to those who have the tenant's secret.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    pub time: DateTime<Utc>,
    /// Empty, as the subject, when nobody knows who it was.
    pub tenant: String,
    pub subject: String,
    /// `read`, `list`, `place`, `change`; by hand `invalidate`, `erase`.
    pub operation: &'static str,
    /// The hashed name of what was accessed, as it stands in Redis; empty when it isn't known.
    pub key: String,
    /// Where the answer came from, `done`, `absent` (there is no such thing), `refused` (the caller was not let in), or `failed`.
    pub outcome: &'static str,
    pub request_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
}

/// Takes records. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Audit {
    queue: SyncSender<Message>,
    counts: Arc<Counts>,
}

/// What waits to be written.
#[derive(Debug)]
enum Message {
    Record(Box<Record>),
    /// All that was handed in before is written when this is answered.
    Flush(SyncSender<()>),
}

#[derive(Debug, Default)]
struct Counts {
    written: AtomicU64,
    lost: AtomicU64,
    /// Records of refused callers that wait.
    refusals: AtomicUsize,
}

impl Audit {
    /// Opens the file, or goes on where it ends. The thread ends when the last handle is gone.
    ///
    /// # Errors
    /// When the file can't be opened or read.
    pub fn start(path: &Path) -> io::Result<(Self, JoinHandle<()>)> {
        let (queue, records) = sync_channel(QUEUE);
        let counts = Arc::new(Counts::default());
        let mut sink = Sink::open(path, Arc::clone(&counts))?;
        let thread = std::thread::Builder::new().name("audit".into()).spawn(move || sink.run(&records))?;
        Ok((Self { queue, counts }, thread))
    }

    /// Hands a record in. Returns at once; one that finds no room is lost and counted.
    pub fn record(&self, record: Record) {
        let refused = record.outcome == REFUSED;
        let room = !refused || self.counts.refusals.fetch_add(1, Ordering::Relaxed) < REFUSALS;
        if !room || self.queue.try_send(Message::Record(Box::new(record))).is_err() {
            self.counts.refusals.fetch_sub(usize::from(refused), Ordering::Relaxed);
            self.counts.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A caller who was not let in; `record` says who, if that is known.
    pub fn refused(&self, record: Record) {
        self.record(Record { outcome: REFUSED, ..record });
    }

    /// What an operator did by hand, of a tenant or of all.
    pub fn by_hand(&self, operation: &'static str, tenant: &str, done: bool) {
        self.record(Record {
            time: Utc::now(),
            tenant: tenant.to_owned(),
            subject: "operator".to_owned(),
            operation,
            key: String::new(),
            outcome: if done { "done" } else { "failed" },
            request_id: String::new(),
            trace_id: None,
        });
    }

    /// Returns when all that was handed in is written, or lost. Blocks.
    pub fn flush(&self) {
        let (done, wait) = sync_channel(0);
        if self.queue.send(Message::Flush(done)).is_ok() {
            let _ = wait.recv();
        }
    }

    /// Shows what is counted here.
    pub fn register_metrics(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(AuditCollector(Arc::clone(&self.counts))));
    }
}

#[derive(Debug)]
struct AuditCollector(Arc<Counts>);

impl prometheus_client::collector::Collector for AuditCollector {
    fn encode(&self, mut encoder: prometheus_client::encoding::DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        use prometheus_client::encoding::EncodeMetric;
        for (name, help, count) in [
            ("audit_records_written", "Records of accesses that were written", &self.0.written),
            ("audit_records_lost", "Records that found no room or no disk: must be 0", &self.0.lost),
        ] {
            let counter = ConstCounter::new(count.load(Ordering::Relaxed));
            let descriptor = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
            counter.encode(descriptor)?;
        }
        Ok(())
    }
}
