//! What is in `ops/`: Prometheus' own tool checks and tests the rules, and every query is about metrics that there are.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use nudge::alert::notice::alertname;
use nudge::alert::rule::Rule;
use nudge::telemetry::family::{FAMILIES, Kind};
use regex::Regex;
use serde_json::Value;

fn ops() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ops")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[track_caller]
fn promtool(args: &[&str]) -> String {
    let ran = Command::new("promtool").args(args).current_dir(ops().join("prometheus")).output();
    let ran = ran.expect("Debian's prometheus");
    let said = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{said}");
    said
}

/// Fails for a metric, or a label of it, that the program does not export.
fn check_query(query: &str) {
    let series = Regex::new(r"\b((?:nudge|process)_[a-z0-9_]+)(?:\{([^}]*)\})?").unwrap();
    let label = Regex::new(r#"([a-z_]+)\s*(?:=~|!~|!=|=)\s*""#).unwrap();
    let mut found = 0;
    for captures in series.captures_iter(query) {
        let name = &captures[1];
        let of = |suffix: &str| {
            let base = name.strip_suffix(suffix)?;
            FAMILIES.iter().find(|family| family.name == base && family.kind == Kind::Histogram)
        };
        let family = FAMILIES
            .iter()
            .find(|family| family.name == name)
            .or_else(|| ["_bucket", "_sum", "_count"].into_iter().find_map(of))
            .unwrap_or_else(|| panic!("`{name}` is not exported: {query}"));
        for captures in label.captures_iter(captures.get(2).map_or("", |labels| labels.as_str())) {
            let label = &captures[1];
            let known = family.labels.contains(&label) || ["instance", "job", "le"].contains(&label);
            assert!(known, "`{name}` has no label `{label}`: {query}");
        }
        found += 1;
    }
    assert!(found > 0 || query.contains("nudge:") || query.contains("up{"), "{query}");
}

#[test]
fn promtool_finds_the_rules_good_and_their_tests_pass() {
    assert!(promtool(&["check", "rules", "--lint=all", "--lint-fatal", "alerts.yml"]).contains("SUCCESS"));
    assert!(promtool(&["check", "config", "--syntax-only", "prometheus.yml"]).contains("SUCCESS"));
    assert!(promtool(&["test", "rules", "tests/alerts.yml"]).contains("SUCCESS"));
}

#[test]
fn rules_are_about_metrics_that_there_are_and_lead_to_sections_of_the_manual() {
    let rules = read(&ops().join("prometheus/alerts.yml"));
    let manual = read(&ops().join("../docs/OPERATIONS.md"));
    let expression = Regex::new(r"(?m)^ +expr: (?:\|\n((?: {10,}.*\n)+)|(.*)\n)").unwrap();
    let queries: Vec<String> = expression
        .captures_iter(&rules)
        .map(|captures| captures.get(1).or(captures.get(2)).unwrap().as_str().to_owned())
        .collect();
    assert_eq!(queries.len(), rules.matches("expr:").count());
    queries.iter().for_each(|query| check_query(query));
    let recorded: BTreeSet<&str> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- record: ")).collect();
    for captures in Regex::new(r"nudge:[a-z0-9_:]+").unwrap().find_iter(&rules) {
        assert!(recorded.contains(captures.as_str()), "{} is not recorded", captures.as_str());
    }
    let anchors: BTreeSet<String> = manual
        .lines()
        .filter_map(|line| line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#')))
        .map(|heading| {
            let kept =
                heading.to_lowercase().replace(|c: char| !c.is_alphanumeric() && c != ' ' && c != '-', "");
            kept.replace(' ', "-")
        })
        .collect();
    let links: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("runbook: ")).collect();
    assert_eq!(links.len(), rules.matches("- alert: ").count());
    for link in links {
        let anchor = link.strip_prefix("docs/OPERATIONS.md#").unwrap();
        assert!(anchors.contains(anchor), "{link}");
    }
    // Those that are built in have the same names, but for the disk, which others look after there.
    for rule in Rule::ALL.into_iter().filter(|rule| *rule != Rule::DiskFull) {
        assert!(rules.contains(&format!("- alert: {}\n", alertname(rule.as_str()))), "{rule}");
    }
}

#[test]
fn dashboards_ask_for_metrics_that_there_are_in_queries_that_prometheus_reads() {
    let mut rules = String::from("groups:\n  - name: queries\n    rules:\n");
    let mut dashboards = 0;
    for file in std::fs::read_dir(ops().join("grafana")).unwrap() {
        let path = file.unwrap().path();
        let dashboard: Value = serde_json::from_str(&read(&path)).unwrap();
        assert!(dashboard["uid"].is_string() && dashboard["title"].is_string(), "{}", path.display());
        let panels = dashboard["panels"].as_array().unwrap();
        let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_i64().unwrap()).collect();
        assert_eq!(ids.len(), panels.len(), "ids of panels");
        for panel in panels {
            assert_eq!(panel["datasource"]["uid"], "${datasource}");
            for target in panel["targets"].as_array().unwrap() {
                let query = target["expr"].as_str().unwrap();
                check_query(query);
                let filled = query.replace("$__rate_interval", "5m").replace("$instance", ".*");
                rules += &format!(
                    "      - record: query:number_{}\n        expr: {}\n",
                    rules.len(),
                    Value::from(filled)
                );
            }
        }
        dashboards += 1;
    }
    assert_eq!(dashboards, 2);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("queries.yml");
    std::fs::write(&file, rules).unwrap();
    promtool(&["check", "rules", file.to_str().unwrap()]);
}
