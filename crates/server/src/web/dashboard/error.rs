//! Why there is no page, said on a page with a way out.

use std::sync::Arc;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use maud::html;
use nudge_store::StoreError;

use super::input::address;
use super::page::{bare, redirect};
use super::path;

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// Nobody is signed in, or no longer: to the sign-in, and from there back.
    #[error("not signed in")]
    SignIn {
        /// Where the person wanted to go.
        next: String,
    },
    /// Somebody is signed in who is no admin, or no longer.
    #[error("not an admin")]
    NotAdmin,
    /// A form that did not come from a page of this session.
    #[error("a form from elsewhere")]
    Forged,
    /// What was asked for does not exist.
    #[error("{0}")]
    Missing(String),
    /// What was asked for makes no sense.
    #[error("{0}")]
    Bad(String),
    /// A method that the page does not take.
    #[error("use one of {0}")]
    Method(&'static str),
    /// Too many requests in work.
    #[error("the server is busy")]
    Busy,
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The database, asked by several at once.
    #[error(transparent)]
    Shared(#[from] Arc<StoreError>),
    /// What was recorded cannot be read.
    #[error("a record cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// Something that has been logged already.
    #[error("something is wrong inside")]
    Inside,
    /// A plot could not be drawn.
    #[error("a plot cannot be drawn: {0}")]
    Plot(String),
}

impl PageError {
    /// Makes the error of something that makes no sense.
    pub fn bad(problem: impl Into<String>) -> Self {
        Self::Bad(problem.into())
    }

    /// Makes the error of something that does not exist.
    pub fn missing(problem: impl Into<String>) -> Self {
        Self::Missing(problem.into())
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::SignIn { .. } => StatusCode::SEE_OTHER,
            Self::NotAdmin | Self::Forged => StatusCode::FORBIDDEN,
            Self::Missing(_) => StatusCode::NOT_FOUND,
            Self::Bad(_) => StatusCode::BAD_REQUEST,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Store(error) => store_status(error),
            Self::Shared(error) => store_status(error),
            Self::Inside | Self::Unreadable(_) | Self::Plot(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Says what happened and what to do, for people; nothing of what is inside.
    fn said(&self) -> (&'static str, &str) {
        match self {
            Self::SignIn { .. } => ("Sign in", "You are not signed in."),
            Self::NotAdmin => (
                "Not an admin",
                "The profile of whoever is signed in here does not say admin now. Sign out and sign in as an admin.",
            ),
            Self::Forged => (
                "Not done",
                "The form did not come from a page of this session, so nothing was done. Go back, load the page again, and try once more.",
            ),
            Self::Missing(problem) => ("Not found", problem),
            Self::Bad(problem) => ("Not understood", problem),
            Self::Method(_) => ("Not possible", "This address does not take that kind of request."),
            Self::Busy => ("Too busy", "The server has too much to do right now. Try again in a moment."),
            Self::Store(_) | Self::Shared(_) if self.status() == StatusCode::SERVICE_UNAVAILABLE => (
                "The database is away",
                "The database cannot be asked right now, and nothing was changed. Recommendations go on meanwhile. Try again in a moment.",
            ),
            Self::Store(_) | Self::Shared(_) | Self::Inside | Self::Unreadable(_) | Self::Plot(_) => {
                ("Something is wrong here", "The page could not be made. The server's log says why.")
            }
        }
    }
}

fn store_status(error: &StoreError) -> StatusCode {
    if error.is_unavailable() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::INTERNAL_SERVER_ERROR }
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        if let Self::SignIn { next } = &self {
            let next = (next != path::HOME).then_some(next.as_str());
            return redirect(&address(path::SIGN_IN, &[("next", next)]));
        }
        let status = self.status();
        if status.is_server_error() {
            // Logged once, here at the edge.
            tracing::warn!(error = %self, "dashboard.failed");
        }
        let (title, text) = self.said();
        let mut response = bare(
            status,
            title,
            html! {
                h1 { (title) }
                p { (text) }
                p { a href=(path::HOME) { "To the overview" } }
            },
        );
        if let Self::Method(allow) = self {
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
