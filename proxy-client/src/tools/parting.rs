//! Where what was seen and what was wanted part: the byte, the character, the entry of the log.
//!
//! For people who ask why. Nothing here decides.

use ratls::appraise::AttestationResult;
use ratls::evidence::event_log::Event;
use ratls::evidence::event_log::data::Data;
use ratls::findings::{Check, EventLogCheck, Finding, ReportCheck, Severity};
use ratls::launch::slips;
use ratls::measured_boot::{Boot, LineSource, MeasuredLine, State, unexplained};
use ratls::policy::{AppraisalPolicy, Budget, EventLogRules, Pattern};
use ratls::text::Untrusted;
use ratls::verify::VerifyError;

/// Events that are told one by one.
const MAX_EVENTS: usize = 50;
/// Slips of one text that are tried against a digest.
const MAX_SLIPS: usize = 60_000;

/// For each finding that refuses and whose values can be laid side by side, where they part.
pub(super) fn details(
    result: &AttestationResult,
    refused: Option<&VerifyError>,
    policy: &AppraisalPolicy,
) -> Vec<(Check, String)> {
    let mut all = Vec::new();
    if let Some(VerifyError::ReportData { seen, wanted }) = refused
        && let Some(parts) = bytes_part(seen, wanted)
    {
        all.push((ReportCheck::Fresh.into(), format!("REPORT_DATA {parts}")));
    }
    let fatal: Vec<&Finding> = result.findings().iter().filter(|f| f.severity() == Severity::Fatal).collect();
    for finding in &fatal {
        all.extend(nearest(finding).map(|detail| (finding.check(), detail)));
    }
    let refused_by = |check: EventLogCheck| fatal.iter().any(|finding| finding.is(check));
    let Some(policy) = result.profile().and_then(|profile| policy.for_profile(profile)) else { return all };
    let (Some(boot), Some(rules)) = (result.booted(), policy.event_log()) else { return all };
    if refused_by(EventLogCheck::CommandLine) {
        all.extend(command_lines(&boot, rules).into_iter().map(|detail| (EventLogCheck::CommandLine.into(), detail)));
    }
    if refused_by(EventLogCheck::Event) {
        let events = result.unexpected_events(policy);
        all.extend(
            events.iter().take(MAX_EVENTS).map(|event| (EventLogCheck::Event.into(), unnamed(event, &boot, rules))),
        );
        if let Some(more) = events.len().checked_sub(MAX_EVENTS).filter(|more| *more > 0) {
            all.push((EventLogCheck::Event.into(), format!("{more} more events that no rule names")));
        }
    }
    if refused_by(EventLogCheck::Replay) {
        all.extend(registers(result, &boot).into_iter().map(|detail| (EventLogCheck::Replay.into(), detail)));
    }
    all
}

// ---- bytes

/// Against the accepted value that is nearest. A register's number stands before its value.
fn nearest(finding: &Finding) -> Option<String> {
    let (subject, seen) = match finding.seen().split_once(": ") {
        Some((register, value)) if register.starts_with("PCR ") => (register, value),
        _ => (finding.subject(), finding.seen()),
    };
    let wanted = finding.wanted().split(" or ").filter_map(|wanted| Some((differing(seen, wanted)?, wanted)));
    let (_, wanted) = wanted.min_by_key(|(count, _)| *count)?;
    Some(format!("{subject} {}", bytes_part(seen, wanted)?))
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    (text.len() >= 16).then(|| hex::decode(text).ok())?
}

fn differing(seen: &str, wanted: &str) -> Option<usize> {
    let (seen, wanted) = (bytes(seen)?, bytes(wanted)?);
    (seen.len() == wanted.len()).then(|| seen.iter().zip(&wanted).filter(|(a, b)| a != b).count())
}

