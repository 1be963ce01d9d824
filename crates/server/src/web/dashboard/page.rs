//! The frame that all pages share, and the headers that they are sent with.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use jiff::Timestamp;
use maud::{DOCTYPE, Markup, html};

use super::guard::{Admin, FORM_TOKEN};
use super::{asset, path};
use crate::api::App;

/// Only what this server sends: no inline script or style, no other site, no frame around it.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The parts of the dashboard, as its navigation lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Overview,
    Archetypes,
    Recommendations,
    Users,
    Jobs,
    Alerts,
    Audit,
    Settings,
}

impl Part {
    const ALL: [Self; 8] = [
        Self::Overview,
        Self::Archetypes,
        Self::Recommendations,
        Self::Users,
        Self::Jobs,
        Self::Alerts,
        Self::Audit,
        Self::Settings,
    ];

    const fn title(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Archetypes => "Archetypes",
            Self::Recommendations => "Recommendations",
            Self::Users => "Users",
            Self::Jobs => "Jobs",
            Self::Alerts => "Alerts",
            Self::Audit => "Audit",
            Self::Settings => "Settings",
        }
    }

    const fn path(self) -> &'static str {
        match self {
            Self::Overview => path::HOME,
            Self::Archetypes => path::ARCHETYPES,
            Self::Recommendations => path::RECOMMENDATIONS,
            Self::Users => path::USERS,
            Self::Jobs => path::JOBS,
            Self::Alerts => path::ALERTS,
            Self::Audit => path::AUDIT,
            Self::Settings => path::SETTINGS,
        }
    }
}

/// Sends a page with the navigation around it. Its heading is part of `content`.
pub fn page(app: &App, admin: &Admin, part: Part, title: &str, content: &Markup) -> Response {
    page_with(StatusCode::OK, app, admin, part, title, content)
}

/// As [`page`], with another status than 200.
pub fn page_with(
    status: StatusCode,
    app: &App,
    admin: &Admin,
    part: Part,
    title: &str,
    content: &Markup,
) -> Response {
    let markup = html! {
        header.top {
            a.brand href=(path::HOME) { "Nudge" }
            form.who method="post" action=(path::SIGN_OUT) {
                (form_token(admin))
                span.name title=(format!("signed in until {}", Time(app, admin.session.expires_at).text())) {
                    (admin.actor.id)
                }
                button.quiet { "Sign out" }
            }
        }
        nav.parts aria-label="Parts of the dashboard" {
            ul {
                @for each in Part::ALL {
                    li { a href=(each.path()) aria-current=[(each == part).then_some("page")] { (each.title()) } }
                }
            }
        }
        main #main tabindex="-1" { (content) }
        footer {
            "version " (env!("CARGO_PKG_VERSION")) " · policy " (app.policy.name) " · made at "
            (Time(app, app.clock.now()).markup())
        }
    };
    html_response(status, &document(title, "framed", None, &markup))
}

/// Sends a page without navigation: the sign-in, and errors.
pub fn bare(status: StatusCode, title: &str, content: Markup) -> Response {
    bare_then(status, title, None, &content)
}

/// As [`bare`], going on to another page of this server at once.
pub fn bare_then(status: StatusCode, title: &str, then: Option<&str>, content: &Markup) -> Response {
    let markup = html! { main.alone #main { (content) } };
    html_response(status, &document(title, "alone", then, &markup))
}

fn document(title: &str, kind: &str, then: Option<&str>, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                @if let Some(then) = then { meta http-equiv="refresh" content=(format!("0; url={then}")); }
                title { (title) " · Nudge" }
                link rel="icon" href=(asset::icon()) type="image/svg+xml";
                link rel="stylesheet" href=(asset::style());
                script src=(asset::script()) defer {}
            }
            body class=(kind) {
                a.skip href="#main" { "To the content" }
                (body)
            }
        }
    }
}

/// Goes on to another page of this server, with GET.
pub fn redirect(to: &str) -> Response {
    let mut response = Response::new(Body::from("See the page that Location names."));
    *response.status_mut() = StatusCode::SEE_OTHER;
    if let Ok(to) = HeaderValue::from_str(to) {
        response.headers_mut().insert(header::LOCATION, to);
    }
    guard_headers(&mut response);
    response
}

fn html_response(status: StatusCode, markup: &Markup) -> Response {
    let mut response = Response::new(Body::from(markup.0.clone()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    guard_headers(&mut response);
    response
}

/// Adds the headers that keep a page to itself.
pub fn guard_headers(response: &mut Response) {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        // Not `no-referrer`: a browser would then send its forms with `Origin: null`.
        (header::REFERRER_POLICY, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

/// The hidden field with the token that every form of a session carries.
pub fn form_token(admin: &Admin) -> Markup {
    html! { input type="hidden" name=(FORM_TOKEN) value=(admin.form_token); }
}

/// A time as people read it, in the configured zone.
pub struct Time<'a>(pub &'a App, pub Timestamp);

impl Time<'_> {
    /// Writes it to the second, with the zone's abbreviation.
    pub fn text(&self) -> String {
        self.1.to_zoned_datetime(self.0.zone.clone()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
    }

    /// Writes it to the minute, machine-readable beside.
    pub fn markup(&self) -> Markup {
        let zoned = self.1.to_zoned_datetime(self.0.zone.clone());
        html! {
            time datetime=(self.1.to_string()) title=(self.text()) { (zoned.strftime("%Y-%m-%d %H:%M").to_string()) }
        }
    }
}
