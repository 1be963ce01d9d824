//! Deliveries to real sockets that answer as a test wants, at a quick pace.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;

use flate2::read::GzDecoder;
use nudge_store::LogDrain;
use serde_json::Value;

use super::*;
use crate::outbound::Bounds;

const OK: &str = "HTTP/1.1 204 Taken\r\nconnection: close\r\n\r\n";
const HOLD: &str = "";

/// A request that came.
#[derive(Debug)]
struct Came {
    head: String,
    body: Vec<u8>,
}

impl Came {
    fn header(&self, name: &str) -> &str {
        let line = self.head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        line.unwrap_or_else(|| panic!("no {name} in {}", self.head))
    }

    fn events(&self) -> Vec<Value> {
        let mut text = String::new();
        GzDecoder::new(self.body.as_slice()).read_to_string(&mut text).unwrap();
        serde_json::from_str(&text).unwrap()
    }
}

/// Takes a request on each connection and gives the next answer; the last one stays. [`HOLD`] is no answer at all.
fn receiver(answers: &'static [&'static str]) -> (u16, mpsc::Receiver<Came>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let mut held = Vec::new();
        for place in 0.. {
            let (mut stream, _) = listener.accept().unwrap();
            let mut bytes = Vec::new();
            let mut chunk = [0; 8192];
            let came = loop {
                let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
                if let Some(end) = end {
                    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
                    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                    let length: usize = length.unwrap().parse().unwrap();
                    if bytes.len() >= end + 4 + length {
                        break Came { head, body: bytes[end + 4..].to_vec() };
                    }
                }
                match stream.read(&mut chunk).unwrap() {
                    0 => panic!("broken off"),
                    n => bytes.extend_from_slice(&chunk[..n]),
                }
            };
            let answer = answers[usize::min(place, answers.len() - 1)];
            if answer == HOLD {
                held.push(stream);
            } else {
                stream.write_all(answer.as_bytes()).unwrap();
            }
            if tell.send(came).is_err() {
                return;
            }
        }
    });
    (port, told)
}

fn row(n: u64) -> Arc<RequestRow> {
    Arc::new(RequestRow {
        id: Uuid::from_u64_pair(0x019c_a97f_0000_7000, 0x8000_0000_0000_0000 + n),
        function_name: "transaction-recommendations",
        method: "GET",
        status: if n.is_multiple_of(2) { 200 } else { 503 },
        response_time_ms: 7,
        user_id: Some("u1_00".into()),
        error_code: (!n.is_multiple_of(2)).then_some("unavailable".into()),
        created_at: "2026-03-01T12:00:00Z".parse().unwrap(),
    })
}

struct Bench {
    drain: Arc<Drain>,
    delivery: Arc<Delivery>,
    task: tokio::task::JoinHandle<()>,
    outbound: Outbound,
}

impl Bench {
    fn start(port: u16, capacity: usize, adjust: impl FnOnce(&mut LogDrain, &mut Pace, &mut Bounds)) -> Self {
        let mut drain = LogDrain {
            id: Uuid::nil(),
            name: "logs".into(),
            destination: format!("http://127.0.0.1:{port}/in"),
            filters: String::new(),
            headers: [("authorization".to_owned(), "Bearer x".to_owned())].into(),
            secret: None,
            created_at: Timestamp::UNIX_EPOCH,
        };
        let mut pace = Pace {
            gather: Duration::from_millis(20),
            first_pause: Duration::from_millis(5),
            longest_pause: Duration::from_millis(20),
            longest_wish: Duration::from_millis(1_500),
            give_up: Duration::from_secs(60),
        };
        let mut bounds = Bounds { exchange: Duration::from_millis(500), ..Bounds::default() };
        adjust(&mut drain, &mut pace, &mut bounds);
        let drain = Arc::new(Drain::new(Spec::parse(&drain).unwrap(), capacity));
        let clock = Clock::fixed("2026-03-01T12:00:00Z".parse().unwrap());
        let outbound = Outbound::new("127.0.0.1".parse().unwrap(), bounds, clock.clone());
        let delivery =
            Delivery { pace, ..Delivery::new(Arc::clone(&drain), outbound.clone(), clock, "here:1".into()) };
        let delivery = Arc::new(delivery);
        let running = Arc::clone(&delivery);
        let task = tokio::spawn(async move { running.run().await });
        Self { drain, delivery, task, outbound }
    }

