//! Azure: a paravisor that puts its SNP report into NV when it is read, an AK and its certificate, and IMDS for the VCEK.
//!
//! The front answers for the index of the report, because swtpm's indexes end at 2048 bytes
//! and a report must be made when it is read: for what the guest wrote into the index of its data, after two seconds.

use super::http::Page;
use super::{SharedSp, new_rsa, rsa_modulus, rsa_of};
use crate::certificate::{self, Key, Template, authority_name, name};
use crate::pem;
use crate::pki::{Pki, RsaSize};
use crate::store::{StoreError, cloud_parts};
use crate::tpm::command::{Channel, Command, ENDORSEMENT, Fields, NV_READ, NV_READ_PUBLIC, OWNER, TpmError, refusal};
use crate::tpm::front::Stand;
use crate::tpm::objects::{self, template};
use crate::tpm::virtual_nv::{VirtualNv, WRITTEN, asks_content, asks_public, by_password, read_range};
use crate::x509::Validity;
use ratls::crypto;
use std::path::Path;
use std::time::{Duration, Instant};

/// The HCL report.
pub const REPORT_INDEX: u32 = 0x0140_0001;
/// What the guest wants in it: 64 bytes, in an index that it defines itself.
pub const DATA_INDEX: u32 = 0x0140_0002;
pub const AK_HANDLE: u32 = 0x8100_0003;
pub const AK_CERTIFICATE_INDEX: u32 = 0x01C1_01D0;
/// Where IMDS answers.
pub const IMDS_PATH: &str = "/metadata/THIM/amd/certification";

/// OpenHCL makes a new report for a read that begins this long after the last one.
pub const REGENERATION: Duration = Duration::from_secs(2);
/// Bytes of the index in 2025 and later.
const REPORT_SIZE: u16 = 2600;
/// TPM_RC_RETRY: the report could not be made now.
const RETRY: u32 = 0x922;
/// TPM_RC_AUTH_TYPE: only passwords are known here.
const AUTH_TYPE: u32 = 0x124;

const ROOT: &str = "Azure Virtual TPM Root Certificate Authority 2023";
const POLICY_CA: &str = "Azure Cloud Virtual TPM CA 2025";
const ISSUING_CA: &str = "Azure Cloud Virtual TPM CA - 11";
const GLOBAL_CA: &str = "Global Virtual TPM CA - 03";
const LIFETIME_SIGNING: &[u32] = &[1, 3, 6, 1, 4, 1, 311, 10, 3, 12];
const EK_CERTIFICATE: &[u32] = &[2, 23, 133, 8, 1];
const AIK_CERTIFICATE: &[u32] = &[2, 23, 133, 8, 3];

/// Which of the two hierarchies that are in use an AK's certificate comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hierarchy {
    /// Leaf ← `Azure Cloud Virtual TPM CA - 11` ← `Azure Cloud Virtual TPM CA 2025` ← root; the leaf says where its issuer is.
    Cloud,
    /// Leaf ← `Global Virtual TPM CA - 03` ← root; the leaf does not.
    Global,
}

/// Microsoft's place: a root and what is below it.
pub struct Authorities {
    root_pem: String,
    root: Key,
    policy: Key,
    issuing: Key,
}

