//! `nudge doctor`: what it finds, what it says to do, and when it fails.

use serde_json::Value;

use crate::postgres::{TestDatabase, migrate};
use crate::support::{Folder, Ran, finish};

/// Runs it against a database that some statements have been run on, before or after the migrations.
fn examine(before: Option<&str>, after: &str, args: &[&str]) -> Ran {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let database = runtime.block_on(async {
        let database = if before.is_some() { TestDatabase::empty().await } else { TestDatabase::new().await };
        let owner = database.owner().await;
        if let Some(app) = before {
            owner.batch_execute(app).await.unwrap();
            if !app.is_empty() {
                migrate(&owner).await;
            }
        }
        owner.batch_execute(after).await.unwrap();
        database
    });
    let folder = Folder::new();
    let mut command = folder.command(&["doctor", "--data-dir", "data"]);
    let ran = finish(command.args(args).env("DATABASE_URL", database.url()), None);
    assert!(!ran.err.contains("panicked"), "{}", ran.err);
    ran
}

#[test]
fn what_is_as_it_should_be_is_said_to_be() {
    let said = examine(None, "", &[]).good();
    assert!(said.contains("nothing is missing, and everything fits"), "{said}");
    let folder = Folder::with_people(2);
    let said = folder.run(&["doctor"]).good();
    assert!(said.contains("nudge.db") && said.contains("nothing is missing"), "{said}");
}

#[test]
fn a_schema_that_is_not_there_is_to_be_pushed() {
    let ran = examine(Some(""), "", &[]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.out.contains("WRONG: 20261031000000_platform has not run"), "{}", ran.out);
    assert!(ran.out.contains("nudge db push"), "{}", ran.out);
}

#[test]
fn a_right_that_is_not_ours_is_refused_with_the_statement_that_takes_it_away() {
    let ran = examine(None, "GRANT SELECT ON public.user_archetypes TO anon", &[]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.out.contains("WRONG: ") && ran.out.contains("user_archetypes"), "{}", ran.out);
    assert!(ran.out.contains("REVOKE ") && ran.out.contains("FROM anon;"), "{}", ran.out);
    // The privilege and a policy that lets rows be changed; without one the grant alone is what is wrong.
    let writable = "GRANT UPDATE (role) ON public.profiles TO authenticated;
      CREATE POLICY edit ON public.profiles FOR UPDATE TO authenticated USING (true)";
    let ran = examine(None, writable, &["--json"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    let findings = report["findings"].as_array().unwrap();
    let writable = findings.iter().find(|finding| finding["finding"] == "writableRole");
    assert_eq!(writable.unwrap()["severity"], "refusal", "{report}");
}

#[test]
fn a_table_of_the_app_that_does_not_fit_is_told_column_by_column_and_refuses_nothing() {
    let app = "CREATE TABLE public.lease_members (lease_id text);
      CREATE TABLE public.lease_nights (lease_id text, night text, base_price numeric)";
    let said = examine(Some(app), "", &[]).good();
    for word in ["note: ", "lease_members", "user_id", "lease_nights", "night", "CREATE OR REPLACE VIEW"] {
        assert!(said.contains(word), "{word}: {said}");
    }
}
