//! The spool: a preallocated file that takes decisions while the database cannot. `spool/format.rs` says what it looks like.
//!
//! Records are appended one after the other and synced in groups, by one thread. Bringing rows back moves `head`; when
//! everything has been brought back, the epoch grows and appending starts again at the first byte, so what an earlier
//! lap left behind is never read as a record.
//!
//! What cannot be read between two whole records, what this version does not understand and what the database refuses
//! is set aside in files of its own, and nothing waits behind it. A record that was torn by a crash has no whole one
//! behind it and ends the file: nobody was told of it.

mod format;

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

use nudge_store::DecisionRow;
use tokio::sync::{Notify, oneshot};
use uuid::Uuid;

use format::{FIRST_RECORD, Record};

/// Most rows that are synced together.
const GROUP: usize = 256;

/// Why the spool cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// No room for another row.
    #[error("the spool is full")]
    Full,
    /// The file.
    #[error("the spool {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The row cannot be written as JSON.
    #[error("a row cannot be serialized: {0}")]
    Serialize(#[from] serde_json::Error),
    /// The spool's thread has ended.
    #[error("the spool is closed")]
    Closed,
}

/// The oldest records of the spool.
#[derive(Debug)]
pub struct Batch {
    /// The rows, oldest first.
    pub rows: Vec<DecisionRow>,
    /// Where each of them is.
    places: Vec<Range<u64>>,
    /// What is no row, or none that this version understands.
    unreadable: Vec<Range<u64>>,
    epoch: u64,
    start: u64,
    /// Where the record after them begins.
    next: u64,
}

impl Batch {
    /// Gives the number of records in it, readable or not.
    pub fn records(&self) -> usize {
        self.rows.len() + self.unreadable.len()
    }
}

/// How much was set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Aside {
    /// Whole records.
    pub rows: u64,
    /// Stretches of damage.
    pub damaged: u64,
}

/// Where the file stands.
#[derive(Debug)]
struct Position {
    epoch: u64,
    /// First record not brought back yet.
    head: u64,
    /// End of the synced records.
    tail: u64,
    /// End of what was looked through for something to set aside, so that a second try writes nothing twice.
    kept: u64,
    /// Ids between head and tail.
    pending: HashSet<Uuid>,
}

impl Position {
    fn begin_lap(epoch: u64) -> Self {
        let first = FIRST_RECORD;
        Self { epoch, head: first, tail: first, kept: first, pending: HashSet::new() }
    }

    fn has_records(&self) -> bool {
        self.head < self.tail
    }

    fn is_at(&self, batch: &Batch) -> bool {
        (self.epoch, self.head) == (batch.epoch, batch.start)
    }
}

#[derive(Debug)]
struct Shared {
    file: File,
    path: PathBuf,
    size: u64,
    position: Mutex<Position>,
    rows_there: Notify,
}

struct Append {
    row: Arc<DecisionRow>,
    done: oneshot::Sender<Result<(), SpoolError>>,
}

/// The spool of one data directory. Dropping it ends its thread after what was handed over is synced.
#[derive(Debug)]
pub struct Spool {
    shared: Arc<Shared>,
    appends: mpsc::SyncSender<Append>,
}

impl Spool {
    /// Opens the spool of a data directory, making and preallocating it at the first start.
    ///
    /// # Errors
    /// [`SpoolError::Io`] when the file cannot be made, allocated or read.
    pub fn open(data_dir: &Path, size: u64) -> Result<Self, SpoolError> {
        let path = data_dir.join("spool.bin");
        let io = |source| SpoolError::Io { path: path.clone(), source };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(io)?;
        let size = size.max(file.metadata().map_err(io)?.len()).max(FIRST_RECORD + 64 * 1024);
        format::allocate(&file, size).map_err(io)?;
        let position = recover(&file, size, &path).map_err(io)?;
        Self::over(Shared { file, path, size, position: Mutex::new(position), rows_there: Notify::new() })
    }

    fn over(shared: Shared) -> Result<Self, SpoolError> {
        let shared = Arc::new(shared);
        let (appends, queue) = mpsc::sync_channel(GROUP * 16);
        let worker = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("nudge-spool".into())
            .spawn(move || run(&worker, &queue))
            .map_err(|source| shared.io(source))?;
        Ok(Self { shared, appends })
    }

    /// Appends a row and comes back when it is synced.
    ///
    /// # Errors
    /// [`SpoolError::Full`] when there is no room, or what the disk said.
    pub async fn append(&self, row: Arc<DecisionRow>) -> Result<(), SpoolError> {
        let (done, receipt) = oneshot::channel();
        self.appends.try_send(Append { row, done }).map_err(|error| match error {
            mpsc::TrySendError::Full(_) => SpoolError::Full,
            mpsc::TrySendError::Disconnected(_) => SpoolError::Closed,
        })?;
        receipt.await.map_err(|_| SpoolError::Closed)?
    }

    /// Gives the number of rows that wait.
    pub fn depth(&self) -> usize {
        self.shared.lock().pending.len()
    }

