//! What is answered: rows, their form, and the headers around them.

use serde_json::{Value, json};

use super::{column, populated, table};
use crate::support::{As, Response};

fn range(answer: &Response) -> &str {
    answer.header("content-range").unwrap()
}

#[test]
fn a_plain_read_has_the_headers_of_postgrest() {
    let server = populated();
    let answer = server.get(As::User("alice"), &table("profiles", "select=*"));
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"));
    assert_eq!(range(&answer), "0-0/*");
    assert_eq!(answer.header("vary"), Some("Accept, Prefer, Range"));
    assert_eq!(answer.header("preference-applied"), None);
    let created = answer.ok()[0]["created_at"].clone();
    assert_eq!(
        answer.text(),
        format!(
            r#"[{{"id":"alice","role":"member","personalization_opt_out":false,"created_at":{created}}}]"#
        )
    );
    assert_eq!(range(&server.get(As::User("alice"), &table("profiles", "id=eq.bob"))), "*/*");
}

#[test]
fn values_are_printed_as_json_agg_prints_them() {
    let server = populated();
    let rows = server.get(
        As::Service,
        &table("lease_nights", "lease_id=eq.other&select=night,base_price,market_demand,held_by"),
    );
    assert_eq!(
        rows.text(),
        r#"[{"night":"2026-03-16","base_price":99.50,"market_demand":0.9500,"held_by":null}]"#
    );
    let select =
        "select=confidence,reasoning,scores,is_manual_override,override_expires_at&user_id=in.(bob,carol)";
    let rows = server.get(As::Service, &table("user_archetypes", select));
    assert_eq!(
        rows.text(),
        concat!(
            r#"[{"confidence":0.67,"reasoning":["one","two, three","\"four\""],"scores":{"a": 1.5, "b": [1, null]},"#,
            r#""is_manual_override":false,"override_expires_at":null}, "#,
            "\n ",
            r#"{"confidence":1.00,"reasoning":[],"scores":{},"is_manual_override":true,"#,
            r#""override_expires_at":"2026-12-31T23:59:59.5+00:00"}]"#
        )
    );
}

