//! What is told where no tunnel came about: what a peer said, in words that can do no harm in a log or on a terminal.

use std::io;
use std::time::Duration;

use proxy_core::exit::chain;
use proxy_core::framing::FramingError;
use proxy_core::tunnel::TunnelEnd;
use ratls::text::Untrusted;
use ratls::wire::control::{Close, CloseCode, RefuseCode};

use crate::open::OpenError;

pub(crate) fn tunnel_refused(address: &str, error: io::Error) -> OpenError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<TunnelEnd>()) {
        Some(TunnelEnd::Refused(refuse)) => OpenError::UpstreamRefused {
            code: refuse.code.value(),
            reason: match refuse.code {
                RefuseCode::Other(code) => format!("code {code}: {}", Untrusted(&refuse.text)),
                code => format!("{code:?}: {}{}", Untrusted(&refuse.text), advice(code)),
            },
        },
        Some(TunnelEnd::Closed(close)) => closed(address, close),
        _ => unreachable(address, error.to_string()),
    }
}

/// What to look at where the guest is well and its server is not.
fn advice(code: RefuseCode) -> &'static str {
    match code {
        RefuseCode::UpstreamRefused | RefuseCode::UpstreamUnreachable | RefuseCode::UpstreamTimeout => {
            "; is the server behind evident-proxy running?"
        }
        _ => "",
    }
}

fn closed(address: &str, close: &Close) -> OpenError {
    // Anybody may have written it, before any verdict: it must not add a line to a log or write to a terminal.
    let text = Untrusted(&close.text);
    let reason = format!("{:?}: {text}", close.code);
    match close.code {
        CloseCode::AttestationUnavailable | CloseCode::QueueFull | CloseCode::GoingAway | CloseCode::Limit => {
            OpenError::Busy {
                address: address.to_owned(),
                reason,
                retry_after: Duration::from_millis(close.retry_after_ms.clamp(100, 60_000)),
            }
        }
        CloseCode::AccessDenied => OpenError::AccessDenied { address: address.to_owned(), reason: text.to_string() },
        _ => unreachable(address, reason),
    }
}

pub(crate) fn evidence_missing(address: &str, error: FramingError) -> OpenError {
    match error {
        FramingError::Closed(close) => closed(address, &close),
        other => unreachable(address, format!("no evidence: {}", chain(&other))),
    }
}

pub(crate) fn unreachable(address: &str, reason: impl Into<String>) -> OpenError {
    OpenError::Unreachable { address: address.to_owned(), reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratls::wire::control::Refuse;

    #[test]
    fn asks_for_the_server_where_the_guest_does_not_reach_it_and_nowhere_else() {
        for (code, asks) in [
            (RefuseCode::UpstreamRefused, true),
            (RefuseCode::UpstreamUnreachable, true),
            (RefuseCode::UpstreamTimeout, true),
            (RefuseCode::UnknownTarget, false),
            (RefuseCode::Limit, false),
        ] {
            let end = TunnelEnd::Refused(Refuse { number: 0, code, text: "no".into() });
            let said = tunnel_refused("192.0.2.1:8443", io::Error::other(end)).to_string();
            assert_eq!(said.ends_with("is the server behind evident-proxy running?"), asks, "{said}");
        }
    }

    #[test]
    fn what_a_peer_says_in_close_and_refuse_adds_no_line_and_no_control_character() {
        let text = "x\r\n2026-11-23 INFO verdict=accepted\u{1b}[2J\u{202e}";
        for code in [CloseCode::AttestationUnavailable, CloseCode::AccessDenied, CloseCode::Abort] {
            let said = closed("192.0.2.1:8443", &Close::new(code, text)).to_string();
            assert!(
                said.contains("verdict=accepted") && !said.contains(['\r', '\n', '\u{1b}', '\u{202e}']),
                "{said:?}"
            );
        }
        for code in [RefuseCode::UnknownTarget, RefuseCode::Other(99)] {
            let end = TunnelEnd::Refused(Refuse { number: 0, code, text: text.into() });
            let said = tunnel_refused("192.0.2.1:8443", io::Error::other(end)).to_string();
            assert!(
                said.contains("verdict=accepted") && !said.contains(['\r', '\n', '\u{1b}', '\u{202e}']),
                "{said:?}"
            );
        }
    }
}
