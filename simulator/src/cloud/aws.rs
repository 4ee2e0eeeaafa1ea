//! AWS: a TPM that calls itself NitroTPM and answers the vendor command for an attestation document.
//!
//! Request, response and document: AWS, "NitroTPM attestation document". The guest writes a request into an NV index of 8 KiB, which swtpm cannot
//! have, so every index that the owner defines lives in the front.

use crate::cbor;
use crate::certificate::{self, Key, Template, authority_name, name};
use crate::pem;
use crate::pki::{Pki, random};
use crate::store::{StoreError, cloud_parts};
use crate::tpm::command::{
    Channel, Fields, GET_CAPABILITY, NV_DEFINE_SPACE, NV_READ, NV_READ_PUBLIC, NV_UNDEFINE_SPACE, NV_WRITE, OWNER,
    Seen, code, refusal, response_code, success,
};
use crate::tpm::front::Stand;
use crate::tpm::objects::{self, Bank};
use crate::tpm::virtual_nv::{NV_UNINITIALIZED, VirtualNv, WRITTEN, by_password};
use crate::x509::Validity;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
};
use ratls::time::UnixTime;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// The vendor command.
pub const ATTEST: u32 = 0x2000_0001;
/// "NitroTPM" in the two words of TPM_PT_VENDOR_STRING_1 and _2.
const VENDOR: [u32; 4] = [0x4E69_7472, 0x6F54_504D, 0, 0];
const VENDOR_STRING_1: u32 = 0x106;
/// Each of the three values of a request has at most so many bytes.
const MAX_VALUE: usize = 1024;
/// TPM_RC_AUTH_TYPE: only passwords are known here. TPM_RC_NV_RANGE, TPM_RC_NV_DEFINED, TPM_RC_SIZE.
const AUTH_TYPE: u32 = 0x124;
const NV_RANGE: u32 = 0x146;
const NV_DEFINED: u32 = 0x14C;
const MALFORMED: u32 = 0x095;

const ROOT: &str = "aws.nitro-enclaves";

/// AWS's place: the root of the Nitro PKI. What is below it lives for hours and is made for each document.
pub struct Authorities {
    root_pem: String,
    root_der: Vec<u8>,
    root: Key,
}

impl Authorities {
    /// The root that lives in `dir`, made there if there is none.
    pub fn load_or_create(dir: &Path, pki: &Pki) -> Result<Self, StoreError> {
        let parts = cloud_parts(dir, pki, "aws", || {
            let pkcs8 = new_p384();
            let key = p384(&pkcs8, &ECDSA_P384_SHA384_ASN1_SIGNING).map(Key::P384).expect("it was just made");
            let subject = authority_name(ROOT);
            let der = certificate::authority(1, (&subject, &key), (&subject, &key), None, Vec::new());
            vec![pem::encode("CERTIFICATE", &der).into_bytes(), pkcs8, der]
        })?;
        let malformed = || StoreError::Malformed { path: dir.join("aws.keys") };
        let [pem, pkcs8, der] = parts.as_slice() else { return Err(malformed()) };
        let root = p384(pkcs8, &ECDSA_P384_SHA384_ASN1_SIGNING).map(Key::P384).ok_or_else(malformed)?;
        Ok(Authorities { root_pem: String::from_utf8_lossy(pem).into_owned(), root_der: der.clone(), root })
    }

    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// A document over these PCRs and values, signed by a leaf that is valid three hours around `now`.
    pub fn document(&self, module: &str, pcrs: &[Vec<u8>], asked: &Asked, now_ms: u64) -> Vec<u8> {
        let Chain { leaf, bundle, signer } = self.chain(module, now_ms);
        let pcrs: Vec<_> = (0_u64..).zip(pcrs).map(|(n, value)| (cbor::unsigned(n), cbor::bytes(value))).collect();
        let bundle: Vec<_> = bundle.iter().map(|der| cbor::bytes(der)).collect();
        let payload = cbor::map(&[
            (cbor::text("module_id"), cbor::text(module)),
            (cbor::text("digest"), cbor::text("SHA384")),
            (cbor::text("timestamp"), cbor::unsigned(now_ms)),
            (cbor::text("nitrotpm_pcrs"), cbor::map(&pcrs)),
            (cbor::text("certificate"), cbor::bytes(&leaf)),
            (cbor::text("cabundle"), cbor::array(&bundle)),
            (cbor::text("public_key"), cbor::optional_bytes(asked.public_key.as_deref())),
            (cbor::text("user_data"), cbor::optional_bytes(asked.user_data.as_deref())),
            (cbor::text("nonce"), cbor::optional_bytes(asked.nonce.as_deref())),
        ]);
        // Algorithm −35: ES384.
        let protected = cbor::map(&[(cbor::unsigned(1), cbor::negative(34))]);
        let to_sign =
            cbor::array(&[cbor::text("Signature1"), cbor::bytes(&protected), cbor::bytes(&[]), cbor::bytes(&payload)]);
        let signature = signer.sign(&SystemRandom::new(), &to_sign).expect("a P-384 key signs");
        cbor::array(&[cbor::bytes(&protected), cbor::map(&[]), cbor::bytes(&payload), cbor::bytes(signature.as_ref())])
    }

