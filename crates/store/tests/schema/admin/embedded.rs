//! The same for the embedded engine's file.

use std::path::PathBuf;

use nudge_store::admin::{AdminError, Difference, State, embedded};
use nudge_store::{Store, StoreOptions};

struct Fixture {
    folder: tempfile::TempDir,
    path: PathBuf,
}

impl Fixture {
    fn empty() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nudge.db");
        Self { folder, path }
    }

    /// A database with the newest schema, and the store that has it open.
    fn open() -> (Self, Store) {
        let fixture = Self::empty();
        let options = StoreOptions { path: fixture.path.clone(), ..StoreOptions::default() };
        let store = Store::open(options).unwrap();
        (fixture, store)
    }

    fn raw(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(&self.path).unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

#[tokio::test]
async fn status_says_what_has_run_and_what_has_not() {
    let none = Fixture::empty();
    let status = embedded::status(&none.path).unwrap();
    assert!(status.migrations.iter().all(|one| one.state == State::Pending));
    assert!(!none.path.exists(), "asking makes nothing");
    let (fixture, _store) = Fixture::open();
    let status = embedded::status(&fixture.path).unwrap();
    assert_eq!(status.version, status.known);
    assert!(status.migrations.iter().all(|one| one.state == State::Applied));
    let later = "INSERT INTO nudge_schema_migrations (version, name, statements) VALUES (29990101000000, 'later', '')";
    fixture.raw().execute(later, []).unwrap();
    let status = embedded::status(&fixture.path).unwrap();
    assert!(status.is_newer());
    assert_eq!(status.migrations.last().unwrap().state, State::Newer);
    assert!(matches!(embedded::diff(&fixture.path).unwrap_err(), AdminError::Newer { .. }));
    assert!(matches!(
        embedded::dump(&fixture.path, &fixture.file("x")).unwrap_err(),
        AdminError::Newer { .. }
    ));
}

#[tokio::test]
async fn a_difference_is_found() {
    let (fixture, _store) = Fixture::open();
    assert_eq!(embedded::diff(&fixture.path).unwrap(), Difference::default());
    fixture
        .raw()
        .execute_batch("CREATE INDEX more ON leases (name); DROP INDEX lease_members_by_user")
        .unwrap();
    let found = embedded::diff(&fixture.path).unwrap();
    assert_eq!(found.unexpected, ["index more: CREATE INDEX more ON leases (name)"]);
    assert_eq!(found.missing.len(), 1);
}

#[tokio::test]
async fn a_dump_is_a_whole_file_and_comes_back() {
    let (fixture, store) = Fixture::open();
    fixture
        .raw()
        .execute_batch("INSERT INTO leases VALUES ('h', 'x', '2026-01-01T00:00:00.000000Z')")
        .unwrap();
    let backup = fixture.file("backup.db");
    let copied = embedded::dump(&fixture.path, &backup).unwrap();
    assert_eq!(copied.tables["leases"], 1);
    for beside in ["backup.db-wal", "backup.db-shm", "backup.db.partial"] {
        assert!(!fixture.file(beside).exists(), "{beside}");
    }
    store.close().await;
    let copy = Fixture::empty();
    assert_eq!(embedded::restore(&backup, &copy.path).unwrap(), copied);
    let store =
        Store::open_existing(StoreOptions { path: copy.path.clone(), ..StoreOptions::default() }).unwrap();
    assert!(store.verify_audit(None).await.unwrap().broken.is_none());
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&copy.path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_dump_is_of_one_moment_while_others_write() {
    let (fixture, _store) = Fixture::open();
    let writer = fixture.raw();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let writing = std::thread::spawn(move || {
        writer.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
        let mut number = 0;
        while stopped.try_recv().is_err() {
            number += 1;
            writer
                .execute_batch(&format!(
                    "BEGIN IMMEDIATE; INSERT INTO leases VALUES ('{number}', NULL, '2026-01-01T00:00:00.000000Z');
                     INSERT INTO lease_members VALUES ('{number}', 'ann'); COMMIT"
                ))
                .unwrap();
        }
    });
    let copied = embedded::dump(&fixture.path, &fixture.file("backup.db")).unwrap();
    stop.send(()).unwrap();
    writing.join().unwrap();
    assert_eq!(copied.tables["leases"], copied.tables["lease_members"]);
}

#[tokio::test]
async fn nothing_is_overwritten_and_nothing_damaged_is_taken() {
    let (fixture, _store) = Fixture::open();
    let backup = fixture.file("backup.db");
    std::fs::write(&backup, "mine").unwrap();
    assert!(matches!(embedded::dump(&fixture.path, &backup).unwrap_err(), AdminError::Exists { .. }));
    assert_eq!(std::fs::read_to_string(&backup).unwrap(), "mine");
    std::fs::remove_file(&backup).unwrap();
    embedded::dump(&fixture.path, &backup).unwrap();
    assert!(matches!(embedded::restore(&backup, &fixture.path).unwrap_err(), AdminError::Exists { .. }));

    let damaged = fixture.file("damaged.db");
    let mut bytes = std::fs::read(&backup).unwrap();
    for byte in &mut bytes[4096..4096 * 3] {
        *byte = 0xff;
    }
    std::fs::write(&damaged, &bytes).unwrap();
    let target = fixture.file("new.db");
    embedded::restore(&damaged, &target).unwrap_err();
    std::fs::write(&damaged, "no database").unwrap();
    embedded::restore(&damaged, &target).unwrap_err();
    std::fs::write(&damaged, "").unwrap();
    assert!(matches!(embedded::restore(&damaged, &target).unwrap_err(), AdminError::Dump { .. }));
    assert!(!target.exists() && !fixture.file("new.db.partial").exists());
    // A log that another database has left would be taken for this one's.
    std::fs::write(fixture.file("new.db-wal"), "x").unwrap();
    assert!(matches!(embedded::restore(&backup, &target).unwrap_err(), AdminError::Exists { .. }));
}
