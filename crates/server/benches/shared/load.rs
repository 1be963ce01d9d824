//! What the HTTP benchmarks share: a server as a process, requests of its people, and a load of many connections.

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

/// Reads a setting of the benchmark from the environment.
pub fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// Gives the middle of the requests per second.
pub fn median(results: &[Load]) -> f64 {
    let mut rates: Vec<f64> = results.iter().map(|r| r.per_second).collect();
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// A server process.
pub struct Service {
    process: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Service {
    /// Starts the service on a data folder and says how long it took until it was ready.
    pub fn start(binary: &Path, folder: &Path, people: usize) -> anyhow::Result<(Self, Duration)> {
        Self::start_with(binary, folder, people, &[])
    }

    /// Starts it with variables of its own.
    pub fn start_with(
        binary: &Path,
        folder: &Path,
        people: usize,
        variables: &[(&str, String)],
    ) -> anyhow::Result<(Self, Duration)> {
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
            .envs(variables.iter().map(|(name, value)| (name, value)))
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

    pub fn bare() -> anyhow::Result<Self> {
        let process = Command::new(std::env::current_exe()?).arg("--bare").stdout(Stdio::piped()).spawn()?;
        Self::announced(process, "listening on ")
    }

    /// Reads the address that the process prints.
    pub fn announced(mut process: Child, before: &str) -> anyhow::Result<Self> {
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

    pub fn resident_mib(&self) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap_or_default();
        let kib: f64 = line.split_whitespace().nth(1).unwrap_or_default().parse()?;
        Ok(kib / 1024.0)
    }

    pub fn stop(mut self) -> anyhow::Result<()> {
        let pid = self.process.id().to_string();
        Command::new("kill").arg(pid).status()?;
        self.process.wait()?;
        Ok(())
    }
}

/// One request for each person: their own token, a night of the next weeks that the roommate holds.
pub fn requests(people: usize, secret: &[u8]) -> anyhow::Result<Vec<Vec<u8>>> {
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
pub struct Load {
    pub per_second: f64,
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub errors: usize,
}

/// Keeps a number of connections busy for a time.
pub async fn load(
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
