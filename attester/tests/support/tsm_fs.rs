//! A FUSE-mounted look-alike of configfs-tsm, true to the kernel where it matters to a client (drivers/virt/coco/guest/report.c,
//! sev-guest.c, fs/configfs/file.c):
//! * mkdir makes all attributes; the new entry is root's whoever makes it; write-only files have mode 0200;
//! * a binary attribute takes its bytes when the file is closed, and an error then reaches nobody;
//! * reading `outblob` asks the hardware only if something was written since; the first read of an open file decides its bytes;
//! * a file larger than the attribute allows is EFBIG at once, `inblob` of another size than 64 is EINVAL when `outblob` is read.

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry,
    ReplyOpen, ReplyWrite, Request, SessionACL, WriteFlags,
};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What the hardware behind the look-alike answers to (REPORT_DATA, VMPL): report and certificate table, or an errno.
pub(crate) type Hardware = Box<dyn FnMut(&[u8; 64], u32) -> Result<(Vec<u8>, Vec<u8>), Errno> + Send>;

/// A 1184-byte stand-in for a report with the two fields that a client compares.
pub(crate) fn report_over(data: &[u8; 64], vmpl: u32) -> Vec<u8> {
    let mut report = vec![0; 1184];
    report[0x30..0x34].copy_from_slice(&vmpl.to_le_bytes());
    report[0x50..0x90].copy_from_slice(data);
    report
}

/// The mounted look-alike; unmounts when dropped.
pub(crate) struct TsmLookAlike {
    pub(crate) root: PathBuf,
    state: Arc<Mutex<State>>,
    _session: BackgroundSession,
    _dir: tempfile::TempDir,
}

impl TsmLookAlike {
    /// `None`, with a line that names the test, where this machine cannot mount FUSE file systems.
    pub(crate) fn mount(test: &str, hardware: Hardware) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a temporary folder");
        // Other users walk through it.
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).expect("our own folder");
        let root = dir.path().join("report");
        std::fs::create_dir(&root).expect("our own folder");
        let state = Arc::new(Mutex::new(State::new(hardware)));
        let mut config = Config::default();
        config.mount_options =
            vec![MountOption::FSName("configfs-tsm".into()), MountOption::DefaultPermissions, MountOption::NoDev];
        config.acl = SessionACL::All;
        match fuser::spawn_mount(TsmFs(state.clone()), &root, &config) {
            Ok(session) => Some(TsmLookAlike { root, state, _session: session, _dir: dir }),
            Err(error) => {
                println!("skipped: {test}: cannot mount a FUSE file system with allow_other ({error})");
                None
            }
        }
    }

    pub(crate) fn knobs(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while it holds the knobs")
    }

    pub(crate) fn entries(&self) -> Vec<PathBuf> {
        list(&self.root)
    }
}

fn list(dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(dir).expect("the mount is readable").map(|e| e.expect("readable").path()).collect()
}

/// Everything behind the mount, and what a test may turn.
pub(crate) struct State {
    hardware: Hardware,
    pub(crate) provider: &'static str,
    pub(crate) floor: u32,
    /// Answers for the next reads of `outblob` instead of the hardware's.
    pub(crate) errors: VecDeque<Errno>,
    /// So many of the next closings of `inblob` are followed at once by those of a rival with other bytes.
    pub(crate) rivals: u32,
    /// Requests that reached the hardware.
    pub(crate) asked: u32,
    entries: BTreeMap<u64, Entry>,
    open: HashMap<u64, Open>,
    next: u64,
}

struct Entry {
    name: String,
    owners: HashMap<usize, (u32, u32)>,
    inblob: Vec<u8>,
    vmpl: u32,
    write_generation: u64,
    read_generation: u64,
    out: Vec<u8>,
    aux: Vec<u8>,
}

#[derive(Default)]
struct Open {
    pending: Option<Vec<u8>>,
    bytes: Option<Vec<u8>>,
}

const ATTRIBUTES: [(&str, u16); 7] = [
    ("inblob", 0o200),
    ("outblob", 0o444),
    ("auxblob", 0o444),
    ("provider", 0o444),
    ("generation", 0o444),
    ("privlevel", 0o200),
    ("privlevel_floor", 0o444),
];
const INBLOB_MAX: usize = 64;
/// Inode of an entry = its number × STRIDE; of its n-th attribute, n + 1 more.
const STRIDE: u64 = 16;
const NOW: Duration = Duration::ZERO;

