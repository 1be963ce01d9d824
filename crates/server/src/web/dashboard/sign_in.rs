//! Signing in with a token, and out.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use maud::{Markup, html};
use metrics::counter;
use nudge_store::ProfileRole;

use super::error::PageError;
use super::guard::{
    Admin, FORM_TOKEN, Posted, cookie, form_cookie, is_same_origin, session_cookie, set_cookie,
};
use super::input::Input;
use super::page::{bare_then, redirect};
use super::path;
use super::ui::{Tone, notice};
use crate::api::App;
use crate::api::app::Peer;
use crate::auth::Caller;
use crate::auth::session::Verified;
use crate::clock::new_id;

/// Seconds for which a sign-in form can be sent.
const FORM_SECONDS: i64 = 3_600;

/// Shows the sign-in, or goes on for who is signed in already.
pub async fn get_sign_in(State(app): State<Arc<App>>, parts: Parts) -> Response {
    let next = next(&Input::of_query(parts.uri.query()));
    if Admin::of(&app, &parts).await.is_ok() {
        return redirect(&next);
    }
    // Who follows a link from elsewhere comes without the cookie, as it is `SameSite=Strict`; the next step, from a page
    // of our own, has it.
    let from_elsewhere = parts.headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site");
    form(&app, StatusCode::OK, from_elsewhere.then_some(next.as_str()), &next, None)
}

/// Where to go after the sign-in: a page of the dashboard, whatever was asked for.
fn next(input: &Input) -> String {
    let wanted = input.get("next").unwrap_or(path::HOME);
    let plain = wanted.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'\\' | b'"' | b';'));
    let ours = wanted == path::HOME
        || wanted.strip_prefix(path::HOME).is_some_and(|rest| rest.starts_with(['/', '?']));
    if ours && plain && !wanted.contains("//") && !wanted.starts_with(path::SIGN_IN) {
        wanted.to_owned()
    } else {
        path::HOME.to_owned()
    }
}

fn form(app: &App, status: StatusCode, then: Option<&str>, next: &str, problem: Option<&str>) -> Response {
    let nonce = new_id(app.clock.now()).to_string();
    let token = app.dashboard.sessions.form_token(&nonce);
    let mut response = bare_then(status, "Sign in", then, &fields(&token, next, problem));
    let cookie = set_cookie(form_cookie(app.dashboard.secure), &nonce, app.dashboard.secure, FORM_SECONDS);
    add_cookie(response.headers_mut(), &cookie);
    response
}

fn fields(token: &str, next: &str, problem: Option<&str>) -> Markup {
    html! {
        h1 { "Nudge" }
        p.lead { "Sign in to the dashboard." }
        @if let Some(problem) = problem { (notice(Tone::Bad, problem)) }
        form.card method="post" action=(path::SIGN_IN) {
            input type="hidden" name=(FORM_TOKEN) value=(token);
            input type="hidden" name="next" value=(next);
            label for="token" { "Token of an admin, or the service key" }
            input #token type="password" name="token" required autocomplete="off" spellcheck="false"
                autocapitalize="off" autofocus;
            button { "Sign in" }
        }
        div.help {
            p { "On the machine that the server runs on:" }
            pre { code { "nudge token --sub ADMIN --ttl 8h\nnudge keys" } }
            p {
                "The first makes a token of a user whose profile says " code { "admin" } "; the second prints the service key. \
                 You stay signed in for as long as the token is valid, eight hours at most."
            }
        }
    }
}

/// Exchanges a token for a session.
pub async fn post_sign_in(
    State(app): State<Arc<App>>,
    parts: Parts,
    body: Body,
) -> Result<Response, PageError> {
    let address = parts.extensions.get::<Peer>().map(|peer| peer.0.ip());
    if let Err(seconds) = app.dashboard.attempt(address) {
        note("limited");
        let said = format!("There were too many attempts. Try again in {seconds} seconds.");
        let mut response = form(&app, StatusCode::TOO_MANY_REQUESTS, None, path::HOME, Some(&said));
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        return Ok(response);
    }
    let input = Input::of_form(&app, &parts, body).await?;
    let next = next(&input);
    let nonce = cookie(&parts.headers, form_cookie(app.dashboard.secure));
    let token = input.get(FORM_TOKEN).unwrap_or_default();
    let ours = is_same_origin(&parts.headers, &app.url)
        && nonce.is_some_and(|nonce| app.dashboard.sessions.is_form_token(nonce, token));
    if !ours {
        note("forged");
        let said = "The form was too old or did not come from this page. Try once more.";
        return Ok(form(&app, StatusCode::FORBIDDEN, None, &next, Some(said)));
    }
    let verified = match admitted(&app, input.get("token").unwrap_or_default()).await? {
        Ok(verified) => verified,
        Err((status, said)) => {
            note("refused");
            return Ok(form(&app, status, None, &next, Some(&said)));
        }
    };
    enter(&app, verified, &next)
}

