//! What a page is asked with: the fields of its address or of a form. Fields that are not known are ignored, the first of
//! a name counts, blanks around a value do not.

use std::collections::HashMap;

use axum::body::Body;
use axum::http::header;
use axum::http::request::Parts;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use super::error::PageError;
use crate::api::App;
use crate::api::app::Place;
use crate::auth::Caller;

/// Largest form.
const MAX_FORM: usize = 64 * 1024;

/// Fields by name.
#[derive(Debug, Clone, Default)]
pub struct Input(HashMap<String, String>);

impl Input {
    /// Reads the fields of an address.
    pub fn of_query(query: Option<&str>) -> Self {
        Self::parse(query.unwrap_or_default().as_bytes())
    }

    /// Reads the fields of a form.
    ///
    /// # Errors
    /// When it is no form, too large, or does not arrive in time.
    pub async fn of_form(app: &App, parts: &Parts, body: Body) -> Result<Self, PageError> {
        let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err(PageError::bad("This is not a form that this page understands."));
        }
        // As for every body: it has a place of its own while it comes, so that a slow one takes nothing from others.
        let place = parts.extensions.get::<Place>();
        let reading = app.admit_body(&Caller::Anonymous).map_err(|_full| PageError::Busy)?;
        if let Some(place) = place {
            place.hold(None);
        }
        let collected =
            tokio::time::timeout(app.limits.body_timeout, Limited::new(body, MAX_FORM).collect()).await;
        drop(reading);
        let bytes = match collected {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.downcast_ref::<LengthLimitError>().is_some() => {
                return Err(PageError::bad("The form is larger than 64 KiB."));
            }
            Ok(Err(_)) => return Err(PageError::bad("The form ended too early.")),
            Err(_) => return Err(PageError::bad("The form did not arrive in time.")),
        };
        if let Some(place) = place {
            place.hold(app.admit(parts.uri.path()).map_err(|_full| PageError::Busy)?);
        }
        Ok(Self::parse(&bytes))
    }

    fn parse(bytes: &[u8]) -> Self {
        let mut fields = HashMap::new();
        for (name, value) in form_urlencoded::parse(bytes) {
            fields.entry(name.into_owned()).or_insert_with(|| value.into_owned());
        }
        Self(fields)
    }

    /// Gives a field without the blanks around it; an empty one counts as absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }
}

/// Writes an address with those of the fields that are there.
pub fn address(path: &str, fields: &[(&str, Option<&str>)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in fields {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    let query = query.finish();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_trimmed_and_the_first_of_a_name_counts() {
        let input = Input::of_query(Some("user=+ann%20&user=eve&rule=&x=%3Cb%3E"));
        assert_eq!((input.get("user"), input.get("rule"), input.get("x")), (Some("ann"), None, Some("<b>")));
    }

    #[test]
    fn an_address_is_encoded() {
        assert_eq!(address("/a", &[("q", Some("x&y=<")), ("n", None)]), "/a?q=x%26y%3D%3C");
        assert_eq!(address("/a", &[("q", None)]), "/a");
    }
}
