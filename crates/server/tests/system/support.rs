//! Starts the program in folders of its own, talks to it, and reads its database beside it.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Longest wait for anything: far more than a slow machine needs, so that only what never happens fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with a data folder in it, removed at the end.
pub struct Folder {
    temporary: tempfile::TempDir,
}

/// What a command has left behind.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// Gives what was printed, of a command that must have succeeded.
    #[track_caller]
    pub fn good(self) -> String {
        assert_eq!(self.code, Some(0), "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self.out
    }

    /// Gives the complaint of a command that must have failed with status 1, in words and without a panic.
    #[track_caller]
    pub fn refused(self) -> String {
        assert_eq!(self.code, Some(1), "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        assert!(!self.err.contains("panicked"), "{}", self.err);
        assert!(self.err.contains("error:"), "{}", self.err);
        self.err
    }

    /// Reads what was printed, whatever the status.
    #[track_caller]
    pub fn printed(self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    #[track_caller]
    pub fn json(self) -> Value {
        let out = self.good();
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }
}

impl Folder {
    pub fn new() -> Self {
        Self { temporary: tempfile::tempdir().unwrap() }
    }

    /// The folder around the data folder, where commands run.
    pub fn path(&self) -> &Path {
        self.temporary.path()
    }

    pub fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    pub fn file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Makes a command that runs here with nothing of the caller's environment.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nudge"));
        command.args(args).current_dir(self.path()).env_clear().env("COLUMNS", "100");
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command on the data folder.
    pub fn run(&self, args: &[&str]) -> Ran {
        finish(self.command(args).args(["--data-dir", "data"]), None)
    }

    /// Runs a command that needs no data, with something on its standard input.
    pub fn feed(&self, args: &[&str], input: &str) -> Ran {
        finish(&mut self.command(args), Some(input))
    }

    /// Starts `serve` or `demo` on the data folder and a free port, and waits until it says that it listens.
    pub fn start(&self, args: &[&str]) -> Server {
        self.start_command(self.command(args).args(["--data-dir", "data", "--port", "0"]))
    }

    pub fn start_command(&self, command: &mut Command) -> Server {
        Server::start(command, self.path().join("server.log"))
    }

    /// Makes a small marketplace and stops its server again.
    pub fn with_people(people: usize) -> Self {
        let folder = Self::new();
        let mut server = folder.start(&["demo", "--people", &people.to_string()]);
        server.terminate();
        assert_eq!(server.exit_code(), Some(0), "{}", server.log());
        folder
    }

    pub fn database(&self) -> rusqlite::Connection {
        open(&self.data().join("nudge.db"))
    }

    /// A token of a user, as the command line makes it.
    pub fn token(&self, user: &str) -> String {
        self.run(&["token", "--sub", user]).good().trim().to_owned()
    }
}

/// Opens a database beside its server.
pub fn open(path: &Path) -> rusqlite::Connection {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = rusqlite::Connection::open_with_flags(path, flags).unwrap();
    conn.busy_timeout(PATIENCE).unwrap();
    conn
}

/// Gives the one number that a query gives.
#[track_caller]
pub fn number(conn: &rusqlite::Connection, query: &str, values: impl rusqlite::Params) -> i64 {
    conn.query_row(query, values, |row| row.get(0)).unwrap()
}

/// Gives the first column of every row as text.
#[track_caller]
pub fn texts(conn: &rusqlite::Connection, query: &str) -> Vec<String> {
    let mut statement = conn.prepare(query).unwrap();
    let rows = statement.query_map([], |row| row.get::<_, rusqlite::types::Value>(0)).unwrap();
    rows.map(|value| match value.unwrap() {
        rusqlite::types::Value::Text(text) => text,
        other => format!("{other:?}"),
    })
    .collect()
}

/// Runs a command to its end, feeding it in a thread of its own.
pub fn finish(command: &mut Command, input: Option<&str>) -> Ran {
    if input.is_some() {
        command.stdin(Stdio::piped());
    }
    let mut child = command.spawn().unwrap();
    let feeder = child.stdin.take().map(|mut stdin| {
        let input = input.unwrap_or_default().to_owned();
        // The command may end before it has read everything.
        std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())))
    });
    let output = child.wait_with_output().unwrap();
    if let Some(feeder) = feeder {
        feeder.join().unwrap();
    }
    Ran {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Tries until something is there.
#[track_caller]
pub fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    log: PathBuf,
    /// What it printed until it listened.
    pub greeting: String,
    pub url: String,
}

