//! What stands behind the files: entries, their generations, and the hardware that is asked when a blob is read.

use fuser::Errno;
use std::collections::{BTreeMap, HashMap, VecDeque};

/// What the hardware is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// REPORT_DATA, or the nonce for the SVSM.
    pub data: [u8; 64],
    pub vmpl: u32,
    /// Where the SVSM is asked instead.
    pub service: Option<Service>,
}

/// A question to the SVSM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    pub provider: String,
    /// Lower case with hyphens; `None`: all services.
    pub guid: Option<String>,
    pub manifest_version: u32,
}

/// Its answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub report: Vec<u8>,
    /// The certificate table.
    pub certificates: Vec<u8>,
    pub manifest: Vec<u8>,
}

/// The hardware behind the look-alike.
pub type Hardware = Box<dyn FnMut(&Asked) -> Result<Answer, Errno> + Send>;

/// Everything behind the mount, and what a test may turn.
pub struct State {
    hardware: Hardware,
    pub provider: &'static str,
    pub floor: u32,
    /// The guest runs under an SVSM: the `service_*` attributes exist.
    pub svsm: bool,
    /// Answers for the next reads of `outblob` instead of the hardware's.
    pub errors: VecDeque<Errno>,
    /// So many of the next closings of `inblob` are followed at once by those of a rival with other bytes.
    pub rivals: u32,
    /// Requests that reached the hardware.
    pub asked: u32,
    pub(super) entries: BTreeMap<u64, Entry>,
    pub(super) open: HashMap<u64, Open>,
    pub(super) next: u64,
}

pub(super) struct Entry {
    pub(super) name: String,
    pub(super) owners: HashMap<usize, (u32, u32)>,
    inblob: Vec<u8>,
    vmpl: u32,
    service: Option<Service>,
    guid: Option<String>,
    manifest_version: u32,
    write_generation: u64,
    read_generation: u64,
    answer: Option<Answer>,
}

#[derive(Default)]
pub(super) struct Open {
    pub(super) pending: Option<Vec<u8>>,
    pub(super) bytes: Option<Vec<u8>>,
}

/// The last four only under an SVSM.
pub(super) const ATTRIBUTES: [(&str, u16); 11] = [
    ("inblob", 0o200),
    ("outblob", 0o444),
    ("auxblob", 0o444),
    ("provider", 0o444),
    ("generation", 0o444),
    ("privlevel", 0o200),
    ("privlevel_floor", 0o444),
    ("service_provider", 0o200),
    ("service_guid", 0o200),
    ("service_manifest_version", 0o200),
    ("manifestblob", 0o444),
];
const WITHOUT_SVSM: usize = 7;
const INBLOB_MAX: usize = 64;
const NIL_GUID: &str = "00000000-0000-0000-0000-000000000000";
/// Inode of an entry = its number × STRIDE; of its n-th attribute, n + 1 more.
pub(super) const STRIDE: u64 = 16;

impl Entry {
    pub(super) fn new(name: &str) -> Self {
        Entry {
            name: name.into(),
            owners: HashMap::new(),
            inblob: vec![],
            vmpl: 0,
            service: None,
            guid: None,
            manifest_version: 0,
            write_generation: 0,
            read_generation: 0,
            answer: None,
        }
    }
}

impl State {
    pub(super) fn new(hardware: Hardware) -> Self {
        State {
            hardware,
            provider: "sev_guest",
            floor: 0,
            svsm: false,
            errors: VecDeque::new(),
            rivals: 0,
            asked: 0,
            entries: BTreeMap::new(),
            open: HashMap::new(),
            next: 1,
        }
    }

