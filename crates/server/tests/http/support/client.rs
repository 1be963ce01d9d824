//! An HTTP/1.1 client that can send what a well-behaved one would not, and that holds every answer to what all answers
//! have in common.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

const METHODS: &str = "GET, POST, PUT, PATCH, DELETE, OPTIONS";
const HEADERS: &str =
    "authorization, x-client-info, apikey, content-type, x-retry-count, traceparent, tracestate, baggage";
/// Those that may be sent below `/rest/v1` besides.
const REST_HEADERS: &str = ", accept, accept-profile, content-profile, prefer, range, range-unit";
const REST_EXPOSED: &str = "Content-Range, Range-Unit, Content-Location, Content-Type, Content-Encoding, Date, Location, Server, \
     Transfer-Encoding";

/// A request that is being put together.
#[derive(Clone)]
pub struct Request<'a> {
    address: SocketAddr,
    method: &'a str,
    target: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

impl<'a> Request<'a> {
    pub fn new(address: SocketAddr, method: &'a str, target: &str) -> Self {
        Self { address, method, target: target.to_owned(), headers: vec![], body: None }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    pub fn json(self, body: &Value) -> Self {
        self.raw_json(body.to_string())
    }

    pub fn raw_json(self, body: impl Into<Vec<u8>>) -> Self {
        self.header("content-type", "application/json").body(body)
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// The head as it goes out, with the end of the connection asked for.
    pub fn head(&self) -> String {
        let mut head =
            format!("{} {} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(body) = &self.body {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        head
    }

    pub fn send(self) -> Response {
        let mut bytes = self.head().into_bytes();
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        exchange(self.address, &bytes, self.method == "HEAD")
    }
}

/// Connects.
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Sends bytes as they are and reads the answer to the end of the connection.
pub fn exchange(address: SocketAddr, bytes: &[u8], head_only: bool) -> Response {
    let mut stream = connect(address);
    // The server may refuse and close before it has read everything.
    let _ = stream.write_all(bytes);
    let answer = read_bytes(&mut stream).unwrap();
    let target = bytes.split(|b| *b == b' ').nth(1).unwrap_or_default();
    let kind = match target {
        _ if target.starts_with(b"/rest/v1") => Kind::Rest,
        _ if target.starts_with(b"/dashboard") => Kind::Pages,
        _ => Kind::Functions,
    };
    Response::parse(&answer, head_only, kind)
}

/// Whose rules an answer keeps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Functions,
    Rest,
    Pages,
}

/// Reads an answer to the end of the connection; `None` when it was closed without one.
pub fn read_answer(stream: &mut TcpStream, head_only: bool) -> Option<Response> {
    read_bytes(stream).map(|bytes| Response::parse(&bytes, head_only, Kind::Functions))
}

fn read_bytes(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut chunk = [0_u8; 16 * 1024];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(n) => bytes.extend_from_slice(&chunk[..n]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&bytes)),
        }
    }
    (!bytes.is_empty()).then_some(bytes)
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    fn parse(bytes: &[u8], head_only: bool, kind: Kind) -> Self {
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").expect("a whole head");
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers =
            lines.map(|line| line.split_once(": ").unwrap()).map(|(n, v)| (n.to_owned(), v.to_owned()));
        let response = Self { status, headers: headers.collect(), body: bytes[end + 4..].to_vec() };
        response.keeps_to_the_common_rules(head_only, kind);
        response
    }

    /// What holds for every answer, errors included.
    fn keeps_to_the_common_rules(&self, head_only: bool, kind: Kind) {
        if self.body.is_empty() && matches!(self.status, 400 | 414 | 431) {
            return; // Refused by the parsing of HTTP itself.
        }
        if kind == Kind::Pages {
            return self.keeps_to_the_rules_of_pages(head_only);
        }
        assert_eq!(self.header("access-control-allow-origin"), Some("*"), "{self:?}");
        let headers = match kind {
            Kind::Functions | Kind::Pages => HEADERS.to_owned(),
            Kind::Rest => [HEADERS, REST_HEADERS].concat(),
        };
        assert_eq!(self.header("access-control-allow-headers"), Some(headers.as_str()), "{self:?}");
        if kind == Kind::Rest {
            assert_eq!(self.header("access-control-expose-headers"), Some(REST_EXPOSED), "{self:?}");
        }
        assert_eq!(self.header("access-control-allow-methods"), Some(METHODS), "{self:?}");
        let request_id = self.header("x-request-id").expect("a request id");
        assert_eq!(uuid::Uuid::parse_str(request_id).unwrap().get_version_num(), 7);
        if head_only {
            assert!(self.body.is_empty(), "{self:?}");
        } else if self.status >= 400 {
            let body = self.json();
            if body.get("database").is_some() {
                return; // /health/ready says what it knows.
            }
            if kind == Kind::Rest {
                let fields: Vec<_> = body.as_object().unwrap().keys().map(String::as_str).collect();
                assert_eq!(fields, ["code", "details", "hint", "message"], "{body}");
                assert!(body["message"].as_str().is_some_and(|text| !text.is_empty()), "{body}");
            } else {
                for field in ["code", "error", "message", "requestId"] {
                    assert!(body[field].as_str().is_some_and(|text| !text.is_empty()), "{field} of {body}");
                }
                assert_eq!(body["requestId"], request_id);
            }
            assert!(self.header("content-type").unwrap().starts_with("application/json"));
            for internal in ["sqlite", "SQL", "panicked", "no such", "src/", "rusqlite"] {
                assert!(!body.to_string().contains(internal), "{body}");
            }
        }
    }

    /// What holds for every page of the dashboard: it is for itself, and says errors in words.
    fn keeps_to_the_rules_of_pages(&self, head_only: bool) {
        assert!(!self.headers.iter().any(|(name, _)| name.starts_with("access-control")), "{self:?}");
        let request_id = self.header("x-request-id").expect("a request id");
        assert_eq!(uuid::Uuid::parse_str(request_id).unwrap().get_version_num(), 7);
        if self.body.is_empty() && matches!(self.status, 200 | 204) {
            return; // OPTIONS, HEAD, or nothing to follow.
        }
        let policy = self.header("content-security-policy").expect("a policy");
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(self.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(self.header("x-frame-options"), Some("DENY"));
        let caching = self.header("cache-control").unwrap();
        assert!(caching == "no-store" || caching.contains("immutable"), "{caching}");
        if self.status >= 400 && !head_only {
            assert!(self.header("content-type").unwrap().starts_with("text/html"), "{self:?}");
            let text = self.text();
            assert!(text.contains("<h1>") && text.contains("<a "), "{text}");
            for internal in ["sqlite", "SQL", "panicked", "src/", "rusqlite"] {
                assert!(!text.contains(internal), "{text}");
            }
        }
    }

    /// Every value of a header that may be given more than once.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let found = self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str()).collect()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} is given twice");
        value
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The body of a 200.
    #[track_caller]
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        self.json()
    }

    /// The body of a refusal, which must be of this kind.
    #[track_caller]
    pub fn refused(&self, status: u16, code: &str) -> Value {
        let body = self.json();
        assert_eq!((self.status, body["code"].as_str()), (status, Some(code)), "{body}");
        body
    }

    /// The body of a 400 about one field.
    #[track_caller]
    pub fn bad(&self, field: &str) -> Value {
        let body = self.refused(400, "invalid_parameter");
        assert_eq!(body["field"], field, "{body}");
        body
    }

    /// The status and the body without the request's id: what two answers can be compared by.
    pub fn comparable(&self) -> (u16, Value) {
        let mut body = self.json();
        body.as_object_mut().unwrap().remove("requestId");
        (self.status, body)
    }
}
