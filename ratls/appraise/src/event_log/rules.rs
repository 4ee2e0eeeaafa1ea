//! The rules of `[event_log]`, one finding each. All are fatal: what shall not be judged, the policy leaves out or ignores.

use super::account::{Account, Outcome};
use crate::judge::Judge;
use crate::policy::event_log::{EventLogRules, JUDGED};
use findings::{EventLogCheck, Severity};
use formats::text::Untrusted;
use measure::measured_boot::{Boot, State};

/// Events, registers and texts beyond these are counted, not listed.
const LISTED: usize = 3;

/// `L_REPLAY` and `L_ODD`: what must hold of a log whatever its meaning. Under rules a departure refuses, in every register that
/// is not ignored; without, it holds levels down.
pub(super) fn confirmed(judge: &mut Judge<'_>, rules: Option<&EventLogRules>, boot: &Boot) {
    let severity = if rules.is_some() { Severity::Fatal } else { Severity::Cap };
    let judged = |pcr: u8| JUDGED.contains(&pcr) && rules.is_none_or(|rules| !rules.ignored.contains(&pcr));
    for register in boot.registers.iter().filter(|register| judged(register.pcr) && !register.state.is_confirmed()) {
        let (seen, wanted, help) = match &register.state {
            State::Unexplained { replayed, quoted } => (
                format!("PCR {} is {quoted}", register.pcr),
                format!("{replayed}, to which the event log replays"),
                "the log was changed or cut, or something extended the register that does not stand in it",
            ),
            _ => (
                format!("PCR {} is not quoted", register.pcr),
                "a quote of every register that the policy speaks of".to_owned(),
                "the guest must quote it, or the policy ignore it: ignore_registers",
            ),
        };
        judge.add(EventLogCheck::Replay, severity, seen).wanting(wanted).advising(help);
    }
    for anomaly in boot.anomalies.iter().filter(|anomaly| judged(anomaly.pcr())).take(8) {
        judge.add(EventLogCheck::Odd, severity, anomaly);
    }
}

/// Everything that the policy asks of what was booted.
pub(super) fn hold(judge: &mut Judge<'_>, rules: &EventLogRules, boot: &Boot, account: &Account) {
    technology(judge, rules, boot);
    secure_boot(judge, rules, boot);
    kernel(judge, rules, boot, account);
    for (pcr, outcome) in &account.outcomes {
        match outcome {
            Outcome::Matched => {}
            Outcome::Unexpected(events) => {
                let seen = format!("PCR {pcr}: {}", described(boot, *pcr, events));
                judge.fatal(EventLogCheck::Event, seen);
            }
            Outcome::Ignored => {
                judge.add(EventLogCheck::Ignored, Severity::Info, format!("PCR {pcr} is ignored"));
            }
            Outcome::Open(events) => {
                let seen = format!("PCR {pcr}: {} events are compared with nothing", events.len());
                judge.add(EventLogCheck::Open, Severity::Info, seen);
            }
        }
    }
}

/// What the events are, as far as the log tells.
fn described(boot: &Boot, pcr: u8, events: &[usize]) -> String {
    let describe = |event: usize| {
        let grub = boot.grub.iter().find(|line| line.event == event).map(|line| Untrusted(&line.value.text).quoted());
        let file = boot.files.iter().chain(&boot.mok).find(|file| file.event == event);
        let file = file.map(|file| (file.name.clone(), file.digest));
        let image = boot.images.iter().find(|image| image.event == event);
        let image = image.map(|image| (image.path.clone(), image.digest));
        let section = boot.stub.sections.iter().find(|section| section.event == event);
        let section = section.map(|section| (Some(section.name.to_owned()), section.digest));
        let named = (pcr == 9 || pcr == 14).then_some(file).flatten().or(image).or(section);
        let named = named.map(|(name, digest)| {
            format!(
                "{} {digest}",
                name.as_deref().map_or("without a name".to_owned(), |text| Untrusted(text).clipped())
            )
        });
        grub.or(named).map_or(format!("event {event}"), |words| format!("event {event} ({words})"))
    };
    let mut words: Vec<String> = events.iter().take(LISTED).map(|event| describe(*event)).collect();
    if events.len() > LISTED {
        words.push(format!("{} more", events.len() - LISTED));
    }
    words.join(", ")
}

