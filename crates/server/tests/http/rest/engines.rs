//! Both engines give the same answer to the same request: status, headers that carry meaning, and the body to the byte.
//! Where they do not, it is said here and in docs/DATABASE.md.

use regex::Regex;
use serde_json::json;

use super::{archetype, override_archetype, populate, table};
use crate::support::{As, Harness, Response};

const CALLERS: [As<'static>; 5] =
    [As::Anon, As::User("alice"), As::User("stranger"), As::User("root"), As::Service];

struct Both {
    file: Harness,
    server: Harness,
    varying: Regex,
}

impl Both {
    fn start() -> Self {
        let file = populate(Harness::embedded(&[]));
        let server = populate(Harness::on_postgres());
        for harness in [&file, &server] {
            let scores = json!({ "ä": "ÄÖ", "n": 1e-7, "list": ["x", null, 2.50], "deep": { "b": 1, "aa": 2, "a": 3 } });
            archetype(harness, "elise", nudge_engine::Archetype::AverageUser, 0.4, &["É", "nul\tab"], scores);
            override_archetype(harness, "zoe", "été à Zürich", None);
            let alike = "UPDATE recommendation_logs SET response_time_ms = 1";
            harness.sql(alike, alike).unwrap();
        }
        // Ids and hashes differ from run to run; times of writing are the database's own.
        let varying = Regex::new(
            r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{64}|20\d\d-\d\d-\d\d[T ]\d\d:\d\d:\d\d\.\d{1,6}",
        );
        Self { file, server, varying: varying.unwrap() }
    }

    fn send(&self, caller: As<'_>, method: &str, target: &str, headers: &[(&str, &str)]) -> [Response; 2] {
        [&self.file, &self.server].map(|harness| {
            let mut request = harness.request(caller, method, target);
            for (name, value) in headers {
                request = request.header(name, value);
            }
            request.send()
        })
    }

    fn told(&self, answer: &Response) -> String {
        let names = [
            "content-type",
            "content-range",
            "preference-applied",
            "vary",
            "allow",
            "www-authenticate",
            "retry-after",
        ];
        let headers: Vec<_> =
            names.iter().filter_map(|name| answer.header(name).map(|v| format!("{name}: {v}"))).collect();
        let body = [&self.file, &self.server]
            .iter()
            .fold(answer.text(), |text, harness| text.replace(&harness.address.to_string(), "host"));
        let body = self.varying.replace_all(&body, "…");
        format!("{} {}\n{body}", answer.status, headers.join("; "))
    }

    #[track_caller]
    fn same(&self, caller: As<'_>, method: &str, target: &str, headers: &[(&str, &str)]) -> u16 {
        let [file, server] = self.send(caller, method, target, headers);
        assert_eq!(self.told(&file), self.told(&server), "{caller:?} {method} {target} {headers:?}");
        file.status
    }
}

#[test]
fn the_matrix_of_callers_tables_verbs_and_rows_is_the_same() {
    let both = Both::start();
    let mut answers = 0;
    for table_name in nudge_store::rights::exposed_tables().chain(["nudge_stale_users", "pg_class"]) {
        for caller in CALLERS {
            for method in ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"] {
                both.same(caller, method, &table(table_name, "select=*"), &[("prefer", "count=exact")]);
                answers += 1;
            }
            for accept in ["text/csv", "application/vnd.pgrst.array+json;nulls=stripped"] {
                both.same(caller, "GET", &table(table_name, "limit=3&offset=1"), &[("accept", accept)]);
            }
        }
    }
    assert_eq!(answers, 13 * 5 * 7);
    for caller in CALLERS {
        for target in ["/rest/v1/", "/rest/v1/rpc/x", "/rest/v1/a/b"] {
            both.same(caller, "GET", target, &[]);
        }
    }
}

