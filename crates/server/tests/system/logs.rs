//! The log of requests and its drains, with receivers that behave in every way that one can.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use serde_json::Value;

use crate::server_database::Site;
use crate::support::{Folder, Keys, Server, eventually, finish};

const GUIDE: &str = include_str!("guide.md");
const QUERIES: &str = include_str!("../../../store/tests/schema/guide.sql");
const UNKNOWN: &str = "/functions/v1/nothing";
const TAKEN: &str = "HTTP/1.1 204 Taken\r\nconnection: close\r\n\r\n";

/// What a receiver answers to its `n`-th request; `None` is nothing at all.
type Manners = fn(usize) -> Option<&'static str>;

fn takes(_: usize) -> Option<&'static str> {
    Some(TAKEN)
}

fn hangs(_: usize) -> Option<&'static str> {
    None
}

fn fails(_: usize) -> Option<&'static str> {
    Some("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
}

fn refuses(_: usize) -> Option<&'static str> {
    Some("HTTP/1.1 400 Bad\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
}

fn wants_a_second_first(n: usize) -> Option<&'static str> {
    let wait = "HTTP/1.1 429 Slow\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    Some(if n == 0 { wait } else { TAKEN })
}

fn breaks_off_first(n: usize) -> Option<&'static str> {
    Some(if n == 0 {
        "HTTP/1.1 200 OK\r\ncontent-length: 90\r\nconnection: close\r\n\r\nhalf"
    } else {
        TAKEN
    })
}

fn is_slow(_: usize) -> Option<&'static str> {
    std::thread::sleep(Duration::from_millis(700));
    Some(TAKEN)
}

/// A batch that came, and when.
#[derive(Debug, Clone)]
struct Batch {
    id: String,
    head: String,
    events: Vec<Value>,
    at: Instant,
}

/// Listens and keeps what comes.
struct Receiver {
    port: u16,
    came: Arc<Mutex<Vec<Batch>>>,
}

impl Receiver {
    fn start(manners: Manners) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let came = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&came);
        std::thread::spawn(move || {
            let mut held = Vec::new();
            for (n, stream) in listener.incoming().enumerate() {
                let mut stream = stream.unwrap();
                let Some(batch) = read_batch(&mut stream) else { continue };
                kept.lock().unwrap().push(batch);
                match manners(n) {
                    // The client may have given up.
                    Some(answer) => drop(stream.write_all(answer.as_bytes())),
                    None => held.push(stream),
                }
            }
        });
        Self { port, came }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/in?key=hidden-in-the-query", self.port)
    }

    fn came(&self) -> Vec<Batch> {
        self.came.lock().unwrap().clone()
    }

    /// How often each request was in a batch, batches with the same id taken for one.
    fn events(&self) -> BTreeMap<String, usize> {
        let mut batches = BTreeSet::new();
        let mut events = BTreeMap::new();
        for batch in self.came().into_iter().filter(|batch| batches.insert(batch.id.clone())) {
            for event in batch.events {
                *events.entry(event["request_id"].as_str().unwrap().to_owned()).or_insert(0) += 1;
            }
        }
        events
    }
}

fn read_batch(stream: &mut TcpStream) -> Option<Batch> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 16_384];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return None,
            Ok(n) => bytes.extend_from_slice(&chunk[..n]),
        }
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let value = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
        if bytes.len() < end + 4 + value("content-length: ").parse::<usize>().unwrap() {
            continue;
        }
        let mut text = String::new();
        GzDecoder::new(&bytes[end + 4..]).read_to_string(&mut text).unwrap();
        let events = serde_json::from_str(&text).unwrap();
        return Some(Batch {
            id: value("x-nudge-batch-id: "),
            head: head.clone(),
            events,
            at: Instant::now(),
        });
    }
}

/// Starts a server that may send to this machine.
fn serve(folder: &Folder) -> Server {
    let mut command = folder.command(&["serve", "--data-dir", "data", "--port", "0"]);
    folder.start_command(command.env("NUDGE_OUTBOUND_ALLOW_PRIVATE", "127.0.0.1"))
}

