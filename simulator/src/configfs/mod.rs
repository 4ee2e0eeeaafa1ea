//! A FUSE-mounted look-alike of configfs-tsm, true to the kernel where it matters to a client (drivers/virt/coco/guest/report.c,
//! drivers/virt/coco/sev-guest/sev-guest.c, fs/configfs/file.c):
//! * mkdir makes all attributes; the new entry is root's whoever makes it; write-only files have mode 0200;
//! * a binary attribute takes its bytes when the file is closed, and an error then reaches nobody;
//! * reading `outblob` asks the hardware only if something was written since; the first read of an open file decides its bytes;
//! * a file larger than the attribute allows is EFBIG at once, `inblob` of another size than 64 is EINVAL when `outblob` is read;
//! * the `service_*` attributes and `manifestblob` exist only under an SVSM.

mod fs;
mod state;

pub use fuser::Errno;
pub use state::{Answer, Asked, Hardware, Service, State};

use fuser::{BackgroundSession, Config, MountOption, SessionACL};
use std::fs as files;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The mounted look-alike; unmounts when dropped.
pub struct TsmLookAlike {
    root: PathBuf,
    state: Arc<Mutex<State>>,
    _session: BackgroundSession,
}

impl TsmLookAlike {
    /// Mounts it at `dir/report`, for every user where `shared` is set (which takes root, or `user_allow_other` in fuse.conf).
    pub fn mount(dir: &Path, shared: bool, hardware: Hardware) -> io::Result<Self> {
        // Other users walk through it.
        files::create_dir_all(dir)?;
        files::set_permissions(dir, PermissionsExt::from_mode(0o755))?;
        let root = dir.join("report");
        files::create_dir_all(&root)?;
        let state = Arc::new(Mutex::new(State::new(hardware)));
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("configfs-tsm".into()), MountOption::NoDev];
        if shared {
            config.mount_options.push(MountOption::DefaultPermissions);
            config.acl = SessionACL::All;
        }
        let session = fuser::spawn_mount(fs::TsmFs(Arc::clone(&state)), &root, &config)?;
        Ok(TsmLookAlike { root, state, _session: session })
    }

    /// In the place of `/sys/kernel/config/tsm/report`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn knobs(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Paths of the entries that exist.
    pub fn entries(&self) -> io::Result<Vec<PathBuf>> {
        files::read_dir(&self.root)?.map(|entry| entry.map(|entry| entry.path())).collect()
    }
}
