//! What pages show, and what they never do.

use serde_json::json;

use super::{Browser, PAGES, home};
use crate::support::{ARCHETYPE, As, DATE, Harness, OUTCOMES, SECRET, SECRET_KEY, facts};

/// A decision's id by a route that records it.
fn decided(server: &Harness) -> String {
    server.usual()["recommendationId"].as_str().unwrap().to_owned()
}

#[test]
fn a_decision_s_page_says_what_was_answered_why_and_what_came_of_it() {
    let server = home();
    let answer = server.usual();
    let id = answer["recommendationId"].as_str().unwrap();
    for (event, rest) in [
        ("viewed", json!({})),
        ("submitted", json!({ "transactionType": "crash" })),
        ("accepted", json!({})),
        ("nps", json!({ "npsScore": 9 })),
    ] {
        let mut body = json!({ "recommendationId": id, "event": event });
        body.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        server.post(As::User("alice"), OUTCOMES, &body).ok();
    }
    let mut browser = Browser::of_root(&server);
    let page = browser.page(&format!("/dashboard/recommendations/{id}"));
    for option in answer["options"].as_array().unwrap() {
        for money in ["price", "totalCost", "roommateReceives", "platformReceives"] {
            let amount = format!("${}", option[money]);
            assert!(page.contains(&amount), "{amount} of {option}");
        }
        for reason in option["reasoning"].as_array().unwrap() {
            assert!(page.contains(reason.as_str().unwrap()), "{reason}");
        }
    }
    for expected in [
        "big spender urgent",
        "rules-v1",
        DATE,
        "in 7 days",
        "the same answer",
        "avgResponseTimeHours",
        // Every score of alice's that fired, and its threshold.
        "priceRejectionRate",
        "&lt; 0.3",
        "+15",
        // Another default takes another archetype, or no history.
        "the requester were a",
        "the requester had no earlier request",
        "Tried without effect on the default",
        "the night's base price",
        // What came of it.
        "chose",
        "accepted",
        "NPS 9",
        "told by the outcomes API",
    ] {
        assert!(page.contains(expected), "{expected} in {page}");
    }
    assert!(!page.contains("ANOTHER answer"));
}

#[test]
fn a_decision_that_cannot_be_computed_again_says_so() {
    let server = home();
    let id = decided(&server);
    server
        .sql(
            "UPDATE recommendation_logs SET options = replace(options, '\"price\":225', '\"price\":226')",
            "UPDATE recommendation_logs SET options = replace(options::text, '\"price\": 225', '\"price\": 226')::jsonb",
        )
        .unwrap();
    let page = Browser::of_root(&server).page(&format!("/dashboard/recommendations/{id}"));
    assert!(page.contains("ANOTHER answer") && page.contains("$226"), "{page}");
}

#[test]
fn an_anonymous_decision_says_why_it_was_neutral() {
    let server = home();
    let answer = server.recommend(As::Anon, "alice", DATE, "bob").ok();
    let id = answer["recommendationId"].as_str().unwrap();
    let page = Browser::of_root(&server).page(&format!("/dashboard/recommendations/{id}"));
    assert!(page.contains("the caller was anonymous") && page.contains("No single change"), "{page}");
}

