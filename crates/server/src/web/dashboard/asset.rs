//! Style, script and icon: files of the binary, named by their content, so that they may be kept for ever.

use std::sync::LazyLock;

use axum::body::Body;
use axum::extract::Path;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use sha2::{Digest, Sha256};

use super::error::PageError;
use super::page::guard_headers;

/// A file that pages refer to.
struct Asset {
    body: &'static str,
    kind: &'static str,
    name: LazyLock<String>,
}

fn named(stem: &str, ending: &str, body: &str) -> String {
    let digest = Sha256::digest(body.as_bytes());
    let hash: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{stem}-{hash}.{ending}")
}

const STYLE_BODY: &str = include_str!("dashboard.css");
const SCRIPT_BODY: &str = include_str!("dashboard.js");
const ICON_BODY: &str = include_str!("icon.svg");

static STYLE: Asset = Asset {
    body: STYLE_BODY,
    kind: "text/css; charset=utf-8",
    name: LazyLock::new(|| named("dashboard", "css", STYLE_BODY)),
};
static SCRIPT: Asset = Asset {
    body: SCRIPT_BODY,
    kind: "text/javascript; charset=utf-8",
    name: LazyLock::new(|| named("dashboard", "js", SCRIPT_BODY)),
};
static ICON: Asset =
    Asset { body: ICON_BODY, kind: "image/svg+xml", name: LazyLock::new(|| named("icon", "svg", ICON_BODY)) };

fn address(asset: &'static Asset) -> String {
    format!("/dashboard/assets/{}", *asset.name)
}

/// The address of the style.
pub fn style() -> String {
    address(&STYLE)
}

/// The address of the script.
pub fn script() -> String {
    address(&SCRIPT)
}

/// The address of the icon.
pub fn icon() -> String {
    address(&ICON)
}

/// Sends one of them. They are the same for everybody, so nobody has to be signed in.
pub async fn get_asset(Path(name): Path<String>) -> Result<Response, PageError> {
    let asset = [&STYLE, &SCRIPT, &ICON].into_iter().find(|asset| *asset.name == name);
    let asset = asset.ok_or_else(|| PageError::missing("There is no such file."))?;
    let mut response = Response::new(Body::from(asset.body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    guard_headers(&mut response);
    Ok(response)
}
