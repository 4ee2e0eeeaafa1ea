//! What the engine is told: the state of each root, and what each of its registers says about a component.

use crate::policy::Component;
use findings::Check;
use measure::reference::{BinaryProof, Part, SourceProof};
use verify::{Link, Root};

/// How much of the component the register covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cover {
    None,
    Partial,
    /// What the guest's own measuring policy covers, all of it matched (IMA).
    PolicyBounded,
    Full,
}

/// Where a digest comes from that stands in the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Provenance {
    /// The policy's author put it there.
    Own,
    /// The maker signed exactly this digest.
    Vendor,
    /// It was seen once and kept.
    Learned,
}

/// The strongest reference that matched. What did not match is not here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Matched {
    /// It was compared with nothing, or with nothing that was equal.
    Nothing,
    /// Only who signed it is pinned.
    Signer(String),
    Digest(Provenance),
    /// Recomputed from files in hand.
    Binary(BinaryProof),
    /// And those were rebuilt from source.
    Source(SourceProof),
}

/// Something that a claim says in the open, to be compared with what other claims say under the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// `kernel command line`, `firmware SHA-384`.
    pub what: &'static str,
    pub value: String,
}

/// What one root says about one component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub component: Component,
    pub root: Root,
    pub link: Link,
    pub cover: Cover,
    pub matched: Matched,
    /// What measured it, or enforces it: it can be verified no better than each of these. Empty where the root's own hardware did.
    pub measured_by: Vec<Component>,
    pub says: Vec<Named>,
    /// What a reader should know beside the level, each a clause.
    pub notes: Vec<String>,
}

/// What verification and the policy's rules say about a root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootState {
    /// Signature, chain and the policy's rules about the signer hold.
    pub authentic: bool,
    /// A value of this verifier is under the signature.
    pub fresh: bool,
    /// So is this TLS connection.
    pub bound: bool,
    /// Its word is the same whenever it is asked, so that asking now would show nothing of now.
    pub ageless: bool,
    /// Nothing of it was given: pieces of evidence without a report.
    pub missing: bool,
    /// Findings that take everything from this root.
    pub fatal: Vec<Check>,
    /// Why it is not authentic, as a clause; empty where it is.
    pub because: String,
}

/// Everything that the engine looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inputs {
    pub amd_sp: RootState,
    /// `None` where the platform has no vTPM by its kind. One that is missing is there, and not authentic.
    pub vtpm: Option<RootState>,
    pub claims: Vec<Claim>,
}

/// The parts whose files can be in hand for a component.
pub(super) const fn parts(component: Component) -> &'static [Part] {
    match component {
        Component::Firmware => &[Part::Firmware],
        Component::Boot => &[Part::Loader, Part::Initrd, Part::CommandLine],
        Component::Kernel => &[Part::Kernel],
        // A guest may live in its initrd.
        Component::Userspace => &[Part::Image, Part::Initrd],
    }
}

impl Matched {
    /// The files in hand; none below level 3.
    pub fn proof(&self) -> Option<&BinaryProof> {
        match self {
            Matched::Binary(proof) => Some(proof),
            Matched::Source(proof) => Some(proof.binary()),
            Matched::Nothing | Matched::Signer(_) | Matched::Digest(_) => None,
        }
    }
}

impl RootState {
    pub fn sound() -> RootState {
        RootState {
            authentic: true,
            fresh: true,
            bound: true,
            ageless: false,
            missing: false,
            fatal: Vec::new(),
            because: String::new(),
        }
    }

    /// It vouches for something of now and of this connection.
    pub fn holds(&self) -> bool {
        self.authentic && self.fresh && self.bound && self.fatal.is_empty()
    }
}

impl Inputs {
    /// The same evidence if it had been asked for now, over this connection. For evidence in files.
    pub fn if_fresh(&self) -> Inputs {
        let now = |root: &RootState| RootState { fresh: !root.ageless, bound: !root.ageless, ..root.clone() };
        Inputs { amd_sp: now(&self.amd_sp), vtpm: self.vtpm.as_ref().map(now), claims: self.claims.clone() }
    }

    pub(super) fn root(&self, root: Root) -> Option<&RootState> {
        match root {
            Root::AmdSp => Some(&self.amd_sp),
            Root::Vtpm => self.vtpm.as_ref(),
        }
    }
}
