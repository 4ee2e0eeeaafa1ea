//! TLS 1.3 exporters from the exporter master secret (RFC 8446 §7.5), available at the server's first flight.
//!
//! rustls answers `export_keying_material` on a server only after the client's Finished. The secret itself exists as soon
//! as the server's Finished is written, and rustls hands it to the connection's `KeyLog` then; from there on this object
//! computes the same values. It is kept for the life of the connection and wiped at its end.

use crate::binding::bind32::Bind32;
use crate::crypto::{hmac_sha256, hmac_sha384, sha256, sha384};
use zeroize::Zeroizing;

/// Label of every binder exporter of `evident/1`.
pub const BIND_LABEL: &[u8] = b"EXPERIMENTAL evident bind 1";
/// Label of the connection's identifier, by which a control connection names it.
pub const ID_LABEL: &[u8] = b"EXPERIMENTAL evident id 1";

/// The exporter master secret of one connection. Neither printable nor clonable.
pub struct ExporterSecret(Secret);

enum Secret {
    Sha256(Zeroizing<[u8; 32]>),
    Sha384(Zeroizing<[u8; 48]>),
}

/// The secret has the length of neither hash of the TLS 1.3 suites.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an exporter secret has 32 or 48 bytes, not {0}")]
pub struct SecretLength(pub usize);

impl ExporterSecret {
    /// Takes the value that the TLS stack logged as `EXPORTER_SECRET` for this very connection.
    pub fn from_key_log(secret: &[u8]) -> Result<Self, SecretLength> {
        let secret = match secret.len() {
            32 => Secret::Sha256(Zeroizing::new(secret.try_into().expect("the length was checked"))),
            48 => Secret::Sha384(Zeroizing::new(secret.try_into().expect("the length was checked"))),
            other => return Err(SecretLength(other)),
        };
        Ok(ExporterSecret(secret))
    }

    /// `TLS-Exporter(label, context, 32)`.
    pub fn export(&self, label: &[u8], context: &[u8]) -> Zeroizing<[u8; 32]> {
        let mut out = Zeroizing::new([0; 32]);
        match &self.0 {
            Secret::Sha256(secret) => {
                let derived = hmac_sha256(&secret[..], &[&expand_info(32, label, sha256(&[]).as_bytes()), &[1]]);
                let context = sha256(&[context]);
                out.copy_from_slice(
                    &hmac_sha256(&derived[..], &[&expand_info(32, b"exporter", context.as_bytes()), &[1]])[..],
                );
            }
            Secret::Sha384(secret) => {
                let derived = hmac_sha384(&secret[..], &[&expand_info(48, label, sha384(&[]).as_bytes()), &[1]]);
                let context = sha384(&[context]);
                let block = hmac_sha384(&derived[..], &[&expand_info(32, b"exporter", context.as_bytes()), &[1]]);
                out.copy_from_slice(&block[..32]);
            }
        }
        out
    }

    /// bind32 of a type-1 leaf. The context is empty, so that `openssl s_client -keymatexport` prints the same bytes.
    pub fn bind_initial(&self) -> Bind32 {
        Bind32::from_exporter(*self.export(BIND_LABEL, b""))
    }
}

/// `HkdfLabel` of RFC 8446 §7.1: length, "tls13 " ‖ label, context. One HMAC block is enough for the lengths used here.
fn expand_info(length: u16, label: &[u8], context: &[u8]) -> Vec<u8> {
    let mut info = Vec::with_capacity(10 + label.len() + context.len());
    info.extend_from_slice(&length.to_be_bytes());
    info.push(u8::try_from(6 + label.len()).expect("labels are short constants"));
    info.extend_from_slice(b"tls13 ");
    info.extend_from_slice(label);
    info.push(u8::try_from(context.len()).expect("contexts are hashes"));
    info.extend_from_slice(context);
    info
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_a_secret_of_another_length() {
        assert_eq!(ExporterSecret::from_key_log(&[0; 33]).err(), Some(SecretLength(33)));
    }

    #[test]
    fn label_context_and_secret_all_matter() {
        let secret = ExporterSecret::from_key_log(&[7; 32]).unwrap();
        let one = secret.export(BIND_LABEL, b"");
        assert_ne!(one, secret.export(ID_LABEL, b""));
        assert_ne!(one, secret.export(BIND_LABEL, b"RE"));
        assert_ne!(one, ExporterSecret::from_key_log(&[8; 32]).unwrap().export(BIND_LABEL, b""));
        assert_ne!(one, ExporterSecret::from_key_log(&[7; 48]).unwrap().export(BIND_LABEL, b""));
    }
}