fn run(folder: &Folder, args: &[&str]) -> crate::support::Ran {
    let mut command = folder.command(args);
    finish(command.args(["--data-dir", "data"]).env("NUDGE_OUTBOUND_ALLOW_PRIVATE", "127.0.0.1"), None)
}

fn create(folder: &Folder, name: &str, receiver: &Receiver, filters: &str) {
    let url = receiver.url();
    let args = ["logs", "drain", "create", "--name", name, "--destination", &url, "--filters", filters];
    run(folder, &args).good();
}

fn taken_up(server: &Server, name: &str) {
    let line = format!("nudge_drain_sent_total{{drain=\"{name}\"}}");
    eventually("the drain is taken up", || {
        server.client().get("/metrics", None).unwrap().text.contains(&line).then_some(())
    });
}

/// A counter's value.
fn whole(value: f64) -> u64 {
    value as u64
}

fn counted(server: &Server, metric: &str, drain: &str, why: (&str, &str)) -> u64 {
    whole(server.metric(&format!("nudge_drain_{metric}_total{{drain=\"{drain}\",{}=\"{}\"}}", why.0, why.1)))
}

#[test]
fn every_kind_of_receiver_gets_what_it_takes_and_holds_up_nobody() {
    let folder = Folder::new();
    let mut server = serve(&folder);
    let keys = Keys::of(&folder);
    let receivers: BTreeMap<&str, (Receiver, &str)> = [
        ("takes", takes as Manners, ""),
        ("refused-only", takes, "level=warn,function_name!=rest"),
        ("hangs", hangs, ""),
        ("fails", fails, ""),
        ("refuses", refuses, ""),
        ("limits", wants_a_second_first, ""),
        ("breaks-off", breaks_off_first, ""),
        ("slow", is_slow, ""),
    ]
    .into_iter()
    .map(|(name, manners, filters)| (name, (Receiver::start(manners), filters)))
    .collect();
    for (name, (receiver, filters)) in &receivers {
        create(&folder, name, receiver, filters);
    }
    receivers.keys().for_each(|name| taken_up(&server, name));
    let events = |name: &str| receivers[name].0.events();

    let client = server.client();
    let recommend = "/functions/v1/transaction-recommendations?userId=a&targetDate=2030-01-01&roommateId=b";
    let asked = [(recommend, 200, 300), (UNKNOWN, 404, 60), ("/rest/v1/profiles", 401, 40)];
    let mut longest = Duration::ZERO;
    for (path, status, times) in asked {
        for _ in 0..times {
            let begun = Instant::now();
            assert_eq!(client.get(path, Some(&keys.anon)).unwrap().status, status);
            longest = longest.max(begun.elapsed());
        }
    }
    assert!(longest < Duration::from_secs(3), "a request waited {longest:?}");

    let all = 400;
    let each_once = |name: &str| {
        let events = events(name);
        assert!(events.values().all(|times| *times == 1), "{name}: an event came in two batches");
        (events.len() == all).then_some(())
    };
    for name in ["takes", "limits", "breaks-off", "slow"] {
        eventually(name, || each_once(name));
    }
    for batch in receivers.values().flat_map(|(receiver, _)| receiver.came()) {
        assert!((1..=250).contains(&batch.events.len()), "{}", batch.events.len());
        assert!(batch.head.contains("content-encoding: gzip"), "{}", batch.head);
    }
    let refused = receivers["refused-only"].0.came();
    assert_eq!(refused.iter().map(|batch| batch.events.len()).sum::<usize>(), 60);
    assert!(refused.iter().flat_map(|batch| &batch.events).all(|event| event["status"] == 404));

    // The same batch again: after the second that was asked for, and after half an answer.
    let limited = receivers["limits"].0.came();
    assert_eq!(limited[0].id, limited[1].id);
    assert!(limited[1].at - limited[0].at >= Duration::from_millis(950), "Retry-After");
    let broken = receivers["breaks-off"].0.came();
    assert_eq!((&broken[0].id, &broken[0].events), (&broken[1].id, &broken[1].events));
    let failing = receivers["fails"].0.came();
    assert!(
        failing.len() >= 2 && failing.iter().all(|batch| batch.id == failing[0].id),
        "tried again, and again"
    );
    assert_eq!(counted(&server, "dropped", "fails", ("reason", "queue_full")), 0);
    eventually("every refused event is counted", || {
        (counted(&server, "dropped", "refuses", ("reason", "status_other")) == all as u64).then_some(())
    });
    let again = receivers["refuses"].0.came();
    let ids: BTreeSet<_> = again.iter().map(|batch| &batch.id).collect();
    assert_eq!(ids.len(), again.len(), "no batch that was refused came again");
    assert_eq!(whole(server.metric("nudge_drain_sent_total{drain=\"takes\"}")), all as u64);
    eventually("the hanging one is left", || {
        (counted(&server, "failed", "hangs", ("cause", "network")) > 0).then_some(())
    });
    assert!(receivers["hangs"].0.events().len() < all);

    // One that is deleted gets no more.
    folder.run(&["logs", "drain", "delete", "takes"]).good();
    eventually("the drain has stopped", || server.log().contains("drain.stopped").then_some(()));
    client.get(UNKNOWN, Some(&keys.anon)).unwrap();
    eventually("another drain has the new event", || (events("slow").len() == all + 1).then_some(()));
    assert_eq!(events("takes").len(), all);

    // Those that hang and fail do not keep the server from ending.
    let begun = Instant::now();
    server.terminate();
    assert_eq!(server.exit_code(), Some(0), "{}", server.log());
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert!(!server.log().contains("hidden"), "{}", server.log());
    let rows = crate::support::number(&folder.database(), "SELECT count(*) FROM edge_function_logs", []);
    assert_eq!(rows, i64::try_from(all).unwrap() + 1);
}

