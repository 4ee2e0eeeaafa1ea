//! Every check that a finding can come from. What is its id, who makes it, what does it do to the trust table?
//!
//! One family of checks per file, and one entry per check with everything that is the same in each of its findings. The
//! compiler asks for each part of an entry, and no `match` over checks has a `_` arm, so a new check is one new entry.
//! `docs/policy.md` lists the ids; a test compares the two.

mod azure;
mod binding;
mod claims;
mod endorsement;
mod event_log;
mod family;
mod files;
mod google;
mod identity;
mod nitro;
mod policy;
mod quote;
mod report;
mod tpm;

pub use azure::AzureCheck;
pub use binding::BindingCheck;
pub use claims::ClaimsCheck;
pub use endorsement::EndorsementCheck;
pub use event_log::EventLogCheck;
pub use family::{CheckStage, TableEffect};
pub use files::FilesCheck;
pub use google::GoogleCheck;
pub use identity::IdentityCheck;
pub use nitro::NitroCheck;
pub use policy::PolicyCheck;
pub use quote::QuoteCheck;
pub use report::ReportCheck;
pub use tpm::TpmCheck;

use serde::{Serialize, Serializer};

/// Joins the families.
macro_rules! checks {
    ($($variant:ident($family:ident)),+ $(,)?) => {
        /// A check, of whichever family.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Check {
            $(#[allow(missing_docs)] $variant($family)),+
        }

        $(impl From<$family> for Check {
            fn from(check: $family) -> Check {
                Check::$variant(check)
            }
        })+

        impl Check {
            /// Returns every check, family by family.
            pub fn all() -> impl Iterator<Item = Check> {
                let families: Vec<Vec<Check>> = vec![$($family::ALL.iter().map(|check| Check::from(*check)).collect()),+];
                families.into_iter().flatten()
            }

            /// Returns the id as it is printed. It is stable: scripts match on it. Two checks may share one.
            pub const fn id(self) -> &'static str {
                match self { $(Check::$variant(check) => check.id()),+ }
            }
            /// Returns the stage that makes its findings, and what they do to the trust table.
            pub const fn stage(self) -> CheckStage {
                match self { $(Check::$variant(check) => check.stage()),+ }
            }
            /// Returns what the check looks at, in a few words.
            pub const fn subject(self) -> &'static str {
                match self { $(Check::$variant(check) => check.subject()),+ }
            }
            /// Returns what it expects, where no policy says it more exactly.
            pub const fn wanted(self) -> &'static str {
                match self { $(Check::$variant(check) => check.wanted()),+ }
            }
            /// Returns what a failure means and what to do about it.
            pub const fn help(self) -> &'static str {
                match self { $(Check::$variant(check) => check.help()),+ }
            }
        }
    };
}

checks! {
    Report(ReportCheck),
    Endorsement(EndorsementCheck),
    Binding(BindingCheck),
    Quote(QuoteCheck),
    Claims(ClaimsCheck),
    Tpm(TpmCheck),
    EventLog(EventLogCheck),
    Nitro(NitroCheck),
    Files(FilesCheck),
    Google(GoogleCheck),
    Azure(AzureCheck),
    Identity(IdentityCheck),
    Policy(PolicyCheck),
}

impl Check {
    /// Returns what its fatal and capping findings take from the trust table. Those of verification take everything,
    /// which the result of a refusal says by itself.
    pub const fn effect(self) -> TableEffect {
        match self.stage() {
            CheckStage::Verify => TableEffect::Nothing,
            CheckStage::Appraise(effect) | CheckStage::Both(effect) => effect,
        }
    }
}

/// As its id.
impl Serialize for Check {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn an_id_belongs_to_one_check_unless_it_is_named_here() {
        let mut checks: BTreeMap<&str, Vec<Check>> = BTreeMap::new();
        for check in Check::all() {
            checks.entry(check.id()).or_default().push(check);
        }
        let shared: Vec<&str> = checks.iter().filter(|(_, checks)| checks.len() > 1).map(|(id, _)| *id).collect();
        assert_eq!(shared, ["E_CRL_ABSENT"], "AMD's list, and that of a provider's CA");
        let form = |id: &str| id.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
        assert!(checks.keys().all(|id| form(id) && id.contains('_')));
    }

    #[test]
    fn every_check_says_what_it_expects_and_what_to_do_in_words_of_its_own() {
        let mut helps: BTreeMap<&str, &str> = BTreeMap::new();
        for check in Check::all() {
            let (id, help) = (check.id(), check.help());
            assert!(!check.subject().is_empty() && !check.wanted().is_empty(), "{id}");
            assert!(help.len() > 20 && !help.ends_with('.') && !help.contains("  "), "{id}: {help}");
            if let Some(other) = helps.insert(help, id) {
                assert!(id == other, "{id} and {other} share their help");
            }
        }
    }

    #[test]
    fn no_help_of_verification_speaks_of_two_sides_or_of_an_update_of_both() {
        let verify = Check::all().filter(|check| !matches!(check.stage(), CheckStage::Appraise(_)));
        for check in verify {
            assert!(!check.help().contains("both sides"), "{}: a file has one side", check.id());
        }
    }
}