/// `differs first at byte 3: seen 0a, wanted 0b; 1 of 48 bytes differ`.
fn bytes_part(seen: &str, wanted: &str) -> Option<String> {
    let count = differing(seen, wanted).filter(|count| *count > 0)?;
    let (seen, wanted) = (bytes(seen)?, bytes(wanted)?);
    let (at, (a, b)) = seen.iter().zip(&wanted).enumerate().find(|(_, (a, b))| a != b)?;
    let of = seen.len();
    let hint = match count * 2 > of {
        true => ", as between digests of different things",
        false => ": a slip of the pen?",
    };
    Some(format!("differs first at byte {at}: seen {a:02x}, wanted {b:02x}; {count} of {of} bytes differ{hint}"))
}

// ---- texts

/// Each command line that was measured and that no rule accepts.
fn command_lines(boot: &Boot, rules: &EventLogRules) -> Vec<String> {
    let accepted = |text: &str| {
        matches(rules.lines(), text, rules) || matches(rules.lines(), &format!("BOOT_IMAGE={text}"), rules)
    };
    let mut all = Vec::new();
    for measured in boot.command_lines() {
        let place = format!("event {} (PCR {}, {})", measured.event, measured.pcr, by(measured.source));
        match &measured.line {
            Some(line) if !accepted(line.text()) => {
                all.push(format!("{place} {}", text_parts(line.text(), rules.lines(), rules)))
            }
            Some(_) => {}
            None => all.extend(by_digest(measured, rules).map(|said| format!("{place}: {said}"))),
        }
    }
    all
}

fn by(source: LineSource) -> &'static str {
    match source {
        LineSource::Grub => "by grub",
        LineSource::LoadOptions => "by the kernel's EFI stub",
        LineSource::Section => "a section of the unified kernel image",
        LineSource::Override => "an override of the unified kernel image's",
    }
}

fn matches(patterns: &[Pattern], text: &str, rules: &EventLogRules) -> bool {
    let mut budget = Budget::new();
    patterns.iter().any(|pattern| pattern.matches(text, rules.variables(), &mut budget).is_some())
}

/// Against the text of the policy that it follows longest.
fn text_parts(seen: &str, patterns: &[Pattern], rules: &EventLogRules) -> String {
    let mut budget = Budget::new();
    let far = patterns.iter().map(|pattern| pattern.follows(seen, rules.variables(), &mut budget));
    match far.max_by_key(|(at, _)| *at) {
        None => "is compared with no text".to_owned(),
        Some((at, wanted)) => {
            let rest = seen.get(at..).unwrap_or_default();
            format!(
                "follows the policy for {at} bytes, then has {} where the policy has {}",
                excerpt(rest, "nothing more"),
                excerpt(&wanted, "nothing more")
            )
        }
    }
}

/// The beginning of a text, quoted.
fn excerpt(text: &str, nothing: &str) -> String {
    const LONGEST: usize = 60;
    match text {
        "" => nothing.to_owned(),
        text if text.chars().count() > LONGEST => {
            format!("\"{}…\"", Untrusted(&text.chars().take(LONGEST).collect::<String>()).clipped())
        }
        text => format!("\"{}\"", Untrusted(text).clipped()),
    }
}

/// The text is not in the log: is it one that is nearly the policy's? `None` where the policy has it exactly.
fn by_digest(measured: &MeasuredLine, rules: &EventLogRules) -> Option<String> {
    let exact: Vec<&str> = rules.lines().iter().filter_map(Pattern::exact).collect();
    if exact.iter().any(|text| measured.is(text)) {
        return None;
    }
    let near = exact.iter().find_map(|text| Some((*text, slips(text).take(MAX_SLIPS).find(|slip| measured.is(slip))?)));
    Some(match near {
        Some((text, slip)) => {
            let at = text.bytes().zip(slip.bytes()).take_while(|(a, b)| a == b).count();
            format!(
                "it would match with {}, which differs from the policy's at byte {at}",
                excerpt(&slip, "an empty line")
            )
        }
        None => format!(
            "its digest {} is of no text of the policy, and of none that is a slip away from one",
            measured.digest
        ),
    })
}

// ---- entries of the log

