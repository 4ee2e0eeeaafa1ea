//! Digests that a boot must have extended, recomputed from the files of the guest in hand.
//!
//! A file counts in every way in which firmware, shim, grub or a stub would measure it: its content, its Authenticode hash if it is a PE
//! image, and each section if it is a unified kernel image. Digests of different kinds cannot be mistaken for each other, since each
//! is a hash of other bytes. A command line counts as the text that grub, the EFI stub or a section has of it.

use super::authenticode::PeImage;
use super::proof::{Artefact, BinaryProof, Expected, Part};
use super::uki::Unified;
use formats::crypto::sha256;
use formats::evidence::tpm::{Bank, PcrValue};

/// Files in hand, with the digests that they lead to.
#[derive(Clone, Debug, Default)]
pub struct BootReference {
    known: Vec<Known>,
}

#[derive(Clone, Debug)]
struct Known {
    digests: [PcrValue; 2],
    artefact: Artefact,
    /// How the digest comes of the file, in a word or two.
    how: &'static str,
}

impl BootReference {
    pub fn new() -> BootReference {
        BootReference::default()
    }

    /// Adds a file. Of a unified kernel image, kernel, initrd and command line count as what they are.
    pub fn add(&mut self, part: Part, name: &str, bytes: &[u8]) {
        let artefact = Artefact { part, name: name.to_owned(), sha256: sha256(&[bytes]) };
        let both = |digest: &dyn Fn(Bank) -> PcrValue| [digest(Bank::Sha256), digest(Bank::Sha384)];
        let mut know = |part: Part, digests, how| {
            self.known.push(Known { digests, artefact: Artefact { part, ..artefact.clone() }, how });
        };
        know(part, both(&|bank| bank.hash(&[bytes])), "content");
        let Ok(image) = PeImage::parse(bytes) else { return };
        know(part, both(&|bank| image.digest(bank)), "Authenticode");
        let Some(unified) = Unified::of(&image) else { return };
        for (section, content) in unified.sections() {
            let part = match section {
                ".linux" => Part::Kernel,
                ".initrd" => Part::Initrd,
                ".cmdline" => Part::CommandLine,
                _ => Part::Loader,
            };
            know(part, both(&|bank| bank.hash(&[content])), "section");
        }
    }

    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Whether a file in hand leads to this digest.
    pub fn knows(&self, digest: &PcrValue) -> bool {
        self.find(digest).is_some()
    }

    /// Whether a file of this part does.
    pub fn knows_as(&self, part: Part, digest: &PcrValue) -> bool {
        self.known.iter().any(|known| known.artefact.part == part && known.digests.contains(digest))
    }

    fn find(&self, digest: &PcrValue) -> Option<&Known> {
        self.known.iter().find(|known| known.digests.contains(digest))
    }

    /// The proof that files in hand lead to all of these digests; the command line, a text in hand, is compared by the caller and
    /// stands in the proof where it is given. `None` where one is not known, or there is none.
    pub fn proof(&self, measured: &[PcrValue], command_line: Option<&str>) -> Option<BinaryProof> {
        let found: Vec<&Known> = measured.iter().map(|digest| self.find(digest)).collect::<Option<_>>()?;
        let value: Vec<u8> = measured.iter().flat_map(|digest| digest.as_bytes().to_vec()).collect();
        let mut in_hand: Vec<Artefact> = Vec::new();
        let text = command_line.map(|text| Artefact {
            part: Part::CommandLine,
            name: "the policy's command line".to_owned(),
            sha256: sha256(&[text.as_bytes()]),
        });
        for artefact in found.iter().map(|known| known.artefact.clone()).chain(text) {
            if !in_hand.contains(&artefact) {
                in_hand.push(artefact);
            }
        }
        let words: Vec<String> =
            found.iter().map(|known| format!("{} of {}", known.how, known.artefact.name)).collect();
        let expected: Vec<u8> = found
            .iter()
            .zip(measured)
            .flat_map(|(known, digest)| known.digests.iter().find(|d| d.bank() == digest.bank()))
            .flat_map(|digest| digest.as_bytes().to_vec())
            .collect();
        Expected::recomputed(&expected, words.join(", "), in_hand).equals(&value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_names_the_files_and_needs_every_digest() {
        let mut reference = BootReference::new();
        reference.add(Part::Kernel, "vmlinuz", b"a kernel");
        reference.add(Part::Initrd, "initrd.img", b"an initrd");
        let (kernel, initrd) = (Bank::Sha384.hash(&[b"a kernel"]), Bank::Sha384.hash(&[b"an initrd"]));
        let proof = reference.proof(&[kernel, initrd], Some("ro")).unwrap();
        assert_eq!(proof.recipe(), "content of vmlinuz, content of initrd.img");
        assert!([Part::Kernel, Part::Initrd, Part::CommandLine].into_iter().all(|part| proof.covers(part)));
        assert!(!proof.covers(Part::Loader));
        assert!(reference.proof(&[kernel, Bank::Sha384.hash(&[b"another"])], None).is_none());
        assert!(reference.proof(&[], None).is_none());
    }
}
