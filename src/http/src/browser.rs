//! Which web pages may ask: the rules for `Origin` and `Host`, one policy for all routes.
//!
//! A browser lets any page send requests to this machine, and without rules a page of a stranger
//! could use the NPU or, where it renames itself to 127.0.0.1 (DNS rebinding), read the answers.
//! Programs that are no browsers send no `Origin`, and are no concern of this.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use poem::{
    Endpoint, IntoResponse, Middleware, Request, Response, Result,
    http::{
        HeaderValue, Method, StatusCode,
        header::{
            ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
            ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
            ACCESS_CONTROL_REQUEST_METHOD, HOST, ORIGIN, VARY,
        },
    },
};

/// Pages of this machine, and of programs that are windows around pages.
const ORIGINS: [&str; 17] = [
    "http://localhost",
    "http://localhost:*",
    "https://localhost",
    "https://localhost:*",
    "http://127.0.0.1",
    "http://127.0.0.1:*",
    "https://127.0.0.1",
    "https://127.0.0.1:*",
    "http://0.0.0.0",
    "http://0.0.0.0:*",
    "https://0.0.0.0",
    "https://0.0.0.0:*",
    "app://*",
    "file://*",
    "tauri://*",
    "vscode-webview://*",
    "vscode-file://*",
];
/// Extensions of browsers, which their owner installed.
const EXTENSIONS: [&str; 3] =
    ["chrome-extension://*", "moz-extension://*", "safari-web-extension://*"];
/// Names that no stranger can register.
const LOCAL_SUFFIXES: [&str; 3] = [".localhost", ".local", ".internal"];

const METHODS: HeaderValue = HeaderValue::from_static("GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS");
/// What clients of Ollama, OpenAI and Anthropic send.
const HEADERS: HeaderValue = HeaderValue::from_static(
    "Authorization,Content-Type,User-Agent,Accept,X-Requested-With,Openai-Beta,X-Stainless-Arch,\
     X-Stainless-Async,X-Stainless-Custom-Poll-Interval,X-Stainless-Helper-Method,\
     X-Stainless-Lang,X-Stainless-Os,X-Stainless-Package-Version,X-Stainless-Poll-Helper,\
     X-Stainless-Retry-Count,X-Stainless-Runtime,X-Stainless-Runtime-Version,\
     X-Stainless-Timeout,X-Request-Id,X-Api-Key,Openai-Organization,Openai-Project,\
     Anthropic-Version,Anthropic-Beta,Anthropic-Dangerous-Direct-Browser-Access",
);
/// What of an answer a page may read besides its body.
const EXPOSED: HeaderValue =
    HeaderValue::from_static("X-Request-Id,X-Rkllama-Ignored,Retry-After,X-Should-Retry");
/// Seconds for which a browser remembers what it may.
const MAX_AGE_S: HeaderValue = HeaderValue::from_static("43200");

/// Which pages may ask.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BrowserRules {
    /// Origins beside the built-in ones, each with at most one `*`; `*` alone lets in all.
    pub origins: Vec<String>,
    /// Whether extensions of browsers may.
    pub extensions: bool,
    /// Names by which this server is known, where `Host` is looked at: it is where the server
    /// listens on this machine only.
    pub hosts: Option<Vec<String>>,
}

/// An origin of the configuration that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no origin: use `scheme://host`, with `*` at most once, or `*` alone")]
pub struct InvalidOrigin(String);

/// The middleware.
#[derive(Debug, Clone)]
pub struct Browsers {
    rules: Arc<Compiled>,
}

#[derive(Debug)]
struct Compiled {
    origins: Vec<Pattern>,
    is_open: bool,
    hosts: Option<Vec<String>>,
}

/// What stands before and behind the `*`; nothing behind where there is none.
#[derive(Debug)]
struct Pattern {
    before: String,
    after: Option<String>,
}

impl Pattern {
    fn read(text: &str) -> Result<Self, InvalidOrigin> {
        let invalid = || InvalidOrigin(text.to_owned());
        let (before, after) = match text.split_once('*') {
            Some((before, after)) => (before, Some(after)),
            None => (text, None),
        };
        let is_twice = after.is_some_and(|after| after.contains('*'));
        let has_scheme = before.split_once("://").is_some_and(|(scheme, _)| !scheme.is_empty());
        if is_twice || !has_scheme || text.ends_with('/') && after.is_none() {
            return Err(invalid());
        }
        Ok(Self { before: before.to_owned(), after: after.map(str::to_owned) })
    }

