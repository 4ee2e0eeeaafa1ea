//! Google's endorsement of a firmware: bytes to claims (google/gce-tcb-verifier, proto/endorsement.proto).
//!
//! ```text
//! VMLaunchEndorsement { 1 serialized VMGoldenMeasurement, 2 signature over exactly these bytes }
//! VMGoldenMeasurement { 1 timestamp, 2 changelist, 4 certificate of the signer, 5 SHA-384 of the firmware, 7 VMSevSnp, … }
//! VMSevSnp            { 1 svn, 2 number of VMSAs → launch digest, 3 family, 4 image, 5 policy, 7 digest with an SVSM, … }
//! ```
//!
//! Nothing is verified here: who signed it is `verify::endorsement::gce_firmware`'s question. `ca_bundle` fields are the
//! sender's and are not read. Field 7 of VMSevSnp is known from descriptions only, and shown, not compared.

use std::collections::BTreeMap;

use super::protobuf::{ProtobufError, Value, fields};
use super::snp::Measurement;
use crate::digest::Sha384Digest;

/// Bytes of an endorsement.
pub const MAX_ENDORSEMENT: usize = 64 * 1024;
/// Numbers of VMSAs that are endorsed. Google lists 15.
const MAX_MEASUREMENTS: usize = 256;

/// Why bytes are not such an endorsement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GceEndorsementError {
    #[error("the endorsement has {seen} bytes, at most {MAX_ENDORSEMENT} are read")]
    TooLarge { seen: usize },
    #[error("the {message} is malformed")]
    Malformed { message: &'static str, source: ProtobufError },
    #[error("the {message} has no {field}")]
    Missing { message: &'static str, field: &'static str },
    #[error("the {message} has {field} twice")]
    Duplicate { message: &'static str, field: &'static str },
    #[error("{field} of the {message} has the wrong type or length")]
    Field { message: &'static str, field: &'static str },
    #[error("more than {MAX_MEASUREMENTS} measurements")]
    TooManyMeasurements,
}

/// An endorsement that was parsed, not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GceEndorsement {
    signed: Vec<u8>,
    signature: Vec<u8>,
    certificate: Vec<u8>,
    /// Seconds since 1970.
    timestamp: Option<i64>,
    changelist: u64,
    firmware: Sha384Digest,
    snp: Option<SnpGolden>,
}

/// What is endorsed for SEV-SNP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnpGolden {
    svn: u32,
    measurements: BTreeMap<u32, Measurement>,
    policy: u64,
    svsm_measurement: Option<Measurement>,
}

impl SnpGolden {
    /// Google's security version of the firmware.
    pub fn svn(&self) -> u32 {
        self.svn
    }
    /// For how many VMSAs (virtual CPUs) this launch digest is endorsed.
    pub fn vmsas_of(&self, measurement: &Measurement) -> Option<u32> {
        self.measurements.iter().find(|(_, endorsed)| *endorsed == measurement).map(|(vmsas, _)| *vmsas)
    }
    pub fn measurements(&self) -> &BTreeMap<u32, Measurement> {
        &self.measurements
    }
    /// Of the launch.
    pub fn policy(&self) -> u64 {
        self.policy
    }
    pub fn svsm_measurement(&self) -> Option<&Measurement> {
        self.svsm_measurement.as_ref()
    }
}

impl GceEndorsement {
    pub fn parse(bytes: &[u8]) -> Result<Self, GceEndorsementError> {
        if bytes.len() > MAX_ENDORSEMENT {
            return Err(GceEndorsementError::TooLarge { seen: bytes.len() });
        }
        let outer = Message::read("VMLaunchEndorsement", bytes)?;
        let signed = outer.bytes(1, "serialized_uefi_golden")?.ok_or(outer.missing("serialized_uefi_golden"))?;
        let signature = outer.bytes(2, "signature")?.ok_or(outer.missing("signature"))?;
        let golden = Message::read("VMGoldenMeasurement", signed)?;
        let firmware = golden.bytes(5, "digest")?.ok_or(golden.missing("digest"))?;
        let firmware = firmware.try_into().map_err(|_| golden.field("digest"))?;
        Ok(GceEndorsement {
            signed: signed.to_vec(),
            signature: signature.to_vec(),
            certificate: golden.bytes(4, "cert")?.ok_or(golden.missing("cert"))?.to_vec(),
            timestamp: golden.bytes(1, "timestamp")?.map(timestamp).transpose()?,
            changelist: golden.number(2, "cl_spec")?.unwrap_or(0),
            firmware: Sha384Digest::from_bytes(firmware),
            snp: golden.bytes(7, "sev_snp")?.map(snp).transpose()?,
        })
    }

