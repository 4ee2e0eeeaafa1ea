//! Certificates for the attestation keys of Azure's vTPMs.
//!
//! Two hierarchies are in use side by side under one root: leaf ← `Global Virtual TPM CA - NN` ← root, and leaf ←
//! `Azure Cloud Virtual TPM CA - NN` ← `Azure Cloud Virtual TPM CA 2025` ← root. Leaves of the first name no place to fetch
//! their issuer from, so the issuer in use comes with this program; it is no root and is verified as any other.
//!
//! The subject says whether the VM is confidential. Of a Trusted Launch VM the host has the vTPM, and its certificate is as
//! genuine; the suffix alone tells them apart. How the twelve digits relate to vmUniqueId is not documented.

use super::ak::{AkError, AkIdentity, Given, Kind, VerifiedAk, keys, verify};
use super::authority::Place;
use super::certificate::Certificate;
use super::key::PublicKey;
use super::path::{Pool, Rules};
use super::roots::TrustAnchors;
use formats::time::UnixTime;

/// `Global Virtual TPM CA - 03`, 2025-04-24 to 2027-04-24.
const GLOBAL_CA_03: &[u8] = include_bytes!("roots/azure-vtpm-ca-03.der");

/// tcg-kp-AIKCertificate.
const AIK_CERTIFICATE: &[u8] = &[0x67, 0x81, 0x05, 0x08, 0x03];
const AIK_CERTIFICATE_TEXT: &str = "2.23.133.8.3";

/// Ends of the subject: since 2025, and from 2023 to 2025. Evidence that was kept from then verifies at its date.
const DOMAINS: [&str; 2] = [".Azure.windows.net", ".Azure.Microsoft"];
const CONFIDENTIAL: &str = "ConfidentialVM";
const TRUSTED_LAUNCH: &str = "TrustedVM";

const KIND: Kind = Kind {
    provider: "Azure",
    rules: Rules { place: Place::AzureVtpm, use_of_cas: Some((AIK_CERTIFICATE, AIK_CERTIFICATE_TEXT)) },
    critical: &[],
    is_leaf: |certificate| without_domain(certificate.subject_cn()).is_some(),
    read,
};

/// The VM that an AK is of, as its certificate names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AzureVm {
    /// Twelve hexadecimal digits, lower case.
    id: String,
}

impl AzureVm {
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// The certificate for `ak` among `certificates`, which may hold others and any order, verified up to Microsoft's root.
pub fn verify_azure_ak(
    certificates: &[&[u8]],
    crls: &[&[u8]],
    ak: &PublicKey,
    anchors: &TrustAnchors,
    now: UnixTime,
) -> Result<VerifiedAk, AkError> {
    verify(&KIND, &Given { certificates, crls, ak }, Some(GLOBAL_CA_03), anchors, now)
}

/// Keys that certificates of this hierarchy are for. Nothing is verified.
pub fn azure_ak_keys(certificates: &[&[u8]]) -> Result<Vec<PublicKey>, AkError> {
    let pool = Pool::parse(certificates, &[])?;
    Ok(keys(&pool, &KIND).collect())
}

fn read(leaf: &Certificate<'_>) -> Result<AkIdentity, AkError> {
    let name = leaf.subject_cn();
    let id = vm_id(name)?;
    let refused = |source| AkError::Certificate { label: leaf.label(), source };
    if leaf.extended_use(AIK_CERTIFICATE).map_err(refused)? != Some(true) {
        return Err(AkError::ExtendedUse { label: leaf.label(), wanted: AIK_CERTIFICATE_TEXT });
    }
    Ok(AkIdentity::Azure(AzureVm { id }))
}

fn without_domain(name: &str) -> Option<&str> {
    DOMAINS.iter().find_map(|domain| name.strip_suffix(domain))
}

/// `<12 hex>.ConfidentialVM` and one of the domains, exactly.
fn vm_id(name: &str) -> Result<String, AkError> {
    let other = || AkError::Subject { seen: name.to_owned() };
    let (id, kind) = without_domain(name).and_then(|host| host.split_once('.')).ok_or_else(other)?;
    if id.len() != 12 || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(other());
    }
    match kind {
        CONFIDENTIAL => Ok(id.to_ascii_lowercase()),
        TRUSTED_LAUNCH => Err(AkError::TrustedLaunch { seen: name.to_owned() }),
        _ => Err(other()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use formats::crypto::sha256;

    #[test]
    fn the_known_intermediate_is_the_published_one() {
        assert_eq!(
            sha256(&[GLOBAL_CA_03]).to_string(),
            "fd7c92dabce4dcec9feaa30f8b087ada0598413189182152b881f5564064a29c"
        );
    }

    #[test]
    fn plat_n33_only_the_subject_of_a_confidential_vm_will_do() {
        assert_eq!(vm_id("5dc2ba9ad190.ConfidentialVM.Azure.windows.net").as_deref(), Ok("5dc2ba9ad190"));
        assert_eq!(vm_id("5DC2BA9AD190.ConfidentialVM.Azure.Microsoft").as_deref(), Ok("5dc2ba9ad190"));
        for domain in DOMAINS {
            let trusted_launch = vm_id(&format!("5dc2ba9ad190.TrustedVM{domain}"));
            assert!(matches!(trusted_launch, Err(AkError::TrustedLaunch { .. })), "{domain}");
        }
        for other in [
            "5dc2ba9ad19.ConfidentialVM.Azure.windows.net",
            "5dc2ba9ad190a.ConfidentialVM.Azure.windows.net",
            "5dc2ba9ad19g.ConfidentialVM.Azure.windows.net",
            "a.5dc2ba9ad190.ConfidentialVM.Azure.windows.net",
            "5dc2ba9ad190.ConfidentialVM.x.Azure.windows.net",
            "5dc2ba9ad190.confidentialvm.Azure.windows.net",
            "5dc2ba9ad190.ConfidentialVM.Azure.windows.net.example",
            "5dc2ba9ad190.ConfidentialVM.Azure.Microsoft.example",
            "5dc2ba9ad190.ConfidentialVM.Azure.Microsoft.Azure.windows.net",
            "5dc2ba9ad190.ConfidentialVMxAzure.Microsoft",
            "5dc2ba9ad190.ConfidentialVM.Azure.microsoft",
            ".Azure.windows.net",
            "",
        ] {
            assert!(matches!(vm_id(other), Err(AkError::Subject { .. })), "{other}");
        }
    }
}
