use std::collections::VecDeque;

use jiff::Timestamp;
use nudge_engine::{Archetype, TransactionType, UserId};
use proptest::prelude::*;

use super::format::{HEADER_SLOT, encode, read_record, record_of};
use super::*;

/// The least that a spool can be.
const SMALL: u64 = FIRST_RECORD + 64 * 1024;

pub fn row(n: u64) -> DecisionRow {
    row_of(n, 200)
}

/// The row with a number, whose context is of a size.
pub fn row_of(n: u64, bytes: usize) -> DecisionRow {
    DecisionRow {
        id: Uuid::from_u64_pair(0x0198_0000_0000_7000 + (n << 16), 0x8000_0000_0000_0000 + n),
        user_id: UserId::parse("alice").ok(),
        roommate_id: UserId::parse("bob").ok(),
        lease_id: None,
        target_date: "2026-03-16".parse().unwrap(),
        primary: TransactionType::Crash,
        archetype: Archetype::AverageUser,
        archetype_confidence: 0.1 + 0.2,
        days_until_checkin: 7,
        urgency_level: "HIGH".into(),
        options: "[]".into(),
        context: "x".repeat(bytes),
        rule: "new_user".into(),
        policy: "rules-v1".into(),
        personalized: true,
        propensity: 1.0,
        confidence: 0.4,
        session_id: Some("a \"tab\"".into()),
        user_agent: None,
        response_time_ms: 1,
        created_at: Timestamp::from_microsecond(1_773_050_400_123_456).unwrap(),
    }
}

/// A spool on a disk that takes nothing.
pub fn unwritable(folder: &Path) -> Spool {
    drop(Spool::open(folder, SMALL).unwrap());
    let path = folder.join("spool.bin");
    let file = File::open(&path).unwrap();
    let position = Mutex::new(recover(&file, SMALL, &path).unwrap());
    Spool::over(Shared { file, path, size: SMALL, position, rows_there: Notify::new() }).unwrap()
}

/// A spool that holds as much as it can.
pub async fn full(folder: &Path) -> Spool {
    let spool = Spool::open(folder, SMALL).unwrap();
    for n in 1_000.. {
        if spool.append(Arc::new(row_of(n, 0))).await.is_err() {
            break;
        }
    }
    spool
}

async fn append(spool: &Spool, rows: impl IntoIterator<Item = u64>) {
    for n in rows {
        spool.append(Arc::new(row(n))).await.unwrap();
    }
}

fn waiting(spool: &Spool) -> Vec<DecisionRow> {
    spool.oldest(usize::MAX).unwrap().rows
}

fn rows(numbers: impl IntoIterator<Item = u64>) -> Vec<DecisionRow> {
    numbers.into_iter().map(row).collect()
}

fn file(folder: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(folder.join("spool.bin")).unwrap()
}

/// Where each record begins, and where the next one would.
fn positions(spool: &Spool) -> Vec<u64> {
    let (epoch, mut at, tail) = {
        let position = spool.shared.lock();
        (position.epoch, position.head, position.tail)
    };
    let mut positions = vec![at];
    while at < tail {
        at = read_record(&spool.shared.file, at, epoch, tail).unwrap().unwrap().next;
        positions.push(at);
    }
    positions
}

#[tokio::test]
async fn rows_come_back_whole_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path(), SMALL).unwrap();
    assert_eq!((spool.depth(), waiting(&spool)), (0, vec![]));
    append(&spool, 0..10).await;
    assert_eq!(spool.depth(), 10);
    assert_eq!(waiting(&spool), rows(0..10));
    let batch = spool.oldest(4).unwrap();
    assert_eq!(batch.rows, rows(0..4));
    assert_eq!(spool.depth(), 10, "reading takes nothing out");
    spool.drop_oldest(&batch).unwrap();
    assert_eq!((spool.depth(), waiting(&spool)), (6, rows(4..10)));
    assert!(!spool.contains(&row(3).id) && spool.contains(&row(4).id));
}

