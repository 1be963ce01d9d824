//! The parts of pages that are kept up to date, by server-sent events.
//!
//! Every two seconds the part is made again, and sent if it is another than before. The session is asked for each time:
//! who is signed out, or no admin any more, is told so and sees nothing further. A stream ends after ten minutes, and
//! with the server; the browser then connects again.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use maud::{Markup, html};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::error::PageError;
use super::guard::Admin;
use super::page::guard_headers;
use super::{alerts, jobs, overview};
use crate::api::App;

/// How often a part is made again.
const PAUSE: Duration = Duration::from_secs(2);
/// How long a stream lasts.
const LIFE: Duration = Duration::from_secs(600);

/// A part that is kept up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// How the service stands.
    Service,
    /// How the job stands.
    Job,
    /// Where the alerts stand.
    Alerts,
    /// Those that are not as they should be.
    Raised,
}

impl Part {
    const ALL: [Self; 4] = [Self::Service, Self::Job, Self::Alerts, Self::Raised];

    const fn name(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Job => "job",
            Self::Alerts => "alerts",
            Self::Raised => "raised",
        }
    }

    async fn made(self, app: &App, admin: &Admin) -> Result<Markup, PageError> {
        match self {
            Self::Service => Ok(overview::service(app)),
            Self::Job => jobs::now(app, admin).await,
            Self::Alerts => alerts::states(app).await,
            Self::Raised => alerts::raised(app).await,
        }
    }
}

/// Frames a part, so that the script finds it.
pub fn part(part: Part, title: &str, content: &Markup) -> Markup {
    let id = format!("live-{}", part.name());
    html! {
        section aria-label=(title) {
            h2 { (title) " " span.live-note data-live-note=(id) hidden {} }
            div id=(id) data-live=(format!("/dashboard/live/{}", part.name())) { (content) }
        }
    }
}

/// What a stream goes on with.
struct Following {
    app: Arc<App>,
    parts: Parts,
    part: Part,
    sent: Option<String>,
    until: Instant,
    ended: bool,
    _place: OwnedSemaphorePermit,
}

/// Follows a part.
pub async fn get_live(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    parts: Parts,
) -> Result<Response, PageError> {
    match Admin::of(&app, &parts).await {
        Ok(_) => {}
        // A browser that is told so does not come again.
        Err(PageError::SignIn { .. } | PageError::NotAdmin) => {
            let mut response = StatusCode::NO_CONTENT.into_response();
            guard_headers(&mut response);
            return Ok(response);
        }
        Err(other) => return Err(other),
    }
    let part = Part::ALL.into_iter().find(|part| part.name() == name);
    let part = part.ok_or_else(|| PageError::missing("There is nothing to follow here."))?;
    let place = Arc::clone(&app.dashboard.live).try_acquire_owned().map_err(|_full| PageError::Busy)?;
    let until = Instant::now() + LIFE;
    let following = Following { app, parts, part, sent: None, until, ended: false, _place: place };
    let events = stream::unfold(following, |following| async move { following.next().await });
    let mut response = Sse::new(events).keep_alive(KeepAlive::default()).into_response();
    guard_headers(&mut response);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

impl Following {
    /// Waits for the next event; `None` ends the stream.
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        let mut stopping = self.app.dashboard.stopping.subscribe();
        loop {
            if self.ended || *stopping.borrow_and_update() || Instant::now() >= self.until {
                return None;
            }
            if self.sent.is_some() {
                tokio::select! {
                    () = tokio::time::sleep(PAUSE) => {}
                    changed = stopping.changed() => { if changed.is_ok() { return None; } }
                }
            }
            let made = match Admin::of(&self.app, &self.parts).await {
                Ok(admin) => self.part.made(&self.app, &admin).await,
                Err(PageError::SignIn { .. } | PageError::NotAdmin) => {
                    self.ended = true;
                    return Some((Ok(Event::default().event("gone").data("signed out")), self));
                }
                Err(other) => Err(other),
            };
            let text = match made {
                Ok(markup) => markup.into_string(),
                // The database is away, say: what is shown stays, and is made again in a moment.
                Err(error) => {
                    tracing::debug!(%error, "dashboard.live_not_made");
                    self.sent.get_or_insert_default();
                    continue;
                }
            };
            if self.sent.as_ref() != Some(&text) {
                let event = Event::default().event("part").data(&text);
                self.sent = Some(text);
                return Some((Ok(event), self));
            }
        }
    }
}
