//! A token: the bytes as a token of their own, and as claims under a signature that fits.
#![no_main]

use std::sync::LazyLock;

use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use libfuzzer_sys::fuzz_target;
use nudge::auth::Caller;
use nudge::auth::jwks::Jwks;
use nudge::auth::jwt::verify;
use serde_json::Value;

const SECRET: &[u8] = b"a secret that the fuzzer does not know of";
const SET: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"a","alg":"ES256","use":"sig",
    "x":"_QyZ1gHbETWHAUsIsQeJanLhmqazgaspoK3Td5CYGOE","y":"WTQjD3ZAr8xijSDhRKhfC2_Ag0_OHsOSbRjRuK_7yQk"}]}"#;

struct World {
    runtime: tokio::runtime::Runtime,
    check: DecodingKey,
    sign: EncodingKey,
    keys: Jwks,
    now: Timestamp,
}

static WORLD: LazyLock<World> = LazyLock::new(|| World {
    runtime: tokio::runtime::Builder::new_current_thread().build().unwrap(),
    check: DecodingKey::from_secret(SECRET),
    sign: EncodingKey::from_secret(SECRET),
    keys: Jwks::new(Some(SET), None).unwrap(),
    now: Timestamp::from_second(1_773_050_400).unwrap(),
});

/// Base64url without padding.
fn encode(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let n = (0..3).fold(0_u32, |n, i| n << 8 | u32::from(chunk.get(i).copied().unwrap_or(0)));
        for i in 0..=chunk.len() {
            text.push(char::from(DIGITS[(n >> (18 - 6 * i) & 63) as usize]));
        }
    }
    text
}

fn caller(token: &str) -> Option<Caller> {
    let world = &*WORLD;
    let claims = world.runtime.block_on(verify(token, &world.check, &world.keys, world.now)).ok()?;
    assert!(claims.check_times(world.now).is_ok());
    Some(claims.caller())
}

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    assert_eq!(caller(&text), None, "nobody but us can sign");

    // The first line is the header, the rest the claims.
    let (header, claims) = text.split_once('\n').unwrap_or((r#"{"alg":"HS256"}"#, &text));
    let message = format!("{}.{}", encode(header.as_bytes()), encode(claims.as_bytes()));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &WORLD.sign, Algorithm::HS256).unwrap();
    if let Some(found) = caller(&format!("{message}.{signature}")) {
        // What the server looks past, such as numbers out of range in other claims, may not read as a value.
        let read = |text: &str| serde_json::from_str::<Value>(text).ok();
        let (Some(header), Some(claims)) = (read(header), read(claims)) else { return };
        assert!(header["alg"] == "HS256" || header[0] == "HS256");
        assert!(header.get("crit").is_none());
        let role = if claims.is_array() { &claims[0] } else { &claims["role"] };
        let expected = match found {
            Caller::Anonymous => "anon",
            Caller::Service => "service_role",
            Caller::User(_) => "authenticated",
        };
        assert_eq!(role, expected);
    }
});
