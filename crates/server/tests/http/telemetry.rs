//! What an operator sees: the metrics, and what goes to an OpenTelemetry collector.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nudge::telemetry::family::{FAMILIES, Family, Kind};
use nudge::telemetry::series;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Otel;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use prost::Message as _;
use serde_json::json;

use crate::support::receiver::Receiver;
use crate::support::{As, DATE, Harness, OUTCOMES, RECOMMENDATIONS, eventually, facts};

const JOB: &str = "/functions/v1/archetype-recalculation-job";

/// Does a little of everything that metrics count.
fn exercise(server: &Harness) {
    server.seed(facts::home());
    let answer = server.usual();
    let event = |event: &str, of_type: &str| json!({ "recommendationId": answer["recommendationId"], "event": event, "transactionType": of_type });
    let primary = answer["primaryRecommendation"].as_str().unwrap();
    server.post(As::User("alice"), OUTCOMES, &json!([event("selected", primary)])).ok();
    let second = server.usual();
    let other = if second["primaryRecommendation"] == "swap" { "crash" } else { "swap" };
    let body = json!([{ "recommendationId": second["recommendationId"], "event": "selected", "transactionType": other }]);
    server.post(As::User("alice"), OUTCOMES, &body).ok();
    assert_eq!(server.get(As::Nobody, RECOMMENDATIONS).status, 401);
    server.post(As::Service, JOB, &json!({ "wait": true })).ok();
    server.block_on(server.app.alerts.evaluate(server.app.observed(), server.clock.now()));
}

fn metrics_of(server: &Harness) -> String {
    server.get(As::Nobody, "/metrics").text()
}

/// The name of the family that a series belongs to.
fn family_of(series: &str) -> &str {
    let histogram = |suffix: &str| {
        let name = series.strip_suffix(suffix)?;
        FAMILIES.iter().any(|family| family.name == name && family.kind == Kind::Histogram).then_some(name)
    };
    ["_bucket", "_sum", "_count"].into_iter().find_map(histogram).unwrap_or(series)
}

#[test]
fn every_metric_is_listed_and_every_listed_one_is_exported() {
    let server = Harness::alone(&[]);
    exercise(&server);
    let series = series::parse(&metrics_of(&server));
    let exported: BTreeSet<&str> = series.iter().map(|series| family_of(&series.name)).collect();
    let elsewhere = |family: &&Family| !WITHOUT_CAUSE.contains(&family.name);
    let listed: BTreeSet<&str> = FAMILIES.iter().map(|family| family.name).collect();
    let expected: BTreeSet<&str> = FAMILIES.iter().filter(elsewhere).map(|family| family.name).collect();
    assert_eq!(exported.difference(&listed).collect::<Vec<_>>(), Vec::<&&str>::new(), "exported, not listed");
    assert_eq!(
        expected.difference(&exported).collect::<Vec<_>>(),
        Vec::<&&str>::new(),
        "listed, not exported"
    );
    for series in &series {
        let family = FAMILIES.iter().find(|family| family.name == family_of(&series.name)).unwrap();
        let labels: BTreeSet<_> =
            series.labels.iter().map(|(name, _)| name.as_str()).filter(|l| *l != "le").collect();
        assert_eq!(labels, family.labels.iter().copied().collect(), "{}", series.name);
        assert_eq!(family.kind == Kind::Counter, family.name.ends_with("_total"), "{}", family.name);
    }
}

/// Families without a series until something happens that this test does not do.
const WITHOUT_CAUSE: &[&str] = &[
    "nudge_archetype_share_ratio",
    "nudge_job_last_duration_seconds",
    "nudge_job_last_success_timestamp_seconds",
    "nudge_job_runs_total",
    "nudge_dashboard_sign_ins_total",
    "nudge_otlp_exports_total",
    "nudge_drain_sent_total",
    "nudge_drain_failed_total",
    "nudge_drain_dropped_total",
    "nudge_drain_queue_depth",
    "nudge_alert_notifications_total",
    // On PostgreSQL, at the check of its rights.
    "nudge_rls_problems",
];

