//! An NV index that is not in the TPM: as large as a cloud makes it, and with content made when it is read.

use super::command::{NV_READ, NV_READ_PUBLIC, Seen, refusal, sized, success};
use super::objects::Bank;

/// TPM_RC_NV_RANGE: the offset or size lies outside.
const NV_RANGE: u32 = 0x146;
/// TPM_RC_NV_UNINITIALIZED: read before it was written.
pub const NV_UNINITIALIZED: u32 = 0x14A;
/// TPM_RC_VALUE for the first parameter.
const VALUE: u32 = 0x1C4;
/// What one NV_Read gives at most (TPM_PT_NV_BUFFER_MAX of libtpms).
pub const MAX_READ: usize = 1024;
/// TPMA_NV_WRITTEN.
pub const WRITTEN: u32 = 1 << 29;
/// TPM_RS_PW: the only authorisation that the stand-ins can answer, because they know no session's keys.
const PASSWORD: u32 = 0x4000_0009;

/// TPM_ALG_SHA512, in which AWS's tool names its indexes.
const SHA512: u16 = 0x000D;

/// One index.
#[derive(Clone, Debug)]
pub struct VirtualNv {
    pub index: u32,
    pub name_algorithm: u16,
    pub attributes: u32,
    pub size: u16,
}

impl VirtualNv {
    /// TPMS_NV_PUBLIC.
    fn public(&self) -> Vec<u8> {
        [
            &self.index.to_be_bytes()[..],
            &self.name_algorithm.to_be_bytes(),
            &self.attributes.to_be_bytes(),
            &[0, 0],
            &self.size.to_be_bytes(),
        ]
        .concat()
    }

    /// The response to NV_ReadPublic: public area and name.
    pub fn read_public(&self) -> Vec<u8> {
        let public = self.public();
        let hash = match self.name_algorithm {
            SHA512 => ratls::crypto::sha512(&[&public]).as_bytes().to_vec(),
            id if id == Bank::Sha384.id() => Bank::Sha384.hash(&public),
            _ => Bank::Sha256.hash(&public),
        };
        let name = [&self.name_algorithm.to_be_bytes()[..], &hash].concat();
        success(0, &[sized(&public), sized(&name)].concat())
    }

    /// The response to this NV_Read of `content`.
    pub fn read(&self, command: &Seen<'_>, content: &[u8]) -> Vec<u8> {
        let Some((size, offset)) = read_range(command) else { return refusal(VALUE) };
        if size > MAX_READ {
            return refusal(VALUE);
        }
        match content.get(offset..offset + size) {
            Some(part) => success(command.sessions, &sized(part)),
            None => refusal(NV_RANGE),
        }
    }
}

/// Size and offset that an NV_Read asks for.
pub fn read_range(command: &Seen<'_>) -> Option<(usize, usize)> {
    let mut fields = super::command::Fields::new(command.parameters);
    Some((fields.u16()?.into(), fields.u16()?.into()))
}

/// NV_ReadPublic of this index.
pub fn asks_public(command: &[u8]) -> Option<u32> {
    let seen = Seen::of(command, 1)?;
    (seen.code == NV_READ_PUBLIC).then(|| seen.handles.first().copied())?
}

/// NV_Read of an index: which one, and the command.
pub fn asks_content(command: &[u8]) -> Option<(u32, Seen<'_>)> {
    let seen = Seen::of(command, 2)?;
    let index = *seen.handles.get(1)?;
    (seen.code == NV_READ).then_some((index, seen))
}

/// Whether its authorisations are passwords.
pub fn by_password(command: &[u8], handles: usize) -> bool {
    let area = super::command::HEADER + 4 * handles + 4;
    let first = command.get(area..).and_then(|rest| super::command::Fields::new(rest).u32());
    first == Some(PASSWORD)
}
