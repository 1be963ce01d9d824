//! The spool: a preallocated file that takes decisions while the database cannot.
//!
//! ```text
//! byte 0     header A   magic "NUDGESP1" · epoch u64 · head u64 · crc32   (little endian)
//! byte 4096  header B   the same; the valid one with the greater (epoch, head) counts
//! byte 8192  records    length u32 · crc32 u32 over epoch and payload · epoch u64 · payload (JSON of the row)
//! ```
//!
//! Records are appended one after the other and synced in groups, by one thread. Bringing rows back moves `head`; when
//! everything has been brought back, the epoch grows and appending starts again at the first byte, so what an earlier
//! lap left behind is never read as a record. A record that was torn by a crash ends the file: nobody was told of it.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

use nudge_store::DecisionRow;
use tokio::sync::{Notify, oneshot};
use uuid::Uuid;

const MAGIC: &[u8; 8] = b"NUDGESP1";
const HEADER_SLOT: u64 = 4_096;
const FIRST_RECORD: u64 = 2 * HEADER_SLOT;
const RECORD_HEAD: usize = 16;
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
    /// A record that was synced cannot be read.
    #[error("the spool {} is damaged at byte {at}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        at: u64,
    },
    /// The row cannot be written as JSON.
    #[error("a row cannot be serialized: {0}")]
    Serialize(#[from] serde_json::Error),
    /// The spool's thread has ended.
    #[error("the spool is closed")]
    Closed,
}

/// The oldest rows of the spool.
#[derive(Debug)]
pub struct Batch {
    /// The rows, oldest first.
    pub rows: Vec<DecisionRow>,
    /// Where the row after them begins.
    next: u64,
}

/// Where the file stands.
#[derive(Debug)]
struct Position {
    epoch: u64,
    /// First record not brought back yet.
    head: u64,
    /// End of the synced records.
    tail: u64,
    /// Ids between the two.
    pending: HashSet<Uuid>,
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
        allocate(&file, size).map_err(io)?;
        let position = recover(&file, size, &path)?;
        let shared =
            Arc::new(Shared { file, path, size, position: Mutex::new(position), rows_there: Notify::new() });
        let (appends, queue) = mpsc::sync_channel(GROUP * 16);
        let worker = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("nudge-spool".into())
            .spawn(move || run(&worker, &queue))
            .map_err(|source| SpoolError::Io { path: shared.path.clone(), source })?;
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

    /// Says whether a row waits.
    pub fn contains(&self, id: &Uuid) -> bool {
        self.shared.lock().pending.contains(id)
    }

    /// Waits until at least one row waits.
    pub async fn wait_for_rows(&self) {
        loop {
            let there = self.shared.rows_there.notified();
            if self.depth() > 0 {
                return;
            }
            there.await;
        }
    }

    /// Reads the oldest rows without taking them out.
    ///
    /// # Errors
    /// [`SpoolError::Damaged`] when a synced record cannot be read.
    pub fn oldest(&self, limit: usize) -> Result<Batch, SpoolError> {
        let (epoch, mut at, tail) = {
            let position = self.shared.lock();
            (position.epoch, position.head, position.tail)
        };
        let mut rows = Vec::new();
        while at < tail && rows.len() < limit {
            let damaged = || SpoolError::Damaged { path: self.shared.path.clone(), at };
            let (row, next) = read_record(&self.shared.file, at, epoch, tail)
                .map_err(|e| self.shared.io(e))?
                .ok_or_else(damaged)?;
            rows.push(row);
            at = next;
        }
        Ok(Batch { rows, next: at })
    }

    /// Takes out rows that are in the database now.
    ///
    /// # Errors
    /// When the header cannot be written; the rows are then brought back once more, which changes nothing.
    pub fn drop_oldest(&self, batch: &Batch) -> Result<(), SpoolError> {
        let mut position = self.shared.lock();
        let (epoch, head) = if batch.next == position.tail {
            (position.epoch + 1, FIRST_RECORD)
        } else {
            (position.epoch, batch.next)
        };
        write_header(&self.shared.file, epoch, head).map_err(|e| self.shared.io(e))?;
        if epoch != position.epoch {
            position.tail = FIRST_RECORD;
        }
        (position.epoch, position.head) = (epoch, head);
        for row in &batch.rows {
            position.pending.remove(&row.id);
        }
        Ok(())
    }

    /// Keeps a copy of a spool that cannot be read on from its head, and begins a new lap.
    ///
    /// # Errors
    /// When the copy or the header cannot be written; nothing is changed then.
    pub fn skip_damaged(&self) -> Result<PathBuf, SpoolError> {
        let mut position = self.shared.lock();
        let kept = self.shared.path.with_file_name(format!("spool-damaged-{}.bin", position.epoch));
        std::fs::copy(&self.shared.path, &kept).map_err(|e| self.shared.io(e))?;
        write_header(&self.shared.file, position.epoch + 1, FIRST_RECORD).map_err(|e| self.shared.io(e))?;
        position.epoch += 1;
        (position.head, position.tail) = (FIRST_RECORD, FIRST_RECORD);
        position.pending.clear();
        Ok(kept)
    }

    /// Keeps rows that the database refuses for good in `spool-refused.ndjson`, so that nothing waits behind them.
    ///
    /// # Errors
    /// When that file cannot be written.
    pub fn set_aside(&self, rows: &[DecisionRow]) -> Result<(), SpoolError> {
        if rows.is_empty() {
            return Ok(());
        }
        let path = self.shared.path.with_file_name("spool-refused.ndjson");
        let mut text = Vec::new();
        for row in rows {
            serde_json::to_writer(&mut text, row)?;
            text.push(b'\n');
        }
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_data()))
            .map_err(|source| SpoolError::Io { path, source })
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Position> {
        self.position.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn io(&self, source: std::io::Error) -> SpoolError {
        SpoolError::Io { path: self.path.clone(), source }
    }
}