#[test]
fn filters_orders_casts_and_refusals_are_the_same() {
    let both = Both::start();
    let mut ok = 0;
    for query in [
        "select=user_id,scores->deep,scores->>deep,scores->list->-1,scores->>ä",
        "select=scores::text,reasoning::text,confidence::text,computed_at::text,is_manual_override::text",
        "select=confidence::int,confidence::bigint,confidence::float8,confidence::numeric,is_manual_override::int",
        "select=computed_at::date,override_expires_at::timestamptz,scores::json,reasoning->>0",
        "select=x:scores->n::numeric,y:scores->list->2::int,z:scores->list->>2::float8&user_id=eq.elise",
        "select=scores->deep::int",
        "select=user_id::int",
        "select=user_id::numeric",
        "select=user_id::boolean",
        "select=user_id::date",
        "select=user_id::timestamptz",
        "select=user_id::json",
        "select=user_id::jsonb",
        "select=scores::date",
        "select=reasoning::json",
        "select=confidence::boolean",
        "select=computed_at::int",
        "select=user_id::xml",
        "select=confidence,confidence,c:confidence",
        "order=reasoning.desc.nullslast,user_id",
        "order=scores,user_id.desc",
        "order=scores->deep->b.nullsfirst",
        "order=scores->>ä.desc",
        "order=confidence.desc,user_id.desc&limit=2&offset=1",
        "order=override_expires_at.desc",
        "override_reason=ilike.ÉTÉ*",
        "override_reason=ilike.*à ZÜ*",
        "user_id=like.*li_e",
        "user_id=match.^[a-c].*[[:alpha:]]$",
        "override_reason=match.^.t. .*$",
        "user_id=imatch.LISE",
        "user_id=match.",
        "reasoning=cs.{É}",
        "reasoning=cd.{}",
        "reasoning=ov.{É,two}",
        "reasoning=gt.{a}",
        "reasoning=isdistinct.{}",
        "scores=gt.{}",
        "scores=lt.[]",
        "scores=cs.{\"deep\":{\"a\":3.0}}",
        "scores->n=eq.0.0000001",
        "scores->>n=eq.0.0000001",
        "scores->list=cs.\"x\"",
        "scores->list=in.([\"x\",null,2.5],1)",
        "confidence=in.(0.40,0.670000,7e-1)",
        "confidence=gt.-1e900",
        "confidence=gte.0.665",
        "confidence=gt.1e5000",
        "computed_at=gte.2026-03-09T11:00:00+01",
        "computed_at=eq.2026-03-09",
        "computed_at=eq.tomorrow",
        "is_manual_override=is.unknown",
        "is_manual_override=gt.f",
        "is_manual_override=eq.2",
        "override_reason=isdistinct.asked for it",
        "override_reason=not.eq.x",
        "not.and=(override_reason.eq.x,user_id.eq.bob)",
        "or=(override_reason.eq.x,override_reason.is.null)",
        "user_id=eq(any).{bob,NULL}",
        "user_id=not.eq(any).{bob,NULL}",
        "user_id=eq(all).{bob,NULL}",
        "user_id=eq(any).{}",
        "user_id=eq(all).{}",
        "user_id=in.()",
        "user_id=not.in.()",
        "override_reason=in.(x)",
        "override_reason=not.in.(x)",
        "user_id=like.a\\",
        "user_id=eq.%00",
        "user_id=eq.a%20b",
        "policy=is.true",
        "confidence=like.1",
        "nope=eq.1",
        "select=nope",
        "select=leases(*)",
        "limit=0",
        "limit=-1",
        "offset=100",
    ] {
        for headers in [&[][..], &[("prefer", "count=exact")], &[("accept", "text/csv")]] {
            let status = both.same(As::Service, "GET", &table("user_archetypes", query), headers);
            ok += usize::from(matches!(status, 200 | 206));
        }
        both.same(As::Service, "HEAD", &table("user_archetypes", query), &[("prefer", "count=exact")]);
    }
    assert!(ok > 150, "{ok}");
    for query in [
        "select=days_until_checkin,propensity,confidence,options->0->>type,target_date,nps_score&order=user_id",
        "id=eq.{019CD20A0D00-7000-8000-000000000001}",
        "id=eq.x",
        "id=like.x*",
        "nps_score=eq.99999999999",
        "nps_score=lt.1e1",
        "propensity=eq.1&order=user_id.desc",
        "propensity=lt.1e-400",
        "target_date=eq.2026-3-16",
        "target_date=gt.2026-02-30",
        "days_until_checkin=not.eq.7",
        "order=created_at.desc&select=user_id",
        "select=propensity::int,propensity::numeric,propensity::text,target_date::timestamptz,target_date::text",
        "personalized=is.true&select=user_id,context->snapshot->personal->requester->archetype",
    ] {
        for caller in [As::Service, As::User("alice")] {
            both.same(caller, "GET", &table("recommendation_logs", query), &[("prefer", "count=exact")]);
        }
    }
}

#[test]
fn the_known_differences_are_just_these() {
    let both = Both::start();
    let [file, server] =
        both.send(As::Service, "GET", &table("user_archetypes", "user_id=match.(.)\\1"), &[]);
    file.refused(400, "2201B");
    server.ok();
    // A word boundary has another name, and letters beyond ASCII are none to PostgreSQL's classes and case folding here.
    for (filter, on_file, on_server) in [
        ("user_id=match.\\bbob\\b", json!([{ "user_id": "bob" }]), json!([])),
        ("override_reason=match.^\\w\\w\\w ", json!([{ "user_id": "zoe" }]), json!([])),
        ("override_reason=imatch.ÉTÉ", json!([{ "user_id": "zoe" }]), json!([])),
    ] {
        let [file, server] = both.send(
            As::Service,
            "GET",
            &table("user_archetypes", &format!("{filter}&select=user_id")),
            &[],
        );
        assert_eq!((file.ok(), server.ok()), (on_file, on_server), "{filter}");
    }
    // SQLite has no estimate, and counts.
    let [file, server] = both.send(
        As::Service,
        "HEAD",
        &table("date_change_requests", "status=eq.accepted"),
        &[("prefer", "count=planned")],
    );
    assert_eq!(file.header("content-range"), Some("0-7/8"));
    let planned = server.header("content-range").unwrap();
    assert!(planned.starts_with("0-7/") && !planned.ends_with('*'), "{planned}");
}