#[test]
fn the_manual_describes_every_metric_and_no_other() {
    let manual = include_str!("../../../../docs/OPERATIONS.md");
    let section = manual.split("\n## Metrics\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let names = rows.flat_map(|row| row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2));
    let described: BTreeSet<String> = names.map(|name| name.split('{').next().unwrap().to_owned()).collect();
    let listed: BTreeSet<String> = FAMILIES.iter().map(|family| family.name.to_owned()).collect();
    assert_eq!(described.symmetric_difference(&listed).collect::<Vec<_>>(), Vec::<&String>::new());
}

#[test]
fn prometheus_own_linter_has_nothing_to_say() {
    let server = Harness::alone(&[]);
    exercise(&server);
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("Debian's prometheus");
    promtool.stdin.take().unwrap().write_all(metrics_of(&server).as_bytes()).unwrap();
    let said = promtool.wait_with_output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert!(said.status.success() && text.trim().is_empty(), "{text}");
}

#[test]
fn decisions_and_choices_are_counted_by_what_they_were() {
    let server = Harness::alone(&[]);
    let choices = |followed| server.metric(&format!("nudge_choices_total{{followed=\"{followed}\"}}"));
    let before =
        (choices("true"), choices("false"), server.metric("nudge_outcomes_total{event=\"selected\"}"));
    exercise(&server);
    assert_eq!((choices("true"), choices("false")), (before.0 + 1, before.1 + 1));
    assert_eq!(server.metric("nudge_outcomes_total{event=\"selected\"}"), before.2 + 2);
    let text = metrics_of(&server);
    let decisions: Vec<_> = text.lines().filter(|line| line.starts_with("nudge_decisions_total{")).collect();
    assert!(
        decisions.iter().any(|line| line.contains("type=\"") && line.contains("archetype=\"")),
        "{decisions:?}"
    );
}

fn batches(collector: &Receiver, path: &str) -> Vec<Vec<u8>> {
    collector.received().into_iter().filter(|batch| batch.path == path).map(|batch| batch.body).collect()
}

fn text(value: &Option<AnyValue>) -> String {
    match value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Otel::StringValue(text)) => text.clone(),
        Some(Otel::IntValue(number)) => number.to_string(),
        other => panic!("{other:?}"),
    }
}

fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    attributes.iter().find(|attribute| attribute.key == key).map(|attribute| text(&attribute.value))
}

