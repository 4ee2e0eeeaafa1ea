//! TLS 1.3 exporters from the exporter master secret (RFC 8446 §7.5), available at the server's first flight.
//!
//! rustls answers `export_keying_material` on a server only after the client's Finished. The secret itself exists as soon
//! as the server's Finished is written, and rustls hands it to the connection's `KeyLog` then; from there on this object
//! computes the same values. It is wiped when it is dropped, which is as soon as no evidence of the connection is still due.

use crate::binding::bind32::Bind32;
use crate::crypto::SuiteHash;
use zeroize::Zeroizing;

/// Label of every binder exporter of `evident/1`.
pub const BIND_LABEL: &[u8] = b"EXPERIMENTAL evident bind 1";
/// Label of the connection's identifier, by which a control connection names it.
pub const ID_LABEL: &[u8] = b"EXPERIMENTAL evident id 1";

/// The exporter master secret of one connection. Neither printable nor clonable.
///
/// It lies behind a pointer from the start: moving this value leaves no copy behind, and dropping it wipes the only one.
pub struct ExporterSecret {
    hash: SuiteHash,
    secret: Zeroizing<Box<[u8]>>,
}

/// The secret has the length of neither hash of the TLS 1.3 suites.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an exporter secret has 32 or 48 bytes, not {0}")]
pub struct SecretLength(pub usize);

impl ExporterSecret {
    /// Takes the value that the TLS stack logged as `EXPORTER_SECRET` for this very connection.
    pub fn from_key_log(secret: &[u8]) -> Result<Self, SecretLength> {
        let hash = SuiteHash::from_length(secret.len()).ok_or(SecretLength(secret.len()))?;
        Ok(ExporterSecret { hash, secret: Zeroizing::new(secret.into()) })
    }

    /// `TLS-Exporter(label, context, 32)`.
    pub fn export(&self, label: &[u8], context: &[u8]) -> Zeroizing<[u8; 32]> {
        let mut derived = Zeroizing::new(vec![0; self.hash.length()]);
        self.hash.expand_label(&self.secret, label, Some(b""), &mut derived);
        let mut out = Zeroizing::new([0; 32]);
        self.hash.expand_label(&derived, b"exporter", Some(context), &mut out[..]);
        out
    }

    /// bind32 of a type-1 leaf. The context is empty, so that `openssl s_client -keymatexport` prints the same bytes.
    pub fn bind_initial(&self) -> Bind32 {
        Bind32::from_exporter(*self.export(BIND_LABEL, b""))
    }
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
