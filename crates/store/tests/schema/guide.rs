//! The SQL of the deployment guide, as it stands, through `psql`.

use std::process::Command;

use crate::support::*;

const STATEMENTS: &str = include_str!("guide.sql");
const LINES: &str = include_str!("guide.sh");

/// A few rows of today in what the guide looks at.
async fn populated() -> Database {
    let database = Database::migrated().await;
    let owner = database.owner().await;
    let mut sql = archetype("ann")
        + &archetype("bob").replace("0.6", "0.9")
        + &archetype("eve").replace("average_user", "big_spender");
    for number in 1..=4 {
        sql += &decision(number, "ann").replace(&format!("'{DAY}')"), "now())");
    }
    sql += &format!(
        "UPDATE public.recommendation_logs SET user_selected = 'crash', followed_recommendation = true
           WHERE id = '{}';",
        id(1)
    );
    for (number, status, took) in [(1, 200, 5), (2, 503, 10), (3, 404, 20)] {
        sql += &format!(
            "INSERT INTO public.edge_function_logs (id, function_name, method, status, response_time_ms, request_id,
               created_at)
             VALUES ('{}', 'transaction-recommendations', 'GET', {status}, {took}, 'r', now());",
            id(number)
        );
    }
    for number in 1..=6 {
        let (status, end) = if number == 6 { ("running", "NULL") } else { ("completed", "now()") };
        sql += &format!(
            "INSERT INTO public.archetype_job_logs (id, job_type, status, started_at, completed_at)
             VALUES ('{}', 'full', '{status}', now(), {end});",
            id(number)
        );
    }
    owner.run(&sql).await;
    database
}

#[tokio::test]
async fn statements_run_unchanged_and_say_what_is_there() {
    let database = populated().await;
    let path = format!("{}/tests/schema/guide.sql", env!("CARGO_MANIFEST_DIR"));
    let output = database.psql(&["-At", "-f", &path]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    for expected in [
        "public|user_archetypes|t",
        "public|archetype_job_logs|t",
        "public|user_archetypes|user_archetypes_select|PERMISSIVE|{authenticated}|SELECT",
        "public|user_archetypes|user_archetypes_service|PERMISSIVE|{service_role}|ALL",
        "public|archetype_job_logs|archetype_job_logs_select|PERMISSIVE|{authenticated}|SELECT",
        "average_user|2|0.75000000000000000000",
        "big_spender|1|0.60000000000000000000",
        "transaction-recommendations|2|15.0000000000000000",
        "average_user|2",
    ] {
        assert!(lines.contains(&expected), "no `{expected}` in\n{text}");
    }
    assert!(lines.iter().any(|line| line.ends_with("|4|0.25000000000000000000")), "{text}");
    assert_eq!(STATEMENTS.matches(';').count(), 6);
}

#[tokio::test]
async fn lines_of_the_shell_run_unchanged() {
    let database = populated().await;
    let config = database.server.superuser.clone();
    let port = config.get_ports().first().unwrap_or(&5432);
    let url = format!("postgres://{0}:x@127.0.0.1:{port}/{0}", database.name);
    let mut answers = Vec::new();
    for line in LINES.lines().filter(|line| line.starts_with("psql")) {
        let output = Command::new("bash").args(["-c", line]).env("DATABASE_URL", &url).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        answers.push(String::from_utf8(output.stdout).unwrap());
    }
    assert_eq!(answers.len(), 4);
    for table in ["user_archetypes", "archetype_job_logs"] {
        assert!(answers[0].contains(table), "{}", answers[0]);
    }
    assert!(answers[1].contains("running") && answers[1].contains("(5 rows)"), "{}", answers[1]);
    for count in &answers[2..] {
        assert!(count.lines().nth(2).is_some_and(|line| line.trim() == "3"), "{count}");
    }
    // The four tables that the guide expects are there; its own pattern finds two of them.
    let owner = database.owner().await;
    for table in ["user_archetypes", "recommendation_logs", "admin_audit_log", "archetype_job_logs"] {
        assert_eq!(owner.one(&format!("SELECT to_regclass('public.{table}') IS NOT NULL")).await, "t");
    }
}