#[test]
fn the_command_of_step_6_2_sets_up_a_drain_that_works() {
    let folder = Folder::new();
    let server = serve(&folder);
    let keys = Keys::of(&folder);
    let receiver = Receiver::start(takes);
    let block = GUIDE.split("### 6.2").nth(1).unwrap().split("```bash\n").nth(1).unwrap();
    let command = block.split("\n```").next().unwrap();
    let nudge = format!("{} logs", env!("CARGO_BIN_EXE_nudge"));
    let pasted = command
        .replace("supabase logs", &nudge)
        .replace("https://your-logging-service.com/ingest", &receiver.url());
    let mut shell = Command::new("bash");
    shell.args(["-c", &pasted]).current_dir(folder.path()).stdin(Stdio::null());
    shell.env("NUDGE_DATA_DIR", "data").env("NUDGE_OUTBOUND_ALLOW_PRIVATE", "127.0.0.1");
    let said = finish(shell.stdout(Stdio::piped()).stderr(Stdio::piped()), None).good();
    assert!(
        said.contains("drain pattern1-logs sends what meets function_name=transaction-recommendations"),
        "{said}"
    );
    taken_up(&server, "pattern1-logs");
    let client = server.client();
    client.get(UNKNOWN, Some(&keys.anon)).unwrap();
    client.get("/functions/v1/transaction-recommendations", Some(&keys.anon)).unwrap();
    let batch = eventually("the event", || receiver.came().into_iter().next());
    assert_eq!(batch.events.len(), 1);
    let event = &batch.events[0];
    assert_eq!(
        event["message"].as_str().unwrap().split(" in ").next(),
        Some("GET transaction-recommendations 400")
    );
    assert_eq!((&event["level"], &event["error_code"]), (&"warn".into(), &"missing_parameter".into()));
}

