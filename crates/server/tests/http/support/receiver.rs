//! A place that requests are sent to: a collector, or somebody's webhook.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;

/// A request that came.
#[derive(Debug, Clone)]
pub struct Received {
    pub path: String,
    /// The request line and the headers.
    pub head: String,
    pub body: Vec<u8>,
}

impl Received {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// A header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<String> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    }
}

/// Takes what is sent and answers with a status, or, with 0, not at all.
pub struct Receiver {
    pub url: String,
    received: Arc<Mutex<Vec<Received>>>,
    status: Arc<AtomicU16>,
}

impl Receiver {
    pub fn start(status: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let received = Arc::new(Mutex::new(Vec::new()));
        let status = Arc::new(AtomicU16::new(status));
        let (into, answer) = (Arc::clone(&received), Arc::clone(&status));
        // Both end with the process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, into, answer) = (stream.unwrap(), Arc::clone(&into), Arc::clone(&answer));
                std::thread::spawn(move || serve(stream, &into, &answer));
            }
        });
        Self { url, received, status }
    }

    /// Answers so from now on.
    pub fn answer(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// The bodies that came, as JSON.
    pub fn bodies(&self) -> Vec<Value> {
        self.received().iter().map(Received::json).collect()
    }
}

fn serve(mut stream: std::net::TcpStream, into: &Mutex<Vec<Received>>, status: &AtomicU16) {
    while let Some(request) = read(&mut stream) {
        into.lock().unwrap().push(request);
        let status = status.load(Ordering::SeqCst);
        let answer = format!("HTTP/1.1 {status} As Told\r\ncontent-length: 0\r\n\r\n");
        if status != 0 && stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn read(stream: &mut std::net::TcpStream) -> Option<Received> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1)?.to_owned();
    let mut request = Received { path, head, body: Vec::new() };
    request.body = vec![0; request.header("content-length")?.parse().ok()?];
    stream.read_exact(&mut request.body).ok()?;
    Some(request)
}
