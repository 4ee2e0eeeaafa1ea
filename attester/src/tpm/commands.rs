//! The commands that attestation needs, one method each, over whatever link leads to the TPM.
//!
//! A code that passes by itself (busy, testing, NV writes too frequent) is waited for, with growing pauses, within [`Patience`]; what
//! does not pass in that time is [`TpmError::Busy`] and told to whoever asked.

use super::code::Meaning;
use super::frame::{Command, Response, response_code, sized};
use super::link::{Address, Link};
use super::quote::Loaded;
use super::{Code, TpmError};
use ratls::bytes::Reader;
use ratls::evidence::tpm::Bank;
use ratls::wire::credential::Credential;
use std::time::{Duration, Instant};

/// What one NV_Read or NV_Write moves at most; each TPM takes this much (TPM_PT_NV_BUFFER_MAX is 1024 or more on PCs, 2048 on NitroTPM).
const NV_CHUNK: usize = 1024;
const TPM_RH_NULL: u32 = 0x4000_0007;
const ALG_NULL: u16 = 0x0010;
const ALG_SHA256: u16 = 0x000B;
const POLICY_SESSION: u8 = 1;
/// Three bytes of bitmap select PCR 0 to 23.
const ALL_PCRS: [u8; 3] = [0xFF; 3];
pub(super) const PCR_COUNT: u8 = 24;

/// Registers and their values.
type Values = Vec<(u8, Vec<u8>)>;

/// Attributes of an NV index (part 2 §13.4).
mod attribute {
    pub(super) const OWNERWRITE: u32 = 1 << 1;
    pub(super) const AUTHWRITE: u32 = 1 << 2;
    pub(super) const OWNERREAD: u32 = 1 << 17;
    pub(super) const AUTHREAD: u32 = 1 << 18;
    pub(super) const NO_DA: u32 = 1 << 25;
}

/// A hierarchy, whose seed makes primary keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hierarchy {
    Owner,
    Endorsement,
}

impl Hierarchy {
    fn handle(self) -> u32 {
        match self {
            Hierarchy::Owner => 0x4000_0001,
            Hierarchy::Endorsement => 0x4000_000B,
        }
    }
}

/// What NV_ReadPublic says of an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NvIndex {
    pub index: u32,
    pub size: usize,
    attributes: u32,
}

impl NvIndex {
    /// Who may read it (or write it) with an empty password; the owner first.
    fn by(&self, owner: u32, auth: u32) -> u32 {
        if self.attributes & owner != 0 || self.attributes & auth == 0 { Hierarchy::Owner.handle() } else { self.index }
    }
}

/// How an index of ours is defined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NvAccess {
    /// By the owner.
    Owner,
    /// By whoever knows its (empty) password.
    Password,
}

/// How long a TPM that says "not now" is asked again.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    pub first_pause: Duration,
    pub longest_pause: Duration,
    pub total: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience {
            first_pause: Duration::from_millis(10),
            longest_pause: Duration::from_millis(320),
            total: Duration::from_secs(2),
        }
    }
}

/// An open TPM. Whoever owns it has it for the time.
pub struct Tpm {
    address: Address,
    link: Box<dyn Link>,
    patience: Patience,
    pub(super) ak: Option<Loaded>,
}

impl Tpm {
    pub fn open(address: &Address) -> Result<Self, TpmError> {
        let link = address.open()?;
        Ok(Tpm { address: address.clone(), link, patience: Patience::default(), ak: None })
    }

    /// Over a link that a test brings.
    pub fn over(address: Address, link: Box<dyn Link>) -> Self {
        Tpm { address, link, patience: Patience::default(), ak: None }
    }

    pub fn with_patience(self, patience: Patience) -> Self {
        Tpm { patience, ..self }
    }

    pub fn address(&self) -> &Address {
        &self.address
    }

    /// `None` where there is no such index.
    pub fn nv_index(&mut self, index: u32) -> Result<Option<NvIndex>, TpmError> {
        let command = Command::new("NV_ReadPublic", 0x169).handle(index);
        let response = match self.run(&command) {
            Err(TpmError::Code { code, .. }) if code.is_missing_handle() => return Ok(None),
            other => other?,
        };
        let public = |parameters: &[u8]| {
            let mut reader = Reader::new(sized(&mut Reader::new(parameters))?);
            let index = reader.u32_be().ok()?;
            reader.u16_be().ok()?;
            let attributes = reader.u32_be().ok()?;
            sized(&mut reader)?;
            Some(NvIndex { index, size: reader.u16_be().ok()?.into(), attributes })
        };
        public(&response.parameters).filter(|seen| seen.index == index).ok_or(malformed(&command)).map(Some)
    }