impl State {
    fn new(hardware: Hardware) -> Self {
        State {
            hardware,
            provider: "sev_guest",
            floor: 0,
            errors: VecDeque::new(),
            rivals: 0,
            asked: 0,
            entries: BTreeMap::new(),
            open: HashMap::new(),
            next: 1,
        }
    }

    fn entry_of(&mut self, ino: u64) -> Result<(&mut Entry, Option<usize>), Errno> {
        let attribute = (ino % STRIDE).checked_sub(1).map(|n| n as usize);
        self.entries.get_mut(&(ino / STRIDE)).map(|entry| (entry, attribute)).ok_or(Errno::ENOENT)
    }

    fn attr(&mut self, ino: u64) -> Result<FileAttr, Errno> {
        if ino == 1 {
            return Ok(file_attr(ino, FileType::Directory, 0o755, (0, 0)));
        }
        let (entry, attribute) = self.entry_of(ino)?;
        Ok(match attribute {
            None => file_attr(ino, FileType::Directory, 0o755, (0, 0)),
            Some(n) => {
                let owner = entry.owners.get(&n).copied().unwrap_or((0, 0));
                file_attr(ino, FileType::RegularFile, ATTRIBUTES[n].1, owner)
            }
        })
    }

    fn content(&mut self, ino: u64) -> Result<Vec<u8>, Errno> {
        let (provider, floor) = (self.provider, self.floor);
        let (entry, attribute) = self.entry_of(ino)?;
        match ATTRIBUTES[attribute.ok_or(Errno::EISDIR)?].0 {
            "provider" => Ok(format!("{provider}\n").into_bytes()),
            "generation" => Ok(format!("{}\n", entry.write_generation).into_bytes()),
            "privlevel_floor" => Ok(format!("{floor}\n").into_bytes()),
            "outblob" => self.generate(ino).map(|entry| entry.out.clone()),
            "auxblob" => self.generate(ino).map(|entry| entry.aux.clone()),
            _ => Err(Errno::EACCES),
        }
    }

    /// `tsm_report_read`: asks the hardware unless the cached report is of the current generation.
    fn generate(&mut self, ino: u64) -> Result<&Entry, Errno> {
        let entry = self.entries.get_mut(&(ino / STRIDE)).ok_or(Errno::ENOENT)?;
        if entry.out.is_empty() || entry.read_generation != entry.write_generation {
            if let Some(error) = self.errors.pop_front() {
                return Err(error);
            }
            let data: &[u8; 64] = entry.inblob.as_slice().try_into().map_err(|_| Errno::EINVAL)?;
            self.asked += 1;
            (entry.out, entry.aux) = (self.hardware)(data, entry.vmpl)?;
            entry.read_generation = entry.write_generation;
        }
        Ok(entry)
    }

