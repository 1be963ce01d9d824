//! A server that is asked to stop finishes what it took.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::json;

use crate::load::{Askers, Load};
use crate::support::{Folder, Keys, PATIENCE, Server, eventually, number};

/// Sends the head of a request and the first byte of its body, so that the request is in work until the rest comes.
fn begin(server: &Server, service_key: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!(
        "POST /functions/v1/ingest HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {service_key}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&body.as_bytes()[..1]).unwrap();
    stream
}

fn in_work(server: &Server, requests: u32) {
    eventually("requests in work", || {
        (server.metric("nudge_http_in_flight") >= f64::from(requests)).then_some(())
    });
}

#[test]
fn requests_in_work_are_answered_after_the_signal() {
    let folder = Folder::new();
    let mut server = folder.start(&["serve", "--body-timeout-ms", "60000", "--shutdown-ms", "60000"]);
    let keys = Keys::of(&folder);
    let mut begun: Vec<(TcpStream, String)> = (0..12)
        .map(|n| {
            let change = json!({
                "type": "INSERT", "table": "profiles", "schema": "public", "record": { "id": format!("person-{n}") },
            });
            let body = change.to_string();
            (begin(&server, &keys.service, &body), body)
        })
        .collect();
    in_work(&server, 12);

    server.terminate();
    eventually("a closed port", || server.client().get("/health/live", None).is_err().then_some(()));
    for (stream, body) in &mut begun {
        stream.write_all(&body.as_bytes()[1..]).unwrap();
    }
    for (stream, _) in &mut begun {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        assert!(answer.contains("\"upserted\":1"), "the whole answer: {answer}");
    }
    assert_eq!(server.exit_code(), Some(0), "{}", server.log());
    assert_eq!(number(&folder.database(), "SELECT count(*) FROM profiles", []), 12);
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
    let folder = Folder::new();
    let mut server = folder.start(&["serve", "--shutdown-ms", "200", "--body-timeout-ms", "60000"]);
    let keys = Keys::of(&folder);
    let _stream = begin(&server, &keys.service, "[]");
    in_work(&server, 1);
    server.terminate();
    assert_eq!(server.exit_code(), Some(0), "{}", server.log());
    assert!(server.log().contains("requests_cut_off"), "{}", server.log());
}