    /// All of an index, from offset 0 on.
    pub fn nv_read(&mut self, nv: &NvIndex) -> Result<Vec<u8>, TpmError> {
        let authority = nv.by(attribute::OWNERREAD, attribute::AUTHREAD);
        let mut bytes = Vec::with_capacity(nv.size);
        while bytes.len() < nv.size {
            let length = (nv.size - bytes.len()).min(NV_CHUNK);
            let command = Command::new("NV_Read", 0x14E)
                .authorised(authority)
                .handle(nv.index)
                .u16(u16::try_from(length).expect("a chunk is small"))
                .u16(u16::try_from(bytes.len()).expect("an index has at most 65,535 bytes"));
            let response = self.run(&command)?;
            match sized(&mut Reader::new(&response.parameters)) {
                Some(chunk) if chunk.len() == length => bytes.extend(chunk),
                _ => return Err(malformed(&command)),
            }
        }
        Ok(bytes)
    }

    /// The content of an index that this platform has.
    pub(crate) fn nv_content(&mut self, index: u32, what: &'static str) -> Result<Vec<u8>, TpmError> {
        let nv = self.nv_index(index)?.ok_or(TpmError::NoIndex { index, what })?;
        self.nv_read(&nv)
    }

    /// Makes an ordinary index. A TPM refuses a second one of the same number.
    pub(crate) fn nv_define(&mut self, index: u32, size: u16, access: NvAccess) -> Result<NvIndex, TpmError> {
        let attributes = attribute::NO_DA
            | match access {
                NvAccess::Owner => attribute::OWNERREAD | attribute::OWNERWRITE,
                NvAccess::Password => attribute::AUTHREAD | attribute::AUTHWRITE,
            };
        let public = [
            &index.to_be_bytes()[..],
            &ALG_SHA256.to_be_bytes(),
            &attributes.to_be_bytes(),
            &[0, 0],
            &size.to_be_bytes(),
        ]
        .concat();
        let owner = Hierarchy::Owner.handle();
        self.run(&Command::new("NV_DefineSpace", 0x12A).authorised(owner).sized(&[]).sized(&public))?;
        Ok(NvIndex { index, size: size.into(), attributes })
    }

    pub(crate) fn nv_write(&mut self, nv: &NvIndex, bytes: &[u8]) -> Result<(), TpmError> {
        let authority = nv.by(attribute::OWNERWRITE, attribute::AUTHWRITE);
        let mut offset = 0;
        for chunk in bytes.chunks(NV_CHUNK) {
            let command = Command::new("NV_Write", 0x137).authorised(authority).handle(nv.index).sized(chunk);
            self.run(&command.u16(offset))?;
            offset += u16::try_from(chunk.len()).expect("a chunk is small");
        }
        Ok(())
    }

    pub(crate) fn nv_undefine(&mut self, index: u32) -> Result<(), TpmError> {
        let owner = Hierarchy::Owner.handle();
        self.run(&Command::new("NV_UndefineSpace", 0x122).authorised(owner).handle(index)).map(drop)
    }

    /// NitroTPM's attestation document: reads the request from the index and writes the answer into it.
    pub(crate) fn nitro_attest(&mut self, index: u32) -> Result<(), TpmError> {
        self.run(&Command::new("the command for an attestation document", 0x2000_0001).authorised(index).handle(index))
            .map(drop)
    }

    /// A fixed property of the TPM, such as a quarter of its vendor's string; `None` where it has none of that number.
    pub fn property(&mut self, property: u32) -> Result<Option<u32>, TpmError> {
        const TPM_PROPERTIES: u32 = 6;
        let command = Command::new("GetCapability", 0x17A).u32(TPM_PROPERTIES).u32(property).u32(1);
        let response = self.run(&command)?;
        let first = |parameters: &[u8]| {
            let mut reader = Reader::new(parameters);
            reader.take(5).ok()?;
            match reader.u32_be().ok()? {
                0 => Some(None),
                _ => Some(Some((reader.u32_be().ok()?, reader.u32_be().ok()?))),
            }
        };
        let found = first(&response.parameters).ok_or(malformed(&command))?;
        Ok(found.filter(|(seen, _)| *seen == property).map(|(_, value)| value))
    }