#[tokio::test]
async fn what_waits_survives_a_reopening_and_what_was_taken_out_does_not_return() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path(), SMALL).unwrap();
    append(&spool, 0..6).await;
    spool.drop_oldest(&spool.oldest(2).unwrap()).unwrap();
    drop(spool);
    let spool = Spool::open(folder.path(), SMALL).unwrap();
    assert_eq!(waiting(&spool), rows(2..6));
    assert!(spool.contains(&row(5).id) && !spool.contains(&row(1).id));
    append(&spool, 6..8).await;
    spool.drop_oldest(&spool.oldest(usize::MAX).unwrap()).unwrap();
    drop(spool);
    assert_eq!(Spool::open(folder.path(), SMALL).unwrap().depth(), 0);
}

#[tokio::test]
async fn a_torn_tail_ends_the_file_and_is_written_over() {
    let whole = tempfile::tempdir().unwrap();
    let spool = Spool::open(whole.path(), SMALL).unwrap();
    append(&spool, 0..3).await;
    let at = positions(&spool);
    drop(spool);
    let bytes = std::fs::read(whole.path().join("spool.bin")).unwrap();
    let (last, end) = (at[2], at[3]);
    // Where the tear begins, and what is there instead.
    let tears = [last, last + 1, last + 4, last + 8, last + 15, last + 16, last + 100, end - 1];
    for (from, filler) in tears.into_iter().flat_map(|from| [(from, 0x00), (from, 0xFF), (from, b'7')]) {
        let folder = tempfile::tempdir().unwrap();
        let mut torn = bytes.clone();
        torn[usize::try_from(from).unwrap()..].fill(filler);
        std::fs::write(folder.path().join("spool.bin"), torn).unwrap();
        let spool = Spool::open(folder.path(), SMALL).unwrap();
        assert_eq!(waiting(&spool), rows(0..2), "torn at {} with {filler:#x}", from - last);
        append(&spool, 7..9).await;
        drop(spool);
        let spool = Spool::open(folder.path(), SMALL).unwrap();
        assert_eq!(waiting(&spool), rows([0, 1, 7, 8]), "torn at {} with {filler:#x}", from - last);
    }
}

#[tokio::test]
async fn a_torn_record_is_copied_once_however_often_the_spool_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path(), SMALL).unwrap();
    append(&spool, 0..2).await;
    let at = positions(&spool);
    drop(spool);
    file(folder.path()).write_all_at(&[0; 50], at[2] - 50).unwrap();
    let torn = text(folder.path(), "spool.bin")[span(at[1]..at[2])].to_vec();
    for _ in 0..3 {
        assert_eq!(waiting(&Spool::open(folder.path(), SMALL).unwrap()), rows(0..1));
        assert_eq!(text(folder.path(), "spool-damaged-1.bin"), torn);
    }
}

#[tokio::test]
async fn a_file_cut_short_keeps_what_is_left_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path(), SMALL).unwrap();
    append(&spool, 0..3).await;
    let at = positions(&spool);
    drop(spool);
    file(folder.path()).set_len(at[2] + 5).unwrap();
    let spool = Spool::open(folder.path(), SMALL).unwrap();
    assert_eq!(waiting(&spool), rows(0..2));
    append(&spool, [5]).await;
    assert_eq!(waiting(&spool), rows([0, 1, 5]));
}

/// Ways to damage a record: where in it, and what is there instead.
const DAMAGE: [(u64, &[u8]); 7] = [
    (0, &[0xFF; 4]),
    (0, &[1, 0, 0, 0]),
    (4, b"crc?"),
    (8, &[9]),
    (20, b"garbage"),
    (0, &[0; 300]),
    (0, &[0xFF; 16]),
];

fn text(folder: &Path, name: &str) -> Vec<u8> {
    std::fs::read(folder.join(name)).unwrap()
}

fn span(range: Range<u64>) -> Range<usize> {
    usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()
}