impl Authorities {
    /// Those that live in `dir`, made there if there are none.
    pub fn load_or_create(dir: &Path, pki: &Pki, size: RsaSize) -> Result<Self, StoreError> {
        let parts = cloud_parts(dir, pki, "azure", || {
            let root = new_rsa(size);
            let key = |pkcs8: &[u8]| aws_lc_rs::rsa::KeyPair::from_pkcs8(pkcs8).map(Key::RsaSha384);
            let root_key = key(&root).expect("it was just made");
            let subject = authority_name(ROOT);
            let der = certificate::authority(1, (&subject, &root_key), (&subject, &root_key), None, Vec::new());
            vec![pem::encode("CERTIFICATE", &der).into_bytes(), root, new_rsa(size), new_rsa(size)]
        })?;
        let malformed = || StoreError::Malformed { path: dir.join("azure.keys") };
        let key = |at| rsa_of(&parts, at).map(Key::RsaSha384).ok_or_else(malformed);
        let root_pem = parts.first().map(|pem| String::from_utf8_lossy(pem).into_owned()).ok_or_else(malformed)?;
        Ok(Authorities { root_pem, root: key(1)?, policy: key(2)?, issuing: key(3)? })
    }

    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// The certificates between leaf and root, nearest first.
    pub fn intermediates(&self, hierarchy: Hierarchy, base_url: &str) -> Vec<Vec<u8>> {
        let root = authority_name(ROOT);
        let uses = || certificate::extended_use(&[LIFETIME_SIGNING, EK_CERTIFICATE, AIK_CERTIFICATE]);
        match hierarchy {
            Hierarchy::Cloud => {
                let (policy, issuing) = (authority_name(POLICY_CA), authority_name(ISSUING_CA));
                let further = vec![uses(), certificate::issuer_at(&format!("{base_url}/azure/policy-ca.cer"))];
                vec![
                    certificate::authority(3, (&policy, &self.policy), (&issuing, &self.issuing), Some(0), further),
                    certificate::authority(2, (&root, &self.root), (&policy, &self.policy), Some(1), vec![uses()]),
                ]
            }
            Hierarchy::Global => {
                let global = authority_name(GLOBAL_CA);
                vec![certificate::authority(4, (&root, &self.root), (&global, &self.issuing), Some(0), vec![uses()])]
            }
        }
    }

    /// The certificate of an AK with this modulus for the VM of these twelve digits.
    pub fn ak_certificate(&self, hierarchy: Hierarchy, host_name: &str, modulus: &[u8], base_url: &str) -> Vec<u8> {
        let issuer = authority_name(match hierarchy {
            Hierarchy::Cloud => ISSUING_CA,
            Hierarchy::Global => GLOBAL_CA,
        });
        let spki = certificate::spki_modulus(modulus);
        let policies =
            crate::der::sequence(&[&crate::der::sequence(&[&crate::der::oid(&[1, 3, 6, 1, 4, 1, 311, 108, 200, 2])])]);
        let mut extensions = vec![
            certificate::may_sign(),
            certificate::extended_use(&[LIFETIME_SIGNING, AIK_CERTIFICATE]),
            certificate::extension(&[2, 5, 29, 32], false, &policies),
            certificate::subject_key_id(&spki),
            certificate::authority_key_id(&self.issuing.spki()),
        ];
        if hierarchy == Hierarchy::Cloud {
            extensions.push(certificate::issuer_at(&format!("{base_url}/azure/issuing-ca.cer")));
        }
        let subject = name(&[(&[2, 5, 4, 3], host_name)]);
        let template = Template {
            serial: 0x5EED,
            issuer: &issuer,
            subject: &subject,
            validity: Validity::LONG,
            spki: &spki,
            extensions,
        };
        certificate::issue(&template, &self.issuing)
    }

    /// What is served beside IMDS: the certificates to which others point.
    pub fn pages(&self, base_url: &str) -> Vec<(String, Page)> {
        let paths = ["/azure/issuing-ca.cer", "/azure/policy-ca.cer"];
        let certificates = self.intermediates(Hierarchy::Cloud, base_url);
        let page = |body| Page { media_type: "application/pkix-cert", body, wanted: None };
        paths.iter().map(ToString::to_string).zip(certificates.into_iter().map(page)).collect()
    }
}

