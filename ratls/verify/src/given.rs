//! Pieces of evidence as they lie in files, by kind. Nothing in here is verified.

use crate::endorsement::PublicKey;
use crate::tpm::certified_key;
use formats::evidence::svsm::Nonce;
use formats::evidence::tpm::{PcrValues, Public};

/// Pieces of evidence as they lie in files.
#[derive(Clone, Debug)]
pub struct Files<'a> {
    pub report: Option<&'a [u8]>,
    /// What Azure's paravisor wrote.
    pub hcl: Option<&'a [u8]>,
    pub svsm: Option<SvsmFiles<'a>>,
    /// What the guest gave to be signed by the AMD-SP: REPORT_DATA, or what the paravisor says of it (`user-data`).
    pub report_data: Option<[u8; 64]>,
    /// What the quote answers (`extraData`); of a NitroTPM document its nonce, where no quote was given.
    pub nonce: Option<Vec<u8>>,
    /// A NitroTPM document.
    pub nitro: Option<&'a [u8]>,
    pub quote: Option<QuoteFiles<'a>>,
    /// Values of registers: what a quote is over, or else what a log is said to lead to.
    pub pcrs: Option<PcrValues>,
    pub ak: Option<AkFile>,
    pub event_log: Option<&'a [u8]>,
    pub ima_list: Option<&'a [u8]>,
    /// Google's endorsement of a firmware.
    pub endorsement: Option<&'a [u8]>,
    pub certificates: Vec<&'a [u8]>,
    pub crls: Vec<&'a [u8]>,
}

/// An SVSM's manifest and the 64 bytes that it was asked with.
#[derive(Clone, Debug)]
pub struct SvsmFiles<'a> {
    pub manifest: &'a [u8],
    pub nonce: Nonce,
}

/// A quote, and its signature (TPMT_SIGNATURE, or bare).
#[derive(Clone, Copy, Debug)]
pub struct QuoteFiles<'a> {
    pub attest: &'a [u8],
    pub signature: &'a [u8],
}

/// A key as it came.
#[derive(Clone, Debug)]
pub enum AkFile {
    /// TPMT_PUBLIC, with the key's attributes.
    Area(Box<Public>),
    /// The key alone. Its attributes are those that the clouds give theirs: what it signed says whether they are.
    Key(PublicKey),
}

impl AkFile {
    pub(super) fn key(&self) -> PublicKey {
        match self {
            AkFile::Area(public) => certified_key(public.key()),
            AkFile::Key(key) => key.clone(),
        }
    }
}
