//! The log of requests: one row each, with what the settings keep of users, and nothing that a request waits for.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flate2::read::GzDecoder;
use serde_json::json;

use crate::support::{
    ARCHETYPE, As, DATE, Harness, INGEST, NOW, OUTCOMES, RECOMMENDATIONS, Response, eventually, facts,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// Takes what is posted to it, and keeps it.
pub struct Receiver {
    port: u16,
    came: Arc<Mutex<Vec<(String, String)>>>,
}

impl Receiver {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let came = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&came);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut bytes = Vec::new();
                let mut chunk = [0; 8192];
                while let Ok(n) = stream.read(&mut chunk)
                    && n > 0
                {
                    bytes.extend_from_slice(&chunk[..n]);
                    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
                    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
                    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
                    if bytes.len() < end + 4 + length.parse::<usize>().unwrap() {
                        continue;
                    }
                    let mut body = String::new();
                    GzDecoder::new(&bytes[end + 4..]).read_to_string(&mut body).unwrap();
                    kept.lock().unwrap().push((head, body));
                    stream.write_all(b"HTTP/1.1 204 Taken\r\nconnection: close\r\n\r\n").unwrap();
                    break;
                }
            }
        });
        Self { port, came }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    /// The heads of all requests so far.
    pub fn heads(&self) -> String {
        self.came.lock().unwrap().iter().map(|(head, _)| format!("{head}\n")).collect()
    }

    /// The bodies of all requests so far.
    pub fn bodies(&self) -> String {
        self.came.lock().unwrap().iter().map(|(_, body)| format!("{body}\n")).collect()
    }
}