#[test]
fn recommendations_are_found_by_user_id_rule_and_date() {
    let server = home();
    let first = decided(&server);
    server.clock.advance(86_400);
    let second = server.recommend(As::User("bob"), "bob", "2026-03-17", "alice").ok();
    let second = second["recommendationId"].as_str().unwrap().to_owned();
    let mut browser = Browser::of_root(&server);
    let mut found = |query: &str| {
        let page = browser.page(&format!("/dashboard/recommendations?{query}"));
        (page.contains(&first), page.contains(&second))
    };
    assert_eq!(found(""), (true, true));
    assert_eq!(found("user=alice"), (true, false));
    assert_eq!(found("user=+bob+"), (false, true), "blanks are no part of an id");
    assert_eq!(found("rule=big_spender_urgent&user=alice"), (true, false));
    assert_eq!(found("rule=flexible_swap"), (false, false));
    assert_eq!(found("from=2026-03-10"), (false, true));
    assert_eq!(found("to=2026-03-09"), (true, false));
    assert_eq!(found("from=2026-03-09&to=2026-03-10"), (true, true));
    let by_id = browser.get(&format!("/dashboard/recommendations?id={}", first.to_uppercase()));
    assert_eq!(by_id.header("location"), Some(format!("/dashboard/recommendations/{first}").as_str()));
    for (query, said) in [
        ("user=a%20b", "not a user id"),
        ("id=7", "is a UUID"),
        ("rule=king", "not a rule"),
        ("from=yesterday", "is a date"),
        ("before=x", "damaged"),
    ] {
        let page = browser.page(&format!("/dashboard/recommendations?{query}"));
        assert!(page.contains(said) && !page.contains(&first), "{query}");
    }
    assert_eq!(browser.get("/dashboard/recommendations/0198c0de-aaaa-7bbb-8ccc-ddddeeeeffff").status, 404);
    assert_eq!(browser.get("/dashboard/recommendations/nonsense").status, 404);
}

#[test]
fn pages_follow_one_another_without_a_gap() {
    let server = home();
    let mut expected: Vec<String> = (0..60).map(|_| decided(&server)).collect();
    expected.sort();
    expected.reverse();
    let mut browser = Browser::of_root(&server);
    let mut target = "/dashboard/recommendations?user=alice".to_owned();
    let mut seen = Vec::new();
    loop {
        let page = browser.page(&target);
        let links = page.match_indices("href=\"/dashboard/recommendations/");
        seen.extend(links.map(|(at, _)| page[at + 33..at + 69].to_owned()));
        let Some(at) = page.find("rel=\"next\" href=\"") else { break };
        target = page[at + 17..].split('"').next().unwrap().replace("&amp;", "&");
    }
    assert_eq!(seen.len(), 60);
    let mut sorted = seen.clone();
    sorted.sort();
    sorted.dedup();
    assert_eq!(sorted.len(), 60, "each once");
    assert!(expected.iter().all(|id| seen.contains(id)));
}

#[test]
fn users_are_found_by_id_and_by_archetype() {
    let server = home();
    for user in ["alice", "bob"] {
        server.archetype(As::Service, user).ok();
    }
    let mut browser = Browser::of_root(&server);
    assert_eq!(
        browser.get("/dashboard/users?id=+alice").header("location"),
        Some("/dashboard/user?id=alice")
    );
    assert_eq!(browser.get("/dashboard/users?id=..").header("location"), Some("/dashboard/user?id=.."));
    assert!(browser.page("/dashboard/user?id=..").contains("nothing is stored"));
    assert!(browser.page("/dashboard/users?id=a/b").contains("not a user id"));
    let all = browser.page("/dashboard/users");
    assert!(all.contains("id=alice") && all.contains("id=bob"));
    assert!(browser.page("/dashboard/users?archetype=big_spender").contains("id=alice"));
    assert!(!browser.page("/dashboard/users?archetype=average_user").contains("id=alice"));
    assert!(browser.page("/dashboard/users?archetype=overridden").contains("No archetype is overridden"));
    browser
        .submit("/dashboard/user/override", &[("id", "bob"), ("archetype", "average_user"), ("reason", "x")]);
    let page = browser.page("/dashboard/users?archetype=overridden");
    assert!(page.contains("id=bob") && !page.contains("id=alice") && page.contains("until reset"));
    assert_eq!(browser.get("/dashboard/user").status, 400);
}

