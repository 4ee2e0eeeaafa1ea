//! `[event_log]` of what was booted: every event pinned by the rule that can name it, in terms of meaning.
//!
//! What was measured is what ran, and nobody said that it should have; the table says `from = "learned"`. Whatever lets somebody in or
//! takes a protection away is pointed at, and what a strict rule refuses is a question.

use std::collections::BTreeMap;

use ratls::appraise::{AttestationResult, Pin, Pins};
use ratls::evidence::tpm::PcrValues;
use ratls::measured_boot::command_line::CommandLine;
use ratls::measured_boot::{LineSource, Technology, USR_KEYS};
use ratls::policy::Pattern;
use ratls::text::Untrusted;
use ratls::verify::VerifiedEvidence;

use super::draft::{Draft, quoted};
use super::{NotMeasured, Told};

/// Files of an IMA list that are written down; more than that a person does not review.
const MAX_FILES: usize = 2_000;

pub(super) fn table(out: &mut Draft, result: &AttestationResult, told: Told<'_>) -> Result<(), NotMeasured> {
    let (Some(pins), Some(evidence)) = (result.pins(), result.evidence()) else {
        return told.command_line.map_or(Ok(()), |line| Err(NotMeasured(Untrusted(line).clipped())));
    };
    let line = rules(out, &pins, told)?;
    ima(out, evidence, line.as_ref());
    out.line("");
    Ok(())
}

/// The table but for IMA; with the command line, where there is one and its text is known.
fn rules(out: &mut Draft, pins: &Pins, told: Told<'_>) -> Result<Option<CommandLine>, NotMeasured> {
    out.question(
        "is this what you want booted? Everything below was measured once, by a log that the quoted registers confirm. Compare it with \
         your image, then write from = \"own\"; files in hand ([[reference]] of kind \"boot\") are worth more.",
        &[],
    );
    out.line("[event_log]");
    out.line("from = \"learned\"");
    unruly(out, pins);
    secure_boot(out, pins);
    if pins.boot().technology().is_some_and(|seen| seen.bound && seen.value == Technology::SevSnp) {
        out.line("technology = \"sev-snp\"   # says the firmware, which the cloud's vTPM measured");
    }
    programs(out, pins);
    let line = command_lines(out, pins, told)?;
    grub(out, pins);
    tables(out, pins);
    Ok(line)
}

fn digests(out: &mut Draft, key: &str, pins: &[Pin]) {
    out.list(key, pins.iter().map(|pin| (pin.digest.to_string(), pin.name.clone())));
}

/// Under `[event_log]` each judged register must be quoted, explained and named; what is not, refuses until it is ignored.
fn unruly(out: &mut Draft, pins: &Pins) {
    if pins.unruly.is_empty() {
        return;
    }
    let why: Vec<String> =
        pins.unruly.iter().map(|(pcr, why)| format!("PCR {pcr}: {}", Untrusted(why).clipped())).collect();
    let registers: Vec<String> = pins.unruly.iter().map(|(pcr, _)| pcr.to_string()).collect();
    out.question(
        &format!(
            "no rule can judge these registers ({}). Do you accept that nothing in them is looked at? Boot and kernel stay partly \
             covered, at L1.",
            why.join("; ")
        ),
        &[format!("ignore_registers = [{}]", registers.join(", "))],
    );
}

fn secure_boot(out: &mut Draft, pins: &Pins) {
    match pins.boot().secure_boot() {
        Some(state) if state.bound && state.value => out.line("secure_boot = \"required\""),
        _ => out.question(
            "Secure Boot is off, or its state was not measured: nobody vouches for what was started but the digests below. Do you accept \
             that?",
            &["secure_boot = \"not required\"".to_owned()],
        ),
    }
    out.list("authorities", pins.authorities.iter().map(|pin| (pin.digest.to_string(), pin.name.clone())));
    digests(out, "mok", &pins.mok);
    digests(out, "disk", &pins.disk);
}

fn programs(out: &mut Draft, pins: &Pins) {
    out.line("# Names are what the log calls them; nothing confirms a name, only the digest.");
    digests(out, "boot_programs", &pins.boot_programs);
    digests(out, "kernel", pins.kernel.as_slice());
    digests(out, "initrd", &pins.initrd);
    digests(out, "files", &pins.files);
}