    /// What was signed, as received.
    pub fn signed_bytes(&self) -> &[u8] {
        &self.signed
    }
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }
    /// DER of the signer's certificate.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }
    /// When Google made it, in seconds since 1970, if it says so.
    pub fn timestamp(&self) -> Option<i64> {
        self.timestamp
    }
    pub fn changelist(&self) -> u64 {
        self.changelist
    }
    /// SHA-384 of the firmware file.
    pub fn firmware(&self) -> &Sha384Digest {
        &self.firmware
    }
    pub fn snp(&self) -> Option<&SnpGolden> {
        self.snp.as_ref()
    }
}

/// google.protobuf.Timestamp: seconds, and nanoseconds that nobody needs.
fn timestamp(bytes: &[u8]) -> Result<i64, GceEndorsementError> {
    let message = Message::read("Timestamp", bytes)?;
    let seconds = message.number(1, "seconds")?.unwrap_or(0);
    i64::try_from(seconds).map_err(|_| message.field("seconds"))
}

fn snp(bytes: &[u8]) -> Result<SnpGolden, GceEndorsementError> {
    let message = Message::read("VMSevSnp", bytes)?;
    let mut measurements = BTreeMap::new();
    for (field, value) in &message.fields {
        if *field != 2 {
            continue;
        }
        let Value::Bytes(entry) = value else { return Err(message.field("measurements")) };
        if measurements.len() == MAX_MEASUREMENTS {
            return Err(GceEndorsementError::TooManyMeasurements);
        }
        let entry = Message::read("VMSevSnp.measurements", entry)?;
        let vmsas = u32::try_from(entry.number(1, "key")?.unwrap_or(0)).map_err(|_| entry.field("key"))?;
        let digest = measurement(&entry, 2, "value")?.ok_or(entry.missing("value"))?;
        if measurements.insert(vmsas, digest).is_some() {
            return Err(GceEndorsementError::Duplicate { message: message.name, field: "measurements" });
        }
    }
    Ok(SnpGolden {
        svn: u32::try_from(message.number(1, "svn")?.unwrap_or(0)).map_err(|_| message.field("svn"))?,
        measurements,
        policy: message.number(5, "policy")?.unwrap_or(0),
        svsm_measurement: svsm_measurement(&message),
    })
}

/// Unverified: seen in descriptions, not in evidence. Whatever does not look like a digest is passed over.
fn svsm_measurement(message: &Message<'_>) -> Option<Measurement> {
    measurement(message, 7, "svsm_measurement").ok().flatten()
}

fn measurement(
    message: &Message<'_>,
    number: u64,
    name: &'static str,
) -> Result<Option<Measurement>, GceEndorsementError> {
    let Some(bytes) = message.bytes(number, name)? else { return Ok(None) };
    Ok(Some(Measurement::from_bytes(bytes.try_into().map_err(|_| message.field(name))?)))
}

struct Message<'a> {
    name: &'static str,
    fields: Vec<(u64, Value<'a>)>,
}

impl<'a> Message<'a> {
    fn read(name: &'static str, bytes: &'a [u8]) -> Result<Self, GceEndorsementError> {
        let fields = fields(bytes).map_err(|source| GceEndorsementError::Malformed { message: name, source })?;
        Ok(Message { name, fields })
    }

