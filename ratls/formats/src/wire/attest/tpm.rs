//! Key 7: what a TPM quoted.

use std::collections::BTreeMap;

use crate::wire::cbor::{CborError, Decoder, Encoder};
use crate::wire::limits::{MAX_PCR_VALUE, MAX_PCRS, MAX_TPM_STRUCTURE};

/// What the guest's TPM quoted (key 7), as received: nothing in it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TpmEvidence {
    /// TPMS_ATTEST, the bytes that were signed.
    pub attest: Vec<u8>,
    /// TPMT_SIGNATURE.
    pub signature: Vec<u8>,
    /// TPM_ALG_ID of the bank that `pcrs` are of: 0x000B SHA-256, 0x000C SHA-384.
    pub bank: u16,
    /// Values of exactly the registers that the quote selects.
    pub pcrs: BTreeMap<u8, Vec<u8>>,
    /// TPMT_PUBLIC of the AK.
    pub public: Vec<u8>,
}

impl TpmEvidence {
    /// The map of key 7 alone, for evidence in a certificate.
    pub fn encode(&self) -> Vec<u8> {
        let mut e = Encoder::new();
        self.encode_to(&mut e);
        e.finish()
    }

    pub fn parse(bytes: &[u8]) -> Result<Self, CborError> {
        let mut d = Decoder::new(bytes);
        let evidence = TpmEvidence::read(&mut d)?;
        d.finish()?;
        Ok(evidence)
    }

    pub(super) fn encode_to(&self, e: &mut Encoder) {
        e.map(5).uint(1).bytes(&self.attest).uint(2).bytes(&self.signature).uint(3).uint(self.bank.into());
        e.uint(4).map(self.pcrs.len());
        for (index, value) in &self.pcrs {
            e.uint((*index).into()).bytes(value);
        }
        e.uint(5).bytes(&self.public);
    }

    pub(super) fn read(d: &mut Decoder<'_>) -> Result<Self, CborError> {
        const WHAT: &str = "TPM evidence";
        let (mut attest, mut signature, mut bank, mut public) = (None, None, None, None);
        let mut pcrs = BTreeMap::new();
        d.map(WHAT, 5, |d, key| {
            match key {
                1 => attest = Some(d.bytes("TPMS_ATTEST", MAX_TPM_STRUCTURE)?.to_vec()),
                2 => signature = Some(d.bytes("TPMT_SIGNATURE", MAX_TPM_STRUCTURE)?.to_vec()),
                3 => {
                    let value = d.uint()?;
                    bank = Some(u16::try_from(value).map_err(|_| CborError::Value { what: "PCR bank", value })?);
                }
                4 => {
                    d.map("PCR values", MAX_PCRS, |d, index| {
                        let value = d.bytes("PCR value", MAX_PCR_VALUE)?.to_vec();
                        match u8::try_from(index) {
                            Ok(register) if usize::from(register) < MAX_PCRS => pcrs.insert(register, value),
                            _ => return Err(CborError::Value { what: "PCR", value: index }),
                        };
                        Ok(())
                    })?;
                }
                5 => public = Some(d.bytes("TPMT_PUBLIC", MAX_TPM_STRUCTURE)?.to_vec()),
                key => return Err(CborError::UnknownKey { what: WHAT, key }),
            }
            Ok(())
        })?;
        let missing = |key| CborError::MissingKey { what: WHAT, key };
        if pcrs.is_empty() {
            return Err(missing(4));
        }
        Ok(TpmEvidence {
            attest: attest.ok_or(missing(1))?,
            signature: signature.ok_or(missing(2))?,
            bank: bank.ok_or(missing(3))?,
            pcrs,
            public: public.ok_or(missing(5))?,
        })
    }
}