/// Texts where they are known, digests where they are not; what the author told stands for a digest that it has.
fn command_lines(out: &mut Draft, pins: &Pins, told: Told<'_>) -> Result<Option<CommandLine>, NotMeasured> {
    let mut lines = pins.lines.clone();
    let mut unread = pins.unread_lines.clone();
    if let Some(text) = told.command_line {
        let is_told =
            |event: usize| pins.boot().command_lines().iter().any(|line| line.event == event && line.is(text));
        let measured: Vec<_> = pins.boot().command_lines().iter().filter(|line| is_told(line.event)).collect();
        if measured.is_empty() {
            return Err(NotMeasured(Untrusted(text).clipped()));
        }
        unread.retain(|(_, digest)| !measured.iter().any(|line| line.digest == *digest));
        if measured.iter().any(|line| line.line.is_none()) {
            lines.push(text.to_owned());
        }
    }
    out.list("kernel_command_line", lines.iter().map(|line| (Pattern::of_text(line), None)));
    for line in &lines {
        look_at(out, &CommandLine::parse(line));
    }
    let by = |source: LineSource| match source {
        LineSource::Grub => "by grub",
        LineSource::LoadOptions => "by the kernel's EFI stub",
        LineSource::Section => "by systemd-stub, of the unified kernel image",
        LineSource::Override => "by systemd-stub, of an override",
    };
    if !unread.is_empty() {
        out.question(
            "a command line was measured whose text is not in the log. What does it say? Until you give it as kernel_command_line (`policy \
             learn --command-line` compares it with the digest), the kernel stays at L1 and the userspace at L0.",
            &[],
        );
    }
    out.list(
        "kernel_command_line_digests",
        unread.iter().map(|(source, digest)| (digest.to_string(), Some(by(*source).to_owned()))),
    );
    Ok(match (&lines[..], &unread[..]) {
        ([one], []) => Some(CommandLine::parse(one)),
        _ => None,
    })
}

/// A policy that pins such a line accepts what stands in it.
fn look_at(out: &mut Draft, line: &CommandLine) {
    for weakness in line.weaknesses() {
        out.line(format!("# LOOK AT  {} stands in the command line: {}.", weakness.word, weakness.why));
    }
    for key in line.repeated() {
        out.question(
            &format!(
                "{key} stands in the command line more than once, and its readers may disagree. No key accepts that."
            ),
            &[],
        );
    }
    match line.verity_root_hash() {
        Some((key, hash)) => verity(out, line, key, &hash),
        None => out.line("# It names no dm-verity root hash: no root file system is pinned by it."),
    }
}

/// What the author must say for the hash to count: that this initrd mounts nothing else, and which words are harmless.
fn verity(out: &mut Draft, line: &CommandLine, key: &str, hash: &str) {
    out.line(format!("# It names the dm-verity root hash {hash} ({key})."));
    if USR_KEYS.contains(&key) {
        out.line("# That hash covers /usr alone, so it never covers the userspace.");
        return;
    }
    out.line("# If you know that this initrd mounts nothing else, say so; the userspace stays at L1 without it:");
    out.line(format!("# verity_key = {}", quoted(key)));
    let doubtful = line.doubtful_words(key, &[]);
    if !doubtful.is_empty() {
        let words: Vec<String> = doubtful.iter().map(|word| quoted(word)).collect();
        out.line("# These words may change what runs. Keep those of which you know that they do not:");
        out.line(format!("# neutral_words = [{}]", words.join(", ")));
    }
}

fn grub(out: &mut Draft, pins: &Pins) {
    out.list("grub_commands", pins.grub_commands.iter().map(|text| (Pattern::of_text(text), None)));
}

fn tables(out: &mut Draft, pins: &Pins) {
    if let Some(level) = &pins.sbat {
        out.line("");
        out.line("[event_log.sbat]   # the least that shim enforces: what is older was not started");
        out.line(format!("date = {}", level.date));
        // A component that is named twice is held to what the level says first.
        let mut seen: Vec<&str> = Vec::new();
        for (name, generation) in &level.generations {
            if name != "date" && !seen.contains(&name.as_str()) {
                seen.push(name);
                out.line(format!("{} = {generation}", quoted(name)));
            }
        }
    }
    if !pins.secure_boot_keys.is_empty() {
        out.line("");
        out.line("[event_log.secure_boot_keys]");
        let mut seen: Vec<&str> = Vec::new();
        for pin in &pins.secure_boot_keys {
            let name = pin.name.as_deref().unwrap_or_default();
            if !seen.contains(&name) {
                seen.push(name);
                let holds = pins.boot().keys().iter().find(|key| key.value.name == name).map(|key| &key.value.keys);
                let holds = holds.map(ratls::measured_boot::words::holds).unwrap_or_default();
                out.line(format!("{name} = \"{}\"   # {holds}", pin.digest));
            }
        }
    }
    if !pins.sections.is_empty() {
        out.line("");
        out.line("[event_log.uki]");
        for pin in &pins.sections {
            out.line(format!("{} = \"{}\"", quoted(pin.name.as_deref().unwrap_or_default()), pin.digest));
        }
    }
}