    pub(super) fn attributes(&self) -> &'static [(&'static str, u16)] {
        let count = if self.svsm { ATTRIBUTES.len() } else { WITHOUT_SVSM };
        ATTRIBUTES.get(..count).unwrap_or_default()
    }

    pub(super) fn entry_of(&mut self, ino: u64) -> Result<(&mut Entry, Option<usize>), Errno> {
        let attribute = (ino % STRIDE).checked_sub(1).and_then(|n| usize::try_from(n).ok());
        self.entries.get_mut(&(ino / STRIDE)).map(|entry| (entry, attribute)).ok_or(Errno::ENOENT)
    }

    fn attribute_of(&mut self, ino: u64) -> Result<(&mut Entry, &'static str), Errno> {
        let (entry, attribute) = self.entry_of(ino)?;
        let name = ATTRIBUTES.get(attribute.ok_or(Errno::EISDIR)?).ok_or(Errno::ENOENT)?.0;
        Ok((entry, name))
    }

    pub(super) fn content(&mut self, ino: u64) -> Result<Vec<u8>, Errno> {
        let (provider, floor) = (self.provider, self.floor);
        let (entry, attribute) = self.attribute_of(ino)?;
        match attribute {
            "provider" => Ok(format!("{provider}\n").into_bytes()),
            "generation" => Ok(format!("{}\n", entry.write_generation).into_bytes()),
            "privlevel_floor" => Ok(format!("{floor}\n").into_bytes()),
            "outblob" => self.generate(ino).map(|answer| answer.report.clone()),
            "auxblob" => self.generate(ino).map(|answer| answer.certificates.clone()),
            "manifestblob" => self.generate(ino).map(|answer| answer.manifest.clone()),
            _ => Err(Errno::EACCES),
        }
    }

    /// `tsm_report_read`: asks the hardware unless the cached report is of the current generation.
    fn generate(&mut self, ino: u64) -> Result<&Answer, Errno> {
        let entry = self.entries.get_mut(&(ino / STRIDE)).ok_or(Errno::ENOENT)?;
        if entry.answer.is_none() || entry.read_generation != entry.write_generation {
            if let Some(error) = self.errors.pop_front() {
                return Err(error);
            }
            let data: [u8; 64] = entry.inblob.as_slice().try_into().map_err(|_| Errno::EINVAL)?;
            let service = entry.service.clone().map(|service| Service {
                guid: entry.guid.clone(),
                manifest_version: entry.manifest_version,
                ..service
            });
            self.asked += 1;
            entry.answer = Some((self.hardware)(&Asked { data, vmpl: entry.vmpl, service })?);
            entry.read_generation = entry.write_generation;
        }
        entry.answer.as_ref().ok_or(Errno::EIO)
    }

    pub(super) fn close(&mut self, ino: u64, fh: u64) -> Result<(), Errno> {
        let Some(bytes) = self.open.get_mut(&fh).and_then(|open| open.pending.take()) else { return Ok(()) };
        let rival = self.rivals > 0;
        self.rivals = self.rivals.saturating_sub(1);
        let (entry, _) = self.entry_of(ino)?;
        entry.inblob = bytes;
        entry.write_generation += 1;
        if rival {
            entry.inblob = vec![0xEE; INBLOB_MAX];
            entry.write_generation += 1;
        }
        Ok(())
    }

    pub(super) fn write(&mut self, ino: u64, fh: u64, offset: u64, data: &[u8]) -> Result<(), Errno> {
        let floor = self.floor;
        let (entry, attribute) = self.attribute_of(ino)?;
        if attribute == "inblob" {
            let offset = usize::try_from(offset).map_err(|_| Errno::EFBIG)?;
            let end = offset.saturating_add(data.len());
            if end > INBLOB_MAX {
                return Err(Errno::EFBIG);
            }
            let pending = self.open.entry(fh).or_default().pending.get_or_insert_default();
            pending.resize(pending.len().max(end), 0);
            pending.get_mut(offset..end).ok_or(Errno::EFBIG)?.copy_from_slice(data);
            return Ok(());
        }
        let text = std::str::from_utf8(data).map_err(|_| Errno::EINVAL)?.trim();
        match attribute {
            "privlevel" => {
                let level = text.parse().map_err(|_| Errno::EINVAL)?;
                if level < floor || level > 3 {
                    return Err(Errno::EINVAL);
                }
                entry.vmpl = level;
            }
            "service_provider" => {
                entry.service =
                    (!text.is_empty()).then(|| Service { provider: text.to_owned(), guid: None, manifest_version: 0 });
            }
            "service_guid" => {
                let guid = text.to_ascii_lowercase();
                let shape = [8, 4, 4, 4, 12];
                let groups: Vec<&str> = guid.split('-').collect();
                let fits = groups.len() == shape.len()
                    && groups.iter().zip(shape).all(|(group, len)| group.len() == len)
                    && groups.concat().bytes().all(|b| b.is_ascii_hexdigit());
                if !fits {
                    return Err(Errno::EINVAL);
                }
                entry.guid = (guid != NIL_GUID).then_some(guid);
            }
            "service_manifest_version" => entry.manifest_version = text.parse().map_err(|_| Errno::EINVAL)?,
            _ => return Err(Errno::EACCES),
        }
        entry.write_generation += 1;
        Ok(())
    }
}