/// Verifies what was typed; in the inner error what is wrong with it, for people.
async fn admitted(app: &App, credential: &str) -> Result<Result<Verified, (StatusCode, String)>, PageError> {
    let verified = match app.auth.exchange(credential, app.clock.now()).await {
        Ok(verified) => verified,
        // What is wrong with a token says nothing of other tokens.
        Err(error) => return Ok(Err((StatusCode::UNAUTHORIZED, error.to_string()))),
    };
    let refused = |text: &str| Ok(Err((StatusCode::FORBIDDEN, text.to_owned())));
    match &verified.caller {
        Caller::Anonymous => refused("This is the anonymous key, which everybody may know."),
        Caller::Service => Ok(Ok(verified)),
        Caller::User(me) => match app.store.profile(me).await?.role {
            ProfileRole::Admin => Ok(Ok(verified)),
            ProfileRole::Member => refused("This user is no admin: their row in `profiles` does not say so."),
        },
    }
}

fn enter(app: &App, verified: Verified, next: &str) -> Result<Response, PageError> {
    let now = app.clock.now();
    let sessions = &app.dashboard.sessions;
    let Some(session) = sessions.make(new_id(now), verified, now) else { return Err(PageError::NotAdmin) };
    let secure = app.dashboard.secure;
    let seconds = session.expires_at.duration_since(now).as_secs().max(1);
    let mut response = redirect(next);
    let sealed = sessions.seal(&session)?;
    add_cookie(response.headers_mut(), &set_cookie(session_cookie(secure), &sealed, secure, seconds));
    add_cookie(response.headers_mut(), &set_cookie(form_cookie(secure), "", secure, 0));
    note("accepted");
    tracing::info!(session.id = %session.id, session.expires_at = %session.expires_at, "dashboard.signed_in");
    Ok(response)
}

/// Ends the session here and on every other server of the database.
pub async fn post_sign_out(State(app): State<Arc<App>>, posted: Result<Posted, PageError>) -> Response {
    let posted = match posted {
        Ok(posted) => posted,
        // Nobody was signed in any more.
        Err(PageError::SignIn { .. }) => return left(&app),
        Err(other) => return other.into_response(),
    };
    let session = &posted.admin.session;
    match app.store.end_session(session.id, session.expires_at, app.clock.now()).await {
        Ok(()) => {
            tracing::info!(session.id = %session.id, "dashboard.signed_out");
            left(&app)
        }
        // The cookie stays, so that the person is not told of an end that did not happen.
        Err(error) => PageError::from(error).into_response(),
    }
}

fn left(app: &App) -> Response {
    let secure = app.dashboard.secure;
    let mut response = redirect(path::SIGN_IN);
    add_cookie(response.headers_mut(), &set_cookie(session_cookie(secure), "", secure, 0));
    response
}

fn add_cookie(headers: &mut HeaderMap, cookie: &str) {
    if let Ok(value) = HeaderValue::from_str(cookie) {
        headers.append(header::SET_COOKIE, value);
    }
}

fn note(result: &'static str) {
    counter!("nudge_dashboard_sign_ins_total", "result" => result).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sign_in_goes_on_within_the_dashboard_only() {
        let to = |next: &str| {
            let query = form_urlencoded::Serializer::new(String::new()).append_pair("next", next).finish();
            super::next(&Input::of_query(Some(&query)))
        };
        for good in ["/dashboard", "/dashboard/user?id=ann", "/dashboard?x=1"] {
            assert_eq!(to(good), good);
        }
        for bad in [
            "",
            "https://evil.example",
            "//evil.example",
            "/dashboard//evil.example",
            "/dashboards",
            "/functions/v1/x",
            "/dashboard/../x y",
            "/dashboard/sign-in?next=/dashboard",
            "/dashboard\\evil",
            "/dashboard/a;url=x",
        ] {
            assert_eq!(to(bad), path::HOME, "{bad}");
        }
    }
}
