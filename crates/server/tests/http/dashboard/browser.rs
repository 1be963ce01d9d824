//! A browser without scripts: it keeps cookies, sends forms with the token that they carry, and says where they are from.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::support::{Harness, Request, Response};

/// Takes the value of a field out of a page.
pub fn field(page: &str, name: &str) -> Option<String> {
    let start = page.find(&format!("name=\"{name}\" value=\""))?;
    let rest = &page[start + name.len() + 15..];
    Some(rest[..rest.find('"')?].to_owned())
}

/// Cookies and the address of a server.
#[derive(Clone)]
pub struct Browser {
    address: SocketAddr,
    pub cookies: BTreeMap<String, String>,
}

impl Browser {
    pub fn new(server: &Harness) -> Self {
        Self { address: server.address, cookies: BTreeMap::new() }
    }

    /// One that has signed in.
    #[track_caller]
    pub fn signed_in(server: &Harness, credential: &str) -> Self {
        let mut browser = Self::new(server);
        let answer = browser.sign_in(credential);
        assert_eq!(
            (answer.status, answer.header("location")),
            (303, Some("/dashboard")),
            "{}",
            answer.text()
        );
        browser
    }

    /// One that has signed in as the admin of the tests.
    #[track_caller]
    pub fn of_root(server: &Harness) -> Self {
        Self::signed_in(server, &server.token("root"))
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn sign_in(&mut self, credential: &str) -> Response {
        let page = self.get("/dashboard/sign-in");
        let token = field(&page.text(), "form_token").unwrap_or_default();
        self.post("/dashboard/sign-in", &[("form_token", &token), ("token", credential)])
    }

    /// Begins a request as a page of this server makes it.
    pub fn request<'a>(&self, method: &'a str, target: &str) -> Request<'a> {
        let request = Request::new(self.address, method, target);
        if self.cookies.is_empty() {
            return request;
        }
        let cookies = self.cookies.iter().map(|(name, value)| format!("{name}={value}"));
        request.header("cookie", &cookies.collect::<Vec<_>>().join("; "))
    }

    pub fn get(&mut self, target: &str) -> Response {
        let answer = self.request("GET", target).send();
        self.keep(&answer);
        answer
    }

    /// A page that must be there.
    #[track_caller]
    pub fn page(&mut self, target: &str) -> String {
        let answer = self.get(target);
        assert_eq!(answer.status, 200, "{target}: {:?}", answer.header("location"));
        answer.text()
    }

    /// Sends a form's fields as they are.
    pub fn post(&mut self, target: &str, fields: &[(&str, &str)]) -> Response {
        let answer = self.form(target, fields).header("origin", "http://test").send();
        self.keep(&answer);
        answer
    }

    /// A form that does not say where it is from.
    pub fn form<'a>(&self, target: &str, fields: &[(&str, &str)]) -> Request<'a> {
        let mut body = form_urlencoded::Serializer::new(String::new());
        body.extend_pairs(fields);
        self.request("POST", target)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body.finish())
    }

    /// The token that forms of the session carry.
    #[track_caller]
    pub fn token(&mut self) -> String {
        field(&self.page("/dashboard/settings"), "form_token").unwrap()
    }

    /// Sends a form with its token.
    pub fn submit(&mut self, target: &str, fields: &[(&str, &str)]) -> Response {
        let token = self.token();
        let mut all = vec![("form_token", token.as_str())];
        all.extend_from_slice(fields);
        self.post(target, &all)
    }

    /// Takes the cookies of an answer.
    pub fn keep(&mut self, answer: &Response) {
        for cookie in answer.all("set-cookie") {
            let (name, rest) = cookie.split_once('=').unwrap();
            let value = rest.split(';').next().unwrap();
            assert!(
                rest.contains("; HttpOnly")
                    && rest.contains("; SameSite=Strict")
                    && rest.contains("; Path=/")
            );
            if value.is_empty() {
                assert!(rest.contains("Max-Age=0"), "{cookie}");
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
    }
}
