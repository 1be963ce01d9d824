//! What is refused: the specification's table of errors, and its lines of bad input that are about `/rest/v1`.

use serde_json::{Value, json};

use super::{populated, table};
use crate::support::{As, NOW_SECS, PUBLISHABLE, SECRET_KEY, token};

#[test]
fn each_refusal_has_its_status_code_and_words() {
    let server = populated();
    let read = |query: &str| server.get(As::Service, &table("user_archetypes", query));
    for (query, status, code, message) in [
        ("nope=eq.x", 400, "42703", "column user_archetypes.nope does not exist"),
        ("select=nope", 400, "42703", "column user_archetypes.nope does not exist"),
        ("order=nope", 400, "42703", "column user_archetypes.nope does not exist"),
        ("or=(user_id.eq.a,nope.is.null)", 400, "42703", "column user_archetypes.nope does not exist"),
        ("user_id=eqq.1", 400, "PGRST100", "\"failed to parse filter (eqq.1)\" (line 1, column 1)"),
        ("select=a,", 400, "PGRST100", "\"failed to parse select parameter (a,)\" (line 1, column 3)"),
        ("order=a.up", 400, "PGRST100", "\"failed to parse order (a.up)\" (line 1, column 5)"),
        ("or=(a.eq.1", 400, "PGRST100", "\"failed to parse logic tree (or(a.eq.1)\" (line 1, column 10)"),
        ("confidence=eq.high", 400, "22P02", "invalid input syntax for type numeric: \"high\""),
        ("confidence=eq.NaN", 400, "22P02", "invalid input syntax for type numeric: \"NaN\""),
        ("is_manual_override=eq.maybe", 400, "22P02", "invalid input syntax for type boolean: \"maybe\""),
        ("scores=eq.{a}", 400, "22P02", "invalid input syntax for type json"),
        ("reasoning=cs.a", 400, "22P02", "malformed array literal: \"a\""),
        (
            "computed_at=gt.now",
            400,
            "22007",
            "invalid input syntax for type timestamp with time zone: \"now\"",
        ),
        (
            "computed_at=gt.infinity",
            400,
            "22007",
            "invalid input syntax for type timestamp with time zone: \"infinity\"",
        ),
        ("user_id=eq.%00", 400, "22021", "invalid byte sequence for encoding \"UTF8\": 0x00"),
        ("user_id=like.a\\", 400, "22025", "LIKE pattern must not end with escape character"),
        ("select=user_id::regclass", 400, "42704", "type \"regclass\" does not exist"),
        ("select=user_id::varchar", 400, "42704", "type \"varchar\" does not exist"),
        ("select=is_manual_override::bigint", 400, "42846", "cannot cast type boolean to bigint"),
        ("select=user_id::int", 400, "22P02", "invalid input syntax for type integer: \"alice\""),
        ("confidence=like.0*", 404, "42883", "operator does not exist: numeric ~~ unknown"),
        ("user_id=is.true", 400, "42804", "argument of IS TRUE must be type boolean, not type text"),
        ("select=user_id->a", 404, "42883", "operator does not exist: text -> unknown"),
        (
            "select=leases(*)",
            400,
            "PGRST200",
            "Could not find a relationship between 'user_archetypes' and 'leases' in the schema cache",
        ),
        ("select=confidence.avg()", 400, "PGRST123", "Use of aggregate functions is not allowed"),
        ("select=count()", 400, "PGRST123", "Use of aggregate functions is not allowed"),
        ("leases.name=eq.x", 400, "PGRST108", "'leases' is not an embedded resource in this request"),
        ("limit=-1", 416, "PGRST103", "Requested range not satisfiable"),
        ("offset=-1", 416, "PGRST103", "Requested range not satisfiable"),
    ] {
        let body = read(query).refused(status, code);
        assert_eq!(body["message"], message, "{query}");
    }
    assert_eq!(read("user_id=match.(").refused(400, "2201B")["details"], Value::Null);
    let integers = |query: &str| server.get(As::Service, &table("recommendation_logs", query));
    assert_eq!(
        integers("nps_score=eq.99999999999").refused(400, "22003")["message"],
        "value \"99999999999\" is out of range for type integer"
    );
    for date in ["yesterday", "today", "2026-02-30", "20260315", "-infinity", ""] {
        integers(&format!("target_date=eq.{date}")).refused(400, "22007");
    }
    assert_eq!(
        read("user_id=eqq.1").json(),
        json!({
            "code": "PGRST100",
            "message": "\"failed to parse filter (eqq.1)\" (line 1, column 1)",
            "details": "unexpected \"e\" expecting \"not\" or operator (eq, gt, ...)",
            "hint": null,
        })
    );
}

