//! The client against real sockets, and names that answer as a test wants.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::mpsc;
use std::thread;

use super::address::Range;
use super::*;

/// Listens on an address of loopback, answers each connection with the next text and closes it, and tells of what came.
fn listen(address: &str, answers: &'static [&'static str]) -> (u16, mpsc::Receiver<String>) {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        for answer in answers {
            let (stream, _) = listener.accept().unwrap();
            let request = answer_one(stream, answer);
            if tell.send(request).is_err() {
                return;
            }
        }
    });
    (port, told)
}

/// Reads a request with its body and writes the answer.
fn answer_one(mut stream: TcpStream, answer: &str) -> String {
    let mut request = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| {
                    line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned)
                })
                .map_or(0, |length| length.parse().unwrap());
            if body.len() >= length {
                break;
            }
        }
        match stream.read(&mut chunk).unwrap() {
            0 => break,
            n => request.extend_from_slice(&chunk[..n]),
        }
    }
    stream.write_all(answer.as_bytes()).unwrap();
    String::from_utf8(request).unwrap()
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";

fn quick() -> Bounds {
    Bounds { connect: Duration::from_millis(500), exchange: Duration::from_millis(700), body_bytes: 16 }
}

fn client(allowed: &str) -> Outbound {
    Outbound::new(allowed.parse().unwrap(), quick(), Clock::fixed("2026-03-01T12:00:00Z".parse().unwrap()))
}

fn post(url: &str) -> Post {
    Post {
        destination: url.parse().unwrap(),
        headers: vec![(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))],
        body: b"[1]".to_vec(),
    }
}

/// Names whose answers are given one after the other; the last one stays.
#[derive(Debug)]
struct Names(Mutex<Vec<Vec<SocketAddr>>>);

impl Names {
    fn of(answers: &[&[SocketAddr]]) -> Self {
        Self(Mutex::new(answers.iter().rev().map(|answer| answer.to_vec()).collect()))
    }
}

impl Resolver for Names {
    fn resolve(&self, _: &Uri, _: &ClientConfig, _: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut answers = self.0.lock().unwrap();
        let answer = if answers.len() > 1 { answers.pop() } else { answers.last().cloned() };
        let mut found = self.empty();
        answer.unwrap_or_default().into_iter().for_each(|address| found.push(address));
        Ok(found)
    }
}

