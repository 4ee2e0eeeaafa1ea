//! Certificates for the attestation keys of Google's vTPMs.
//!
//! Two hierarchies: leaf ← `EK/AK CA Intermediate` (several of this one name) ← `EK/AK CA Root`, and the older one under
//! `tpm_ek_v1_cloud_host_root`, whose leaves have no subject and name the vTPM's maker in a critical alternative name. In both
//! an extension names the instance. A leaf of the new one names it in its subject as well, and the two must agree.
//!
//! A vTPM that is not a production one proves nothing: its keys may be known to people. `tpmDataAlwaysEncrypted` and the three
//! fields behind it are handed on as they are; what Google means by them is not documented.

use super::ak::{AkError, AkIdentity, Given, Kind, VerifiedAk, keys, verify};
use super::authority::Place;
use super::certificate::{Certificate, SUBJECT_ALT_NAME};
use super::der::{self, DerError, OBJECT_IDENTIFIER, SEQUENCE, SET, UTF8_STRING};
use super::key::PublicKey;
use super::path::{Pool, Rules};
use super::roots::TrustAnchors;
use formats::bytes::Reader;
use formats::time::UnixTime;

/// 1.3.6.1.4.1.11129.2.1.21.
const INSTANCE: &[u8] = &[0x2B, 0x06, 0x01, 0x04, 0x01, 0xD6, 0x79, 0x02, 0x01, 0x15];
/// tcg-kp-EKCertificate, which Google's CAs and the older leaves have although the leaf is an AK's.
const EK_CERTIFICATE: &[u8] = &[0x67, 0x81, 0x05, 0x08, 0x01];
const EK_CERTIFICATE_TEXT: &str = "2.23.133.8.1";
const AIK_CERTIFICATE: &[u8] = &[0x67, 0x81, 0x05, 0x08, 0x03];
/// at-tpmManufacturer of the TCG, and the vendor id "GOOG" in it.
const TPM_MANUFACTURER: &[u8] = &[0x67, 0x81, 0x05, 0x02, 0x01];
const GOOGLE: &[u8] = b"id:474F4F47";

const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const LOCALITY: &[u8] = &[0x55, 0x04, 0x07];
const ORGANIZATIONAL_UNIT: &[u8] = &[0x55, 0x04, 0x0B];

/// Context tags of EXPLICIT fields.
const EXPLICIT: [u8; 6] = [0xA0, 0xA1, 0xA2, 0xA3, 0xA4, 0xA5];
/// directoryName of a GeneralName.
const DIRECTORY_NAME: u8 = 0xA4;

/// Zone names have about 20 characters, instance names at most 63, project ids with a domain about 60.
const MAX_TEXT: usize = 255;

const KIND: Kind = Kind {
    provider: "Google Compute Engine",
    rules: Rules { place: Place::GceVtpm, use_of_cas: Some((EK_CERTIFICATE, EK_CERTIFICATE_TEXT)) },
    critical: &[SUBJECT_ALT_NAME],
    is_leaf: |certificate| certificate.extension(INSTANCE).is_some(),
    read,
};

/// The instance that an AK is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GceInstance {
    zone: String,
    project_number: u64,
    project_id: String,
    instance_id: u64,
    instance_name: String,
    security: SecurityProperties,
}

/// What the certificate says of the vTPM; what is left out is zero or false.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SecurityProperties {
    pub security_version: u64,
    pub is_production: bool,
    pub tpm_data_always_encrypted: bool,
    pub suspend_resume_always_disabled: bool,
    pub vmtd_always_disabled: bool,
    pub always_in_yarn: bool,
}

impl GceInstance {
    pub fn zone(&self) -> &str {
        &self.zone
    }
    pub fn project_number(&self) -> u64 {
        self.project_number
    }
    pub fn project_id(&self) -> &str {
        &self.project_id
    }
    pub fn instance_id(&self) -> u64 {
        self.instance_id
    }
    pub fn instance_name(&self) -> &str {
        &self.instance_name
    }
    pub fn security(&self) -> &SecurityProperties {
        &self.security
    }
}

/// The certificate for `ak` among `certificates`, which may hold others and any order, verified up to one of Google's roots.
pub fn verify_gce_ak(
    certificates: &[&[u8]],
    crls: &[&[u8]],
    ak: &PublicKey,
    anchors: &TrustAnchors,
    now: UnixTime,
) -> Result<VerifiedAk, AkError> {
    verify(&KIND, &Given { certificates, crls, ak }, None, anchors, now)
}

/// Keys that certificates of this hierarchy are for. Nothing is verified.
pub fn gce_ak_keys(certificates: &[&[u8]]) -> Result<Vec<PublicKey>, AkError> {
    let pool = Pool::parse(certificates, &[])?;
    Ok(keys(&pool, &KIND).collect())
}

