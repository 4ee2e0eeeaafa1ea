//! The look-alike as a FUSE file system: entries are directories, attributes are files. What they hold is in [`super::state`].

use super::state::{ATTRIBUTES, Entry, Open, STRIDE, State};
use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner, OpenFlags,
    ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request,
    WriteFlags,
};
use std::ffi::OsStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const NOW: Duration = Duration::ZERO;

pub(super) struct TsmFs(pub(super) Arc<Mutex<State>>);

impl TsmFs {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Filesystem for TsmFs {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut state = self.state();
        let ino = if parent == INodeNo::ROOT {
            state.entries.iter().find(|(_, entry)| name.to_str() == Some(&entry.name)).map(|(id, _)| id * STRIDE)
        } else {
            let at = state.attributes().iter().position(|(attribute, _)| name.to_str() == Some(attribute));
            at.map(|n| parent.0 + n as u64 + 1)
        };
        match ino.ok_or(Errno::ENOENT).and_then(|ino| attr_of(&mut state, ino)) {
            Ok(attr) => reply.entry(&NOW, &attr, Generation(0)),
            Err(error) => reply.error(error),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match attr_of(&mut self.state(), ino.0) {
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
        match attr_of(&mut state, ino.0) {
            Ok(attr) => reply.attr(&NOW, &attr),
            Err(error) => reply.error(error),
        }
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        let mut state = self.state();
        let Some(name) = name.to_str().filter(|_| parent == INodeNo::ROOT) else { return reply.error(Errno::EPERM) };
        let id = state.next;
        state.next += 1;
        state.entries.insert(id, Entry::new(name));
        let attr = attr_of(&mut state, id * STRIDE).expect("it was just made");
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
        let state = self.state();
        let names: Vec<(u64, FileType, String)> = if ino == INodeNo::ROOT {
            state.entries.iter().map(|(id, e)| (id * STRIDE, FileType::Directory, e.name.clone())).collect()
        } else {
            let file =
                |(n, (name, _)): (usize, &(&str, u16))| (ino.0 + n as u64 + 1, FileType::RegularFile, name.to_string());
            state.attributes().iter().enumerate().map(file).collect()
        };
        for (i, (ino, kind, name)) in names.into_iter().enumerate().skip(offset as usize) {
            if reply.add(INodeNo(ino), i as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }
}

fn attr_of(state: &mut State, ino: u64) -> Result<FileAttr, Errno> {
    if ino == 1 {
        return Ok(file_attr(ino, FileType::Directory, 0o755, (0, 0)));
    }
    let (entry, attribute) = state.entry_of(ino)?;
    Ok(match attribute {
        None => file_attr(ino, FileType::Directory, 0o755, (0, 0)),
        Some(n) => {
            let owner = entry.owners.get(&n).copied().unwrap_or((0, 0));
            file_attr(ino, FileType::RegularFile, ATTRIBUTES.get(n).ok_or(Errno::ENOENT)?.1, owner)
        }
    })
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
