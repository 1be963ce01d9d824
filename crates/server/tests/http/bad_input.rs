//! The specification's table of bad input, as far as it concerns these routes: a row here for each of its lines and
//! variants. Each asserts the status and, where the input is refused, that nothing was written.

use std::io::Write;

use serde_json::{Value, json};

use crate::support::client::{connect, read_answer};
use crate::support::facts::{insert, profile};
use crate::support::{
    ARCHETYPE, As, DATE, Harness, INGEST, NOW_SECS, OUTCOMES, RECOMMENDATIONS, Request, facts, token,
};

const UUID: &str = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";

struct Row<'a> {
    line: String,
    request: Request<'a>,
    statuses: &'static [u16],
}

struct Table<'a> {
    server: &'a Harness,
    rows: Vec<Row<'a>>,
}

impl<'a> Table<'a> {
    fn row(&mut self, line: impl Into<String>, request: Request<'a>, statuses: &'static [u16]) {
        self.rows.push(Row { line: line.into(), request, statuses });
    }

    fn get(&mut self, line: &str, caller: As<'_>, target: &str, statuses: &'static [u16]) {
        self.row(format!("{line}: {:.80}", target), self.server.request(caller, "GET", target), statuses);
    }

    fn bearer(&mut self, line: &str, token: &str, statuses: &'static [u16]) {
        let request = self.server.request(As::Nobody, "GET", &format!("{ARCHETYPE}?userId=alice"));
        self.row(line, request.bearer(token), statuses);
    }

    fn body(
        &mut self,
        line: &str,
        method: &'static str,
        target: &str,
        body: impl Into<Vec<u8>>,
        statuses: &'static [u16],
    ) {
        let request = self.server.request(As::Service, method, target).raw_json(body);
        self.row(format!("{line}: {method} {target}"), request, statuses);
    }
}

fn ids_and_queries(t: &mut Table<'_>) {
    let alice = As::User("alice");
    t.get("another user's id", alice, &format!("{ARCHETYPE}?userId=bob"), &[403]);
    t.get("another user's id, unknown", alice, &format!("{ARCHETYPE}?userId=nobody"), &[403]);
    let loud = UUID.replace('-', "").to_uppercase();
    t.get("own id, loud and without hyphens", As::User(UUID), &format!("{ARCHETYPE}?userId={loud}"), &[200]);
    for query in ["userId=alice&userId=bob", "userId=bob&userId=alice", "userId=alice&userId=alice"] {
        t.get("userId twice", alice, &format!("{ARCHETYPE}?{query}"), &[400]);
    }
    for id in
        ["x,id.not.is.null", "%00", "alice%00", "..%2F", "'%20OR%201=1--", "*", "%2A", &"x".repeat(10_240)]
    {
        for target in [
            format!("{ARCHETYPE}?userId={id}"),
            format!("{RECOMMENDATIONS}?userId={id}&targetDate={DATE}&roommateId=bob"),
            format!("{RECOMMENDATIONS}?userId=alice&targetDate={DATE}&roommateId={id}"),
        ] {
            t.get("no user id", alice, &target, &[400]);
        }
    }
    let recommend = |user: &str, date: &str, roommate: &str| {
        format!("{RECOMMENDATIONS}?userId={user}&targetDate={date}&roommateId={roommate}")
    };
    t.get("a stranger as roommate", alice, &recommend("alice", DATE, "dave"), &[403]);
    t.get("oneself as roommate", alice, &recommend("alice", DATE, "alice"), &[400]);
    for date in [
        "2026-02-30",
        "infinity",
        "today",
        "20260315",
        "99999-01-01",
        "2026-13-01",
        "1969-12-31",
        "0000-00-00",
        "%202026-03-16",
        "2026-03-16%20",
        "2026-03-16T25:00:00Z",
        "2026-03-16T10:00",
        "2026-W12-1",
        "-infinity",
        "now",
        "2026-03-16%00",
    ] {
        t.get("no date", alice, &recommend("alice", date, "bob"), &[400]);
    }
}

