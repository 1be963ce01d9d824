//! The HTTP load with everything that watches switched on, beside the same load without: the dashboard open and followed
//! live, a log drain attached that takes every request, traces and metrics sent by OTLP.
//!
//! `cargo bench -p nudge --bench observed`. Settings by environment as in `http.rs`.

#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]

#[path = "shared/load.rs"]
#[expect(dead_code, reason = "the benchmarks share it")]
mod load;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use load::{Service, load, median, requests, setting};
use nudge::auth::keys;

fn main() -> anyhow::Result<()> {
    let people = setting("BENCH_PEOPLE", 20_000);
    let connections = setting("BENCH_CONNECTIONS", 50);
    let seconds = setting("BENCH_SECONDS", 8);
    let rounds = setting("BENCH_ROUNDS", 3);
    let binary = Path::new(env!("CARGO_BIN_EXE_nudge"));
    let (plain_folder, watched_folder) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let sink = Sink::start()?;
    let (plain, _) = Service::start(binary, plain_folder.path(), people)?;
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", sink.address)),
        ("OTEL_METRIC_EXPORT_INTERVAL", "1000".to_owned()),
        ("NUDGE_OUTBOUND_ALLOW_PRIVATE", "1".to_owned()),
    ];
    let (first, _) = Service::start_with(binary, watched_folder.path(), people, &variables)?;
    first.stop()?;
    let drain = Command::new(binary)
        .args(["logs", "drain", "create", "--name", "bench", "--data-dir"])
        .arg(watched_folder.path())
        .args(["--destination", &format!("http://{}/ingest", sink.address)])
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .stdout(Stdio::null())
        .status()?;
    anyhow::ensure!(drain.success(), "the drain was not created");
    let (watched, _) = Service::start_with(binary, watched_folder.path(), people, &variables)?;
    let secret = |folder: &Path| std::fs::read_to_string(folder.join("jwt-secret"));
    let (plain_secret, watched_secret) = (secret(plain_folder.path())?, secret(watched_folder.path())?);
    let plain_asks = Arc::new(requests(people, plain_secret.trim().as_bytes())?);
    let watched_asks = Arc::new(requests(people, watched_secret.trim().as_bytes())?);
    let page = Watcher::open(watched.address, watched_secret.trim().as_bytes())?;

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let run = |address, asks: &Arc<Vec<Vec<u8>>>, seconds: usize| {
        runtime.block_on(load(address, Arc::clone(asks), connections, Duration::from_secs(seconds as u64)))
    };
    println!("{connections} connections, {people} people, {rounds} rounds of {seconds} s each\n");
    println!("round   target      req/s    p50 ms   p95 ms   p99 ms   errors");
    run(plain.address, &plain_asks, 3)?;
    run(watched.address, &watched_asks, 3)?;
    let (mut plains, mut watcheds) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        for (name, address, asks, results) in [
            ("alone", plain.address, &plain_asks, &mut plains),
            ("watched", watched.address, &watched_asks, &mut watcheds),
        ] {
            let result = run(address, asks, seconds)?;
            println!(
                "{round:>5}   {name:9} {:>8.0} {:>8.2} {:>8.2} {:>8.2} {:>8}",
                result.per_second, result.p50, result.p95, result.p99, result.errors
            );
            results.push(result);
        }
    }
    println!(
        "\nratio watched / alone (medians)     {:.3}   (goal 0.85)",
        median(&watcheds) / median(&plains)
    );
    println!("pages and live parts read           {}", page.stop());
    println!("bytes that drain and collector got  {}", sink.bytes.load(Ordering::Relaxed));
    plain.stop()?;
    watched.stop()
}

/// A drain's endpoint and a collector in one: reads whatever comes, and says 200.
struct Sink {
    address: SocketAddr,
    bytes: Arc<AtomicUsize>,
}

impl Sink {
    fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let bytes = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&bytes);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counted = Arc::clone(&counted);
                std::thread::spawn(move || drop(serve(stream, &counted)));
            }
        });
        Ok(Self { address, bytes })
    }
}

fn serve(mut stream: TcpStream, counted: &AtomicUsize) -> std::io::Result<()> {
    let mut kept = Vec::new();
    let mut buffer = vec![0_u8; 64 * 1024];
    loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        counted.fetch_add(read, Ordering::Relaxed);
        kept.extend_from_slice(&buffer[..read]);
        while let Some(head) = kept.windows(4).position(|w| w == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&kept[..head]).to_ascii_lowercase();
            let length =
                text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
            let end = head + 4 + length.unwrap_or(0_usize);
            if kept.len() < end {
                break;
            }
            kept.drain(..end);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
        }
    }
}

/// Somebody who has the dashboard open: follows the overview live, and opens a page every second.
struct Watcher {
    stop: Arc<AtomicBool>,
    pages: std::thread::JoinHandle<usize>,
}

impl Watcher {
    fn open(address: SocketAddr, secret: &[u8]) -> anyhow::Result<Self> {
        let form = exchange(address, "GET /dashboard/sign-in", "", "")?;
        let token = form.split("name=\"form_token\" value=\"").nth(1).and_then(|rest| rest.split('"').next());
        let token = token.ok_or_else(|| anyhow::anyhow!("the sign-in has no form token"))?;
        let key = keys::legacy_key(secret, "service_role")?;
        let body = form_urlencoded::Serializer::new(String::new())
            .append_pair("form_token", token)
            .append_pair("next", "/dashboard")
            .append_pair("token", &key)
            .finish();
        let signed_in = exchange(address, "POST /dashboard/sign-in", &cookies(&form), &body)?;
        anyhow::ensure!(signed_in.starts_with("HTTP/1.1 303"), "the sign-in was refused");
        let cookie = cookies(&signed_in);
        let stop = Arc::new(AtomicBool::new(false));
        let mut live = TcpStream::connect(address)?;
        write!(live, "GET /dashboard/live/service HTTP/1.1\r\nHost: {address}\r\nCookie: {cookie}\r\n\r\n")?;
        let events = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&events);
        std::thread::spawn(move || {
            let mut buffer = vec![0_u8; 64 * 1024];
            while live.read(&mut buffer).is_ok_and(|read| read > 0) {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        let stopped = Arc::clone(&stop);
        let pages = std::thread::spawn(move || {
            let mut pages = 0;
            while !stopped.load(Ordering::Relaxed) {
                let shown = exchange(address, "GET /dashboard", &cookie, "");
                pages += usize::from(shown.is_ok_and(|page| page.starts_with("HTTP/1.1 200")));
                std::thread::sleep(Duration::from_secs(1));
            }
            pages + events.load(Ordering::Relaxed)
        });
        Ok(Self { stop, pages })
    }

    fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.pages.join().unwrap_or_default()
    }
}

/// Gives the cookies that an answer sets, as they are sent back.
fn cookies(answer: &str) -> String {
    let set = answer.lines().take_while(|line| !line.is_empty());
    let set = set.filter_map(|line| line.strip_prefix("set-cookie: ")?.split(';').next());
    set.collect::<Vec<_>>().join("; ")
}

fn exchange(address: SocketAddr, what: &str, cookie: &str, body: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    write!(
        stream,
        "{what} HTTP/1.1\r\nHost: {address}\r\nOrigin: http://{address}\r\nCookie: {cookie}\r\nConnection: close\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