#[test]
fn a_request_is_sent_whole_and_the_answer_comes_back_typed() {
    let (port, told) = listen("127.0.0.1", &[OK]);
    let client = client("127.0.0.0/8");
    let answer = client.post_blocking(&post(&format!("http://127.0.0.1:{port}/in?key=1"))).unwrap();
    assert_eq!(answer, Answer { status: 200, retry_after: None, body: "ok".into() });
    assert_eq!(answer.advice(), Advice::Taken);
    let request = told.recv().unwrap();
    assert!(request.starts_with("POST /in?key=1 HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("content-type: application/json\r\n"), "{request}");
    assert!(request.ends_with("\r\n\r\n[1]"), "{request}");
}

#[test]
fn addresses_that_are_not_public_are_refused_however_they_are_written() {
    let (port, told) = listen("127.0.0.1", &[OK]);
    let client = client("0");
    for host in [
        "127.0.0.1",
        "localhost",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        "[::]",
        "169.254.169.254",
        "10.0.0.1",
    ] {
        let error = client.post_blocking(&post(&format!("http://{host}:{port}/"))).unwrap_err();
        assert!(matches!(error, OutboundError::Refused(_)), "{host}: {error:?}");
        assert!(!error.is_worth_a_retry());
    }
    assert!(told.try_recv().is_err(), "nothing may have been dialled");
}

#[test]
fn an_address_in_the_url_is_refused_before_anything_is_sent() {
    let client = client("0");
    let check = |url: &str| client.check(&url.parse().unwrap()).map_err(|refused| refused.range);
    assert_eq!(check("http://127.0.0.1:9/"), Err(Range::Loopback));
    assert_eq!(check("http://[fd00::1]/"), Err(Range::Private));
    assert_eq!(check("https://1.1.1.1/"), Ok(()));
    assert_eq!(check("https://logs.example.com/"), Ok(()));
}

#[test]
fn a_name_that_answers_differently_the_second_time_gains_nothing() {
    let (good_port, good) = listen("127.0.0.1", &[OK, OK]);
    let bad = TcpListener::bind(("127.0.0.2", 0)).unwrap();
    bad.set_nonblocking(true).unwrap();
    let names = Names::of(&[&[([127, 0, 0, 1], good_port).into()], &[bad.local_addr().unwrap()]]);
    let clock = Clock::fixed("2026-03-01T12:00:00Z".parse().unwrap());
    let client = Outbound::with_resolver("127.0.0.1/32".parse().unwrap(), quick(), clock, names);
    let request = post("http://rebinding.example.com/");
    assert_eq!(client.post_blocking(&request).unwrap().status, 200);
    good.recv().unwrap();
    let error = client.post_blocking(&request).unwrap_err();
    let OutboundError::Refused(refused) = error else { panic!("{error:?}") };
    assert_eq!((refused.address, refused.range), ([127, 0, 0, 2].into(), Range::Loopback));
    let accepted = bad.accept().unwrap_err();
    assert_eq!(
        accepted.kind(),
        std::io::ErrorKind::WouldBlock,
        "the second address must not have been dialled"
    );
}

#[test]
fn of_a_names_addresses_only_the_allowed_ones_are_dialled() {
    let (good_port, _good) = listen("127.0.0.1", &[OK]);
    let bad = TcpListener::bind(("127.0.0.2", 0)).unwrap();
    bad.set_nonblocking(true).unwrap();
    let names = Names::of(&[&[bad.local_addr().unwrap(), ([127, 0, 0, 1], good_port).into()]]);
    let clock = Clock::fixed("2026-03-01T12:00:00Z".parse().unwrap());
    let client = Outbound::with_resolver("127.0.0.1".parse().unwrap(), quick(), clock, names);
    assert_eq!(client.post_blocking(&post("http://two.example.com/")).unwrap().status, 200);
    assert!(bad.accept().is_err());
}

#[test]
fn redirects_are_not_followed_and_no_success() {
    let (target_port, target) = listen("127.0.0.1", &[OK]);
    let moved: &'static str = Box::leak(
        format!("HTTP/1.1 307 Moved\r\nlocation: http://127.0.0.1:{target_port}/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            .into_boxed_str(),
    );
    let answers: &'static [&'static str] = Box::leak(Box::new([moved]));
    let (port, _told) = listen("127.0.0.1", answers);
    let answer = client("1").post_blocking(&post(&format!("http://127.0.0.1:{port}/"))).unwrap();
    assert_eq!((answer.status, answer.advice()), (307, Advice::Never));
    assert!(target.try_recv().is_err());
}

#[test]
fn retry_after_is_read_as_seconds_and_as_a_date() {
    const ANSWERS: &[&str] = &[
        "HTTP/1.1 429 Too Many\r\nretry-after: 7\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        "HTTP/1.1 503 Away\r\nretry-after: Sun, 01 Mar 2026 12:02:00 GMT\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        "HTTP/1.1 503 Away\r\nretry-after: Sun, 01 Mar 2026 11:00:00 GMT\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        "HTTP/1.1 500 Oops\r\nretry-after: soon\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
    ];
    let (port, _told) = listen("127.0.0.1", ANSWERS);
    let client = client("1");
    let found: Vec<_> = ANSWERS
        .iter()
        .map(|_| {
            let answer = client.post_blocking(&post(&format!("http://127.0.0.1:{port}/"))).unwrap();
            assert_eq!(answer.advice(), Advice::Later);
            (answer.status, answer.retry_after)
        })
        .collect();
    let secs = |secs| Some(Duration::from_secs(secs));
    assert_eq!(found, [(429, secs(7)), (503, secs(120)), (503, secs(0)), (500, None)]);
}

#[test]
fn a_long_answer_is_cut_and_a_broken_one_is_an_error() {
    const ANSWERS: &[&str] = &[
        "HTTP/1.1 400 Bad\r\ncontent-length: 40\r\nconnection: close\r\n\r\n0123456789012345678901234567890123456789",
        "HTTP/1.1 200 OK\r\ncontent-length: 12\r\nconnection: close\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n4\r\nhalf\r\n",
        "not HTTP at all\r\n\r\n",
        "",
    ];
    let (port, _told) = listen("127.0.0.1", ANSWERS);
    let client = client("1");
    let send = || client.post_blocking(&post(&format!("http://127.0.0.1:{port}/")));
    let cut = send().unwrap();
    assert_eq!((cut.status, cut.advice(), cut.body.as_str()), (400, Advice::Never, "0123456789012345"));
    for answer in &ANSWERS[1..] {
        let error = send().unwrap_err();
        assert!(error.is_worth_a_retry(), "{answer}: {error:?}");
        assert!(
            matches!(error, OutboundError::Network(_) | OutboundError::Protocol(_)),
            "{answer}: {error:?}"
        );
    }
}

#[test]
fn an_end_that_says_nothing_is_left_after_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let error = client("1").post_blocking(&post(&format!("http://127.0.0.1:{port}/"))).unwrap_err();
    assert!(matches!(error, OutboundError::Timeout { .. }), "{error:?}");
    drop(listener);
    let error = client("1").post_blocking(&post(&format!("http://127.0.0.1:{port}/"))).unwrap_err();
    assert!(matches!(error, OutboundError::Network(_)), "{error:?}");
}

#[test]
fn a_name_without_an_address_is_not_found() {
    let error = client("1").post_blocking(&post("http://nothing.invalid/")).unwrap_err();
    assert!(matches!(error, OutboundError::HostNotFound | OutboundError::Timeout { .. }), "{error:?}");
    assert!(error.is_worth_a_retry());
}

#[test]
fn closing_breaks_off_what_is_under_way() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let bounds = Bounds { exchange: Duration::from_secs(60), ..quick() };
    let client = Outbound::new("1".parse().unwrap(), bounds, Clock::default());
    let sending = client.clone();
    let sender = thread::spawn(move || sending.post_blocking(&post(&format!("http://127.0.0.1:{port}/"))));
    let (stream, _) = listener.accept().unwrap();
    client.close();
    assert!(matches!(sender.join().unwrap(), Err(OutboundError::Network(_))));
    drop(stream);
}

#[test]
fn no_error_quotes_the_url() {
    let client = client("0");
    for url in ["http://127.0.0.1:9/secret?key=secret", "http://host.invalid/secret"] {
        let request = post(url);
        let error = client.post_blocking(&request).unwrap_err();
        assert!(!format!("{error} {error:?} {request:?}").contains("/secret"), "{error:?}");
    }
}
