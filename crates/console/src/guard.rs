//! What holds for each request: which names the server is called by, which pages may ask, and what a browser is told.
//!
//! A page of another site can make a browser on this machine send requests here. It cannot do harm: the name that it used
//! is refused unless it is the hub's (DNS rebinding), the cookie is not sent along, and what changes something needs a
//! header that no such page can know.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use crate::refused::Refused;

/// No script, style or picture from elsewhere, and no script in the page's own text.
const CONTENT_POLICY: &str = "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; \
                              form-action 'self'; frame-ancestors 'none'";

/// Which names the server has.
pub struct Guard {
    names: Vec<String>,
    scheme: &'static str,
}

impl Guard {
    /// Of a server that has these names, beside `localhost` and addresses.
    pub fn new(names: Vec<String>, tls: bool) -> Self {
        Self { names, scheme: if tls { "https" } else { "http" } }
    }

    /// # Errors
    /// Why the request is refused.
    fn check(&self, method: &Method, path: &str, headers: &HeaderMap) -> Result<(), Refused> {
        let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
        let host = text("host").unwrap_or_default();
        let is_ours = host.parse::<Authority>().is_ok_and(|host| self.is_name(host.host()));
        if !is_ours {
            let message = "the console is not known by that name: use localhost, an address, or a name of the hub's";
            return Err(Refused::forbidden("host", message));
        }
        if !path.starts_with("/api/") {
            return Ok(());
        }
        let elsewhere = || Refused::forbidden("origin", "only the console's own page may ask this in a browser");
        // What a browser says by itself, and no page can change.
        if text("sec-fetch-site").is_some_and(|site| !matches!(site, "same-origin" | "none")) {
            return Err(elsewhere());
        }
        let own = format!("{}://{host}", self.scheme);
        if *method != Method::GET && text("origin").is_some_and(|origin| !origin.eq_ignore_ascii_case(&own)) {
            return Err(elsewhere());
        }
        Ok(())
    }

    /// An address cannot be made to mean another machine.
    fn is_name(&self, host: &str) -> bool {
        host.eq_ignore_ascii_case("localhost")
            || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok()
            || self.names.iter().any(|name| host.eq_ignore_ascii_case(name))
    }
}

/// Checks a request, and says how its answer is to be used.
pub async fn guard(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let is_api = path.starts_with("/api/");
    let mut response = match guard.check(request.method(), path, request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refused) => refused.into_response(),
    };
    let headers = response.headers_mut();
    let mut say = |name: &'static str, value: &'static str| {
        headers.insert(name, HeaderValue::from_static(value));
    };
    say("content-security-policy", CONTENT_POLICY);
    say("x-content-type-options", "nosniff");
    say("referrer-policy", "no-referrer");
    say("cross-origin-opener-policy", "same-origin");
    say("cross-origin-resource-policy", "same-origin");
    if is_api {
        say("cache-control", "no-store");
    }
    response
}

/// What is not there.
pub async fn unknown() -> Refused {
    Refused::new(StatusCode::NOT_FOUND, "unknown", "there is no such part of the API: see /api/openapi.json")
}

/// The value of a cookie.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(method: Method, path: &str, headers: &[(&'static str, &str)]) -> &'static str {
        let guard = Guard::new(vec!["hub.example".into()], false);
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        guard.check(&method, path, &headers.collect()).err().map_or("", |refused| refused.code)
    }

    #[test]
    fn only_the_hubs_names_and_addresses_are_answered() {
        for host in ["localhost:8088", "127.0.0.1:8088", "[::1]:8088", "HUB.example", "10.1.2.3"] {
            assert_eq!(code(Method::GET, "/", &[("host", host)]), "", "{host}");
        }
        for host in ["evil.example:8088", "localhost.evil.example", "", "a b"] {
            assert_eq!(code(Method::GET, "/", &[("host", host)]), "host", "{host}");
        }
        assert_eq!(code(Method::GET, "/", &[]), "host");
    }

    #[test]
    fn no_other_sites_page_asks() {
        let host = ("host", "localhost:8088");
        let of = |method: Method, more: (&'static str, &str)| code(method, "/api/actions", &[host, more]);
        assert_eq!(code(Method::POST, "/api/actions", &[host]), "", "the command line has no origin");
        assert_eq!(of(Method::POST, ("origin", "http://localhost:8088")), "");
        for origin in ["http://evil.example", "https://localhost:8088", "http://localhost:9", "null"] {
            assert_eq!(of(Method::POST, ("origin", origin)), "origin", "{origin}");
        }
        assert_eq!(of(Method::GET, ("sec-fetch-site", "same-origin")), "");
        assert_eq!(of(Method::GET, ("sec-fetch-site", "none")), "", "typed in");
        for site in ["cross-site", "same-site"] {
            assert_eq!(of(Method::GET, ("sec-fetch-site", site)), "origin", "{site}");
        }
        assert_eq!(code(Method::GET, "/", &[host, ("sec-fetch-site", "cross-site")]), "", "a link to the page is fine");
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        let headers = HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_static("a=1; session=2"))]);
        assert_eq!(cookie(&headers, "session"), Some("2"));
        assert_eq!(cookie(&headers, "sess"), None);
    }
}
