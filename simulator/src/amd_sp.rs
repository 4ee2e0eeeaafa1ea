//! The device: takes 64 bytes, answers with an attestation report signed by the VCEK or VLEK, and knows its certificates.
//!
//! Layout: AMD 56860, table ATTESTATION_REPORT, written here and parsed elsewhere. Every field is a
//! public field of [`Config`], so that a negative test changes one of them; [`SimulatedAmdSp::report_with`] changes the bytes just
//! before they are signed, and what no firmware would sign can be made so. The guest, its memory and its measurement do not exist.

use crate::NOTICE;
use crate::controls::{Controls, DeviceError};
use crate::leaf::LeafTemplate;
use crate::pki::{Pki, random};
use crate::x509::{Authority, Validity};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{EcdsaKeyPair, KeyPair};
use ratls::crypto;
use ratls::evidence::snp::{ChipId, FamilyId, HostData, ImageId, KeyDigest, Measurement, ReportId};
use ratls::tcb::Product;
use std::fmt;
use std::sync::Arc;

/// A whole report.
pub const REPORT_LEN: usize = 0x4A0;
/// The part of it that is signed.
pub const SIGNED_LEN: usize = 0x2A0;

/// SPLs of the firmware's parts. `fmc` exists on Turin only; elsewhere it is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcb {
    pub fmc: u8,
    pub bootloader: u8,
    pub tee: u8,
    pub snp: u8,
    pub microcode: u8,
}

/// The key that signs reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vek {
    /// This chip's.
    Vcek,
    /// A cloud provider's, e.g. `CN=cc-eu-west-1.amazonaws.com`.
    Vlek { csp: String },
}

/// All that the report says, but for the 64 bytes of the guest. Reserved parts are zero.
#[derive(Clone, Debug)]
pub struct Config {
    pub product: Product,
    /// 2, 3 or 5; other numbers are written as they are, in the layout of 5.
    pub report_version: u32,
    pub vek: Vek,
    pub leaf_validity: Validity,
    pub guest_svn: u32,
    pub policy: u64,
    pub family_id: FamilyId,
    pub image_id: ImageId,
    /// The guest's own level, which [`SimulatedAmdSp::report`] asks for.
    pub vmpl: u32,
    pub platform_info: u64,
    pub author_key_en: bool,
    /// Firmware then signs with zeros under a VCEK, and shows no chip id.
    pub mask_chip_key: bool,
    pub measurement: Measurement,
    pub host_data: HostData,
    pub id_key_digest: KeyDigest,
    pub author_key_digest: KeyDigest,
    /// `None`: random, as with each launch.
    pub report_id: Option<ReportId>,
    pub report_id_ma: ReportId,
    pub current_tcb: Tcb,
    pub reported_tcb: Tcb,
    pub committed_tcb: Tcb,
    pub launch_tcb: Tcb,
    /// Family, model, stepping; in reports of version 3 and later.
    pub cpuid: [u8; 3],
    /// `None`: [`Pki::chip_id`].
    pub chip_id: Option<ChipId>,
    /// Build, minor, major.
    pub current_firmware: [u8; 3],
    pub committed_firmware: [u8; 3],
    /// In reports of version 5.
    pub launch_mit_vector: u64,
    pub current_mit_vector: u64,
}

