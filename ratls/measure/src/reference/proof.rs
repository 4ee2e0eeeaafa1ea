//! Proof that a measured value is that of files in hand, and that such files were built from source.
//!
//! The constructors of [`Expected`] and [`Rebuild`] are open to this folder only: an expectation is made by what recomputes
//! it, a rebuild by what checked its statement. What is measured is compared here, so nobody can hold a proof about a value
//! that was not equal.

use formats::crypto::constant_time_eq;
use formats::digest::Sha256Digest;

/// Which part of a guest a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    Firmware,
    /// Shim, boot loader, stub, configuration.
    Loader,
    Initrd,
    /// The kernel's command line: a text in hand counts like a file.
    CommandLine,
    Kernel,
    /// A file system image or a list of its files.
    Image,
}

impl Part {
    pub const fn as_str(self) -> &'static str {
        match self {
            Part::Firmware => "firmware",
            Part::Loader => "boot loader",
            Part::Initrd => "initrd",
            Part::CommandLine => "command line",
            Part::Kernel => "kernel",
            Part::Image => "image",
        }
    }
}

/// A file whose bytes were in hand when something was recomputed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artefact {
    pub part: Part,
    /// The file's name as the policy has it; of no meaning to the proof.
    pub name: String,
    pub sha256: Sha256Digest,
}

/// The value that a register must hold if the guest was made of these files in this way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    value: Vec<u8>,
    recipe: String,
    in_hand: Vec<Artefact>,
}

impl Expected {
    /// `recipe` says in words how the value came about (`4 vCPUs EPYC-v4 on QEMU, kernel hashes on`). Parts of the guest that
    /// went in as digests alone are not `in_hand`, and the proof will not speak for them.
    pub(super) fn recomputed(value: &[u8], recipe: String, in_hand: Vec<Artefact>) -> Expected {
        Expected { value: value.to_vec(), recipe, in_hand }
    }

    pub fn value(&self) -> &[u8] {
        &self.value
    }
    pub fn recipe(&self) -> &str {
        &self.recipe
    }

    /// The proof, if this is what was measured.
    pub fn equals(&self, measured: &[u8]) -> Option<BinaryProof> {
        // An empty expectation would be equal to an absent measurement.
        let holds = !self.value.is_empty() && constant_time_eq(&self.value, measured);
        holds.then(|| BinaryProof(self.clone()))
    }
}

/// A measured value equals one that was recomputed from files in hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BinaryProof(Expected);

impl BinaryProof {
    pub fn value(&self) -> &[u8] {
        &self.0.value
    }
    pub fn recipe(&self) -> &str {
        &self.0.recipe
    }
    /// The files that were in hand.
    pub fn in_hand(&self) -> &[Artefact] {
        &self.0.in_hand
    }
    /// Whether it speaks for this part of the guest.
    pub fn covers(&self, part: Part) -> bool {
        self.0.in_hand.iter().any(|artefact| artefact.part == part)
    }
}

/// A statement that was checked: enough trusted rebuilders made exactly this file from that source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebuild {
    sha256: Sha256Digest,
    source: String,
    by: Vec<String>,
}

impl Rebuild {
    /// `by` holds one name for each rebuilder whose signature counted, or the user's own build command.
    pub(super) fn checked(sha256: Sha256Digest, source: String, by: Vec<String>) -> Rebuild {
        Rebuild { sha256, source, by }
    }

    /// The file that was rebuilt.
    pub fn sha256(&self) -> &Sha256Digest {
        &self.sha256
    }
    /// Repository and commit, or what else the statement calls its source.
    pub fn source(&self) -> &str {
        &self.source
    }
    pub fn by(&self) -> &[String] {
        &self.by
    }
}

/// A measured value was recomputed from files in hand, and those of some parts were each rebuilt from source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceProof {
    binary: BinaryProof,
    parts: Vec<Part>,
    rebuilds: Vec<Rebuild>,
}

/// Why a proof of files is no proof of source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotRebuilt {
    #[error("no {} was in hand", part.as_str())]
    NotInHand { part: Part },
    #[error("no rebuild of the {} {name} (SHA-256 {sha256}) is known", part.as_str())]
    Unknown { part: Part, name: String, sha256: Sha256Digest },
}

