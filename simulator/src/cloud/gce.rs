//! Google Compute Engine: AK templates and certificates in NV, and an endorsement of the firmware in the host's certificate table.
//!
//! Certificate extension: 1.3.6.1.4.1.11129.2.1.21 of google/go-tpm-tools; endorsement: google/gce-tcb-verifier.

use super::http::Page;
use super::{new_rsa, p256_point, rsa_modulus, rsa_of};
use crate::certificate::{self, Key, ORGANIZATION, Template, authority_name, name};
use crate::der;
use crate::pem;
use crate::pki::{Pki, RsaSize};
use crate::store::{StoreError, cloud_parts};
use crate::tpm::command::{Channel, ENDORSEMENT, TpmError};
use crate::tpm::objects::{self, template};
use crate::x509::Validity;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::RSA_PSS_SHA256;
use ratls::crypto;
use ratls::evidence::snp::Measurement;
use std::path::Path;

pub const RSA_CERTIFICATE_INDEX: u32 = 0x01C1_0000;
pub const RSA_TEMPLATE_INDEX: u32 = 0x01C1_0001;
pub const ECC_CERTIFICATE_INDEX: u32 = 0x01C1_0002;
pub const ECC_TEMPLATE_INDEX: u32 = 0x01C1_0003;
/// The entry of the certificate table that holds the endorsement.
pub const ENDORSEMENT_GUID: [u8; 16] = 0x9f41_16cd_c503_4f5a_8f6f_fb68_882f_4ce2_u128.to_be_bytes();

const ROOT: &str = "EK/AK CA Root";
const INTERMEDIATE: &str = "EK/AK CA Intermediate";
const FIRMWARE_ROOT: &str = "GCE-cc-tcb-root";
const EK_CERTIFICATE: &[u32] = &[2, 23, 133, 8, 1];
const INSTANCE: &[u32] = &[1, 3, 6, 1, 4, 1, 11129, 2, 1, 21];

/// Google's place: roots for vTPMs and for firmware, and what is below them.
pub struct Authorities {
    root_pem: String,
    root: Key,
    intermediate: Key,
    firmware_root: Key,
    firmware_signer: aws_lc_rs::rsa::KeyPair,
    firmware_certificate: Vec<u8>,
}

impl Authorities {
    /// Those that live in `dir`, made there if there are none.
    pub fn load_or_create(dir: &Path, pki: &Pki, size: RsaSize) -> Result<Self, StoreError> {
        let parts = cloud_parts(dir, pki, "gcp", || {
            let keys: Vec<Vec<u8>> = (0..4).map(|_| new_rsa(size)).collect();
            let root = |at, common_name: &str| {
                let key = rsa_of(&keys, at).map(Key::RsaSha256).expect("it was just made");
                let subject = authority_name(common_name);
                let der = certificate::authority(1, (&subject, &key), (&subject, &key), None, Vec::new());
                pem::encode("CERTIFICATE", &der)
            };
            let roots = [root(0, ROOT), root(2, FIRMWARE_ROOT)].concat().into_bytes();
            [vec![roots], keys].concat()
        })?;
        let malformed = || StoreError::Malformed { path: dir.join("gcp.keys") };
        let rsa = |at| rsa_of(&parts, at).ok_or_else(malformed);
        let root_pem = parts.first().map(|pem| String::from_utf8_lossy(pem).into_owned()).ok_or_else(malformed)?;
        let mut authorities = Authorities {
            root_pem,
            root: Key::RsaSha256(rsa(1)?),
            intermediate: Key::RsaSha256(rsa(2)?),
            firmware_root: Key::RsaSha256(rsa(3)?),
            firmware_signer: rsa(4)?,
            firmware_certificate: Vec::new(),
        };
        authorities.firmware_certificate = authorities.certify_firmware_signer(rsa(4)?);
        Ok(authorities)
    }

    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    pub fn intermediate(&self) -> Vec<u8> {
        let (root, subject) = (authority_name(ROOT), authority_name(INTERMEDIATE));
        let further = vec![certificate::extended_use(&[EK_CERTIFICATE])];
        certificate::authority(2, (&root, &self.root), (&subject, &self.intermediate), Some(0), further)
    }