    fn close(&mut self, ino: u64, fh: u64) -> Result<(), Errno> {
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

    fn write(&mut self, ino: u64, fh: u64, offset: u64, data: &[u8]) -> Result<(), Errno> {
        let floor = self.floor;
        let (entry, attribute) = self.entry_of(ino)?;
        match ATTRIBUTES[attribute.ok_or(Errno::EISDIR)?].0 {
            "inblob" => {
                let offset = usize::try_from(offset).map_err(|_| Errno::EFBIG)?;
                if offset + data.len() > INBLOB_MAX {
                    return Err(Errno::EFBIG);
                }
                let pending = self.open.entry(fh).or_default().pending.get_or_insert_default();
                pending.resize(pending.len().max(offset + data.len()), 0);
                pending[offset..offset + data.len()].copy_from_slice(data);
                Ok(())
            }
            "privlevel" => {
                let text = std::str::from_utf8(data).map_err(|_| Errno::EINVAL)?;
                let level = text.trim_end().parse().map_err(|_| Errno::EINVAL)?;
                if level < floor || level > 3 {
                    return Err(Errno::EINVAL);
                }
                entry.vmpl = level;
                entry.write_generation += 1;
                Ok(())
            }
            _ => Err(Errno::EACCES),
        }
    }
}

fn file_attr(ino: u64, kind: FileType, perm: u16, (uid, gid): (u32, u32)) -> FileAttr {
    FileAttr {
        ino: INodeNo(ino),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind,
        perm,
        nlink: 1,
        uid,
        gid,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

struct TsmFs(Arc<Mutex<State>>);

impl TsmFs {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics while it holds the knobs")
    }
}

impl Filesystem for TsmFs {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut state = self.state();
        let ino = if parent == INodeNo::ROOT {
            state.entries.iter().find(|(_, entry)| name.to_str() == Some(&entry.name)).map(|(id, _)| id * STRIDE)
        } else {
            let at = ATTRIBUTES.iter().position(|(attribute, _)| name.to_str() == Some(attribute));
            at.map(|n| parent.0 + n as u64 + 1)
        };
        match ino.ok_or(Errno::ENOENT).and_then(|ino| state.attr(ino)) {
            Ok(attr) => reply.entry(&NOW, &attr, Generation(0)),
            Err(error) => reply.error(error),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.state().attr(ino.0) {
            Ok(attr) => reply.attr(&NOW, &attr),
            Err(error) => reply.error(error),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        _mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        _size: Option<u64>,
        _atime: Option<fuser::TimeOrNow>,
        _mtime: Option<fuser::TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut state = self.state();
        if let Ok((entry, Some(n))) = state.entry_of(ino.0) {
            let owner = entry.owners.entry(n).or_insert((0, 0));
            *owner = (uid.unwrap_or(owner.0), gid.unwrap_or(owner.1));
        }
        match state.attr(ino.0) {
            Ok(attr) => reply.attr(&NOW, &attr),
            Err(error) => reply.error(error),
        }
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        let mut state = self.state();
        let Some(name) = name.to_str().filter(|_| parent == INodeNo::ROOT) else { return reply.error(Errno::EPERM) };
        let id = state.next;
        state.next += 1;
        let entry = Entry {
            name: name.into(),
            owners: HashMap::new(),
            inblob: vec![],
            vmpl: 0,
            write_generation: 0,
            read_generation: 0,
            out: vec![],
            aux: vec![],
        };
        state.entries.insert(id, entry);
        let attr = state.attr(id * STRIDE).expect("it was just made");
        reply.entry(&NOW, &attr, Generation(0));
    }

    fn rmdir(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let mut state = self.state();
        let before = state.entries.len();
        state.entries.retain(|_, entry| name.to_str() != Some(&entry.name));
        if state.entries.len() < before { reply.ok() } else { reply.error(Errno::ENOENT) }
    }

    fn create(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: i32, reply: ReplyCreate) {
        reply.error(Errno::EPERM);
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let mut state = self.state();
        let fh = state.next;
        state.next += 1;
        state.open.insert(fh, Open::default());
        reply.opened(FileHandle(fh), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut state = self.state();
        let known = state.open.get(&fh.0).and_then(|open| open.bytes.clone());
        match known.map_or_else(|| state.content(ino.0), Ok) {
            Ok(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                let end = start.saturating_add(size as usize).min(bytes.len());
                reply.data(&bytes[start..end]);
                state.open.entry(fh.0).or_default().bytes = Some(bytes);
            }
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.state().write(ino.0, fh.0, offset, data) {
            Ok(()) => reply.written(data.len() as u32),
            Err(error) => reply.error(error),
        }
    }

    /// What configfs does on release happens on flush here, because close(2) waits for a FUSE server's flush only.
    fn flush(&self, _: &Request, ino: INodeNo, fh: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // The error, if any, is lost, as the kernel loses it.
        let _ = self.state().close(ino.0, fh.0);
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.state().open.remove(&fh.0);
        reply.ok();
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let names: Vec<(u64, FileType, String)> = if ino == INodeNo::ROOT {
            let state = self.state();
            state.entries.iter().map(|(id, e)| (id * STRIDE, FileType::Directory, e.name.clone())).collect()
        } else {
            let file =
                |(n, (name, _)): (usize, &(&str, u16))| (ino.0 + n as u64 + 1, FileType::RegularFile, name.to_string());
            ATTRIBUTES.iter().enumerate().map(file).collect()
        };
        for (i, (ino, kind, name)) in names.into_iter().enumerate().skip(offset as usize) {
            if reply.add(INodeNo(ino), i as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }
}
