//! The thread that writes: record by record, each in one call, and to the disk itself once a second.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use super::{
    Counts, Message, Record,
    chain::{Link, NOTHING, Place, hash},
};

const LONGEST: u64 = 256 << 20;
/// Pause between two times at which what was written is brought to the disk, and the head is logged.
const SYNC: Duration = Duration::from_secs(1);
/// Where the last lines are looked for when a file is continued: no line is as long.
const TAIL: u64 = 64 * 1024;

pub(super) struct Sink {
    path: PathBuf,
    file: File,
    length: u64,
    /// A file that is longer is put aside, and a new one goes on with its chain.
    longest: u64,
    /// Number and hash of the last line.
    head: (u64, String),
    /// Whether the last line was broken off.
    torn: bool,
    /// Losses that a record has told of.
    told: u64,
    counts: Arc<Counts>,
}

impl Sink {
    /// Goes on where the file ends.
    pub(super) fn open(path: &Path, counts: Arc<Counts>) -> io::Result<Self> {
        let mut file = append(path)?;
        let length = file.metadata()?.len();
        let (head, torn) = ending(&mut file, length)?;
        Ok(Self { path: path.to_owned(), file, length, longest: LONGEST, head, torn, told: 0, counts })
    }

    /// Writes until the last handle is gone.
    pub(super) fn run(&mut self, records: &Receiver<Message>) {
        let (mut synced, mut dirty) = (Instant::now(), false);
        loop {
            match records.recv_timeout(SYNC) {
                Ok(Message::Record(record)) => {
                    self.write(&record);
                    dirty = true;
                }
                Ok(Message::Flush(done)) => {
                    self.sync(&mut dirty);
                    let _ = done.send(());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.sync(&mut dirty),
            }
            if dirty && synced.elapsed() >= SYNC {
                self.sync(&mut dirty);
                synced = Instant::now();
            }
        }
    }

    fn sync(&mut self, dirty: &mut bool) {
        if std::mem::take(dirty) {
            if let Err(error) = self.file.sync_data() {
                tracing::error!(%error, "the audit file can't be brought to the disk");
            }
            let (number, hash) = &self.head;
            tracing::info!(number, hash, "audit head");
        }
    }

    pub(super) fn write(&mut self, record: &Record) {
        if let Err(error) = self.try_write(record) {
            if self.counts.lost.fetch_add(1, Ordering::Relaxed) == self.told {
                tracing::error!(%error, "audit records are lost");
            }
        } else {
            self.counts.written.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn try_write(&mut self, record: &Record) -> io::Result<()> {
        if self.length >= self.longest && !self.torn {
            self.rotate()?;
        }
        let lost = self.counts.lost.load(Ordering::Relaxed);
        let (number, previous) = (self.head.0 + 1, &self.head.1);
        let link = Link { number, previous, lost: lost - self.told, after_torn: self.torn, record };
        let mut line = serde_json::to_vec(&link)?;
        let hash = hash(&line);
        line.push(b'\n');
        match self.append(&line) {
            Ok(()) => {
                (self.head, self.torn, self.told) = ((number, hash), false, lost);
                Ok(())
            }
            Err(error) => {
                self.mend();
                Err(error)
            }
        }
    }

    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        self.file.write_all(line)?;
        self.length += line.len() as u64;
        Ok(())
    }

    /// After a line that may have been written in part: ends it, as far as there is room, and takes it as the last one.
    fn mend(&mut self) {
        let ended = self.file.metadata().and_then(|known| {
            let length = known.len();
            if length == self.length {
                return Ok(None);
            }
            self.file.write_all(b"\n")?;
            self.length = length + 1;
            ending(&mut OpenOptions::new().read(true).open(&self.path)?, self.length).map(Some)
        });
        if let Ok(Some(((_, hash), _))) = ended {
            (self.head.1, self.torn) = (hash, true);
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file.sync_all()?;
        let mut aside = self.path.clone().into_os_string();
        aside.push(format!(".{}", self.head.0));
        std::fs::rename(&self.path, aside)?;
        (self.file, self.length) = (append(&self.path)?, 0);
        Ok(())
    }
}

#[cfg(test)]
impl Sink {
    pub(super) fn replace_file(&mut self, file: File) -> File {
        std::mem::replace(&mut self.file, file)
    }

    pub(super) fn rotate_after(&mut self, length: u64) {
        self.longest = length;
    }
}

fn append(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Number and hash of the last line of a file, and whether it was broken off. One that was is ended.
fn ending(file: &mut File, length: u64) -> io::Result<((u64, String), bool)> {
    if length == 0 {
        return Ok(((0, NOTHING.to_owned()), false));
    }
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut tail = Vec::new();
    file.take(TAIL).read_to_end(&mut tail)?;
    let whole = tail.last() == Some(&b'\n');
    if whole {
        tail.pop();
    } else if !tail.is_empty() {
        file.write_all(b"\n")?;
    }
    let mut lines = tail.rsplit(|byte| *byte == b'\n');
    let last = lines.next().filter(|last| !last.is_empty());
    let number = |line: &[u8]| serde_json::from_slice::<Place>(line).ok().map(|place| place.number);
    let Some(last) = last else { return Ok(((0, NOTHING.to_owned()), false)) };
    match number(last) {
        Some(number) if whole => Ok(((number, hash(last)), false)),
        known => Ok(((known.or_else(|| lines.find_map(number)).unwrap_or(0), hash(last)), true)),
    }
}
