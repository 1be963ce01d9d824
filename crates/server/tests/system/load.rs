//! Many clients at once that write down every promise the server has made them, and the check that it kept them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;

use serde_json::json;

use crate::support::{Client, Folder, Keys, PATIENCE, Question, Random, Server, number};

/// What the server has said 200 to.
#[derive(Debug, Default, Clone)]
pub struct Promises {
    /// Recommendations by their ids.
    pub answered: Vec<String>,
    /// Outcomes by recommendation and event.
    pub outcomes: Vec<(String, &'static str)>,
    /// Answers that should not have been.
    pub wrong: Vec<String>,
    /// Connections that broke while that was no fault.
    pub broken: usize,
}

impl Promises {
    /// Checks that every promise has been kept, each once.
    #[track_caller]
    pub fn kept(&self, conn: &rusqlite::Connection) {
        assert!(self.wrong.is_empty(), "{} wrong answers:\n{}", self.wrong.len(), self.wrong.join("\n"));
        let unique: std::collections::BTreeSet<&String> = self.answered.iter().collect();
        assert_eq!(unique.len(), self.answered.len(), "two answers with one id");
        let mut log = conn.prepare("SELECT count(*) FROM recommendation_logs WHERE id = ?").unwrap();
        for id in &self.answered {
            let rows: i64 = log.query_row([id], |row| row.get(0)).unwrap();
            assert_eq!(rows, 1, "rows of the answered recommendation {id}");
        }
        let mut events = conn
            .prepare("SELECT count(*) FROM recommendation_events WHERE recommendation_id = ? AND event = ?")
            .unwrap();
        for (id, event) in &self.outcomes {
            let rows: i64 = events.query_row([id.as_str(), event], |row| row.get(0)).unwrap();
            assert_eq!(rows, 1, "rows of the acknowledged `{event}` of {id}");
        }
        let roll_ups = number(
            conn,
            "SELECT count(*) FROM recommendation_logs l WHERE request_submitted <>
               (SELECT count(*) > 0 FROM recommendation_events e WHERE e.recommendation_id = l.id AND e.event = 'submitted')",
            [],
        );
        assert_eq!(roll_ups, 0, "rows whose columns do not say what their events say");
    }
}

/// What the clients of a load share.
struct Shared {
    url: String,
    questions: Vec<Question>,
    keys: Keys,
    /// A user of the marketplace with a token.
    user: (String, String),
    /// Set before the server is killed or asked to stop: from then on a broken connection is no fault.
    ending: AtomicBool,
    stop: AtomicBool,
    /// Whether a client whose connection broke makes another one.
    connects_again: bool,
    promises: Mutex<Promises>,
    answers: mpsc::Sender<()>,
}

/// Clients at work.
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    answers: mpsc::Receiver<()>,
}

/// Who asks, and what.
pub struct Askers {
    questions: Vec<Question>,
    user: (String, String),
}

impl Askers {
    pub fn new(questions: Vec<Question>, user: (String, String)) -> Self {
        Self { questions, user }
    }

    pub fn of(folder: &Folder) -> Self {
        let questions = Question::all(&folder.database());
        let user = questions[0].user.clone();
        let token = folder.token(&user);
        Self { questions, user: (user, token) }
    }
}

impl Load {
    /// Starts clients, each with a connection and a seed of its own.
    pub fn start(server: &Server, folder: &Folder, askers: &Askers, clients: u64, seed: u64) -> Self {
        Self::begin(&server.url, Keys::of(folder), askers, clients, seed, false)
    }

    /// Starts clients of what stands behind an address, who connect again when a connection breaks.
    pub fn start_at(url: &str, keys: Keys, askers: &Askers, clients: u64, seed: u64) -> Self {
        Self::begin(url, keys, askers, clients, seed, true)
    }

