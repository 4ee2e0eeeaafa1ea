//! The clouds: what each puts into its vTPM and around it, under authorities of the simulator.
//!
//! ```text
//!   azure  HCL report in NV, made when it is read · AK at 0x81000003 · AK certificate · IMDS       authorities: azure.keys
//!   gce    AK templates and certificates in NV · endorsement of the firmware in the host's table    authorities: gcp.keys
//!   aws    the vendor command that gives a Nitro document                                           authorities: aws.keys
//!   svsm   the EK as the manifest of a VMPL 0 report, by configfs-tsm                               none
//! ```
//!
//! All of it ends in roots that only a policy can name, and proves nothing.

pub mod aws;
pub mod azure;
pub mod gce;
pub mod http;
pub mod svsm;

use crate::amd_sp::SimulatedAmdSp;
use crate::pki::RsaSize;
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One AMD-SP that several parts of a machine ask.
#[derive(Clone)]
pub struct SharedSp(Arc<Mutex<SimulatedAmdSp>>);

impl SharedSp {
    pub fn new(sp: SimulatedAmdSp) -> Self {
        SharedSp(Arc::new(Mutex::new(sp)))
    }

    pub fn lock(&self) -> MutexGuard<'_, SimulatedAmdSp> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// PKCS#8 of a new RSA key.
fn new_rsa(size: RsaSize) -> Vec<u8> {
    let size = match size {
        RsaSize::Bits2048 => rsa::KeySize::Rsa2048,
        RsaSize::Bits4096 => rsa::KeySize::Rsa4096,
    };
    let key = rsa::KeyPair::generate(size).expect("the system gives random numbers");
    key.as_der().expect("an RSA key has a PKCS#8 form").as_ref().to_vec()
}

/// The key in a part of a file that a simulator wrote.
fn rsa_of(parts: &[Vec<u8>], at: usize) -> Option<rsa::KeyPair> {
    rsa::KeyPair::from_pkcs8(parts.get(at)?).ok()
}

/// Modulus of the RSA key in a TPMT_PUBLIC, or X and Y of the point: what stands behind the last two or one length.
fn rsa_modulus(public: &[u8]) -> Vec<u8> {
    public.last_chunk::<256>().map(|modulus| modulus.to_vec()).unwrap_or_default()
}

/// The uncompressed point of a P-256 key in a TPMT_PUBLIC.
fn p256_point(public: &[u8]) -> Vec<u8> {
    let coordinates = public.last_chunk::<68>().map(|tail| tail.to_vec()).unwrap_or_default();
    let (x, y) = (coordinates.get(2..34).unwrap_or_default(), coordinates.get(36..).unwrap_or_default());
    [&[4][..], x, y].concat()
}