#[test]
fn what_others_wrote_is_shown_as_text() {
    let server = home();
    let nasty = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&";
    let answer = server
        .request(As::User("alice"), "GET", &format!("/functions/v1/transaction-recommendations?userId=alice&targetDate={DATE}&roommateId=bob&sessionId=%3Cb%3E%22"))
        .header("user-agent", nasty)
        .send()
        .ok();
    let id = answer["recommendationId"].as_str().unwrap();
    let body = json!({ "userId": "alice", "archetypeType": "big_spender", "reason": nasty });
    server.request(As::Service, "PUT", ARCHETYPE).header("user-agent", nasty).json(&body).send().ok();
    let mut browser = Browser::of_root(&server);
    let decision = format!("/dashboard/recommendations/{id}");
    for target in [
        decision.as_str(),
        "/dashboard/user?id=alice",
        "/dashboard/audit",
        "/dashboard/user?id=alice&done=%3Cscript%3E",
        "/dashboard/recommendations?user=%3Cscript%3Ealert(1)%3C/script%3E&from=%22%3E%3Cscript%3E",
        "/dashboard/users?id=%3Cscript%3Ealert(1)%3C/script%3E&archetype=%22%3E%3Cscript%3E&after=%3Cb%3E",
        "/dashboard/audit?user=%3Cscript%3Ealert(1)%3C/script%3E",
    ] {
        let page = browser.page(target);
        let scripts = page.matches("<script").count();
        assert_eq!(scripts, 1, "{target}: the page's own");
        assert!(!page.contains("<img") && !page.contains("<b>"), "{target}");
    }
    for target in [decision.as_str(), "/dashboard/user?id=alice", "/dashboard/audit"] {
        assert!(browser.page(target).contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "{target}");
    }
    let tried =
        browser.submit("/dashboard/user/override", &[("id", "alice"), ("archetype", ""), ("reason", nasty)]);
    assert!(!tried.text().contains("<img") && tried.text().contains("&lt;img"), "{}", tried.text());
    let sign_in = Browser::new(&server).page("/dashboard/sign-in?next=%22%3E%3Cscript%3E");
    assert_eq!(sign_in.matches("<script").count(), 1);
}

#[test]
fn no_page_holds_a_secret() {
    let server = home();
    let id = decided(&server);
    let token = server.token("root");
    let mut browser = Browser::signed_in(&server, &token);
    let session = browser.cookies["nudge_session"].clone();
    let decision = format!("/dashboard/recommendations/{id}");
    for target in PAGES.iter().copied().chain([decision.as_str(), "/dashboard/sign-in", "/dashboard/nothing"])
    {
        let page = browser.get(target).text();
        for secret in [SECRET, SECRET_KEY, &token, &session, &server.anon, &server.service] {
            assert!(!page.contains(secret), "{target}");
        }
        if let Ok(url) = std::env::var("NUDGE_TEST_POSTGRES") {
            let password =
                url.split('@').next().and_then(|user| user.rsplit_once(':')).map(|(_, p)| p.to_owned());
            if let Some(password) = password.filter(|password| password.len() > 3 && !password.contains('/'))
            {
                assert!(!page.contains(&password), "{target}");
            }
        }
    }
    let settings = browser.page("/dashboard/settings");
    assert!(settings.contains("SUPABASE_JWT_SECRET") && settings.contains("(set)"), "{settings}");
    assert!(settings.contains("NUDGE_MAX_IN_FLIGHT") && settings.contains("1024"));
    assert!(settings.contains("table.willingnessAboveBigSpender.threshold"), "every number of the policy");
}

#[test]
fn pages_ask_nobody_else_for_anything_and_their_files_are_kept() {
    let server = home();
    let mut browser = Browser::of_root(&server);
    for target in PAGES {
        let page = browser.page(target);
        for (at, _) in page.match_indices("src=\"").chain(page.match_indices("href=\"")) {
            let address = page[at..].split('"').nth(1).unwrap();
            assert!(address.starts_with('/') || address.starts_with('#'), "{address} on {target}");
            assert!(!address.starts_with("//"), "{address}");
        }
        for inline in ["style=", "<style", "onclick", "javascript:"] {
            assert!(!page.contains(inline), "{inline} on {target}");
        }
        assert!(page.contains("lang=\"en\"") && page.contains("name=\"viewport\""));
        assert_eq!(page.matches("<h1").count(), 1, "{target}");
    }
    let page = browser.page("/dashboard");
    let assets: Vec<&str> = page
        .match_indices("\"/dashboard/assets/")
        .map(|(at, _)| page[at..].split('"').nth(1).unwrap())
        .collect();
    assert_eq!(assets.len(), 3, "{assets:?}");
    for asset in assets {
        let answer = Browser::new(&server).get(asset);
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("cache-control"), Some("public, max-age=31536000, immutable"));
    }
    assert_eq!(browser.get("/dashboard/assets/other.js").status, 404);
    assert_eq!(browser.get("/dashboard/nothing/here").status, 404);
    let refused = browser.request("PUT", "/dashboard").send();
    assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD, OPTIONS")));
}

