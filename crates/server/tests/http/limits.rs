//! What one client cannot take from the others.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::client::{connect, read_answer};
use crate::support::{ARCHETYPE, As, DATE, Harness, OUTCOMES, RECOMMENDATIONS, eventually, facts};

/// Sends the head of a call with outcomes and the first bytes of its body.
fn half_a_request(server: &Harness) -> TcpStream {
    let mut stream = connect(server.address);
    let head = server.request(As::User("alice"), "POST", OUTCOMES).header("content-type", "application/json");
    let head = head.head().replace("\r\n\r\n", "\r\ncontent-length: 100\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(b"[{").unwrap();
    stream
}

#[test]
fn a_full_server_says_when_to_come_back() {
    let server = Harness::with(&[("NUDGE_MAX_IN_FLIGHT", "2")]);
    server.seed(facts::home());
    let hanging = [half_a_request(&server), half_a_request(&server)];
    eventually(Duration::from_secs(10), "both are in work", || server.app.in_flight() == 2);
    let body = json!({ "userId": "alice" });
    let answer = server.post(As::Service, ARCHETYPE, &body);
    answer.refused(503, "overloaded");
    server.archetype(As::User("alice"), "alice").ok();
    assert!(answer.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    assert_eq!(server.get(As::Nobody, "/health/live").status, 200, "health is answered all the same");
    assert_eq!(server.get(As::Nobody, "/metrics").status, 200);
    drop(hanging);
    eventually(Duration::from_secs(10), "the places are free again", || server.app.in_flight() == 0);
    server.archetype(As::User("alice"), "alice").ok();
}

#[test]
fn slow_bodies_of_one_user_take_nothing_from_the_others() {
    let server = Harness::with(&[("NUDGE_MAX_IN_FLIGHT", "16")]);
    server.seed(facts::home());
    let hanging: Vec<_> = (0..4).map(|_| half_a_request(&server)).collect();
    eventually(Duration::from_secs(10), "all are coming", || server.app.in_flight() == 4);
    let body = json!([{ "recommendationId": "0198c0de-aaaa-7bbb-8ccc-ddddeeeeffff", "event": "viewed" }]);
    server.post(As::User("alice"), OUTCOMES, &body).refused(503, "overloaded");
    server.post(As::User("bob"), OUTCOMES, &body).refused(403, "not_your_recommendation");
    server.recommend(As::User("alice"), "alice", DATE, "bob").ok();
    drop(hanging);
    eventually(Duration::from_secs(10), "the places are free again", || server.app.in_flight() == 0);
    server.post(As::User("alice"), OUTCOMES, &body).refused(403, "not_your_recommendation");
}

#[test]
fn each_caller_has_a_rate_of_their_own() {
    let server = Harness::with(&[("NUDGE_RATE_PER_CALLER", "5")]);
    let statuses =
        |user: &str| (0..30).map(|_| server.archetype(As::User(user), user).status).collect::<Vec<_>>();
    let of_alice = statuses("alice");
    assert_eq!(of_alice[..5], [200; 5]);
    let refused = server.archetype(As::User("alice"), "alice");
    let seen = of_alice.iter().filter(|status| **status == 429).count();
    assert!(seen > 0 && of_alice.iter().all(|status| matches!(status, 200 | 429)), "{of_alice:?}");
    if refused.status == 429 {
        refused.refused(429, "rate_limited");
        assert!(refused.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    }
    assert_eq!(statuses("bob")[0], 200, "bob has done nothing yet");
}

#[test]
fn each_address_has_a_rate_that_bad_credentials_count_against() {
    let server = Harness::with(&[("NUDGE_RATE_PER_ADDRESS", "5")]);
    let answers: Vec<_> =
        (0..30).map(|_| server.request(As::Nobody, "GET", ARCHETYPE).bearer("nonsense").send()).collect();
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status == 429).collect();
    assert!(!refused.is_empty() && answers.iter().all(|answer| matches!(answer.status, 401 | 429)));
    assert!(refused[0].header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    assert_eq!(server.get(As::Nobody, "/health/ready").status, 200);
}

#[test]
fn a_local_start_has_no_rates() {
    let server = Harness::start();
    assert!((0..200).all(|_| server.recommend(As::Anon, "a", DATE, "b").status == 200));
}

#[test]
fn a_head_that_does_not_arrive_in_time_is_cut_off() {
    let server = Harness::with(&[("NUDGE_HEADER_TIMEOUT_MS", "300")]);
    for first in [&b""[..], b"GET / HT", b"GET / HTTP/1.1\r\nhost: a\r\nx: "] {
        let mut stream = connect(server.address);
        stream.write_all(first).unwrap();
        let begun = Instant::now();
        let answer = read_answer(&mut stream, false);
        assert!(answer.is_none_or(|answer| answer.status == 408), "{first:?}");
        assert!(begun.elapsed() >= Duration::from_millis(200) && begun.elapsed() < Duration::from_secs(20));
    }
    // One byte at a time gains nothing.
    let mut stream = connect(server.address);
    stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let closed =
        (0..400).any(|_| stream.write_all(b"x").is_err() || matches!(stream.read(&mut [0; 64]), Ok(0)));
    assert!(closed);
}

#[test]
fn a_body_that_does_not_arrive_in_time_is_408() {
    let server = Harness::with(&[("NUDGE_BODY_TIMEOUT_MS", "300")]);
    let before = server.contents();
    let answer = read_answer(&mut half_a_request(&server), false).unwrap();
    answer.refused(408, "timeout");
    // A chunked one that never ends, arriving all the time.
    let mut stream = connect(server.address);
    let head = server.request(As::User("alice"), "POST", OUTCOMES).header("content-type", "application/json");
    let head = head.header("transfer-encoding", "chunked").head();
    stream.write_all(head.as_bytes()).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut answer = Vec::new();
    let begun = Instant::now();
    while !answer.ends_with(b"}") && begun.elapsed() < Duration::from_secs(20) {
        let _ = stream.write_all(b"1\r\n \r\n");
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(n) => answer.extend_from_slice(&chunk[..n]),
            Err(_) => {}
        }
    }
    assert!(answer.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&answer));
    server.contents().are_still(&before, "what should change nothing");
}

#[test]
fn a_body_is_as_large_as_it_may_be_declared_or_not() {
    let server = Harness::with_home();
    let limit = 256 * 1024;
    let padded = |bytes: usize| {
        let mut text = json!({ "userId": "alice" }).to_string();
        text.push_str(&" ".repeat(bytes - text.len()));
        text
    };
    let post = || server.request(As::Service, "POST", ARCHETYPE);
    post().raw_json(padded(limit)).send().ok();
    post().raw_json(padded(limit + 1)).send().refused(413, "too_large");
    // Declared and never sent: refused without waiting for it.
    let head = post().header("content-type", "application/json").header("content-length", "100000000").head();
    let mut stream = connect(server.address);
    stream.write_all(head.as_bytes()).unwrap();
    let begun = Instant::now();
    read_answer(&mut stream, false).unwrap().refused(413, "too_large");
    assert!(begun.elapsed() < Duration::from_secs(5), "the body's deadline is ten seconds");
    // In chunks, without a length.
    for (bytes, status) in [(limit, 200), (limit + 1, 413)] {
        let head =
            post().header("content-type", "application/json").header("transfer-encoding", "chunked").head();
        let mut stream = connect(server.address);
        stream.write_all(head.as_bytes()).unwrap();
        let text = padded(bytes);
        for chunk in text.as_bytes().chunks(10_000) {
            let _ = write!(stream, "{:x}\r\n", chunk.len());
            let _ = stream.write_all(chunk);
            let _ = stream.write_all(b"\r\n");
        }
        let _ = stream.write_all(b"0\r\n\r\n");
        assert_eq!(read_answer(&mut stream, false).unwrap().status, status, "{bytes}");
    }
}

#[test]
fn heads_have_a_greatest_size() {
    let server = Harness::with_home();
    let with_headers = |n: usize| {
        (0..n)
            .fold(server.request(As::Nobody, "GET", "/health/live"), |r, i| r.header(&format!("x-{i}"), "v"))
            .send()
    };
    assert_eq!(with_headers(50).status, 200);
    assert_eq!(with_headers(1_000).status, 431);
    let long =
        server.request(As::Nobody, "GET", "/health/live").header("x-long", &"x".repeat(100_000)).send();
    assert_eq!(long.status, 431);
    server.archetype(As::User("alice"), &"x".repeat(10_240)).bad("userId");
    let url =
        format!("{RECOMMENDATIONS}?userId=alice&targetDate={DATE}&roommateId=bob&x={}", "x".repeat(100_000));
    assert!(matches!(server.get(As::User("alice"), &url).status, 414 | 431));
    server.usual();
}

#[test]
fn idle_connections_hurt_nobody() {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let open_files: usize = line.split_whitespace().nth(3).unwrap().parse().unwrap();
    // Both ends are in this process, and the other tests need some, too.
    let idle = 10_000.min(open_files.saturating_sub(2_000) / 2).max(100);
    let server = Harness::with(&[("NUDGE_MAX_CONNECTIONS", "20000")]);
    server.seed(facts::home());
    let begun = Instant::now();
    let connections: Vec<TcpStream> =
        (0..idle).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "a burst waits a second for every hundred: {:?}",
        begun.elapsed()
    );
    let begun = Instant::now();
    server.usual();
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?} beside {idle}", begun.elapsed());
    assert_eq!(connections.len(), idle);
}

#[test]
fn no_more_connections_than_allowed_are_served_and_the_next_waits_its_turn() {
    let server = Harness::with(&[("NUDGE_MAX_CONNECTIONS", "2")]);
    let mut idle = vec![connect(server.address), connect(server.address)];
    // Both are accepted: they answer.
    for stream in &mut idle {
        stream.write_all(b"GET /health/live HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
    }
    let mut third = connect(server.address);
    third.write_all(b"GET /health/live HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
    third.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(third.read(&mut [0; 16]).is_err(), "nobody serves it yet");
    drop(idle);
    third.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(read_answer(&mut third, false).unwrap().status, 200);
}

#[test]
fn a_shutdown_finishes_what_was_taken() {
    let mut server = Harness::with_home();
    let id = server.usual()["recommendationId"].as_str().unwrap().to_owned();
    let body = json!({ "recommendationId": id, "event": "viewed" }).to_string();
    let mut stream = connect(server.address);
    let head = server.request(As::User("alice"), "POST", OUTCOMES).header("content-type", "application/json");
    let head = head.head().replace("\r\n\r\n", &format!("\r\ncontent-length: {}\r\n\r\n", body.len()));
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&body.as_bytes()[..10]).unwrap();
    eventually(Duration::from_secs(10), "it is in work", || server.app.in_flight() == 1);
    server.ask_to_stop();
    eventually(Duration::from_secs(10), "nobody listens any more", || {
        TcpStream::connect(server.address).is_err()
    });
    stream.write_all(&body.as_bytes()[10..]).unwrap();
    assert_eq!(read_answer(&mut stream, false).unwrap().ok()["recorded"], 1);
    server.wait_for_end();
    assert_eq!(server.count("SELECT count(*) FROM recommendation_events"), 1);
}

#[test]
fn a_shutdown_does_not_wait_for_ever() {
    let mut server = Harness::with(&[("NUDGE_SHUTDOWN_MS", "200")]);
    let _never_finished = half_a_request(&server);
    eventually(Duration::from_secs(10), "it is in work", || server.app.in_flight() == 1);
    let begun = Instant::now();
    server.ask_to_stop();
    server.wait_for_end();
    assert!(begun.elapsed() < Duration::from_secs(8), "the body's own deadline is ten seconds");
}
