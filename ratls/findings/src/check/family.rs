//! What does an entry of a family say? The stage of a check, its effect on the trust table, and the form of an entry.

/// Which stage makes a check's findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckStage {
    /// Verification: such a finding stands alone, because nothing of the evidence can be believed.
    Verify,
    /// Appraisal, with this effect on the trust table.
    Appraise(TableEffect),
    /// Verification compares pieces of evidence, appraisal compares the same thing with the policy.
    Both(TableEffect),
}

/// What a fatal or capping finding of appraisal takes from the trust table, beyond the cell that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableEffect {
    /// Nothing: what the measurement is, whose guest it is and how it is configured are other questions.
    Nothing,
    /// It concerns the AMD-SP, its key, or who can reach into the guest: nothing that the AMD-SP signed counts.
    AmdSp,
    /// The report would look the same at any time, so that asking for it now makes it no fresher.
    ReportAge,
    /// The vTPM is not known to be that of such a guest: nothing that it signed counts. The firmware's row stands.
    Vtpm,
    /// The signer of the launch is not the one that the policy names.
    LaunchSigner,
}

/// Defines one family: the enum, and everything that is the same in each finding of one of its checks.
macro_rules! check_family {
    (
        $(#[$meta:meta])*
        $family:ident {
            $($name:ident = $id:literal, $stage:expr, {
                subject: $subject:literal,
                wanted: $wanted:literal,
                help: $help:literal $(,)?
            })+
        }
    ) => {
        // Of a family that only verification checks, none has an effect of its own.
        #[allow(unused_imports)]
        use super::family::{CheckStage::{self, *}, TableEffect::*};

        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $family {
            $(#[doc = concat!("`", $id, "`: ", $subject)] $name),+
        }

        impl $family {
            pub(super) const ALL: &[$family] = &[$($family::$name),+];

            pub(super) const fn id(self) -> &'static str {
                match self { $($family::$name => $id),+ }
            }
            pub(super) const fn stage(self) -> CheckStage {
                match self { $($family::$name => $stage),+ }
            }
            pub(super) const fn subject(self) -> &'static str {
                match self { $($family::$name => $subject),+ }
            }
            pub(super) const fn wanted(self) -> &'static str {
                match self { $($family::$name => $wanted),+ }
            }
            pub(super) const fn help(self) -> &'static str {
                match self { $($family::$name => $help),+ }
            }
        }
    };
}
pub(super) use check_family;
