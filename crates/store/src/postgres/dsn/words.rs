//! Takes a connection string apart into names and values.

use std::collections::BTreeMap;

use super::DsnError;

/// Names and values of a connection string; of a name given twice the last value counts.
#[derive(Default)]
pub(super) struct Words {
    values: BTreeMap<String, String>,
    unknown: Vec<String>,
}

/// Every parameter that means something here.
const KNOWN: &[&str] = &[
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "sslmode",
    "ssl",
    "sslrootcert",
    "application_name",
    "options",
    "connect_timeout",
    "target_session_attrs",
    "channel_binding",
    "pgbouncer",
];

impl Words {
    pub(super) fn parse(text: &str) -> Result<Self, DsnError> {
        if text.contains("[YOUR-PASSWORD]") {
            return Err(DsnError::Placeholder);
        }
        match Self::url(text) {
            Some(rest) => Self::from_url(rest),
            None if Self::looks_like_words(text) => Self::from_words(text),
            None => Err(DsnError::NoForm),
        }
    }

    /// Gives what follows the scheme of a URL.
    pub(super) fn url(text: &str) -> Option<&str> {
        ["postgres://", "postgresql://"].into_iter().find_map(|scheme| text.strip_prefix(scheme))
    }

    /// Says whether a text begins with the name of a parameter.
    pub(super) fn looks_like_words(text: &str) -> bool {
        text.split_once('=').is_some_and(|(name, _)| KNOWN.contains(&name.trim()))
    }

    /// Takes a value; the empty one counts as none.
    pub(super) fn take(&mut self, name: &'static str) -> Option<String> {
        self.values.remove(name).filter(|value| !value.is_empty())
    }

    /// Takes a value that is one of a few words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        name: &'static str,
        choices: &[(&str, T)],
        problem: &'static str,
    ) -> Result<Option<T>, DsnError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let found = choices.iter().find(|(word, _)| *word == value);
        found.map(|(_, meaning)| Some(*meaning)).ok_or(DsnError::Value { name, problem })
    }

    pub(super) fn into_unknown(self) -> Vec<String> {
        self.unknown
    }

    fn set(&mut self, name: &str, value: String) {
        if KNOWN.contains(&name) {
            self.values.insert(name.to_owned(), value);
        } else if !self.unknown.iter().any(|known| known == name) {
            self.unknown.push(name.chars().filter(|c| !c.is_control()).take(64).collect());
        }
    }

    /// `[user[:password]@][host[:port][,…]][/database][?name=value[&…]]`, each part percent-encoded.
    fn from_url(rest: &str) -> Result<Self, DsnError> {
        let mut words = Self::default();
        let (before, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, dbname) = before.split_once('/').unwrap_or((before, ""));
        // The last one: people forget to encode an @ in the password.
        let (credentials, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
        words.set("user", decoded("the user", user)?);
        words.set("password", decoded("the password", password)?);
        words.set("dbname", decoded("the database", dbname)?);
        let (mut names, mut ports) = (Vec::new(), Vec::new());
        for host in hosts.split(',') {
            let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
                Some((address, port)) => (address, port.strip_prefix(':').unwrap_or_default()),
                None => host.split_once(':').unwrap_or((host, "")),
            };
            names.push(decoded("the host", name)?);
            ports.push(port.to_owned());
        }
        if !hosts.is_empty() {
            words.set("host", names.join(","));
            words.set(
                "port",
                if ports.iter().all(String::is_empty) { String::new() } else { ports.join(",") },
            );
        }
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decoded("a parameter's name", name)?;
            let part = if KNOWN.contains(&name.as_str()) { name.as_str() } else { "a parameter" };
            let value = decoded(part, value)?;
            words.set(&name, value);
        }
        Ok(words)
    }

    /// `name=value` words; a value may stand in single quotes, a backslash takes the next character as it is.
    fn from_words(text: &str) -> Result<Self, DsnError> {
        let mut words = Self::default();
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            let problem = "every word must be name=value";
            let (name, after) = rest.split_once('=').ok_or(DsnError::Words { problem })?;
            let name = name.trim_end();
            if name.is_empty() || name.contains(char::is_whitespace) {
                return Err(DsnError::Words { problem });
            }
            let (value, after) = value(after.trim_start())?;
            words.set(name, value);
            rest = after.trim_start();
        }
        Ok(words)
    }
}

/// Reads one value; gives it and what follows.
fn value(text: &str) -> Result<(String, &str), DsnError> {
    let quoted = text.starts_with('\'');
    let body = text.strip_prefix('\'').unwrap_or(text);
    let mut value = String::new();
    let mut characters = body.char_indices();
    while let Some((at, character)) = characters.next() {
        let end = if quoted { character == '\'' } else { character.is_whitespace() };
        if end {
            return Ok((value, body.get(at + character.len_utf8()..).unwrap_or_default()));
        }
        if character == '\\' {
            value.extend(characters.next().map(|(_, literal)| literal));
        } else {
            value.push(character);
        }
    }
    if quoted {
        return Err(DsnError::Words { problem: "a quoted value does not end" });
    }
    Ok((value, ""))
}

fn decoded(part: &str, text: &str) -> Result<String, DsnError> {
    let wrong = || DsnError::Percent { part: part.to_owned() };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = rest.get(..2).and_then(|two| std::str::from_utf8(two).ok()).ok_or_else(wrong)?;
        // `from_str_radix` would take a sign too.
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| wrong())?);
        rest = rest.get(2..).unwrap_or_default();
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}