impl SourceProof {
    /// Each of `parts` must be in hand, and each file of them rebuilt. A command line is text, and is its own source.
    pub fn new(binary: BinaryProof, parts: &[Part], known: &[Rebuild]) -> Result<SourceProof, NotRebuilt> {
        let mut rebuilds = Vec::new();
        for part in parts {
            if !binary.covers(*part) {
                return Err(NotRebuilt::NotInHand { part: *part });
            }
            for artefact in binary.in_hand().iter().filter(|a| a.part == *part && a.part != Part::CommandLine) {
                match known.iter().find(|rebuild| rebuild.sha256 == artefact.sha256 && !rebuild.by.is_empty()) {
                    Some(rebuild) => rebuilds.push(rebuild.clone()),
                    None => {
                        let Artefact { part, name, sha256 } = artefact.clone();
                        return Err(NotRebuilt::Unknown { part, name, sha256 });
                    }
                }
            }
        }
        Ok(SourceProof { binary, parts: parts.to_vec(), rebuilds })
    }

    pub fn binary(&self) -> &BinaryProof {
        &self.binary
    }
    pub fn rebuilds(&self) -> &[Rebuild] {
        &self.rebuilds
    }
    /// Whether this part is known to be built from source.
    pub fn covers(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }
}

/// Proofs for tests of code that consumes them. A normal build cannot reach this.
#[cfg(any(test, feature = "test-support"))]
#[doc(hidden)]
pub mod test_support {
    use super::*;
    use formats::crypto::sha256;

    /// Makes a proof as the recomputing functions do.
    pub fn recomputed(value: &[u8], files: &[(Part, &str)]) -> Expected {
        let artefacts = files.iter().map(|(part, name)| artefact(*part, name)).collect();
        Expected::recomputed(value, "a recipe of a test".to_owned(), artefacts)
    }

    /// Makes a checked rebuild statement about the file of this name.
    pub fn rebuild(name: &str) -> Rebuild {
        let source = "https://example.org/source at 0123456".to_owned();
        Rebuild::checked(sha256(&[name.as_bytes()]), source, vec!["rebuilder.example".to_owned()])
    }

    fn artefact(part: Part, name: &str) -> Artefact {
        Artefact { part, name: name.to_owned(), sha256: sha256(&[name.as_bytes()]) }
    }
}

#[cfg(test)]
mod tests {
    use super::test_support::{rebuild, recomputed};
    use super::*;
    use formats::crypto::sha256;

    #[test]
    fn there_is_no_proof_of_a_value_that_is_not_equal() {
        let expected = recomputed(b"measured", &[(Part::Firmware, "OVMF.fd")]);
        assert!(expected.equals(b"measured").is_some());
        assert!(expected.equals(b"measurec").is_none());
        assert!(expected.equals(b"measured0").is_none());
        assert!(recomputed(b"", &[]).equals(b"").is_none(), "nothing proves nothing");
    }

    #[test]
    fn a_proof_speaks_for_the_files_in_hand_only() {
        let proof = recomputed(b"m", &[(Part::Firmware, "OVMF.fd")]).equals(b"m").unwrap();
        assert!(proof.covers(Part::Firmware));
        assert!(!proof.covers(Part::Kernel));
    }

    #[test]
    fn every_file_that_counts_must_be_rebuilt() {
        let files = [(Part::Firmware, "OVMF.fd"), (Part::Kernel, "vmlinuz"), (Part::CommandLine, "ro")];
        let proof = recomputed(b"m", &files).equals(b"m").unwrap();
        let known = [rebuild("OVMF.fd")];
        let one = SourceProof::new(proof.clone(), &[Part::Firmware, Part::CommandLine], &known).unwrap();
        assert_eq!(one.rebuilds(), &known);
        assert!(one.covers(Part::Firmware) && !one.covers(Part::Kernel));
        let missing = SourceProof::new(proof.clone(), &[Part::Firmware, Part::Kernel], &known).unwrap_err();
        assert!(matches!(missing, NotRebuilt::Unknown { part: Part::Kernel, .. }), "{missing}");
        let absent = SourceProof::new(proof.clone(), &[Part::Image], &known).unwrap_err();
        assert_eq!(absent, NotRebuilt::NotInHand { part: Part::Image });
        let nobody = Rebuild::checked(sha256(&[b"OVMF.fd"]), String::new(), Vec::new());
        assert!(SourceProof::new(proof, &[Part::Firmware], &[nobody]).is_err(), "rebuilt by nobody");
    }
}