fn logging(more: &[(&'static str, &str)]) -> Harness {
    let mut settings = vec![("NUDGE_REQUEST_LOG", "1")];
    settings.extend(more);
    Harness::with(&settings)
}

/// The row of a request: function, method, status, user, code.
fn row(server: &Harness, answer: &Response) -> Option<[String; 5]> {
    let id = answer.header("x-request-id").unwrap();
    let rows = server.rows(&format!(
        "SELECT function_name, method, status, user_id, error_code FROM edge_function_logs
         WHERE request_id = '{id}' AND CAST(id AS text) = request_id AND response_time_ms >= 0"
    ));
    assert!(rows.len() < 2, "{rows:?}");
    let mut cells = rows.into_iter().next()?.into_iter().map(|cell| cell.unwrap_or_else(|| "-".into()));
    Some(std::array::from_fn(|_| cells.next().unwrap()))
}

#[test]
fn each_request_of_a_function_or_table_leaves_one_row() {
    let server = logging(&[]);
    let alice = nudge::request_log::user::Users::new(
        nudge::request_log::user::Shown::Hashed,
        None,
        crate::support::SECRET,
    )
    .hash(&"alice".parse().unwrap())
    .unwrap();
    let seeded = server.post(As::Service, INGEST, &json!(facts::home()));
    let user = As::User("alice");
    let event = json!([{ "recommendationId": "x", "event": "viewed" }]);
    let asked = [
        (seeded, ["ingest", "POST", "200", "-", "-"]),
        (
            server.recommend(user, "alice", DATE, "bob"),
            ["transaction-recommendations", "GET", "200", &alice, "-"],
        ),
        (server.recommend(As::Anon, "x", DATE, "y"), ["transaction-recommendations", "GET", "200", "-", "-"]),
        (
            server.recommend(user, "bob", DATE, "alice"),
            ["transaction-recommendations", "GET", "403", &alice, "forbidden"],
        ),
        (
            server.get(user, RECOMMENDATIONS),
            ["transaction-recommendations", "GET", "400", &alice, "missing_parameter"],
        ),
        (
            server.get(As::Nobody, RECOMMENDATIONS),
            ["transaction-recommendations", "GET", "401", "-", "unauthorized"],
        ),
        (
            server.request(As::Nobody, "OPTIONS", RECOMMENDATIONS).send(),
            ["transaction-recommendations", "OPTIONS", "200", "-", "-"],
        ),
        (
            server.delete(user, RECOMMENDATIONS),
            ["transaction-recommendations", "DELETE", "405", "-", "method_not_allowed"],
        ),
        (server.archetype(As::Service, "alice"), ["user-archetype", "GET", "200", "-", "-"]),
        (
            server.request(user, "HEAD", &format!("{ARCHETYPE}?userId=alice")).send(),
            ["user-archetype", "HEAD", "200", &alice, "-"],
        ),
        (
            server.put(user, ARCHETYPE, &json!({ "userId": "alice" })),
            ["user-archetype", "PUT", "403", &alice, "role_required"],
        ),
        (
            server.post(user, OUTCOMES, &event),
            ["recommendation-outcomes", "POST", "400", &alice, "invalid_parameter"],
        ),
        (server.get(user, "/rest/v1/profiles"), ["rest", "GET", "200", &alice, "-"]),
        (server.get(user, "/rest/v1/nothing"), ["rest", "GET", "404", &alice, "PGRST205"]),
        (server.get(As::Anon, "/rest/v1/profiles"), ["rest", "GET", "401", "-", "42501"]),
        (server.get(user, "/functions/v1/nothing"), ["other", "GET", "404", "-", "not_found"]),
        (server.get(As::Nobody, "/wp-admin"), ["other", "GET", "404", "-", "not_found"]),
        (
            server.request(As::Nobody, "PROPFIND", "/").send(),
            ["other", "other", "405", "-", "method_not_allowed"],
        ),
    ];
    for probe in ["/health/live", "/health/ready", "/metrics", "/openapi.json", "/"] {
        server.get(As::Nobody, probe);
    }
    // That one is a page, which is not logged whatever is asked of it.
    let ((page, _), logged) = asked.split_last().unwrap();
    let all = || server.count("SELECT count(*) FROM edge_function_logs");
    eventually(PATIENCE, "the rows are written", || all() == i64::try_from(logged.len()).unwrap());
    for (answer, expected) in logged {
        let found = row(&server, answer);
        assert_eq!(found.as_ref().map(|row| row.each_ref().map(String::as_str)), Some(*expected));
    }
    assert_eq!(row(&server, page), None);
    let times = server.rows("SELECT DISTINCT created_at FROM edge_function_logs");
    let time = times[0][0].clone().unwrap().replace(' ', "T");
    assert_eq!((times.len(), &time[..19]), (1, &NOW[..19]), "the clock of the service");
    assert!(server.metric("nudge_request_log_rows_total") >= all());
}

#[test]
fn users_are_kept_as_the_settings_say() {
    let kept = |settings: &[(&'static str, &str)]| {
        let server = logging(settings);
        let answer = server.get(As::User("alice"), RECOMMENDATIONS);
        eventually(PATIENCE, "the row is written", || row(&server, &answer).is_some());
        row(&server, &answer).unwrap()[3].clone()
    };
    let hashed = kept(&[]);
    assert!(hashed.starts_with("u1_") && hashed.len() == 35, "{hashed}");
    assert_eq!(kept(&[]), hashed, "the same on another server with the same secret");
    assert_eq!(kept(&[("NUDGE_REQUEST_LOG_USERS", "plain")]), "alice");
    assert_eq!(kept(&[("NUDGE_REQUEST_LOG_USERS", "none")]), "-");
    let keyed = kept(&[("NUDGE_REQUEST_LOG_KEY", "a key of its own")]);
    assert!(keyed.starts_with("u1_") && keyed != hashed, "{keyed}");
}

#[test]
fn requests_of_those_who_are_refused_for_their_rate_are_logged_with_their_user() {
    let server = logging(&[("NUDGE_RATE_PER_CALLER", "1")]);
    let refused = eventually_some(|| {
        let answer = server.get(As::User("alice"), RECOMMENDATIONS);
        (answer.status == 429).then_some(answer)
    });
    eventually(PATIENCE, "the row is written", || row(&server, &refused).is_some());
    let [_, _, status, user, code] = row(&server, &refused).unwrap();
    assert_eq!((status.as_str(), code.as_str()), ("429", "rate_limited"));
    assert!(user.starts_with("u1_"), "{user}");
}

fn eventually_some<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    let mut found = None;
    eventually(PATIENCE, "it happens", || {
        found = attempt();
        found.is_some()
    });
    found.unwrap()
}

#[test]
fn without_the_log_there_is_no_row() {
    let mut server = Harness::with_home();
    server.usual();
    server.restart();
    assert_eq!(server.count("SELECT count(*) FROM edge_function_logs"), 0);
}

#[test]
fn what_was_answered_before_a_stop_is_in_the_log_after_it() {
    let mut server = logging(&[]);
    server.seed(facts::home());
    let answers: Vec<_> = (0..300).map(|_| server.get(As::User("alice"), RECOMMENDATIONS)).collect();
    server.ask_to_stop();
    server.wait_for_end();
    server.start_again();
    assert_eq!(server.count("SELECT count(*) FROM edge_function_logs WHERE status = 400"), 300);
    assert!(row(&server, answers.last().unwrap()).is_some());
}

#[test]
fn a_database_that_takes_nothing_holds_up_no_answer_and_the_rows_come_when_it_is_back() {
    let server = logging(&[("NUDGE_COMMIT_TIMEOUT_MS", "50")]);
    server.seed(facts::home());
    server.usual();
    let held = server.lock();
    let begun = std::time::Instant::now();
    let answers: Vec<_> =
        (0..50).map(|_| server.recommend(As::User("alice"), "alice", DATE, "bob")).collect();
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    drop(held);
    eventually(PATIENCE, "the rows come", || answers.iter().all(|answer| row(&server, answer).is_some()));
}

#[test]
fn the_embedded_engine_deletes_rows_that_are_older_than_what_is_kept() {
    let mut server = Harness::embedded(&[("NUDGE_REQUEST_LOG", "1"), ("NUDGE_KEEP_REQUESTS_DAYS", "7")]);
    let rows: String = [("019c1a00", "2026-02-01"), ("019cc000", "2026-03-05"), ("019cd100", "2026-03-09")]
        .map(|(id, day)| {
            format!(
                "INSERT INTO edge_function_logs VALUES ('{id}-0000-7000-8000-000000000000', 'rest', 'GET', 200, 1, NULL,
                 'x', NULL, '{day}T00:00:00.000000Z');"
            )
        })
        .concat();
    server.raw().execute_batch(&rows).unwrap();
    let many = "INSERT INTO edge_function_logs
        WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 1200)
        SELECT printf('019b0000-0000-7000-8000-%012x', n), 'rest', 'GET', 200, 1, NULL, 'x', NULL,
          '2025-12-09T00:00:00.000000Z' FROM n";
    server.raw().execute_batch(many).unwrap();
    server.restart();
    let left = || server.rows("SELECT substr(created_at, 1, 10) FROM edge_function_logs ORDER BY id");
    let kept = [[Some("2026-03-05".to_owned())], [Some("2026-03-09".to_owned())]];
    eventually(PATIENCE, "the old rows go", || left() == kept);
}
