//! What an admin does on the pages: the same change, the same checks and the same audit entry as by the API.

use serde_json::Value;

use super::{Browser, home};
use crate::support::{ARCHETYPE, As, DATE, Harness, facts};

const OVERRIDE: &str = "/dashboard/user/override";
const RESET: &str = "/dashboard/user/reset";
const RECALCULATE: &str = "/dashboard/user/recalculate";

/// The fields of a good override.
const GOOD: [(&str, &str); 4] = [
    ("id", "alice"),
    ("archetype", "high_flexibility"),
    ("reason", "asked by support"),
    ("expires_at", "2026-03-10T12:00"),
];

fn newest_entry(server: &Harness) -> Vec<Option<String>> {
    let sql = "SELECT admin_id, actor_role, action, target_user_id, ip_address FROM admin_audit_log ORDER BY id DESC";
    server.rows(sql).remove(0)
}

fn entry(who: &str, role: &str, action: &str) -> Vec<Option<String>> {
    [who, role, action, "alice", "127.0.0.1"].map(|text| Some(text.to_owned())).to_vec()
}

#[test]
fn an_override_is_what_the_api_sees_and_is_audited_with_who_did_it() {
    let server = home();
    let mut browser = Browser::of_root(&server);
    let answer = browser.submit(OVERRIDE, &GOOD);
    let location = answer.header("location").unwrap();
    assert_eq!((answer.status, location), (303, "/dashboard/user?id=alice&done=overridden"));
    let page = browser.page(location);
    assert!(page.contains("The archetype was overridden.") && page.contains("asked by support"), "{page}");
    let seen = server.archetype(As::Service, "alice").ok();
    assert_eq!(seen["archetypeType"], "high_flexibility");
    assert_eq!(
        (&seen["isManualOverride"], &seen["expiresAt"]),
        (&Value::Bool(true), &"2026-03-10T12:00:00Z".into())
    );
    assert_eq!(newest_entry(&server), entry("root", "admin", "override_archetype"));
    assert_eq!(server.usual()["metadata"]["rule"], "flexible_swap", "and the next decision follows it");

    assert_eq!(
        browser.submit(RECALCULATE, &[("id", "alice")]).header("location").unwrap(),
        "/dashboard/user?id=alice&done=kept"
    );
    let answer = browser.submit(RESET, &[("id", "alice")]);
    assert_eq!(answer.header("location").unwrap(), "/dashboard/user?id=alice&done=reset");
    assert_eq!(newest_entry(&server), entry("root", "admin", "reset_archetype"));
    assert_eq!(server.archetype(As::Service, "alice").ok()["archetypeType"], "big_spender");
    assert_eq!(
        browser.submit(RESET, &[("id", "alice")]).header("location").unwrap(),
        "/dashboard/user?id=alice&done=nothing"
    );
    browser.submit(RECALCULATE, &[("id", "alice")]);
    assert_eq!(newest_entry(&server), entry("root", "admin", "recalculate_archetype"));
    let audit = browser.page("/dashboard/audit?user=alice");
    assert!(audit.contains("chain whole") && audit.contains("asked by support"), "{audit}");
}

#[test]
fn the_service_key_acts_as_the_service() {
    let server = home();
    let mut browser = Browser::signed_in(&server, &server.service);
    assert_eq!(browser.submit(OVERRIDE, &GOOD).status, 303);
    assert_eq!(newest_entry(&server), entry("service_role", "service_role", "override_archetype"));
}

#[test]
fn a_form_from_elsewhere_does_nothing() {
    let server = home();
    let mut browser = Browser::of_root(&server);
    let token = browser.token();
    let mut other = Browser::of_root(&server);
    let others = other.token();
    server.archetype(As::Service, "alice").ok();
    let before = server.contents();
    let with = |token: &str| {
        let token = token.to_owned();
        let mut fields = vec![("form_token".to_owned(), token)];
        fields.extend(GOOD.map(|(name, value)| (name.to_owned(), value.to_owned())));
        fields
    };
    let send = |fields: &[(String, String)], headers: &[(&str, &str)]| {
        let fields: Vec<(&str, &str)> = fields.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        let mut request = browser.form(OVERRIDE, &fields);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        request.send().status
    };
    let here = ("origin", "http://test");
    for (token, headers) in [
        ("", &[here][..]),
        ("nonsense", &[here]),
        (others.as_str(), &[here]),
        (token.as_str(), &[]),
        (token.as_str(), &[("origin", "null")]),
        (token.as_str(), &[("origin", "https://evil.example")]),
        (token.as_str(), &[("origin", "http://test:8080")]),
        (token.as_str(), &[here, ("sec-fetch-site", "cross-site")]),
        (token.as_str(), &[here, ("sec-fetch-site", "same-site")]),
    ] {
        assert_eq!(send(&with(token), headers), 403, "{token} {headers:?}");
    }
    for path in [OVERRIDE, RESET, RECALCULATE, "/dashboard/sign-out"] {
        let answer = browser.request("POST", path).header("origin", "http://test").raw_json("{}").send();
        assert_eq!(answer.status, 400, "{path}: a form is the only body");
        assert_eq!(browser.request("GET", path).send().status, 405, "{path}");
    }
    let mut nobody = Browser::new(&server);
    assert_eq!(nobody.post(OVERRIDE, &GOOD).status, 303);
    server.contents().are_still(&before, "forms from elsewhere");
    assert_eq!(
        send(&with(&token), &[here, ("sec-fetch-site", "same-origin")]),
        303,
        "and one from here does"
    );
}