/// The answer of IMDS: leaf and chain of the chip's reports.
pub fn imds(sp: &SharedSp) -> Page {
    let sp = sp.lock();
    let pem = |der: &[u8]| pem::encode("CERTIFICATE", der).replace('\n', "\\n");
    let certificates = sp.certificates();
    let [leaf, issuer] = certificates.as_slice() else { unreachable!("an AMD-SP has two certificates") };
    let root = pem(sp.pki().certificate(crate::x509::Authority::Ark));
    let tcb = sp.config().reported_tcb.raw(sp.config().product);
    let body = format!(
        "{{\"vcekCert\":\"{}\",\"tcbm\":\"{tcb:016X}\",\"certificateChain\":\"{}{root}\",\"cacheControl\":\"86400\"}}",
        pem(leaf),
        pem(issuer)
    );
    Page { media_type: "application/json", body: body.into_bytes(), wanted: Some("metadata:true") }
}

/// What the paravisor says of the VM, and how it behaves.
#[derive(Clone, Debug)]
pub struct Vm {
    pub host_name: String,
    pub vm_unique_id: String,
    pub secure_boot: bool,
    pub console: bool,
    pub hierarchy: Hierarchy,
    /// False: an HCL of 2023, in whose JSON the guest has no word.
    pub user_data: bool,
    pub regeneration: Duration,
}

impl Vm {
    pub fn new() -> Self {
        Vm {
            host_name: "5eed00c0ffee.ConfidentialVM.Azure.windows.net".to_owned(),
            vm_unique_id: "5EED0000-0000-4000-8000-000000C0FFEE".to_owned(),
            secure_boot: true,
            console: false,
            hierarchy: Hierarchy::Cloud,
            user_data: true,
            regeneration: REGENERATION,
        }
    }
}

impl Default for Vm {
    fn default() -> Self {
        Vm::new()
    }
}

/// Puts keys and certificate into the TPM; the stand that answers for the report.
pub fn provision(
    tpm: &mut dyn Channel,
    sp: SharedSp,
    authorities: &Authorities,
    vm: Vm,
    base_url: &str,
) -> Result<Paravisor, TpmError> {
    let ek = objects::create_primary(tpm, ENDORSEMENT, &template::rsa_ek())?;
    objects::flush(tpm, ek.handle)?;
    let ak = objects::create_primary(tpm, ENDORSEMENT, &template::rsa_signing())?;
    objects::persist(tpm, &ak, AK_HANDLE)?;
    let modulus = rsa_modulus(&ak.public);
    let certificate = authorities.ak_certificate(vm.hierarchy, &vm.host_name, &modulus, base_url);
    objects::provision_nv(tpm, AK_CERTIFICATE_INDEX, &certificate)?;
    // So that it is listed; what is read from it comes from the front.
    objects::provision_nv(tpm, REPORT_INDEX, &[0; 8])?;
    let index =
        VirtualNv { index: REPORT_INDEX, name_algorithm: 0x000B, attributes: REPORT_ATTRIBUTES, size: REPORT_SIZE };
    Ok(Paravisor { sp, vm, ak: modulus, ek: rsa_modulus(&ek.public), index, made: None })
}

/// Owner and index authorisation may read; written.
const REPORT_ATTRIBUTES: u32 = 1 | 1 << 16 | 1 << 17 | 1 << 18 | 1 << 25 | WRITTEN | 1 << 30;

/// The paravisor, as far as the guest sees it.
pub struct Paravisor {
    sp: SharedSp,
    vm: Vm,
    ak: Vec<u8>,
    ek: Vec<u8>,
    index: VirtualNv,
    made: Option<(Instant, Vec<u8>)>,
}

impl Stand for Paravisor {
    fn answer(&mut self, command: &[u8], tpm: &mut dyn Channel) -> Option<Vec<u8>> {
        if asks_public(command) == Some(REPORT_INDEX) {
            return Some(self.index.read_public());
        }
        let (_, seen) = asks_content(command).filter(|(index, _)| *index == REPORT_INDEX)?;
        if !by_password(command, 2) {
            return Some(refusal(AUTH_TYPE));
        }
        if matches!(read_range(&seen), Some((_, 0))) {
            self.regenerate(tpm);
        }
        Some(match &self.made {
            Some((_, content)) => self.index.read(&seen, content),
            None => refusal(RETRY),
        })
    }
}

