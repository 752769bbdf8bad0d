//! The thread that writes the audit file. It writes each record in one call and syncs the file to
//! the disk once a second.

use std::{
    fs::{File, OpenOptions, TryLockError},
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
    Counts, Message, REFUSED, Record,
    chain::{Link, NOTHING, Place, hash},
};

const LONGEST: u64 = 256 << 20;
/// The interval between two syncs of the file. The head is logged at the same time.
const SYNC: Duration = Duration::from_secs(1);
/// The shortest interval between two log lines with the head.
const HEAD: Duration = Duration::from_secs(60);
/// How many bytes at the end of a file are searched for its last lines. No line is as long.
const TAIL: u64 = 64 * 1024;

pub(super) struct Sink {
    path: PathBuf,
    file: File,
    length: u64,
    /// A longer file is rotated, and a new one continues its chain.
    longest: u64,
    /// Number and hash of the last line.
    head: (u64, String),
    /// Whether a crash left the last line incomplete.
    torn: bool,
    /// Whether the file may end with a part of a line that could not be written.
    unsure: bool,
    /// Whether the file was removed and no new file could be created in its place.
    homeless: bool,
    /// Whether the last record was lost.
    failing: bool,
    /// The number of losses that a record has reported.
    told: u64,
    /// When the head was last logged.
    head_logged: Option<Instant>,
    counts: Arc<Counts>,
}

impl Sink {
    /// Opens the file and continues at its end.
    pub(super) fn open(path: &Path, counts: Arc<Counts>) -> io::Result<Self> {
        let mut file = append(path)?;
        let length = file.metadata()?.len();
        let (head, torn) = match (length, put_aside(path)) {
            (0, Some(mut before)) => {
                let length = before.metadata()?.len();
                ending(&mut before, length)?
            }
            _ => ending(&mut file, length)?,
        };
        // An incomplete last line was terminated, which changed the length.
        let length = file.metadata()?.len();
        Ok(Self {
            path: path.to_owned(),
            file,
            length,
            longest: LONGEST,
            head,
            torn,
            unsure: false,
            homeless: false,
            failing: false,
            told: 0,
            head_logged: None,
            counts,
        })
    }

