//! Who is calling.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use nudge::auth::keys::sign;
use serde_json::{Value, json};

use crate::support::{
    ARCHETYPE, As, DATE, Harness, NOW_SECS, PUBLISHABLE, RECOMMENDATIONS, Request, Response, SECRET,
    SECRET_KEY, keypair, token,
};

/// A request that tells the callers apart: 200 for alice and the service, 401 for anonymous callers and nobody.
fn ask<'a>(server: &Harness) -> Request<'a> {
    server.request(As::Nobody, "GET", &format!("{ARCHETYPE}?userId=alice"))
}

fn bearer(server: &Harness, token: &str) -> Response {
    ask(server).bearer(token).send()
}

fn alice(with: Value) -> Value {
    let mut claims = json!({ "role": "authenticated", "sub": "alice", "exp": NOW_SECS + 60 });
    for (name, value) in with.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

/// Signs with HS256 under any header.
fn under(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

fn asymmetric(algorithm: Algorithm, kid: Option<&str>, claims: &Value) -> String {
    let key = if algorithm == Algorithm::ES256 { keypair::ec() } else { keypair::rsa() };
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
    jsonwebtoken::encode(&header, claims, &key).unwrap()
}

/// A server of key sets that counts how often it was asked.
struct KeyServer {
    url: String,
    asked: Arc<AtomicUsize>,
}

impl KeyServer {
    fn start(body: String) -> Self {
        Self::changing(Arc::new(std::sync::Mutex::new(body)))
    }

    /// Gives out what the body is at the time.
    fn changing(body: Arc<std::sync::Mutex<String>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let mut head = [0_u8; 4096];
                let _ = stream.read(&mut head);
                let body = body.lock().unwrap().clone();
                let length = body.len();
                let _ = write!(
                    stream,
                    "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                );
            }
        });
        Self { url, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

#[test]
fn the_two_headers_resolve_to_one_caller() {
    let server = Harness::with_home();
    let (user, anon, service) = (server.token("alice"), server.anon.as_str(), server.service.as_str());
    let date = format!("{RECOMMENDATIONS}?userId=alice&targetDate={DATE}&roommateId=bob");
    // Authorization, apikey, and who that is: the status of an archetype and whether a recommendation is personal.
    for (authorization, apikey, archetype, personalized) in [
        (Some(format!("Bearer {user}")), None, 200, Some(true)),
        (Some(format!("Bearer {user}")), Some(anon), 200, Some(true)),
        (Some(format!("Bearer {user}")), Some(PUBLISHABLE), 200, Some(true)),
        (Some(format!("Bearer {user}")), Some("nonsense"), 200, Some(true)),
        (Some(format!("Bearer {anon}")), Some(service), 401, Some(false)),
        (Some(format!("Bearer {anon}")), Some(anon), 401, Some(false)),
        (Some(format!("Bearer {service}")), Some(anon), 200, Some(true)),
        (None, Some(anon), 401, Some(false)),
        (None, Some(service), 200, Some(true)),
        (None, Some(PUBLISHABLE), 401, Some(false)),
        (None, Some(SECRET_KEY), 200, Some(true)),
        (Some(format!("Bearer {PUBLISHABLE}")), Some(PUBLISHABLE), 401, Some(false)),
        (Some(format!("Bearer {SECRET_KEY}")), Some(SECRET_KEY), 200, Some(true)),
        // Bearer sb_… counts only when equal to apikey.
        (Some(format!("Bearer {SECRET_KEY}")), None, 401, None),
        (Some(format!("Bearer {SECRET_KEY}")), Some(PUBLISHABLE), 401, None),
        (Some(format!("Bearer {PUBLISHABLE}")), Some(SECRET_KEY), 401, None),
        (Some("Bearer sb_secret_unknown_to_us".into()), Some("sb_secret_unknown_to_us"), 401, None),
        (None, Some("sb_publishable_unknown"), 401, None),
        (None, Some("nonsense"), 401, None),
        (None, Some(""), 401, None),
        (None, None, 401, None),
        // A user's token is no key of the project.
        (None, Some(user.as_str()), 401, None),
        // Invalid beside a valid key.
        (Some("Bearer nonsense".into()), Some(service), 401, None),
        (Some(format!("Bearer {user}x")), Some(SECRET_KEY), 401, None),
        (Some(String::new()), Some(service), 401, None),
        (Some("Bearer".into()), Some(service), 401, None),
        (Some("Bearer ".into()), Some(service), 401, None),
        // Any other scheme.
        (Some(format!("Basic {user}")), None, 401, None),
        (Some(format!("Token {user}")), Some(service), 401, None),
        (Some(user.clone()), None, 401, None),
        // The scheme's case.
        (Some(format!("bearer {user}")), None, 200, Some(true)),
        (Some(format!("BEARER {user}")), None, 200, Some(true)),
    ] {
        let with = |mut request: Request<'static>| {
            if let Some(authorization) = &authorization {
                request = request.header("Authorization", authorization);
            }
            apikey.map_or(request.clone(), |key| request.header("apikey", key)).send()
        };
        let case = format!("{authorization:?} {apikey:?}");
        assert_eq!(with(ask(&server)).status, archetype, "{case}");
        let recommended = with(server.request(As::Nobody, "GET", &date));
        match personalized {
            Some(personalized) => assert_eq!(recommended.ok()["personalized"], personalized, "{case}"),
            None => assert_eq!(recommended.status, 401, "{case}"),
        }
    }
}

#[test]
fn credentials_in_the_query_string_do_not_count() {
    let server = Harness::with_home();
    let target = format!(
        "{ARCHETYPE}?userId=alice&apikey={}&access_token={0}&authorization=Bearer%20{0}",
        server.service
    );
    server.get(As::Nobody, &target).refused(401, "unauthorized");
}

#[test]
fn a_header_given_twice_is_refused() {
    let server = Harness::with_home();
    let user = server.token("alice");
    let (mallory, valid) = (server.token("mallory"), user.as_str());
    for (first, second) in [(valid, valid), (valid, mallory.as_str()), ("nonsense", valid)] {
        ask(&server).bearer(first).bearer(second).send().refused(401, "invalid_credentials");
    }
    ask(&server)
        .header("apikey", &server.service)
        .header("apikey", &server.anon)
        .send()
        .refused(401, "invalid_credentials");
    let refused = ask(&server).header("authorization", "Bearer caf\u{e9}").send();
    refused.refused(401, "invalid_credentials");
    assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
}

#[test]
fn a_secret_key_from_a_browser_is_refused() {
    let server = Harness::with_home();
    let from_browser = |request: Request<'static>| request.header("origin", "https://app.example").send();
    from_browser(ask(&server).header("apikey", SECRET_KEY)).refused(401, "invalid_credentials");
    from_browser(ask(&server).header("apikey", SECRET_KEY).bearer(SECRET_KEY))
        .refused(401, "invalid_credentials");
    from_browser(ask(&server).header("apikey", SECRET_KEY).bearer(&server.token("alice")))
        .refused(401, "invalid_credentials");
    assert_eq!(
        from_browser(ask(&server).header("apikey", PUBLISHABLE).bearer(&server.token("alice"))).status,
        200
    );
}

#[test]
fn times_have_thirty_seconds_of_leeway() {
    let server = Harness::with_home();
    for (claim, seconds, status) in [
        ("exp", -29, 200),
        ("exp", -30, 200),
        ("exp", -31, 401),
        ("nbf", 29, 200),
        ("nbf", 31, 401),
        ("iat", 29, 200),
        ("iat", 31, 401),
        ("exp", 1_000_000_000, 200),
    ] {
        let answer = bearer(&server, &token(&alice(json!({ claim: NOW_SECS + seconds }))));
        assert_eq!(answer.status, status, "{claim} {seconds}");
    }
    assert_eq!(bearer(&server, &token(&alice(json!({ "exp": NOW_SECS as f64 + 0.5 })))).status, 200);
}

#[test]
fn a_token_that_was_good_once_ends_all_the_same() {
    let server = Harness::with_home();
    let token = token(&alice(json!({ "exp": NOW_SECS + 10 })));
    for _ in 0..3 {
        assert_eq!(bearer(&server, &token).status, 200);
    }
    server.clock.advance(40);
    assert_eq!(bearer(&server, &token).status, 200);
    server.clock.advance(1);
    bearer(&server, &token).refused(401, "invalid_credentials");
}

#[test]
fn claims_of_the_wrong_kind_are_refused() {
    let server = Harness::with_home();
    for with in [
        json!({ "exp": null }),
        json!({ "exp": "9999999999" }),
        json!({ "exp": [NOW_SECS + 60] }),
        json!({ "exp": true }),
        json!({ "nbf": "0" }),
        json!({ "iat": {} }),
        json!({ "sub": null }),
        json!({ "sub": 7 }),
        json!({ "sub": "" }),
        json!({ "sub": "anonymous" }),
        json!({ "sub": "a b" }),
        json!({ "sub": "x".repeat(65) }),
        json!({ "sub": ["alice"] }),
        json!({ "role": null }),
        json!({ "role": "" }),
        json!({ "role": "postgres" }),
        json!({ "role": "authenticator" }),
        json!({ "role": "admin" }),
        json!({ "role": "supabase_admin" }),
        json!({ "role": "Authenticated" }),
        json!({ "role": ["service_role"] }),
        json!({ "role": { "service_role": true } }),
    ] {
        assert_eq!(bearer(&server, &token(&alice(with.clone()))).status, 401, "{with}");
    }
    for with in [
        json!({ "is_anonymous": true }),
        json!({ "aud": "authenticated", "email": "a@example.org" }),
        json!({ "iss": "any" }),
    ] {
        assert_eq!(bearer(&server, &token(&alice(with.clone()))).status, 200, "{with}");
    }
}

#[test]
fn legacy_keys_need_no_end_but_keep_to_one_they_have() {
    let server = Harness::with_home();
    for (claims, status) in [
        (json!({ "role": "service_role" }), 200),
        (json!({ "role": "service_role", "exp": NOW_SECS + 60 }), 200),
        (json!({ "role": "service_role", "exp": NOW_SECS - 31 }), 401),
        (json!({ "role": "service_role", "exp": "never" }), 401),
        (json!({ "role": "authenticated", "sub": "alice", "exp": NOW_SECS + 60 }), 401),
    ] {
        let answer = ask(&server).header("apikey", &token(&claims)).send();
        assert_eq!(answer.status, status, "{claims}");
    }
}

#[test]
fn only_three_algorithms_exist_and_each_has_its_own_key() {
    let set = keypair::jwks().to_string();
    let server = Harness::with(&[("SUPABASE_JWKS", &set)]);
    server.seed(crate::support::facts::home());
    let claims = alice(json!({}));
    for alg in ["none", "None", "NONE", "nOnE", "", "HS384", "HS512", "hs256", "ES384", "PS256", "EdDSA"] {
        let signed = under(&json!({ "alg": alg, "typ": "JWT" }), &claims);
        let message = signed.rsplit_once('.').unwrap().0;
        for token in [signed.clone(), format!("{message}.")] {
            bearer(&server, &token).refused(401, "invalid_credentials");
        }
    }
    let good = under(&json!({ "alg": "HS256" }), &claims);
    assert_eq!(bearer(&server, &good).status, 200);
    let message = good.rsplit_once('.').unwrap().0;
    for wrong in [
        format!("{message}."),
        message.to_owned(),
        format!("{good}."),
        format!("{good}="),
        format!("{message}.AAAA"),
        format!(".{good}"),
    ] {
        bearer(&server, &wrong).refused(401, "invalid_credentials");
    }
    // The public key, in every form that people have it in, as the secret of HS256.
    let n = keypair::jwks()["keys"][1]["n"].as_str().unwrap().to_owned();
    for secret in
        [keypair::RSA_PUBLIC_PEM.to_owned(), keypair::RSA_PUBLIC_PEM.trim().to_owned(), n, set.clone()]
    {
        for kid in ["rsa-1", "ec-1"] {
            let header = Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::HS256) };
            let forged =
                jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap();
            bearer(&server, &forged).refused(401, "invalid_credentials");
        }
    }
    bearer(&server, &sign(b"another secret that is long enough too", &claims).unwrap())
        .refused(401, "invalid_credentials");
    // A key of one kind named by a token of the other.
    for (algorithm, kid) in
        [(Algorithm::ES256, "rsa-1"), (Algorithm::RS256, "ec-1"), (Algorithm::ES256, "no-such-key")]
    {
        bearer(&server, &asymmetric(algorithm, Some(kid), &claims)).refused(401, "invalid_credentials");
    }
    assert_eq!(bearer(&server, &asymmetric(Algorithm::ES256, Some("ec-1"), &claims)).status, 200);
    assert_eq!(bearer(&server, &asymmetric(Algorithm::RS256, Some("rsa-1"), &claims)).status, 200);
    // The rules on claims are the same.
    let late = alice(json!({ "exp": NOW_SECS - 31 }));
    bearer(&server, &asymmetric(Algorithm::ES256, Some("ec-1"), &late)).refused(401, "invalid_credentials");
}