#[test]
fn a_collector_gets_spans_of_requests_and_the_metrics() {
    let collector = Receiver::start(200);
    let mut server = Harness::alone(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-team=blue%20green"),
        ("OTEL_SERVICE_NAME", "nudge-of-the-test"),
        ("NUDGE_INSTANCE", "server-a"),
    ]);
    exercise(&server);
    let target = format!("{RECOMMENDATIONS}?userId=alice&targetDate={DATE}&roommateId=bob");
    let answer = server
        .request(As::User("alice"), "GET", &target)
        .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        .header("tracestate", "app=ann.of.the.caller")
        .send();
    assert_eq!(answer.status, 200);
    let request_id = answer.header("x-request-id").unwrap().to_owned();
    let unsampled = "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    server.request(As::User("alice"), "GET", &target).header("traceparent", unsampled).send().ok();
    server.request(As::User("alice"), "GET", &target).header("traceparent", "nonsense").send().ok();
    server.ask_to_stop();
    server.wait_for_end();

    let bodies = batches(&collector, "/v1/traces");
    let mut spans = Vec::new();
    for body in &bodies {
        let request = ExportTraceServiceRequest::decode(body.as_slice()).unwrap();
        for resource in request.resource_spans {
            let of = resource.resource.unwrap().attributes;
            assert_eq!(attribute(&of, "service.name").as_deref(), Some("nudge-of-the-test"));
            assert_eq!(attribute(&of, "service.instance.id").as_deref(), Some("server-a"));
            spans.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
    }
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let child = spans.iter().find(|span| hex(&span.trace_id) == "0af7651916cd43dd8448eb211c80319c").unwrap();
    assert_eq!(hex(&child.parent_span_id), "b7ad6b7169203331");
    assert_eq!(child.trace_state, "", "the caller's own words");
    assert_eq!(child.name, format!("GET {RECOMMENDATIONS}"));
    let keys: BTreeSet<_> = child.attributes.iter().map(|attribute| attribute.key.as_str()).collect();
    let expected = ["http.request.method", "http.response.status_code", "http.route", "nudge.request.id"];
    assert_eq!(keys, BTreeSet::from(expected));
    assert_eq!(attribute(&child.attributes, "http.response.status_code").as_deref(), Some("200"));
    assert_eq!(attribute(&child.attributes, "nudge.request.id"), Some(request_id));
    assert!(
        spans.iter().all(|span| !hex(&span.trace_id).starts_with("1af7")),
        "the caller had decided against it"
    );
    let refused = spans
        .iter()
        .find(|span| attribute(&span.attributes, "http.response.status_code").as_deref() == Some("401"));
    assert!(refused.is_some_and(|span| span.parent_span_id.is_empty()));
    for body in &bodies {
        let text = String::from_utf8_lossy(body);
        assert!(
            !text.contains("alice") && !text.contains("userId") && !text.contains("127.0.0.1"),
            "personal data"
        );
    }

    let last = batches(&collector, "/v1/metrics").pop().unwrap();
    let request = ExportMetricsServiceRequest::decode(last.as_slice()).unwrap();
    let metrics: Vec<_> =
        request.resource_metrics.into_iter().flat_map(|r| r.scope_metrics).flat_map(|s| s.metrics).collect();
    let named =
        |name: &str| metrics.iter().find(|metric| metric.name == name).unwrap_or_else(|| panic!("{name}"));
    let Some(Data::Sum(decisions)) = &named("nudge_decisions_total").data else { panic!() };
    let count = |value: &Option<Number>| match value {
        Some(Number::AsDouble(count)) => *count,
        other => panic!("{other:?}"),
    };
    assert!(
        decisions.is_monotonic
            && decisions.data_points.iter().map(|point| count(&point.value)).sum::<f64>() >= 5.0
    );
    assert!(decisions.data_points.iter().all(|point| attribute(&point.attributes, "rule").is_some()));
    let Some(Data::Gauge(_)) = &named("nudge_spool_depth").data else { panic!() };
    let Some(Data::Histogram(durations)) = &named("http.server.request.duration").data else { panic!() };
    let of_route = durations.data_points.iter().find(|point| {
        attribute(&point.attributes, "http.route").as_deref() == Some(RECOMMENDATIONS)
            && attribute(&point.attributes, "http.response.status_code").as_deref() == Some("200")
    });
    assert_eq!(of_route.unwrap().count, 5);
    assert!(collector.received().iter().all(|batch| batch.header("x-team").as_deref() == Some("blue green")));
}

#[test]
fn a_collector_that_hangs_or_is_away_holds_up_neither_requests_nor_the_end() {
    let hanging = Receiver::start(0);
    for url in [hanging.url.as_str(), "http://127.0.0.1:1"] {
        let mut server = Harness::alone(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", url),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "300"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "100"),
        ]);
        server.seed(facts::home());
        let failed = "nudge_otlp_exports_total{signal=\"metrics\",result=\"failed\"}";
        let before = server.metric(failed);
        let begun = Instant::now();
        for _ in 0..40 {
            server.usual();
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        eventually(Duration::from_secs(20), "failed exports are counted", || server.metric(failed) > before);
        let begun = Instant::now();
        server.ask_to_stop();
        server.wait_for_end();
        assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
    }
}

#[test]
fn without_an_endpoint_there_is_nothing_that_sends() {
    assert!(Harness::start().app.otlp.is_none());
}
