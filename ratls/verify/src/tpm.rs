//! What is known of a guest's TPM: what it says of the registers, who vouches for it, and when it said so.
//!
//! The quote is one question and the key another. A good quote by a key for which nobody vouches says what somebody with
//! that key wanted to say; `AkProof::link` tells what each kind of voucher is worth.

use crate::channel::Freshness;
use crate::endorsement::nitro::VerifiedNitro;
use crate::endorsement::{CrlStatus, PublicKey, VerifiedAk};
use crate::link::Link;
use crate::quote::{QuoteError, VerifiedQuote};
use findings::{BindingCheck, Check, QuoteCheck};
use formats::digest::Sha256Digest;
use formats::evidence::tpm::pcr::PcrError;
use formats::evidence::tpm::{Clock, Key, PcrValues, Public, PublicError, SignatureError};
use formats::time::UnixTime;

/// Where the TPM is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TpmKind {
    /// Outside the guest: its host can make it say anything.
    Host,
    /// In the guest, beside its system, in a paravisor of the cloud's.
    Paravisor,
    /// In the guest, beside its system, in an SVSM.
    Svsm,
}

impl TpmKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            TpmKind::Host => "host",
            TpmKind::Paravisor => "paravisor",
            TpmKind::Svsm => "svsm",
        }
    }
}

/// Who vouches for the key.
#[derive(Clone, Debug)]
pub enum AkProof {
    /// The paravisor: its JSON names the key, and the JSON's hash stands in the report that it asked for. Where the cloud's
    /// certificate for the same key came too, that is here as well.
    Paravisor { certificate: Option<Box<VerifiedAk>> },
    /// The cloud's CA.
    Certificate(Box<VerifiedAk>),
    /// A secret that was hidden for the EK of the SVSM's manifest, on this connection or on an earlier one of the same
    /// guest, came back: the key lives in the same TPM.
    Credential,
    /// As before, but seen by whoever saved the bundle. Nobody can look again, and nothing signs that it was seen.
    Witnessed(Witness),
    /// The Nitro system signed the registers itself, and no AK is needed.
    Document,
    /// Nobody.
    Unproven,
}

/// Who saw a key proven, and wrote it into a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Witness {
    /// Whoever reads the file wrote it, and keeps it where nobody else writes.
    Reader,
    /// Somebody: whoever could change the file could say so.
    Somebody,
}

/// Who signed the registers' values.
#[derive(Clone, Debug)]
pub enum Registers {
    /// A key in the TPM.
    Quote(Box<VerifiedQuote>),
    /// The Nitro system, in a document that it made about the TPM.
    Document(Box<VerifiedNitro>),
}

impl From<VerifiedQuote> for Registers {
    fn from(quote: VerifiedQuote) -> Self {
        Registers::Quote(Box::new(quote))
    }
}

impl From<VerifiedNitro> for Registers {
    fn from(document: VerifiedNitro) -> Self {
        Registers::Document(Box::new(document))
    }
}

impl AkProof {
    pub const fn as_str(&self) -> &'static str {
        match self {
            AkProof::Paravisor { .. } => "paravisor",
            AkProof::Certificate(_) => "certificate",
            AkProof::Credential => "credential",
            AkProof::Witnessed(_) => "witnessed",
            AkProof::Document => "document",
            AkProof::Unproven => "unproven",
        }
    }

    /// The cloud's certificate, where there is one.
    pub fn certificate(&self) -> Option<&VerifiedAk> {
        match self {
            AkProof::Paravisor { certificate } => certificate.as_deref(),
            AkProof::Certificate(ak) => Some(ak),
            AkProof::Credential | AkProof::Witnessed(_) | AkProof::Document | AkProof::Unproven => None,
        }
    }

    /// Whether anybody vouches.
    pub fn is_proven(&self) -> bool {
        !matches!(self, AkProof::Unproven)
    }

    /// What the registers are worth, if `vmpl` is where the report was asked for: at another one than 0 any kernel can have
    /// asked, and hashed what it liked.
    fn link(&self, vmpl: u32) -> Link {
        match self {
            AkProof::Paravisor { .. } | AkProof::Credential | AkProof::Witnessed(_) if vmpl == 0 => {
                Link::FirmwareAsserted
            }
            AkProof::Paravisor { certificate: Some(_) } | AkProof::Certificate(_) | AkProof::Document => {
                Link::VendorPki
            }
            AkProof::Paravisor { .. } | AkProof::Credential | AkProof::Witnessed(_) | AkProof::Unproven => {
                Link::GuestAsserted
            }
        }
    }
}

/// A TPM that answered for this guest. Only this folder makes one.
#[derive(Clone, Debug)]
pub struct VerifiedTpm {
    pub(super) kind: TpmKind,
    pub(super) registers: Registers,
    pub(super) proof: AkProof,
    pub(super) freshness: Freshness,
    pub(super) vmpl: u32,
}