#[test]
fn selects_name_cast_and_look_inside() {
    let server = populated();
    let read = |select: &str| {
        let target = table("user_archetypes", &format!("user_id=eq.bob&select={select}"));
        server.get(As::Service, &target).ok()[0].clone()
    };
    assert_eq!(read("who:user_id,user_id"), json!({ "who": "bob", "user_id": "bob" }));
    assert_eq!(read("scores->b->>0,x:scores->b->0"), json!({ "b": "1", "x": 1 }));
    assert_eq!(read("scores->a,scores->>a::numeric,scores->nothing"), json!({ "a": 1.5, "nothing": null }));
    assert_eq!(read("reasoning->1,reasoning->>-1"), json!({ "reasoning": "\"four\"" }));
    assert_eq!(
        read("c:confidence::text,i:confidence::int,f:confidence::float8,r:reasoning::text"),
        json!({ "c": "0.67", "i": 1, "f": 0.67, "r": r#"{one,"two, three","\"four\""}"# })
    );
    assert_eq!(
        read(
            "b:is_manual_override::text,n:is_manual_override::integer,d:computed_at::date,t:computed_at::text,s:scores::text"
        ),
        json!({ "b": "false", "n": 0, "d": "2026-03-09", "t": "2026-03-09 10:00:00+00", "s": r#"{"a": 1.5, "b": [1, null]}"# })
    );
    assert_eq!(read("\"odd name, really\":policy"), json!({ "odd name, really": "rules-v1" }));
    assert_eq!(read("*").as_object().unwrap().len(), 14);
    assert_eq!(read(""), read("*"));
    let columns: Vec<_> = read("*,again:policy").as_object().unwrap().keys().cloned().collect();
    assert_eq!(columns.len(), 15);
}

#[test]
fn every_operator_finds_its_rows() {
    let server = populated();
    let found = |filter: &str| {
        let target = table("user_archetypes", &format!("select=user_id&order=user_id&{filter}"));
        column(&server.get(As::Service, &target).ok(), "user_id").join(" ")
    };
    for (filter, users) in [
        ("user_id=eq.bob", "bob"),
        ("user_id=neq.bob", "alice carol"),
        ("confidence=gt.0.67", "alice carol"),
        ("confidence=gte.0.67", "alice bob carol"),
        ("confidence=lt.0.675", "bob"),
        ("confidence=lte.0.669", ""),
        ("confidence=eq.0.670", "bob"),
        ("confidence=eq.0.6700001", ""),
        ("confidence=neq.0.6700001", "alice bob carol"),
        ("confidence=in.(0.67,1,3)", "bob carol"),
        ("user_id=in.(bob,\"carol\",\"a,b\")", "bob carol"),
        ("user_id=in.()", ""),
        ("user_id=not.in.(bob)", "alice carol"),
        ("override_reason=is.null", "alice bob"),
        ("override_reason=not.is.null", "carol"),
        ("override_reason=is.not_null", "carol"),
        ("is_manual_override=is.true", "carol"),
        ("is_manual_override=is.false", "alice bob"),
        ("is_manual_override=is.unknown", ""),
        ("is_manual_override=eq.t", "carol"),
        ("override_reason=isdistinct.asked for it", "alice bob"),
        ("override_reason=not.isdistinct.asked for it", "carol"),
        ("override_reason=neq.x", "carol"),
        ("user_id=like.*o*", "bob carol"),
        ("user_id=like.b%25", "bob"),
        ("user_id=like._o_", "bob"),
        ("user_id=like.B*", ""),
        ("user_id=ilike.B*", "bob"),
        ("user_id=match.^(a|c)", "alice carol"),
        ("user_id=imatch.O$", ""),
        ("user_id=imatch.OL$", "carol"),
        ("reasoning=cs.{one}", "bob"),
        ("reasoning=cs.{one,\"two, three\"}", "bob"),
        ("reasoning=cd.{one,\"two, three\",\"\\\"four\\\"\",five}", "bob carol"),
        ("reasoning=ov.{five,one}", "bob"),
        ("reasoning=eq.{}", "carol"),
        ("scores=cs.{\"a\":1.50}", "bob"),
        ("scores=cd.{\"a\":1.5,\"b\":[1,null],\"c\":2}", "bob carol"),
        ("scores=eq.{\"b\":[1,null],\"a\":1.500}", "bob"),
        ("scores->a=gte.1.5", "bob"),
        ("scores->>a=eq.1.5", "bob"),
        ("scores->b->>0=eq.1", "bob"),
        ("scores->b->1=eq.null", "bob"),
        ("scores->b->>1=is.null", "alice bob carol"),
        ("user_id=eq(any).{bob,carol}", "bob carol"),
        ("user_id=like(all).{*o*,*b}", "bob"),
        ("computed_at=gt.2026-03-09T09:59:59.999Z&user_id=neq.alice", "bob carol"),
        ("override_expires_at=eq.2027-01-01T01:59:59.5%2B02:00", "carol"),
        ("override_expires_at=gt.2026-12-31", "carol"),
        ("or=(user_id.eq.bob,and(confidence.gte.1,is_manual_override.is.true))", "bob carol"),
        ("not.or=(user_id.eq.bob,user_id.eq.carol)", "alice"),
        ("and=(user_id.in.(bob,carol),reasoning.cs.{one})", "bob"),
        ("or=(override_reason.eq.\"asked for it\",user_id.not.neq.bob)", "bob carol"),
        ("user_id=gt.alice&user_id=lt.carol", "bob"),
        ("archetype_type=not.eq.big_spender", "bob"),
    ] {
        assert_eq!(found(filter), users, "{filter}");
    }
}

#[test]
fn orders_and_pages_are_those_asked_for() {
    let server = populated();
    let found = |query: &str| {
        column(&server.get(As::Service, &table("date_change_requests", query)).ok(), "id").join(" ")
    };
    assert_eq!(found("order=status.desc,id.desc&limit=3&select=id"), "bob-got-9 bob-got-8 bob-got-7");
    assert_eq!(found("order=id&limit=2&offset=9"), "bob-got-8 bob-got-9");
    assert_eq!(found("limit=0"), "");
    assert_eq!(found("order=responded_at.nullsfirst,proposed_price.desc&limit=1"), "bob-got-0");
    let by_score = |query: &str| {
        column(&server.get(As::Service, &table("user_archetypes", query)).ok(), "user_id").join(" ")
    };
    assert_eq!(by_score("order=override_reason,user_id.desc"), "carol bob alice");
    assert_eq!(by_score("order=override_reason.desc,user_id.desc"), "bob alice carol");
    assert_eq!(by_score("order=override_reason.desc.nullslast"), "carol alice bob");
    assert_eq!(by_score("order=scores->a.nullslast&select=user_id&limit=1"), "bob");
    assert_eq!(by_score("order=reasoning.asc&limit=1"), "carol");
    assert_eq!(by_score("order=scores&limit=1"), "carol");
}

#[test]
fn counts_and_ranges_are_told() {
    let server = populated();
    let read = |method: &str, query: &str, headers: &[(&str, &str)]| {
        let target = table("date_change_requests", query);
        let mut request = server.request(As::Service, if method == "HEAD" { "HEAD" } else { "GET" }, &target);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        request.send()
    };
    let exact = ("prefer", "count=exact");
    for (method, query, headers, status, expected) in [
        ("GET", "", vec![], 200, "0-10/*"),
        ("GET", "", vec![exact], 200, "0-10/11"),
        ("GET", "limit=5", vec![exact], 206, "0-4/11"),
        ("GET", "limit=5&offset=8", vec![exact], 206, "8-10/11"),
        ("GET", "offset=8&limit=5", vec![], 200, "8-10/*"),
        ("GET", "offset=11", vec![exact], 206, "*/11"),
        ("GET", "limit=0", vec![exact], 206, "*/11"),
        ("GET", "offset=50", vec![], 200, "*/*"),
        ("GET", "id=eq.none", vec![exact], 200, "*/0"),
        ("GET", "status=eq.accepted", vec![("prefer", "count=planned")], 200, "0-7/8"),
        ("GET", "status=eq.accepted", vec![("prefer", "count=estimated")], 200, "0-7/8"),
        ("GET", "", vec![("range-unit", "items"), ("range", "0-3")], 200, "0-3/*"),
        ("GET", "", vec![("range", "2-3"), exact], 206, "2-3/11"),
        ("GET", "", vec![("range", "9-"), exact], 206, "9-10/11"),
        ("GET", "limit=3&offset=2", vec![("range", "0-3")], 200, "2-3/*"),
        ("GET", "", vec![("range", "bytes=0-3")], 200, "0-10/*"),
        ("HEAD", "", vec![exact], 200, "0-10/11"),
        ("HEAD", "limit=2", vec![exact], 206, "0-1/11"),
        ("HEAD", "limit=2&offset=10", vec![], 200, "10-10/*"),
        ("HEAD", "id=eq.none", vec![exact], 200, "*/0"),
        ("GET", "limit=99999999999999999999", vec![], 200, "0-10/*"),
    ] {
        let answer = read(method, query, &headers);
        assert_eq!((answer.status, range(&answer)), (status, expected), "{method} {query} {headers:?}");
        let counted = headers.iter().find(|(_, value)| value.starts_with("count=")).map(|(_, value)| *value);
        assert_eq!(answer.header("preference-applied"), counted);
        if method == "HEAD" {
            assert!(answer.body.is_empty());
            assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"));
        }
    }
    let past = read("GET", "offset=12", &[exact]);
    past.refused(416, "PGRST103");
    assert_eq!(range(&past), "*/11");
    assert_eq!(past.json()["details"], "An offset of 12 was requested, but there are only 11 rows.");
    assert_eq!(read("HEAD", "offset=12", &[exact]).status, 416);
}

#[test]
fn at_most_a_thousand_rows_are_answered() {
    let server = crate::support::Harness::start();
    let nights = (0..1_100).map(|n| {
        let date = jiff::civil::date(2026, 1, 1) + jiff::Span::new().days(n);
        crate::support::facts::night("home", &date.to_string(), None, 100.0, 1.0)
    });
    server.seed(nights);
    for query in ["", "limit=5000", "limit=1001"] {
        let answer = server
            .request(As::Service, "GET", &table("lease_nights", query))
            .header("prefer", "count=exact")
            .send();
        assert_eq!((answer.status, range(&answer)), (206, "0-999/1100"));
        assert_eq!(answer.json().as_array().unwrap().len(), 1_000);
    }
    let rest = server
        .request(As::Service, "GET", &table("lease_nights", "offset=1000"))
        .header("prefer", "count=exact")
        .send();
    assert_eq!((rest.status, range(&rest)), (206, "1000-1099/1100"));
    let head = server
        .request(As::Service, "HEAD", &table("lease_nights", ""))
        .header("prefer", "count=exact")
        .send();
    assert_eq!((head.status, range(&head)), (206, "0-999/1100"));
}

#[test]
fn other_media_types_have_their_own_form() {
    let server = populated();
    let read = |accept: &str, query: &str| {
        server.request(As::Service, "GET", &table("user_archetypes", query)).header("accept", accept).send()
    };
    let single = read("application/vnd.pgrst.object+json", "user_id=eq.bob&select=user_id,override_by");
    assert_eq!(single.header("content-type"), Some("application/vnd.pgrst.object+json; charset=utf-8"));
    assert_eq!(single.text(), r#"{"user_id":"bob","override_by":null}"#);
    let stripped = read(
        "application/vnd.pgrst.object+json;nulls=stripped",
        "user_id=eq.bob&select=user_id,override_by,scores",
    );
    assert_eq!(stripped.text(), r#"{"user_id":"bob","scores":{"a": 1.5, "b": [1, null]}}"#);
    let stripped = read(
        "application/vnd.pgrst.array+json;nulls=stripped",
        "user_id=neq.alice&select=user_id,override_by",
    );
    assert_eq!(
        stripped.header("content-type"),
        Some("application/vnd.pgrst.array+json;nulls=stripped; charset=utf-8")
    );
    assert_eq!(
        stripped.text(),
        "[{\"user_id\":\"bob\"}, \n {\"user_id\":\"carol\",\"override_by\":\"root\"}]"
    );
    let csv = read(
        "text/csv",
        "user_id=neq.alice&select=user_id,confidence,is_manual_override,reason:override_reason,reasoning,override_expires_at",
    );
    assert_eq!(csv.header("content-type"), Some("text/csv; charset=utf-8"));
    assert_eq!(range(&csv), "0-1/*");
    assert_eq!(
        csv.text(),
        "user_id,confidence,is_manual_override,reason,reasoning,override_expires_at\n\
         bob,0.67,f,,\"{one,\"\"two, three\"\",\"\"\\\\\"\"four\\\\\"\"\"\"}\",\n\
         carol,1.00,t,\"asked for it\",{},\"2026-12-31 23:59:59.5+00\""
    );
    assert_eq!(read("text/csv", "user_id=eq.nobody&select=user_id,policy").text(), "user_id,policy\n");
    for accept in ["*/*", "application/*", "text/html, */*;q=0.1", "application/json; charset=utf-8"] {
        let answer = read(accept, "user_id=eq.bob");
        assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"), "{accept}");
    }
}

#[test]
fn the_root_describes_the_tables_to_the_service() {
    let server = populated();
    for path in ["/rest/v1/", "/rest/v1"] {
        let answer = server.get(As::Service, path);
        assert_eq!(answer.header("content-type"), Some("application/openapi+json; charset=utf-8"));
        let document = answer.ok();
        assert_eq!(document["swagger"], "2.0");
        assert_eq!(document["basePath"], "/rest/v1");
        assert_eq!(document["definitions"].as_object().unwrap().len(), 11);
        let columns = &document["definitions"]["user_archetypes"]["properties"];
        assert_eq!(columns["confidence"], json!({ "type": "number", "format": "numeric" }));
        assert_eq!(columns["user_id"]["description"], "Note:\nThis is a Primary Key.<pk/>");
        // Every reference leads somewhere.
        let mut references = Vec::new();
        gather(&document, &mut references);
        assert!(references.len() > 100);
        for reference in references {
            assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
        }
    }
    for caller in [As::Anon, As::User("alice"), As::User("root")] {
        server.get(caller, "/rest/v1/").refused(403, "42501");
    }
    let csv = server.request(As::Service, "GET", "/rest/v1/").header("accept", "text/csv").send();
    csv.refused(406, "PGRST107");
}

fn gather<'a>(value: &'a Value, references: &mut Vec<&'a str>) {
    match value {
        Value::Array(elements) => elements.iter().for_each(|element| gather(element, references)),
        Value::Object(members) => {
            for (key, value) in members {
                match value.as_str() {
                    Some(reference) if key == "$ref" => references.push(reference),
                    _ => gather(value, references),
                }
            }
        }
        _ => {}
    }
}
