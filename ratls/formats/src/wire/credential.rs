//! CRED and CRED_RESP: the round trip that proves a TPM's AK to live beside its EK (TPM 2.0 Library, Part 1, "Credential
//! Protection"; docs/protocol.md, "CRED").

use super::cbor::{CborError, Decoder, Encoder};
use super::limits::MAX_CREDENTIAL;
use crate::digest::bytes_type;

bytes_type!(
    /// From which both keys of a credential are derived. The caller encrypts it for the EK.
    Seed, 32);

bytes_type!(
    /// What the client hid in a CRED and wants back.
    CredentialSecret, 32);

/// The client's question: only the TPM with that EK, holding an AK of exactly that name, can open it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// Buffer of TPM2B_ID_OBJECT: integrity HMAC ‖ encrypted identity.
    pub id_object: Vec<u8>,
    /// Buffer of TPM2B_ENCRYPTED_SECRET.
    pub encrypted_secret: Vec<u8>,
}

/// The guest's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialResponse {
    pub secret: CredentialSecret,
}

impl Credential {
    pub fn parse(body: &[u8]) -> Result<Self, CborError> {
        const WHAT: &str = "CRED";
        let (mut id_object, mut encrypted_secret) = (None, None);
        let mut d = Decoder::new(body);
        d.map(WHAT, 16, |d, key| {
            match key {
                1 => id_object = Some(d.bytes("TPM2B_ID_OBJECT", MAX_CREDENTIAL)?.to_vec()),
                2 => encrypted_secret = Some(d.bytes("TPM2B_ENCRYPTED_SECRET", MAX_CREDENTIAL)?.to_vec()),
                64.. => d.skip()?,
                key => return Err(CborError::UnknownKey { what: WHAT, key }),
            }
            Ok(())
        })?;
        d.finish()?;
        let missing = |key| CborError::MissingKey { what: WHAT, key };
        Ok(Credential {
            id_object: id_object.ok_or(missing(1))?,
            encrypted_secret: encrypted_secret.ok_or(missing(2))?,
        })
    }

    pub fn encode(&self) -> Vec<u8> {
        Encoder::new().map(2).uint(1).bytes(&self.id_object).uint(2).bytes(&self.encrypted_secret).finish()
    }
}

impl CredentialResponse {
    pub fn parse(body: &[u8]) -> Result<Self, CborError> {
        const WHAT: &str = "CRED_RESP";
        let mut secret = None;
        let mut d = Decoder::new(body);
        d.map(WHAT, 16, |d, key| {
            match key {
                1 => secret = Some(CredentialSecret::from_bytes(d.array_of("secret")?)),
                64.. => d.skip()?,
                key => return Err(CborError::UnknownKey { what: WHAT, key }),
            }
            Ok(())
        })?;
        d.finish()?;
        Ok(CredentialResponse { secret: secret.ok_or(CborError::MissingKey { what: WHAT, key: 1 })? })
    }

    pub fn encode(&self) -> Vec<u8> {
        Encoder::new().map(1).uint(1).bytes(self.secret.as_bytes()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_come_back_as_they_went_and_refuse_anything_shorter() {
        let credential = Credential { id_object: vec![1; 68], encrypted_secret: vec![2; 256] };
        let body = credential.encode();
        assert_eq!(Credential::parse(&body), Ok(credential));
        let response = CredentialResponse { secret: CredentialSecret::from_bytes([7; 32]) };
        let answer = response.encode();
        assert_eq!(CredentialResponse::parse(&answer), Ok(response));
        assert!((0..body.len()).all(|end| Credential::parse(&body[..end]).is_err()));
        assert!((0..answer.len()).all(|end| CredentialResponse::parse(&answer[..end]).is_err()));
    }

    #[test]
    fn a_ciphertext_above_the_limit_is_refused() {
        let credential = Credential { id_object: vec![1], encrypted_secret: vec![2; MAX_CREDENTIAL + 1] };
        assert!(matches!(Credential::parse(&credential.encode()), Err(CborError::Limit { seen: 641, .. })));
    }
}
