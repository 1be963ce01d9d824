//! The HTTP benchmark: the service on the embedded database beside a bare axum handler, by one load generator in one run.
//!
//! `cargo bench -p nudge --bench http` (or `scripts/bench`). Settings by environment: `BENCH_PEOPLE` (20000),
//! `BENCH_CONNECTIONS` (50), `BENCH_SECONDS` (8 a round), `BENCH_ROUNDS` (3), `BENCH_FOLDER` (a data folder to use again).

#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nudge::auth::keys;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).is_some_and(|a| a == "--bare") {
        return serve_bare();
    }
    let setting =
        |name: &str, default: usize| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default);
    let people = setting("BENCH_PEOPLE", 20_000);
    let connections = setting("BENCH_CONNECTIONS", 50);
    let seconds = setting("BENCH_SECONDS", 8);
    let rounds = setting("BENCH_ROUNDS", 3);

    let fresh_folder = tempfile::tempdir()?;
    let given_folder = std::env::var_os("BENCH_FOLDER").map(std::path::PathBuf::from);
    let folder = given_folder.as_deref().unwrap_or(fresh_folder.path());
    let binary = Path::new(env!("CARGO_BIN_EXE_nudge"));
    let (first, fresh) = Service::start(binary, folder, people)?;
    first.stop()?;
    let (service, ready) = Service::start(binary, folder, people)?;
    let idle = service.resident_mib()?;
    let bare = Service::bare()?;

    let secret = std::fs::read_to_string(folder.join("jwt-secret"))?;
    let asks = Arc::new(requests(people, secret.trim().as_bytes())?);
    let plain = Arc::new(vec![b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n".to_vec()]);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let run = |address, requests: &Arc<Vec<Vec<u8>>>, seconds: usize| {
        runtime.block_on(load(
            address,
            Arc::clone(requests),
            connections,
            Duration::from_secs(seconds as u64),
        ))
    };

    println!("{connections} connections, {people} people, {rounds} rounds of {seconds} s each\n");
    println!("round   target      req/s    p50 ms   p95 ms   p99 ms   errors");
    run(service.address, &asks, 3)?;
    let (mut bares, mut services) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        for (name, address, requests, results) in [
            ("bare axum", bare.address, &plain, &mut bares),
            ("nudge", service.address, &asks, &mut services),
        ] {
            let result = run(address, requests, seconds)?;
            println!(
                "{round:>5}   {name:9} {:>8.0} {:>8.2} {:>8.2} {:>8.2} {:>8}",
                result.per_second, result.p50, result.p95, result.p99, result.errors
            );
            results.push(result);
        }
    }
    let median = |results: &[Load]| {
        let mut rates: Vec<f64> = results.iter().map(|r| r.per_second).collect();
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    };
    let worst = services.iter().map(|r| r.p95).fold(0.0, f64::max);
    let errors: usize = services.iter().map(|r| r.errors).sum();
    println!(
        "\nratio nudge / bare axum (medians)   {:.3}   (goal 0.25, aim 0.5)",
        median(&services) / median(&bares)
    );
    println!("worst p95                           {worst:.2} ms   (goal 15)");
    println!("errors                              {errors}   (goal 0)");
    let mut p95s: Vec<f64> = services.iter().map(|r| r.p95).collect();
    p95s.sort_by(f64::total_cmp);
    let without = p95s[p95s.len() / 2];
    let job = Job::start(service.address, secret.trim().as_bytes())?;
    let beside = run(service.address, &asks, seconds)?;
    let users = job.stop()?;
    println!(
        "p95 while the job runs              {:.2} ms, {:.1} times that without it   (goal 2); {:.0} req/s, {:.0} users/s, errors {}",
        beside.p95,
        beside.p95 / without,
        beside.per_second,
        users as f64 / seconds as f64,
        beside.errors
    );
    println!(
        "fresh start to ready                {:.0} ms   ({people} people made)",
        fresh.as_secs_f64() * 1e3
    );
    println!("start to ready, existing database   {:.0} ms   (goal 300)", ready.as_secs_f64() * 1e3);
    println!("idle memory                         {idle:.1} MiB   (goal 60 MB)");
    println!("memory after the load               {:.1} MiB", service.resident_mib()?);
    println!(
        "binary                              {:.1} MiB   (goal 40 MB)",
        std::fs::metadata(binary)?.len() as f64 / 1_048_576.0
    );
    service.stop()?;
    bare.stop()
}

