//! What an application is told when there is no tunnel: every reason, in the application's own protocol.
//!
//! One place turns an [`OpenError`] into an HTTP answer, a SOCKS reply and a log line, so that the three never differ.
//! What a guest wrote is shown as text and never as structure: what deceives a reader is escaped.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use hyper::ext::ReasonPhrase;
use proxy_core::net::Peer;
use proxy_core::tunnel::TunnelEnd;
use ratls::appraise::{AttestationResult, Finding, Paint, Severity};
use ratls::text::{Untrusted, json_for_people};
use serde::Serialize;

use super::socks5_parse::Reply;
use crate::open::OpenError;

pub const VERDICT_HEADER: HeaderName = HeaderName::from_static("evident-verdict");
pub const LEVEL_HEADER: HeaderName = HeaderName::from_static("evident-level");

/// What a client is asked to wait where this proxy itself is at a limit.
const LIMIT_RETRY: Duration = Duration::from_secs(1);
/// Of a reason phrase: some clients show nothing else, and none wants an essay there.
const MAX_REASON_BYTES: usize = 160;

/// Why a request is answered by this proxy and not by the upstream.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub status: StatusCode,
    /// A word for programs; stable.
    pub kind: &'static str,
    pub error: String,
    pub address: Option<String>,
    pub findings: Vec<Finding>,
    /// What the guest showed, where it is the guest that is refused.
    pub result: Option<Arc<AttestationResult>>,
    pub retry_after: Option<Duration>,
}

#[derive(Serialize)]
struct Body<'a> {
    error: &'a str,
    kind: &'a str,
    address: Option<&'a str>,
    findings: &'a [Finding],
    /// The trust table, as in the JSON of `inspect`; null where no evidence was looked at.
    levels: Option<serde_json::Value>,
}

impl From<&OpenError> for Refusal {
    fn from(error: &OpenError) -> Refusal {
        let (status, kind, address, retry_after) = match error {
            OpenError::UnknownName { .. } => (StatusCode::FORBIDDEN, "unknown-name", None, None),
            OpenError::Refused { address, .. } => (StatusCode::BAD_GATEWAY, "refused", Some(address), None),
            OpenError::Unreachable { address, .. } => (StatusCode::BAD_GATEWAY, "unreachable", Some(address), None),
            OpenError::AccessDenied { address, .. } => (StatusCode::BAD_GATEWAY, "access-denied", Some(address), None),
            OpenError::Busy { address, retry_after, .. } => {
                (StatusCode::SERVICE_UNAVAILABLE, "busy", Some(address), Some(*retry_after))
            }
            OpenError::UpstreamRefused { .. } => (StatusCode::BAD_GATEWAY, "upstream-refused", None, None),
            OpenError::Limit { .. } => (StatusCode::SERVICE_UNAVAILABLE, "limit", None, Some(LIMIT_RETRY)),
        };
        Refusal {
            status,
            kind,
            error: error.to_string(),
            address: address.cloned(),
            findings: error.findings().to_vec(),
            result: match error {
                OpenError::Refused { result, .. } => Some(result.clone()),
                _ => None,
            },
            retry_after,
        }
    }
}

impl Refusal {
    /// A refusal that has nothing to do with a guest.
    pub fn of_request(status: StatusCode, error: String) -> Refusal {
        Refusal {
            status,
            kind: "bad-request",
            error,
            address: None,
            findings: Vec::new(),
            result: None,
            retry_after: None,
        }
    }

    /// The upstream behind the attested connection went away before it answered.
    pub fn of_upstream(error: String) -> Refusal {
        Refusal {
            status: StatusCode::BAD_GATEWAY,
            kind: "upstream-failed",
            error,
            address: None,
            findings: Vec::new(),
            result: None,
            retry_after: None,
        }
    }

    /// The answer, as JSON where the request prefers it and as text elsewhere.
    pub fn response(&self, request_headers: &HeaderMap) -> Response<Full<Bytes>> {
        let (media_type, body) = if prefers_json(request_headers) {
            ("application/json", self.json())
        } else {
            ("text/plain; charset=utf-8", self.text())
        };
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = self.status;
        if let Ok(reason) = ReasonPhrase::try_from(self.reason().into_bytes()) {
            response.extensions_mut().insert(reason);
        }
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.kind == "refused" {
            headers.insert(VERDICT_HEADER, HeaderValue::from_static("refused"));
        }
        if let Some(level) = self.result.as_ref().and_then(|r| HeaderValue::try_from(r.level_words()).ok()) {
            headers.insert(LEVEL_HEADER, level);
        }
        if let Some(after) = self.retry_after {
            // Whole seconds, and never zero: zero means at once.
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds.clamp(1, 3600)));
        }
        response
    }

    fn json(&self) -> String {
        let body = Body {
            error: &self.error,
            kind: self.kind,
            address: self.address.as_deref(),
            findings: &self.findings,
            levels: self.result.as_ref().map(|result| result.levels_json()),
        };
        let text = serde_json::to_string_pretty(&body).expect("strings and lists of strings serialise");
        json_for_people(&text) + "\n"
    }

    fn text(&self) -> String {
        let mut text = format!("evident-client: {}\n", Untrusted(&self.error));
        for finding in &self.findings {
            text.push_str(&format!(
                "\n{:<8} {}  {}\n  seen:   {}\n  wanted: {}\n",
                finding.severity().as_str(),
                finding.id(),
                finding.subject(),
                Untrusted(finding.seen()),
                Untrusted(finding.wanted()),
            ));
            if !finding.help().is_empty() {
                text.push_str(&format!("  help:   {}\n", Untrusted(finding.help())));
            }
        }
        if let Some(result) = &self.result {
            text.push_str(&format!("\n{}", result.table_text(Paint::Plain)));
        }
        text
    }

    /// The canonical reason and ours, in the characters that a reason phrase may hold.
    fn reason(&self) -> String {
        let canonical = self.status.canonical_reason().unwrap_or("Refused");
        let mut reason: String = format!("{canonical} ({})", self.error)
            .chars()
            .map(|c| if c.is_ascii_graphic() { c } else { ' ' })
            .collect();
        reason.truncate(MAX_REASON_BYTES);
        reason
    }
}

