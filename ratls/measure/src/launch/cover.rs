//! What a launch digest says of each component, and how strongly (docs/levels.md).
//!
//! Derived from the recipe, never declared for it: a recipe without a place for the kernel covers no kernel, whatever its
//! author meant.

use std::fmt;

use super::recipe::OvmfLaunch;

/// How a component hangs on the launch digest. Only the two ways that a launch digest offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LaunchLink {
    /// Its bytes are in the digest.
    Direct,
    /// Measured code refuses anything whose hash is not in the digest.
    VerifiedByMeasured,
}

/// What was known of a component when the digest was computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Known {
    /// Its bytes: the hash was computed here.
    Bytes,
    /// A digest that somebody named.
    Digest,
}

/// One component in the digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Covered {
    pub link: LaunchLink,
    pub known: Known,
}

/// Why a component is not covered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotCovered {
    /// No page of the recipe holds it or its hash.
    NotInRecipe,
    /// Its hash is measured, and nobody claims that this firmware compares it.
    NotEnforced,
    /// It is on a disk that opens with a key which its owner gives after attestation.
    OwnerSealed,
}

impl fmt::Display for NotCovered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            NotCovered::NotInRecipe => "the launch digest is the same whatever it is",
            NotCovered::NotEnforced => {
                "its hash is in the launch digest, but the reference does not say that this firmware refuses another one"
            }
            NotCovered::OwnerSealed => {
                "owner-sealed: whoever has the disk's key made it, and no register says what it is"
            }
        })
    }
}

/// Whether this firmware refuses a kernel, initrd or command line whose hash is not the measured one.
///
/// No digest can show it: older OVMF builds carry the page and do not compare. It is a claim about exactly this
/// firmware, made by whoever writes the reference, and part of what a match means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enforcement {
    Claimed,
    NotClaimed,
}

/// What one launch digest covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coverage {
    pub firmware: Result<Covered, NotCovered>,
    pub kernel: Result<Covered, NotCovered>,
    pub initrd: Result<Covered, NotCovered>,
    pub cmdline: Result<Covered, NotCovered>,
}

impl Coverage {
    pub(super) fn of_ovmf(launch: &OvmfLaunch, enforcement: Enforcement) -> Coverage {
        let direct = |held| Ok(Covered { link: LaunchLink::Direct, known: known(held) });
        let hashed = |held| match enforcement {
            Enforcement::Claimed => Ok(Covered { link: LaunchLink::VerifiedByMeasured, known: known(held) }),
            Enforcement::NotClaimed => Err(NotCovered::NotEnforced),
        };
        let absent = Err(NotCovered::NotInRecipe);
        let firmware = direct(launch.firmware().is_held());
        match launch.kernel() {
            None => Coverage { firmware, kernel: absent, initrd: absent, cmdline: absent },
            Some(hashes) => Coverage {
                firmware,
                kernel: hashed(hashes.kernel.is_held()),
                initrd: hashed(hashes.initrd.is_held()),
                cmdline: hashed(hashes.cmdline.is_held()),
            },
        }
    }
}

fn known(held: bool) -> Known {
    if held { Known::Bytes } else { Known::Digest }
}