impl Paravisor {
    /// A new report, if the last one is old enough and the AMD-SP gives one.
    fn regenerate(&mut self, tpm: &mut dyn Channel) {
        if self.made.as_ref().is_some_and(|(at, _)| at.elapsed() < self.vm.regeneration) {
            return;
        }
        let claims = self.vm.claims(&self.ak, &self.ek, &user_data(tpm));
        let mut report_data = [0; 64];
        report_data[..32].copy_from_slice(crypto::sha256(&[claims.as_bytes()]).as_bytes());
        if let Ok(report) = self.sp.lock().report(&report_data) {
            self.made = Some((Instant::now(), blob(&report, claims.as_bytes())));
        }
    }
}

impl Vm {
    /// The JSON that is hashed into REPORT_DATA, for keys of these moduli.
    pub fn claims(&self, ak: &[u8], ek: &[u8], user_data: &[u8; 64]) -> String {
        let key = |kid: &str, use_of: &str, modulus: &[u8]| {
            let n = pem::base64url(modulus);
            format!("{{\"kid\":\"{kid}\",\"key_ops\":[\"{use_of}\"],\"kty\":\"RSA\",\"e\":\"AQAB\",\"n\":\"{n}\"}}")
        };
        let Vm { vm_unique_id, secure_boot, console, .. } = self;
        let ak = |use_of| key("HCLAkPub", use_of, ak);
        if !self.user_data {
            return format!(
                "{{\"keys\":[{}],\"vm-configuration\":{{\"console-enabled\":{console},\"current-time\":1678652405,\
                 \"secure-boot\":{secure_boot},\"tpm-enabled\":true,\"vmUniqueId\":\"{vm_unique_id}\"}}}}",
                ak("encrypt")
            );
        }
        format!(
            "{{\"keys\":[{},{}],\"vm-configuration\":{{\"root-cert-thumbprint\":\"\",\"console-enabled\":{console},\
             \"secure-boot\":{secure_boot},\"tpm-enabled\":true,\"tpm-persisted\":true,\
             \"filtered-vpci-devices-allowed\":true,\"vmUniqueId\":\"{vm_unique_id}\"}},\"user-data\":\"{}\"}}",
            ak("sign"),
            key("HCLEkPub", "encrypt", ek),
            hex::encode_upper(user_data)
        )
    }
}

/// Header, report, request data, claims, zeros to the size of the index.
pub fn blob(report: &[u8], claims: &[u8]) -> Vec<u8> {
    let word = |n: usize| u32::try_from(n).expect("the claims are short").to_le_bytes();
    let number = |n: u32| n.to_le_bytes();
    let mut blob = [
        &b"HCLA"[..],
        &number(2),
        &word(32 + report.len() + 20 + claims.len()),
        &number(2),
        &[0; 16],
        report,
        &word(20 + claims.len()),
        &number(1),
        // SNP, SHA-256.
        &number(2),
        &number(1),
        &word(claims.len()),
        claims,
    ]
    .concat();
    blob.resize(usize::from(REPORT_SIZE).max(blob.len()), 0);
    blob
}

/// What the guest wrote, or zeros.
fn user_data(tpm: &mut dyn Channel) -> [u8; 64] {
    let read = |authority| Command::new(NV_READ).authorised(authority).handle(DATA_INDEX).u16(64).u16(0);
    let defined = Command::new(NV_READ_PUBLIC).handle(DATA_INDEX).run(tpm).is_ok();
    let answers = [OWNER, DATA_INDEX].into_iter().filter(|_| defined);
    answers
        .filter_map(|authority| read(authority).run(tpm).ok())
        .find_map(|answer| Fields::new(&answer.parameters).sized()?.try_into().ok())
        .unwrap_or([0; 64])
}