#[test]
fn what_a_header_demands_or_offers_is_not_followed() {
    let elsewhere = KeyServer::start(keypair::jwks().to_string());
    let server = Harness::with_home();
    let claims = alice(json!({}));
    for crit in [json!(["exp"]), json!([]), Value::Null, json!("exp"), json!(false)] {
        let header = json!({ "alg": "HS256", "crit": crit });
        bearer(&server, &under(&header, &claims)).refused(401, "invalid_credentials");
    }
    let mut jwk = keypair::jwks()["keys"][0].clone();
    for with in
        [json!({ "jku": elsewhere.url }), json!({ "x5u": elsewhere.url }), json!({ "jwk": jwk.take() })]
    {
        let header = Header { kid: Some("ec-1".into()), ..Header::new(Algorithm::ES256) };
        let mut header = serde_json::to_value(&header).unwrap();
        header.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(&header), part(&claims));
        let signature =
            jsonwebtoken::crypto::sign(message.as_bytes(), &keypair::ec(), Algorithm::ES256).unwrap();
        bearer(&server, &format!("{message}.{signature}")).refused(401, "invalid_credentials");
    }
    assert_eq!(elsewhere.asked(), 0);
}

#[test]
fn what_is_no_token_is_refused() {
    let server = Harness::with_home();
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    for junk in [
        "a",
        "a.b",
        "a.b.c",
        "..",
        "...",
        "a.b.c.d",
        "e30.e30.e30",
        &format!("{}.{}.x", part("[]"), part("[]")),
        &format!("{}.{}.x", part("null"), part("{}")),
        &format!("{}.{}.x", part(r#"{"alg":7}"#), part("{}")),
        &format!("{}.{}.x", part(r#"{"alg":"none","alg":"HS256"}"#), part("{}")),
        &"x".repeat(9_000),
        &format!("{}.{}.{}", "A".repeat(3_000), "B".repeat(3_000), "C".repeat(3_000)),
    ] {
        assert_eq!(bearer(&server, junk).status, 401, "{junk}");
    }
    // A token with a claim given twice says two things: whose is it?
    let claims = format!(r#"{{"role":"authenticated","sub":"alice","sub":"bob","exp":{}}}"#, NOW_SECS + 60);
    let message = format!("{}.{}", part(r#"{"alg":"HS256"}"#), part(&claims));
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    bearer(&server, &format!("{message}.{signature}")).refused(401, "invalid_credentials");
}

#[test]
fn a_withdrawn_key_is_trusted_until_the_next_refresh_and_no_longer() {
    let set = Arc::new(std::sync::Mutex::new(keypair::jwks().to_string()));
    let keys = KeyServer::changing(Arc::clone(&set));
    let server = Harness::with(&[("SUPABASE_JWKS_URL", &keys.url)]);
    server.seed(crate::support::facts::home());
    let token = asymmetric(Algorithm::ES256, Some("ec-1"), &alice(json!({ "exp": NOW_SECS + 86_400 })));
    let refresh = || {
        server.clock.advance(600);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(server.app.auth.refresh_keys(server.clock.now()));
    };
    assert_eq!(bearer(&server, &token).status, 200);
    refresh();
    assert_eq!((keys.asked(), bearer(&server, &token).status), (2, 200), "the set is the same");
    *set.lock().unwrap() = json!({ "keys": [keypair::jwks()["keys"][1]] }).to_string();
    refresh();
    bearer(&server, &token).refused(401, "invalid_credentials");
}

#[test]
fn a_key_set_by_url_is_fetched_when_it_is_needed_and_seldom() {
    let keys = KeyServer::start(keypair::jwks().to_string());
    let server = Harness::with(&[("SUPABASE_JWKS_URL", &keys.url)]);
    server.seed(crate::support::facts::home());
    let claims = alice(json!({ "exp": NOW_SECS + 86_400 }));
    assert_eq!(bearer(&server, &asymmetric(Algorithm::ES256, Some("ec-1"), &claims)).status, 200);
    assert_eq!(bearer(&server, &asymmetric(Algorithm::RS256, Some("rsa-1"), &claims)).status, 200);
    assert_eq!(keys.asked(), 1);
    // Ten thousand tokens with keys that nobody knows, on a few connections at once.
    let message = |n: usize| {
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.AAAA", part(json!({ "alg": "ES256", "kid": format!("k{n}") })), part(claims.clone()))
    };
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let address = server.address;
            scope.spawn(move || {
                let mut stream = crate::support::client::connect(address);
                let mut answer = vec![0_u8; 64 * 1024];
                for n in 0..2_500 {
                    let token = message(worker * 2_500 + n);
                    write!(stream, "GET {ARCHETYPE}?userId=alice HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {token}\r\n\r\n").unwrap();
                    let n = stream.read(&mut answer).unwrap();
                    assert!(answer[..n].starts_with(b"HTTP/1.1 401"));
                    let mut text = String::from_utf8_lossy(&answer[..n]).into_owned();
                    while !text.ends_with('}') {
                        let n = stream.read(&mut answer).unwrap();
                        text.push_str(&String::from_utf8_lossy(&answer[..n]));
                    }
                }
            });
        }
    });
    assert_eq!(keys.asked(), 1, "the clock stands still: within one cool-down");
    server.clock.advance(29);
    bearer(&server, &message(1)).refused(401, "invalid_credentials");
    assert_eq!(keys.asked(), 1);
    server.clock.advance(1);
    for n in 0..50 {
        bearer(&server, &message(n)).refused(401, "invalid_credentials");
    }
    assert_eq!(keys.asked(), 2);
    assert_eq!(
        bearer(&server, &asymmetric(Algorithm::ES256, Some("ec-1"), &claims)).status,
        200,
        "known keys go on"
    );
}

#[test]
fn an_inline_key_stays_beside_the_fetched_ones() {
    let mut fetched = keypair::jwks();
    fetched["keys"].as_array_mut().unwrap().remove(0);
    let mut inline = keypair::jwks();
    inline["keys"].as_array_mut().unwrap().remove(1);
    let keys = KeyServer::start(fetched.to_string());
    let server = Harness::with(&[("SUPABASE_JWKS_URL", &keys.url), ("SUPABASE_JWKS", &inline.to_string())]);
    server.seed(crate::support::facts::home());
    let claims = alice(json!({}));
    for (algorithm, kid) in [(Algorithm::ES256, "ec-1"), (Algorithm::RS256, "rsa-1")] {
        for salt in 0..2 {
            let claims = alice(json!({ "salt": salt }));
            assert_eq!(bearer(&server, &asymmetric(algorithm, Some(kid), &claims)).status, 200, "{kid}");
        }
    }
    let again = alice(json!({ "salt": "once more" }));
    assert_eq!(bearer(&server, &asymmetric(Algorithm::ES256, Some("ec-1"), &again)).status, 200);
    assert_eq!(
        bearer(&server, &asymmetric(Algorithm::ES256, None, &claims)).status,
        200,
        "the only one of its kind"
    );
}

#[test]
fn no_well_known_secret_and_no_short_one_is_taken() {
    use nudge::clock::Clock;
    use nudge::config::{Config, Keys, Values};
    let folder = tempfile::tempdir().unwrap();
    let config = |secret: Option<&str>| {
        let mut flags =
            std::collections::BTreeMap::from([("NUDGE_DATA_DIR", folder.path().display().to_string())]);
        if let Some(secret) = secret {
            flags.insert("SUPABASE_JWT_SECRET", secret.to_owned());
        }
        Config::from_values(Values::gather(&flags, |_| None, None).unwrap()).unwrap()
    };
    let short = Keys::load(&config(Some(&"x".repeat(31)))).unwrap_err().to_string();
    assert!(short.contains("SUPABASE_JWT_SECRET") && !short.contains("xxx"), "{short}");
    Keys::load(&config(Some(&"x".repeat(32)))).unwrap();
    let made = Keys::load(&config(None)).unwrap();
    assert!(made.secret.len() >= 32);
    assert_eq!(Keys::load(&config(None)).unwrap().secret, made.secret, "kept");
    let file = std::fs::metadata(folder.path().join("jwt-secret")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&file.permissions()) & 0o777, 0o600);
    let other = tempfile::tempdir().unwrap();
    let mut elsewhere = config(None);
    elsewhere.data_dir = other.path().to_owned();
    assert_ne!(Keys::load(&elsewhere).unwrap().secret, made.secret, "random");
    let _ = Clock::default();
}