/// A bare handler that returns 200 bytes.
fn serve_bare() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let body = "x".repeat(200);
        let router = axum::Router::new().route("/", axum::routing::get(async move || body.clone()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        println!("listening on {}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let service = hyper_util::service::TowerToHyperService::new(router.clone());
            tokio::spawn(async move {
                let io = hyper_util::rt::TokioIo::new(stream);
                hyper::server::conn::http1::Builder::new().serve_connection(io, service).await
            });
        }
    })
}

/// A server process.
struct Service {
    process: Child,
    address: SocketAddr,
}

impl Service {
    /// Starts the service on a data folder and says how long it took until it was ready.
    fn start(binary: &Path, folder: &Path, people: usize) -> anyhow::Result<(Self, Duration)> {
        let started = Instant::now();
        let process = Command::new(binary)
            .args([
                "demo",
                "--port",
                "0",
                "--log-level",
                "warn",
                "--people",
                &people.to_string(),
                "--data-dir",
            ])
            .arg(folder)
            .stdout(Stdio::piped())
            .spawn()?;
        let service = Self::announced(process, "runs at  http://")?;
        loop {
            if let Ok(mut stream) = TcpStream::connect(service.address) {
                stream
                    .write_all(b"GET /health/ready HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
                let mut answer = String::new();
                stream.read_to_string(&mut answer)?;
                if answer.starts_with("HTTP/1.1 200") {
                    return Ok((service, started.elapsed()));
                }
            }
        }
    }

    fn bare() -> anyhow::Result<Self> {
        let process = Command::new(std::env::current_exe()?).arg("--bare").stdout(Stdio::piped()).spawn()?;
        Self::announced(process, "listening on ")
    }

    /// Reads the address that the process prints.
    fn announced(mut process: Child, before: &str) -> anyhow::Result<Self> {
        let output = process.stdout.take().ok_or_else(|| anyhow::anyhow!("no output"))?;
        let mut lines = BufReader::new(output).lines();
        for line in lines.by_ref() {
            if let Some((_, address)) = line?.split_once(before) {
                let address = address.trim().parse()?;
                std::thread::spawn(move || lines.for_each(drop));
                return Ok(Self { process, address });
            }
        }
        anyhow::bail!("the server ended without saying its address")
    }

    fn resident_mib(&self) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap_or_default();
        let kib: f64 = line.split_whitespace().nth(1).unwrap_or_default().parse()?;
        Ok(kib / 1024.0)
    }

    fn stop(mut self) -> anyhow::Result<()> {
        let pid = self.process.id().to_string();
        Command::new("kill").arg(pid).status()?;
        self.process.wait()?;
        Ok(())
    }
}

/// The recalculation job for everybody, again and again.
struct Job {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<anyhow::Result<usize>>,
}

impl Job {
    fn start(address: SocketAddr, secret: &[u8]) -> anyhow::Result<Self> {
        let key = keys::legacy_key(secret, "service_role")?;
        let body = r#"{"config": {"onlyStaleUsers": false, "batchSize": 500}, "wait": true}"#;
        let request = format!(
            "POST /functions/v1/archetype-recalculation-job HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\
             Authorization: Bearer {key}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut users = 0;
            while !stopped.load(Ordering::Relaxed) {
                let mut stream = TcpStream::connect(address)?;
                stream.write_all(request.as_bytes())?;
                let mut answer = String::new();
                stream.read_to_string(&mut answer)?;
                let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
                let done: serde_json::Value = serde_json::from_str(body)?;
                anyhow::ensure!(done["status"] == "completed", "the job is {done}");
                users += done["processed"].as_u64().unwrap_or_default() as usize;
            }
            Ok(users)
        });
        Ok(Self { stop, thread })
    }

    /// Lets the run under way end, and says how many users there were in all.
    fn stop(self) -> anyhow::Result<usize> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the thread of the job panicked"))?
    }
}