/// An event that no rule names.
fn unnamed(event: &Event, boot: &Boot, rules: &EventLogRules) -> String {
    let digest = event.digest(boot.bank()).map_or_else(String::new, ToString::to_string);
    let reading = event.read();
    let what = match reading.claimed() {
        Some(Data::Grub(grub)) => {
            let near = rules.grub_texts();
            let parts =
                if near.is_empty() { String::new() } else { format!(" {}", text_parts(grub.text, near, rules)) };
            format!("grub's text {}{parts}", excerpt(grub.text, "of nothing"))
        }
        Some(Data::Name(name) | Data::Text(name) | Data::Tag { name, .. }) => {
            format!("called {}", Untrusted(name).quoted())
        }
        Some(Data::Variable(variable)) => format!("variable {}", Untrusted(&variable.name).clipped()),
        Some(Data::Image(image)) => match &image.path {
            Some(path) => format!("image {}", Untrusted(path).quoted()),
            None => "an image".to_owned(),
        },
        _ => boot
            .stub()
            .sections
            .iter()
            .find(|section| section.event == event.number())
            .map_or("of no known content".to_owned(), |section| format!("section {}", section.name)),
    };
    format!("event {} of PCR {} ({}), {what}; digest {digest}", event.number(), event.pcr(), event.kind())
}

/// Registers that the log does not lead to, each with the change that would.
fn registers(result: &AttestationResult, boot: &Boot) -> Vec<String> {
    let found = || {
        let evidence = result.evidence()?;
        Some((evidence.parts().event_log()?, evidence.tpm()?.pcrs()))
    };
    let Some((log, quoted)) = found() else { return Vec::new() };
    let unexplained = boot.registers().iter().filter(|register| matches!(register.state, State::Unexplained { .. }));
    let explain = |pcr: u8| match unexplained::slip(log, quoted, pcr) {
        Some(slip) => {
            let event = slip.event().and_then(|number| log.events().iter().find(|event| event.number() == number));
            let event = event.map(|event| format!(" ({})", described(event))).unwrap_or_default();
            format!("PCR {pcr}: {slip}{event}")
        }
        None => format!("PCR {pcr}: leaving out, cutting off or swapping entries of the log does not lead to it"),
    };
    unexplained.map(|register| explain(register.pcr)).collect()
}

fn described(event: &Event) -> String {
    let reading = event.read();
    match reading.claimed() {
        Some(Data::Grub(grub)) => format!("grub's text {}", excerpt(grub.text, "of nothing")),
        Some(Data::Name(name) | Data::Text(name) | Data::Tag { name, .. }) => Untrusted(name).quoted(),
        Some(Data::Variable(variable)) => format!("variable {}", Untrusted(&variable.name).clipped()),
        _ => event.kind().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_laid_side_by_side() {
        let (seen, wanted) = ("00".repeat(47) + "0a", "00".repeat(48));
        let said = "differs first at byte 47: seen 0a, wanted 00; 1 of 48 bytes differ: a slip of the pen?";
        assert_eq!(bytes_part(&seen, &wanted).unwrap(), said);
        assert!(bytes_part(&"aa".repeat(48), &wanted).unwrap().ends_with("as between digests of different things"));
    }

    #[test]
    fn what_is_no_two_values_of_one_length_is_not_compared() {
        for (seen, wanted) in
            [("2", "0"), ("00", "01"), (&"00".repeat(48)[..], &"00".repeat(32)[..]), ("text", "other")]
        {
            assert_eq!(bytes_part(seen, wanted), None, "{seen} {wanted}");
        }
        let same = "00".repeat(48);
        assert_eq!(bytes_part(&same, &same), None);
    }

    #[test]
    fn a_long_text_is_cut_and_a_guest_s_text_is_escaped() {
        assert_eq!(excerpt("a\u{1b}[0m", "-"), "\"a\\u{1b}[0m\"");
        assert_eq!(excerpt("", "nothing"), "nothing");
        assert!(excerpt(&"x".repeat(100), "-").chars().count() < 70);
    }
}
