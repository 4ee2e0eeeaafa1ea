//! Response codes (part 2 §6.6): what they say, and which of them pass by themselves.

use std::fmt;

/// A response code as received.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Code(pub u32);

/// What to do about a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Success,
    /// The same command may work in a moment.
    Passing,
    Lockout,
    Final,
}

/// Format-zero warnings and errors that this program meets.
const NAMES: &[(u32, &str)] = &[
    (0x101, "TPM_RC_FAILURE"),
    (0x100, "TPM_RC_INITIALIZE"),
    (0x120, "TPM_RC_DISABLED"),
    (0x143, "TPM_RC_COMMAND_CODE"),
    (0x146, "TPM_RC_NV_RANGE"),
    (0x148, "TPM_RC_NV_LOCKED"),
    (0x149, "TPM_RC_NV_AUTHORIZATION"),
    (0x14A, "TPM_RC_NV_UNINITIALIZED"),
    (0x14B, "TPM_RC_NV_SPACE"),
    (0x14C, "TPM_RC_NV_DEFINED"),
    (0x12F, "TPM_RC_AUTH_UNAVAILABLE"),
    (0x902, "TPM_RC_OBJECT_MEMORY"),
    (0x903, "TPM_RC_SESSION_MEMORY"),
    (0x904, "TPM_RC_MEMORY"),
    (0x905, "TPM_RC_SESSION_HANDLES"),
    (0x907, "TPM_RC_LOCALITY"),
    (0x908, "TPM_RC_YIELDED"),
    (0x90A, "TPM_RC_TESTING"),
    (0x910, "TPM_RC_REFERENCE_H0"),
    (0x920, "TPM_RC_NV_RATE"),
    (0x921, "TPM_RC_LOCKOUT"),
    (0x922, "TPM_RC_RETRY"),
    (0x923, "TPM_RC_NV_UNAVAILABLE"),
];
/// Format-one errors, without the number of the handle, session or parameter that they are about.
const NUMBERED: &[(u32, &str)] = &[
    (0x082, "TPM_RC_ATTRIBUTES"),
    (0x083, "TPM_RC_HASH"),
    (0x084, "TPM_RC_VALUE"),
    (0x085, "TPM_RC_HIERARCHY"),
    (0x08B, "TPM_RC_HANDLE"),
    (0x08E, "TPM_RC_AUTH_FAIL"),
    (0x095, "TPM_RC_SIZE"),
    (0x09D, "TPM_RC_POLICY_FAIL"),
    (0x09F, "TPM_RC_INTEGRITY"),
    (0x0A2, "TPM_RC_BAD_AUTH"),
];

impl Code {
    pub(super) const HANDLE: u32 = 0x08B;
    pub(super) const REFERENCE: u32 = 0x910;
    const COMMAND_CODE: u32 = 0x143;

    /// The code without the layer that a resource manager writes above it, and without the number that a format-one error carries.
    pub(super) fn base(self) -> u32 {
        let code = self.0 & 0xFFF;
        if code & 0x080 != 0 { code & 0x0BF } else { code }
    }

    pub(super) fn meaning(self) -> Meaning {
        match self.base() {
            0 => Meaning::Success,
            // RETRY, YIELDED and TESTING; NV_RATE, because the TPM writes too often; the three memories, because somebody else holds
            // them on a device without a resource manager.
            0x922 | 0x908 | 0x90A | 0x920 | 0x902..=0x905 => Meaning::Passing,
            0x921 => Meaning::Lockout,
            _ => Meaning::Final,
        }
    }

    /// Whether the TPM does not know the command at all.
    pub(crate) fn is_unknown_command(self) -> bool {
        self.base() == Self::COMMAND_CODE
    }

    /// A handle that leads to nothing: a transient object that was evicted, or an index or key that was never made.
    pub(super) fn is_missing_handle(self) -> bool {
        matches!(self.base(), Self::HANDLE) || (Self::REFERENCE..Self::REFERENCE + 7).contains(&self.base())
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = if self.0 & 0x080 == 0 { NAMES } else { NUMBERED };
        match names.iter().find(|(code, _)| *code == self.base()) {
            Some((_, name)) => write!(f, "{name}, {:#x}", self.0),
            None => write!(f, "response code {:#x}", self.0),
        }
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Code({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_layers_do_not_hide_what_a_code_is() {
        // TPM_RC_HANDLE for handle 1 and for parameter 2; COMMAND_CODE as the kernel's resource manager says it.
        assert_eq!(Code(0x18B).base(), Code::HANDLE);
        assert_eq!(Code(0x2CB).base(), Code::HANDLE);
        assert_eq!(Code(0x000B_0143).base(), Code::COMMAND_CODE);
        assert_eq!(Code(0x18B).to_string(), "TPM_RC_HANDLE, 0x18b");
        assert_eq!(Code(0x922).to_string(), "TPM_RC_RETRY, 0x922");
        assert_eq!(Code(0x9A2).base(), 0x0A2);
    }

    #[test]
    fn what_passes_is_told_from_what_does_not() {
        for passing in [0x922, 0x908, 0x90A, 0x920, 0x902, 0x903] {
            assert_eq!(Code(passing).meaning(), Meaning::Passing);
        }
        assert_eq!(Code(0x921).meaning(), Meaning::Lockout);
        assert_eq!(Code(0x14A).meaning(), Meaning::Final);
        assert_eq!(Code(0).meaning(), Meaning::Success);
        assert!(Code(0x910).is_missing_handle() && Code(0x18B).is_missing_handle() && !Code(0x149).is_missing_handle());
    }
}