impl VerifiedTpm {
    pub fn kind(&self) -> TpmKind {
        self.kind
    }
    /// Who signed the registers' values.
    pub fn registers(&self) -> &Registers {
        &self.registers
    }
    /// `None` where the Nitro system speaks for the TPM.
    pub fn quote(&self) -> Option<&VerifiedQuote> {
        match &self.registers {
            Registers::Quote(quote) => Some(quote),
            Registers::Document(_) => None,
        }
    }
    /// The Nitro system's word about the TPM.
    pub fn document(&self) -> Option<&VerifiedNitro> {
        match &self.registers {
            Registers::Quote(_) => None,
            Registers::Document(document) => Some(document),
        }
    }
    /// Public area of the key that quoted.
    pub fn ak(&self) -> Option<&Public> {
        self.quote().map(VerifiedQuote::public)
    }
    /// The registers, each with its value, of one bank; nothing is known of others.
    pub fn pcrs(&self) -> &PcrValues {
        match &self.registers {
            Registers::Quote(quote) => quote.pcrs(),
            Registers::Document(document) => document.document().pcrs(),
        }
    }
    /// The TPM's own count of time and resets.
    pub fn clock(&self) -> Option<Clock> {
        self.quote().map(VerifiedQuote::clock)
    }
    /// Until when the cloud's certificates hold.
    pub fn not_after(&self) -> Option<UnixTime> {
        let certificate = self.proof.certificate().map(VerifiedAk::not_after);
        certificate.or(self.document().map(VerifiedNitro::not_after))
    }
    /// What revocation lists said of the cloud's certificates; `None` where there are none.
    pub fn crl(&self) -> Option<CrlStatus> {
        let certificate = self.proof.certificate().map(VerifiedAk::crl);
        certificate.or(self.document().map(VerifiedNitro::crl))
    }
    /// An authority whose revocation list the cloud's certificates announce, and that did not come.
    pub fn missing_list(&self) -> Option<&str> {
        self.proof.certificate().map_or(self.document().and_then(VerifiedNitro::missing_list), VerifiedAk::missing_list)
    }
    pub fn proof(&self) -> &AkProof {
        &self.proof
    }
    /// When it quoted. Its own question: a TPM may be fresh where the report is not.
    pub fn freshness(&self) -> Freshness {
        self.freshness
    }
    /// True where a simulator's root vouches for the key: then nothing is proven.
    pub fn simulated(&self) -> bool {
        self.proof.certificate().is_some_and(VerifiedAk::simulated)
            || self.document().is_some_and(VerifiedNitro::simulated)
    }
    /// How the registers hang on the AMD-SP.
    pub fn link(&self) -> Link {
        self.proof.link(self.vmpl)
    }
}

/// Why what came of a TPM is not what the statement names, or not good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TpmError {
    #[error("the statement names a TPM's key, and nothing of a TPM came with it")]
    Stripped,
    #[error("something of a TPM came, and the statement names no key of one")]
    Unnamed,
    #[error("the TPM's key is {seen}, the statement names {wanted}")]
    OtherAk { seen: Sha256Digest, wanted: Sha256Digest },
    #[error("the key that quoted is not the one that the paravisor names (HCLAkPub)")]
    NotParavisors,
    #[error("the TPM's key is refused: {0}")]
    Public(#[from] PublicError),
    #[error("the quote's signature is refused: {0}")]
    Signature(#[from] SignatureError),
    #[error("registers of bank {0:#06x}; a quote over SHA-256 or SHA-384 is wanted")]
    Bank(u16),
    #[error(transparent)]
    Pcrs(#[from] PcrError),
    #[error(transparent)]
    Quote(#[from] QuoteError),
}

impl TpmError {
    /// Returns the printed id of the check that failed.
    pub fn id(&self) -> &'static str {
        self.check().id()
    }

    /// Returns the check that failed.
    pub fn check(&self) -> Check {
        match self {
            TpmError::Stripped | TpmError::Unnamed => BindingCheck::Tpm.into(),
            TpmError::OtherAk { .. } | TpmError::NotParavisors | TpmError::Public(_) => QuoteCheck::Key.into(),
            TpmError::Signature(_) => QuoteCheck::Signature.into(),
            TpmError::Bank(_) | TpmError::Pcrs(_) => QuoteCheck::Selection.into(),
            TpmError::Quote(error) => error.check(),
        }
    }
}

/// The key in the form in which certificates are compared.
pub(super) fn certified_key(key: &Key) -> PublicKey {
    let bytes = key.subject_public_key();
    let key = match key {
        Key::Rsa { .. } => PublicKey::rsa_pkcs1(&bytes),
        Key::Ecc { .. } => PublicKey::point(&bytes),
    };
    key.expect("a public area holds RSA of 2048 to 4096 bit, or a point of P-256 or P-384")
}
