//! A disk without room takes neither answers nor rows away: the spool's blocks were taken at the first start.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::load::{Askers, Load};
use crate::support::{Folder, Server, eventually, number, open};

const MIB: u64 = 1 << 20;

/// Loads a server whose disk is full, gives the disk room again, and says what was promised.
fn through_a_full_disk(
    folder: &Folder,
    server: &Server,
    fill: impl FnOnce(),
    free: impl FnOnce(),
) -> crate::load::Promises {
    let askers = Askers::of(folder);
    fill();
    let load = Load::start(server, folder, &askers, 16, 9);
    eventually("rows in the spool", || {
        load.wait_for(5);
        let health = server.client().get("/health/ready", None).unwrap();
        health.body["spoolDepth"].as_u64().filter(|depth| *depth > 0)
    });
    load.wait_for(300);
    free();
    server.drained();
    load.wait_for(100);
    let promised = load.finish();
    server.drained();
    assert!(server.metric("nudge_decisions_spooled_total") > 0.0);
    promised
}

/// The size limit of files stands for the full disk: it needs no rights, and works everywhere.
#[test]
fn a_database_that_cannot_grow_costs_no_answer_and_no_row() {
    let folder = Folder::with_people(40);
    let mut command = Command::new("bash");
    // Without the trap the first write beyond the limit would end the process instead of failing.
    command
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_nudge")])
        .args(["serve", "--data-dir", "data", "--port", "0", "--log-level", "error", "--spool-mib", "4"])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let server = folder.start_command(&mut command);
    let limit = |limit: &str| {
        let pid = server.pid().to_string();
        let done = Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={limit}:")]).status();
        assert!(done.unwrap().success(), "prlimit --fsize={limit}:");
    };
    // The spool fits exactly. The log of the database grows up to the limit, as it cannot be started again while
    // somebody reads from its beginning.
    let reader = folder.database();
    reader.execute_batch("BEGIN; SELECT count(*) FROM profiles").unwrap();
    let promised = through_a_full_disk(
        &folder,
        &server,
        || limit(&(4 * MIB).to_string()),
        || {
            reader.execute_batch("COMMIT").unwrap();
            limit("unlimited");
        },
    );
    promised.kept(&folder.database());
}

/// A small file system of the server's own, gone with its process.
///
/// Needs a mount namespace: root, or user namespaces. Where neither can be had, the test above stands alone, and this
/// one says so.
#[test]
fn a_full_file_system_costs_no_answer_and_no_row() {
    let Some(unshare) = mount_namespaces() else {
        println!("not run: neither root nor user namespaces; the size limit of files stands for it");
        return;
    };
    let folder = Folder::with_people(40);
    let data = folder.data();
    let small = folder.path().join("small");
    std::fs::create_dir(&small).unwrap();
    let script = "mount -t tmpfs -o size=24m,mode=0700 none \"$1\" && cp \"$2\"/nudge.db \"$2\"/jwt-secret \"$1\" && \
                  exec \"$3\" serve --data-dir \"$1\" --port 0 --spool-mib 8 --log-level error";
    let mut command = Command::new("unshare");
    command.args(unshare).args(["bash", "-c", script, "bash"]);
    command.args([&small, &data]).arg(env!("CARGO_BIN_EXE_nudge"));
    command.current_dir(folder.path()).stdin(Stdio::null()).stdout(Stdio::piped());
    let server = folder.start_command(&mut command);
    let inside = PathBuf::from(format!("/proc/{}/root{}", server.pid(), small.display()));
    assert!(inside.join("spool.bin").exists(), "{} is the server's own", inside.display());

    let filler = inside.join("filler");
    let promised =
        through_a_full_disk(&folder, &server, || fill(&filler), || std::fs::remove_file(&filler).unwrap());
    // SQLite resolves the way through /proc to a path outside, so it gets a copy.
    let copy = folder.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    for name in ["nudge.db", "nudge.db-wal"] {
        std::fs::copy(inside.join(name), copy.join(name)).unwrap();
    }
    let conn = open(&copy.join("nudge.db"));
    promised.kept(&conn);
    assert!(number(&conn, "SELECT count(*) FROM recommendation_logs", []) >= 400);
}

/// Gives the arguments of `unshare` that allow mounting here.
fn mount_namespaces() -> Option<&'static [&'static str]> {
    const ROOT: &[&str] = &["--mount"];
    const USER: &[&str] = &["--user", "--map-root-user", "--mount"];
    [ROOT, USER].into_iter().find(|args| {
        let probe = ["bash", "-c", "mount -t tmpfs -o size=1m none /mnt"];
        let done = Command::new("unshare").args(*args).args(probe).stderr(Stdio::null()).status();
        done.is_ok_and(|status| status.success())
    })
}

/// Writes until not even a byte fits.
fn fill(path: &Path) {
    use std::io::Write;
    let mut file = std::fs::File::create(path).unwrap();
    let mut size = MIB;
    loop {
        match file.write(&vec![0_u8; usize::try_from(size).unwrap()]) {
            Ok(written) if written > 0 => {}
            _ if size == 1 => return,
            _ => size /= 2,
        }
    }
}