fn technology(judge: &mut Judge<'_>, rules: &EventLogRules, boot: &Boot) {
    let Some(wanted) = &rules.technology else { return };
    let seen = boot.technology.as_ref().filter(|technology| technology.bound).map(|t| t.value.to_string());
    if seen.as_ref() != Some(wanted) {
        judge.fatal(EventLogCheck::Technology, seen.unwrap_or_else(|| "not measured".to_owned())).wanting(wanted);
    }
}

fn secure_boot(judge: &mut Judge<'_>, rules: &EventLogRules, boot: &Boot) {
    let ignored = rules.ignored.contains(&7);
    let on = boot.secure_boot.as_ref().filter(|state| state.bound).map(|state| state.value);
    if rules.secure_boot_required && on != Some(true) {
        let seen = match on {
            Some(_) => "off",
            None => "not measured",
        };
        judge.fatal(EventLogCheck::SecureBoot, seen);
    }
    for (name, listed) in &rules.secure_boot_keys {
        let seen: Vec<_> = boot.keys.iter().filter(|key| key.bound && key.value.name == *name).collect();
        let right = !ignored && matches!(seen.as_slice(), [one] if listed.contains(&one.value.keys.digest));
        if !right {
            let seen = seen.first().map_or("not measured".to_owned(), |key| key.value.keys.digest.to_string());
            let wanted = listed.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ");
            judge.fatal(EventLogCheck::Keys, seen).wanting(wanted).about(name);
        }
    }
    if let Some(rule) = &rules.sbat {
        let level = boot.sbat_level.as_ref().filter(|level| level.bound && !ignored).map(|level| &level.value);
        let enough = level.is_some_and(|level| {
            let generations = |(name, least): (&String, &u32)| level.generation(name) >= *least;
            level.date >= rule.date && rule.generations.iter().all(generations)
        });
        if !enough {
            let seen = level.map_or("not measured".to_owned(), |level| Untrusted(&level.to_string()).clipped());
            let least = rule.generations.iter().map(|(name, least)| format!(", {name} {least}")).collect::<String>();
            judge.fatal(EventLogCheck::Sbat, seen).wanting(format!("{}{least}, each or above", rule.date));
        }
    }
}

fn kernel(judge: &mut Judge<'_>, rules: &EventLogRules, boot: &Boot, account: &Account) {
    if !rules.kernel.is_empty() && !account.kernel_listed {
        let seen = boot.kernel().map_or("no kernel was measured".to_owned(), |kernel| {
            format!(
                "{} {}",
                kernel.name.as_deref().map_or("an image".to_owned(), |text| Untrusted(text).clipped()),
                kernel.digest
            )
        });
        let wanted = format!("one of the {} digests of the policy", rules.kernel.len());
        judge.fatal(EventLogCheck::Kernel, seen).wanting(wanted);
    }
    if let Some(line) = account.line.as_ref().or(boot.command_line()) {
        for key in line.repeated() {
            let help = "the kernel, the initrd and systemd may each take another one of them";
            judge.fatal(EventLogCheck::CommandLine, format!("{key} more than once")).wanting("once").advising(help);
        }
    }
    if !rules.names_lines() {
        return;
    }
    let mut wanted: Vec<_> =
        rules.command_lines.iter().take(LISTED).map(|pattern| format!("{:?}", pattern.to_string())).collect();
    if !rules.command_line_digests.is_empty() {
        wanted.push(format!("one of the {} digests of the policy", rules.command_line_digests.len()));
    }
    let wanted = wanted.join(" or ");
    if boot.command_lines.is_empty() {
        let help = "no register that the log explains holds a command line";
        judge.fatal(EventLogCheck::CommandLine, "not measured").wanting(wanted).advising(help);
        return;
    }
    // A log may hold thousands; one is fatal already.
    for measured in account.wrong_lines.iter().take(LISTED) {
        let seen = match &measured.line {
            Some(line) => Untrusted(line.text()).quoted(),
            None => format!("a text with the digest {}", measured.digest),
        };
        let help = match &measured.line {
            Some(_) => "every command line that was measured must be one of the policy's",
            None => "its text does not stand in the log; the policy must give it exactly, without variables",
        };
        judge.fatal(EventLogCheck::CommandLine, seen).wanting(&wanted).advising(help);
    }
}
