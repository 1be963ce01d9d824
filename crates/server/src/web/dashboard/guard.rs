//! Who may see a page and who may do something: asked anew at every request.
//!
//! A page takes an [`Admin`], an action a [`Posted`]: neither can be had without all of the checks.

use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, header};
use nudge_store::{Actor, ProfileRole};

use super::error::PageError;
use super::input::Input;
use super::path;
use crate::api::App;
use crate::api::app::Origin;
use crate::auth::session::{Session, Who};

/// The field of a form that carries its token.
pub const FORM_TOKEN: &str = "form_token";
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Somebody who is signed in and is an admin now, or holds the service key.
#[derive(Debug, Clone)]
pub struct Admin {
    /// Who acts, for the audit log.
    pub actor: Actor,
    /// The session.
    pub session: Session,
    /// The token that the session's forms carry.
    pub form_token: String,
}

impl Admin {
    /// Finds out who is signed in, and whether they may be.
    ///
    /// # Errors
    /// To the sign-in without a session that lasts, 403 for who is no admin now.
    pub async fn of(app: &App, parts: &Parts) -> Result<Self, PageError> {
        let wanted = parts.uri.path_and_query().map_or(path::HOME, |wanted| wanted.as_str());
        let sign_in = || PageError::SignIn { next: wanted.to_owned() };
        let now = app.clock.now();
        let cookie = cookie(&parts.headers, session_cookie(app.dashboard.secure));
        let session =
            cookie.and_then(|cookie| app.dashboard.sessions.open(cookie, now)).ok_or_else(sign_in)?;
        if app.store.session_has_ended(session.id).await? {
            return Err(sign_in());
        }
        let (id, role) = match &session.who {
            Who::Service { key: Some(key) } if !app.auth.has_secret_key(key) => return Err(sign_in()),
            Who::Service { .. } => ("service_role".to_owned(), "service_role"),
            Who::User(me) => match app.store.profile(me).await?.role {
                ProfileRole::Admin => (me.to_string(), "admin"),
                ProfileRole::Member => return Err(PageError::NotAdmin),
            },
        };
        let origin = Origin::of(parts);
        let actor =
            Actor { id, role: role.to_owned(), ip_address: origin.address, user_agent: origin.user_agent };
        let form_token = app.dashboard.sessions.form_token(&session.id.to_string());
        Ok(Self { actor, session, form_token })
    }
}

impl FromRequestParts<Arc<App>> for Admin {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, PageError> {
        Self::of(app, parts).await
    }
}

/// A form of a page of this session, sent by an admin.
#[derive(Debug)]
pub struct Posted {
    /// Who sent it.
    pub admin: Admin,
    /// Its fields.
    pub input: Input,
}

impl FromRequest<Arc<App>> for Posted {
    type Rejection = PageError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, PageError> {
        let (parts, body) = request.into_parts();
        let admin = match Admin::of(app, &parts).await {
            // Where a form was to be sent there is no page to come back to.
            Err(PageError::SignIn { .. }) => return Err(PageError::SignIn { next: path::HOME.to_owned() }),
            other => other?,
        };
        if !is_same_origin(&parts.headers, &app.url) {
            return Err(PageError::Forged);
        }
        let input = Input::of_form(app, &parts, body).await?;
        let token = input.get(FORM_TOKEN).unwrap_or_default();
        if !app.dashboard.sessions.is_form_token(&admin.session.id.to_string(), token) {
            return Err(PageError::Forged);
        }
        Ok(Self { admin, input })
    }
}

/// Says whether a form comes from a page of this server: the browser says so, and names this host or the configured URL.
pub fn is_same_origin(headers: &HeaderMap, url: &str) -> bool {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if headers.contains_key(FETCH_SITE) && text(&FETCH_SITE) != Some("same-origin") {
        return false;
    }
    let Some(origin) = text(&header::ORIGIN) else { return false };
    if origin.eq_ignore_ascii_case(url) {
        return true;
    }
    let host = origin.split_once("://").map(|(_, host)| host);
    host.is_some() && host.zip(text(&header::HOST)).is_some_and(|(a, b)| a.eq_ignore_ascii_case(b))
}

/// Names the session's cookie. With the prefix a browser takes it from this host over https only.
pub fn session_cookie(secure: bool) -> &'static str {
    if secure { "__Host-nudge_session" } else { "nudge_session" }
}

/// Names the cookie that the sign-in form's token belongs to.
pub fn form_cookie(secure: bool) -> &'static str {
    if secure { "__Host-nudge_sign_in" } else { "nudge_sign_in" }
}

/// Finds a cookie's value.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|line| line.split(';')).find_map(|pair| {
        let (found, value) = pair.trim().split_once('=')?;
        (found == name).then_some(value)
    })
}

/// Writes a cookie that scripts cannot read and other sites cannot send. An empty value takes it away.
pub fn set_cookie(name: &str, value: &str, secure: bool, seconds: i64) -> String {
    let secure = if secure { "; Secure" } else { "" };
    format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(pairs: &[(&'static str, &str)]) -> bool {
        let headers =
            pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        is_same_origin(&headers.collect(), "https://nudge.example")
    }

    #[test]
    fn a_form_comes_from_this_host_or_from_nowhere() {
        assert!(same(&[("origin", "http://127.0.0.1:54321"), ("host", "127.0.0.1:54321")]));
        assert!(same(&[("origin", "https://nudge.example"), ("host", "10.0.0.7:8080")]));
        assert!(same(&[
            ("origin", "https://nudge.example"),
            ("host", "nudge.example"),
            ("sec-fetch-site", "same-origin")
        ]));
        for elsewhere in [
            &[("host", "127.0.0.1:54321")][..],
            &[("origin", "null"), ("host", "null")],
            &[("origin", "http://127.0.0.1:9999"), ("host", "127.0.0.1:54321")],
            &[("origin", "https://nudge.example.evil"), ("host", "nudge.example")],
            &[
                ("origin", "https://nudge.example"),
                ("host", "nudge.example"),
                ("sec-fetch-site", "same-site"),
            ],
            &[("origin", "https://nudge.example"), ("host", "nudge.example"), ("sec-fetch-site", "none")],
        ] {
            assert!(!same(elsewhere), "{elsewhere:?}");
        }
    }

    #[test]
    fn cookies_are_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, "a=1; nudge_session=x.y; b=2".parse().unwrap());
        headers.append(header::COOKIE, "c=3".parse().unwrap());
        assert_eq!(cookie(&headers, "nudge_session"), Some("x.y"));
        assert_eq!((cookie(&headers, "c"), cookie(&headers, "session")), (Some("3"), None));
    }
}