impl Server {
    fn start(command: &mut Command, log: PathBuf) -> Self {
        let file = std::fs::File::options().create(true).append(true).open(&log).unwrap();
        let mut child = command.stderr(file).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let (lines, received) = mpsc::channel();
        // Reads on to the end, so that the server can always write.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if lines.send(line).is_err() {
                    break;
                }
            }
        });
        let mut server = Self { child, log, greeting: String::new(), url: String::new() };
        let begun = Instant::now();
        while !server.greeting.contains("Ctrl-C") {
            match received.recv_timeout(PATIENCE.saturating_sub(begun.elapsed())) {
                Ok(line) => server.greeting.push_str(&format!("{line}\n")),
                Err(error) => panic!("the server does not start: {error}\n{}", server.log()),
            }
        }
        let from = server.greeting.find("http://").expect("the address");
        let address = server.greeting[from..].split_whitespace().next().unwrap_or_default();
        server.url = address.to_owned();
        server
    }

    pub fn client(&self) -> Client {
        Client::new(&self.url)
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to end, as a service manager does.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Asks it to end, as Ctrl-C does.
    pub fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Stops it, and waits until each of its threads has: they go on for a moment after the signal.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
        let tasks = format!("/proc/{}/task", self.child.id());
        eventually("every thread stops", || {
            let mut threads = std::fs::read_dir(&tasks).unwrap();
            // The state comes after the name, which is between brackets.
            let is_stopped =
                |stat: String| stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" T"));
            threads
                .all(|thread| {
                    let stat = std::fs::read_to_string(thread.unwrap().path().join("stat"));
                    stat.map_or(true, is_stopped)
                })
                .then_some(())
        });
    }

    /// Waits for its end.
    pub fn exit_code(&mut self) -> Option<i32> {
        eventually("the server's end", || self.child.try_wait().unwrap()).code()
    }

    /// Waits until the database answers and nothing waits in the spool; gives the health report.
    pub fn drained(&self) -> Value {
        let client = self.client();
        eventually("an empty spool", || {
            let health = client.get("/health/ready", None).ok()?;
            (health.status == 200 && health.body["spoolDepth"] == 0).then_some(health.body)
        })
    }

    /// Gives a metric without labels.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.client().get("/metrics", None).unwrap().text;
        let line = text.lines().find(|line| line.split_whitespace().next() == Some(name));
        line.and_then(|line| line.split_whitespace().nth(1)).map_or(0.0, |n| n.parse().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// One HTTP client with its own connection.
pub struct Client {
    agent: ureq::Agent,
    url: String,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub retry_after: Option<String>,
    pub text: String,
    /// The body, `null` when it is no JSON.
    pub body: Value,
}

impl Client {
    pub fn new(url: &str) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .proxy(None)
            .build();
        Self { agent: config.new_agent(), url: url.to_owned() }
    }

    pub fn get(&self, path: &str, key: Option<&str>) -> Result<Answer, ureq::Error> {
        let mut request = self.agent.get(format!("{}{path}", self.url));
        if let Some(key) = key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        answer(request.call()?)
    }

    pub fn post(&self, path: &str, key: &str, body: &Value) -> Result<Answer, ureq::Error> {
        self.send(self.agent.post(format!("{}{path}", self.url)), key, body)
    }

    pub fn put(&self, path: &str, key: &str, body: &Value) -> Result<Answer, ureq::Error> {
        self.send(self.agent.put(format!("{}{path}", self.url)), key, body)
    }

    fn send(
        &self,
        request: ureq::RequestBuilder<ureq::typestate::WithBody>,
        key: &str,
        body: &Value,
    ) -> Result<Answer, ureq::Error> {
        let request = request
            .header("authorization", format!("Bearer {key}"))
            .header("content-type", "application/json");
        answer(request.send(body.to_string())?)
    }
}

fn answer(response: ureq::http::Response<ureq::Body>) -> Result<Answer, ureq::Error> {
    let (parts, mut body) = response.into_parts();
    let text = body.read_to_string()?;
    let retry_after = parts.headers.get("retry-after").map(|v| v.to_str().unwrap().to_owned());
    let body = serde_json::from_str(&text).unwrap_or(Value::Null);
    Ok(Answer { status: parts.status.as_u16(), retry_after, text, body })
}

/// The keys of a data folder.
pub struct Keys {
    pub anon: String,
    pub service: String,
}

impl Keys {
    pub fn of(folder: &Folder) -> Self {
        let keys = folder.run(&["keys", "--json"]).json();
        let key = |name: &str| keys[name].as_str().unwrap().to_owned();
        Self { anon: key("SUPABASE_ANON_KEY"), service: key("SUPABASE_SERVICE_ROLE_KEY") }
    }
}

/// A question that gets an answer: a coming night of a shared lease that the roommate holds.
#[derive(Debug, Clone)]
pub struct Question {
    pub user: String,
    pub roommate: String,
    pub lease: String,
    pub night: String,
}

impl Question {
    /// Takes some of the marketplace's.
    pub fn all(conn: &rusqlite::Connection) -> Vec<Self> {
        let mut statement = conn
            .prepare(
                "SELECT m.user_id, n.held_by, n.lease_id, n.night FROM lease_nights n
                 JOIN lease_members m ON m.lease_id = n.lease_id AND m.user_id <> n.held_by
                 WHERE n.night > date('now', '+2 days') AND n.night < date('now', '+40 days')",
            )
            .unwrap();
        let rows = statement.query_map([], |row| {
            Ok(Self { user: row.get(0)?, roommate: row.get(1)?, lease: row.get(2)?, night: row.get(3)? })
        });
        let questions: Vec<Self> = rows.unwrap().map(Result::unwrap).collect();
        assert!(questions.len() > 50, "a marketplace with nights in it");
        questions
    }

    pub fn path(&self) -> String {
        format!(
            "/functions/v1/transaction-recommendations?userId={}&targetDate={}&roommateId={}",
            self.user, self.night, self.roommate
        )
    }
}

/// Small seeded random numbers (SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % end as u64).unwrap()
    }
}
