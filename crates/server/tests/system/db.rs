//! `nudge db` and `nudge rls`, on both engines.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use crate::support::{Folder, Ran};

/// An empty database of PostgreSQL whose owner is no superuser; dropped at the end.
struct Database {
    name: String,
    superuser: String,
}

/// The password of every owner, which must be seen nowhere.
const PASSWORD: &str = "sesame-open-7";

impl Database {
    fn empty() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let superuser = std::env::var("NUDGE_TEST_POSTGRES").unwrap_or_else(|_| {
            panic!(
                "NUDGE_TEST_POSTGRES is not set, and these tests need a throwaway PostgreSQL. Start one:\n  \
                 export NUDGE_TEST_POSTGRES=$(scripts/postgres start /tmp/nudge-postgres 55432)"
            )
        });
        let name = format!("nudge_cli_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let database = Self { name, superuser };
        let name = &database.name;
        psql(&database.superuser, &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
        psql(
            &database.superuser,
            &format!("DROP ROLE IF EXISTS {name}; CREATE ROLE {name} LOGIN CREATEROLE PASSWORD '{PASSWORD}'"),
        );
        psql(&database.superuser, &format!("CREATE DATABASE {name} OWNER {name}"));
        // Whoever runs a cluster of many databases lets their owners join the callers' roles, where they are there.
        psql(
            &database.superuser,
            &format!(
                "SELECT format('GRANT %I TO {name}', rolname) FROM pg_roles
                 WHERE rolname IN ('anon', 'authenticated', 'service_role') \\gexec"
            ),
        );
        database
    }

    /// The connection string of the owner.
    fn url(&self) -> String {
        let place = self.superuser.split('@').next_back().unwrap();
        let server = place.split('/').next().unwrap();
        format!("postgres://{}:{PASSWORD}@{server}/{}", self.name, self.name)
    }

    /// Runs a command against it.
    fn nudge(&self, folder: &Folder, args: &[&str]) -> Ran {
        let mut command = folder.command(args);
        command.env("DATABASE_URL", self.url());
        let output = command.output().unwrap();
        let ran = Ran {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        };
        assert!(!ran.out.contains(PASSWORD) && !ran.err.contains(PASSWORD), "{ran:?}");
        ran
    }

    fn pushed(folder: &Folder) -> Self {
        let database = Self::empty();
        database.nudge(folder, &["db", "push"]).good();
        database
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let name = &self.name;
        psql(&self.superuser, &format!("DROP DATABASE {name} WITH (FORCE)"));
        psql(&self.superuser, &format!("DROP OWNED BY {name}; DROP ROLE {name}"));
    }
}

/// Runs SQL, and gives the first value.
fn psql(url: &str, sql: &str) -> String {
    let mut psql = Command::new("psql");
    psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", url]).stdin(std::process::Stdio::piped());
    let mut child =
        psql.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), format!("{sql}\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_push_says_what_it_does_and_does_it_once() {
    let (folder, database) = (Folder::new(), Database::empty());
    let nudge = |args: &[&str]| database.nudge(&folder, args);
    let planned = nudge(&["db", "push", "--dry-run"]).good();
    assert!(planned.starts_with("would run  20261031000000_platform\n"), "{planned}");
    assert_eq!(psql(&database.url(), "SELECT to_regnamespace('nudge') IS NULL"), "t");
    let status = nudge(&["db", "status"]);
    assert!(status.err.contains("to do: nudge db push"), "{status:?}");
    assert_eq!(status.good().matches("  pending").count(), planned.lines().count());

    let done = nudge(&["db", "push"]).good();
    assert_eq!(done, planned.replace("would run", "done"));
    let again = nudge(&["db", "push"]);
    assert_eq!(again.err, "");
    assert_eq!(again.good(), "nothing to do: the schema is up to date\n");
    let status = nudge(&["db", "status", "--json"]).json();
    assert_eq!(status["version"], status["known"]);
    assert_eq!(status["migrations"][0]["state"], "applied");
    assert!(status["migrations"][0]["appliedAt"].is_string());
    nudge(&["db", "diff"]).good();
}

#[test]
fn pushes_at_once_take_turns() {
    let (folder, database) = (Folder::new(), Database::empty());
    let done: usize = std::thread::scope(|scope| {
        let pushes: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| database.nudge(&folder, &["db", "push", "--json"]).json()))
            .collect();
        pushes.into_iter().map(|push| push.join().unwrap()["migrations"].as_array().unwrap().len()).sum()
    });
    let status = database.nudge(&folder, &["db", "status", "--json"]).json();
    assert_eq!(done, status["migrations"].as_array().unwrap().len(), "each migration ran once");
}

