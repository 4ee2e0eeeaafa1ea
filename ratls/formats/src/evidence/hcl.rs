//! Azure's HCL report: an SNP report with the JSON whose hash stands in its REPORT_DATA, as NV index 0x01400001 holds them.
//!
//! The headers are not authenticated, and nothing is taken from them that is not bound: the hash algorithm by the rest of
//! REPORT_DATA being zero, the JSON's length by the hash. Hashed are the bytes received, never a JSON written anew. What the
//! JSON says is the paravisor's word, as good as the paravisor that the report measures.

use super::json::{Json, JsonError, Limits};
use crate::bytes::{ReadError, Reader};
use crate::crypto::constant_time_eq;
use crate::digest::bytes_type;
use crate::evidence::snp::Report;
use crate::evidence::tpm::Hash;

bytes_type!(
    /// What the guest wrote into NV index 0x01400002, and the paravisor into the JSON.
    UserData, 64);

/// "HCLA", little-endian.
const SIGNATURE: u32 = 0x414C_4348;
/// Largest content of the NV index (2,600 bytes are seen).
pub const MAX_HCL: usize = 4_096;
const REPORT_LEN: usize = 1_184;
/// Offset of the request data: header and report.
const REQUEST_DATA: usize = 32 + REPORT_LEN;
const TYPE_SNP: u32 = 2;
const TYPE_TDX: u32 = 4;
/// The blob bounds the bytes already. No object seen has more than 16 members.
const LIMITS: Limits = Limits { bytes: MAX_HCL, depth: 6, items: 64 };
const MODULUS: usize = 256;
/// e = 65,537 in base64url.
const EXPONENT: &str = "AQAB";

/// The blob, parsed and checked against itself. Whether the report is genuine is not said here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hcl {
    report: Vec<u8>,
    claims: Claims,
}

/// What the JSON says, as far as it is used. Unknown members are ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// Modulus of HCLAkPub, 2048 bit; its exponent is 65,537.
    pub ak_modulus: Vec<u8>,
    /// Modulus of HCLEkPub, where the paravisor gives it.
    pub ek_modulus: Option<Vec<u8>>,
    /// `None` where the paravisor is too old to take the guest's data: then no report of it can be fresh.
    pub user_data: Option<UserData>,
    pub configuration: Configuration,
}

/// `vm-configuration`: how the host's operator set the machine up.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Configuration {
    pub console_enabled: Option<bool>,
    /// Whether the serial console takes input as well; newer paravisors say so.
    pub interactive_console_enabled: Option<bool>,
    pub secure_boot: Option<bool>,
    pub tpm_enabled: Option<bool>,
    /// False: the TPM's seeds, and its keys with them, live until the next boot.
    pub tpm_persisted: Option<bool>,
    pub vm_unique_id: Option<String>,
    /// The paravisor's clock in Unix seconds: a hint, and never freshness.
    pub current_time: Option<u64>,
}

