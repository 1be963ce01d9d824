use std::collections::VecDeque;

use jiff::Timestamp;
use nudge_engine::{Archetype, TransactionType, UserId};
use proptest::prelude::*;

use super::*;

/// The least that a spool can be.
const SMALL: u64 = FIRST_RECORD + 64 * 1024;

fn row(n: u64) -> DecisionRow {
    row_of(n, 200)
}

/// The row with a number, whose context is of a size.
fn row_of(n: u64, bytes: usize) -> DecisionRow {
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
        at = read_record(&spool.shared.file, at, epoch, tail).unwrap().unwrap().1;
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

#[tokio::test]
async fn damage_to_a_synced_record_is_said_and_not_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path(), SMALL).unwrap();
    append(&spool, 0..3).await;
    let at = positions(&spool)[1];
    file(folder.path()).write_all_at(b"garbage", at + 20).unwrap();
    assert!(matches!(spool.oldest(10), Err(SpoolError::Damaged { at: where_, .. }) if where_ == at));
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

#[test]
fn refused_rows_are_kept_in_a_file_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path(), SMALL).unwrap();
    spool.set_aside(&[]).unwrap();
    let path = folder.path().join("spool-refused.ndjson");
    assert!(!path.exists());
    spool.set_aside(&rows(0..2)).unwrap();
    spool.set_aside(&rows(2..3)).unwrap();
    let text = std::fs::read_to_string(path).unwrap();
    let kept: Vec<DecisionRow> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(kept, rows(0..3));
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
