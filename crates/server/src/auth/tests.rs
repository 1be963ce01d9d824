use std::collections::BTreeMap;

use jsonwebtoken::DecodingKey;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::jwt::verify;
use super::*;

const SECRET: &[u8] = b"a secret of these tests that is long enough";

fn now() -> Timestamp {
    Timestamp::from_second(1_773_050_400).unwrap()
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn caller_of(token: &str) -> Result<Caller, JwtError> {
    let jwks = Jwks::new(None, None).unwrap();
    run(verify(token, &DecodingKey::from_secret(SECRET), &jwks, now())).map(Claims::caller)
}

fn signed(claims: &Value) -> String {
    keys::sign(SECRET, claims).unwrap()
}

fn alice() -> String {
    signed(&json!({ "role": "authenticated", "sub": "alice", "exp": now().as_second() + 60 }))
}

#[test]
fn each_broken_rule_is_named() {
    let user = |name: &str, value: Value| {
        let mut claims = json!({ "role": "authenticated", "sub": "alice", "exp": now().as_second() + 60 });
        claims[name] = value;
        caller_of(&signed(&claims)).unwrap_err()
    };
    assert_eq!(caller_of(&alice()), Ok(Caller::User(UserId::parse("alice").unwrap())));
    assert_eq!(user("role", json!("postgres")), JwtError::Role);
    assert_eq!(user("exp", json!("soon")), JwtError::Claim("exp"));
    assert_eq!(user("exp", json!(now().as_second() - 31)), JwtError::Expired);
    assert_eq!(user("nbf", json!(now().as_second() + 31)), JwtError::NotYet);
    assert_eq!(user("iat", json!(now().as_second() + 31)), JwtError::NotYet);
    assert_eq!(user("sub", json!(7)), JwtError::Claim("sub"));
    assert_eq!(caller_of("a.b.c"), Err(JwtError::Malformed));
    let unsigned = alice().rsplit_once('.').unwrap().0.to_owned();
    assert_eq!(caller_of(&format!("{unsigned}.")), Err(JwtError::Signature));
    assert_eq!(caller_of(&format!("{unsigned}.AAAA")), Err(JwtError::Signature));
}

#[test]
fn a_key_is_found_among_all_of_its_kind_and_nowhere_else() {
    let keys = |names: &[(&str, &str)]| -> BTreeMap<String, String> {
        names.iter().map(|(name, key)| ((*name).to_owned(), (*key).to_owned())).collect()
    };
    let all = ApiKeys::new(
        keys(&[("web", "sb_publishable_one"), ("app", "sb_publishable_two")]),
        keys(&[("jobs", "sb_secret_one"), ("ops", "sb_secret_two")]),
    );
    for (key, caller) in [
        ("sb_publishable_one", Some(Caller::Anonymous)),
        ("sb_publishable_two", Some(Caller::Anonymous)),
        ("sb_secret_one", Some(Caller::Service)),
        ("sb_secret_two", Some(Caller::Service)),
        ("sb_secret_tw", None),
        ("sb_secret_two ", None),
        ("SB_SECRET_TWO", None),
        ("", None),
    ] {
        assert_eq!(all.find(key), caller, "{key}");
    }
    assert_eq!(ApiKeys::default().find(""), None);
    assert!(!format!("{all:?}").contains("sb_"), "a key is not shown");
}

#[test]
fn a_key_set_is_fetched_over_https_or_from_this_machine() {
    for good in [
        "https://p.supabase.co/auth/v1/.well-known/jwks.json",
        "http://127.0.0.1:9999/k",
        "http://localhost/k",
        "http://[::1]:1/k",
    ] {
        assert!(jwks::url_is_allowed(good), "{good}");
    }
    for bad in [
        "http://example.org/k",
        "http://127.0.0.1.example.org/k",
        "http://127.0.0.1@example.org/k",
        "http://10.0.0.1/k",
        "ftp://127.0.0.1/k",
        "file:///etc/passwd",
        "/k",
        "",
        "https://",
    ] {
        assert!(!jwks::url_is_allowed(bad), "{bad}");
        assert!(bad.is_empty() || Jwks::new(None, Some(bad)).is_err(), "{bad}");
    }
    assert!(Jwks::new(Some("[]"), None).is_err());
    assert!(Jwks::new(Some("{\"keys\":[]}"), None).is_ok());
}

proptest! {
    #[test]
    fn nothing_but_a_signed_token_is_a_caller(text in "\\PC{0,80}") {
        prop_assert!(caller_of(&text).is_err());
    }

    #[test]
    fn a_token_with_any_letter_changed_is_refused(at in 0..150_usize, letter in "[A-Za-z0-9_.=-]") {
        let token = alice();
        let at = at % token.len();
        let mut changed = token.clone();
        changed.replace_range(at..=at, &letter);
        prop_assume!(changed != token);
        prop_assert!(caller_of(&changed).is_err(), "{changed}");
    }
}