fn callers(t: &mut Table<'_>) {
    for (method, target) in [
        ("GET", format!("{RECOMMENDATIONS}?userId=alice&targetDate={DATE}&roommateId=bob")),
        ("GET", format!("{ARCHETYPE}?userId=alice")),
        ("POST", ARCHETYPE.to_owned()),
        ("PUT", ARCHETYPE.to_owned()),
        ("DELETE", format!("{ARCHETYPE}?userId=alice")),
        ("POST", OUTCOMES.to_owned()),
        ("POST", INGEST.to_owned()),
    ] {
        t.row(
            format!("no credentials: {method} {target}"),
            t.server.request(As::Nobody, method, &target),
            &[401],
        );
    }
    let claims = |name: &str, value: Value| {
        let mut claims = json!({ "role": "authenticated", "sub": "alice", "exp": NOW_SECS + 60 });
        claims[name] = value;
        token(&claims)
    };
    t.bearer("expired 31 s ago", &claims("exp", json!(NOW_SECS - 31)), &[401]);
    t.bearer("expired 29 s ago", &claims("exp", json!(NOW_SECS - 29)), &[200]);
    t.bearer("nbf 31 s ahead", &claims("nbf", json!(NOW_SECS + 31)), &[401]);
    for role in [json!("postgres"), json!("authenticator"), json!(["service_role"]), json!("")] {
        t.bearer(&format!("role {role}"), &claims("role", role), &[401]);
    }
    let good = t.server.token("alice");
    let (message, _) = good.rsplit_once('.').unwrap();
    t.bearer("empty signature", &format!("{message}."), &[401]);
    for header in [r#"{"alg":"none"}"#, r#"{"alg":"None"}"#] {
        use base64::Engine as _;
        let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(header);
        let payload = message.split('.').nth(1).unwrap();
        t.bearer("alg none", &format!("{header}.{payload}."), &[401]);
        t.bearer(
            "alg none, signed",
            &format!("{header}.{payload}.{}", good.rsplit('.').next().unwrap()),
            &[401],
        );
    }
    let beside = t.server.request(As::Anon, "GET", &format!("{ARCHETYPE}?userId=alice")).bearer("a.b.c");
    t.row("invalid JWT beside a valid apikey", beside, &[401]);

    let change = json!({ "userId": "alice", "archetypeType": "big_spender", "reason": "mine" });
    let metadata = claims("user_metadata", json!({ "role": "admin" }));
    let as_admin = t.server.request(As::Nobody, "PUT", ARCHETYPE).bearer(&metadata).json(&change);
    t.row("user_metadata.role = admin", as_admin, &[403]);
    for (caller, statuses) in
        [(As::User("alice"), &[403][..]), (As::User("former"), &[403]), (As::Anon, &[401])]
    {
        let line = format!("{caller:?} changes an archetype");
        t.row(line.clone(), t.server.request(caller, "PUT", ARCHETYPE).json(&change), statuses);
        t.row(
            line.clone(),
            t.server.request(caller, "POST", ARCHETYPE).json(&json!({ "userId": "alice" })),
            statuses,
        );
        t.row(line, t.server.request(caller, "DELETE", &format!("{ARCHETYPE}?userId=alice")), statuses);
    }
}