    fn offer(&self, numbers: std::ops::Range<u64>) {
        numbers.for_each(|n| self.drain.offer(&row(n)));
        self.drain.told.notify_one();
    }

    /// Stops the drain and waits until it has sent what it has.
    async fn end(self) {
        self.drain.stop.send_replace(true);
        self.task.await.unwrap();
        assert!(self.drain.queue.is_empty());
    }
}

async fn next(told: &mpsc::Receiver<Came>) -> Came {
    let patience = Instant::now();
    loop {
        match told.try_recv() {
            Ok(came) => return came,
            Err(mpsc::TryRecvError::Disconnected) => panic!("the receiver is gone"),
            Err(mpsc::TryRecvError::Empty) => {}
        }
        assert!(patience.elapsed() < Duration::from_secs(30), "nothing came");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_as_compressed_json_in_batches_of_250_at_most() {
    let (port, told) = receiver(&[OK]);
    let bench = Bench::start(port, 1_000, |_, _, _| {});
    bench.offer(0..601);
    let batches = [next(&told).await, next(&told).await, next(&told).await];
    assert_eq!(batches.each_ref().map(|came| came.events().len()), [250, 250, 101]);
    let first = &batches[0];
    assert!(first.head.starts_with("POST /in HTTP/1.1"), "{}", first.head);
    assert_eq!(first.header("content-type"), "application/json");
    assert_eq!(first.header("content-encoding"), "gzip");
    assert_eq!(first.header("authorization"), "Bearer x");
    assert_eq!(first.header("x-nudge-drain"), "logs");
    assert!(!first.head.contains("webhook-"), "not signed without a secret");
    let ids = batches.each_ref().map(|came| came.header("x-nudge-batch-id").parse::<Uuid>().unwrap());
    assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0].get_version_num() == 7);
    assert_eq!(
        first.events()[1],
        serde_json::json!({
            "id": row(1).id, "timestamp": "2026-03-01T12:00:00Z", "level": "error",
            "message": "GET transaction-recommendations 503 in 7 ms", "function_name": "transaction-recommendations",
            "method": "GET", "status": 503, "response_time_ms": 7, "user_id": "u1_00", "request_id": row(1).id,
            "error_code": "unavailable", "instance": "here:1"
        })
    );
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_with_a_secret_is_signed_over_what_is_sent() {
    let (port, told) = receiver(&[OK]);
    let secret = "a secret of sixteen bytes and more";
    let bench = Bench::start(port, 10, |drain, _, _| drain.secret = Some(secret.into()));
    bench.offer(0..1);
    let came = next(&told).await;
    let id = came.header("x-nudge-batch-id");
    assert_eq!(came.header("webhook-id"), id);
    let signer = crate::outbound::signature::Signer::new(secret).unwrap();
    let expected = signer.headers(id, "2026-03-01T12:00:00Z".parse().unwrap(), &came.body);
    assert_eq!(came.header("webhook-timestamp"), expected[1].1.to_str().unwrap());
    assert_eq!(came.header("webhook-signature"), expected[2].1.to_str().unwrap());
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_tried_again_with_the_same_id_after_500_429_and_a_broken_answer() {
    const ANSWERS: &[&str] = &[
        "HTTP/1.1 500 Oops\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        "HTTP/1.1 429 Slow\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\nconnection: close\r\n\r\nhalf",
        HOLD,
        OK,
    ];
    let (port, told) = receiver(ANSWERS);
    let bench = Bench::start(port, 10, |_, _, _| {});
    bench.offer(0..3);
    let mut came = Vec::new();
    let mut at = Vec::new();
    for _ in ANSWERS {
        came.push(next(&told).await);
        at.push(Instant::now());
    }
    let first = came[0].body.clone();
    let ids: Vec<_> = came.iter().map(|came| came.header("x-nudge-batch-id")).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert!(came.iter().all(|came| came.body == first && came.events().len() == 3));
    assert!(at[2] - at[1] >= Duration::from_millis(900), "Retry-After was honoured: {:?}", at[2] - at[1]);
    bench.end().await;
    assert!(told.try_recv().is_err(), "taken once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_refused_is_lost_and_the_next_one_is_sent() {
    const ANSWERS: &[&str] = &[
        "HTTP/1.1 400 Bad\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        "HTTP/1.1 302 Moved\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        OK,
    ];
    let (port, told) = receiver(ANSWERS);
    let bench = Bench::start(port, 10, |_, _, _| {});
    let mut ids = Vec::new();
    for n in 0..3 {
        bench.offer(n..n + 1);
        let came = next(&told).await;
        assert_eq!(came.events()[0]["id"], serde_json::json!(row(n).id), "each once");
        ids.push(came.header("x-nudge-batch-id").to_owned());
    }
    assert!(ids[0] != ids[1] && ids[1] != ids[2]);
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_hangs_costs_the_events_that_do_not_fit_and_nobody_a_wait() {
    let (port, told) = receiver(&[HOLD]);
    let bench = Bench::start(port, 20, |_, _, bounds| bounds.exchange = Duration::from_secs(300));
    bench.offer(0..1);
    // It hangs in the first batch now.
    next(&told).await;
    let begun = Instant::now();
    (0..10_000).for_each(|n| bench.drain.offer(&row(n)));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(bench.drain.queue.len(), 20);
    // So does the end of the server.
    bench.task.abort();
    bench.outbound.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_meets_the_filters_is_sent() {
    let (port, told) = receiver(&[OK]);
    let bench = Bench::start(port, 1_000, |drain, _, _| drain.filters = "status>=500".into());
    bench.offer(0..10);
    let events = next(&told).await.events();
    assert_eq!(events.len(), 5);
    assert!(events.iter().all(|event| event["status"] == 503));
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_sent_when_the_drain_is_stopped() {
    let (port, told) = receiver(&[OK]);
    let bench = Bench::start(port, 1_000, |_, pace, _| pace.gather = Duration::from_secs(3_600));
    bench.offer(0..300);
    assert_eq!(next(&told).await.events().len(), 250, "a full batch does not wait");
    bench.drain.stop.send_replace(true);
    assert_eq!(next(&told).await.events().len(), 50);
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_during_a_pause_ends_it() {
    let (port, told) = receiver(&[
        "HTTP/1.1 503 Away\r\nretry-after: 3600\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
    ]);
    let bench = Bench::start(port, 1_000, |_, pace, _| pace.longest_wish = Duration::from_secs(3_600));
    bench.offer(0..1);
    next(&told).await;
    let delivery = Arc::clone(&bench.delivery);
    while !delivery.failing.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::timeout(Duration::from_secs(20), bench.end()).await.unwrap();
}

#[test]
fn only_network_429_and_5xx_are_tried_again() {
    let answer =
        |status| Ok(Answer { status, retry_after: Some(Duration::from_secs(7)), body: String::new() });
    let after = Some(Duration::from_secs(7));
    for (sent, verdict) in [
        (answer(200), Verdict::Taken),
        (answer(202), Verdict::Taken),
        (answer(301), Verdict::Lost { cause: "status_other" }),
        (answer(400), Verdict::Lost { cause: "status_other" }),
        (answer(408), Verdict::Lost { cause: "status_other" }),
        (answer(413), Verdict::Lost { cause: "status_other" }),
        (answer(429), Verdict::Again { cause: "status_429", after }),
        (answer(500), Verdict::Again { cause: "status_5xx", after }),
        (answer(503), Verdict::Again { cause: "status_5xx", after }),
        (Err(OutboundError::HostNotFound), Verdict::Again { cause: "network", after: None }),
        (
            Err(OutboundError::Timeout { phase: "connect".into() }),
            Verdict::Again { cause: "network", after: None },
        ),
        (Err(OutboundError::Request("no".into())), Verdict::Lost { cause: "unsendable" }),
    ] {
        assert_eq!(Verdict::of(&sent), verdict, "{sent:?}");
    }
}

#[test]
fn pauses_are_scattered_and_never_shorter_than_asked_for() {
    let second = Duration::from_secs(1);
    for _ in 0..1_000 {
        let usual = scattered(None, second);
        assert!(usual >= second / 2 && usual <= second, "{usual:?}");
        let wished = scattered(Some(5 * second), second);
        assert!(wished >= 5 * second && wished <= 5 * second + second / 5, "{wished:?}");
    }
}