    /// The certificate of an AK with this key, for this instance.
    pub fn ak_certificate(&self, instance: &Instance, spki: &[u8], base_url: &str) -> Vec<u8> {
        let issuer = authority_name(INTERMEDIATE);
        let id = instance.id.to_string();
        let subject = name(&[
            (&[2, 5, 4, 7], &instance.zone),
            (&[2, 5, 4, 10], ORGANIZATION),
            (&[2, 5, 4, 11], &instance.project_id),
            (&[2, 5, 4, 3], &id),
        ]);
        let extensions = vec![
            certificate::may_sign(),
            certificate::no_ca(),
            certificate::subject_key_id(spki),
            certificate::authority_key_id(&self.intermediate.spki()),
            certificate::issuer_at(&format!("{base_url}/gce/intermediate.crt")),
            certificate::extension(INSTANCE, false, &instance.extension()),
        ];
        let template =
            Template { serial: 0x5EED, issuer: &issuer, subject: &subject, validity: Validity::LONG, spki, extensions };
        certificate::issue(&template, &self.intermediate)
    }

    pub fn pages(&self) -> Vec<(String, Page)> {
        let page = Page { media_type: "application/pkix-cert", body: self.intermediate(), wanted: None };
        vec![("/gce/intermediate.crt".to_owned(), page)]
    }

    /// VMLaunchEndorsement of a firmware with these launch digests by number of vCPUs.
    pub fn endorsement(&self, firmware: &Firmware) -> Vec<u8> {
        let golden = firmware.golden(&self.firmware_certificate);
        let mut signature = vec![0; self.firmware_signer.public_modulus_len()];
        self.firmware_signer
            .sign(&RSA_PSS_SHA256, &SystemRandom::new(), &golden, &mut signature)
            .expect("an RSA key of 2048 bits or more signs");
        [proto::bytes(1, &golden), proto::bytes(2, &signature)].concat()
    }

    fn certify_firmware_signer(&self, signer: aws_lc_rs::rsa::KeyPair) -> Vec<u8> {
        let (issuer, subject) = (authority_name(FIRMWARE_ROOT), authority_name("GCE-uefi-signer"));
        let spki = Key::RsaSha256(signer).spki();
        let extensions = vec![
            certificate::may_sign(),
            certificate::no_ca(),
            certificate::subject_key_id(&spki),
            certificate::authority_key_id(&self.firmware_root.spki()),
        ];
        let template = Template {
            serial: 2,
            issuer: &issuer,
            subject: &subject,
            validity: Validity::LONG,
            spki: &spki,
            extensions,
        };
        certificate::issue(&template, &self.firmware_root)
    }
}

/// Who the instance is, by its AK's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    pub zone: String,
    pub project_number: u64,
    pub project_id: String,
    pub id: u64,
    pub name: String,
    pub production: bool,
}

impl Instance {
    pub fn new() -> Self {
        Instance {
            zone: "us-central1-a".to_owned(),
            project_number: 112_358,
            project_id: "evident-simulated".to_owned(),
            // Above what a signed number of 64 bits holds, as real ones may be.
            id: 0x8000_0000_0000_5EED,
            name: "simulated-1".to_owned(),
            production: true,
        }
    }

    fn extension(&self) -> Vec<u8> {
        let boolean = |value: bool| if value { der::boolean_true() } else { der::boolean_false() };
        let properties = der::sequence(&[
            &der::context(0, &der::integer(0)),
            &der::context(1, &boolean(self.production)),
            &der::context(2, &boolean(true)),
            &der::context(3, &boolean(false)),
            &der::context(4, &boolean(false)),
            &der::context(5, &boolean(false)),
        ]);
        der::sequence(&[
            &der::utf8_string(&self.zone),
            &der::integer(self.project_number),
            &der::utf8_string(&self.project_id),
            &der::integer(self.id),
            &der::utf8_string(&self.name),
            &der::context(0, &properties),
        ])
    }
}