    /// Gives the share of the file that is taken, 0 to 1. Room comes back when the spool is empty.
    pub fn used(&self) -> f64 {
        let position = self.shared.lock();
        let taken = position.tail.saturating_sub(FIRST_RECORD);
        taken as f64 / (self.shared.size - FIRST_RECORD) as f64
    }

    /// Says whether a row waits.
    pub fn contains(&self, id: &Uuid) -> bool {
        self.shared.lock().pending.contains(id)
    }

    /// Waits until at least one record waits.
    pub async fn wait_for_rows(&self) {
        loop {
            let there = self.shared.rows_there.notified();
            if self.shared.lock().has_records() {
                return;
            }
            there.await;
        }
    }

    /// Reads the oldest records without taking them out.
    ///
    /// # Errors
    /// [`SpoolError::Io`] when the file cannot be read.
    pub fn oldest(&self, limit: usize) -> Result<Batch, SpoolError> {
        let (epoch, start, tail) = {
            let position = self.shared.lock();
            (position.epoch, position.head, position.tail)
        };
        let mut batch =
            Batch { rows: Vec::new(), places: Vec::new(), unreadable: Vec::new(), epoch, start, next: start };
        while batch.next < tail && batch.records() < limit {
            self.shared.read_into(&mut batch, tail).map_err(|e| self.shared.io(e))?;
        }
        Ok(batch)
    }

    /// Takes out records that are in the database now, or set aside. A second call with the same batch does nothing.
    ///
    /// # Errors
    /// When the header cannot be written; the rows are then brought back once more, which changes nothing.
    pub fn drop_oldest(&self, batch: &Batch) -> Result<(), SpoolError> {
        let mut position = self.shared.lock();
        if !position.is_at(batch) || batch.records() == 0 {
            return Ok(());
        }
        if batch.next == position.tail {
            let lap = Position::begin_lap(position.epoch + 1);
            self.shared.write_header(lap.epoch, lap.head)?;
            *position = lap;
            return Ok(());
        }
        self.shared.write_header(position.epoch, batch.next)?;
        position.head = batch.next;
        for row in &batch.rows {
            position.pending.remove(&row.id);
        }
        Ok(())
    }