/// Why bytes are no HCL report of an SNP guest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HclError {
    #[error("the HCL report has {seen} bytes, at most {MAX_HCL} are read")]
    TooLong { seen: usize },
    #[error("the HCL report does not parse: {0}")]
    Read(#[from] ReadError),
    #[error("the HCL report begins with {seen:#010x}, wanted \"HCLA\"")]
    Signature { seen: u32 },
    #[error("the HCL report is of version {0}, wanted 1 or 2")]
    Version(u32),
    #[error("the HCL report holds evidence of type {seen}{}, wanted {TYPE_SNP} (SNP)", if *.seen == TYPE_TDX { " (TDX)" } else { "" })]
    ReportType { seen: u32 },
    #[error("the runtime data's header is of version {0}, wanted 1 or 2")]
    DataVersion(u32),
    #[error("the runtime data's hash has number {0}, wanted 1 (SHA-256), 2 (SHA-384) or 3 (SHA-512)")]
    HashType(u32),
    #[error("the runtime data's header says {data_size} bytes with a JSON of {json}")]
    Sizes { data_size: u32, json: u32 },
    #[error("REPORT_DATA is not the hash of the runtime data and zeros: the JSON is not what the paravisor hashed")]
    NotHashed,
    #[error("the report in the HCL report does not parse: {0}")]
    Report(#[from] crate::evidence::snp::ReportError),
    #[error(transparent)]
    Json(#[from] JsonError),
    #[error("the runtime data's {0} is not what it should be")]
    Member(&'static str),
    #[error("the runtime data names key {0:?} twice")]
    Duplicate(String),
    #[error("the runtime data has no key HCLAkPub")]
    NoAk,
    #[error("key {kid:?} is not RSA of 2048 bit with exponent 65537")]
    Key { kid: String },
}

impl Hcl {
    /// Parses the content of the NV index; what follows the JSON is the index's padding.
    pub fn parse(blob: &[u8]) -> Result<Self, HclError> {
        if blob.len() > MAX_HCL {
            return Err(HclError::TooLong { seen: blob.len() });
        }
        let mut r = Reader::new(blob);
        match r.u32_le()? {
            SIGNATURE => {}
            seen => return Err(HclError::Signature { seen }),
        }
        match r.u32_le()? {
            1 | 2 => {}
            version => return Err(HclError::Version(version)),
        }
        // Size, request type, status: documents and evidence disagree about the size, and nothing depends on the others.
        r.take(24)?;
        let report = r.take(REPORT_LEN)?;
        debug_assert_eq!(r.offset(), REQUEST_DATA);
        let (hash, json) = runtime_data(&mut r)?;
        let parsed = Report::parse(report)?;
        hashed(parsed.report_data().as_bytes(), hash, json)?;
        Ok(Hcl { report: report.to_vec(), claims: Claims::parse(json)? })
    }

    /// The SNP report as the firmware signed it.
    pub fn report(&self) -> &[u8] {
        &self.report
    }
    pub fn claims(&self) -> &Claims {
        &self.claims
    }
    pub fn into_claims(self) -> Claims {
        self.claims
    }
}

/// The request data's header, and the JSON that it says.
fn runtime_data<'a>(r: &mut Reader<'a>) -> Result<(Hash, &'a [u8]), HclError> {
    let data_size = r.u32_le()?;
    let version = r.u32_le()?;
    match r.u32_le()? {
        TYPE_SNP => {}
        seen => return Err(HclError::ReportType { seen }),
    }
    let hash = match r.u32_le()? {
        1 => Hash::Sha256,
        2 => Hash::Sha384,
        3 => Hash::Sha512,
        other => return Err(HclError::HashType(other)),
    };
    let json = r.u32_le()?;
    let header = match version {
        1 => 20u32,
        // Unverified: OpenHCL's source has a capability bitmap here in version 2. No public evidence shows one.
        2 => {
            r.take(4)?;
            24
        }
        other => return Err(HclError::DataVersion(other)),
    };
    if json.checked_add(header) != Some(data_size) {
        return Err(HclError::Sizes { data_size, json });
    }
    let length = usize::try_from(json).map_err(|_| HclError::Sizes { data_size, json })?;
    Ok((hash, r.take(length)?))
}

/// REPORT_DATA is the hash and zeros, whatever the header says: with another hash_type one of both does not hold (N45).
fn hashed(report_data: &[u8; 64], hash: Hash, json: &[u8]) -> Result<(), HclError> {
    let mut wanted = hash.digest(&[json]);
    wanted.resize(64, 0);
    if constant_time_eq(report_data, &wanted) { Ok(()) } else { Err(HclError::NotHashed) }
}

impl Claims {
    /// Parses the JSON alone. Keys are found by `kid`, never by place.
    pub fn parse(json: &[u8]) -> Result<Self, HclError> {
        let json = Json::parse(json, LIMITS)?;
        let (mut ak, mut ek, mut kids) = (None, None, std::collections::BTreeSet::new());
        for key in json.member("keys").and_then(Json::list).ok_or(HclError::Member("list of keys"))? {
            let kid = key.member("kid").and_then(Json::text).ok_or(HclError::Member("kid"))?;
            if !kids.insert(kid) {
                return Err(HclError::Duplicate(kid.to_owned()));
            }
            match kid {
                "HCLAkPub" => ak = Some(modulus(kid, key)?),
                "HCLEkPub" => ek = Some(modulus(kid, key)?),
                _ => {}
            }
        }
        Ok(Claims {
            ak_modulus: ak.ok_or(HclError::NoAk)?,
            ek_modulus: ek,
            user_data: json.member("user-data").map(user_data).transpose()?,
            configuration: json
                .member("vm-configuration")
                .map(configuration)
                .transpose()?
                .unwrap_or_else(Configuration::unsaid),
        })
    }
}

impl Configuration {
    fn unsaid() -> Self {
        Configuration {
            console_enabled: None,
            interactive_console_enabled: None,
            secure_boot: None,
            tpm_enabled: None,
            tpm_persisted: None,
            vm_unique_id: None,
            current_time: None,
        }
    }
}

fn modulus(kid: &str, key: &Json) -> Result<Vec<u8>, HclError> {
    let refused = || HclError::Key { kid: kid.to_owned() };
    let text = |name| key.member(name).and_then(Json::text).ok_or_else(refused);
    if text("kty")? != "RSA" || text("e")? != EXPONENT {
        return Err(refused());
    }
    // An OpenHCL that failed to make the key wrote zeros; of 2048 bit the highest is set.
    base64url(text("n")?)
        .filter(|n| n.len() == MODULUS && n.first().is_some_and(|first| first & 0x80 != 0))
        .ok_or_else(refused)
}

fn user_data(value: &Json) -> Result<UserData, HclError> {
    value.text().and_then(|text| UserData::from_hex(text).ok()).ok_or(HclError::Member("user-data"))
}

fn configuration(json: &Json) -> Result<Configuration, HclError> {
    let Json::Object(_) = json else { return Err(HclError::Member("vm-configuration")) };
    let flag = |name: &'static str| match json.member(name) {
        None => Ok(None),
        Some(value) => value.bool().map(Some).ok_or(HclError::Member(name)),
    };
    Ok(Configuration {
        console_enabled: flag("console-enabled")?,
        interactive_console_enabled: flag("interactive-console-enabled")?,
        secure_boot: flag("secure-boot")?,
        tpm_enabled: flag("tpm-enabled")?,
        tpm_persisted: flag("tpm-persisted")?,
        vm_unique_id: match json.member("vmUniqueId") {
            None => None,
            Some(value) => Some(value.text().ok_or(HclError::Member("vmUniqueId"))?.to_owned()),
        },
        current_time: json.member("current-time").and_then(Json::unsigned),
    })
}

/// RFC 4648, section 5, without padding, and with unused bits zero: one spelling for each value.
fn base64url(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut have) = (0u32, 0);
    for character in text.bytes() {
        let value = match character {
            b'A'..=b'Z' => character - b'A',
            b'a'..=b'z' => character - b'a' + 26,
            b'0'..=b'9' => character - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        have += 6;
        if have >= 8 {
            have -= 8;
            let [.., byte] = (bits >> have).to_be_bytes();
            bytes.push(byte);
            bits &= (1 << have) - 1;
        }
    }
    (bits == 0 && have < 6).then_some(bytes)
}