    /// Writes until the last handle is dropped.
    pub(super) fn run(&mut self, records: &Receiver<Message>) {
        let (mut synced, mut dirty) = (Instant::now(), false);
        loop {
            match records.recv_timeout(SYNC) {
                Ok(Message::Record(record)) => {
                    let refused = record.outcome == REFUSED;
                    self.counts.refusals.fetch_sub(usize::from(refused), Ordering::Relaxed);
                    self.write(&record);
                    dirty = true;
                }
                Ok(Message::Flush(done)) => {
                    self.sync(&mut dirty);
                    self.log_head();
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

    /// Logs the head of the chain. A copy of the log elsewhere then shows later changes of the file.
    fn log_head(&mut self) {
        self.head_logged = Some(Instant::now());
        let (number, hash) = &self.head;
        tracing::info!(number, hash, "audit head");
    }

    fn sync(&mut self, dirty: &mut bool) {
        if std::mem::take(dirty) {
            if let Err(error) = self.file.sync_data() {
                tracing::error!(%error, "failed to sync the audit file");
            }
            if self.head_logged.is_none_or(|at| at.elapsed() >= HEAD) {
                self.log_head();
            }
        }
        if !self.homeless && !self.is_in_place() {
            match self.complete_last_line() {
                Ok(()) => tracing::error!("the audit file was removed; continuing its chain in a new file"),
                Err(error) => {
                    tracing::error!(%error, "the audit file was removed, and a new one cannot be written");
                    self.homeless = true;
                }
            }
        }
    }

    /// Continues in the file that is now at the path.
    fn complete_last_line(&mut self) -> io::Result<()> {
        let file = append(&self.path)?;
        self.length = file.metadata()?.len();
        (self.file, self.unsure) = (file, false);
        Ok(())
    }

    pub(super) fn write(&mut self, record: &Record) {
        if let Err(error) = self.try_write(record) {
            self.counts.lost.fetch_add(1, Ordering::Relaxed);
            if !std::mem::replace(&mut self.failing, true) {
                tracing::error!(%error, "audit records are lost");
            }
        } else {
            if std::mem::take(&mut self.failing) {
                tracing::info!("audit records can be written again");
            }
            self.counts.written.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn try_write(&mut self, record: &Record) -> io::Result<()> {
        // Records in a removed file could not be read again.
        if self.homeless && !self.is_in_place() {
            self.complete_last_line()?;
        }
        if self.length >= self.longest
            && !self.torn
            && let Err(error) = self.rotate()
        {
            tracing::error!(%error, "failed to rotate the audit file; continuing with it");
            self.longest = self.length + LONGEST / 16;
        }
        self.homeless = false;
        let lost = self.counts.lost.load(Ordering::Relaxed);
        let (number, previous) = (self.head.0 + 1, &self.head.1);
        let link = Link { number, previous, lost: lost - self.told, after_torn: self.torn, record };
        let mut line = serde_json::to_vec(&link)?;
        let hash = hash(&line);
        line.push(b'\n');
        self.append(&line)?;
        (self.head, self.torn, self.told) = ((number, hash), false, lost);
        Ok(())
    }

    /// Writes a whole line or nothing. If the disk is full, the written part of the line is
    /// truncated.
    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        if self.unsure {
            self.file.set_len(self.length)?;
        }
        self.unsure = true;
        let written = self.file.write_all(line);
        match written {
            Ok(()) => self.length += line.len() as u64,
            Err(_) => self.file.set_len(self.length)?,
        }
        self.unsure = false;
        written
    }

    /// Returns whether the path still refers to the open file.
    fn is_in_place(&self) -> bool {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let identity = |known: std::fs::Metadata| (known.dev(), known.ino());
            let (own, there) = (self.file.metadata().map(identity), std::fs::metadata(&self.path).map(identity));
            own.is_err() || own.ok() == there.ok()
        }
        #[cfg(not(unix))]
        true
    }

    /// Rotates the file. If this fails, the file stays in use.
    fn rotate(&mut self) -> io::Result<()> {
        self.file.sync_all()?;
        let next = beside(&self.path, "next");
        let file = append(&next)?;
        let aside = beside(&self.path, &self.head.0.to_string());
        if aside.exists() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file of that name is there already"));
        }
        std::fs::rename(&self.path, aside)?;
        std::fs::rename(next, &self.path)?;
        (self.file, self.length) = (file, 0);
        Ok(())
    }
}

/// Appends a suffix to the path.
fn beside(path: &Path, what: &str) -> PathBuf {
    let mut beside = path.to_owned().into_os_string();
    beside.push(format!(".{what}"));
    beside.into()
}

/// Opens the last rotated file.
fn put_aside(path: &Path) -> Option<File> {
    let (folder, name) = (path.parent()?, path.file_name()?.to_str()?);
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let number = |entry: std::fs::DirEntry| {
        entry.file_name().to_str()?.strip_prefix(name)?.strip_prefix('.')?.parse::<u64>().ok()
    };
    let last = std::fs::read_dir(folder).ok()?.filter_map(|entry| number(entry.ok()?)).max()?;
    OpenOptions::new().read(true).append(true).open(beside(path, &last.to_string())).ok()
}

#[cfg(test)]
impl Sink {
    pub(super) fn replace_file(&mut self, file: File) -> File {
        std::mem::replace(&mut self.file, file)
    }

    pub(super) fn is_unsure(&mut self) {
        self.unsure = true;
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
    let file = options.open(path)?;
    if !file.metadata()?.is_file() {
        return Ok(file);
    }
    // Two writers would break each other's chain.
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(io::Error::new(io::ErrorKind::WouldBlock, "another process writes it")),
        // Some files can't be locked.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
    }
}

/// Returns the number and hash of the last line of a file, and whether it was incomplete. An
/// incomplete line is terminated.
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
    let last = lines.next();
    let number = |line: &[u8]| serde_json::from_slice::<Place>(line).ok().map(|place| place.number);
    let Some(last) = last else { return Ok(((0, NOTHING.to_owned()), false)) };
    match number(last) {
        Some(number) if whole => Ok(((number, hash(last)), false)),
        known => Ok(((known.or_else(|| lines.find_map(number)).unwrap_or(0), hash(last)), true)),
    }
}