#[test]
fn what_is_wrong_with_an_override_is_said_and_what_was_typed_stays() {
    let server = home();
    let mut browser = Browser::of_root(&server);
    server.archetype(As::Service, "alice").ok();
    browser.page("/dashboard/user?id=alice");
    let before = server.contents();
    for (name, value, said) in [
        ("archetype", "", "Choose an archetype"),
        ("archetype", "king", "Choose an archetype"),
        ("reason", "  ", "1 to 2000 characters"),
        ("reason", "\u{7}", "no control characters"),
        ("expires_at", "2026-03-09T09:59", "must be in the future"),
        ("expires_at", "soon", "is a date and a time"),
    ] {
        let fields = GOOD.map(|(known, good)| (known, if known == name { value } else { good }));
        let answer = browser.submit(OVERRIDE, &fields);
        assert_eq!(answer.status, 400, "{name} {value}");
        let text = answer.text();
        assert!(text.contains(said), "{said}");
        if name != "reason" {
            assert!(text.contains(">asked by support</textarea>"), "{name}");
        }
    }
    for id in ["", "a b", "anonymous"] {
        assert_eq!(browser.submit(OVERRIDE, &[("id", id), GOOD[1], GOOD[2]]).status, 400);
    }
    server.contents().are_still(&before, "bad overrides");
}

#[test]
fn who_opted_out_is_left_alone() {
    let server = home();
    server.seed([facts::profile("carol", "member", true)]);
    let mut browser = Browser::of_root(&server);
    let page = browser.page("/dashboard/user?id=carol");
    assert!(page.contains("opted out") && !page.contains("name=\"reason\""), "{page}");
    let answer = browser.submit(OVERRIDE, &[("id", "carol"), GOOD[1], GOOD[2]]);
    assert_eq!(answer.status, 409);
    assert!(answer.text().contains("The user has opted out; nothing was changed."));
    assert_eq!(server.count("SELECT count(*) FROM admin_audit_log"), 0);
}

#[test]
fn the_preview_says_what_an_override_would_change_and_it_does() {
    let server = home();
    let mut browser = Browser::of_root(&server);
    let page = browser.page("/dashboard/user?id=alice");
    let row = page.split("<tr>").find(|row| row.contains(&format!(">{DATE}<"))).unwrap().to_owned();
    let kinds: Vec<&str> =
        row.match_indices("class=\"kind ").map(|(at, _)| row[at + 12..].split('"').next().unwrap()).collect();
    assert_eq!(kinds, ["buyout", "buyout", "swap", "crash"], "now, big spender, flexible, average: {row}");
    assert!(row.contains("big spender urgent") && row.contains("average medium"), "{row}");
    for (archetype, default) in
        [("big_spender", "buyout"), ("high_flexibility", "swap"), ("average_user", "crash")]
    {
        assert_eq!(
            browser.submit(OVERRIDE, &[("id", "alice"), ("archetype", archetype), GOOD[2]]).status,
            303
        );
        assert_eq!(server.usual()["primaryRecommendation"], default);
    }
    // Who has never asked gets the standard default whatever they are called.
    let page = browser.page("/dashboard/user?id=carol");
    assert!(page.contains("Until the first one, every archetype gives the standard default"), "{page}");
}

#[test]
fn nothing_is_done_without_its_audit_entry() {
    let server = home();
    let mut browser = Browser::of_root(&server);
    server.archetype(As::Service, "alice").ok();
    browser.page("/dashboard/user?id=alice");
    server.break_audit_log();
    let before = server.contents();
    let answer = browser.submit(OVERRIDE, &GOOD);
    assert_eq!(answer.status, 500);
    server.contents().are_still(&before, "a change that cannot be audited");
    assert_eq!(server.get(As::Service, &format!("{ARCHETYPE}?userId=alice")).ok()["isManualOverride"], false);
}
