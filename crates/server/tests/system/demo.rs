//! `nudge demo`

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::{Folder, Keys, Server, eventually, finish, number, texts};

fn made(folder: &Folder) -> Value {
    serde_json::from_slice(&std::fs::read(folder.data().join("demo.json")).unwrap()).unwrap()
}

fn paste(folder: &Folder, line: &str) -> String {
    let mut shell = Command::new("bash");
    shell.args(["-c", line]).current_dir(folder.path()).stdin(Stdio::null());
    finish(shell.stdout(Stdio::piped()).stderr(Stdio::piped()), None).good()
}

/// Gives the command that the greeting says to paste, all its lines.
fn curl(server: &Server) -> String {
    let from = server.greeting.find("  curl ").unwrap();
    let lines: Vec<&str> = server.greeting[from..].lines().take(2).collect();
    lines.join("\n").replacen("curl ", "curl -sS ", 1)
}

#[test]
fn a_fresh_start_says_all_that_one_needs_and_the_line_works_as_pasted() {
    let folder = Folder::new();
    // As a user starts it, with the default number of people.
    let server = folder.start(&["demo"]);
    let greeting = &server.greeting;
    for part in [
        format!("Nudge runs at  {}", server.url),
        format!("SUPABASE_URL={}", server.url),
        "2000 people in data".into(),
        "Stop with Ctrl-C".into(),
    ] {
        assert!(greeting.contains(&part), "{part} in\n{greeting}");
    }
    let keys = Keys::of(&folder);
    assert!(greeting.contains(&format!("SUPABASE_ANON_KEY={}", keys.anon)), "{greeting}");
    assert!(greeting.contains(&format!("SUPABASE_SERVICE_ROLE_KEY={}", keys.service)), "{greeting}");

    let bands = [("big_spender", 15.0, 20.0), ("high_flexibility", 20.0, 25.0), ("average_user", 55.0, 65.0)];
    for (archetype, least, most) in bands {
        let line = greeting.lines().find(|line| line.trim_start().starts_with(archetype)).unwrap();
        let share: f64 = line.split_whitespace().nth(2).unwrap().parse().unwrap();
        assert!((least..=most).contains(&share), "{line}");
    }

    let line = curl(&server);
    let answer: Value = serde_json::from_str(&paste(&folder, &line)).unwrap();
    assert_eq!(answer["personalized"], true, "{answer}");
    assert_eq!(answer["options"].as_array().unwrap().len(), 3);
    assert_eq!(answer["contextFactors"]["pricingSource"], "lease_night", "a night of the shared lease");
    assert!(answer["contextFactors"]["daysUntilCheckIn"].as_i64().unwrap() > 0, "a night to come");

    // The explaining line, with the id put in.
    let explain = greeting.lines().find(|line| line.contains(" explain RECOMMENDATION_ID")).unwrap();
    let id = answer["recommendationId"].as_str().unwrap();
    let told = paste(&folder, &explain.trim().replace("RECOMMENDATION_ID", id));
    assert!(told.contains("the same answer"), "{told}");
    // The token is that of the sample user, for a day.
    let token = greeting.lines().skip_while(|line| !line.starts_with("A token of")).nth(1).unwrap().trim();
    assert!(line.contains(token));
}

#[test]
fn simulated_decisions_are_recorded_with_their_outcomes_as_live_ones_are() {
    let folder = Folder::with_people(200);
    let conn = folder.database();
    let count =
        |what: &str| number(&conn, &format!("SELECT count(*) FROM recommendation_logs l WHERE {what}"), []);
    let simulated = "json_extract(context, '$.source') = 'simulated'";
    let all = count("1");
    assert!(all > 20, "{all} decisions");
    assert_eq!(count(simulated), all);
    let events = texts(&conn, "SELECT DISTINCT event FROM recommendation_events ORDER BY event");
    for event in ["viewed", "selected", "submitted", "accepted", "declined"] {
        assert!(events.iter().any(|e| e == event), "{event} in {events:?}");
    }
    let viewed = "EXISTS (SELECT 1 FROM recommendation_events e WHERE e.recommendation_id = l.id AND e.event = 'viewed')";
    assert_eq!(count(viewed), all, "each was shown to somebody");
    assert!(count("user_selected IS NOT NULL AND followed_recommendation = 1") > 0);
    assert!(count("request_accepted = 1 AND final_transaction_type IS NOT NULL") > 0);
    assert_eq!(
        count(
            "(request_submitted = 1) <> EXISTS (SELECT 1 FROM date_change_requests r WHERE r.recommendation_id = l.id)"
        ),
        0,
        "a request for each that was submitted"
    );
    // Explained like any other.
    let id = &texts(&conn, "SELECT id FROM recommendation_logs WHERE request_accepted = 1 LIMIT 1")[0];
    let told = folder.run(&["explain", id]).good();
    assert!(told.contains("source: simulated") && told.contains("the same answer"), "{told}");
}

#[test]
fn the_second_start_has_the_same_people_and_everything_that_happened() {
    let folder = Folder::new();
    let args = ["demo", "--people", "40"];
    std::fs::create_dir(folder.data()).unwrap(); // An empty folder counts as none.
    let mut server = folder.start(&args);
    let people =
        "SELECT group_concat(id || created_at) FROM (SELECT id, created_at FROM profiles ORDER BY id)";
    let before = texts(&folder.database(), people);
    let answer: Value = serde_json::from_str(&paste(&folder, &curl(&server))).unwrap();
    let keys = Keys::of(&folder);
    server.terminate();
    assert_eq!(server.exit_code(), Some(0));

    let made_before = made(&folder);
    let mut server = folder.start(&args);
    assert_eq!(made(&folder), made_before);
    assert_eq!(texts(&folder.database(), people), before);
    let id = answer["recommendationId"].as_str().unwrap();
    let rows = number(&folder.database(), "SELECT count(*) FROM recommendation_logs WHERE id = ?", [id]);
    assert_eq!(rows, 1, "yesterday's answer is still there");
    assert_eq!(Keys::of(&folder).anon, keys.anon, "and the keys still work");
    server.kill();
}

