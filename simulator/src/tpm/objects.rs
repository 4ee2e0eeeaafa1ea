//! What provisioning makes in a TPM: keys from templates, NV indexes, PCR extensions. Templates are bytes, as clouds publish them.

use super::command::{
    CREATE_PRIMARY, Channel, Command, EVICT_CONTROL, FLUSH_CONTEXT, Fields, GET_CAPABILITY, NV_DEFINE_SPACE,
    NV_UNDEFINE_SPACE, NV_WRITE, OWNER, PCR_EXTEND, PCR_READ, PLATFORM, TpmError, sized,
};

/// A hash algorithm of a PCR bank, by its TPM number (part 2 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bank {
    Sha1,
    Sha256,
    Sha384,
}

impl Bank {
    pub fn id(self) -> u16 {
        match self {
            Bank::Sha1 => 0x0004,
            Bank::Sha256 => 0x000B,
            Bank::Sha384 => 0x000C,
        }
    }

    pub fn digest_len(self) -> usize {
        match self {
            Bank::Sha1 => 20,
            Bank::Sha256 => 32,
            Bank::Sha384 => 48,
        }
    }

    pub fn hash(self, data: &[u8]) -> Vec<u8> {
        use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA384, digest};
        let algorithm = match self {
            Bank::Sha1 => &SHA1_FOR_LEGACY_USE_ONLY,
            Bank::Sha256 => &SHA256,
            Bank::Sha384 => &SHA384,
        };
        digest(algorithm, data).as_ref().to_vec()
    }
}

/// A primary key that was made from a template.
#[derive(Clone, Debug)]
pub struct Key {
    pub handle: u32,
    /// TPMT_PUBLIC.
    pub public: Vec<u8>,
}

/// Templates (TPMT_PUBLIC with an empty or chosen `unique`).
pub mod template {
    /// RSA-2048, RSASSA with SHA-256, restricted signing: Azure's AK.
    pub fn rsa_signing() -> Vec<u8> {
        rsa_signing_with(0x0005_0472)
    }

    /// The same with other attributes.
    pub fn rsa_signing_with(attributes: u32) -> Vec<u8> {
        [&[0x00, 0x01, 0x00, 0x0B][..], &attributes.to_be_bytes(), &[0, 0, 0, 0x10, 0, 0x14, 0, 0x0B, 8, 0], &[0; 6]]
            .concat()
    }

    /// P-256, ECDSA with SHA-256, restricted signing: GCE's AK. `unique` chooses which of the keys that the seed gives.
    pub fn ecc_signing(unique: &[u8; 32]) -> Vec<u8> {
        let head = [0x00, 0x23, 0x00, 0x0B, 0x00, 0x05, 0x00, 0x72, 0, 0, 0, 0x10, 0, 0x18, 0, 0x0B, 0, 3, 0, 0x10];
        let coordinate = [&[0, 32][..], unique].concat();
        [&head[..], &coordinate, &coordinate].concat()
    }

    /// RSA-2048 of GCE with its own `unique`.
    pub fn rsa_signing_unique(unique: &[u8; 256]) -> Vec<u8> {
        let mut template = rsa_signing_with(0x0005_0072);
        template.truncate(template.len() - 2);
        [&template[..], &[1, 0], unique].concat()
    }

    /// The EK of the TCG's EK credential profile, RSA-2048 with the policy of the endorsement hierarchy (template L-1).
    pub fn rsa_ek() -> Vec<u8> {
        const POLICY: [u8; 32] = [
            0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xB3, 0xF8, 0x1A, 0x90, 0xCC, 0x8D, 0x46, 0xA5, 0xD7, 0x24, 0xFD, 0x52,
            0xD7, 0x6E, 0x06, 0x52, 0x0B, 0x64, 0xF2, 0xA1, 0xDA, 0x1B, 0x33, 0x14, 0x69, 0xAA,
        ];
        let symmetric = [0x00, 0x06, 0x00, 0x80, 0x00, 0x43, 0x00, 0x10, 0x08, 0x00, 0, 0, 0, 0];
        [&[0x00, 0x01, 0x00, 0x0B, 0x00, 0x03, 0x00, 0xB2, 0x00, 0x20][..], &POLICY, &symmetric, &[1, 0], &[0; 256]]
            .concat()
    }
}

pub fn create_primary(tpm: &mut dyn Channel, hierarchy: u32, template: &[u8]) -> Result<Key, TpmError> {
    let command = Command::new(CREATE_PRIMARY)
        .authorised(hierarchy)
        // No password and no data in the sensitive part.
        .sized(&[0, 0, 0, 0])
        .sized(template)
        .u16(0)
        .u32(0);
    let answer = command.run(tpm)?;
    let public = Fields::new(&answer.parameters).sized().ok_or(TpmError::Malformed { command: CREATE_PRIMARY })?;
    Ok(Key { handle: answer.handle, public: public.to_vec() })
}