/// Sets aside and takes out everything that waits, as if the database had taken every row.
fn settle(spool: &Spool) -> Aside {
    let batch = spool.oldest(usize::MAX).unwrap();
    let aside = spool.set_aside(&batch, &[]);
    spool.drop_oldest(&batch).unwrap();
    assert_eq!((spool.depth(), spool.oldest(9).unwrap().records()), (0, 0));
    aside
}

#[tokio::test]
async fn a_damaged_record_is_set_aside_and_those_behind_it_come_back() {
    for (reopened, (offset, damage)) in [false, true].into_iter().flat_map(|r| DAMAGE.map(|d| (r, d))) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("spool-damaged-1.bin"), "older").unwrap();
        let mut spool = Spool::open(folder.path(), SMALL).unwrap();
        append(&spool, 0..5).await;
        let at = positions(&spool);
        file(folder.path()).write_all_at(damage, at[1] + offset).unwrap();
        file(folder.path()).write_all_at(b"more", at[3] + 30).unwrap();
        if reopened {
            drop(spool);
            spool = Spool::open(folder.path(), SMALL).unwrap();
            assert_eq!(spool.depth(), 3);
        }
        let what = format!("{damage:?} at {offset}, reopened: {reopened}");
        assert_eq!(waiting(&spool), rows([0, 2, 4]), "{what}");
        let bytes = text(folder.path(), "spool.bin");
        let (first, second) = (&bytes[span(at[1]..at[2])], &bytes[span(at[3]..at[4])]);
        assert_eq!(settle(&spool), Aside { rows: 0, damaged: 2 }, "{what}");
        let kept = text(folder.path(), "spool-damaged-1.bin");
        assert_eq!(kept, [b"older", first, second].concat(), "{what}");
        append(&spool, 7..9).await;
        assert_eq!(waiting(&spool), rows(7..9), "{what}");
    }
}

#[tokio::test]
async fn damage_at_the_end_is_passed_over_while_running() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path(), SMALL).unwrap();
    append(&spool, 0..2).await;
    let at = positions(&spool);
    file(folder.path()).write_all_at(&[0; 64], at[1]).unwrap();
    append(&spool, 2..4).await;
    file(folder.path()).write_all_at(b"garbage", spool.shared.lock().tail - 9).unwrap();
    assert_eq!(waiting(&spool), rows([0, 2]));
    assert_eq!(settle(&spool), Aside { rows: 0, damaged: 2 });
}

/// Puts records behind those of a spool that is closed.
fn put(folder: &Path, tail: u64, records: &[Vec<u8>]) {
    file(folder).write_all_at(&records.concat(), tail).unwrap();
}

#[tokio::test]
async fn a_record_of_a_later_version_is_kept_as_it_is_and_those_behind_it_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path(), SMALL).unwrap();
    append(&spool, [0]).await;
    let tail = spool.shared.lock().tail;
    drop(spool);
    let later = {
        let mut row = serde_json::to_value(row(1)).unwrap();
        row["v"] = 2.into();
        row.to_string()
    };
    let other = r#"{"v":1,"what":"is this?"}"#;
    let lines = "no\nJSON";
    let strange = [later.as_bytes(), other.as_bytes(), lines.as_bytes()].map(|payload| record_of(payload, 1));
    put(folder.path(), tail, &[&strange[..], &[encode(&row(2), 1).unwrap()]].concat());
    let spool = Spool::open(folder.path(), SMALL).unwrap();
    assert_eq!((spool.depth(), waiting(&spool)), (2, rows([0, 2])));
    assert_eq!(settle(&spool).rows, 2);
    assert_eq!(text(folder.path(), "spool-refused.ndjson"), format!("{later}\n{other}\n").into_bytes());
    assert_eq!(text(folder.path(), "spool-damaged-1.bin"), strange[2], "it is kept, too");
}