impl Default for Instance {
    fn default() -> Self {
        Instance::new()
    }
}

/// What Google endorses of a firmware.
#[derive(Clone, Debug)]
pub struct Firmware {
    /// Seconds since 1970.
    pub timestamp: u64,
    pub svn: u32,
    pub policy: u64,
    /// Launch digests by number of vCPUs.
    pub measurements: Vec<(u32, Measurement)>,
}

impl Firmware {
    /// One that boots to this launch digest, whatever the number of vCPUs.
    pub fn of(measurement: Measurement) -> Self {
        Firmware {
            // 2026-01-01.
            timestamp: 1_767_225_600,
            svn: 1,
            policy: 0x3_0000,
            measurements: [1, 2, 4].map(|vcpus| (vcpus, measurement)).to_vec(),
        }
    }

    /// VMGoldenMeasurement.
    fn golden(&self, certificate: &[u8]) -> Vec<u8> {
        // family_id is GCE's own, image_id any.
        const FAMILY: [u8; 16] = 0xf73a_6949_e8f3_473b_9553_e40e_056f_a3a2_u128.to_be_bytes();
        let mut snp = proto::number(1, self.svn.into());
        for (vcpus, measurement) in &self.measurements {
            let entry = [proto::number(1, (*vcpus).into()), proto::bytes(2, measurement.as_bytes())].concat();
            snp.extend(proto::bytes(2, &entry));
        }
        snp.extend([proto::bytes(3, &FAMILY), proto::bytes(4, &[0x5E; 16]), proto::number(5, self.policy)].concat());
        [
            proto::bytes(1, &proto::number(1, self.timestamp)),
            proto::number(2, 0x5EED),
            proto::bytes(3, &[0x5E; 20]),
            proto::bytes(4, certificate),
            proto::bytes(5, crypto::sha384(&[b"simulated GCE firmware"]).as_bytes()),
            proto::bytes(7, &snp),
        ]
        .concat()
    }
}

/// Puts templates and certificates into the TPM.
pub fn provision(
    tpm: &mut dyn Channel,
    authorities: &Authorities,
    instance: &Instance,
    base_url: &str,
) -> Result<(), TpmError> {
    // What Google puts into `unique` chooses the key; here it is any number.
    let keys = [
        (RSA_TEMPLATE_INDEX, RSA_CERTIFICATE_INDEX, template::rsa_signing_unique(&[0x5E; 256])),
        (ECC_TEMPLATE_INDEX, ECC_CERTIFICATE_INDEX, template::ecc_signing(&[0x5E; 32])),
    ];
    for (template_index, certificate_index, template) in keys {
        let ak = objects::create_primary(tpm, ENDORSEMENT, &template)?;
        objects::flush(tpm, ak.handle)?;
        let spki = match template_index {
            RSA_TEMPLATE_INDEX => certificate::spki_modulus(&rsa_modulus(&ak.public)),
            _ => certificate::spki_ec(&p256_point(&ak.public)),
        };
        objects::provision_nv(tpm, template_index, &template)?;
        objects::provision_nv(tpm, certificate_index, &authorities.ak_certificate(instance, &spki, base_url))?;
    }
    Ok(())
}

/// Protocol Buffers, as far as the endorsement needs them: numbers and bytes.
mod proto {
    pub(super) fn number(field: u64, value: u64) -> Vec<u8> {
        [varint(field << 3), varint(value)].concat()
    }

    pub(super) fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
        let length = u64::try_from(value.len()).expect("an endorsement has kilobytes");
        [&varint(field << 3 | 2)[..], &varint(length), value].concat()
    }

    fn varint(mut value: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            let low = u8::try_from(value & 0x7F).expect("seven bits");
            value >>= 7;
            if value == 0 {
                bytes.push(low);
                return bytes;
            }
            bytes.push(low | 0x80);
        }
    }
}
