//! The admin page of evident-client for people: each guest with its trust table, findings, history and open tunnels.
//!
//! One string per request, made from what is known at that moment; no script, and a style sheet of our own beside it. Every
//! value goes through [`html::escape`].

use std::fmt::Write;

use ratls::appraise::html::{self, escape};
use ratls::time::UnixTime;

use crate::guest::Guest;
use crate::history::{Event, History};

/// Open tunnels that are listed; the rest is counted.
const MAX_TUNNELS: usize = 20;
const STRING: &str = "writing to a string does not fail";

/// The whole page. `now` is for ages.
pub fn page(guests: &[std::sync::Arc<Guest>], ready: &str, now: UnixTime) -> String {
    let mut content = format!(
        "<h1>evident-client</h1>\n<p class=\"quiet\">{} · as of {} · also: <a href=\"/verdict\">/verdict</a> (JSON), \
         <a href=\"/metrics\">/metrics</a></p>\n",
        escape(ready),
        escape(&now.to_string())
    );
    for guest in guests {
        content.push_str(&self::guest(guest, now));
    }
    html::linked("evident-client", "/style.css", &content)
}

fn guest(guest: &Guest, now: UnixTime) -> String {
    let mut out = match guest.latest() {
        Some((result, _)) => {
            let mut out = html::section(&result, &guest.label);
            let age = now.as_secs().saturating_sub(result.at().as_secs()).max(0);
            let until =
                result.expires().map_or(String::new(), |end| format!("; good until {}", escape(&end.to_string())));
            writeln!(out, "<p class=\"quiet\">judged {} ago{until}</p>", span(age)).expect(STRING);
            out
        }
        None => format!(
            "<section class=\"guest\">\n<h2><span class=\"verdict open\">unknown</span> {}</h2>\n\
             <p>This guest was not attested yet.</p>\n</section>\n",
            escape(&guest.label)
        ),
    };
    out.push_str(&tunnels(guest.history(), now));
    out.push_str(&history(&guest.history().events()));
    out
}

fn tunnels(history: &History, now: UnixTime) -> String {
    let (open, listed) = history.live(MAX_TUNNELS);
    let mut out = format!("<h3>Open tunnels: {open}</h3>\n");
    if listed.is_empty() {
        return out;
    }
    out.push_str("<table>\n<tr><th>open for</th><th>bytes to the guest</th><th>bytes back</th></tr>\n");
    for live in &listed {
        let age = now.as_secs().saturating_sub(live.since.as_secs()).max(0);
        writeln!(out, "<tr><td>{}</td><td>{}</td><td>{}</td></tr>", span(age), live.sent, live.received).expect(STRING);
    }
    if open > listed.len() {
        writeln!(out, "<tr><td colspan=\"3\" class=\"quiet\">and {} older</td></tr>", open - listed.len())
            .expect(STRING);
    }
    out.push_str("</table>\n");
    out
}

fn history(events: &[Event]) -> String {
    if events.is_empty() {
        return String::new();
    }
    let mut out = String::from(
        "<h3>History</h3>\n<table class=\"history\">\n<tr><th>last</th><th>outcome</th><th>times</th><th>reason or levels</th></tr>\n",
    );
    for event in events {
        let class = if event.outcome == "accepted" { "good" } else { "bad" };
        let reason = if event.reason.is_empty() { &event.levels } else { &event.reason };
        writeln!(
            out,
            "<tr><td>{}</td><td class=\"{class}\">{}</td><td>{}</td><td>{}</td></tr>",
            escape(&event.last.to_string()),
            escape(event.outcome),
            event.times,
            escape(reason)
        )
        .expect(STRING);
    }
    out.push_str("</table>\n");
    out
}

/// Seconds as people say them.
fn span(secs: i64) -> String {
    match secs {
        0..=119 => format!("{secs} s"),
        120..=7199 => format!("{} min", secs / 60),
        7200..=172_799 => format!("{} h", secs / 3600),
        _ => format!("{} days", secs / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_that_a_peer_wrote_is_text() {
        let event = Event {
            first: UnixTime::from_secs(0),
            last: UnixTime::from_secs(0),
            times: 1,
            outcome: "unreachable",
            reason: "<img src=x onerror=alert(1)>".to_owned(),
            levels: String::new(),
        };
        let markup = history(&[event]);
        assert!(markup.contains("&lt;img src=x"), "{markup}");
        assert!(!markup.contains("<img"));
    }

    #[test]
    fn spans_are_said_in_their_own_unit() {
        assert_eq!([5, 119, 120, 7200, 172_800].map(span), ["5 s", "119 s", "2 min", "2 h", "2 days"]);
    }
}