fn override_bodies(t: &mut Table<'_>) {
    let with = |fields: Value| {
        let mut body = json!({ "userId": "alice", "archetypeType": "big_spender", "reason": "a test" });
        for (name, value) in fields.as_object().unwrap() {
            body[name] = value.clone();
        }
        body.to_string()
    };
    for fields in [
        json!({ "archetypeType": "BIG_SPENDER" }),
        json!({ "archetypeType": null }),
        json!({ "archetypeType": ["big_spender"] }),
        json!({ "role": "admin" }),
        json!({ "override_by": "bob" }),
        json!({ "overrideBy": "bob" }),
        json!({ "userId": null }),
        json!({ "userId": "x,id.not.is.null" }),
        json!({ "userId": ["alice"] }),
        json!({ "reason": null }),
        json!({ "reason": "a\u{0}b" }),
        json!({ "reason": "x".repeat(2_001) }),
        json!({ "reason": ["why"] }),
        json!({ "expiresAt": "infinity" }),
        json!({ "expiresAt": "2020-01-01T00:00:00Z" }),
    ] {
        t.body(&format!("an override with {fields:.60}"), "PUT", ARCHETYPE, with(fields), &[400]);
    }
    t.body(
        "without a reason",
        "PUT",
        ARCHETYPE,
        r#"{"userId":"alice","archetypeType":"big_spender"}"#,
        &[400],
    );
    t.body("an array of the fields", "PUT", ARCHETYPE, r#"["alice","big_spender","a test",null]"#, &[400]);
    t.body("an array of the fields", "POST", ARCHETYPE, r#"["alice"]"#, &[400]);
    t.body(
        "a reason of a megabyte",
        "PUT",
        ARCHETYPE,
        with(json!({ "reason": "x".repeat(1 << 20) })),
        &[413],
    );
    t.body(
        "a reason twice",
        "PUT",
        ARCHETYPE,
        r#"{"userId":"alice","archetypeType":"big_spender","reason":"a","reason":"b"}"#,
        &[400],
    );
}

fn bodies(t: &mut Table<'_>) {
    for (method, target) in [("POST", ARCHETYPE), ("PUT", ARCHETYPE), ("POST", OUTCOMES), ("POST", INGEST)] {
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        let deep_object = format!("{}1{}", r#"{"userId":"#.repeat(10_000), "}".repeat(10_000));
        for (line, body) in [
            ("empty", ""),
            ("null", "null"),
            ("[]", "[]"),
            ("{}", "{}"),
            ("[null]", "[null]"),
            ("a number", "1"),
            ("a string", "\"alice\""),
            ("truncated", "{\"userId\":\"al"),
            ("two values", "{\"userId\":\"alice\"} {\"userId\":\"bob\"}"),
            ("a comma too much", "{\"userId\":\"alice\",}"),
            ("duplicate keys", "{\"userId\":\"alice\",\"userId\":\"alice\"}"),
            ("an unknown field", "{\"userId\":\"alice\",\"admin\":true}"),
            ("depth 10 000", &deep),
            ("depth 10 000 of objects", &deep_object),
            ("a number out of range", "{\"userId\":1e999}"),
            ("NaN", "{\"userId\":NaN}"),
            ("a lone surrogate", "{\"userId\":\"\\ud800\"}"),
            ("a byte order mark", "\u{feff}{\"userId\":\"alice\"}"),
        ] {
            t.body(line, method, target, body, &[400]);
        }
        t.body("no UTF-8", method, target, &b"{\"userId\":\"\xff\xfe\"}"[..], &[400]);
        t.body("five megabytes", method, target, vec![b' '; 5 << 20], &[413]);
        let declared =
            t.server.request(As::Service, method, target).header("content-type", "application/json");
        t.row(
            format!("100 MB declared: {method} {target}"),
            declared.header("content-length", "104857600"),
            &[413],
        );
    }
}

fn facts_and_heads(t: &mut Table<'_>) {
    for price in [
        json!("NaN"),
        json!(-1),
        json!(1e12),
        json!("1e400"),
        json!(0),
        json!("infinity"),
        json!(null),
        json!(""),
    ] {
        let record = json!({ "lease_id": "home", "night": "2026-06-01", "base_price": price });
        let spoiled = json!([profile("zoe", "member", false), insert("lease_nights", record)]);
        t.body(&format!("a night's price of {price}"), "POST", INGEST, spoiled.to_string(), &[400]);
    }
    let headers = (0..1_000)
        .fold(t.server.request(As::Service, "GET", &format!("{ARCHETYPE}?userId=alice")), |r, i| {
            r.header(&format!("x-h{i}"), "v")
        });
    t.row("1000 headers", headers, &[431]);
}

#[test]
fn every_line_of_the_table_gets_its_answer_and_writes_nothing() {
    let server = Harness::with(&[("NUDGE_BODY_TIMEOUT_MS", "500")]);
    server.seed(facts::home());
    server.seed([profile("former", "admin", false)]);
    let read_as_admin = server.archetype(As::User("former"), "alice");
    assert_eq!(read_as_admin.status, 200);
    server.archetype(As::User("alice"), "alice").ok(); // Stored, so that reading it again writes nothing.
    server.seed([profile("former", "member", false)]);
    let mut table = Table { server: &server, rows: Vec::new() };
    ids_and_queries(&mut table);
    callers(&mut table);
    override_bodies(&mut table);
    bodies(&mut table);
    facts_and_heads(&mut table);
    assert!(table.rows.len() > 180, "{} rows", table.rows.len());
    let before = server.contents();
    for Row { line, request, statuses } in table.rows {
        let answer = request.send();
        assert!(statuses.contains(&answer.status), "{line}: {} {}", answer.status, answer.text());
        server.contents().are_still(&before, &line);
    }
    // A body that never ends.
    for (method, target) in [("POST", ARCHETYPE), ("PUT", ARCHETYPE), ("POST", OUTCOMES), ("POST", INGEST)] {
        let head = server.request(As::Service, method, target).header("content-type", "application/json");
        let mut stream = connect(server.address);
        stream.write_all(head.header("transfer-encoding", "chunked").head().as_bytes()).unwrap();
        stream.write_all(b"2\r\n[{\r\n").unwrap();
        read_answer(&mut stream, false).unwrap().refused(408, "timeout");
        server.contents().are_still(&before, "what should change nothing");
    }
}

#[test]
fn a_script_as_reason_is_stored_as_it_is() {
    let server = Harness::with_home();
    let reason = "<script>alert('hi')</script>";
    let body = json!({ "userId": "alice", "archetypeType": "big_spender", "reason": reason });
    server.put(As::Service, ARCHETYPE, &body).ok();
    let stored = server.rows("SELECT override_reason FROM user_archetypes");
    assert_eq!(stored, [[Some(reason.to_owned())]]);
}

#[test]
fn the_audit_log_refuses_to_be_changed_and_its_chain_verifies() {
    let server = Harness::with_home();
    let body = json!({ "userId": "alice", "archetypeType": "big_spender", "reason": "a test" });
    for _ in 0..3 {
        server.put(As::Service, ARCHETYPE, &body).ok();
    }
    for sql in [
        "UPDATE admin_audit_log SET admin_id = 'me'",
        "UPDATE admin_audit_log SET admin_id = 'me' WHERE id = 2",
        "DELETE FROM admin_audit_log",
        "DELETE FROM admin_audit_log WHERE id = 3",
        "INSERT INTO admin_audit_log SELECT id + 5, admin_id, actor_role, action, target_user_id, metadata, ip_address,
           user_agent, created_at, prev_hash, hash FROM admin_audit_log WHERE id = 3",
    ] {
        assert!(server.sql(sql, sql).is_err(), "{sql}");
    }
    let report = server.block_on(server.app.store.verify_audit(None)).unwrap();
    assert_eq!((report.entries, report.broken), (3, None));
}