impl Config {
    /// A guest that a sane policy accepts: no debugging, no migration, VMPL 0, report version 3, VCEK, committed firmware.
    pub fn new(product: Product) -> Self {
        let (tcb, cpuid) = match product {
            Product::Milan => (Tcb { fmc: 0, bootloader: 4, tee: 0, snp: 24, microcode: 219 }, [0x19, 0x01, 0x01]),
            Product::Genoa => (Tcb { fmc: 0, bootloader: 10, tee: 0, snp: 23, microcode: 84 }, [0x19, 0x11, 0x01]),
            Product::Turin => (Tcb { fmc: 1, bootloader: 3, tee: 2, snp: 5, microcode: 97 }, [0x1A, 0x02, 0x01]),
        };
        Config {
            product,
            report_version: 3,
            vek: Vek::Vcek,
            leaf_validity: Validity::LONG,
            guest_svn: 0,
            // SMT allowed, and the bit that must be one (AMD 56860, guest policy).
            policy: 0x3_0000,
            family_id: FamilyId::from_bytes([0; 16]),
            image_id: ImageId::from_bytes([0; 16]),
            vmpl: 0,
            // SMT, ECC, alias check complete (AMD 56860, PLATFORM_INFO).
            platform_info: 0x25,
            author_key_en: false,
            mask_chip_key: false,
            measurement: Measurement::from_bytes(*crypto::sha384(&[b"simulated guest"]).as_bytes()),
            host_data: HostData::from_bytes([0; 32]),
            id_key_digest: KeyDigest::from_bytes([0; 48]),
            author_key_digest: KeyDigest::from_bytes([0; 48]),
            report_id: None,
            report_id_ma: ReportId::from_bytes([0xFF; 32]),
            current_tcb: tcb,
            reported_tcb: tcb,
            committed_tcb: tcb,
            launch_tcb: tcb,
            cpuid,
            chip_id: None,
            current_firmware: [58, 1, 1],
            committed_firmware: [58, 1, 1],
            launch_mit_vector: 0x3F,
            current_mit_vector: 0x3F,
        }
    }
}

impl Tcb {
    /// TCB_VERSION as a little-endian number (AMD 56860, TCB_VERSION).
    pub fn raw(&self, product: Product) -> u64 {
        u64::from_le_bytes(match product {
            Product::Turin => [self.fmc, self.bootloader, self.tee, self.snp, 0, 0, 0, self.microcode],
            _ => [self.bootloader, self.tee, 0, 0, 0, 0, self.snp, self.microcode],
        })
    }
}

/// One guest's view of a simulated AMD-SP.
pub struct SimulatedAmdSp {
    pki: Arc<Pki>,
    config: Config,
    chip_id: ChipId,
    report_id: ReportId,
    vek: EcdsaKeyPair,
    leaf: Vec<u8>,
    crl: Vec<u8>,
    controls: Controls,
}

impl SimulatedAmdSp {
    /// # Panics
    /// Where `config.product` is not that of `pki`.
    pub fn new(pki: &Arc<Pki>, config: Config) -> Self {
        assert_eq!(config.product, pki.product(), "roots and device are of one product");
        let chip_id = config.chip_id.unwrap_or_else(|| pki.chip_id());
        let vek = pki.vek(&config.vek, &chip_id, config.reported_tcb.raw(config.product));
        let mut sp = SimulatedAmdSp {
            pki: Arc::clone(pki),
            chip_id,
            report_id: config.report_id.unwrap_or_else(|| ReportId::from_bytes(random())),
            vek,
            leaf: Vec::new(),
            crl: pki.crl(&[], Validity::LONG.not_before, Validity::LONG.not_after),
            controls: Controls::default(),
            config,
        };
        sp.leaf = pki.issue(&sp.leaf_template());
        sp
    }

    /// A report at the guest's own VMPL with these 64 bytes as REPORT_DATA: 1184 bytes.
    pub fn report(&mut self, report_data: &[u8; 64]) -> Result<Vec<u8>, DeviceError> {
        self.report_at(report_data, self.config.vmpl)
    }

    /// The same at a chosen VMPL, which must not be more privileged than the guest's.
    pub fn report_at(&mut self, report_data: &[u8; 64], vmpl: u32) -> Result<Vec<u8>, DeviceError> {
        self.controls.serve(|| {
            if vmpl < self.config.vmpl {
                return Err(DeviceError::Vmpl { asked: vmpl, own: self.config.vmpl });
            }
            Ok(self.sign_or_mask(&self.unsigned(report_data, vmpl)))
        })?
    }

    /// A report of VMPL 0, where this guest has less: what an SVSM asks for with a key that the guest does not have.
    pub fn report_of_monitor(&mut self, report_data: &[u8; 64]) -> Result<Vec<u8>, DeviceError> {
        self.controls.serve(|| self.sign_or_mask(&self.unsigned(report_data, 0)))
    }

