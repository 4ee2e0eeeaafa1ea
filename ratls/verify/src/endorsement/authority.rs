//! Roots of the clouds: who vouches for a vTPM, for an attestation document, or for a firmware.
//!
//! A root is for one [`Place`] and counts nowhere else: that Microsoft runs a CA for the vTPMs of Azure says nothing about
//! documents of AWS. The place of a root that is built in stands beside it here; the place of a root in a simulator's file is
//! told by its common name, which is that of the real one, as with AMD's.

use super::certificate::{BASIC_CONSTRAINTS, Certificate, CertificateError, EXTENDED_KEY_USAGE, KEY_USAGE};
use super::key::PublicKey;
use super::signed::{Hierarchy, SignedError};
use formats::time::UnixTime;

pub(super) const AZURE_VTPM_2023: &[u8] = include_bytes!("roots/azure-vtpm-2023.der");
/// Of older machines. It vouches for other devices of Microsoft's too; the rules for an AK's certificate tell them apart.
pub(super) const MICROSOFT_DEVICES_2021: &[u8] = include_bytes!("roots/microsoft-devices-2021.der");
pub(super) const GCE_EK_AK: &[u8] = include_bytes!("roots/gce-ek-ak.der");
pub(super) const GCE_TPM_EK_V1: &[u8] = include_bytes!("roots/gce-tpm-ek-v1.der");
pub(super) const AWS_NITRO_G1: &[u8] = include_bytes!("roots/aws-nitro-g1.der");
/// <https://pki.goog/cloud_integrity/GCE-cc-tcb-root_1.crt>. Google publishes the file and no fingerprint; at least five
/// independent public projects pin the same bytes.
pub(super) const GCE_FIRMWARE_1: &[u8] = include_bytes!("roots/gce-cc-tcb-root-1.der");

/// What a root vouches for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// Attestation keys of Azure's vTPMs.
    AzureVtpm,
    /// Attestation keys of the vTPMs of Google Compute Engine.
    GceVtpm,
    /// Attestation documents of NitroTPM.
    NitroTpm,
    /// Endorsements of Google's firmware.
    GceFirmware,
}

impl Place {
    /// Where a simulator's root of this common name belongs.
    fn of_common_name(name: &str) -> Option<Place> {
        match name {
            "Azure Virtual TPM Root Certificate Authority 2023" => Some(Place::AzureVtpm),
            "EK/AK CA Root" => Some(Place::GceVtpm),
            "aws.nitro-enclaves" => Some(Place::NitroTpm),
            "GCE-cc-tcb-root" => Some(Place::GceFirmware),
            _ => None,
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Place::AzureVtpm => "vTPMs of Azure",
            Place::GceVtpm => "vTPMs of Google Compute Engine",
            Place::NitroTpm => "NitroTPM",
            Place::GceFirmware => "firmware of Google Compute Engine",
        })
    }
}

/// Why a certificate cannot be a root of a cloud.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    #[error("the root is refused")]
    Certificate(#[from] CertificateError),
    #[error("the root is not signed by itself")]
    SelfSigned(#[from] SignedError),
}

/// One root.
#[derive(Clone, Debug)]
pub(super) struct Authority {
    pub(super) place: Place,
    pub(super) simulated: bool,
    pub(super) label: String,
    /// The whole name, for comparison.
    pub(super) subject: Vec<u8>,
    pub(super) key: PublicKey,
    pub(super) key_id: Option<Vec<u8>>,
    pub(super) may_sign_lists: bool,
    pub(super) max_below: Option<u32>,
    pub(super) not_before: UnixTime,
    pub(super) not_after: UnixTime,
}

impl Authority {
    pub(super) fn parse(der: &[u8], place: Place, simulated: bool) -> Result<Self, AuthorityError> {
        let certificate = Certificate::parse(der)?;
        certificate.only_critical(&[BASIC_CONSTRAINTS, KEY_USAGE, EXTENDED_KEY_USAGE])?;
        let key = certificate.ca_key()?;
        certificate.verify_signature(&key, Hierarchy::Cloud)?;
        Ok(Authority {
            place,
            simulated,
            label: certificate.label(),
            subject: certificate.subject().to_vec(),
            key,
            key_id: certificate.subject_key_id().map(<[u8]>::to_vec),
            may_sign_lists: certificate.may_sign_lists(),
            max_below: certificate.path_length(),
            not_before: certificate.not_before(),
            not_after: certificate.not_after(),
        })
    }

    /// A root out of a simulator's file, if its name is one of those that a cloud's root has.
    pub(super) fn simulated(der: &[u8], common_name: &str) -> Option<Result<Self, AuthorityError>> {
        Place::of_common_name(common_name).map(|place| Self::parse(der, place, true))
    }

    /// The built-in ones.
    pub(super) fn built_in() -> Vec<Self> {
        [
            (AZURE_VTPM_2023, Place::AzureVtpm),
            (MICROSOFT_DEVICES_2021, Place::AzureVtpm),
            (GCE_EK_AK, Place::GceVtpm),
            (GCE_TPM_EK_V1, Place::GceVtpm),
            (AWS_NITRO_G1, Place::NitroTpm),
            (GCE_FIRMWARE_1, Place::GceFirmware),
        ]
        .map(|(der, place)| Self::parse(der, place, false).expect("the clouds' roots parse"))
        .to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use formats::crypto::sha256;

    #[test]
    fn roots_are_the_ones_that_the_clouds_published() {
        let fingerprints =
            [AZURE_VTPM_2023, MICROSOFT_DEVICES_2021, GCE_EK_AK, GCE_TPM_EK_V1, AWS_NITRO_G1, GCE_FIRMWARE_1]
                .map(|der| sha256(&[der]).to_string());
        assert_eq!(
            fingerprints,
            [
                "e6c596b17f8ffefba5c300f714cfb1260c6028704ecf7becc4ab5018efb00e95",
                "8c2bb9144d4970c94fb8105cc5d860a58e2e675eb360fdd8c14b30833aaaec1d",
                "594759594b9b61524f6c8ef668f7177f7b9066bc0674f2f49fe9e052be78beb2",
                "9bd5285f8fb18502a7947e621ffd470266f49fcd3b73e19a190f690ad32a7caf",
                "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b",
                "e876bc6978bf4f3da445f98a0a82363c8c0bae5a1fc033c6df65846a6cb0f18c",
            ]
        );
        assert!(Authority::built_in().iter().all(|a| !a.simulated && a.may_sign_lists));
    }

    #[test]
    fn a_simulators_root_has_the_name_of_the_real_one() {
        for der in [AZURE_VTPM_2023, GCE_EK_AK, AWS_NITRO_G1, GCE_FIRMWARE_1] {
            let name = Certificate::parse(der).unwrap().subject_cn().to_owned();
            let found = Authority::simulated(der, &name).unwrap().unwrap();
            assert!(found.simulated);
            assert!(Authority::built_in().iter().any(|a| a.place == found.place && a.key == found.key));
        }
        assert!(Authority::simulated(GCE_EK_AK, "EK/AK CA Intermediate").is_none());
    }
}