#[test]
fn paths_methods_and_schemas_are_refused_as_postgrest_does() {
    let server = populated();
    for (target, code, message) in [
        ("/rest/v1/nope", "PGRST205", "Could not find the table 'public.nope' in the schema cache"),
        (
            "/rest/v1/nudge_stale_users",
            "PGRST205",
            "Could not find the table 'public.nudge_stale_users' in the schema cache",
        ),
        (
            "/rest/v1/pg_class?select=*",
            "PGRST205",
            "Could not find the table 'public.pg_class' in the schema cache",
        ),
        ("/rest/v1/rpc/sum?a=1", "PGRST202", "Could not find the function public.sum in the schema cache"),
        ("/rest/v1/profiles/1", "PGRST125", "Invalid path specified in request URL"),
        ("/rest/v1/rpc/a/b", "PGRST125", "Invalid path specified in request URL"),
        (
            "/rest/v1/nope?select=leases(*)",
            "PGRST205",
            "Could not find the table 'public.nope' in the schema cache",
        ),
    ] {
        for caller in [As::Anon, As::User("alice"), As::Service] {
            assert_eq!(server.get(caller, target).refused(404, code)["message"], message);
        }
    }
    server.post(As::Service, "/rest/v1/rpc/sum", &json!({ "a": 1 })).refused(404, "PGRST202");
    for schema in ["auth", "nudge", "", "public, auth"] {
        let target = table("profiles", "select=*");
        let answer = server.request(As::Service, "GET", &target).header("accept-profile", schema).send();
        let body = answer.refused(406, "PGRST106");
        assert_eq!(body["message"], format!("Invalid schema: {schema}"));
        assert_eq!(body["hint"], "Only the following schemas are exposed: public");
    }
    let target = table("profiles", "select=id");
    assert_eq!(
        server.request(As::Service, "GET", &target).header("accept-profile", "public").send().status,
        200
    );
    for method in ["POST", "PUT", "PATCH", "DELETE", "TRACE"] {
        let answer = server.request(As::Service, method, "/rest/v1/").send();
        answer.refused(405, "PGRST117");
        assert_eq!(answer.header("allow"), Some("OPTIONS,GET,HEAD"));
    }
    for target in ["/rest/v1/profiles", "/rest/v1/", "/rest/v1/nope"] {
        let answer =
            server.request(As::Nobody, "OPTIONS", target).header("origin", "https://app.example").send();
        assert_eq!((answer.status, answer.header("allow")), (200, Some("OPTIONS,GET,HEAD")));
    }
}

#[test]
fn one_row_means_one() {
    let server = populated();
    for (query, rows) in [("user_id=eq.nobody", 0), ("", 3)] {
        for method in ["GET", "HEAD"] {
            let target = table("user_archetypes", query);
            let answer = server
                .request(As::Service, method, &target)
                .header("accept", "application/vnd.pgrst.object+json")
                .send();
            assert_eq!(answer.status, 406);
            if method == "GET" {
                assert_eq!(
                    answer.json(),
                    json!({
                        "code": "PGRST116",
                        "message": "Cannot coerce the result to a single JSON object",
                        "details": format!("The result contains {rows} rows"),
                        "hint": null,
                    })
                );
            }
        }
    }
}

#[test]
fn headers_that_cannot_be_followed_are_refused() {
    let server = populated();
    let send = |name: &str, value: &str| {
        server.request(As::Service, "GET", &table("profiles", "select=id")).header(name, value).send()
    };
    let media = send("accept", "application/xml").refused(406, "PGRST107");
    assert_eq!(media["message"], "None of these media types are available: application/xml");
    let range = send("range", "5-1").refused(416, "PGRST103");
    assert_eq!(
        range["details"],
        "The lower boundary must be lower than or equal to the upper boundary in the Range header."
    );
    let strict = send("prefer", "handling=strict, nonsense").refused(400, "PGRST122");
    assert_eq!(strict["details"], "Invalid preferences: nonsense");
    assert_eq!(send("prefer", "nonsense").status, 200);
}

