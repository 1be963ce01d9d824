//! Parts of pages that are kept up to date.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::{Browser, demote, home};
use crate::support::client::connect;

/// Reads a stream until it has a text.
fn read_until(stream: &mut TcpStream, seen: &mut String, wanted: &str) {
    let begun = Instant::now();
    let mut chunk = [0_u8; 4_096];
    while !seen.contains(wanted) {
        assert!(begun.elapsed() < Duration::from_secs(30), "{wanted} is not in {seen}");
        let n = stream.read(&mut chunk).unwrap();
        assert!(n > 0, "it ended before {wanted}: {seen}");
        seen.push_str(std::str::from_utf8(&chunk[..n]).unwrap());
    }
}

fn follow(browser: &Browser, part: &str) -> TcpStream {
    let request = browser.request("GET", &format!("/dashboard/live/{part}"));
    let head = request.head();
    let mut stream = connect(browser.address());
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

#[test]
fn a_part_is_sent_at_once_and_a_session_that_ends_is_told_so() {
    let server = home();
    let browser = Browser::of_root(&server);
    let (mut stream, mut seen) = (follow(&browser, "service"), String::new());
    read_until(&mut stream, &mut seen, "event: part");
    read_until(&mut stream, &mut seen, "Recording");
    assert!(
        seen.contains("content-type: text/event-stream") && seen.contains("cache-control: no-store"),
        "{seen}"
    );
    demote(&server, "root");
    read_until(&mut stream, &mut seen, "event: gone");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(!String::from_utf8_lossy(&rest).contains("event: part"));
}

#[test]
fn the_job_is_followed_with_a_form_that_works() {
    let server = home();
    let mut browser = Browser::of_root(&server);
    let (mut stream, mut seen) = (follow(&browser, "job"), String::new());
    read_until(&mut stream, &mut seen, "Start a run");
    read_until(&mut stream, &mut seen, "</form>");
    let token = super::browser::field(&seen, "form_token").unwrap();
    let answer = browser.post("/dashboard/jobs/start", &[("form_token", &token), ("who", "stale")]);
    assert_eq!(answer.header("location"), Some("/dashboard/jobs?done=started"));
}

#[test]
fn nobody_follows_without_a_session() {
    let server = home();
    let answer = Browser::new(&server).get("/dashboard/live/service");
    assert_eq!((answer.status, answer.body.len()), (204, 0), "and a browser does not come again");
    let mut browser = Browser::of_root(&server);
    assert_eq!(browser.get("/dashboard/live/nothing").status, 404);
}

#[test]
fn a_stopping_server_waits_for_no_open_page() {
    let mut server = home();
    let browser = Browser::of_root(&server);
    let (mut stream, mut seen) = (follow(&browser, "service"), String::new());
    read_until(&mut stream, &mut seen, "event: part");
    let begun = Instant::now();
    server.ask_to_stop();
    server.wait_for_end();
    assert!(begun.elapsed() < Duration::from_secs(9), "it waits ten seconds for requests in work");
}
