//! A server that is asked to stop finishes what it took.

use crate::load::{Askers, Load};
use crate::support::{Folder, Keys, Question, eventually};

#[test]
fn requests_in_work_are_answered_after_the_signal() {
    let folder = Folder::with_people(40);
    let questions = Question::all(&folder.database());
    let keys = Keys::of(&folder);
    // The commit cannot come back before the lock goes, so every request is in work until then.
    let mut server = folder.start(&["serve", "--commit-timeout-ms", "60000"]);
    let lock = folder.database();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let asked: Vec<_> = (0..12)
        .map(|n| {
            let (client, path, key) = (server.client(), questions[n].path(), keys.service.clone());
            std::thread::spawn(move || client.get(&path, Some(&key)).unwrap())
        })
        .collect();
    eventually("requests in work", || (server.metric("nudge_http_in_flight") >= 12.0).then_some(()));

    server.terminate();
    eventually("a closed port", || server.client().get("/health/live", None).is_err().then_some(()));
    lock.execute_batch("ROLLBACK").unwrap();
    let answers: Vec<_> = asked.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert_eq!(server.exit_code(), Some(0), "{}", server.log());

    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    let conn = folder.database();
    for answer in answers {
        let id = answer.body["recommendationId"].as_str().unwrap();
        let rows =
            crate::support::number(&conn, "SELECT count(*) FROM recommendation_logs WHERE id = ?", [id]);
        assert_eq!(rows, 1, "{id}");
    }
}

#[test]
fn a_signal_under_load_loses_nothing_and_ends_with_success() {
    let folder = Folder::with_people(40);
    let askers = Askers::of(&folder);
    let mut server = folder.start(&["serve"]);
    let load = Load::start(&server, &folder, &askers, 24, 5);
    load.wait_for(200);
    load.server_ends();
    server.terminate();
    assert_eq!(server.exit_code(), Some(0), "{}", server.log());
    let promised = load.finish();
    // Nothing is left for the next start to do.
    promised.kept(&folder.database());
    assert!(server.log().contains("server.stopped"), "{}", server.log());

    let server = folder.start(&["serve"]);
    server.drained();
    promised.kept(&folder.database());
}

#[test]
fn ctrl_c_right_after_the_greeting_is_a_proper_end() {
    let folder = Folder::new();
    for _ in 0..3 {
        let mut server = folder.start(&["serve"]);
        server.interrupt();
        assert_eq!(server.exit_code(), Some(0), "{}", server.log());
        assert!(server.log().ends_with("server.stopped\n"), "{}", server.log());
    }
}

#[test]
fn a_request_that_never_ends_does_not_hold_up_the_shutdown() {
    use std::io::Write;
    let folder = Folder::new();
    let mut server = folder.start(&["serve", "--shutdown-ms", "200", "--body-timeout-ms", "60000"]);
    let keys = Keys::of(&folder);
    let mut stream = std::net::TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    let head = format!(
        "POST /functions/v1/ingest HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         content-length: 1000\r\n\r\n[",
        keys.service
    );
    stream.write_all(head.as_bytes()).unwrap();
    eventually("the request in work", || (server.metric("nudge_http_in_flight") >= 1.0).then_some(()));
    server.terminate();
    assert_eq!(server.exit_code(), Some(0), "{}", server.log());
    assert!(server.log().contains("requests_cut_off"), "{}", server.log());
}
