//! From what a policy file asks for, and its files, to what a launch or a boot must come to.

use super::super::error::PolicyError;
use super::super::verity::VerityRules;
use super::wanted::{FirmwareWanted, Item, LaunchWanted, Place, UserspaceWanted, Wanted};
use super::{DigestReference, FileProblem, ImageReference, ReferenceFiles, References};
use formats::digest::Sha256Digest;
use measure::launch::{
    Firmware, Ingredient, KernelHashes, MAX_FIRMWARE_BYTES, MAX_IGVM_BYTES, MAX_RECIPE_BYTES, OvmfLaunch, PagesRecipe,
    measure_igvm,
};
use measure::measured_boot::command_line::CommandLine;
use measure::reference::{
    LaunchNames, LaunchReference, MAX_ENVELOPE_BYTES, Rebuilder, Rebuilders, Userspace, VerityFormat, VerityRoot,
    cmdline_value, own_build,
};

/// A kernel or an initrd: read whole, since both are hashed as one.
const MAX_FILE_BYTES: usize = 2 << 30;

/// Where there are no files to be had.
pub(super) struct NoFiles;

impl ReferenceFiles for NoFiles {
    fn read(&mut self, name: &str, _: usize) -> Result<Vec<u8>, FileProblem> {
        Err(FileProblem(format!("{name} was not loaded")))
    }
    fn stream(&mut self, name: &str, _: &mut dyn FnMut(&[u8])) -> Result<(), FileProblem> {
        Err(FileProblem(format!("{name} was not loaded")))
    }
}

impl References {
    /// Replaces what was loaded before.
    pub(in crate::policy) fn load(&mut self, files: &mut dyn ReferenceFiles) -> Result<(), PolicyError> {
        let mut loaded = References::default();
        for (place, wanted) in &self.wanted {
            loaded.take(place, wanted, files)?;
        }
        let References { launches, digests, images, rebuilds, boot, .. } = loaded;
        (self.launches, self.digests, self.images, self.rebuilds) = (launches, digests, images, rebuilds);
        self.boot = boot;
        Ok(())
    }

    fn take(&mut self, place: &Place, wanted: &Wanted, files: &mut dyn ReferenceFiles) -> Result<(), PolicyError> {
        match wanted {
            Wanted::Launch(launch) => self.launches.push(launch.load(place, files)?),
            Wanted::Pages { list, userspace } => self.launches.push(pages(place, list, userspace, files)?),
            Wanted::Igvm { file } => {
                let bytes = files.read(file, MAX_IGVM_BYTES).map_err(|e| place.error(e))?;
                let launch = measure_igvm(&bytes, file).map_err(|e| place.error(format!("{file}: {e}")))?;
                self.launches.push(LaunchReference::pages(&launch, Userspace::Elsewhere));
            }
            Wanted::Digests { measurements, origin } => {
                self.digests.push(DigestReference { measurements: measurements.clone(), origin: *origin });
            }
            Wanted::Image { image, superblock, format } => {
                let root = verity(place, image, superblock.as_deref(), format, files)?;
                self.images.push(ImageReference { name: image.clone(), root });
            }
            Wanted::Rebuild { statements, rebuilders, at_least } => {
                let all = rebuilders.iter().map(|(name, key)| Rebuilder { name: name.clone(), key: key.clone() });
                let rebuilders = Rebuilders::new(all.collect(), *at_least).map_err(|e| place.error(e))?;
                let bytes = statements
                    .iter()
                    .map(|name| files.read(name, MAX_ENVELOPE_BYTES).map_err(|e| place.error(e)))
                    .collect::<Result<Vec<_>, _>>()?;
                let named: Vec<_> = statements.iter().zip(&bytes).map(|(n, b)| (n.as_str(), b.as_slice())).collect();
                self.rebuilds.extend(rebuilders.check(&named).map_err(|e| place.error(e))?);
            }
            Wanted::OwnBuild { command, source, sha256 } => {
                self.rebuilds.extend(sha256.iter().map(|digest| own_build(command, source, *digest)));
            }
            Wanted::Boot(wanted) => {
                let boot = self.boot.get_or_insert_default();
                for (part, name) in wanted {
                    boot.add(*part, name, &files.read(name, MAX_FILE_BYTES).map_err(|e| place.error(e))?);
                }
            }
        }
        Ok(())
    }
}

