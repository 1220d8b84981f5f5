//! Where sessions may go.
//!
//! Owns the rule that a message alone never decides it: its URL is used only if this terminal's owner allows
//! the host. A triggering server that was stolen can then send a device to no other host, neither outside
//! nor in the device's own network (server-side request forgery, CWE-918). Refuses to open connections.

use std::{fmt, str::FromStr};

use url::{Host, Url};

/// The owner's choice. By default no session is opened at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Where sessions go that no URL is given for. Its host and port are allowed.
    pub default: Option<Url>,
    /// Which other hosts are allowed.
    pub allowed: Vec<Allowed>,
    /// Whether HTTP without TLS is, elsewhere than on this machine.
    pub plain: bool,
}

/// Hosts that sessions may go to: `ota.example`, `ota.example:8443`, `*.ota.example`, `192.0.2.1`, `[2001:db8::1]:8443`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    host: Pattern,
    /// The scheme's own if absent.
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Host(Host),
    /// Any name that ends with a dot and this one.
    Below(String),
}

/// Why a session does not go somewhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No URL, or none of HTTP.
    #[error("{0:?} is no URL of https or http: {1}")]
    NoUrl(String, String),
    /// A user's name or password in the URL.
    #[error("the URL has a user's name or password in it")]
    Credentials,
    /// HTTP without TLS.
    #[error(
        "{0} has no TLS: whoever listens would see the ICCID and could change commands; use https (--ota-plain-http allows it)"
    )]
    Plain(String),
    /// A host that is not allowed.
    #[error("{0} is not allowed: --ota-allow {0} allows it")]
    Host(String),
    /// No URL is given and there is no default.
    #[error("the message names no URL and there is no default: --ota-url URL sets one")]
    NoDefault,
}

impl Policy {
    /// Whether any session may be opened.
    pub fn is_on(&self) -> bool {
        self.default.is_some() || !self.allowed.is_empty()
    }

    /// Where the session goes that a message asks for; `None` if none is opened by this terminal.
    pub fn resolve(&self, asked: Option<&str>) -> Result<Option<Url>, Refused> {
        if !self.is_on() {
            return Ok(None);
        }
        match (asked, &self.default) {
            (Some(asked), _) => self.check(parse(asked)?).map(Some),
            (None, Some(default)) => Ok(Some(default.clone())),
            (None, None) => Err(Refused::NoDefault),
        }
    }

    /// Where the next request of a session at `current` goes: an absolute path on the same host as Amendment B
    /// has it, or a URL of an allowed one.
    pub fn next(&self, current: &Url, next: &str) -> Result<Url, Refused> {
        let next = current
            .join(next)
            .map_err(|error| Refused::NoUrl(next.to_owned(), error.to_string()))?;
        self.check(next)
    }

    /// Checks the default, and what was remembered under another policy.
    pub fn check(&self, mut url: Url) -> Result<Url, Refused> {
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refused::Credentials);
        }
        url.set_fragment(None);
        let plain = url.scheme() == "http";
        if !plain && url.scheme() != "https" {
            let why = format!("its scheme is {}", url.scheme());
            return Err(Refused::NoUrl(url.to_string(), why));
        }
        if !self.allows(&url) {
            return Err(Refused::Host(authority(&url)));
        }
        if plain && !self.plain && !is_loopback(&url) {
            return Err(Refused::Plain(url.to_string()));
        }
        Ok(url)
    }

    fn allows(&self, url: &Url) -> bool {
        let default = self.default.as_ref();
        default.is_some_and(|default| default.origin() == url.origin())
            || self.allowed.iter().any(|allowed| allowed.matches(url))
    }
}

/// A URL of HTTP.
pub fn parse(text: &str) -> Result<Url, Refused> {
    let wrong = |why: String| Refused::NoUrl(text.to_owned(), why);
    let url = Url::parse(text).map_err(|error| wrong(error.to_string()))?;
    if !matches!(url.scheme(), "https" | "http") {
        return Err(wrong(format!("its scheme is {}", url.scheme())));
    }
    Ok(url)
}

/// host:port, the port only where it is not the scheme's own.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Whether what is sent there stays on this machine (RFC 6761, 6.3 for the name).
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

impl Allowed {
    fn matches(&self, url: &Url) -> bool {
        if url.port() != self.port {
            return false;
        }
        match (&self.host, url.host()) {
            (Pattern::Host(allowed), Some(host)) => *allowed == host.to_owned(),
            (Pattern::Below(allowed), Some(Host::Domain(name))) => name
                .strip_suffix(allowed.as_str())
                .is_some_and(|before| before.len() > 1 && before.ends_with('.')),
            _ => false,
        }
    }
}