#[test]
fn the_query_of_step_10_1_gives_the_error_rates_of_the_requests() {
    let site = Site::new();
    let mut server = site.start(&["demo", "--people", "20"]);
    let client = server.client();
    for _ in 0..3 {
        assert_eq!(client.get("/functions/v1/transaction-recommendations", None).unwrap().status, 401);
    }
    client.get("/functions/v1/user-archetype", None).unwrap();
    server.terminate();
    assert_eq!(server.exit_code(), Some(0), "{}", server.log());
    let query = QUERIES.split(';').find(|query| query.contains("edge_function_logs")).unwrap();
    let mut psql = Command::new("psql");
    psql.args([&site.database.url(), "-At", "-c", query]).stdin(Stdio::null());
    let said = finish(psql.stdout(Stdio::piped()).stderr(Stdio::piped()), None).good();
    let mut lines: Vec<&str> = said.lines().collect();
    lines.sort_unstable();
    let counts: Vec<_> = lines.iter().map(|line| line.rsplit_once('|').unwrap().0).collect();
    assert_eq!(counts, ["transaction-recommendations|3", "user-archetype|1"], "{said}");
}

#[test]
fn each_of_two_replicas_sends_its_own_requests_and_none_is_sent_twice() {
    let site = Site::new();
    let folders = [Folder::new(), Folder::new()];
    let command = |folder: &Folder, args: &[&str]| {
        let mut command = folder.command(args);
        command.args(["--data-dir", "data"]).env("DATABASE_URL", site.database.url());
        command.env("SUPABASE_JWT_SECRET", "a secret that both replicas of this test have");
        command.env("NUDGE_OUTBOUND_ALLOW_PRIVATE", "127.0.0.1");
        command
    };
    let names = ["first", "second"];
    let servers: Vec<Server> = folders
        .iter()
        .zip(names)
        .map(|(folder, name)| {
            let mut serve = command(folder, &["serve"]);
            folder.start_command(serve.args(["--port", "0", "--instance", name]))
        })
        .collect();
    let receiver = Receiver::start(takes);
    let url = receiver.url();
    let create =
        ["logs", "drain", "create", "--name", "shared", "--destination", &url, "--filters", "status=404"];
    finish(&mut command(&folders[0], &create), None).good();
    servers.iter().for_each(|server| taken_up(server, "shared"));
    for _ in 0..20 {
        for server in &servers {
            server.client().get(UNKNOWN, None).unwrap();
        }
    }
    let events = || receiver.came().into_iter().flat_map(|batch| batch.events).collect::<Vec<_>>();
    eventually("the events of both", || (events().len() >= 40).then_some(()));
    assert!(receiver.events().values().all(|times| *times == 1));
    for name in names {
        assert_eq!(events().iter().filter(|event| event["instance"] == name).count(), 20, "{name}");
    }
    let rows = "SELECT count(*) FROM edge_function_logs WHERE status = 404";
    eventually("the rows of both", || (site.number(rows) == 40).then_some(()));
}

#[test]
fn secrets_come_from_files_and_are_never_shown() {
    let folder = Folder::new();
    let server = serve(&folder);
    let receiver = Receiver::start(takes);
    folder.file("headers.txt", "Authorization: Bearer hidden-in-a-header\n\nx-source: nudge\n");
    folder.file("secret.txt", "hidden-in-a-signature\n");
    let url = receiver.url();
    let mut args = vec!["logs", "drain", "create", "--name", "signed", "--destination", &url];
    args.extend(["--headers-file", "headers.txt", "--secret-file", "secret.txt", "--json"]);
    let created = run(&folder, &args);
    let listed = run(&folder, &["logs", "drain", "list"]);
    let as_json = run(&folder, &["logs", "drain", "list", "--json"]);
    let tested = run(&folder, &["logs", "drain", "test", "signed"]);
    for ran in [&created, &listed, &as_json, &tested] {
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(!format!("{ran:?}").contains("hidden"), "{ran:?}");
    }
    assert!(
        listed.out.contains(&format!("signed  http://127.0.0.1:{}/…  all  signed", receiver.port)),
        "{listed:?}"
    );
    assert_eq!(as_json.json()[0]["headers"], serde_json::json!(["authorization", "x-source"]));
    assert!(tested.out.contains("status 204"), "{tested:?}");
    let batch = receiver.came().remove(0);
    assert!(batch.head.contains("authorization: Bearer hidden-in-a-header"), "{}", batch.head);
    assert!(batch.head.contains("webhook-signature: v1,"), "{}", batch.head);
    assert_eq!(batch.events[0]["function_name"], "test");
    run(&folder, &["logs", "drain", "delete", "signed"]).good();
    let audit = folder.run(&["audit", "verify", "--json"]).json();
    assert_eq!((&audit["entries"], &audit["broken"]), (&2.into(), &Value::Null));
    let entries =
        crate::support::texts(&folder.database(), "SELECT metadata FROM admin_audit_log ORDER BY id");
    assert!(!entries.concat().contains("hidden"), "{entries:?}");
    assert!(!server.log().contains("hidden"), "{}", server.log());
}

