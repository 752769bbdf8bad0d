//! Reads the rows and sends them to Postgres. A separate thread decompresses and rewrites them, and
//! they are sent in chunks.
//!
//! Memory is bounded for files of any size, because only a few chunks are in flight at a time.

use std::{
    fs,
    io::{self, Read},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use sqlx::PgConnection;
use tokio::sync::mpsc;

use super::{
    SeedError,
    progress::{Progress, Step},
    rows::File,
};

/// The size of one COPY message in bytes.
const CHUNK: usize = 256 * 1024;
/// How many chunks may wait for Postgres.
const CHUNKS_AHEAD: usize = 4;

/// The data set to load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The sample in the binary: 15,701 products, 4,734 orders.
    Sample,
    /// The three files in this folder.
    Full(PathBuf),
}

/// A file's compressed bytes and their number.
struct Packed {
    bytes: Box<dyn Read + Send>,
    length: u64,
}

impl Source {
    fn open(&self, file: &'static str) -> Result<Packed, SeedError> {
        match self {
            Self::Sample => {
                let bytes: &'static [u8] = match file {
                    "products.csv.gz" => include_bytes!("../../data/sample/products.csv.gz"),
                    "orders.csv.gz" => include_bytes!("../../data/sample/orders.csv.gz"),
                    _ => include_bytes!("../../data/sample/order_items.csv.gz"),
                };
                Ok(Packed { bytes: Box::new(bytes), length: bytes.len() as u64 })
            }
            Self::Full(folder) => {
                let path = folder.join(file);
                let opened = fs::File::open(&path).and_then(|file| Ok((file.metadata()?.len(), file)));
                let (length, file) = opened.map_err(|error| SeedError::File { path, error })?;
                Ok(Packed { bytes: Box::new(file), length })
            }
        }
    }
}

/// Copies all rows of one file to its staging table and returns how many it copied.
pub(super) async fn copy<F: File>(
    db: &mut PgConnection,
    source: &Source,
    progress: Progress,
) -> Result<u64, SeedError> {
    let packed = source.open(F::FILE)?;
    let step = Step::begin(progress, F::STEP, packed.length);
    let read = Arc::new(AtomicU64::new(0));
    let counted = Counted { inner: packed.bytes, read: read.clone() };
    let (chunks, mut ready) = mpsc::channel(CHUNKS_AHEAD);

    sqlx::query(F::STAGING).execute(&mut *db).await?;
    let reader = tokio::task::spawn_blocking(move || rewrite::<F>(counted, &chunks));
    let mut copy = db.copy_in_raw(F::COPY).await?;
    while let Some(chunk) = ready.recv().await {
        copy.send(chunk).await?;
        step.advance_to(read.load(Ordering::Relaxed));
    }
    // The chunks end at the end of the file or at a row that can't be read. The second case must
    // not look like the first.
    match reader.await.map_err(|_| SeedError::Reader)? {
        Ok(()) => {
            let rows = copy.finish().await?;
            step.finish(&format!("{rows} rows read"));
            Ok(rows)
        }
        Err(error) => {
            copy.abort("the file can't be read").await?;
            Err(SeedError::Row { file: F::FILE, error })
        }
    }
}

/// Reads the file's rows and sends them as chunks of CSV for COPY.
fn rewrite<F: File>(packed: impl Read, chunks: &mpsc::Sender<Bytes>) -> Result<(), csv::Error> {
    let mut rows = csv::Reader::from_reader(MultiGzDecoder::new(packed));
    let mut out = writer();
    for row in rows.deserialize() {
        out.serialize(F::stage(row?))?;
        if out.get_ref().len() >= CHUNK {
            if chunks.blocking_send(finished(out)?).is_err() {
                return Ok(()); // the load has failed, and says so itself
            }
            out = writer();
        }
    }
    let _ = chunks.blocking_send(finished(out)?);
    Ok(())
}

fn writer() -> csv::Writer<Vec<u8>> {
    csv::WriterBuilder::new().has_headers(false).from_writer(Vec::with_capacity(CHUNK + 16 * 1024))
}

fn finished(writer: csv::Writer<Vec<u8>>) -> Result<Bytes, csv::Error> {
    writer.into_inner().map(Bytes::from).map_err(|error| error.into_error().into())
}

/// Counts the compressed bytes that were read. It is the only measure of progress whose end is
/// known in advance.
struct Counted {
    inner: Box<dyn Read + Send>,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}