impl LaunchWanted {
    fn load(&self, place: &Place, files: &mut dyn ReferenceFiles) -> Result<LaunchReference, PolicyError> {
        let firmware = match &self.firmware {
            FirmwareWanted::Digest(firmware) => firmware.clone(),
            FirmwareWanted::File(name) => {
                let image = files.read(name, MAX_FIRMWARE_BYTES).map_err(|e| place.error(e))?;
                Firmware::from_image(&image).map_err(|e| place.error(format!("{name}: {e}")))?
            }
        };
        let mut item = |item: &Item| match item {
            Item::File(name) => {
                let bytes = files.read(name, MAX_FILE_BYTES).map_err(|e| place.error(e))?;
                Ok::<_, PolicyError>(Ingredient::of_file(&bytes))
            }
            Item::Digest(digest) => Ok(Ingredient::by_digest(*digest)),
        };
        let hashes = match &self.kernel {
            None => None,
            Some(wanted) => Some(KernelHashes {
                kernel: item(&wanted.kernel)?,
                initrd: wanted.initrd.as_ref().map_or(Ok(Ingredient::absent()), &mut item)?,
                cmdline: Ingredient::of_cmdline(&wanted.cmdline),
            }),
        };
        let name = |item: &Item| match item {
            Item::File(name) => name.clone(),
            Item::Digest(digest) => digest.to_string(),
        };
        let names = LaunchNames {
            firmware: match &self.firmware {
                FirmwareWanted::File(name) => name.clone(),
                FirmwareWanted::Digest(firmware) => firmware.after_pages().to_string(),
            },
            kernel: self.kernel.as_ref().map(|k| name(&k.kernel)).unwrap_or_default(),
            initrd: self.kernel.as_ref().and_then(|k| k.initrd.as_ref()).map(name),
            cmdline: self.kernel.as_ref().map(|k| k.cmdline.clone()).unwrap_or_default(),
        };
        let userspace = self.userspace.resolve(place, Some(&names.cmdline))?;
        let launch = OvmfLaunch::new(firmware, hashes).map_err(|e| place.error(e))?;
        LaunchReference::ovmf(launch, self.machines.clone(), self.enforcement, &names, userspace)
            .map_err(|e| place.error(e))
    }
}

impl UserspaceWanted {
    fn resolve(&self, place: &Place, cmdline: Option<&str>) -> Result<Userspace, PolicyError> {
        match self {
            UserspaceWanted::Elsewhere => Ok(Userspace::Elsewhere),
            UserspaceWanted::Initrd { neutral_words } => {
                // Of a list of pages the text of the command line is not kept; its bytes are in the digest.
                let line = cmdline.map(CommandLine::parse);
                let doubtful_words = line.map(|line| line.doubtful_words("", neutral_words)).unwrap_or_default();
                Ok(Userspace::Initrd { doubtful_words })
            }
            UserspaceWanted::Sealed => Ok(Userspace::Sealed),
            UserspaceWanted::Verity(VerityRules { key, neutral_words }) => {
                let value = cmdline_value(cmdline.unwrap_or_default(), key).map_err(|e| place.error(e))?;
                let root = Sha256Digest::from_hex(value)
                    .map_err(|_| place.error(format!("{key}= in the command line is no root hash of 64 hex digits")))?;
                let line = CommandLine::parse(cmdline.unwrap_or_default());
                Ok(Userspace::Verity { root, doubtful_words: line.doubtful_words(key, neutral_words) })
            }
        }
    }
}

fn pages(
    place: &Place,
    list: &str,
    userspace: &UserspaceWanted,
    files: &mut dyn ReferenceFiles,
) -> Result<LaunchReference, PolicyError> {
    let refused = |e: &dyn std::fmt::Display| place.error(format!("{list}: {e}"));
    let bytes = files.read(list, MAX_RECIPE_BYTES).map_err(|e| place.error(e))?;
    let text = String::from_utf8(bytes).map_err(|_| refused(&"it is not UTF-8"))?;
    let recipe = PagesRecipe::parse(&text).map_err(|e| refused(&e))?;
    let mut held = Vec::new();
    for name in recipe.files() {
        held.push((name.to_owned(), files.read(name, MAX_FILE_BYTES).map_err(|e| place.error(e))?));
    }
    let bytes_of = |name: &str| held.iter().find(|(known, _)| known == name).map(|(_, bytes)| bytes.as_slice());
    let launch = recipe.measure(bytes_of).map_err(|e| refused(&e))?;
    Ok(LaunchReference::pages(&launch, userspace.resolve(place, None)?))
}

fn verity(
    place: &Place,
    image: &str,
    superblock: Option<&str>,
    format: &VerityFormat,
    files: &mut dyn ReferenceFiles,
) -> Result<VerityRoot, PolicyError> {
    let mut format = format.clone();
    if let Some(name) = superblock {
        let mut head = Vec::new();
        let mut keep = |bytes: &[u8]| {
            let room = measure::reference::SUPERBLOCK_BYTES.saturating_sub(head.len());
            head.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
        };
        files.stream(name, &mut keep).map_err(|e| place.error(e))?;
        format = VerityFormat::from_superblock(&head).map_err(|e| place.error(format!("{name}: {e}")))?;
    }
    let mut hasher = format.hasher();
    files.stream(image, &mut |bytes| hasher.update(bytes)).map_err(|e| place.error(e))?;
    hasher.finish().map_err(|e| place.error(format!("{image}: {e}")))
}