    /// TPMT_PUBLIC of a loaded or persistent key; `None` where there is none at this handle.
    pub fn public(&mut self, handle: u32) -> Result<Option<Vec<u8>>, TpmError> {
        let command = Command::new("ReadPublic", 0x173).handle(handle);
        match self.run(&command) {
            Err(TpmError::Code { code, .. }) if code.is_missing_handle() => Ok(None),
            Err(error) => Err(error),
            Ok(response) => {
                let public = sized(&mut Reader::new(&response.parameters)).ok_or(malformed(&command))?;
                Ok(Some(public.to_vec()))
            }
        }
    }

    /// Makes the primary key that hierarchy and template (TPMT_PUBLIC) give, and loads it: its handle and TPMT_PUBLIC.
    pub(super) fn create_primary(&mut self, hierarchy: Hierarchy, template: &[u8]) -> Result<(u32, Vec<u8>), TpmError> {
        let command = Command::new("CreatePrimary", 0x131)
            .makes_handle()
            .authorised(hierarchy.handle())
            // No password and no data in the sensitive part.
            .sized(&[0, 0, 0, 0])
            .sized(template)
            .u16(0)
            .u32(0);
        let response = self.run(&command)?;
        let public = sized(&mut Reader::new(&response.parameters)).ok_or(malformed(&command))?;
        Ok((response.handle, public.to_vec()))
    }

    /// Unloads a key or session. What is gone already is as good.
    pub(super) fn flush(&mut self, handle: u32) {
        if let Err(error) = self.run(&Command::new("FlushContext", 0x165).raw(&handle.to_be_bytes())) {
            tracing::debug!(%error, "a TPM handle could not be flushed");
        }
    }

    /// All 24 PCRs of a bank, as they were at one time: a TPM gives eight at a time and counts updates.
    pub(super) fn pcrs(&mut self, bank: Bank) -> Result<Values, TpmError> {
        const ATTEMPTS: u32 = 5;
        for _ in 0..ATTEMPTS {
            if let Some(values) = self.pcrs_once(bank)? {
                return Ok(values);
            }
        }
        Err(TpmError::PcrsMove { attempts: ATTEMPTS })
    }

    fn pcrs_once(&mut self, bank: Bank) -> Result<Option<Values>, TpmError> {
        let mut values: Values = Vec::new();
        let mut counter = None;
        while values.len() < usize::from(PCR_COUNT) {
            let mut select = ALL_PCRS;
            for (index, _) in &values {
                if let Some(byte) = select.get_mut(usize::from(index / 8)) {
                    *byte &= !(1 << (index % 8));
                }
            }
            let command = Command::new("PCR_Read", 0x17E).raw(&selection(bank, select));
            let response = self.run(&command)?;
            let (seen, read) = pcr_values(&response.parameters, bank).ok_or(malformed(&command))?;
            if counter.is_some_and(|counter| counter != seen) {
                return Ok(None);
            }
            counter = Some(seen);
            values.extend(read);
        }
        values.sort_unstable();
        Ok(Some(values))
    }

    /// TPMS_ATTEST and TPMT_SIGNATURE over all PCRs of the bank, as the TPM gave them.
    pub(super) fn quote_once(
        &mut self,
        key: u32,
        qualifying: &[u8],
        bank: Bank,
    ) -> Result<(Vec<u8>, Vec<u8>), TpmError> {
        let command = Command::new("Quote", 0x158)
            .authorised(key)
            .sized(qualifying)
            // The scheme is the key's own.
            .u16(ALG_NULL)
            .raw(&selection(bank, ALL_PCRS));
        let response = self.run(&command)?;
        let mut reader = Reader::new(&response.parameters);
        let attest = sized(&mut reader).ok_or(malformed(&command))?;
        Ok((attest.to_vec(), reader.remaining().to_vec()))
    }