/// Takes the file's blocks from the disk now, so that a full disk does not take them away later.
fn allocate(file: &File, size: u64) -> std::io::Result<()> {
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, size) {
        Ok(()) => {}
        Err(rustix::io::Errno::OPNOTSUPP) => {
            let have = file.metadata()?.len();
            let zeros = vec![0_u8; 1 << 20];
            let mut at = have;
            while at < size {
                let n = (size - at).min(zeros.len() as u64);
                file.write_all_at(&zeros[..usize::try_from(n).unwrap_or(0)], at)?;
                at += n;
            }
        }
        Err(error) => return Err(error.into()),
    }
    file.sync_all()
}

/// Reads the header and the records after it.
fn recover(file: &File, size: u64, path: &Path) -> Result<Position, SpoolError> {
    let io = |source| SpoolError::Io { path: path.to_owned(), source };
    let headers = [read_header(file, 0).map_err(io)?, read_header(file, HEADER_SLOT).map_err(io)?];
    let Some((epoch, head)) = headers.into_iter().flatten().max() else {
        write_header(file, 1, FIRST_RECORD).map_err(io)?;
        return Ok(Position { epoch: 1, head: FIRST_RECORD, tail: FIRST_RECORD, pending: HashSet::new() });
    };
    let mut tail = head;
    let mut pending = HashSet::new();
    while let Some((row, next)) = read_record(file, tail, epoch, size).map_err(io)? {
        pending.insert(row.id);
        tail = next;
    }
    if begins_record(file, tail, epoch, size).map_err(io)? {
        // Torn by a crash, mostly, and then nobody was told of it; a synced one that a bad disk changed looks the same.
        let kept = path.with_file_name(format!("spool-damaged-{epoch}.bin"));
        std::fs::copy(path, &kept).map_err(io)?;
        tracing::warn!(kept = %kept.display(), at = tail, "spool.unreadable_record_at_the_end: a copy is kept");
    }
    Ok(Position { epoch, head, tail, pending })
}

fn read_header(file: &File, at: u64) -> std::io::Result<Option<(u64, u64)>> {
    let mut bytes = [0_u8; 28];
    file.read_exact_at(&mut bytes, at)?;
    let valid = &bytes[..8] == MAGIC && crc32fast::hash(&bytes[..24]).to_le_bytes() == bytes[24..28];
    Ok(valid.then(|| (read_u64(&bytes[8..16]), read_u64(&bytes[16..24]))))
}

/// Writes the header into the slot that the one before it is not in, so that a crash leaves one of the two whole.
fn write_header(file: &File, epoch: u64, head: u64) -> std::io::Result<()> {
    let (a, b) = (read_header(file, 0)?, read_header(file, HEADER_SLOT)?);
    let slot = if a > b { HEADER_SLOT } else { 0 };
    let mut bytes = Vec::with_capacity(28);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&epoch.to_le_bytes());
    bytes.extend_from_slice(&head.to_le_bytes());
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    file.write_all_at(&bytes, slot)?;
    file.sync_data()
}

fn read_u64(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Reads the record at a position; `None` when there is none of this epoch.
fn read_record(file: &File, at: u64, epoch: u64, end: u64) -> std::io::Result<Option<(DecisionRow, u64)>> {
    if at + RECORD_HEAD as u64 > end {
        return Ok(None);
    }
    let mut head = [0_u8; RECORD_HEAD];
    file.read_exact_at(&mut head, at)?;
    let length = read_u64(&head[..4]);
    let next = at + RECORD_HEAD as u64 + length;
    if length == 0 || read_u64(&head[8..]) != epoch || next > end {
        return Ok(None);
    }
    let mut payload = vec![0_u8; usize::try_from(length).unwrap_or(0)];
    file.read_exact_at(&mut payload, at + RECORD_HEAD as u64)?;
    if checksum(epoch, &payload).to_le_bytes() != head[4..8] {
        return Ok(None);
    }
    Ok(serde_json::from_slice(&payload).ok().map(|row| (row, next)))
}

/// Says whether the bytes at a position begin a record of this epoch, readable or not.
fn begins_record(file: &File, at: u64, epoch: u64, end: u64) -> std::io::Result<bool> {
    if at + RECORD_HEAD as u64 > end {
        return Ok(false);
    }
    let mut head = [0_u8; RECORD_HEAD];
    file.read_exact_at(&mut head, at)?;
    Ok(read_u64(&head[..4]) > 0 && read_u64(&head[8..]) == epoch)
}

fn checksum(epoch: u64, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&epoch.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
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
        match encode(&append.row, position.epoch) {
            Ok(record) if position.tail + (bytes.len() + record.len()) as u64 <= shared.size => {
                bytes.extend_from_slice(&record);
                taken.push(append);
            }
            Ok(_) => answer(append.done, Err(SpoolError::Full)),
            Err(error) => answer(append.done, Err(error)),
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

fn encode(row: &DecisionRow, epoch: u64) -> Result<Vec<u8>, SpoolError> {
    let payload = serde_json::to_vec(row)?;
    let mut record = Vec::with_capacity(RECORD_HEAD + payload.len());
    record.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
    record.extend_from_slice(&checksum(epoch, &payload).to_le_bytes());
    record.extend_from_slice(&epoch.to_le_bytes());
    record.extend_from_slice(&payload);
    Ok(record)
}

#[cfg(test)]
mod tests;