#[test]
fn a_newer_schema_is_refused() {
    let folder = Folder::new();
    let database = Database::pushed(&folder);
    psql(&database.url(), "INSERT INTO nudge.migrations (version, name) VALUES (29990101000000, 'later')");
    for args in [&["db", "push"][..], &["db", "push", "--dry-run"], &["db", "diff"], &["db", "dump", "x.sql"]]
    {
        let refused = database.nudge(&folder, args).refused();
        assert!(refused.contains("has version 29990101000000, newer than this program's"), "{refused}");
        assert!(refused.contains("use the newer version"), "{refused}");
    }
    let status = database.nudge(&folder, &["db", "status"]).good();
    assert!(status.contains("applied, unknown to this version of nudge"), "{status}");
}

#[test]
fn a_push_tells_which_facts_do_not_fit_and_what_mends_them() {
    let (folder, database) = (Folder::new(), Database::empty());
    psql(&database.url(), "CREATE TABLE public.leases (id bigint)");
    let pushed = database.nudge(&folder, &["db", "push"]);
    assert!(pushed.err.contains("note: leases.id: the column is bigint, not text"), "{pushed:?}");
    assert!(pushed.err.contains("CREATE OR REPLACE VIEW nudge.leases"), "{pushed:?}");
    pushed.good();
}

