//! A quote whose PCR values are those that were signed, by a key that may have to be made anew.
//!
//! PCRs are read before the quote, and somebody may extend one in between: the digest in the quote tells, and then both are done
//! again. The key is one that persists (Azure), or a primary that is made from its template and loaded; a resource manager or another
//! user of the TPM may have evicted it, which shows as a handle that leads to nothing, and then it is made once more.

use super::TpmError;
use super::commands::{Hierarchy, Tpm};
use ratls::evidence::tpm::{Bank, Quoted, Signature};
use ratls::wire::attest::TpmEvidence;
use ratls::wire::credential::Credential;
use std::collections::BTreeMap;

/// How often a quote is tried while PCRs move.
const ATTEMPTS: u32 = 5;

/// Where the AK comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AkSource {
    /// It persists at this handle.
    Persistent(u32),
    /// It is the primary key of this hierarchy and template (TPMT_PUBLIC).
    Primary(Hierarchy, Vec<u8>),
}

/// The AK of a TPM, ready to sign.
pub(super) struct Loaded {
    source: AkSource,
    handle: u32,
    public: Vec<u8>,
}

/// What a TPM signed, with the values that it signed for.
pub type Quote = TpmEvidence;

impl Tpm {
    /// Finds or makes the AK, which stays loaded: its TPMT_PUBLIC.
    pub fn load_ak(&mut self, source: AkSource) -> Result<Vec<u8>, TpmError> {
        let (handle, public) = match &source {
            AkSource::Persistent(handle) => {
                let public = self.public(*handle)?;
                (*handle, public.ok_or(TpmError::NoKey { handle: *handle, what: "the attestation key" })?)
            }
            AkSource::Primary(hierarchy, template) => self.create_primary(*hierarchy, template)?,
        };
        self.ak = Some(Loaded { source, handle, public: public.clone() });
        Ok(public)
    }

    /// A quote over this qualifying data and all PCRs of the bank, by the AK that was loaded.
    pub fn quote(&mut self, qualifying: &[u8], bank: Bank) -> Result<Quote, TpmError> {
        for _ in 0..ATTEMPTS {
            let values = self.pcrs(bank)?;
            let (attest, signature, public) = self.with_ak(|tpm, ak| tpm.quote_once(ak, qualifying, bank))?;
            let malformed = || TpmError::Malformed { command: "Quote" };
            let quoted = Quoted::parse(&attest).map_err(|_| malformed())?;
            let hash = Signature::parse(&signature).map_err(|_| malformed())?.hash();
            let concatenated: Vec<&[u8]> = values.iter().map(|(_, value)| value.as_slice()).collect();
            if hash.digest(&concatenated) == quoted.pcr_digest {
                let pcrs: BTreeMap<_, _> = values.into_iter().collect();
                return Ok(TpmEvidence { attest, signature, bank: bank.algorithm(), pcrs, public });
            }
        }
        Err(TpmError::PcrsMove { attempts: ATTEMPTS })
    }

    /// Opens a credential for the loaded AK with the EK of this template; `None` where it was made for others.
    pub fn activate_credential(
        &mut self,
        ek_template: &[u8],
        credential: &Credential,
    ) -> Result<Option<Vec<u8>>, TpmError> {
        let opened = self.with_ak(|tpm, ak| Ok((tpm.activate(ak, ek_template, credential)?, ())))?;
        Ok(opened.0)
    }

    /// TPMT_PUBLIC of the primary key of this template, which is not kept.
    pub fn primary_public(&mut self, hierarchy: Hierarchy, template: &[u8]) -> Result<Vec<u8>, TpmError> {
        let (handle, public) = self.create_primary(hierarchy, template)?;
        self.flush(handle);
        Ok(public)
    }

    /// Uses the AK, and makes it once more where its handle leads to nothing any more. A key that came back different is an error: the
    /// statement names the other one.
    fn with_ak<A, B>(
        &mut self,
        mut use_it: impl FnMut(&mut Tpm, u32) -> Result<(A, B), TpmError>,
    ) -> Result<(A, B, Vec<u8>), TpmError> {
        let Some(Loaded { source, handle, public }) = &self.ak else {
            return Err(TpmError::NoKey { handle: 0, what: "the attestation key was not loaded" });
        };
        let (source, handle, public) = (source.clone(), *handle, public.clone());
        match use_it(self, handle) {
            Err(TpmError::Code { code, .. }) if code.is_missing_handle() => {
                let again = self.load_ak(source)?;
                if again != public {
                    return Err(TpmError::NoKey { handle, what: "the attestation key: there is another one now" });
                }
                let handle = self.ak.as_ref().map_or(handle, |ak| ak.handle);
                use_it(self, handle).map(|(a, b)| (a, b, public))
            }
            used => used.map(|(a, b)| (a, b, public)),
        }
    }
}