pub fn flush(tpm: &mut dyn Channel, handle: u32) -> Result<(), TpmError> {
    Command::new(FLUSH_CONTEXT).u32(handle).run(tpm).map(drop)
}

/// Makes the key permanent under this handle, whatever was there, and flushes the loaded one.
pub fn persist(tpm: &mut dyn Channel, key: &Key, at: u32) -> Result<(), TpmError> {
    let evict = |object, tpm: &mut dyn Channel| {
        Command::new(EVICT_CONTROL).authorised(OWNER).handle(object).u32(at).run(tpm).map(drop)
    };
    if handles(tpm, at)?.first() == Some(&at) {
        evict(at, tpm)?;
    }
    evict(key.handle, tpm)?;
    flush(tpm, key.handle)
}

/// Handles that are in use, from this one on and of its kind.
pub fn handles(tpm: &mut dyn Channel, from: u32) -> Result<Vec<u32>, TpmError> {
    let answer = Command::new(GET_CAPABILITY).u32(1).u32(from).u32(64).run(tpm)?;
    let malformed = TpmError::Malformed { command: GET_CAPABILITY };
    let mut fields = Fields::new(answer.parameters.get(5..).unwrap_or_default());
    let count = fields.u32().ok_or(malformed)?;
    Ok((0..count).map_while(|_| fields.u32()).collect())
}

/// Read by anybody with an empty password or as the owner, written by the platform: as firmware provisions certificates.
const NV_ATTRIBUTES: u32 = {
    const PPWRITE: u32 = 1 << 0;
    const PPREAD: u32 = 1 << 16;
    const OWNERREAD: u32 = 1 << 17;
    const AUTHREAD: u32 = 1 << 18;
    const NO_DA: u32 = 1 << 25;
    const PLATFORMCREATE: u32 = 1 << 30;
    PPWRITE | PPREAD | OWNERREAD | AUTHREAD | NO_DA | PLATFORMCREATE
};
/// What one NV_Write takes at most in libtpms.
const NV_CHUNK: usize = 1024;

/// An NV index with these bytes, whatever was there.
pub fn provision_nv(tpm: &mut dyn Channel, index: u32, bytes: &[u8]) -> Result<(), TpmError> {
    if handles(tpm, index)?.first() == Some(&index) {
        Command::new(NV_UNDEFINE_SPACE).authorised(PLATFORM).handle(index).run(tpm)?;
    }
    let size = u16::try_from(bytes.len()).expect("an index has at most 2048 bytes");
    let public =
        [&index.to_be_bytes()[..], &[0, 0x0B], &NV_ATTRIBUTES.to_be_bytes(), &[0, 0], &size.to_be_bytes()].concat();
    Command::new(NV_DEFINE_SPACE).authorised(PLATFORM).u16(0).sized(&public).run(tpm)?;
    let mut offset = 0;
    for chunk in bytes.chunks(NV_CHUNK) {
        Command::new(NV_WRITE).authorised(PLATFORM).handle(index).sized(chunk).u16(offset).run(tpm)?;
        offset += u16::try_from(chunk.len()).expect("a chunk is small");
    }
    Ok(())
}

/// Extends a PCR in the banks of these digests.
pub fn extend(tpm: &mut dyn Channel, pcr: u32, digests: &[(Bank, Vec<u8>)]) -> Result<(), TpmError> {
    let count = u32::try_from(digests.len()).expect("three banks");
    let mut command = Command::new(PCR_EXTEND).authorised(pcr).u32(count);
    for (bank, digest) in digests {
        command = command.u16(bank.id()).raw(digest);
    }
    command.run(tpm).map(drop)
}

/// The value of one PCR.
pub fn read_pcr(tpm: &mut dyn Channel, bank: Bank, pcr: u32) -> Result<Vec<u8>, TpmError> {
    let mut select = [0_u8; 3];
    if let Some(byte) = select.get_mut(usize::try_from(pcr / 8).unwrap_or(3)) {
        *byte = 1 << (pcr % 8);
    }
    let selection = [&[0, 0, 0, 1][..], &bank.id().to_be_bytes(), &[3], &select].concat();
    let answer = Command::new(PCR_READ).raw(&selection).run(tpm)?;
    let digest = sized_digest(&answer.parameters, selection.len(), bank);
    digest.ok_or(TpmError::Malformed { command: PCR_READ })
}

/// After the update counter and the selection stands a list of one digest.
fn sized_digest(parameters: &[u8], selection: usize, bank: Bank) -> Option<Vec<u8>> {
    let mut fields = Fields::new(parameters.get(4 + selection..)?);
    (fields.u32()? == 1).then_some(())?;
    let digest = fields.sized()?;
    (digest.len() == bank.digest_len()).then(|| digest.to_vec())
}

/// TPM2B of a public area, as it stands in responses.
pub fn public_2b(public: &[u8]) -> Vec<u8> {
    sized(public)
}