#[test]
fn credentials_are_refused_in_postgrests_form() {
    let server = populated();
    let target = table("profiles", "select=id");
    let bearer = |token: &str| server.request(As::Nobody, "GET", &target).bearer(token).send();
    let claims = |role: &str, exp: i64| token(&json!({ "role": role, "sub": "alice", "exp": exp }));
    for (token, code, message) in [
        (claims("authenticated", NOW_SECS - 31), "PGRST303", Some("JWT expired")),
        (
            token(
                &json!({ "role": "authenticated", "sub": "alice", "exp": NOW_SECS + 600, "nbf": NOW_SECS + 300 }),
            ),
            "PGRST303",
            Some("JWT not yet valid"),
        ),
        (format!("{}x", claims("authenticated", NOW_SECS + 60)), "PGRST301", None),
        ("nonsense".to_owned(), "PGRST301", None),
        (claims("postgres", NOW_SECS + 60), "PGRST303", None),
        (token(&json!({ "role": ["service_role"], "exp": NOW_SECS + 60 })), "PGRST303", None),
        (claims("", NOW_SECS + 60), "PGRST303", None),
    ] {
        let answer = bearer(&token);
        let body = answer.refused(401, code);
        assert_eq!(answer.header("www-authenticate"), Some("Bearer error=\"invalid_token\""), "{token}");
        if let Some(message) = message {
            assert_eq!(body["message"], message);
        }
    }
    assert_eq!(bearer(&claims("authenticated", NOW_SECS - 29)).status, 200);
    let beside = server.request(As::Anon, "GET", &target).bearer("nonsense").send();
    beside.refused(401, "PGRST301");
    let nobody = server.get(As::Nobody, &target);
    assert_eq!(
        (nobody.status, nobody.json()["message"].as_str()),
        (401, Some("No API key found in request"))
    );
    assert!(nobody.json()["hint"].is_string());
    let in_the_query = server.get(As::Nobody, &table("profiles", &format!("apikey={}", server.anon)));
    assert_eq!(in_the_query.status, 401);
    let unknown =
        server.request(As::Nobody, "GET", &target).header("apikey", "sb_publishable_unknown").send();
    assert_eq!((unknown.status, unknown.json()["message"].as_str()), (401, Some("Invalid API key")));
    // As the client sends a publishable key without a session.
    let both =
        server.request(As::Nobody, "GET", &target).bearer(PUBLISHABLE).header("apikey", PUBLISHABLE).send();
    both.refused(401, "42501");
    let secret = server.request(As::Nobody, "GET", &target).bearer(SECRET_KEY).header("apikey", SECRET_KEY);
    assert_eq!(secret.clone().send().status, 200);
    assert_eq!(secret.header("origin", "https://app.example").send().status, 401);
}

#[test]
fn bad_input_is_refused_or_taken_literally_and_nothing_breaks() {
    let server = populated();
    let before = server.contents();
    let deep = format!("or=({}a.eq.1{})", "or(".repeat(2_000), ")".repeat(2_000));
    let wide = format!("or=({})", vec!["user_id.eq.1"; 1_000].join(","));
    for (query, status) in [
        (deep.as_str(), 400),
        (&wide, 400),
        ("or=(((((((", 400),
        ("or=)))))", 400),
        ("or=(user_id.eq.a", 400),
        ("user_id=eq.';+drop+table+user_archetypes;--", 200),
        ("user_id=eq.'+or+'1'='1", 200),
        ("user_id=in.(');+drop+table+x;--)", 400),
        ("user_id=like.*'*", 200),
        ("user_id=match.'", 200),
        ("scores->>'a'=eq.1", 400),
        ("scores->>\"'a\"=eq.1", 200),
        ("select=\"';drop\":user_id", 200),
        ("order=user_id;drop", 400),
        ("order=user_id+desc", 400),
        ("select=pg_sleep(5)", 400),
        ("select=user_id,(select+1)", 400),
        ("select=(select+1)", 400),
        ("user_id)=eq.1", 400),
        ("\"user_id\")--\"=eq.1", 400),
        ("\"user_id)--\"=eq.1", 400),
        ("limit=-1", 416),
        ("limit=99999999999999999999", 200),
        ("limit=1;drop", 400),
        ("offset=99999999999999999999", 200),
        ("user_id=eq.%FF%FE", 200),
        ("user_id=eq.%F0%9F%98%80", 200),
        ("user_id=cs.{a}", 404),
        ("confidence=gt.1e1000000000", 400),
        ("confidence=gt.1e900", 200),
        ("confidence=gt.-1e900", 200),
        ("user_id=imatch.(a{1000}){1000}", 400),
        ("user_id=match.(a*)*b", 200),
    ] {
        let answer = server.get(As::Service, &table("user_archetypes", query));
        assert_eq!(answer.status, status, "{query:.100}: {}", answer.text());
    }
    server.contents().are_still(&before, "bad input");
}

#[test]
fn a_url_may_have_sixteen_kibibytes() {
    let server = populated();
    let of_length = |length: usize| {
        let start = "/rest/v1/user_archetypes?user_id=in.(";
        let mut target = format!("{start}{}", "a,".repeat((length - start.len()) / 2));
        target.truncate(length - 1);
        target.push(')');
        assert_eq!(target.len(), length);
        target
    };
    assert_eq!(server.get(As::Service, &of_length(16 * 1024)).status, 200);
    server.get(As::Service, &of_length(16 * 1024 + 1)).refused(414, "uri_too_long");
}

#[test]
fn a_database_that_is_away_is_503_and_an_unreadable_row_is_500() {
    let server = populated();
    let target = table("user_archetypes", "select=scores");
    server
        .sql(
            "PRAGMA ignore_check_constraints = ON; UPDATE user_archetypes SET scores = 'x' WHERE user_id = 'bob'",
            "ALTER TABLE public.user_archetypes RENAME COLUMN scores TO points",
        )
        .unwrap();
    let body = server.get(As::Service, &target).refused(500, "XX000");
    assert!(!body.to_string().contains("scores"));
    server.block_on(server.app.store.close());
    let away = server.get(As::Service, &target);
    away.refused(503, "PGRST000");
    assert_eq!(away.header("retry-after"), Some("1"));
}
