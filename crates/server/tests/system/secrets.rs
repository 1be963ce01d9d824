//! Nothing that opens a door is ever written down, whatever the log level.

use serde_json::json;

use crate::support::{Folder, Keys, Question};

#[test]
fn logs_and_metrics_hold_no_secret_even_when_everything_is_logged() {
    let folder = Folder::with_people(20);
    let question = Question::all(&folder.database()).remove(0);
    let keys = Keys::of(&folder);
    let (secret_key, token) = ("sb_secret_canary_0123456789abcdef", folder.token(&question.user));
    let mut command = folder.command(&["serve", "--data-dir", "data", "--port", "0"]);
    command.env("SUPABASE_SECRET_KEYS", json!({ "canary": secret_key }).to_string());
    command.env("LOG_LEVEL", "trace").env("NUDGE_LOG_FORMAT", "json");
    let mut server = folder.start_command(&mut command);
    let client = server.client();

    // Good and bad uses of everything that is secret.
    let forged = format!("{}x", token);
    for (key, status) in [
        (&token, 200),
        (&keys.anon, 200),
        (&keys.service, 200),
        (&forged, 401),
        (&secret_key.to_owned(), 401),
    ] {
        assert_eq!(client.get(&question.path(), Some(key)).unwrap().status, status);
    }
    let in_query = format!("{}&apikey={}&access_token={token}", question.path(), keys.service);
    assert_eq!(client.get(&in_query, None).unwrap().status, 401);
    let note = json!({ "userId": question.user, "archetypeType": "big_spender", "reason": "canary-reason@example.com" });
    assert_eq!(client.put("/functions/v1/user-archetype", &keys.service, &note).unwrap().status, 200);
    let broken = json!({ "canary-body": keys.service });
    assert_eq!(client.post("/functions/v1/ingest", &keys.service, &broken).unwrap().status, 400);
    let metrics = client.get("/metrics", None).unwrap().text;
    server.terminate();
    assert_eq!(server.exit_code(), Some(0));

    let log = server.log();
    assert!(log.matches("request.done").count() >= 8, "the log is on: {log}");
    let stored = std::fs::read_to_string(folder.data().join("jwt-secret")).unwrap();
    for (what, canary) in [
        ("the signing secret", stored.trim()),
        ("the anonymous key", keys.anon.as_str()),
        ("the service key", keys.service.as_str()),
        ("the secret key", secret_key),
        ("a user's token", token.as_str()),
        // The signature alone would do, as header and payload can be guessed.
        ("a token's signature", token.rsplit('.').next().unwrap()),
        ("a body", "canary-reason"),
        ("a field of a refused body", "canary-body"),
    ] {
        assert!(!metrics.contains(canary), "{what} is in the metrics");
        let line = log.lines().find(|line| line.contains(canary));
        assert_eq!(line, None, "{what} is in the log");
    }
    assert!(!metrics.contains(&question.user), "a user's id is in the metrics");
    // At info, ids of users are hashed or absent.
    let told = log.lines().filter(|line| ["INFO", "WARN", "ERROR"].iter().any(|level| line.contains(level)));
    for line in told {
        assert!(!line.contains(&question.user), "a user's id: {line}");
    }
}
