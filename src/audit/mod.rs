//! Records who read and changed regulated data: one record for each access, in a file in which
//! changes and removals can be detected (`chain.rs`). Writing never delays a request. Records wait
//! in a bounded queue for a dedicated thread (`sink.rs`). A record that finds no space in the queue
//! or on the disk is lost. Losses are counted, exposed as a metric, and reported by the next
//! record. This module imports nothing else of this crate.

mod chain;
mod files;
mod recorder;
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
pub use recorder::AccessRecorder;
use sink::Sink;

/// The capacity of the queue in records.
const QUEUE: usize = 16 * 1024;
/// How many of them may belong to refused callers. A caller without access must not displace the
/// records of other callers.
const REFUSALS: usize = QUEUE / 4;
/// The outcome of a refused access.
const REFUSED: &str = "refused";

/// One access. It contains no values, and only the tenant's secret can link its key digest to a
/// key.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    pub time: DateTime<Utc>,
    /// Empty, like the subject, if the caller is unknown.
    pub tenant: String,
    pub subject: String,
    /// `read`, `list`, `place` or `change`; for operators `invalidate` or `erase`.
    pub operation: &'static str,
    /// The digest of the accessed key, as it is stored in Redis. It is empty if the key is unknown.
    pub key: String,
    /// The tier of the answer, `done`, `absent` (the resource does not exist), `refused` (the
    /// caller had no access), or `failed`.
    pub outcome: &'static str,
    pub request_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
}

/// The audit log. It is cheap to clone.
#[derive(Clone, Debug)]
pub struct Audit {
    queue: SyncSender<Message>,
    counts: Arc<Counts>,
}

/// A message in the queue.
#[derive(Debug)]
enum Message {
    Record(Box<Record>),
    /// Answered when all earlier records are written.
    Flush(SyncSender<()>),
}

#[derive(Debug, Default)]
struct Counts {
    written: AtomicU64,
    lost: AtomicU64,
    /// The number of queued records of refused callers.
    refusals: AtomicUsize,
}

impl Audit {
    /// Opens the file and continues at its end. The thread ends when the last handle is dropped.
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

    /// Enqueues a record and returns at once. If the queue is full, the record is lost and counted.
    pub fn record(&self, record: Record) {
        let refused = record.outcome == REFUSED;
        let room = !refused || self.counts.refusals.fetch_add(1, Ordering::Relaxed) < REFUSALS;
        if !room || self.queue.try_send(Message::Record(Box::new(record))).is_err() {
            self.counts.refusals.fetch_sub(usize::from(refused), Ordering::Relaxed);
            self.counts.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Records a caller without access. `record` contains the caller's name if it is known.
    pub fn refused(&self, record: Record) {
        self.record(Record { outcome: REFUSED, ..record });
    }

    /// Records a manual action of an operator, for one tenant or for all.
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

    /// Blocks until all earlier records are written or lost.
    pub fn flush(&self) {
        let (done, wait) = sync_channel(0);
        if self.queue.send(Message::Flush(done)).is_ok() {
            let _ = wait.recv();
        }
    }

    /// Registers the metrics of the audit log.
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