    fn begin(url: &str, keys: Keys, askers: &Askers, clients: u64, seed: u64, connects_again: bool) -> Self {
        let (sender, answers) = mpsc::channel();
        let shared = Arc::new(Shared {
            url: url.to_owned(),
            questions: askers.questions.clone(),
            keys,
            user: askers.user.clone(),
            ending: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            connects_again,
            promises: Mutex::default(),
            answers: sender,
        });
        let thread = |client| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || shared.ask(Random(seed << 16 | client)))
        };
        let threads = (0..clients).map(thread).collect();
        Self { shared, threads, answers }
    }

    /// Waits for so many more recommendations.
    #[track_caller]
    pub fn wait_for(&self, answers: usize) {
        for n in 0..answers {
            if let Err(error) = self.answers.recv_timeout(PATIENCE) {
                let wrong = &self.shared.promises.lock().unwrap().wrong;
                panic!("{n} of {answers} answers, then {error}; wrong: {wrong:?}");
            }
        }
    }

    /// Says that the server is about to end: broken connections are no fault from now on.
    pub fn server_ends(&self) {
        self.shared.ending.store(true, Ordering::SeqCst);
    }

    /// Says that what ended has been noticed: from now on a broken connection is a fault again.
    pub fn server_is_gone(&self) {
        self.shared.ending.store(false, Ordering::SeqCst);
    }

    /// Lets the clients finish and gives what they were promised.
    pub fn finish(self) -> Promises {
        self.shared.stop.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().unwrap();
        }
        self.shared.promises.lock().unwrap().clone()
    }
}

impl Shared {
    fn ask(&self, mut random: Random) {
        let mut client = Client::new(&self.url);
        while !self.stop.load(Ordering::SeqCst) {
            let Err(error) = self.one(&client, &mut random) else { continue };
            if self.ending.load(Ordering::SeqCst) {
                self.promises.lock().unwrap().broken += 1;
            } else {
                self.wrong(format!("a connection broke: {error}"));
            }
            if !self.connects_again {
                return;
            }
            client = Client::new(&self.url);
        }
    }

    fn wrong(&self, what: String) {
        self.promises.lock().unwrap().wrong.push(what);
    }

    /// One person's visit: a recommendation, and what comes of it by either way.
    fn one(&self, client: &Client, random: &mut Random) -> Result<(), ureq::Error> {
        let kind = random.below(8);
        let own = kind == 0;
        let question = loop {
            let question = &self.questions[random.below(self.questions.len())];
            if !own || question.user == self.user.0 {
                break question;
            }
        };
        let key = match kind {
            0 => &self.user.1,
            1 => &self.keys.anon,
            _ => &self.keys.service,
        };
        let answer = client.get(&question.path(), Some(key))?;
        if answer.status == 502 && self.ending.load(Ordering::SeqCst) {
            // How a proxy says that the connection behind it broke.
            self.promises.lock().unwrap().broken += 1;
            return Ok(());
        }
        if answer.status != 200 {
            self.wrong(format!("{} to {}: {}", answer.status, question.path(), answer.text));
            return Ok(());
        }
        let id = answer.body["recommendationId"].as_str().unwrap().to_owned();
        self.promises.lock().unwrap().answered.push(id.clone());
        // Nobody listens once enough answers have come.
        let _ = self.answers.send(());
        match kind {
            1 => Ok(()),
            2 | 3 => {
                let computed_at = answer.body["metadata"]["computedAt"].as_str().unwrap();
                self.ingest(client, question, id, computed_at)
            }
            _ => self.viewed(client, id, key),
        }
    }

    fn viewed(&self, client: &Client, id: String, key: &str) -> Result<(), ureq::Error> {
        let body = json!({ "recommendationId": id, "event": "viewed" });
        let answer = client.post("/functions/v1/recommendation-outcomes", key, &body)?;
        self.acknowledged(answer.status, answer.body["recorded"] == 1, (id, "viewed"), &answer.text);
        Ok(())
    }

    fn ingest(
        &self,
        client: &Client,
        question: &Question,
        id: String,
        created_at: &str,
    ) -> Result<(), ureq::Error> {
        let record = json!({
            "id": format!("of-{id}"), "lease_id": question.lease, "requester_id": question.user,
            "receiver_id": question.roommate, "transaction_type": "crash", "target_night": question.night,
            "proposed_price": 40, "base_price": 120.5, "status": "pending", "recommendation_id": id,
            "created_at": created_at,
        });
        let change = json!({ "type": "INSERT", "table": "date_change_requests", "schema": "public", "record": record });
        let answer = client.post("/functions/v1/ingest", &self.keys.service, &change)?;
        let told = answer.body["outcomesRecorded"] == 1;
        self.acknowledged(answer.status, told, (id, "submitted"), &answer.text);
        Ok(())
    }

    fn acknowledged(&self, status: u16, told: bool, outcome: (String, &'static str), text: &str) {
        match status {
            200 if told => self.promises.lock().unwrap().outcomes.push(outcome),
            // The database is away: nothing was promised.
            503 => {}
            502 if self.ending.load(Ordering::SeqCst) => self.promises.lock().unwrap().broken += 1,
            _ => self.wrong(format!("{status} to an outcome of {}: {text}", outcome.0)),
        }
    }
}
