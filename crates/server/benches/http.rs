//! The HTTP benchmark: the service on the embedded database beside a bare axum handler, by one load generator in one run.
//!
//! `cargo bench -p nudge --bench http` (or `scripts/bench`). Settings by environment: `BENCH_PEOPLE` (20000),
//! `BENCH_CONNECTIONS` (50), `BENCH_SECONDS` (8 a round), `BENCH_ROUNDS` (3), `BENCH_FOLDER` (a data folder to use again).

#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]

#[path = "shared/load.rs"]
mod load;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use load::{Service, load, median, requests, setting};
use nudge::auth::keys;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).is_some_and(|a| a == "--bare") {
        return serve_bare();
    }
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
