//! `nudge config`, and how a setting gets its value.

use std::process::Stdio;

use crate::support::{Folder, Ran, finish};

/// Runs `nudge config --json` with things in the environment.
fn config(folder: &Folder, environment: &[(&str, &str)], args: &[&str]) -> Ran {
    finish(folder.command(&["config", "--json"]).envs(environment.iter().copied()).args(args), None)
}

#[test]
fn a_flag_beats_the_environment_beats_the_file_beats_the_default() {
    let folder = Folder::new();
    let port = |environment: &[(&str, &str)], args: &[&str]| {
        let all = config(&folder, environment, args).json();
        (all["NUDGE_PORT"]["value"].as_str().unwrap().to_owned(), all["NUDGE_PORT"]["source"].clone())
    };
    assert_eq!(port(&[], &[]), ("54321".into(), "default".into()));
    folder.file("nudge.toml", "nudge_port = 2001\n");
    assert_eq!(port(&[], &[]), ("2001".into(), "nudge.toml".into()));
    assert_eq!(port(&[("NUDGE_PORT", "2002")], &[]), ("2002".into(), "environment".into()));
    assert_eq!(port(&[("NUDGE_PORT", "")], &[]), ("2001".into(), "nudge.toml".into()), "empty is absent");
    assert_eq!(port(&[("NUDGE_PORT", "2002")], &["--port", "2003"]), ("2003".into(), "flag".into()));
    folder.file("other.toml", "nudge_port = 2004\n");
    assert_eq!(port(&[], &["--config", "other.toml"]), ("2004".into(), "other.toml".into()));
}

#[test]
fn every_setting_is_listed_for_people_and_machines() {
    let folder = Folder::new();
    let all = config(&folder, &[], &[]).json();
    let text = folder.feed(&["config"], "").good();
    assert!(all.as_object().unwrap().len() >= 20, "{all}");
    for name in all.as_object().unwrap().keys() {
        assert!(text.lines().any(|line| line.starts_with(name)), "{name} in\n{text}");
    }
}

#[test]
fn secrets_are_shown_as_set_only() {
    let folder = Folder::new();
    let secret = "a-secret-that-nobody-may-see-0123456789";
    let keys = format!("{{\"default\":\"sb_secret_{secret}\"}}");
    let environment = [("SUPABASE_JWT_SECRET", secret), ("SUPABASE_SECRET_KEYS", keys.as_str())];
    let ran = config(&folder, &environment, &[]);
    assert!(!ran.out.contains(secret) && !ran.err.contains(secret), "{ran:?}");
    let all = ran.json();
    assert_eq!(all["SUPABASE_JWT_SECRET"]["value"], "(set)");
    assert_eq!(all["SUPABASE_JWT_SECRET"]["source"], "environment");
}

#[test]
fn what_is_no_setting_and_what_does_not_fit_is_named() {
    let folder = Folder::new();
    for (file, says) in [
        ("nudge_prot = 1\n", "`nudge_prot` is not a setting"),
        ("NUDGE_PORT = 1\n", "`NUDGE_PORT` is not a setting"),
        ("nudge_port = true\n", "`nudge_port` cannot be a boolean"),
        ("nudge_port = 70000\n", "NUDGE_PORT (from nudge.toml): must be a whole number from 0 to 65535"),
        ("nudge_port = \n", "cannot read nudge.toml"),
        ("nudge_timezone = \"Mars/Olympus\"\n", "NUDGE_TIMEZONE"),
        ("cache_ttl_hours = \"NaN\"\n", "CACHE_TTL_HOURS"),
        ("database_url = \"mysql://u:not-closed@localhost/x\"\n", "DATABASE_URL"),
        ("database_url = \"postgres://u:not-closed%@localhost/x\"\n", "DATABASE_URL"),
        ("database_url = \"postgres://u:not-closed@localhost/x?sslmode=no\"\n", "sslmode must be"),
        ("nudge_database_direct_url = \"postgres://u:not-closed@localhost/x\"\n", "DATABASE_URL"),
        ("supabase_jwt_secret = \"short\"\n", "SUPABASE_JWT_SECRET"),
        ("nudge_port = 1\nsupabase_jwt_secret = \"not-closed short\";\n", "nudge.toml: line 2, column"),
        ("supabase_secret_keys = { default = \"a-key-of-no-known-kind-at-all\" }\n", "sb_secret_"),
    ] {
        folder.file("nudge.toml", file);
        let complaint = folder.run(&["keys"]).refused();
        assert!(complaint.contains(says), "{file}: {complaint}");
        assert!(
            !complaint.contains("short\"") && !complaint.contains("not-closed"),
            "a secret is in {complaint}"
        );
    }
    std::fs::remove_file(folder.path().join("nudge.toml")).unwrap();
    let complaint = folder.run(&["keys", "--config", "none.toml"]).refused();
    assert!(complaint.contains("none.toml"), "{complaint}");
}

