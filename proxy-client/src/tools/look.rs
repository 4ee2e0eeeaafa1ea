//! What `policy learn`, `policy diff` and `explain` look at: a guest, a saved bundle or a policy file, told apart by what it is.

use std::path::{Path, PathBuf};

use ratls::appraise::{AttestationResult, Finding, appraise};
use ratls::bundle::{Bundle, MAGIC, MAX_BUNDLE};
use ratls::endorsement::TrustAnchors;
use ratls::measured_boot::Boot;
use ratls::policy::AppraisalPolicy;
use ratls::time::UnixTime;
use ratls::verify::{Channel, VerifyError, verify_bundle};

use super::diff::Facts;
use super::{EXIT_UNREADABLE, EXIT_USAGE, Output, input, policy};

/// One of the three.
pub(crate) enum Subject {
    Guest(String),
    Bundle(PathBuf),
    Policy(PathBuf),
}

impl Subject {
    /// A file is a bundle or a policy, by its first bytes; what is no file is a guest.
    pub(crate) fn of(text: &str) -> Result<Subject, Output> {
        let path = PathBuf::from(text);
        if !path.exists() {
            return Ok(Subject::Guest(text.to_owned()));
        }
        let unreadable = |error: &dyn std::error::Error| {
            Output::failed(EXIT_UNREADABLE, error, "Give HOST:PORT, a bundle or a policy file.")
        };
        let bytes = input::read(&path, MAX_BUNDLE).map_err(|error| unreadable(&error))?;
        Ok(if bytes.starts_with(MAGIC) { Subject::Bundle(path) } else { Subject::Policy(path) })
    }
}

/// A bundle judged at the time at which its evidence was received, or at another; and why it is not authentic.
pub(crate) fn bundle(
    path: &Path,
    policy: Option<&AppraisalPolicy>,
    anchors: &TrustAnchors,
    at: Option<UnixTime>,
) -> Result<(AttestationResult, Option<VerifyError>), Output> {
    let unreadable =
        |error: &dyn std::error::Error| Output::failed(EXIT_UNREADABLE, error, "Give a file of `inspect --save`.");
    let file = input::read(path, MAX_BUNDLE).map_err(|error| unreadable(&error))?;
    let bundle = Bundle::parse(&file).map_err(|error| unreadable(&error))?;
    let at = at.unwrap_or(bundle.received);
    Ok(match verify_bundle(&bundle, anchors, at) {
        Ok((evidence, _)) => (appraise(policy, evidence), None),
        Err(error) => {
            let finding = Finding::of_verification(error.check(), &error);
            (AttestationResult::refusal(finding, Channel::None, None, at), Some(error))
        }
    })
}

/// AMD's roots and the clouds', and the simulator's where a file of it is named.
pub(crate) fn anchors(simulator_root: Option<&Path>) -> Result<TrustAnchors, Output> {
    policy::anchors_with(simulator_root).map_err(|error| policy::refused(&error))
}

/// What a guest booted, where its evidence holds an event log and registers that confirm it.
pub(crate) fn boot(result: &AttestationResult) -> Option<Boot> {
    let evidence = result.evidence()?;
    let quoted = evidence.tpm()?.pcrs();
    Boot::interpret(evidence.parts().event_log()?, quoted.bank(), Some(quoted))
}

/// Of evidence, what stays the same from one connection to the next.
pub(crate) fn facts_of_result(result: &AttestationResult) -> Facts {
    // These are of one connection, one launch or one moment.
    // What was booted is compared by its meaning.
    const PASSING: &[&str] = &["report_data", "at", "good until", "channel", "identity", "instance", "booted"];
    let mut facts = Facts::default();
    for (name, value) in result.seen().into_iter().filter(|(name, _)| !PASSING.contains(name)) {
        facts.add(name, value);
    }
    for cell in result.levels_if_fresh().cells() {
        let anchor = cell.anchor().map_or("none", ratls::verify::Root::as_str);
        facts.add(format!("level of {}", cell.component().as_str()), format!("{} {anchor}", cell.level()));
    }
    facts
}

/// Of a policy, every key with its values, as its file has them.
pub(crate) fn facts_of_policy(path: &Path) -> Result<Facts, Output> {
    let text = policy::text_of(path).map_err(|error| policy::refused(&error))?;
    let table: toml::Table = text
        .parse()
        .map_err(|error: toml::de::Error| Output::failed(EXIT_USAGE, &error, "docs/policy.md lists every key."))?;
    let mut facts = Facts::default();
    flatten(&mut facts, "", &toml::Value::Table(by_profile(table)));
    Ok(facts)
}

/// Each `[[accept]]` entry under the profile that it is for, so that nothing of one is compared with another. A file for one
/// platform keeps the plain names, in either version.
fn by_profile(mut document: toml::Table) -> toml::Table {
    let Some(toml::Value::Array(entries)) = document.remove("accept") else { return document };
    let single = entries.len() == 1;
    for mut entry in entries.into_iter().filter_map(|entry| entry.try_into::<toml::Table>().ok()) {
        let profile = entry.remove("profile").unwrap_or_else(|| "".into());
        if single {
            document.insert("profiles".to_owned(), vec![profile].into());
            document.extend(entry);
        } else {
            document.insert(format!("accept[{}]", profile.as_str().unwrap_or_default()), entry.into());
        }
    }
    document
}

fn flatten(facts: &mut Facts, name: &str, value: &toml::Value) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                flatten(facts, &name, value);
            }
        }
        toml::Value::Array(values) => values.iter().for_each(|value| flatten(facts, name, value)),
        toml::Value::String(text) => facts.add(name, text),
        other => facts.add(name, other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_moved_from_one_platform_to_another_is_a_difference() {
        let file = |snp: &str, gcp: &str| -> toml::Table {
            let text = format!(
                "version = 2\n[[accept]]\nprofile = \"snp\"\nsnp.measurements = [\"{snp}\"]\n\
                 [[accept]]\nprofile = \"gcp-snp\"\nsnp.measurements = [\"{gcp}\"]\n"
            );
            by_profile(text.parse().unwrap())
        };
        assert_eq!(file("a", "b"), file("a", "b"));
        assert_ne!(file("a", "b"), file("b", "a"));
        assert!(file("a", "b").contains_key("accept[gcp-snp]"));
    }

    #[test]
    fn one_platform_has_the_same_names_in_both_versions() {
        let one: toml::Table = "profiles = [\"snp\"]\nidentity = \"any\"\n".parse().unwrap();
        let other: toml::Table = "[[accept]]\nprofile = \"snp\"\nidentity = \"any\"\n".parse().unwrap();
        assert_eq!(by_profile(one), by_profile(other));
    }
}