impl FromStr for Allowed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is no host; write ota.example, ota.example:8443, *.ota.example or an address, without https://"
            )
        };
        let (below, rest) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        // As a URL's host, so that both are written in the same way whatever is typed.
        let url = Url::parse(&format!("https://{rest}")).map_err(|_| wrong())?;
        let only_host = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        let plain = url.username().is_empty() && !rest.contains(['/', '@', '\\', '*']);
        let host = url.host().map(|host| host.to_owned()).ok_or_else(wrong)?;
        if !only_host || !plain {
            return Err(wrong());
        }
        let host = match (below, host) {
            (true, Host::Domain(name)) => Pattern::Below(name),
            (true, _) => return Err(wrong()),
            (false, host) => Pattern::Host(host),
        };
        Ok(Self {
            host,
            port: url.port(),
        })
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Pattern::Host(host) => write!(f, "{host}")?,
            Pattern::Below(name) => write!(f, "*.{name}")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(default: Option<&str>, allowed: &[&str]) -> Policy {
        Policy {
            default: default.map(|url| parse(url).unwrap()),
            allowed: allowed.iter().map(|host| host.parse().unwrap()).collect(),
            plain: false,
        }
    }

    fn goes(policy: &Policy, url: &str) -> bool {
        policy.resolve(Some(url)).is_ok()
    }

    #[test]
    fn without_a_choice_of_the_owner_nothing_is_opened() {
        assert_eq!(
            Policy::default().resolve(Some("https://ota.example/")),
            Ok(None)
        );
        assert_eq!(Policy::default().resolve(None), Ok(None));
        assert_eq!(
            policy(None, &["a.example"]).resolve(None),
            Err(Refused::NoDefault)
        );
    }

    #[test]
    fn a_message_sends_the_terminal_to_allowed_hosts_only() {
        let policy = policy(
            Some("https://ota.example/start"),
            &[
                "b.example:8443",
                "*.c.example",
                "192.0.2.7",
                "[2001:db8::1]",
            ],
        );
        for url in [
            "https://ota.example/other?x=1",
            "https://OTA.example:443/",
            "https://b.example:8443/",
            "https://x.c.example/",
            "https://x.y.c.example/",
            "https://192.0.2.7/",
            "https://[2001:db8::1]/",
        ] {
            assert!(goes(&policy, url), "{url}");
        }
        for url in [
            "https://ota.example:8443/",
            "https://ota.example.evil.example/",
            "https://b.example/",
            "https://c.example/",
            "https://evilc.example/",
            "https://.c.example/",
            "https://127.0.0.1/",
            "https://0x7f.1/",
            "https://[::ffff:127.0.0.1]/",
            "https://169.254.169.254/latest/meta-data",
            "https://ota.example@evil.example/",
            "https://user:pass@ota.example/",
            "https://evil.example\\@ota.example/",
            "http://ota.example/",
            "ftp://ota.example/",
            "file:///etc/passwd",
            "//ota.example/",
            "ota.example",
            "",
        ] {
            assert!(!goes(&policy, url), "{url}");
        }
    }

    #[test]
    fn without_tls_only_on_this_machine_unless_the_owner_says_so() {
        let here = policy(
            Some("http://127.0.0.1:8080/"),
            &["ota.example", "localhost:1"],
        );
        assert!(goes(&here, "http://127.0.0.1:8080/x"));
        assert!(goes(&here, "http://localhost:1/x"));
        assert!(goes(&here, "https://ota.example/x"));
        assert_eq!(
            here.resolve(Some("http://ota.example/x")),
            Err(Refused::Plain("http://ota.example/x".into()))
        );
        let plain = Policy {
            plain: true,
            ..here
        };
        assert!(goes(&plain, "http://ota.example/x"));
    }

    #[test]
    fn the_next_request_stays_where_it_is_or_goes_to_an_allowed_host() {
        let policy = policy(Some("https://ota.example/start?a=1"), &["b.example"]);
        let at = policy.default.clone().unwrap();
        let next = |text: &str| policy.next(&at, text).map(|url| url.to_string());
        assert_eq!(next("/1?step=2").unwrap(), "https://ota.example/1?step=2");
        assert_eq!(next("https://b.example/2").unwrap(), "https://b.example/2");
        for wrong in [
            "https://c.example/",
            "//c.example/",
            "http://ota.example/",
            "javascript:1",
            "https://",
        ] {
            assert!(next(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused_on_the_command_line() {
        for text in ["ota.example:8443", "*.ota.example", "192.0.2.1", "[::1]:1"] {
            assert_eq!(text.parse::<Allowed>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "https://a",
            "a/b",
            "a?b",
            "*",
            "*.1.2.3.4",
            "u@a",
            "a b",
        ] {
            assert!(text.parse::<Allowed>().is_err(), "{text}");
        }
    }
}