fn read(leaf: &Certificate<'_>) -> Result<AkIdentity, AkError> {
    let refused = |source| AkError::Certificate { label: leaf.label(), source };
    let as_ek = leaf.extended_use(EK_CERTIFICATE).map_err(refused)?;
    if as_ek == Some(false) && leaf.extended_use(AIK_CERTIFICATE).map_err(refused)? != Some(true) {
        return Err(AkError::ExtendedUse { label: leaf.label(), wanted: EK_CERTIFICATE_TEXT });
    }
    let value = leaf.extension(INSTANCE).ok_or(AkError::Extension { field: "all" })?;
    let instance = instance(value)?;
    subject(leaf, &instance)?;
    if !instance.security.is_production {
        return Err(AkError::NotProduction { label: format!("{}/{}", instance.project_id, instance.instance_name) });
    }
    Ok(AkIdentity::Gce(instance))
}

/// An empty subject needs the alternative name (RFC 5280 §4.2.1.6), and where there is one it is looked at.
fn subject(leaf: &Certificate<'_>, instance: &GceInstance) -> Result<(), AkError> {
    match leaf.extension(SUBJECT_ALT_NAME) {
        Some(name) if is_vtpm_of_google(name).unwrap_or(false) => {}
        Some(_) => return Err(AkError::AltName),
        None if leaf.subject_is_empty() => return Err(AkError::AltName),
        None => {}
    }
    if leaf.subject_is_empty() {
        return Ok(());
    }
    for (field, oid, wanted) in [
        ("zone", LOCALITY, instance.zone.clone()),
        ("project", ORGANIZATIONAL_UNIT, instance.project_id.clone()),
        ("instance", COMMON_NAME, instance.instance_id.to_string()),
    ] {
        let seen = leaf.subject_attribute(oid).unwrap_or_default();
        if seen != wanted {
            return Err(AkError::Disagree { field, seen: seen.to_owned(), wanted });
        }
    }
    Ok(())
}

/// GeneralNames with exactly one directoryName that names the maker once, as Google.
fn is_vtpm_of_google(names: &[u8]) -> Result<bool, DerError> {
    let mut names = Reader::new(der::only(names, SEQUENCE)?);
    let mut name = Reader::new(der::only(der::element(&mut names, DIRECTORY_NAME)?.contents, SEQUENCE)?);
    names.finish()?;
    let mut makers = 0;
    let mut google = false;
    while name.left() > 0 {
        let mut set = Reader::new(der::element(&mut name, SET)?.contents);
        while set.left() > 0 {
            let mut attribute = Reader::new(der::element(&mut set, SEQUENCE)?.contents);
            let oid = der::element(&mut attribute, OBJECT_IDENTIFIER)?.contents;
            let value = der::any(&mut attribute)?.contents;
            attribute.finish()?;
            if oid == TPM_MANUFACTURER {
                makers += 1;
                google = value == GOOGLE;
            }
        }
    }
    Ok(makers == 1 && google)
}

/// Fields that come after the known ones are let pass, because Google says that there may be more.
fn instance(value: &[u8]) -> Result<GceInstance, AkError> {
    let malformed = |field| move |_| AkError::Extension { field };
    let mut fields = Reader::new(der::only(value, SEQUENCE).map_err(malformed("all"))?);
    let zone = text(&mut fields, "zone")?;
    let project_number = number(&mut fields, "projectNumber")?;
    let project_id = text(&mut fields, "projectId")?;
    let instance_id = number(&mut fields, "instanceId")?;
    let instance_name = text(&mut fields, "instanceName")?;
    let mut security = SecurityProperties::default();
    if der::next_tag(&fields) == Some(EXPLICIT[0]) {
        let inner = der::element(&mut fields, EXPLICIT[0]).map_err(malformed("securityProperties"))?.contents;
        security = security_properties(inner).map_err(malformed("securityProperties"))?;
    }
    rest(fields).map_err(malformed("all"))?;
    Ok(GceInstance { zone, project_number, project_id, instance_id, instance_name, security })
}