    /// Opens a credential with the EK of this template, for the key `ak` (part 1 §24). `None` where the TPM says that it was not made
    /// for these two.
    pub(super) fn activate(
        &mut self,
        ak: u32,
        ek_template: &[u8],
        credential: &Credential,
    ) -> Result<Option<Vec<u8>>, TpmError> {
        let (ek, _) = self.create_primary(Hierarchy::Endorsement, ek_template)?;
        let opened = self.endorsement_session().and_then(|session| {
            let command = Command::new("ActivateCredential", 0x147)
                .authorised(ak)
                .by_policy(ek, session)
                .sized(&credential.id_object)
                .sized(&credential.encrypted_secret);
            let opened = self.run(&command);
            if opened.is_err() {
                // A session ends with its first success.
                self.flush(session);
            }
            opened
        });
        self.flush(ek);
        match opened {
            Ok(response) => {
                let secret = sized(&mut Reader::new(&response.parameters)).map(<[u8]>::to_vec);
                secret.map(Some).ok_or(TpmError::Malformed { command: "ActivateCredential" })
            }
            Err(TpmError::Code { command: "ActivateCredential", code }) if !code.is_missing_handle() => {
                tracing::debug!(%code, "a credential was not for this TPM");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// A policy session that says "whoever may use the endorsement hierarchy", as the EK of the default template wants it.
    fn endorsement_session(&mut self) -> Result<u32, TpmError> {
        // Unsalted and unbound, so its key is empty and nothing rests on our nonce.
        let start = Command::new("StartAuthSession", 0x176)
            .makes_handle()
            .handle(TPM_RH_NULL)
            .handle(TPM_RH_NULL)
            .sized(&[0; 32])
            .sized(&[])
            .u8(POLICY_SESSION)
            .u16(ALG_NULL)
            .u16(ALG_SHA256);
        let session = self.run(&start)?.handle;
        let secret = Command::new("PolicySecret", 0x151)
            .authorised(Hierarchy::Endorsement.handle())
            .handle(session)
            .sized(&[])
            .sized(&[])
            .sized(&[])
            .u32(0);
        match self.run(&secret) {
            Ok(_) => Ok(session),
            Err(error) => {
                self.flush(session);
                Err(error)
            }
        }
    }

    /// Sends a command, and again while the TPM says that it will do later.
    fn run(&mut self, command: &Command) -> Result<Response, TpmError> {
        let bytes = command.to_bytes();
        let began = Instant::now();
        let mut pause = self.patience.first_pause;
        loop {
            let response = self.transmit(&bytes)?;
            let code = Code(response_code(&response).ok_or(malformed(command))?);
            match code.meaning() {
                Meaning::Success => return command.read(&response).ok_or(malformed(command)),
                Meaning::Lockout => return Err(TpmError::Lockout),
                Meaning::Final => return Err(TpmError::Code { command: command.name, code }),
                Meaning::Passing if began.elapsed() + pause > self.patience.total => {
                    return Err(TpmError::Busy { code, retry_after: Duration::from_secs(1) });
                }
                Meaning::Passing => std::thread::sleep(pause),
            }
            pause = (pause * 2).min(self.patience.longest_pause);
        }
    }

    /// A link that broke is opened once more: what was loaded is gone then, and made again by whoever misses it.
    fn transmit(&mut self, command: &[u8]) -> Result<Vec<u8>, TpmError> {
        match self.link.transmit(command) {
            Ok(response) => Ok(response),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {
                self.link.transmit(command).map_err(|error| self.address.failed(error))
            }
            Err(error) => {
                let failed = self.address.failed(error);
                if let Ok(link) = self.address.open() {
                    self.link = link;
                }
                Err(failed)
            }
        }
    }
}

fn malformed(command: &Command) -> TpmError {
    TpmError::Malformed { command: command.name }
}

/// TPML_PCR_SELECTION of one bank.
fn selection(bank: Bank, select: [u8; 3]) -> Vec<u8> {
    [&[0, 0, 0, 1][..], &bank.algorithm().to_be_bytes(), &[3], &select].concat()
}

/// The update counter, and the values that a PCR_Read gave; `None` where there are none of that bank.
fn pcr_values(parameters: &[u8], bank: Bank) -> Option<(u32, Values)> {
    let mut reader = Reader::new(parameters);
    let counter = reader.u32_be().ok()?;
    if reader.u32_be().ok()? != 1 || reader.u16_be().ok()? != bank.algorithm() {
        return None;
    }
    let octets = reader.u8().ok()?;
    let bitmap = reader.take(octets.into()).ok()?;
    let indices = (0..PCR_COUNT)
        .filter(|index| bitmap.get(usize::from(index / 8)).is_some_and(|byte| byte & (1 << (index % 8)) != 0));
    let count = reader.u32_be().ok()?;
    let values: Vec<_> = indices.map(|index| Some((index, sized(&mut reader)?.to_vec()))).collect::<Option<_>>()?;
    let all = usize::try_from(count) == Ok(values.len()) && values.iter().all(|(_, value)| value.len() == bank.size());
    (all && !values.is_empty()).then_some((counter, values))
}