    /// Keeps what will never be in the database, so that nothing waits behind it: the rows of a batch with the given
    /// numbers and whole records that are not understood in `spool-refused.ndjson`; damage, and what cannot be written
    /// there, in `spool-damaged-N.bin`. Nothing is written twice while the process lives. What cannot be kept is
    /// logged: its bytes stay in the spool until the next lap writes over them.
    pub fn set_aside(&self, batch: &Batch, refused: &[usize]) -> Aside {
        let mut position = self.shared.lock();
        let mut aside = Aside::default();
        if !position.is_at(batch) {
            return aside;
        }
        let refused = refused.iter().filter_map(|n| batch.places.get(*n));
        for span in refused.chain(&batch.unreadable).filter(|span| span.start >= position.kept) {
            let whole = self.shared.keep(batch.epoch, span);
            *if whole { &mut aside.rows } else { &mut aside.damaged } += 1;
        }
        position.kept = position.kept.max(batch.next);
        aside
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Position> {
        self.position.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn io(&self, source: std::io::Error) -> SpoolError {
        SpoolError::Io { path: self.path.clone(), source }
    }

    fn write_header(&self, epoch: u64, head: u64) -> Result<(), SpoolError> {
        format::write_header(&self.file, epoch, head).map_err(|e| self.io(e))
    }

    /// Reads the record after a batch, or what is in its place up to the next whole one, and adds it.
    fn read_into(&self, batch: &mut Batch, tail: u64) -> std::io::Result<()> {
        let at = batch.next;
        batch.next = match format::read_record(&self.file, at, batch.epoch, tail)? {
            Some(Record { row: Some(row), next }) => {
                batch.rows.push(row);
                batch.places.push(at..next);
                next
            }
            Some(Record { row: None, next }) => {
                batch.unreadable.push(at..next);
                next
            }
            None => {
                let next = format::record_after(&self.file, at, batch.epoch, tail)?;
                let next = next.unwrap_or_else(|| format::search_end(at, tail));
                batch.unreadable.push(at..next);
                next
            }
        };
        Ok(())
    }

    /// Copies what is in a stretch of the file to where it fits, and says whether it is a whole record.
    fn keep(&self, epoch: u64, span: &Range<u64>) -> bool {
        let at = span.start;
        let bytes = match format::read_span(&self.file, span) {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::error!(%error, at, "spool.not_kept: it stays in the spool until that is written over");
                return false;
            }
        };
        let line = format::json_line(&bytes, epoch);
        if let Some(line) = line {
            let refused = self.path.with_file_name("spool-refused.ndjson");
            match append_synced(&refused, &[line, b"\n"]) {
                Ok(()) => return true,
                Err(error) => tracing::error!(%error, path = %refused.display(), "spool.refused_unwritable"),
            }
        }
        let kept = damaged_path(&self.path, epoch);
        match append_synced(&kept, &[&bytes]) {
            Ok(()) => {
                tracing::error!(kept = %kept.display(), at, "spool.damaged: the record is in that file")
            }
            Err(error) => {
                tracing::error!(%error, at, "spool.not_kept: it stays in the spool until that is written over");
            }
        }
        line.is_some()
    }
}

/// Reads the header and the records after it.
fn recover(file: &File, size: u64, path: &Path) -> std::io::Result<Position> {
    let newest = format::newest_lap(file, size)?;
    let Some((epoch, head)) = newest.filter(|(_, head)| *head <= size) else {
        // A new file, or one that was cut off before its head.
        let lap = Position::begin_lap(newest.map_or(1, |(epoch, _)| epoch + 1));
        format::write_header(file, lap.epoch, lap.head)?;
        return Ok(lap);
    };
    let mut position = Position { epoch, head, tail: head, kept: head, pending: HashSet::new() };
    let mut next = Some(head);
    while let Some(at) = next {
        next = match format::read_record(file, at, epoch, size)? {
            Some(record) => {
                position.pending.extend(record.row.map(|row| row.id));
                position.tail = record.next;
                Some(record.next)
            }
            None => format::record_after(file, at, epoch, size)?,
        };
    }
    if let Some(end) = format::claimed_end(file, position.tail, epoch, size)? {
        let torn = position.tail..format::search_end(position.tail, size).min(end);
        keep_torn(file, &torn, &damaged_path(path, epoch));
    }
    Ok(position)
}

/// Copies what begins like a record behind the last one, if that can be had, and strikes it out, so that the next start
/// does not find it again. Torn by a crash, mostly, and then nobody was told of it; a synced one that a bad disk changed
/// looks the same.
fn keep_torn(file: &File, torn: &Range<u64>, copy: &Path) {
    let at = torn.start;
    let kept = format::read_span(file, torn)
        .and_then(|bytes| append_synced(copy, &[&bytes]))
        .and_then(|()| format::strike_out(file, at));
    match kept {
        Ok(()) => {
            tracing::warn!(kept = %copy.display(), at, "spool.unreadable_record_at_the_end: a copy is kept");
        }
        Err(error) => tracing::error!(%error, at, "spool.unreadable_record_at_the_end: no copy"),
    }
}

fn damaged_path(spool: &Path, epoch: u64) -> PathBuf {
    spool.with_file_name(format!("spool-damaged-{epoch}.bin"))
}

/// Adds to a file, all of it or nothing as far as that can be had, and comes back when it is synced.
fn append_synced(path: &Path, parts: &[&[u8]]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    let before = file.metadata()?.len();
    let written = file.write_all(&parts.concat()).and_then(|()| file.sync_data());
    if let Err(error) = written {
        if let Err(stays) = file.set_len(before) {
            tracing::error!(error = %stays, path = %path.display(), "spool.half_a_copy");
        }
        return Err(error);
    }
    // The file may be new: its name is to be on disk, too.
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// The spool's thread: takes what has queued up, writes it, syncs once, and then tells everybody.
fn run(shared: &Shared, queue: &mpsc::Receiver<Append>) {
    while let Ok(first) = queue.recv() {
        let mut group = vec![first];
        while group.len() < GROUP {
            match queue.try_recv() {
                Ok(append) => group.push(append),
                Err(_) => break,
            }
        }
        append_group(shared, group);
    }
}

fn append_group(shared: &Shared, group: Vec<Append>) {
    // The lock is held over the sync, so that a replay cannot start the next lap in the middle of it.
    let mut position = shared.lock();
    let mut bytes = Vec::new();
    let mut taken = Vec::new();
    for append in group {
        match format::encode(&append.row, position.epoch) {
            Ok(record) if position.tail + (bytes.len() + record.len()) as u64 <= shared.size => {
                bytes.extend_from_slice(&record);
                taken.push(append);
            }
            Ok(_) => answer(append.done, Err(SpoolError::Full)),
            Err(error) => answer(append.done, Err(error.into())),
        }
    }
    let written = shared.file.write_all_at(&bytes, position.tail).and_then(|()| shared.file.sync_data());
    match written {
        Ok(()) => {
            position.tail += bytes.len() as u64;
            position.pending.extend(taken.iter().map(|append| append.row.id));
            drop(position);
            for append in taken {
                answer(append.done, Ok(()));
            }
            shared.rows_there.notify_waiters();
        }
        Err(error) => {
            drop(position);
            for append in taken {
                let copy = std::io::Error::new(error.kind(), error.to_string());
                answer(append.done, Err(shared.io(copy)));
            }
        }
    }
}

/// Tells the one who waits; one who has gone away does not mind.
fn answer(done: oneshot::Sender<Result<(), SpoolError>>, result: Result<(), SpoolError>) {
    if let Err(unheard) = done.send(result) {
        tracing::debug!(?unheard, "spool.answer_unheard");
    }
}

#[cfg(test)]
pub(super) mod tests;