/// IMA is asked, never pinned unasked: a list tells what was opened so far, and the next file refuses.
fn ima(out: &mut Draft, evidence: &VerifiedEvidence, line: Option<&CommandLine>) {
    let Some((list, quoted_pcrs)) = evidence.parts().ima_list().zip(evidence.tpm().map(|tpm| tpm.pcrs())) else {
        return;
    };
    let Some(files) = files(list, quoted_pcrs) else {
        out.line("");
        out.line("# An IMA list came, and PCR 10 does not confirm it: nothing is learned from it.");
        return;
    };
    out.line("");
    let policy = line.and_then(|line| line.value("ima_policy"));
    let count = files.len();
    let Some(policy) = policy.filter(|_| (1..=MAX_FILES).contains(&count)) else {
        out.line(format!(
            "# IMA measured {count} files. They are not listed here: {}.",
            match policy {
                None => "no ima_policy= in a command line that is known says what it measures",
                Some(_) => "nobody reviews so many",
            }
        ));
        return;
    };
    let mut answers =
        vec!["[event_log.ima]".to_owned(), format!("policy = {}", quoted(policy)), "[event_log.ima.files]".to_owned()];
    answers.extend(files.iter().map(|(path, digests)| {
        let digests: Vec<String> = digests.iter().map(|digest| quoted(digest)).collect();
        format!("{} = [{}]", quoted(path), digests.join(", "))
    }));
    out.question(
        &format!(
            "IMA measured {count} files until now. Must there be no others? A file that is opened later and does not stand here refuses \
             the guest."
        ),
        &answers,
    );
}

/// By path, with every digest that was seen; `None` where the quote does not confirm the list.
fn files(list: &ratls::evidence::ima::ImaList, pcrs: &PcrValues) -> Option<BTreeMap<String, Vec<String>>> {
    let prefix = list.replay(pcrs).ok()?;
    let mut files: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in prefix.entries() {
        let aggregate = entry.number() == 0 && entry.path() == "boot_aggregate";
        let Some(file) = entry.file().filter(|_| !aggregate && !entry.is_violation()) else { continue };
        let digests = files.entry(entry.path().to_owned()).or_default();
        let digest = file.to_string();
        if !digests.contains(&digest) {
            digests.push(digest);
        }
    }
    Some(files)
}

#[cfg(test)]
mod tests {
    use ratls::evidence::event_log::EventLog;
    use ratls::evidence::tpm::Bank;
    use ratls::policy::AppraisalPolicy;

    use super::*;

    const BASE: &str = "version = 1\nprofiles = [\"gcp-snp\"]\nidentity = \"any\"\n[snp]\nsigning_keys = [\"vcek\"]\n\
        measurements = [\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"]\n\
        [snp.minimum_tcb.milan]\nbl = 4\ntee = 0\nsnp = 24\nucode = 219\n";

    fn folder() -> Option<std::path::PathBuf> {
        let from_env = std::env::var_os("EVIDENT_EVIDENCE").map(std::path::PathBuf::from);
        let beside = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/evidence");
        Some(from_env.unwrap_or(beside)).filter(|folder| folder.is_dir())
    }

    /// Scripts of grub, names of Microsoft's and Google's: everything that real firmware and loaders wrote fits into a policy.
    #[test]
    fn real_logs_of_google_become_rules_that_parse() {
        let Some(folder) = folder() else {
            println!("skipped: real_logs_of_google_become_rules_that_parse: no evidence folder");
            return;
        };
        let expected = std::fs::read(folder.join("eventlog/expected-pcrs.json")).unwrap();
        let expected: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&expected).unwrap();
        let mut read = 0;
        for (file, pcrs) in expected.iter().filter(|(_, pcrs)| pcrs["sha256"].is_object()) {
            let log = EventLog::parse(&std::fs::read(folder.join("eventlog").join(file)).unwrap()).unwrap();
            let values = pcrs["sha256"].as_object().unwrap().iter();
            let values: Vec<(u8, Vec<u8>)> = values
                .map(|(pcr, value)| (pcr.parse().unwrap(), hex::decode(value.as_str().unwrap()).unwrap()))
                .collect();
            let quoted = PcrValues::new(Bank::Sha256, values.iter().map(|(pcr, value)| (*pcr, &value[..]))).unwrap();
            let pins = Pins::read(&log, &quoted).unwrap();
            let mut draft = Draft::default();
            rules(&mut draft, &pins, Told::default()).unwrap();
            let text = format!("{BASE}{}", draft.finish());
            AppraisalPolicy::parse(&text, file).unwrap_or_else(|error| panic!("{error}\n{text}"));
            let lines = pins.lines.len() + pins.unread_lines.len();
            assert!(lines > 0 && pins.kernel.is_some(), "{file}: {text}");
            println!("{file}: {} commands of grub, {:?}", pins.grub_commands.len(), pins.unruly);
            read += 1;
        }
        assert!(read >= 5, "{read} logs");
    }
}