#[test]
fn nights_reach_a_year_ahead_at_every_start() {
    let folder = Folder::with_people(20);
    let conn = folder.database();
    let mut made = made(&folder);
    let until = made["nightsUntil"].as_str().unwrap().to_owned();
    assert_eq!(texts(&conn, "SELECT max(night) FROM lease_nights"), std::slice::from_ref(&until));
    let nights = "SELECT group_concat(lease_id || night || held_by || base_price || market_demand) FROM
                    (SELECT * FROM lease_nights ORDER BY lease_id, night)";
    let before = texts(&conn, nights);
    // As it was ten days ago: the last ten nights of each home are not there yet.
    let earlier: String = conn.query_row("SELECT date(?, '-10 days')", [&until], |row| row.get(0)).unwrap();
    let removed = conn.execute("DELETE FROM lease_nights WHERE night > ?", [&earlier]).unwrap();
    assert_eq!(removed, 10 * 10, "ten nights of ten homes");
    made["nightsUntil"] = earlier.into();
    std::fs::write(folder.data().join("demo.json"), made.to_string()).unwrap();

    drop(folder.start(&["demo", "--people", "20"]));
    assert_eq!(texts(&conn, nights), before, "the same nights as if they had always been there");
    assert_eq!(self::made(&folder)["nightsUntil"], until);
}

#[test]
fn other_arguments_than_the_folder_was_made_with_are_refused_naming_both() {
    let folder = Folder::with_people(20);
    for (args, says) in [
        (&["--people", "40"][..], "not with --people 40 --world y --seed 42"),
        (&["--people", "20", "--world", "m"], "not with --people 20 --world m --seed 42"),
        (&["--people", "20", "--seed", "7"], "not with --people 20 --world y --seed 7"),
    ] {
        let complaint = folder.run(&[&["demo", "--port", "0"], args].concat()).refused();
        assert!(complaint.contains("made with --people 20 --world y --seed 42"), "{complaint}");
        assert!(complaint.contains(says), "{complaint}");
    }
    for bad in [&["--people", "7"][..], &["--people", "0"]] {
        let fresh = Folder::new();
        let ran = fresh.run(&[&["demo", "--port", "0"], bad].concat());
        assert!(matches!(ran.code, Some(1 | 2)), "{bad:?}: {ran:?}");
        assert!(!ran.err.contains("panicked"), "{}", ran.err);
    }
}

#[test]
fn an_interrupted_first_start_begins_anew() {
    let folder = Folder::new();
    let mut command = folder.command(&["demo", "--people", "1000", "--data-dir", "data", "--port", "0"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // Killed when the first rows are in the database, and long before the last.
    eventually("the first rows", || {
        let path = folder.data().join("nudge.db");
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let conn = rusqlite::Connection::open_with_flags(path, flags).ok()?;
        let rows: rusqlite::Result<i64> =
            conn.query_row("SELECT count(*) FROM profiles", [], |row| row.get(0));
        rows.ok().filter(|rows| *rows > 0)
    });
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(made(&folder)["complete"], false, "it was not finished");

    // Anew means with whatever is asked for now.
    let server = folder.start(&["demo", "--people", "40"]);
    assert!(server.log().contains("beginning anew"), "{}", server.log());
    assert_eq!(number(&folder.database(), "SELECT count(*) FROM profiles", []), 40);
    assert_eq!(made(&folder)["complete"], true);
    server.drained();
}

#[test]
fn a_taken_port_and_an_unusable_folder_are_said_clearly() {
    let folder = Folder::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for command in ["demo", "serve"] {
        let complaint = folder.run(&[command, "--port", &port]).refused();
        assert!(complaint.contains(&format!("cannot listen on 127.0.0.1:{port}")), "{complaint}");
        assert!(complaint.contains("--port"), "says what to do: {complaint}");
    }
    // A file where the folder should be stops root too.
    folder.file("file", "");
    for (data, why) in [("file", "exists"), ("file/below", "directory"), ("/proc/nudge", "")] {
        for command in ["demo", "serve"] {
            let mut tried = folder.command(&[command, "--port", "0", "--data-dir", data]);
            let complaint = finish(&mut tried, None).refused();
            assert!(complaint.contains(&format!("cannot use the data folder {data}")), "{complaint}");
            assert!(complaint.contains("--data-dir"), "{complaint}");
            assert!(complaint.to_lowercase().contains(why), "{complaint}");
        }
    }
}

#[test]
fn a_folder_of_serve_is_not_the_demos() {
    let folder = Folder::new();
    drop(folder.start(&["serve"]));
    let csv = folder.file("people.csv", "id\nmy-own\n");
    folder.run(&["import", "profiles", csv.to_str().unwrap()]).good();
    let complaint = folder.run(&["demo", "--port", "0"]).refused();
    assert!(complaint.contains("a database of your own, not the demo's"), "{complaint}");
    assert_eq!(number(&folder.database(), "SELECT count(*) FROM profiles", []), 1, "untouched");
}
