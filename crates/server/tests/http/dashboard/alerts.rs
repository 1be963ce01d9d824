//! Alerts on the pages: where they stand, and silences, which are audited.

use nudge::usecases::alerts::Observed;

use super::{Browser, home};
use crate::support::Harness;

const SILENCE: &str = "/dashboard/alerts/silence";
const UNSILENCE: &str = "/dashboard/alerts/unsilence";

const GOOD: [(&str, &str); 3] =
    [("rule", "high_error_rate"), ("hours", "4"), ("reason", "<b>known</b>, see 17")];

/// Makes many requests fail, and evaluates until the alert fires.
fn fire(server: &Harness) {
    let tick = |secs| {
        server.clock.advance(secs);
        server.block_on(server.app.alerts.evaluate(
            Observed { totals: server.app.alerts.figures.totals(), ..Observed::default() },
            server.clock.now(),
        ));
    };
    tick(5);
    for n in 0..400 {
        server.app.alerts.figures.count(n < 200, Some(std::time::Duration::from_millis(2)));
    }
    tick(5);
    tick(15);
}

#[test]
fn an_alert_that_fires_is_shown_silenced_and_heard_again() {
    let server = home();
    let mut browser = Browser::of_root(&server);
    assert!(browser.page("/dashboard").contains("No alert is firing or pending"));
    fire(&server);
    let page = browser.page("/dashboard/alerts");
    for expected in
        ["High error rate", "firing", "Above", "runbook", "pending</span> → <span class=\"tag bad\">firing"]
    {
        assert!(page.contains(expected), "{expected} in {page}");
    }
    let overview = browser.page("/dashboard");
    assert!(overview.contains("High error rate") && overview.contains("firing"), "{overview}");

    let answer = browser.submit(SILENCE, &GOOD);
    assert_eq!(answer.header("location"), Some("/dashboard/alerts?done=silenced"));
    let page = browser.page("/dashboard/alerts?done=silenced");
    for expected in ["The alert was silenced", "silenced</span>", "in force", "&lt;b&gt;known&lt;/b&gt;"] {
        assert!(page.contains(expected), "{expected} in {page}");
    }
    assert!(!page.contains("<b>"));
    let audit = browser.page("/dashboard/audit");
    assert!(audit.contains("silence alert") && audit.contains("high_error_rate"), "{audit}");

    let at = page.find(UNSILENCE).unwrap();
    let id = super::browser::field(&page[at..], "id").unwrap();
    let forged = browser.post(UNSILENCE, &[("form_token", "x"), ("id", &id)]);
    assert_eq!(forged.status, 403);
    let answer = browser.submit(UNSILENCE, &[("id", &id)]);
    assert_eq!(answer.header("location"), Some("/dashboard/alerts?done=unsilenced"));
    let answer = browser.submit(UNSILENCE, &[("id", &id)]);
    assert_eq!(answer.header("location"), Some("/dashboard/alerts?done=over"));
    assert!(browser.page("/dashboard/alerts").contains("by root"));
    assert!(browser.page("/dashboard/audit").contains("chain whole"));
}

#[test]
fn what_is_wrong_with_a_silence_is_said_and_nothing_is_silenced() {
    let server = home();
    let mut browser = Browser::of_root(&server);
    for (name, value, said) in [
        ("rule", "", "Choose an alert"),
        ("rule", "king", "is not an alert"),
        ("hours", "999", "Choose for how long"),
        ("reason", "", "1 to 2000 characters"),
    ] {
        let fields = GOOD.map(|(known, good)| (known, if known == name { value } else { good }));
        let answer = browser.submit(SILENCE, &fields);
        assert_eq!(answer.status, 400, "{name}");
        assert!(answer.text().contains(said), "{said}");
    }
    assert_eq!(browser.submit(UNSILENCE, &[("id", "x")]).status, 400);
    assert_eq!(server.count("SELECT count(*) FROM admin_audit_log"), 0);
    assert_eq!(server.block_on(server.app.alerts.silences()).unwrap(), []);
}
