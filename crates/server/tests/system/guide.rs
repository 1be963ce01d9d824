//! The lines of the deployment guide, pasted into a shell as they stand; only what the guide itself marks as a
//! placeholder is replaced. They are quoted in `guide.md`.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::{Folder, Keys, Question, Server, finish};

const GUIDE: &str = include_str!("guide.md");

/// Gives the commands under a heading, each with its continuation lines.
fn commands(heading: &str) -> Vec<String> {
    let section = GUIDE.split(heading).nth(1).unwrap_or_else(|| panic!("no {heading} in guide.md"));
    let block = section.split("```bash\n").nth(1).unwrap().split("\n```").next().unwrap();
    let mut commands = Vec::new();
    let mut current = String::new();
    for line in block.lines() {
        current.push_str(line);
        current.push('\n');
        let quotes = current.matches('\'').count();
        if quotes.is_multiple_of(2) && !line.ends_with('\\') {
            let command = std::mem::take(&mut current);
            if command.starts_with("curl ") {
                commands.push(command);
            }
        }
    }
    assert!(!commands.is_empty(), "no commands under {heading}");
    commands
}

/// Pastes a command with its placeholders replaced.
fn paste(command: &str, replacements: &[(&str, &str)]) -> String {
    let line = replacements
        .iter()
        .fold(command.to_owned(), |line, (placeholder, value)| line.replace(placeholder, value));
    let mut shell = Command::new("bash");
    // The progress meter of curl is the only thing that is kept off the screen.
    shell.args(["-c", &line]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    finish(&mut shell, None).good()
}

fn local(server: &Server) -> String {
    server.url.replace("127.0.0.1", "localhost")
}

#[test]
fn step_2_1_works_with_the_printed_anonymous_key() {
    let folder = Folder::new();
    let server = folder.start(&["serve"]);
    let keys = Keys::of(&folder);
    let [command] = commands("### 2.1").try_into().unwrap();
    let shown =
        paste(&command, &[("http://localhost:54321", &local(&server)), ("YOUR_ANON_KEY", &keys.anon)]);
    assert!(shown.starts_with("HTTP/1.1 200 OK"), "{shown}");
    let (head, body) = shown.split_once("\r\n\r\n").unwrap();
    assert!(head.to_lowercase().contains("access-control-allow-origin: *"), "{head}");
    let answer: Value = serde_json::from_str(body).unwrap();
    assert_eq!(answer["personalized"], false);
    assert_eq!(answer["contextFactors"]["overdue"], true, "the guide's date has passed");
    has_required_fields(&answer);
}

/// What step 9.1 says to verify.
fn has_required_fields(answer: &Value) {
    assert!(answer["primaryRecommendation"].is_string(), "{answer}");
    assert_eq!(answer["options"].as_array().unwrap().len(), 3, "{answer}");
    assert!(answer["userArchetype"]["type"].is_string(), "{answer}");
    assert!(answer["contextFactors"]["urgencyLevel"].is_string(), "{answer}");
}

#[test]
fn the_smoke_tests_of_step_9_1_work_with_a_users_token() {
    let folder = Folder::with_people(20);
    let server = folder.start(&["serve"]);
    let question = Question::all(&folder.database()).remove(0);
    let token = folder.token(&question.user);
    let replacements = [
        ("https://YOUR_PROJECT.supabase.co", server.url.as_str()),
        ("USER_JWT", token.as_str()),
        ("real_user_id", question.user.as_str()),
        ("roommate_id", question.roommate.as_str()),
        ("2026-03-15", question.night.as_str()),
    ];
    let [recommend, archetype] = commands("### 9.1").try_into().unwrap();
    let answer: Value = serde_json::from_str(&paste(&recommend, &replacements)).unwrap();
    has_required_fields(&answer);
    assert_eq!(answer["personalized"], true);
    let shown: Value = serde_json::from_str(&paste(&archetype, &replacements)).unwrap();
    assert_eq!(shown["userId"], question.user.as_str());
    assert_eq!(shown["archetypeType"], answer["userArchetype"]["type"], "archetype returned");
}

#[test]
fn the_loaded_line_of_step_9_2_is_answered() {
    let folder = Folder::new();
    let server = folder.start(&["serve"]);
    let section = GUIDE.split("### 9.2").nth(1).unwrap();
    let url = section.split("const url = '").nth(1).unwrap().split('\'').next().unwrap();
    let path = url.strip_prefix("https://YOUR_PROJECT.supabase.co").unwrap();
    let keys = Keys::of(&folder);
    assert_eq!(server.client().get(path, Some(&keys.anon)).unwrap().status, 200);
}

#[test]
fn the_job_of_steps_4_3_and_7_1_recomputes_everybody() {
    let folder = Folder::with_people(20);
    let server = folder.start(&["serve"]);
    let keys = Keys::of(&folder);
    let replacements = [
        ("https://YOUR_PROJECT.supabase.co", server.url.as_str()),
        ("YOUR_SERVICE_ROLE_KEY", keys.service.as_str()),
    ];
    for heading in ["### 4.3", "### 7.1"] {
        let [command] = commands(heading).try_into().unwrap();
        let answer: Value = serde_json::from_str(&paste(&command, &replacements)).unwrap();
        assert_eq!((&answer["success"], &answer["status"]), (&true.into(), &"completed".into()), "{answer}");
        assert!(answer["processed"].as_i64().unwrap() >= 20 && answer["failed"] == 0, "{answer}");
    }
}