    fn fits(&self, origin: &str) -> bool {
        match &self.after {
            None => origin == self.before,
            Some(after) => {
                origin.strip_prefix(&*self.before).is_some_and(|rest| rest.ends_with(&**after))
            }
        }
    }
}

impl Default for Browsers {
    /// The built-in origins and no look at `Host`.
    fn default() -> Self {
        let origins = ORIGINS.iter().filter_map(|origin| Pattern::read(origin).ok()).collect();
        Self { rules: Arc::new(Compiled { origins, is_open: false, hosts: None }) }
    }
}

impl Browsers {
    /// Goes by these rules.
    ///
    /// # Errors
    /// [`InvalidOrigin`], naming the origin.
    pub fn new(rules: BrowserRules) -> Result<Self, InvalidOrigin> {
        let BrowserRules { origins, extensions, hosts } = rules;
        let is_open = origins.iter().any(|origin| origin == "*");
        let extensions = if extensions { &EXTENSIONS[..] } else { &[] };
        let built_in = ORIGINS.iter().chain(extensions).copied();
        let stated = origins.iter().map(String::as_str).filter(|origin| *origin != "*");
        let origins = built_in.chain(stated).map(Pattern::read).collect::<Result<_, _>>()?;
        Ok(Self { rules: Arc::new(Compiled { origins, is_open, hosts }) })
    }
}

impl Compiled {
    fn lets_in(&self, origin: &str) -> bool {
        self.is_open || self.origins.iter().any(|pattern| pattern.fits(origin))
    }

    /// Whether the name by which the client calls this server can be its own.
    fn knows(&self, host: &str) -> bool {
        let Some(hosts) = &self.hosts else { return true };
        let name = name_of(host).to_ascii_lowercase();
        let name = name.strip_suffix('.').unwrap_or(&name);
        if name.is_empty() || name == "localhost" || hosts.iter().any(|known| known == name) {
            return true;
        }
        if LOCAL_SUFFIXES.iter().any(|suffix| name.ends_with(suffix)) {
            return true;
        }
        name.parse::<IpAddr>().is_ok_and(|address| match address {
            IpAddr::V4(address) => {
                address.is_loopback() || address.is_private() || address.is_unspecified()
            }
            IpAddr::V6(address) => {
                address.is_loopback() || address.is_unspecified() || is_unique_local(address)
            }
        })
    }
}

const fn is_unique_local(address: Ipv6Addr) -> bool {
    address.segments()[0] & 0xfe00 == 0xfc00
}

/// A host without its port and without the brackets of an address.
fn name_of(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    match host.rsplit_once(':') {
        // More than one colon: an address without brackets.
        Some((name, _)) if !name.contains(':') => name,
        _ => host,
    }
}

/// Whether a page asks the server that it came from.
fn is_own(origin: &str, host: &str) -> bool {
    let rest = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    !host.is_empty() && rest == Some(host)
}

fn forbidden(what: &str, value: &str) -> Response {
    tracing::debug!(value, "refused: {what}");
    StatusCode::FORBIDDEN.into_response()
}

impl<E: Endpoint> Middleware<E> for Browsers {
    type Output = BrowsersEndpoint<E>;

    fn transform(&self, inner: E) -> Self::Output {
        BrowsersEndpoint { inner, rules: Arc::clone(&self.rules) }
    }
}

/// See [`Browsers`].
pub struct BrowsersEndpoint<E> {
    inner: E,
    rules: Arc<Compiled>,
}

impl<E: Endpoint> Endpoint for BrowsersEndpoint<E> {
    type Output = Response;