    /// The format lets the last of several win; here one that matters stands once.
    fn one(&self, number: u64, field: &'static str) -> Result<Option<Value<'a>>, GceEndorsementError> {
        let mut found = self.fields.iter().filter(|(seen, _)| *seen == number);
        match (found.next(), found.next()) {
            (_, Some(_)) => Err(GceEndorsementError::Duplicate { message: self.name, field }),
            (one, None) => Ok(one.map(|(_, value)| *value)),
        }
    }

    fn bytes(&self, number: u64, field: &'static str) -> Result<Option<&'a [u8]>, GceEndorsementError> {
        match self.one(number, field)? {
            None => Ok(None),
            Some(Value::Bytes(bytes)) => Ok(Some(bytes)),
            Some(_) => Err(self.field(field)),
        }
    }

    fn number(&self, number: u64, field: &'static str) -> Result<Option<u64>, GceEndorsementError> {
        match self.one(number, field)? {
            None => Ok(None),
            Some(Value::Number(value)) => Ok(Some(value)),
            Some(_) => Err(self.field(field)),
        }
    }

    fn missing(&self, field: &'static str) -> GceEndorsementError {
        GceEndorsementError::Missing { message: self.name, field }
    }

    fn field(&self, field: &'static str) -> GceEndorsementError {
        GceEndorsementError::Field { message: self.name, field }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, contents: &[u8]) -> Vec<u8> {
        let len = u8::try_from(contents.len()).unwrap();
        assert!(len < 0x80 || number < 16);
        let length = if len < 0x80 { vec![len] } else { vec![0x80 | (len & 0x7F), len >> 7] };
        [vec![number << 3 | 2], length, contents.to_vec()].concat()
    }

    fn entry(vmsas: u8, digest: &[u8]) -> Vec<u8> {
        field(2, &[vec![0x08, vmsas], field(2, digest)].concat())
    }

    fn golden(snp: &[u8]) -> Vec<u8> {
        [field(1, &[0x08, 100]), vec![0x10, 7], field(4, b"cert"), field(5, &[5; 48]), field(7, snp)].concat()
    }

    fn endorsement(golden: &[u8]) -> Vec<u8> {
        [field(1, golden), field(2, b"signature")].concat()
    }

    #[test]
    fn every_field_is_read() {
        let snp = [vec![0x08, 3], entry(1, &[1; 48]), entry(2, &[2; 48]), vec![0x28, 9], field(15, b"later")].concat();
        let golden = golden(&snp);
        let seen = GceEndorsement::parse(&endorsement(&golden)).unwrap();
        assert_eq!(
            (seen.signed_bytes(), seen.signature(), seen.certificate()),
            (&golden[..], &b"signature"[..], &b"cert"[..])
        );
        assert_eq!((seen.timestamp(), seen.changelist()), (Some(100), 7));
        assert_eq!(seen.firmware().as_bytes(), &[5; 48]);
        let snp = seen.snp().unwrap();
        assert_eq!((snp.svn(), snp.policy(), snp.measurements().len()), (3, 9, 2));
        assert_eq!(snp.vmsas_of(&Measurement::from_bytes([2; 48])), Some(2));
        assert_eq!(snp.vmsas_of(&Measurement::from_bytes([3; 48])), None);
    }

    #[test]
    fn what_matters_stands_once_and_in_its_length() {
        let parse = |golden: &[u8]| GceEndorsement::parse(&endorsement(golden));
        let twice = [golden(&[]), field(5, &[6; 48])].concat();
        assert!(matches!(parse(&twice), Err(GceEndorsementError::Duplicate { field: "digest", .. })));
        let same_count = [entry(1, &[1; 48]), entry(1, &[2; 48])].concat();
        assert!(matches!(parse(&golden(&same_count)), Err(GceEndorsementError::Duplicate { .. })));
        assert!(matches!(parse(&golden(&entry(1, &[1; 47]))), Err(GceEndorsementError::Field { field: "value", .. })));
        assert!(matches!(parse(&field(4, b"cert")), Err(GceEndorsementError::Missing { field: "digest", .. })));
        assert!(matches!(parse(&[0x2D]), Err(GceEndorsementError::Malformed { .. })));
        let whole = endorsement(&golden(&entry(1, &[1; 48])));
        for len in 0..whole.len() {
            assert!(GceEndorsement::parse(&whole[..len]).is_err(), "{len}");
        }
    }
}
