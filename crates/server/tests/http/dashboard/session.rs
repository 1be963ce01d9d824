//! Signing in and out, and what a session is good for.

use nudge_store::ProfileRole;
use serde_json::json;

use super::{Browser, PAGES, demote, home, home_with};
use crate::support::{As, Harness, NOW_SECS, PUBLISHABLE, SECRET_KEY, facts, token};

const COOKIE: &str = "nudge_session";

#[test]
fn who_is_not_signed_in_is_sent_to_the_sign_in_and_back() {
    let server = home();
    let mut browser = Browser::new(&server);
    for page in PAGES {
        let answer = browser.get(page);
        assert_eq!(answer.status, 303, "{page}");
        let location = answer.header("location").unwrap();
        assert!(location.starts_with("/dashboard/sign-in"), "{location}");
        let next = super::browser::field(&browser.page(location), "next").unwrap();
        assert_eq!(next.replace("&amp;", "&"), *page);
        // A token in a header is for the API: a page of another site could not send it, but a script of one could.
        for caller in [As::Anon, As::User("root"), As::Service] {
            assert_eq!(server.get(caller, page).status, 303, "{caller:?} {page}");
        }
    }
    assert!(!browser.cookies.contains_key(COOKIE));
}

#[test]
fn an_admin_and_the_service_key_get_in() {
    let server = home();
    for credential in [server.token("root"), server.service.clone(), SECRET_KEY.to_owned()] {
        let mut browser = Browser::signed_in(&server, &credential);
        assert!(!browser.cookies.contains_key("nudge_sign_in"), "the form's cookie has done its work");
        for page in PAGES {
            browser.page(page);
        }
        let answer = browser.get("/dashboard/sign-in?next=/dashboard/audit");
        assert_eq!((answer.status, answer.header("location")), (303, Some("/dashboard/audit")));
    }
}

#[test]
fn nobody_else_gets_in_and_is_told_why() {
    let server = home();
    let expired = token(&json!({ "role": "authenticated", "sub": "root", "exp": NOW_SECS - 60 }));
    let forged =
        nudge::auth::keys::sign(b"another secret of thirty-two bytes!!", &json!({ "role": "service_role" }));
    for (credential, status) in [
        (server.token("member"), 403),
        (server.token("unknown"), 403),
        (server.anon.clone(), 403),
        (PUBLISHABLE.to_owned(), 403),
        (expired, 401),
        (forged.unwrap(), 401),
        ("sb_secret_of_nobody_at_all".to_owned(), 401),
        ("nonsense".to_owned(), 401),
        (String::new(), 401),
    ] {
        let mut browser = Browser::new(&server);
        let answer = browser.sign_in(&credential);
        assert_eq!(answer.status, status, "{credential}");
        assert!(!browser.cookies.contains_key(COOKIE), "{credential}");
        if !credential.is_empty() {
            assert!(!answer.text().contains(&credential), "what was typed is not shown");
        }
        assert_eq!(browser.get("/dashboard").status, 303);
    }
}

#[test]
fn a_session_ends_with_the_token_or_after_eight_hours_whichever_is_first() {
    let server = home();
    let mut short = Browser::of_root(&server);
    let mut long = Browser::signed_in(&server, &server.service);
    server.clock.advance(3_599);
    short.page("/dashboard");
    server.clock.advance(1);
    assert_eq!(short.get("/dashboard").status, 303);
    server.clock.advance(7 * 3_600 - 1);
    long.page("/dashboard");
    server.clock.advance(1);
    assert_eq!(long.get("/dashboard").status, 303);
}

#[test]
fn who_is_no_admin_any_more_sees_and_does_nothing_from_the_next_request_on() {
    let server = home();
    let mut browser = Browser::of_root(&server);
    let token = browser.token();
    demote(&server, "root");
    assert_eq!(
        server.block_on(server.app.store.profile(&"root".parse().unwrap())).unwrap().role,
        ProfileRole::Member
    );
    for page in PAGES {
        assert_eq!(browser.get(page).status, 403, "{page}");
    }
    let before = server.contents();
    let fields =
        [("form_token", token.as_str()), ("id", "alice"), ("archetype", "big_spender"), ("reason", "x")];
    assert_eq!(browser.post("/dashboard/user/override", &fields).status, 403);
    server.contents().are_still(&before, "a demoted admin");
    // And is one again once the profile says so.
    server.seed([facts::profile("root", "admin", false)]);
    browser.page("/dashboard");
}