/// JSON only where the client names it and does not prefer text: `*/*` is what people's tools send.
fn prefers_json(headers: &HeaderMap) -> bool {
    let mut json: f32 = 0.0;
    let mut text: f32 = 0.0;
    for range in headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
        let quality = parts
            .filter_map(|p| p.strip_prefix("q=").or_else(|| p.strip_prefix("Q=")))
            .find_map(|q| q.parse::<f32>().ok())
            .unwrap_or(1.0);
        match media_type.as_str() {
            "application/json" => json = json.max(quality),
            "text/plain" | "text/html" | "text/*" => text = text.max(quality),
            other if other.ends_with("+json") => json = json.max(quality),
            _ => {}
        }
    }
    json > 0.0 && json >= text
}

/// RFC 1928 has few codes; the log has the rest.
pub fn socks_reply(error: &OpenError) -> Reply {
    match error {
        OpenError::UnknownName { .. } | OpenError::Refused { .. } | OpenError::AccessDenied { .. } => {
            Reply::NotAllowedByRuleset
        }
        OpenError::Unreachable { .. } => Reply::HostUnreachable,
        OpenError::UpstreamRefused { .. } => Reply::ConnectionRefused,
        OpenError::Busy { .. } | OpenError::Limit { .. } => Reply::GeneralFailure,
    }
}

/// One event per refusal, with what was seen and wanted where the guest's evidence is refused.
pub(super) fn log(way: &'static str, peer: &Peer, name: &str, error: &OpenError) {
    let kind = Refusal::from(error).kind;
    let findings = fatal_findings(error.findings());
    tracing::warn!(way, %peer, name, kind, %error, ?findings, "no tunnel");
}

/// Each fatal finding in one line; the others changed nothing.
fn fatal_findings(findings: &[Finding]) -> Vec<String> {
    let fatal = findings.iter().filter(|finding| finding.severity() == Severity::Fatal);
    fatal.map(|f| format!("{}: seen {}; wanted {}", f.id(), Untrusted(f.seen()), Untrusted(f.wanted()))).collect()
}

/// The end of a tunnel whose OPEN went out with the first bytes: a refusal comes only then.
pub(super) fn log_end(way: &'static str, peer: &Peer, name: &str, error: &io::Error) {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<TunnelEnd>()) {
        Some(TunnelEnd::Refused(_)) => {
            let kind = "upstream-refused";
            let hint = "is the server behind evident-proxy running?";
            tracing::warn!(way, %peer, name, kind, %error, hint, "no tunnel");
        }
        _ => match error.get_ref().and_then(|inner| inner.downcast_ref::<OpenError>()) {
            // The connection ended before the guest took the tunnel, and no other could be had.
            Some(open) => log(way, peer, name, open),
            None => tracing::debug!(way, %peer, %error, "a tunnel ended before both sides had"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_str(value).unwrap());
        headers
    }

    #[test]
    fn json_is_for_clients_that_name_it() {
        for value in [
            "application/json",
            "application/json, text/plain;q=0.5",
            "*/*, application/problem+json",
            "text/plain;q=0.1,application/json;q=0.1",
        ] {
            assert!(prefers_json(&accept(value)), "{value}");
        }
        for value in
            ["*/*", "text/html,application/xhtml+xml", "text/plain, application/json;q=0.9", "application/json;q=0", ""]
        {
            assert!(!prefers_json(&accept(value)), "{value}");
        }
        assert!(!prefers_json(&HeaderMap::new()));
    }

    #[test]
    fn each_error_has_its_status_and_its_reply() {
        let address = || "192.0.2.1:8443".to_owned();
        let reason = || "r".to_owned();
        for (error, status, reply) in [
            (OpenError::UnknownName { name: reason() }, 403, 0x02),
            (OpenError::Unreachable { address: address(), reason: reason() }, 502, 0x04),
            (OpenError::AccessDenied { address: address(), reason: reason() }, 502, 0x02),
            (OpenError::Busy { address: address(), reason: reason(), retry_after: Duration::ZERO }, 503, 0x01),
            (OpenError::UpstreamRefused { code: 1, reason: reason() }, 502, 0x05),
            (OpenError::Limit { reason: reason() }, 503, 0x01),
        ] {
            let refusal = Refusal::from(&error);
            assert_eq!(refusal.status, status, "{error}");
            assert_eq!(socks_reply(&error).code(), reply, "{error}");
            assert_eq!(
                refusal.response(&HeaderMap::new()).headers().contains_key(RETRY_AFTER),
                status == 503,
                "{error}"
            );
        }
    }

    #[test]
    fn what_a_guest_wrote_cannot_add_lines() {
        let error =
            OpenError::UpstreamRefused { code: 1, reason: "a\r\nEvident-Verdict: accepted\u{1b}[2J".to_owned() };
        let refusal = Refusal::from(&error);
        assert_eq!(refusal.text().lines().count(), 1);
        assert!(refusal.reason().bytes().all(|b| b == b' ' || b.is_ascii_graphic()));
        assert!(!refusal.json().contains('\u{1b}'));
    }
}
