//! What a user of a deployment has in hand: files in a folder, and the policy beside them, in sections that can be left away one by one.

use std::path::Path;

use evident_client::tools::policy::{self, LoadedPolicy};
use evident_tests::launch::Launched;
use ratls::reference::VerityFormat;
use simulator::rebuild::{Rebuilder, Source};
use tempfile::TempDir;

/// Where the rebuilders say that all of it comes from.
const SOURCE: Source<'static> =
    Source { uri: "git+https://source.example/guest", commit: "5e1f0c39d41e6c3f8e2f6a6d51c2a4d7b9e80f12" };
/// Of dm-verity, in hex.
const SALT: &str = "ab";

pub(crate) struct Held {
    folder: TempDir,
    sections: Vec<(&'static str, String)>,
}

impl Held {
    pub(crate) fn new(head: String) -> Held {
        let folder = tempfile::Builder::new().prefix("evident-held-").tempdir().unwrap();
        Held { folder, sections: vec![("head", head)] }
    }

    /// A section of the policy.
    pub(crate) fn with(mut self, section: &'static str, text: &str) -> Held {
        self.sections.push((section, text.to_owned()));
        self
    }

    /// These keys in the last table of the policy's head, which is that of the platform.
    pub(crate) fn adding_to_head(mut self, keys: &str) -> Held {
        let (_, head) = &mut self.sections[0];
        *head = format!("{}\n{keys}", head.trim_end());
        self
    }

    pub(crate) fn file(self, name: &str, bytes: impl AsRef<[u8]>) -> Held {
        std::fs::write(self.folder.path().join(name), bytes).unwrap();
        self
    }

    /// The files of a launch.
    pub(crate) fn launched(self, launched: &Launched) -> Held {
        for file in std::fs::read_dir(launched.folder()).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), self.folder.path().join(file.file_name())).unwrap();
        }
        self
    }

    /// The image whose root hash is [`root_hash`].
    pub(crate) fn image(self) -> Held {
        let reference = format!("[[reference]]\nkind = \"verity\"\nimage = \"root.img\"\nsalt = \"{SALT}\"\n");
        self.file("root.img", IMAGE).with("image", &reference)
    }

    /// Two rebuilders say that they made these files out of their source.
    pub(crate) fn rebuilt(self, files: &[&str]) -> Held {
        let bytes: Vec<Vec<u8>> = files.iter().map(|name| self.read(name)).collect();
        let files: Vec<(&str, &[u8])> = files.iter().copied().zip(bytes.iter().map(Vec::as_slice)).collect();
        let mut text =
            "[[reference]]\nkind = \"rebuild\"\nstatements = [\"a.json\", \"b.json\"]\nat_least = 2\n".to_owned();
        let mut held = self;
        for name in ["a", "b"] {
            let rebuilder = Rebuilder::generate();
            held = held.file(&format!("{name}.json"), rebuilder.statement(SOURCE, &files));
            let key = rebuilder.public_key();
            text.push_str(&format!("[[reference.rebuilders]]\nname = \"rebuilder {name}\"\nkey = \"{key}\"\n"));
        }
        held.with("rebuild", &text)
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.folder.path().join(name)).unwrap()
    }

    /// The policy with all its sections.
    pub(crate) fn policy(&self) -> String {
        self.without(&[])
    }

    /// The policy, these sections left away.
    pub(crate) fn without(&self, left_away: &[&str]) -> String {
        for name in left_away {
            assert!(self.sections.iter().any(|(section, _)| section == name), "the policy has no section {name}");
        }
        let kept = self.sections.iter().filter(|(name, _)| !left_away.contains(name));
        kept.map(|(_, text)| format!("{text}\n")).collect()
    }

    /// Loads this text as `evident-client` loads a policy file that stands in the folder. `roots` are the simulator's.
    pub(crate) fn load(&self, policy: &str, roots: &Path) -> LoadedPolicy {
        let file = self.folder.path().join("policy.toml");
        std::fs::write(&file, crate::policies::with_root(policy, roots)).unwrap();
        // A policy that rests on Google's endorsements names their root by a file of its own; it is the last of a simulated cloud's.
        let pem = std::fs::read_to_string(roots).unwrap();
        let last = pem.rfind("-----BEGIN").map_or("", |at| &pem[at..]);
        std::fs::write(self.folder.path().join("gce-tcb-root.pem"), last).unwrap();
        policy::load(&file).unwrap_or_else(|error| panic!("{error}\n{policy}"))
    }
}

/// Three blocks of a root file system.
const IMAGE: [u8; 3 * 4096] = [0x5E; 3 * 4096];

/// What a command line must say to mount the image and no other.
pub(crate) fn root_hash() -> String {
    let mut hasher = VerityFormat::new(None, None, hex::decode(SALT).unwrap()).unwrap().hasher();
    hasher.update(&IMAGE);
    hasher.finish().unwrap().root().to_string()
}