#[test]
fn what_cannot_be_a_drain_is_refused_with_what_can() {
    let folder = Folder::new();
    let mut server = folder.start(&["serve"]);
    let create = |name: &str, destination: &str, filters: &str| {
        let args =
            ["logs", "drain", "create", "--name", name, "--destination", destination, "--filters", filters];
        folder.run(&args)
    };
    let good = "https://logs.example.com/in";
    for (name, destination, filters, complaint) in [
        ("a b", good, "", "the name must have 1 to 64 letters"),
        ("a", "ftp://logs.example.com", "", "must begin with https:// or http://"),
        ("a", "https://user:hidden@logs.example.com", "", "must not hold a user or a password"),
        ("a", "logs.example.com", "", "must be a URL such as"),
        ("a", good, "status>=abc", "`abc` is no value of `status`: use a status from 100 to 599"),
        ("a", good, "function=x", "there is no field `function` to filter by: use function_name"),
        ("a", good, "function_name=recommendations", "use transaction-recommendations, user-archetype"),
        (
            "a",
            "http://127.0.0.1:9/",
            "",
            "127.0.0.1 is a loopback address, which this server does not send to",
        ),
        ("a", "http://[::ffff:10.0.0.1]/", "", "is a private address"),
        ("a", "http://169.254.169.254/latest/meta-data", "", "is a link-local address"),
    ] {
        let said = create(name, destination, filters).refused();
        assert!(said.contains(complaint), "{destination} {filters}: {said}");
        assert!(!said.contains("hidden"), "{said}");
    }
    create("a", good, "status >= 500").good();
    assert!(create("a", good, "").refused().contains("there is a drain of this name already"));
    assert!(
        folder.run(&["logs", "drain", "delete", "b"]).refused().contains("there is no drain of this name")
    );
    assert!(folder.run(&["logs", "drain", "test", "b"]).refused().contains("there is no drain of this name"));
    let listed = folder.run(&["logs", "drain", "list"]).good();
    assert_eq!(listed, "a  https://logs.example.com/…  status>=500  not signed\n");
    server.terminate();
    assert_eq!(server.exit_code(), Some(0));
}

#[test]
fn a_name_that_leads_inside_is_refused_when_it_is_dialled() {
    let folder = Folder::new();
    let server = folder.start(&["serve"]);
    let receiver = Receiver::start(takes);
    let url = format!("http://localhost:{}/", receiver.port);
    folder.run(&["logs", "drain", "create", "--name", "inside", "--destination", &url]).good();
    let tested = folder.run(&["logs", "drain", "test", "inside"]);
    assert_eq!(tested.code, Some(1), "{tested:?}");
    assert!(tested.out.contains("is a loopback address"), "{tested:?}");
    taken_up(&server, "inside");
    server.client().get(UNKNOWN, None).unwrap();
    eventually("the event is lost", || {
        (counted(&server, "dropped", "inside", ("reason", "address_refused")) == 1).then_some(())
    });
    assert!(receiver.came().is_empty());
}

#[test]
fn the_hash_of_a_user_finds_their_requests() {
    let folder = Folder::with_people(20);
    let mut server = folder.start(&["serve"]);
    let user = "user-000001";
    let token = folder.token(user);
    server.client().get("/functions/v1/user-archetype?userId=user-000001", Some(&token)).unwrap();
    server.terminate();
    assert_eq!(server.exit_code(), Some(0));
    let hash = folder.run(&["logs", "user", user]).good();
    let users = "SELECT count(*) FROM edge_function_logs WHERE user_id = ?1";
    assert_eq!(crate::support::number(&folder.database(), users, [hash.trim()]), 1);
}