    /// A correctly signed report over bytes that `change` altered. Not counted, delayed or refused: no device does this.
    pub fn report_with(&self, report_data: &[u8; 64], change: impl FnOnce(&mut [u8; SIGNED_LEN])) -> Vec<u8> {
        let mut unsigned = self.unsigned(report_data, self.config.vmpl);
        change(&mut unsigned);
        self.sign_raw(&unsigned)
    }

    /// Signs any bytes as if they were a report.
    pub fn sign_raw(&self, unsigned: &[u8; SIGNED_LEN]) -> Vec<u8> {
        let fixed = self.vek.sign(&SystemRandom::new(), unsigned).expect("a P-384 key signs");
        let (r, s) = fixed.as_ref().split_at(48);
        let mut report = unsigned.to_vec();
        for big_endian in [r, s] {
            report.extend(big_endian.iter().rev());
            report.extend([0; 24]);
        }
        report.resize(REPORT_LEN, 0);
        report
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    pub fn pki(&self) -> &Arc<Pki> {
        &self.pki
    }

    pub fn chip_id(&self) -> &ChipId {
        &self.chip_id
    }

    /// A handle on latency, throttle, gate and failures that outlives a move of the device.
    pub fn controls(&self) -> Controls {
        self.controls.clone()
    }

    /// What this device's leaf certificate says; change it and [`Pki::issue`] it for a certificate that does not fit.
    pub fn leaf_template(&self) -> LeafTemplate {
        let Config { product, vek, reported_tcb, leaf_validity, .. } = &self.config;
        LeafTemplate::new(*product, vek, reported_tcb, &self.chip_id, self.vek.public_key().as_ref(), *leaf_validity)
    }

    /// Leaf and ASK or ASVK, DER, as a guest serves them. The root is not among them: nobody may take it from a guest.
    pub fn certificates(&self) -> Vec<Vec<u8>> {
        vec![self.leaf.clone(), self.pki.certificate(self.issuer()).to_vec()]
    }

    pub fn root_pem(&self) -> String {
        self.pki.root_pem()
    }

    /// A CRL that revokes nothing, valid as long as [`Validity::LONG`]. The same bytes each time, as from a key service.
    pub fn crl(&self) -> Vec<u8> {
        self.crl.clone()
    }

    /// The table that a host hands to extended report requests (AMD GHCB specification): leaf, ASK or ASVK, ARK, CRL.
    pub fn certificate_table(&self) -> Vec<u8> {
        self.certificate_table_with(&[])
    }

    /// The same with further entries.
    pub fn certificate_table_with(&self, further: &[([u8; 16], Vec<u8>)]) -> Vec<u8> {
        let leaf = match self.config.vek {
            Vek::Vcek => guid::VCEK,
            Vek::Vlek { .. } => guid::VLEK,
        };
        let mut entries = vec![
            (leaf, self.leaf.as_slice()),
            (guid::ASK_OR_ASVK, self.pki.certificate(self.issuer())),
            (guid::ARK, self.pki.certificate(Authority::Ark)),
            (guid::CRL, &self.crl),
        ];
        entries.extend(further.iter().map(|(guid, blob)| (*guid, blob.as_slice())));
        certificate_table(&entries)
    }

    fn issuer(&self) -> Authority {
        match self.config.vek {
            Vek::Vcek => Authority::Ask,
            Vek::Vlek { .. } => Authority::Asvk,
        }
    }

    fn sign_or_mask(&self, unsigned: &[u8; SIGNED_LEN]) -> Vec<u8> {
        let mut report = self.sign_raw(unsigned);
        if self.config.mask_chip_key && self.config.vek == Vek::Vcek {
            report[SIGNED_LEN..].fill(0);
        }
        report
    }

    fn unsigned(&self, report_data: &[u8; 64], vmpl: u32) -> [u8; SIGNED_LEN] {
        let c = &self.config;
        let signing_key = match c.vek {
            Vek::Vcek => 0,
            Vek::Vlek { .. } => 1,
        };
        let key_info = u32::from(c.author_key_en) | u32::from(c.mask_chip_key) << 1 | signing_key << 2;
        let mut report = [0; SIGNED_LEN];
        let mut put = |offset: usize, bytes: &[u8]| report[offset..offset + bytes.len()].copy_from_slice(bytes);
        put(0x000, &c.report_version.to_le_bytes());
        put(0x004, &c.guest_svn.to_le_bytes());
        put(0x008, &c.policy.to_le_bytes());
        put(0x010, c.family_id.as_bytes());
        put(0x020, c.image_id.as_bytes());
        put(0x030, &vmpl.to_le_bytes());
        // ECDSA P-384 with SHA-384.
        put(0x034, &1_u32.to_le_bytes());
        put(0x038, &c.current_tcb.raw(c.product).to_le_bytes());
        put(0x040, &c.platform_info.to_le_bytes());
        put(0x048, &key_info.to_le_bytes());
        put(0x050, report_data);
        put(0x090, c.measurement.as_bytes());
        put(0x0C0, c.host_data.as_bytes());
        put(0x0E0, c.id_key_digest.as_bytes());
        put(0x110, c.author_key_digest.as_bytes());
        put(0x140, self.report_id.as_bytes());
        put(0x160, c.report_id_ma.as_bytes());
        put(0x180, &c.reported_tcb.raw(c.product).to_le_bytes());
        if c.report_version >= 3 {
            put(0x188, &c.cpuid);
        }
        // Under a VLEK, and where it is masked, the chip stays unnamed.
        if c.vek == Vek::Vcek && !c.mask_chip_key {
            put(0x1A0, self.chip_id.as_bytes());
        }
        put(0x1E0, &c.committed_tcb.raw(c.product).to_le_bytes());
        put(0x1E8, &c.current_firmware);
        put(0x1EC, &c.committed_firmware);
        put(0x1F0, &c.launch_tcb.raw(c.product).to_le_bytes());
        if c.report_version >= 5 {
            put(0x1F8, &c.launch_mit_vector.to_le_bytes());
            put(0x200, &c.current_mit_vector.to_le_bytes());
        }
        report
    }
}

impl fmt::Display for SimulatedAmdSp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Config { product, report_version, vek, .. } = &self.config;
        write!(f, "{NOTICE}: AMD-SP of a simulated {product}, reports of version {report_version}, ")?;
        match vek {
            Vek::Vcek => write!(f, "VCEK, chip {}", self.chip_id),
            Vek::Vlek { csp } => write!(f, "VLEK of {csp}"),
        }
    }
}