#[test]
fn signing_out_ends_the_session_also_for_who_kept_the_cookie_and_on_other_servers() {
    let mut server = home();
    let mut browser = Browser::of_root(&server);
    let mut thief = browser.clone();
    let mut other = Browser::of_root(&server);
    let answer = browser.submit("/dashboard/sign-out", &[]);
    assert_eq!((answer.status, answer.header("location")), (303, Some("/dashboard/sign-in")));
    assert!(!browser.cookies.contains_key(COOKIE));
    assert_eq!(thief.get("/dashboard").status, 303);
    other.page("/dashboard");
    // Another process on the same database and secret, as a replica is one.
    let cookie = thief.cookies.clone();
    server.restart();
    let mut replica = Browser::new(&server);
    replica.cookies = cookie;
    assert_eq!(replica.get("/dashboard").status, 303);
    replica.cookies = other.cookies.clone();
    replica.page("/dashboard");
    // Who is out already is sent to the sign-in.
    let mut gone = Browser::new(&server);
    gone.cookies = thief.cookies;
    assert_eq!(gone.post("/dashboard/sign-out", &[]).header("location"), Some("/dashboard/sign-in"));
}

#[test]
fn a_session_of_an_opaque_key_ends_when_the_key_is_taken_out() {
    let kept = home();
    let browser = Browser::signed_in(&kept, SECRET_KEY);
    let other = Harness::with(&[("SUPABASE_SECRET_KEYS", r#"{"default":"sb_secret_another_one_0001"}"#)]);
    let mut there = Browser::new(&other);
    there.cookies = browser.cookies.clone();
    assert_eq!(there.get("/dashboard").status, 303, "same secret, another key");
    there.cookies = Browser::signed_in(&kept, &kept.service).cookies;
    there.page("/dashboard");
}

#[test]
fn a_session_is_no_token_and_a_token_is_no_session() {
    let server = home();
    let browser = Browser::of_root(&server);
    let cookie = browser.cookies[COOKIE].clone();
    server
        .request(As::Nobody, "GET", "/functions/v1/user-archetype?userId=alice")
        .bearer(&cookie)
        .send()
        .refused(401, "invalid_credentials");
    let mut forged = browser.clone();
    for value in [server.token("root"), server.service.clone(), format!("{cookie}x"), "x".repeat(4_000)] {
        forged.cookies.insert(COOKIE.to_owned(), value);
        assert_eq!(forged.get("/dashboard").status, 303);
    }
}

#[test]
fn cookies_are_for_https_only_where_clients_come_by_https() {
    let server = home_with(&[("SUPABASE_URL", "https://nudge.example")]);
    let page = Browser::new(&server).get("/dashboard/sign-in");
    let cookie = page.all("set-cookie")[0].to_owned();
    assert!(cookie.starts_with("__Host-nudge_sign_in=") && cookie.ends_with("; Secure"), "{cookie}");
    // Behind a proxy that gives another host on, the configured address is what a form comes from.
    let mut browser = Browser::new(&server);
    let token = super::browser::field(&browser.page("/dashboard/sign-in"), "form_token").unwrap();
    let fields = [("form_token", token.as_str()), ("token", server.service.as_str())];
    let answer = browser.form("/dashboard/sign-in", &fields).header("origin", "https://nudge.example").send();
    assert_eq!(answer.status, 303);
    browser.keep(&answer);
    assert!(browser.cookies.contains_key("__Host-nudge_session"));
    browser.page("/dashboard");
}

#[test]
fn attempts_to_sign_in_are_limited() {
    let server = home();
    let mut browser = Browser::new(&server);
    let mut statuses = Vec::new();
    for _ in 0..12 {
        statuses.push(browser.sign_in("nonsense").status);
    }
    assert_eq!(&statuses[..10], [401; 10]);
    assert_eq!(statuses[11], 429, "{statuses:?}");
    let answer = browser.sign_in(&server.token("root"));
    assert_eq!(answer.status, 429, "whatever is typed");
    assert!(answer.header("retry-after").unwrap().parse::<u32>().unwrap() <= 7);
}

#[test]
fn a_link_from_elsewhere_comes_to_its_page_although_the_cookie_is_strict() {
    let server = home();
    let browser = Browser::new(&server);
    let target = "/dashboard/sign-in?next=%2Fdashboard%2Fuser%3Fid%3Dalice";
    let answer = browser.request("GET", target).header("sec-fetch-site", "cross-site").send();
    assert!(answer.text().contains(r#"http-equiv="refresh" content="0; url=/dashboard/user?id=alice""#));
    let answer = browser.request("GET", target).header("sec-fetch-site", "same-origin").send();
    assert!(!answer.text().contains("refresh"), "once, and not for ever");
}