    async fn call(&self, request: Request) -> Result<Response> {
        let header = |name| {
            request
                .headers()
                .get(name)
                .map(|value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        // Of HTTP/2 it is in the address.
        let authority = request.uri().authority().map(|authority| authority.as_str().to_owned());
        let host = header(HOST).or(authority).unwrap_or_default();
        let origin = header(ORIGIN).filter(|origin| !is_own(origin, &host));
        if let Some(origin) = &origin
            && !self.rules.lets_in(origin)
        {
            return Ok(forbidden("a page of this origin may not ask", origin));
        }
        if !self.rules.knows(&host) {
            return Ok(forbidden("this server is not known by this name", &host));
        }
        let Some(origin) = origin else {
            return self.inner.call(request).await.map(IntoResponse::into_response);
        };
        let asks_first = request.method() == Method::OPTIONS
            && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        let mut response = if asks_first {
            let mut response = StatusCode::NO_CONTENT.into_response();
            let headers = response.headers_mut();
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
            headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE_S);
            response
        } else {
            self.inner.call(request).await?.into_response()
        };
        let headers = response.headers_mut();
        let allowed = if self.rules.is_open { "*" } else { &*origin };
        if let Ok(allowed) = HeaderValue::try_from(allowed) {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        }
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        headers.append(VARY, HeaderValue::from_static("Origin"));
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(origins: &[&str], extensions: bool, hosts: Option<&[&str]>) -> Browsers {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let (origins, hosts) = (owned(origins), hosts.map(owned));
        Browsers::new(BrowserRules { origins, extensions, hosts }).unwrap()
    }

    #[test]
    fn pages_of_this_machine_are_let_in_and_no_others() {
        let browsers = rules(&[], true, None);
        for origin in [
            "http://localhost",
            "http://localhost:3000",
            "https://127.0.0.1:8443",
            "app://obsidian.md",
            "file://",
            "tauri://localhost",
            "vscode-webview://x",
            "chrome-extension://abcdef",
            "moz-extension://abc",
            "safari-web-extension://abc",
        ] {
            assert!(browsers.rules.lets_in(origin), "{origin}");
        }
        for origin in [
            "http://evil.com",
            "http://localhost.evil.com",
            "HTTP://LOCALHOST:3000",
            "http://192.168.1.9:3000",
            "capacitor://localhost",
            "null",
            "",
        ] {
            assert!(!browsers.rules.lets_in(origin), "{origin}");
        }
        assert!(!rules(&[], false, None).rules.lets_in("chrome-extension://abcdef"));
    }

    #[test]
    fn origins_may_be_added() {
        let browsers = rules(&["https://my.site", "http://*.example.com"], true, None);
        assert!(browsers.rules.lets_in("https://my.site"));
        assert!(browsers.rules.lets_in("http://a.example.com"));
        assert!(!browsers.rules.lets_in("https://a.example.com"));
        assert!(rules(&["*"], true, None).rules.lets_in("http://evil.com"));
        for wrong in ["my.site", "http://*.a.*", "://x", "http://a.b/"] {
            let origins = vec![wrong.to_owned()];
            let rules = BrowserRules { origins, ..BrowserRules::default() };
            assert_eq!(Browsers::new(rules).unwrap_err(), InvalidOrigin(wrong.to_owned()));
        }
    }

    #[test]
    fn a_server_of_this_machine_has_no_name_that_a_stranger_can_take() {
        let browsers = rules(&[], true, Some(&["board"]));
        for host in [
            "",
            "localhost",
            "LOCALHOST:8080",
            "127.0.0.1",
            "127.0.0.1:8080",
            "[::1]:8080",
            "::1",
            "board",
            "board:8080",
            "foo.local",
            "ollama.internal",
            "x.localhost",
            "172.17.0.1",
            "0.0.0.0",
            "host.docker.internal",
            "[fd00::1]",
        ] {
            assert!(browsers.rules.knows(host), "{host}");
        }
        for host in ["evil.com", "example.com:11434", "8.8.8.8", "ollama", "[2001:db8::1]"] {
            assert!(!browsers.rules.knows(host), "{host}");
            assert!(rules(&[], true, None).rules.knows(host), "{host}");
        }
    }

    #[test]
    fn a_page_of_the_server_itself_needs_no_rule() {
        assert!(is_own("http://192.168.1.9:8080", "192.168.1.9:8080"));
        assert!(!is_own("http://192.168.1.9:8081", "192.168.1.9:8080"));
        assert!(!is_own("http://", ""));
    }
}
