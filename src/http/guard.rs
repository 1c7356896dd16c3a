//! Who may ask: the bearer token, or on loopback without one, whoever is no foreign web page.

use actix_web::HttpRequest;
use actix_web::http::Method;
use actix_web::http::header::{AUTHORIZATION, HOST, HeaderMap};

use super::Context;
use super::error::{Code, Problem};
use crate::secret::is_same;

/// Checks the token or, where it is checked, where the request says it comes from and goes to.
///
/// # Errors
/// 401 without the right token; 403 for a foreign host or page.
pub fn check(context: &Context, request: &HttpRequest) -> Result<(), Problem> {
    let headers = request.headers();
    if let Some(token) = &context.settings.token {
        return check_token(headers, token);
    }
    if context.checks_host {
        check_host(headers, &context.settings.hosts)?;
        check_page(request.method(), headers)?;
    }
    Ok(())
}

fn check_token(headers: &HeaderMap, token: &str) -> Result<(), Problem> {
    let given = headers.get(AUTHORIZATION).map(|value| value.as_bytes()).unwrap_or_default();
    let given = match given.split_at_checked("Bearer ".len()) {
        Some((scheme, given)) if scheme.eq_ignore_ascii_case(b"Bearer ") => given,
        _ => &[],
    };
    if is_same(given, token.as_bytes()) {
        return Ok(());
    }
    let detail = "expected 'Authorization: Bearer TOKEN' with the node's token";
    Err(Problem::new(Code::Unauthorized, detail))
}

/// A page whose name was rebound to this address still says its own name in `Host`.
fn check_host(headers: &HeaderMap, known: &[String]) -> Result<(), Problem> {
    let Some(host) = headers.get(HOST) else { return Ok(()) };
    if host.to_str().is_ok_and(|host| is_own(host, known)) {
        return Ok(());
    }
    let detail = format!("host {host:?} is no address, not localhost and no name of this cluster");
    Err(Problem::new(Code::HostNotAllowed, detail))
}

fn is_own(host: &str, known: &[String]) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let is_address = match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => name.parse::<std::net::Ipv4Addr>().is_ok(),
    };
    is_address || known.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// A foreign page may send a POST without asking first, and browsers say that they carry one. For
/// every other write they ask first and are refused.
fn check_page(method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    if method != Method::POST {
        return Ok(());
    }
    match headers.get("sec-fetch-site").map(|value| value.as_bytes()) {
        None | Some(b"same-origin" | b"none") => Ok(()),
        Some(_) => {
            let detail = "a page of another origin may not write: use a token";
            Err(Problem::new(Code::CrossSite, detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_localhost_and_known_names_are_own() {
        let known = ["localhost".to_string(), "cache.example".to_string()];
        for own in [
            "127.0.0.1",
            "127.0.0.1:5001",
            "[::1]",
            "[::1]:5001",
            "LOCALHOST:1",
            "Cache.Example",
            "cache.example:80",
        ] {
            assert!(is_own(own, &known), "{own}");
        }
        for foreign in [
            "",
            ":",
            "evil.example",
            "evil.example:127.0.0.1",
            "127.0.0.1.evil.example",
            "localhost.",
            "::1",
            "[::1",
            "[127.0.0.1]",
            "localhost:80:80",
            "127.0.0.1 ",
        ] {
            assert!(!is_own(foreign, &known), "{foreign}");
        }
    }
}