#[test]
fn a_database_that_is_away_is_said_and_changes_nothing() {
    let server = home();
    let mut browser = Browser::of_root(&server);
    server.block_on(server.app.store.close());
    for page in PAGES {
        let answer = browser.get(page);
        assert_eq!(answer.status, 503, "{page}");
        assert!(answer.text().contains("The database is away") && answer.header("retry-after").is_some());
    }
}

#[test]
fn empty_pages_say_what_to_do() {
    let server = Harness::start();
    let mut browser = Browser::signed_in(&server, &server.service);
    for (page, said) in [
        ("/dashboard", "Nothing has been recommended yet"),
        ("/dashboard", "not enough data"),
        ("/dashboard/archetypes", "nudge import"),
        ("/dashboard/recommendations", "start page"),
        ("/dashboard/users", "nudge import"),
        ("/dashboard/jobs", "The job has not run yet"),
        ("/dashboard/audit", "Every change of an archetype"),
        ("/dashboard/user?id=nobody", "no requests"),
    ] {
        assert!(browser.page(page).contains(said), "{page}");
    }
}

#[test]
fn a_broken_chain_is_shown() {
    let server = home();
    let mut browser = Browser::of_root(&server);
    for reason in ["one", "two"] {
        browser.submit(
            "/dashboard/user/override",
            &[("id", "alice"), ("archetype", "big_spender"), ("reason", reason)],
        );
    }
    assert!(browser.page("/dashboard/audit").contains("2 entries, each checked"));
    server
        .sql(
            "DROP TRIGGER admin_audit_log_no_update; UPDATE admin_audit_log SET ip_address = NULL WHERE id = 1",
            "ALTER TABLE admin_audit_log DISABLE TRIGGER admin_audit_log_keep;
             UPDATE admin_audit_log SET ip_address = NULL WHERE id = 1",
        )
        .unwrap();
    assert!(browser.page("/dashboard/audit").contains("BROKEN at entry 1"));
}

#[test]
fn the_pages_count_as_one_route() {
    let server = Harness::alone(&[]);
    server.seed([facts::profile("root", "admin", false)]);
    let mut browser = Browser::of_root(&server);
    for page in PAGES {
        browser.page(page);
    }
    let line = "nudge_http_requests_total{route=\"/dashboard\",method=\"GET\",status=\"200\"";
    assert!(server.metric(line) >= PAGES.len() as i64);
}

#[test]
fn the_overview_has_the_figures_of_the_report() {
    let server = home();
    let id = decided(&server);
    for (event, kind) in [("selected", Some("buyout")), ("submitted", Some("buyout")), ("accepted", None)] {
        let mut body = json!({ "recommendationId": id, "event": event });
        if let Some(kind) = kind {
            body["transactionType"] = json!(kind);
        }
        server.post(As::User("alice"), OUTCOMES, &body).ok();
    }
    let mut browser = Browser::of_root(&server);
    for days in ["", "?days=7", "?days=90", "?days=365", "?days=5"] {
        let page = browser.page(&format!("/dashboard{days}"));
        for expected in
            ["Follow rate", "100.0 %", "target &gt; 65 %", "1 personalized decisions", "$225.00", "<svg"]
        {
            assert!(page.contains(expected), "{expected} of {days} in {page}");
        }
    }
}
