//! What the spool's file looks like.
//!
//! ```text
//! byte 0     header A   magic "NUDGESP1" · epoch u64 · head u64 · crc32   (little endian)
//! byte 4096  header B   the same; the valid one with the greater (epoch, head) counts
//! byte 8192  records    length u32 · crc32 u32 over epoch and payload · epoch u64 · payload
//! ```
//!
//! A payload is the row as JSON, with a field `v`, the version of its format; the first rows had none.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use nudge_store::DecisionRow;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

const MAGIC: &[u8; 8] = b"NUDGESP1";
/// Version of the payload. Greater ones are not read, but kept.
const VERSION: u32 = 1;
pub(super) const HEADER_SLOT: u64 = 4_096;
pub(super) const FIRST_RECORD: u64 = 2 * HEADER_SLOT;
const RECORD_HEAD: usize = 16;
/// How far behind damage the next whole record is looked for.
const SEARCH: u64 = 1 << 20;

/// Takes the file's blocks from the disk now, so that a full disk does not take them away later.
pub(super) fn allocate(file: &File, size: u64) -> std::io::Result<()> {
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

/// Gives the newest epoch and its head. A lap whose header is damaged is known by its first record.
pub(super) fn newest_lap(file: &File, size: u64) -> std::io::Result<Option<(u64, u64)>> {
    let mut epoch = [0_u8; 8];
    file.read_exact_at(&mut epoch, FIRST_RECORD + 8)?;
    let epoch = read_u64(&epoch);
    let first = read_record(file, FIRST_RECORD, epoch, size)?.map(|_| (epoch, FIRST_RECORD));
    Ok(first.max(read_header(file, 0)?).max(read_header(file, HEADER_SLOT)?))
}

fn read_header(file: &File, at: u64) -> std::io::Result<Option<(u64, u64)>> {
    let mut bytes = [0_u8; 28];
    file.read_exact_at(&mut bytes, at)?;
    let valid = &bytes[..8] == MAGIC && crc32fast::hash(&bytes[..24]).to_le_bytes() == bytes[24..28];
    Ok(valid.then(|| (read_u64(&bytes[8..16]), read_u64(&bytes[16..24]))))
}

/// Writes the header into the slot that the one before it is not in, so that a crash leaves one of the two whole.
pub(super) fn write_header(file: &File, epoch: u64, head: u64) -> std::io::Result<()> {
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

/// A record whose checksum is right.
#[derive(Debug)]
pub(super) struct Record {
    /// The row, if this version of the program understands it.
    pub row: Option<DecisionRow>,
    /// Where the record after it begins.
    pub next: u64,
}

/// Reads the record at a position; `None` when there is no whole one of this epoch.
pub(super) fn read_record(file: &File, at: u64, epoch: u64, end: u64) -> std::io::Result<Option<Record>> {
    let Some(next) = claimed_end(file, at, epoch, end)?.filter(|next| *next <= end) else {
        return Ok(None);
    };
    let bytes = read_span(file, &(at..next))?;
    Ok(payload(&bytes, epoch).map(|payload| Record { row: decode(payload), next }))
}

/// Gives the end of the record that seems to begin at a position, whole or not and within the file or not.
pub(super) fn claimed_end(file: &File, at: u64, epoch: u64, end: u64) -> std::io::Result<Option<u64>> {
    if at + RECORD_HEAD as u64 > end {
        return Ok(None);
    }
    let mut head = [0_u8; RECORD_HEAD];
    file.read_exact_at(&mut head, at)?;
    let length = read_u64(&head[..4]);
    Ok((length > 0 && read_u64(&head[8..]) == epoch).then_some(at + RECORD_HEAD as u64 + length))
}

/// Makes sure that no record begins at a position.
pub(super) fn strike_out(file: &File, at: u64) -> std::io::Result<()> {
    file.write_all_at(&[0; RECORD_HEAD], at)
}

/// Finds the first whole record behind one that is damaged at `at`.
pub(super) fn record_after(file: &File, at: u64, epoch: u64, end: u64) -> std::io::Result<Option<u64>> {
    let from = at + 1;
    let bytes = read_span(file, &(from..search_end(at, end).max(from)))?;
    let mark = epoch.to_le_bytes();
    for (place, head) in (from..).zip(bytes.windows(RECORD_HEAD)) {
        if head[8..] == mark && read_record(file, place, epoch, end)?.is_some() {
            return Ok(Some(place));
        }
    }
    Ok(None)
}

/// Gives the end of what [`record_after`] looks at.
pub(super) fn search_end(at: u64, end: u64) -> u64 {
    end.min(at + SEARCH)
}

/// Reads bytes of the file.
pub(super) fn read_span(file: &File, span: &Range<u64>) -> std::io::Result<Vec<u8>> {
    let length = span.end.saturating_sub(span.start);
    let mut bytes = vec![0_u8; usize::try_from(length).map_err(std::io::Error::other)?];
    file.read_exact_at(&mut bytes, span.start)?;
    Ok(bytes)
}

/// Gives the payload of a record's bytes if its length, its epoch and its checksum are right.
fn payload(record: &[u8], epoch: u64) -> Option<&[u8]> {
    let (head, payload) = record.split_at_checked(RECORD_HEAD)?;
    let whole = read_u64(&head[..4]) == payload.len() as u64
        && head[4..8] == checksum(epoch, payload).to_le_bytes()
        && head[8..] == epoch.to_le_bytes();
    whole.then_some(payload)
}

/// Gives the payload of a record's bytes if it is whole and one line of JSON.
pub(super) fn json_line(record: &[u8], epoch: u64) -> Option<&[u8]> {
    let is_line =
        |payload: &&[u8]| !payload.contains(&b'\n') && serde_json::from_slice::<IgnoredAny>(payload).is_ok();
    payload(record, epoch).filter(is_line)
}

fn checksum(epoch: u64, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&epoch.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

#[derive(Serialize)]
struct Versioned<'a> {
    v: u32,
    #[serde(flatten)]
    row: &'a DecisionRow,
}

#[derive(Deserialize)]
struct Version {
    #[serde(default)]
    v: u32,
}

/// Makes a record of a row.
pub(super) fn encode(row: &DecisionRow, epoch: u64) -> Result<Vec<u8>, serde_json::Error> {
    Ok(record_of(&serde_json::to_vec(&Versioned { v: VERSION, row })?, epoch))
}

/// Makes a record of a payload.
pub(super) fn record_of(payload: &[u8], epoch: u64) -> Vec<u8> {
    let mut record = Vec::with_capacity(RECORD_HEAD + payload.len());
    record.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
    record.extend_from_slice(&checksum(epoch, payload).to_le_bytes());
    record.extend_from_slice(&epoch.to_le_bytes());
    record.extend_from_slice(payload);
    record
}

fn decode(payload: &[u8]) -> Option<DecisionRow> {
    let version: Version = serde_json::from_slice(payload).ok()?;
    if version.v > VERSION {
        return None;
    }
    serde_json::from_slice(payload).ok()
}