#[test]
fn keys_are_three_lines_that_a_shell_takes() {
    let folder = Folder::new();
    let printed = folder.run(&["keys"]).good();
    let names: Vec<&str> = printed.lines().map(|line| line.split_once('=').unwrap().0).collect();
    assert_eq!(names, ["SUPABASE_URL", "SUPABASE_ANON_KEY", "SUPABASE_SERVICE_ROLE_KEY"]);
    assert!(printed.starts_with("SUPABASE_URL=http://127.0.0.1:54321\n"), "{printed}");
    assert_eq!(folder.run(&["keys"]).good(), printed, "the same keys every time");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(folder.data().join("jwt-secret")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600, "the secret is its owner's");

    let mut shell = std::process::Command::new("bash");
    let line = "eval \"$(\"$0\" keys --data-dir data)\" && printf %s \"$SUPABASE_ANON_KEY\"";
    shell.args(["-c", line, env!("CARGO_BIN_EXE_nudge")]).current_dir(folder.path());
    let anon = finish(shell.stdout(Stdio::piped()).stderr(Stdio::piped()), None).good();
    assert!(printed.contains(&format!("SUPABASE_ANON_KEY={anon}\n")), "{anon}");
}

#[test]
fn tokens_work_for_their_time_and_their_role() {
    let folder = Folder::with_people(20);
    let server = folder.start(&["serve"]);
    let client = server.client();
    let mine = "/functions/v1/user-archetype?userId=user-000001";
    let status = |args: &[&str]| {
        let token = folder.run(&[&["token", "--sub", "user-000001"], args].concat()).good();
        client.get(mine, Some(token.trim())).unwrap().status
    };
    assert_eq!(status(&[]), 200);
    assert_eq!(status(&["--ttl", "7d"]), 200);
    assert_eq!(status(&["--role", "service_role"]), 200);
    assert_eq!(status(&["--role", "anon"]), 401);
    let other = folder.token("user-000002");
    assert_eq!(client.get(mine, Some(&other)).unwrap().status, 403);

    let claims = |args: &[&str]| {
        let token = folder.run(&[&["token", "--sub", "alice"], args].concat()).good();
        let payload = token.split('.').nth(1).unwrap().to_owned();
        let bytes = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, payload);
        serde_json::from_slice::<serde_json::Value>(&bytes.unwrap()).unwrap()
    };
    for (ttl, seconds) in [("1s", 1), ("30m", 1_800), ("1h", 3_600), ("7d", 604_800)] {
        let claims = claims(&["--ttl", ttl]);
        assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), seconds, "{ttl}");
        assert_eq!(claims["sub"], "alice");
    }
    for bad in [&["--ttl", "0s"][..], &["--ttl", "soon"], &["--ttl", "-1h"], &["--role", "postgres"]] {
        let ran = folder.run(&[&["token", "--sub", "alice"], bad].concat());
        assert_eq!(ran.code, Some(2), "{bad:?}: {ran:?}");
    }
    assert_eq!(folder.run(&["token", "--sub", "no spaces"]).code, Some(2));
}
