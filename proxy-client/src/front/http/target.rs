//! What a request to the proxy port asks for (RFC 9112 §3.2): a tunnel, something to forward, or nothing that we do.
//!
//! Origin-form is refused: it is what a browser sends to a port it takes for a server, and a page from
//! elsewhere could make it do so.

use http::header::HOST;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};

/// A request that this port serves.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// CONNECT to this `host:port`.
    Tunnel { name: String },
    /// An absolute-form request.
    Forward(Forward),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Forward {
    /// `host:port`, the port filled in.
    pub(super) name: String,
    /// What the origin gets as `Host`; a `Host` that the client sent does not count (RFC 9112 §3.2.2).
    pub(super) host: HeaderValue,
    /// What the origin gets as target, in origin-form.
    pub(super) origin: Uri,
}

/// Why a request is none that this port serves.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(super) enum BadRequest {
    #[error(
        "this is a forward proxy, not a server: set it as the proxy of your application (http_proxy, https_proxy), \
         or use --listen to map a port to a guest"
    )]
    OriginForm,
    #[error("{scheme}:// cannot be forwarded: only http:// can; for TLS to the upstream itself use CONNECT")]
    Scheme { scheme: String },
    #[error("CONNECT wants host:port")]
    ConnectTarget,
    #[error("CONNECT has no body; send the first bytes of the tunnel after the answer")]
    ConnectBody,
    #[error("the target has a user name in it")]
    UserInfo,
    #[error("the request has {seen} Host headers; one at most is allowed")]
    Hosts { seen: usize },
    #[error("the transfer coding {seen:?} is not supported: only chunked is")]
    TransferCoding { seen: String },
    #[error("the target is not a URI that can be forwarded")]
    Target,
}

impl BadRequest {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            BadRequest::OriginForm => StatusCode::MISDIRECTED_REQUEST,
            BadRequest::TransferCoding { .. } => StatusCode::NOT_IMPLEMENTED,
            BadRequest::Scheme { .. }
            | BadRequest::ConnectTarget
            | BadRequest::ConnectBody
            | BadRequest::UserInfo
            | BadRequest::Hosts { .. }
            | BadRequest::Target => StatusCode::BAD_REQUEST,
        }
    }
}

/// `has_empty_path`: the target as it came ended with its authority.
pub(super) fn classify(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    has_empty_path: bool,
) -> Result<Asked, BadRequest> {
    let hosts = headers.get_all(HOST).iter().count();
    if hosts > 1 {
        return Err(BadRequest::Hosts { seen: hosts });
    }
    super::headers::only_chunked(headers).map_err(|seen| BadRequest::TransferCoding { seen })?;
    if *method == Method::CONNECT { tunnel(uri) } else { forward(method, uri, has_empty_path) }
}

fn tunnel(uri: &Uri) -> Result<Asked, BadRequest> {
    let authority = match (uri.scheme(), uri.authority(), uri.path_and_query()) {
        (None, Some(authority), None) => authority,
        _ => return Err(BadRequest::ConnectTarget),
    };
    if authority.as_str().contains('@') {
        return Err(BadRequest::UserInfo);
    }
    let port = authority.port_u16().ok_or(BadRequest::ConnectTarget)?;
    Ok(Asked::Tunnel { name: format!("{}:{port}", authority.host()) })
}

fn forward(method: &Method, uri: &Uri, has_empty_path: bool) -> Result<Asked, BadRequest> {
    let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else { return Err(BadRequest::OriginForm) };
    if *scheme != Scheme::HTTP {
        return Err(BadRequest::Scheme { scheme: scheme.to_string() });
    }
    if authority.as_str().contains('@') {
        return Err(BadRequest::UserInfo);
    }
    let port = authority.port_u16().unwrap_or(80);
    // OPTIONS without a path asks about the server (RFC 9112, 3.2.4); the parsed URI has "/" there.
    let origin = match *method == Method::OPTIONS && has_empty_path {
        true => PathAndQuery::from_static("*"),
        false => uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/")),
    };
    Ok(Asked::Forward(Forward {
        name: format!("{}:{port}", authority.host()),
        host: HeaderValue::from_str(authority.as_str()).map_err(|_| BadRequest::Target)?,
        origin: Uri::from(origin),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: Method, target: &str) -> Result<Asked, BadRequest> {
        classify(&method, &target.parse().unwrap(), &HeaderMap::new(), false)
    }

    fn forwarded(target: &str) -> Forward {
        match asked(Method::GET, target) {
            Ok(Asked::Forward(forward)) => forward,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn absolute_form_is_taken_apart() {
        let forward = forwarded("http://llm.example/v1/models?x=1&y=%20");
        assert_eq!(forward.name, "llm.example:80");
        assert_eq!(forward.host, "llm.example");
        assert_eq!(forward.origin.to_string(), "/v1/models?x=1&y=%20");
        let forward = forwarded("http://[::1]:8080");
        assert_eq!(forward.name, "[::1]:8080");
        assert_eq!(forward.host, "[::1]:8080");
        assert_eq!(forward.origin.to_string(), "/");
        assert_eq!(forwarded("http://a.example?q").origin.to_string(), "/?q");
    }

    #[test]
    fn options_without_a_path_asks_about_the_server() {
        let origin =
            |method, empty| match classify(&method, &"http://a.example".parse().unwrap(), &HeaderMap::new(), empty) {
                Ok(Asked::Forward(forward)) => forward.origin.to_string(),
                other => panic!("{other:?}"),
            };
        assert_eq!(origin(Method::OPTIONS, true), "*");
        assert_eq!(origin(Method::OPTIONS, false), "/");
        assert_eq!(origin(Method::GET, true), "/");
    }

    #[test]
    fn connect_wants_host_and_port() {
        let name = |target| asked(Method::CONNECT, target);
        assert_eq!(name("a.example:443"), Ok(Asked::Tunnel { name: "a.example:443".to_owned() }));
        assert_eq!(name("[::1]:443"), Ok(Asked::Tunnel { name: "[::1]:443".to_owned() }));
        for target in ["a.example", "http://a.example:443/", "/path", "a.example:"] {
            assert_eq!(name(target), Err(BadRequest::ConnectTarget), "{target}");
        }
        assert_eq!(name("u@a.example:443"), Err(BadRequest::UserInfo));
    }

    #[test]
    fn refuses_what_is_meant_for_a_server() {
        for target in ["/", "/verdict", "*"] {
            assert_eq!(asked(Method::GET, target), Err(BadRequest::OriginForm), "{target}");
        }
        assert_eq!(BadRequest::OriginForm.status(), 421);
    }

    #[test]
    fn refuses_other_schemes_and_user_names() {
        for target in ["https://a.example/", "ftp://a.example/", "ws://a.example/"] {
            assert!(matches!(asked(Method::GET, target), Err(BadRequest::Scheme { .. })), "{target}");
        }
        assert_eq!(asked(Method::GET, "http://u:p@a.example/"), Err(BadRequest::UserInfo));
    }

    #[test]
    fn refuses_two_hosts() {
        let mut headers = HeaderMap::new();
        headers.append(HOST, HeaderValue::from_static("a.example"));
        headers.append(HOST, HeaderValue::from_static("b.example"));
        let seen = classify(&Method::GET, &"http://a.example/".parse().unwrap(), &headers, false);
        assert_eq!(seen, Err(BadRequest::Hosts { seen: 2 }));
    }
}