#[test]
fn a_role_for_the_service_is_made() {
    let (folder, database) = (Folder::new(), Database::empty());
    let role = format!("{}_service", database.name);
    psql(&database.superuser, &format!("DROP ROLE IF EXISTS {role}"));
    let args = ["db", "push", "--service-role", &role];
    // On a new server the push makes the callers' roles; on this one, others may have: then their maker lets us join.
    psql(
        &database.superuser,
        &format!(
            "SELECT format('GRANT %I TO {} WITH ADMIN OPTION', rolname) FROM pg_roles
             WHERE rolname IN ('anon', 'authenticated', 'service_role') \\gexec",
            database.name
        ),
    );
    let made = database.nudge(&folder, &args);
    assert!(made.err.contains(&format!("the role {role} made, without a password")), "{made:?}");
    made.good();
    assert!(database.nudge(&folder, &args).err.contains(&format!("the role {role} is there")));
    let attributes =
        format!("SELECT rolcanlogin, rolinherit, rolsuper FROM pg_roles WHERE rolname = '{role}'");
    assert_eq!(psql(&database.superuser, &attributes), "t|t|f");
    let within = format!("{}/{}", database.superuser.rsplit_once('/').unwrap().0, database.name);
    psql(&within, &format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

#[test]
fn a_difference_is_printed_and_fails() {
    let folder = Folder::new();
    let database = Database::pushed(&folder);
    psql(&database.url(), "ALTER TABLE public.leases ADD COLUMN more text; DROP INDEX public.leases_by_time");
    let differs = database.nudge(&folder, &["db", "diff"]);
    assert_eq!(differs.code, Some(1));
    assert_eq!(
        differs.out,
        "- index CREATE INDEX leases_by_time ON public.leases USING btree (created_at)\n+ column public.leases.more text\n"
    );
    let json = database.nudge(&folder, &["db", "diff", "--json"]);
    let json: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json["unexpected"][0], "column public.leases.more text");
}

#[test]
fn a_dump_comes_back_into_an_empty_database_and_nowhere_else() {
    let folder = Folder::new();
    let database = Database::pushed(&folder);
    psql(&database.url(), "INSERT INTO public.leases (id, name) VALUES ('h', 'Home')");
    let file = folder.path().join("backup.sql");
    let file = file.to_str().unwrap();
    let written = database.nudge(&folder, &["db", "dump", file]).good();
    assert!(written.contains("written and checked, "), "{written}");
    let refused = database.nudge(&folder, &["db", "dump", file]).refused();
    assert!(refused.contains("is there already, and is not overwritten"), "{refused}");
    let refused = database.nudge(&folder, &["db", "restore", file]).refused();
    assert!(refused.contains("the schema nudge is there already, and is not overwritten"), "{refused}");

    let copy = Database::empty();
    let restored = copy.nudge(&folder, &["db", "restore", file]).good();
    assert!(restored.contains("as they were dumped\nthe audit chain is whole, 0 entries"), "{restored}");
    assert_eq!(psql(&copy.url(), "SELECT name FROM public.leases"), "Home");
    let manifests: Vec<Value> = ["a.sql", "b.sql"]
        .iter()
        .zip([&database, &copy])
        .map(|(file, database)| {
            database.nudge(&folder, &["db", "dump", file, "--json"]).json()["tables"].clone()
        })
        .collect();
    assert_eq!(manifests[0], manifests[1]);
    assert_eq!(manifests[0]["public.leases"]["rows"], 1);
    // A backup of half of it.
    let half = folder.file("half.sql", &std::fs::read(file).unwrap()[..20_000]);
    let refused = Database::empty().nudge(&folder, &["db", "restore", half.to_str().unwrap()]).refused();
    assert!(refused.contains("it ends before its manifest"), "{refused}");
}

#[test]
fn the_matrix_of_rights_is_printed_and_a_leak_fails() {
    let folder = Folder::new();
    let database = Database::pushed(&folder);
    let right = database.nudge(&folder, &["rls", "verify"]).good();
    assert!(
        right.contains("table                   verb    anon         user         admin        service\n"),
        "{right}"
    );
    assert!(
        right.contains("user_archetypes         select  –            own          all          all\n"),
        "{right}"
    );
    assert!(
        right.contains("admin_audit_log         select  –            none         all          all\n"),
        "{right}"
    );
    assert!(right.ends_with("176 right, 0 leaks, 0 blocked, 0 not tried\n"), "{right}");
    psql(
        &database.url(),
        "GRANT SELECT ON public.user_archetypes TO anon; REVOKE SELECT ON public.leases FROM authenticated",
    );
    let wrong = database.nudge(&folder, &["rls", "verify"]);
    assert_eq!(wrong.code, Some(1));
    assert!(wrong.out.contains("LEAK: anon select user_archetypes"), "{}", wrong.out);
    assert!(
        wrong.out.contains("BLOCKED: user select leases: permission denied for table leases"),
        "{}",
        wrong.out
    );
    assert!(
        wrong
            .out
            .contains("WRONG: granted, and not by a migration: SELECT ON public.user_archetypes TO anon\n")
    );
    assert!(
        wrong.out.contains("       REVOKE SELECT ON public.user_archetypes FROM anon;\n"),
        "{}",
        wrong.out
    );
    let json = database.nudge(&folder, &["rls", "verify", "--json"]);
    let json: Value = serde_json::from_str(&json.out).unwrap();
    let leaks = json["cells"].as_array().unwrap().iter().filter(|cell| cell["verdict"] == "leak");
    assert_eq!(leaks.count(), 1);
    let findings = json["findings"].as_array().unwrap();
    let kinds: Vec<_> = findings.iter().map(|finding| finding["finding"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["missingGrant", "unexpectedGrant"]);
}

#[test]
fn a_database_whose_people_can_make_themselves_admins_is_not_served_until_it_is_mended() {
    let (folder, database) = (Folder::new(), Database::empty());
    let app = "CREATE TABLE public.profiles (id text PRIMARY KEY, nick text, role text);
      ALTER TABLE public.profiles ENABLE ROW LEVEL SECURITY;
      CREATE POLICY mine ON public.profiles USING (true);";
    psql(&database.url(), app);
    database.nudge(&folder, &["db", "push"]).good();
    psql(&database.url(), "GRANT SELECT, UPDATE ON public.profiles TO authenticated");
    let serve = ["serve", "--data-dir", "data", "--port", "0"];
    let refused = database.nudge(&folder, &serve).refused();
    assert!(
        refused.contains("authenticated may UPDATE profiles.role, and so make anybody an admin"),
        "{refused}"
    );
    let statements: Vec<&str> = refused
        .lines()
        .filter_map(|line| line.strip_prefix("      "))
        .filter(|line| line.ends_with(';'))
        .collect();
    assert_eq!(statements.len(), 2, "{refused}");
    psql(&database.url(), &statements.join("\n"));
    let mut server = folder.start_command(folder.command(&serve).env("DATABASE_URL", database.url()));
    server.terminate();
    assert_eq!(server.exit_code(), Some(0), "{}", server.log());
    // What can be lived with is warned of.
    assert!(server.log().contains("store.finding"), "{}", server.log());
    assert!(
        server.log().contains("looking up nudge.profiles by id reads the whole table"),
        "{}",
        server.log()
    );
    assert!(!server.log().contains(PASSWORD));
}

#[test]
fn a_database_that_cannot_be_reached_is_named_without_its_password() {
    let folder = Folder::new();
    let mut command = folder.command(&["db", "status"]);
    let url = format!("postgres://me:{PASSWORD}@127.0.0.1:1/nowhere");
    let output = command.env("DATABASE_URL", url).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("postgres://me@127.0.0.1:1/nowhere") && !said.contains(PASSWORD), "{said}");
}

#[test]
fn the_embedded_database_is_looked_after_alike() {
    let folder = Folder::new();
    let nudge = |args: &[&str]| folder.run(args);
    let pending = nudge(&["db", "status"]).good();
    assert!(pending.contains("pending"), "{pending}");
    let planned = nudge(&["db", "push", "--dry-run"]).good();
    assert!(planned.starts_with("would run  20261101000000_facts\n"), "{planned}");
    assert!(!folder.data().join("nudge.db").exists());
    nudge(&["db", "push"]).good();
    assert_eq!(nudge(&["db", "push"]).good(), "nothing to do: the schema is up to date\n");
    nudge(&["db", "diff"]).good();
    let leases = folder.file("leases.csv", "id,name\nh,Home\n");
    nudge(&["import", "leases", leases.to_str().unwrap()]).good();
    let backup = folder.path().join("backup.db");
    let backup = backup.to_str().unwrap();
    nudge(&["db", "dump", backup]).good();
    assert!(nudge(&["db", "dump", backup]).refused().contains("not overwritten"));
    assert!(nudge(&["db", "restore", backup]).refused().contains("not overwritten"));

    let other = Folder::new();
    let restored = other.run(&["db", "restore", backup]).good();
    assert!(restored.contains("the audit chain is whole, 0 entries"), "{restored}");
    let again = other.path().join("again.db");
    let copied = other.run(&["db", "dump", again.to_str().unwrap(), "--json"]).json();
    assert_eq!(copied["tables"]["leases"], 1);
    assert!(nudge(&["rls", "verify"]).refused().contains("the embedded database has no roles"));
    assert!(
        nudge(&["db", "push", "--service-role", "x"]).refused().contains("--service-role is for PostgreSQL")
    );
}