/// One request for each person: their own token, a night of the next weeks that the roommate holds.
fn requests(people: usize, secret: &[u8]) -> anyhow::Result<Vec<Vec<u8>>> {
    let now = nudge::clock::Clock::default().now();
    let today = now.as_second() / 86_400;
    let mut requests = Vec::with_capacity(people);
    for person in 0..people {
        let user = format!("user-{:06}", person + 1);
        let roommate = format!("user-{:06}", (person ^ 1) + 1);
        let token = keys::sign(
            secret,
            &json!({ "iss": "bench", "sub": user, "role": "authenticated", "exp": now.as_second() + 36_000 }),
        )?;
        // The first of a pair holds the even days, so asks for odd ones.
        let day = today + 2 + (person as i64 * 7) % 40;
        let day = if (day - person as i64).rem_euclid(2) == 0 { day + 1 } else { day };
        let date = jiff::civil::date(1970, 1, 1).saturating_add(jiff::Span::new().days(day));
        let path = format!(
            "/functions/v1/transaction-recommendations?userId={user}&targetDate={date}&roommateId={roommate}"
        );
        requests.push(
            format!("GET {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n\r\n")
                .into_bytes(),
        );
    }
    Ok(requests)
}

/// What a load gave.
struct Load {
    per_second: f64,
    p50: f64,
    p95: f64,
    p99: f64,
    errors: usize,
}

/// Keeps a number of connections busy for a time.
async fn load(
    address: SocketAddr,
    requests: Arc<Vec<Vec<u8>>>,
    connections: usize,
    time: Duration,
) -> anyhow::Result<Load> {
    let stop = Arc::new(AtomicBool::new(false));
    let next = Arc::new(AtomicUsize::new(0));
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..connections {
        let (requests, stop, next) = (Arc::clone(&requests), Arc::clone(&stop), Arc::clone(&next));
        tasks.spawn(async move { connection(address, &requests, &stop, &next).await });
    }
    tokio::time::sleep(time).await;
    stop.store(true, Ordering::Relaxed);
    let (mut micros, mut errors) = (Vec::new(), 0);
    while let Some(done) = tasks.join_next().await {
        let (times, failed) = done??;
        micros.extend(times);
        errors += failed;
    }
    let elapsed = started.elapsed().as_secs_f64();
    micros.sort_unstable();
    let at = |share: f64| f64::from(micros[(micros.len() as f64 * share) as usize]) / 1e3;
    Ok(Load { per_second: micros.len() as f64 / elapsed, p50: at(0.5), p95: at(0.95), p99: at(0.99), errors })
}

async fn connection(
    address: SocketAddr,
    requests: &[Vec<u8>],
    stop: &AtomicBool,
    next: &AtomicUsize,
) -> anyhow::Result<(Vec<u32>, usize)> {
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut times, mut errors) = (Vec::new(), 0);
    let mut buffer = vec![0_u8; 16 * 1024];
    while !stop.load(Ordering::Relaxed) {
        // A stride that is coprime to the number of people spreads them over the connections.
        let request = &requests[next.fetch_add(7_919, Ordering::Relaxed) % requests.len()];
        let sent = Instant::now();
        stream.write_all(request).await?;
        let mut filled = 0;
        let complete = loop {
            let read = stream.read(&mut buffer[filled..]).await?;
            anyhow::ensure!(read > 0, "the server closed the connection");
            filled += read;
            if let Some(length) = response_length(&buffer[..filled])
                && filled >= length
            {
                break filled == length;
            }
        };
        times.push(u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX));
        errors += usize::from(!(complete && buffer.starts_with(b"HTTP/1.1 200")));
    }
    Ok((times, errors))
}

/// Gives the length of the response at the start of the bytes, once its head is complete.
fn response_length(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&bytes[..head]).ok()?;
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: "))?;
    Some(head + length.trim().parse::<usize>().ok()?)
}