    /// Root, regional, zonal, instance, leaf.
    fn chain(&self, module: &str, now_ms: u64) -> Chain {
        let now = i64::try_from(now_ms / 1000).unwrap_or(0);
        let hours = |before: i64, after: i64| Validity {
            not_before: UnixTime::from_secs(now - before * 3600),
            not_after: UnixTime::from_secs(now + after * 3600),
        };
        let region = "eu-west-1.aws.nitro-enclaves";
        let steps = [
            (format!("regional.{region}"), Some(2), hours(24, 20 * 24)),
            (format!("zonal.{region}"), Some(1), hours(24, 6 * 24)),
            (format!("{module}.{region}"), Some(0), hours(1, 24)),
            (format!("leaf.{module}.{region}"), None, hours(1, 2)),
        ];
        let mut bundle = vec![self.root_der.clone()];
        let (mut issuer, mut above) = (authority_name(ROOT), None);
        for (serial, (common_name, below, validity)) in (2..).zip(steps) {
            let pkcs8 = new_p384();
            let key = p384(&pkcs8, &ECDSA_P384_SHA384_ASN1_SIGNING).map(Key::P384).expect("it was just made");
            let subject = name(&[(&[2, 5, 4, 10], certificate::ORGANIZATION), (&[2, 5, 4, 3], &common_name)]);
            let spki = key.spki();
            let usage = match below {
                Some(below) => vec![certificate::ca(below), certificate::may_certify()],
                None => vec![certificate::no_ca(), certificate::may_sign()],
            };
            let template =
                Template { serial, issuer: &issuer, subject: &subject, validity, spki: &spki, extensions: usage };
            bundle.push(certificate::issue(&template, above.as_ref().unwrap_or(&self.root)));
            if below.is_none() {
                let signer = p384(&pkcs8, &ECDSA_P384_SHA384_FIXED_SIGNING).expect("it was just made");
                let leaf = bundle.pop().expect("it was just put there");
                return Chain { leaf, bundle, signer };
            }
            (issuer, above) = (subject, Some(key));
        }
        unreachable!("the last step has nothing below it")
    }
}

struct Chain {
    leaf: Vec<u8>,
    bundle: Vec<Vec<u8>>,
    signer: EcdsaKeyPair,
}

/// What a request asks to be in the document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    pub user_data: Option<Vec<u8>>,
    pub nonce: Option<Vec<u8>>,
    pub public_key: Option<Vec<u8>>,
}

impl Asked {
    /// `{"Attestation": {"user_data": …, "nonce": …, "public_key": …}}`.
    fn parse(request: &[u8]) -> Result<Asked, &'static str> {
        let request = cbor::read(request).ok_or("not CBOR")?;
        let attestation = request.get("Attestation").ok_or("no Attestation")?;
        let value = |name| match attestation.get(name) {
            Some(cbor::Value::Bytes(bytes)) if bytes.len() <= MAX_VALUE => Ok(Some(bytes.clone())),
            None | Some(cbor::Value::Null) => Ok(None),
            Some(_) => Err("a value is too long or no bytes"),
        };
        Ok(Asked { user_data: value("user_data")?, nonce: value("nonce")?, public_key: value("public_key")? })
    }
}

/// NitroTPM, as far as it is more than a TPM.
pub struct NitroTpm {
    authorities: Authorities,
    module: String,
    indexes: BTreeMap<u32, (VirtualNv, Option<Vec<u8>>)>,
}

impl NitroTpm {
    pub fn new(authorities: Authorities) -> Self {
        let module = format!("i-{}-tpm0000000000000000", hex::encode(random::<8>()));
        NitroTpm { authorities, module, indexes: BTreeMap::new() }
    }

    fn define(&mut self, command: &[u8]) -> Option<Vec<u8>> {
        let seen = Seen::of(command, 1)?;
        let mut fields = Fields::new(seen.parameters);
        let _password = fields.sized()?;
        let mut public = Fields::new(fields.sized()?);
        let (index, name_algorithm, attributes) = (public.u32()?, public.u16()?, public.u32()?);
        let _policy = public.sized()?;
        let size = public.u16()?;
        if self.indexes.contains_key(&index) {
            return Some(refusal(NV_DEFINED));
        }
        self.indexes.insert(index, (VirtualNv { index, name_algorithm, attributes, size }, None));
        Some(success(seen.sessions, &[]))
    }