#[test]
fn a_spool_of_the_first_version_is_read() {
    let folder = tempfile::tempdir().unwrap();
    drop(Spool::open(folder.path(), SMALL).unwrap());
    let old = |n| record_of(&serde_json::to_vec(&row(n)).unwrap(), 1);
    put(folder.path(), FIRST_RECORD, &[old(0), old(1)]);
    assert_eq!(waiting(&Spool::open(folder.path(), SMALL).unwrap()), rows(0..2));
}

#[tokio::test]
async fn only_what_is_no_row_waits_for_nobody_but_wakes_the_replay() {
    let folder = tempfile::tempdir().unwrap();
    drop(Spool::open(folder.path(), SMALL).unwrap());
    put(folder.path(), FIRST_RECORD, &[record_of(b"{}", 1)]);
    let spool = Spool::open(folder.path(), SMALL).unwrap();
    assert_eq!(spool.depth(), 0);
    spool.wait_for_rows().await;
    assert_eq!(settle(&spool), Aside { rows: 1, damaged: 0 });
}

#[tokio::test]
async fn copies_that_cannot_be_made_stop_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path(), SMALL).unwrap();
    append(&spool, 0..4).await;
    let at = positions(&spool);
    drop(spool);
    for name in ["spool-damaged-1.bin", "spool-refused.ndjson"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
    }
    for damaged in [at[1], at[3]] {
        file(folder.path()).write_all_at(b"garbage", damaged + 20).unwrap();
    }
    let spool = Spool::open(folder.path(), SMALL).unwrap();
    let batch = spool.oldest(9).unwrap();
    assert_eq!(batch.rows, rows([0, 2]));
    assert_eq!(spool.set_aside(&batch, &[1]), Aside { rows: 1, damaged: 1 });
    spool.drop_oldest(&batch).unwrap();
    append(&spool, [5]).await;
    assert_eq!(waiting(&spool), rows([5]));
}

#[tokio::test]
async fn a_batch_is_taken_out_once_and_never_from_another_lap() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path(), SMALL).unwrap();
    append(&spool, 0..4).await;
    let (some, all) = (spool.oldest(2).unwrap(), spool.oldest(9).unwrap());
    for _ in 0..2 {
        spool.drop_oldest(&some).unwrap();
        assert_eq!(waiting(&spool), rows(2..4));
    }
    spool.drop_oldest(&all).unwrap();
    assert_eq!(waiting(&spool), rows(2..4), "its rows are no longer the oldest");
    spool.drop_oldest(&spool.oldest(9).unwrap()).unwrap();
    // The next lap, with records in the very same places.
    append(&spool, 4..8).await;
    for stale in [&some, &all] {
        spool.drop_oldest(stale).unwrap();
        assert_eq!(spool.set_aside(stale, &[0, 1]), Aside::default());
    }
    assert_eq!((spool.depth(), waiting(&spool)), (4, rows(4..8)));
}

#[tokio::test]
async fn a_file_cut_off_before_its_head_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path(), 2 * SMALL).unwrap();
    append(&spool, 0..150).await;
    spool.drop_oldest(&spool.oldest(149).unwrap()).unwrap();
    assert!(spool.shared.lock().head > SMALL);
    drop(spool);
    file(folder.path()).set_len(FIRST_RECORD).unwrap();
    let spool = Spool::open(folder.path(), SMALL).unwrap();
    append(&spool, 0..3).await;
    assert_eq!(waiting(&spool), rows(0..3));
}

#[tokio::test]
async fn an_earlier_lap_is_never_read_as_this_one() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path(), SMALL).unwrap();
    append(&spool, 0..5).await;
    spool.drop_oldest(&spool.oldest(usize::MAX).unwrap()).unwrap();
    // Of the same length as the first of the lap before: the second of that lap lies right behind it.
    append(&spool, [9]).await;
    drop(spool);
    let spool = Spool::open(folder.path(), SMALL).unwrap();
    assert_eq!(waiting(&spool), rows([9]));
    // And again, over many laps.
    for lap in 10..30 {
        spool.drop_oldest(&spool.oldest(usize::MAX).unwrap()).unwrap();
        append(&spool, lap..lap + 1 + lap % 3).await;
        assert_eq!(waiting(&spool), rows(lap..lap + 1 + lap % 3));
    }
}

