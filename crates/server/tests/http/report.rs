//! The report and the trends that pages show, on whichever engine the tests run.

use nudge::usecases::report::{By, FigureKey, Of, Question, Report, Verdict, Window, report, trend, trends};
use serde_json::json;

use crate::support::{As, Harness, OUTCOMES, RECOMMENDATIONS};

const TODAY: jiff::civil::Date = jiff::civil::date(2026, 3, 9);

fn made(server: &Harness, of: Of, by: Option<By>) -> Report {
    let question = Question { window: Window::last_days(7, TODAY), of, by };
    server.block_on(report(&server.app.store, question, server.clock.now())).unwrap()
}

/// Value and sample size of a figure.
fn told(report: &Report, key: FigureKey) -> (Option<f64>, i64) {
    let figure = report.figures.iter().find(|figure| figure.key == key).unwrap();
    (figure.value, figure.n)
}

#[test]
fn what_comes_of_decisions_is_in_the_next_report_and_trend() {
    let server = Harness::with_home();
    let empty = made(&server, Of::All, None);
    assert_eq!(empty.decisions.total, 0);
    assert!(empty.figures.iter().all(|f| f.verdict.is_none_or(|v| v == Verdict::NotEnoughData)));

    let first = server.usual();
    let kind = first["primaryRecommendation"].as_str().unwrap().to_owned();
    let option = &first["options"][0];
    let second = server.usual();
    let anonymous =
        server.get(As::Anon, &format!("{RECOMMENDATIONS}?userId=a&targetDate=2026-03-16&roommateId=b"));
    anonymous.ok();
    server.clock.advance(20);
    let event = |id: &serde_json::Value, event: &str| json!({ "recommendationId": id, "event": event });
    let typed = |id: &serde_json::Value, name: &str| {
        let mut event = event(id, name);
        event["transactionType"] = json!(kind);
        event
    };
    let (one, other) = (&first["recommendationId"], &second["recommendationId"]);
    let mut score = event(one, "nps");
    score["npsScore"] = json!(9);
    let events = json!([typed(one, "submitted"), event(one, "accepted"), score, event(other, "viewed")]);
    server.post(As::User("alice"), OUTCOMES, &events).ok();

    let now = made(&server, Of::Personalized, Some(By::Week));
    assert_eq!((now.decisions.total, now.decisions.personalized, now.decisions.anonymous), (3, 2, 1));
    assert_eq!(told(&now, FigureKey::FollowRate), (Some(1.0), 1), "who has not chosen does not count");
    assert_eq!(told(&now, FigureKey::SubmittedRate), (Some(0.5), 2));
    assert_eq!(told(&now, FigureKey::AcceptedRate), (Some(1.0), 1));
    assert_eq!(told(&now, FigureKey::TimeToDecision), (Some(20.0), 1));
    assert_eq!(told(&now, FigureKey::NetPromoterScore), (Some(100.0), 1));
    assert_eq!(told(&now, FigureKey::PlatformIncome), (option["platformReceives"].as_f64(), 1));
    assert_eq!(told(&now, FigureKey::PlatformFees), (option["platformFee"].as_f64(), 1));
    assert_eq!(now.scores.counts[9], 1);
    let weeks = now.breakdown.unwrap().groups;
    assert_eq!(weeks.iter().map(|group| group.key.as_str()).collect::<Vec<_>>(), ["2026-W11"]);

    let points = server.block_on(trend(&server.app.store, FigureKey::SubmittedRate, 3, TODAY)).unwrap();
    let seen: Vec<_> = points.iter().map(|point| (point.day, point.value, point.n)).collect();
    let (before, yesterday) = (jiff::civil::date(2026, 3, 7), jiff::civil::date(2026, 3, 8));
    assert_eq!(seen, [(before, None, 0), (yesterday, None, 0), (TODAY, Some(0.5), 2)]);
    let window = Window::last_days(1, TODAY);
    let keys = [FigureKey::PlatformIncome, FigureKey::ErrorRate, FigureKey::JobRuns];
    let many = server.block_on(trends(&server.app.store, window, Of::All, &keys)).unwrap();
    assert_eq!(many.iter().map(|trend| trend.figure).collect::<Vec<_>>(), keys);
    assert_eq!(many[0].points[0].value, option["platformReceives"].as_f64());
}