    fn write(&mut self, command: &[u8]) -> Option<Vec<u8>> {
        let seen = Seen::of(command, 2)?;
        let (index, content) = self.indexes.get_mut(seen.handles.get(1)?)?;
        let mut fields = Fields::new(seen.parameters);
        let (bytes, offset) = (fields.sized()?, usize::from(fields.u16()?));
        let content = content.get_or_insert_with(|| vec![0xFF; index.size.into()]);
        let Some(place) = content.get_mut(offset..offset + bytes.len()) else { return Some(refusal(NV_RANGE)) };
        place.copy_from_slice(bytes);
        index.attributes |= WRITTEN;
        Some(success(seen.sessions, &[]))
    }

    fn attest(&mut self, command: &[u8], tpm: &mut dyn Channel) -> Option<Vec<u8>> {
        let seen = Seen::of(command, 2)?;
        let [index, same] = seen.handles.as_slice() else { return None };
        if index != same || seen.sessions != 1 {
            return Some(refusal(MALFORMED));
        }
        if !by_password(command, 2) {
            return Some(refusal(AUTH_TYPE));
        }
        let (index, content) = self.indexes.get_mut(index)?;
        let Some(request) = content.take() else { return Some(refusal(NV_UNINITIALIZED)) };
        let pcrs: Result<Vec<Vec<u8>>, _> = (0..24).map(|pcr| objects::read_pcr(tpm, Bank::Sha384, pcr)).collect();
        let answer = match (Asked::parse(&request), pcrs) {
            (Ok(asked), Ok(pcrs)) => {
                let document = self.authorities.document(&self.module, &pcrs, &asked, now_ms());
                let inner = cbor::map(&[(cbor::text("document"), cbor::bytes(&document))]);
                cbor::map(&[(cbor::text("Attestation"), inner)])
            }
            (Err(why), _) => cbor::map(&[(cbor::text("Error"), cbor::text(why))]),
            (_, Err(error)) => cbor::map(&[(cbor::text("Error"), cbor::text(&error.to_string()))]),
        };
        let mut answer = answer;
        if answer.len() > usize::from(index.size) {
            answer = cbor::map(&[(cbor::text("Error"), cbor::text("the index is too small"))]);
        }
        answer.resize(index.size.into(), 0xFF);
        *content = Some(answer);
        Some(success(seen.sessions, &[]))
    }

    fn vendor_strings(command: &[u8], tpm: &mut dyn Channel) -> Option<Vec<u8>> {
        let seen = Seen::of(command, 0)?;
        let mut answer = tpm.transmit(command).ok()?;
        // Capability 6: properties. Then: more data, capability, count, pairs.
        if Fields::new(seen.parameters).u32() != Some(6) || response_code(&answer) != Some(0) {
            return Some(answer);
        }
        let mut at = 10 + 1 + 4 + 4;
        while let Some(property) = answer.get(at..).and_then(|rest| Fields::new(rest).u32()) {
            let which = property.checked_sub(VENDOR_STRING_1).and_then(|n| usize::try_from(n).ok());
            if let (Some(word), Some(place)) = (which.and_then(|n| VENDOR.get(n)), answer.get_mut(at + 4..at + 8)) {
                place.copy_from_slice(&word.to_be_bytes());
            }
            at += 8;
        }
        Some(answer)
    }
}

impl Stand for NitroTpm {
    fn answer(&mut self, command: &[u8], tpm: &mut dyn Channel) -> Option<Vec<u8>> {
        match code(command)? {
            ATTEST => self.attest(command, tpm),
            GET_CAPABILITY => NitroTpm::vendor_strings(command, tpm),
            NV_DEFINE_SPACE if Seen::of(command, 1)?.handles == [OWNER] => self.define(command),
            NV_WRITE => self.write(command),
            NV_UNDEFINE_SPACE => {
                let seen = Seen::of(command, 2)?;
                self.indexes.remove(seen.handles.get(1)?)?;
                Some(success(seen.sessions, &[]))
            }
            NV_READ => {
                let seen = Seen::of(command, 2)?;
                let (index, content) = self.indexes.get(seen.handles.get(1)?)?;
                Some(content.as_ref().map_or_else(|| refusal(NV_UNINITIALIZED), |content| index.read(&seen, content)))
            }
            NV_READ_PUBLIC => {
                let seen = Seen::of(command, 1)?;
                self.indexes.get(seen.handles.first()?).map(|(index, _)| index.read_public())
            }
            _ => None,
        }
    }
}

fn new_p384() -> Vec<u8> {
    let key = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING).expect("the system gives random numbers");
    key.to_pkcs8v1().expect("an EC key has a PKCS#8 form").as_ref().to_vec()
}

fn p384(pkcs8: &[u8], algorithm: &'static EcdsaSigningAlgorithm) -> Option<EcdsaKeyPair> {
    EcdsaKeyPair::from_pkcs8(algorithm, pkcs8).ok()
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