#[tokio::test]
async fn one_torn_header_is_made_up_for_by_the_other() {
    for slot in [0, HEADER_SLOT] {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(folder.path(), SMALL).unwrap();
        append(&spool, 0..6).await;
        for _ in 0..3 {
            spool.drop_oldest(&spool.oldest(1).unwrap()).unwrap();
        }
        drop(spool);
        file(folder.path()).write_all_at(&[0xAA; 28], slot).unwrap();
        let spool = Spool::open(folder.path(), SMALL).unwrap();
        let left = waiting(&spool);
        assert!(
            left == rows(3..6) || left == rows(2..6),
            "at most the last step is taken again: {}",
            left.len()
        );
    }
}

#[tokio::test]
async fn a_lap_without_a_header_is_known_by_its_records() {
    for damaged in [&[0][..], &[HEADER_SLOT], &[0, HEADER_SLOT]] {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(folder.path(), SMALL).unwrap();
        append(&spool, 0..2).await;
        spool.drop_oldest(&spool.oldest(2).unwrap()).unwrap();
        append(&spool, 5..8).await;
        drop(spool);
        for slot in damaged {
            file(folder.path()).write_all_at(&[0xAA; 28], *slot).unwrap();
        }
        let spool = Spool::open(folder.path(), SMALL).unwrap();
        assert_eq!(waiting(&spool), rows(5..8), "{damaged:?}");
        settle(&spool);
        append(&spool, [9]).await;
        drop(spool);
        assert_eq!(waiting(&Spool::open(folder.path(), SMALL).unwrap()), rows([9]), "{damaged:?}");
    }
}

#[tokio::test]
async fn a_full_spool_says_so_and_takes_rows_again_once_it_is_empty() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path(), SMALL).unwrap();
    let mut taken = 0;
    let refused = loop {
        match spool.append(Arc::new(row_of(taken, 5_000))).await {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, SpoolError::Full));
    assert!((10..14).contains(&taken), "64 KiB hold {taken}");
    assert_eq!(spool.depth() as u64, taken, "the one that was refused is not there");
    // A smaller one still fits.
    spool.append(Arc::new(row_of(100, 0))).await.unwrap();
    assert!(matches!(spool.append(Arc::new(row_of(101, 80_000))).await, Err(SpoolError::Full)));
    spool.drop_oldest(&spool.oldest(usize::MAX).unwrap()).unwrap();
    for n in 0..taken {
        spool.append(Arc::new(row_of(200 + n, 5_000))).await.unwrap();
    }
}

#[tokio::test]
async fn the_disk_space_is_taken_at_the_first_start() {
    use std::os::unix::fs::MetadataExt;
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path(), 1 << 20).unwrap();
    let taken = || std::fs::metadata(folder.path().join("spool.bin")).unwrap();
    assert_eq!(taken().len(), 1 << 20);
    assert!(taken().blocks() * 512 >= 1 << 20, "its blocks are its own");
    assert_eq!(taken().mode() & 0o777, 0o600);
    append(&spool, 0..3).await;
    drop(spool);
    let spool = Spool::open(folder.path(), SMALL).unwrap();
    assert_eq!((taken().len(), spool.depth()), (1 << 20, 3), "a smaller setting takes nothing away");
}

#[tokio::test]
async fn rows_handed_over_at_once_are_all_kept_once() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Arc::new(Spool::open(folder.path(), 1 << 20).unwrap());
    let appends: Vec<_> = (0..400)
        .map(|n| {
            let spool = Arc::clone(&spool);
            tokio::spawn(async move { spool.append(Arc::new(row(n))).await })
        })
        .collect();
    for append in appends {
        append.await.unwrap().unwrap();
    }
    let mut found: Vec<_> = waiting(&spool).into_iter().map(|row| row.id).collect();
    found.sort();
    assert_eq!(found, rows(0..400).into_iter().map(|row| row.id).collect::<Vec<_>>());
}

