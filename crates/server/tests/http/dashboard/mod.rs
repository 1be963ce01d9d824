//! The dashboard as a browser sees it, without its scripts: who may see what, what forms do, and what is never shown.

mod actions;
mod alerts;
mod browser;
mod jobs;
mod live;
mod pages;
mod session;

use serde_json::json;

use crate::support::{Harness, facts};
pub use browser::Browser;

/// Every page of an admin, with things to show on each.
pub const PAGES: &[&str] = &[
    "/dashboard",
    "/dashboard/archetypes",
    "/dashboard/recommendations",
    "/dashboard/users",
    "/dashboard/user?id=alice",
    "/dashboard/jobs",
    "/dashboard/alerts",
    "/dashboard/audit",
    "/dashboard/settings",
];

/// The home that most tests are about, and an admin named root.
pub fn home() -> Harness {
    home_with(&[])
}

pub fn home_with(settings: &[(&'static str, &str)]) -> Harness {
    let server = Harness::with(settings);
    server.seed(facts::home());
    server.seed([facts::profile("root", "admin", false), facts::profile("member", "member", false)]);
    server
}

/// Takes the role of an admin away, as the app does.
pub fn demote(server: &Harness, user: &str) {
    server.seed([facts::update(
        "profiles",
        json!({ "id": user, "role": "member", "personalization_opt_out": false }),
        json!({ "id": user }),
    )]);
}