/// GUIDs of the certificate table, in the byte order in which they stand there (RFC 4122).
pub mod guid {
    pub const VCEK: [u8; 16] = 0x63da758d_e664_4564_adc5_f4b93be8accd_u128.to_be_bytes();
    pub const VLEK: [u8; 16] = 0xa8074bc2_a25a_483e_aae6_39c045a0b8a1_u128.to_be_bytes();
    pub const ASK_OR_ASVK: [u8; 16] = 0x4ab7b379_bbac_4fe4_a02f_05aef327c782_u128.to_be_bytes();
    pub const ARK: [u8; 16] = 0xc0b406a4_a803_4952_9743_3fb6014cd0ae_u128.to_be_bytes();
    pub const CRL: [u8; 16] = 0x92f81bc3_5811_4d3d_97ff_d19f88dc67ea_u128.to_be_bytes();
}

/// A table of these entries: 24 bytes each, a zero entry, then the blobs.
pub fn certificate_table(entries: &[([u8; 16], &[u8])]) -> Vec<u8> {
    let mut offset = (entries.len() + 1) * 24;
    let mut table = Vec::new();
    for (guid, blob) in entries {
        let word = |n: usize| u32::try_from(n).expect("a table of kilobytes").to_le_bytes();
        table.extend([&guid[..], &word(offset), &word(blob.len())].concat());
        offset += blob.len();
    }
    table.extend([0; 24]);
    for (_, blob) in entries {
        table.extend(*blob);
    }
    table
}