#[tokio::test]
async fn somebody_who_waits_for_rows_is_woken() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Arc::new(Spool::open(folder.path(), SMALL).unwrap());
    let waiter = tokio::spawn({
        let spool = Arc::clone(&spool);
        async move { spool.wait_for_rows().await }
    });
    tokio::task::yield_now().await;
    assert!(!waiter.is_finished());
    append(&spool, [1]).await;
    waiter.await.unwrap();
}

#[tokio::test]
async fn refused_rows_are_kept_in_a_file_of_their_own_and_once() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path(), SMALL).unwrap();
    append(&spool, 0..4).await;
    let path = folder.path().join("spool-refused.ndjson");
    assert_eq!(spool.set_aside(&spool.oldest(1).unwrap(), &[]), Aside::default());
    assert!(!path.exists());
    // The same batch with more behind it, as after a header that could not be written.
    let (more, again) = (spool.oldest(3).unwrap(), spool.oldest(4).unwrap());
    assert_eq!(spool.set_aside(&more, &[1, 2]), Aside { rows: 2, damaged: 0 });
    assert_eq!(spool.set_aside(&again, &[1, 2, 3]), Aside { rows: 1, damaged: 0 });
    let text = std::fs::read_to_string(path).unwrap();
    let kept: Vec<DecisionRow> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(kept, rows(1..4));
}

#[tokio::test]
async fn refused_rows_are_kept_elsewhere_when_their_file_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path(), SMALL).unwrap();
    append(&spool, 0..2).await;
    let at = positions(&spool);
    std::fs::create_dir(folder.path().join("spool-refused.ndjson")).unwrap();
    assert_eq!(spool.set_aside(&spool.oldest(2).unwrap(), &[1]), Aside { rows: 1, damaged: 0 });
    let record = &text(folder.path(), "spool.bin")[span(at[1]..at[2])];
    assert_eq!(text(folder.path(), "spool-damaged-1.bin"), record);
}

/// A step in the life of a spool.
#[derive(Debug, Clone)]
enum Step {
    Append(usize),
    Drop(usize),
    Reopen,
    /// A crash in the middle of an append: so many bytes of garbage behind the last record.
    Crash(Vec<u8>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3_000_usize).prop_map(Step::Append),
        3 => (0..6_usize).prop_map(Step::Drop),
        1 => Just(Step::Reopen),
        1 => prop::collection::vec(any::<u8>(), 1..200).prop_map(Step::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_spool_is_a_queue_whatever_happens_to_it(steps in prop::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path(), SMALL).unwrap();
        let mut model: VecDeque<DecisionRow> = VecDeque::new();
        for (n, step) in steps.into_iter().enumerate() {
            match step {
                Step::Append(bytes) => {
                    let row = row_of(n as u64, bytes);
                    match runtime.block_on(spool.append(Arc::new(row.clone()))) {
                        Ok(()) => model.push_back(row),
                        Err(error) => prop_assert!(matches!(error, SpoolError::Full)),
                    }
                }
                Step::Drop(many) => {
                    let batch = spool.oldest(many).unwrap();
                    if !batch.rows.is_empty() {
                        spool.drop_oldest(&batch).unwrap();
                    }
                    model.drain(..many.min(model.len()));
                }
                Step::Reopen => {
                    drop(spool);
                    spool = Spool::open(folder.path(), SMALL).unwrap();
                }
                Step::Crash(garbage) => {
                    let tail = spool.shared.lock().tail;
                    drop(spool);
                    let room = usize::try_from(SMALL - tail).unwrap().min(garbage.len());
                    file(folder.path()).write_all_at(&garbage[..room], tail).unwrap();
                    spool = Spool::open(folder.path(), SMALL).unwrap();
                }
            }
            prop_assert_eq!(spool.depth(), model.len());
            prop_assert_eq!(waiting(&spool), model.iter().cloned().collect::<Vec<_>>());
        }
    }
}