fn security_properties(explicit: &[u8]) -> Result<SecurityProperties, DerError> {
    let mut fields = Reader::new(der::only(explicit, SEQUENCE)?);
    let mut found = SecurityProperties::default();
    let [version, production, encrypted, suspend, vmtd, yarn] = EXPLICIT;
    if der::next_tag(&fields) == Some(version) {
        found.security_version = der::u64_integer(der::element(&mut fields, version)?.contents)?;
    }
    for (tag, field) in [
        (production, &mut found.is_production),
        (encrypted, &mut found.tpm_data_always_encrypted),
        (suspend, &mut found.suspend_resume_always_disabled),
        (vmtd, &mut found.vmtd_always_disabled),
        (yarn, &mut found.always_in_yarn),
    ] {
        if der::next_tag(&fields) == Some(tag) {
            *field = der::boolean(der::element(&mut fields, tag)?.contents)?;
        }
    }
    // A known field behind a later one would be read as left out: the order of a SEQUENCE is fixed.
    while let Some(tag) = der::next_tag(&fields) {
        if EXPLICIT.contains(&tag) {
            return Err(DerError::Tag { seen: tag, wanted: yarn });
        }
        der::any(&mut fields)?;
    }
    Ok(found)
}

fn text(fields: &mut Reader<'_>, field: &'static str) -> Result<String, AkError> {
    let malformed = || AkError::Extension { field };
    let bytes = der::element(fields, UTF8_STRING).map_err(|_| malformed())?.contents;
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.is_empty() && text.len() <= MAX_TEXT => Ok(text.to_owned()),
        _ => Err(malformed()),
    }
}

fn number(fields: &mut Reader<'_>, field: &'static str) -> Result<u64, AkError> {
    let malformed = |_| AkError::Extension { field };
    let raw = der::element(fields, der::INTEGER).map_err(malformed)?.raw;
    der::u64_integer(raw).map_err(malformed)
}

/// Elements that are not known here, as long as they are elements.
fn rest(mut fields: Reader<'_>) -> Result<(), DerError> {
    while fields.left() > 0 {
        der::any(&mut fields)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use der::{encoded, unsigned_integer};

    fn properties(fields: &[Vec<u8>]) -> Vec<u8> {
        encoded(0xA0, &encoded(SEQUENCE, &fields.concat()))
    }

    fn extension(instance_id: u64, tail: &[u8]) -> Vec<u8> {
        let fields = [
            encoded(UTF8_STRING, b"us-central1-a"),
            unsigned_integer(&[12]),
            encoded(UTF8_STRING, b"example.com:project"),
            unsigned_integer(&instance_id.to_be_bytes()),
            encoded(UTF8_STRING, b"name"),
            tail.to_vec(),
        ];
        encoded(SEQUENCE, &fields.concat())
    }

    fn flag(tag: u8, value: u8) -> Vec<u8> {
        encoded(tag, &encoded(der::BOOLEAN, &[value]))
    }

    #[test]
    fn instance_ids_use_all_64_bits() {
        for id in [0, 1, i64::MAX as u64, u64::MAX] {
            assert_eq!(instance(&extension(id, &[])).unwrap().instance_id(), id);
        }
    }

    #[test]
    fn plat_n52_what_is_left_out_is_not_production() {
        let read = |tail: &[u8]| instance(&extension(1, tail)).map(|i| i.security);
        assert_eq!(read(&[]), Ok(SecurityProperties::default()));
        assert_eq!(read(&properties(&[])), Ok(SecurityProperties::default()));
        assert!(!read(&properties(&[flag(0xA1, 0)])).unwrap().is_production);
        let all = [encoded(0xA0, &unsigned_integer(&[7])), flag(0xA1, 255), flag(0xA2, 255), flag(0xA5, 255)];
        let seen = read(&properties(&all)).unwrap();
        assert_eq!((seen.security_version, seen.is_production, seen.tpm_data_always_encrypted), (7, true, true));
        assert_eq!(
            (seen.suspend_resume_always_disabled, seen.vmtd_always_disabled, seen.always_in_yarn),
            (false, false, true)
        );
    }

    #[test]
    fn later_fields_pass_and_disorder_does_not() {
        let more = [flag(0xA1, 255), flag(0xA6, 255)];
        let tail = [properties(&more), encoded(0xA1, &[5, 0])].concat();
        assert!(instance(&extension(1, &tail)).unwrap().security.is_production);
        let malformed = Err(AkError::Extension { field: "securityProperties" });
        let read = |fields: &[Vec<u8>]| instance(&extension(1, &properties(fields)));
        assert_eq!(read(&[flag(0xA2, 255), flag(0xA1, 255)]), malformed, "out of order");
        assert_eq!(read(&[flag(0xA1, 255), flag(0xA1, 0)]), malformed, "twice");
        assert_eq!(read(&[flag(0xA1, 1)]), malformed, "no DER");
        let whole = extension(1, &properties(&[flag(0xA1, 255)]));
        for len in 0..whole.len() {
            assert!(instance(&whole[..len]).is_err(), "{len}");
        }
        assert!(instance(&[&whole[..], &[0]].concat()).is_err());
    }
}
