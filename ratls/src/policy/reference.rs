//! `[[reference]]`: what a guest must be made of, by digests that somebody names, by files that the policy names, or by files that
//! were rebuilt from source.
//!
//! Parsing opens no file. Whoever loads the policy reads what [`References::files`] lists and hands it to
//! [`super::AppraisalPolicy::load_references`]; until then a reference with files matches nothing.

use std::fmt;

use super::document::{Entry, Section};
use super::error::{PolicyError, PolicyProblem};
use crate::digest::Sha256Digest;
use crate::evidence::snp::Measurement;
use crate::launch::{
    Enforcement, Firmware, GceHost, GuestFeatures, Ingredient, KernelHashes, MAX_CMDLINE_BYTES, MAX_FIRMWARE_BYTES,
    MAX_IGVM_BYTES, MAX_RECIPE_BYTES, Machines, OvmfLaunch, OvmfLayout, PagesRecipe, VcpuCount, VcpuSignature, Vmm,
    measure_igvm, would_match,
};
use crate::reference::{
    BootReference, Expected, LaunchFound, LaunchNames, LaunchReference, MAX_ENVELOPE_BYTES, Part, Rebuild, Rebuilder,
    Rebuilders, TrustedKey, Userspace, VerityFormat, VerityRoot, cmdline_value, own_build,
};

/// References of one policy.
const MAX_REFERENCES: usize = 64;
/// A kernel or an initrd: read whole, since both are hashed as one.
const MAX_FILE_BYTES: usize = 2 << 30;

/// Where a digest comes from that stands in the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DigestOrigin {
    Own,
    Vendor,
    Learned,
}

/// Gives the bytes of a file that the policy names, relative to the policy's own folder.
pub trait ReferenceFiles {
    /// All of it, if it has at most `max` bytes.
    fn read(&mut self, name: &str, max: usize) -> Result<Vec<u8>, FileProblem>;
    /// All of it, piece by piece: it may be larger than memory.
    fn stream(&mut self, name: &str, each: &mut dyn FnMut(&[u8])) -> Result<(), FileProblem>;
}

/// Why a file cannot be had, in words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FileProblem(pub String);

/// Where there are no files to be had.
struct NoFiles;

impl ReferenceFiles for NoFiles {
    fn read(&mut self, name: &str, _: usize) -> Result<Vec<u8>, FileProblem> {
        Err(FileProblem(format!("{name} was not loaded")))
    }
    fn stream(&mut self, name: &str, _: &mut dyn FnMut(&[u8])) -> Result<(), FileProblem> {
        Err(FileProblem(format!("{name} was not loaded")))
    }
}

/// Launch digests that somebody named.
#[derive(Clone, Debug)]
struct DigestReference {
    measurements: Vec<Measurement>,
    origin: DigestOrigin,
}

/// An image under dm-verity whose root hash was computed.
#[derive(Clone, Debug)]
pub struct ImageReference {
    name: String,
    root: VerityRoot,
}

impl ImageReference {
    /// What a command line that was measured must name, if the guest mounts this image.
    pub fn expected(&self) -> Expected {
        self.root.expected(&self.name)
    }
}

/// Everything under `[[reference]]`, as far as it was loaded.
#[derive(Debug, Default)]
pub struct References {
    wanted: Vec<(Place, Wanted)>,
    launches: Vec<LaunchReference>,
    digests: Vec<DigestReference>,
    images: Vec<ImageReference>,
    rebuilds: Vec<Rebuild>,
    boot: Option<BootReference>,
}

/// What the policy says of a launch digest.
#[derive(Clone, Debug)]
pub enum LaunchAnswer<'p> {
    /// Recomputed.
    Launch(LaunchFound<'p>),
    /// On a list.
    Digest(DigestOrigin),
}

/// Where a reference stands in the file, for errors that come when it is loaded.
#[derive(Clone, Debug)]
struct Place {
    file: String,
    line: usize,
    key: String,
}

impl Place {
    fn error(&self, problem: impl ToString) -> PolicyError {
        let Place { file, line, key } = self.clone();
        PolicyError { file, line, key, problem: PolicyProblem::Reference(problem.to_string()) }
    }
}

#[derive(Debug, PartialEq)]
enum Wanted {
    Launch(Box<LaunchWanted>),
    Pages { list: String, userspace: UserspaceWanted },
    Igvm { file: String },
    Digests { measurements: Vec<Measurement>, origin: DigestOrigin },
    Image { image: String, superblock: Option<String>, format: VerityFormat },
    Rebuild { statements: Vec<String>, rebuilders: Vec<(String, TrustedKey)>, at_least: usize },
    OwnBuild { command: String, source: String, sha256: Vec<Sha256Digest> },
    Boot(Vec<(Part, String)>),
}

#[derive(Debug, PartialEq)]
struct LaunchWanted {
    firmware: FirmwareWanted,
    kernel: Option<KernelWanted>,
    machines: Machines,
    enforcement: Enforcement,
    userspace: UserspaceWanted,
}

#[derive(Debug, PartialEq)]
enum FirmwareWanted {
    File(String),
    Digest(Firmware),
}

#[derive(Debug, PartialEq)]
struct KernelWanted {
    kernel: Item,
    initrd: Option<Item>,
    cmdline: String,
}

#[derive(Debug, PartialEq)]
enum Item {
    File(String),
    Digest(Sha256Digest),
}

#[derive(Debug, PartialEq)]
enum UserspaceWanted {
    Elsewhere,
    Initrd,
    Sealed,
    VerityKey(String),
}

impl References {
    /// The files that loading asks for.
    pub fn files(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for (_, wanted) in &self.wanted {
            match wanted {
                Wanted::Launch(launch) => {
                    if let FirmwareWanted::File(name) = &launch.firmware {
                        names.push(name);
                    }
                    let items = launch.kernel.iter().flat_map(|k| [Some(&k.kernel), k.initrd.as_ref()]).flatten();
                    names.extend(items.filter_map(|item| match item {
                        Item::File(name) => Some(name.as_str()),
                        Item::Digest(_) => None,
                    }));
                }
                Wanted::Pages { list: name, .. } | Wanted::Igvm { file: name } => names.push(name),
                Wanted::Image { image, superblock, .. } => {
                    names.extend([Some(image), superblock.as_ref()].into_iter().flatten().map(String::as_str))
                }
                Wanted::Rebuild { statements, .. } => names.extend(statements.iter().map(String::as_str)),
                Wanted::Boot(files) => names.extend(files.iter().map(|(_, name)| name.as_str())),
                Wanted::Digests { .. } | Wanted::OwnBuild { .. } => {}
            }
        }
        names
    }

    pub fn launches(&self) -> &[LaunchReference] {
        &self.launches
    }
    pub fn images(&self) -> &[ImageReference] {
        &self.images
    }
    /// Files that firmware, loader or stub measures. `None` where the policy names none.
    pub fn boot(&self) -> Option<&BootReference> {
        self.boot.as_ref()
    }
    /// Files known to be built from source.
    pub fn rebuilds(&self) -> &[Rebuild] {
        &self.rebuilds
    }

    /// The strongest answer: recomputed before listed.
    pub(super) fn launch(&self, measured: &Measurement) -> Option<LaunchAnswer<'_>> {
        let launch = self.launches.iter().find_map(|launch| launch.compare(measured)).map(LaunchAnswer::Launch);
        let listed = || self.digests.iter().find(|d| d.measurements.contains(measured));
        launch.or_else(|| listed().map(|d| LaunchAnswer::Digest(d.origin)))
    }

    /// The launch digests that would be accepted.
    pub(crate) fn accepted_launches(&self) -> Vec<Measurement> {
        let recomputed = self.launches.iter().flat_map(LaunchReference::digests);
        recomputed.chain(self.digests.iter().flat_map(|digest| digest.measurements.iter().copied())).collect()
    }

    /// Why no reference matches, if a small difference explains it: "it would match with vcpus = 8". It costs up to some 50,000
    /// hashes for each reference, so it is for people who ask, never for each connection.
    pub fn explain(&self, measured: &Measurement) -> Option<String> {
        let found = self.launches.iter().filter_map(|launch| launch.explain(measured));
        found.min_by_key(Vec::len).map(|differences| would_match(&differences))
    }

    /// Where a reference stands that only rules about the boot can use.
    pub(super) fn needs_event_log(&self) -> Option<PolicyError> {
        let boot = self.wanted.iter().find(|(_, wanted)| matches!(wanted, Wanted::Boot(_)))?;
        Some(boot.0.error("has no effect without the table [event_log]"))
    }

    /// Whether a launch digest can match anything here.
    pub(super) fn speaks_of_launches(&self) -> bool {
        self.wanted.iter().any(|(_, w)| {
            matches!(w, Wanted::Launch(_) | Wanted::Pages { .. } | Wanted::Igvm { .. } | Wanted::Digests { .. })
        })
    }

    pub(super) fn load(&mut self, files: &mut dyn ReferenceFiles) -> Result<(), PolicyError> {
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

/// For `policy check`: what was recomputed, and from what.
impl fmt::Display for References {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for launch in &self.launches {
            writeln!(f, "  recomputed    {} launch digests", launch.digests().count())?;
        }
        for image in &self.images {
            writeln!(f, "  image         {}, root hash {}", image.name.escape_debug(), image.root.root())?;
        }
        for rebuild in &self.rebuilds {
            let by = rebuild.by().join(", ");
            writeln!(f, "  from source   sha256 {}, {}, by {}", rebuild.sha256(), rebuild.source(), by.escape_debug())?;
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
            UserspaceWanted::Initrd => Ok(Userspace::Initrd),
            UserspaceWanted::Sealed => Ok(Userspace::Sealed),
            UserspaceWanted::VerityKey(key) => {
                let value = cmdline_value(cmdline.unwrap_or_default(), key).map_err(|e| place.error(e))?;
                let root = Sha256Digest::from_hex(value)
                    .map_err(|_| place.error(format!("{key}= in the command line is no root hash of 64 hex digits")))?;
                Ok(Userspace::Verity { root })
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
            let room = crate::reference::SUPERBLOCK_BYTES.saturating_sub(head.len());
            head.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
        };
        files.stream(name, &mut keep).map_err(|e| place.error(e))?;
        format = VerityFormat::from_superblock(&head).map_err(|e| place.error(format!("{name}: {e}")))?;
    }
    let mut hasher = format.hasher();
    files.stream(image, &mut |bytes| hasher.update(bytes)).map_err(|e| place.error(e))?;
    hasher.finish().map_err(|e| place.error(format!("{image}: {e}")))
}

/// The phrase by which a policy's author says what no digest can show (platforms.md §9 N26).
const ENFORCED: &str = "enforced by this firmware";

pub(super) const ORIGINS: &[(&str, DigestOrigin)] =
    &[("own", DigestOrigin::Own), ("vendor", DigestOrigin::Vendor), ("learned", DigestOrigin::Learned)];

const VMMS: &[(&str, Vmm)] = &[
    ("qemu", Vmm::Qemu),
    ("ec2", Vmm::Ec2),
    ("gce", Vmm::Gce(GceHost::Milan)),
    ("gce-genoa", Vmm::Gce(GceHost::Genoa)),
];

const LAUNCH_KEYS: &[&str] = &[
    "kind",
    "firmware",
    "firmware_digest",
    "layout",
    "kernel",
    "kernel_sha256",
    "initrd",
    "initrd_sha256",
    "cmdline",
    "kernel_hashes",
    "vmm",
    "vcpus",
    "vcpu_types",
    "guest_features",
    "userspace",
    "verity_key",
];

#[derive(Clone, Copy)]
enum Kind {
    Launch,
    Pages,
    Igvm,
    Digest,
    Verity,
    Rebuild,
    OwnBuild,
    Boot,
}

const KINDS: &[(&str, Kind)] = &[
    ("launch", Kind::Launch),
    ("pages", Kind::Pages),
    ("igvm", Kind::Igvm),
    ("digest", Kind::Digest),
    ("verity", Kind::Verity),
    ("rebuild", Kind::Rebuild),
    ("own-build", Kind::OwnBuild),
    ("boot", Kind::Boot),
];

impl Kind {
    const fn keys(self) -> &'static [&'static str] {
        match self {
            Kind::Launch => LAUNCH_KEYS,
            Kind::Pages => &["kind", "list", "userspace"],
            Kind::Igvm => &["kind", "file"],
            Kind::Digest => &["kind", "measurements", "from"],
            Kind::Verity => &["kind", "image", "superblock", "salt", "data_block_size", "hash_block_size"],
            Kind::Rebuild => &["kind", "statements", "rebuilders", "at_least"],
            Kind::OwnBuild => &["kind", "command", "source", "sha256"],
            Kind::Boot => &["kind", "kernel", "initrd", "loaders"],
        }
    }
}

pub(super) fn parse(root: &mut Section<'_>) -> Result<References, PolicyError> {
    let Some(entry) = root.optional("reference") else { return Ok(References::default()) };
    let wanted = entry.each(MAX_REFERENCES, |e| {
        let kind = e.kind(KINDS)?;
        let mut table = e.section(kind.keys())?;
        table.required("kind", "what the reference is")?;
        let wanted = match kind {
            Kind::Launch => Wanted::Launch(Box::new(launch(&mut table)?)),
            Kind::Pages => Wanted::Pages {
                list: file(&table.required("list", "the file with the list of pages")?)?,
                userspace: userspace(&mut table)?,
            },
            Kind::Igvm => Wanted::Igvm { file: file(&table.required("file", "the IGVM file")?)? },
            Kind::Digest => Wanted::Digests {
                measurements: table
                    .required("measurements", "the launch digests that are accepted")?
                    .list(|e| e.hex(Measurement::from_hex, Measurement::is_zero))?,
                origin: table.required("from", "\"own\", \"vendor\" or \"learned\"")?.word(ORIGINS)?,
            },
            Kind::Verity => image(&mut table)?,
            Kind::Rebuild => rebuild(&mut table)?,
            Kind::OwnBuild => Wanted::OwnBuild {
                command: sentence(&table.required("command", "the command that was run")?)?,
                source: sentence(&table.required("source", "repository and commit")?)?,
                sha256: table
                    .required("sha256", "SHA-256 of each file that came out")?
                    .list(|e| e.hex(Sha256Digest::from_hex, Sha256Digest::is_zero))?,
            },
            Kind::Boot => boot(&mut table)?,
        };
        table.finish()?;
        let (file, line, key) = e.place();
        Ok((Place { file, line, key }, wanted))
    })?;
    let mut references = References { wanted, ..References::default() };
    if references.files().is_empty() {
        references.load(&mut NoFiles)?;
    }
    Ok(references)
}

/// Files that firmware, loader or stub measures into registers; `[event_log]` says the rest.
fn boot(table: &mut Section<'_>) -> Result<Wanted, PolicyError> {
    let mut files = Vec::new();
    for (key, part) in [("kernel", Part::Kernel), ("initrd", Part::Initrd), ("loaders", Part::Loader)] {
        let names = match table.optional(key) {
            None => Vec::new(),
            Some(entry) if entry.is_string() => vec![file(&entry)?],
            Some(entry) => entry.list(file)?,
        };
        files.extend(names.into_iter().map(|name| (part, name)));
    }
    if files.is_empty() {
        let wanted = "at least one of kernel, initrd, loaders";
        return Err(table.error_at("kernel", PolicyProblem::Missing { wanted }));
    }
    Ok(Wanted::Boot(files))
}

fn launch(table: &mut Section<'_>) -> Result<LaunchWanted, PolicyError> {
    let firmware = match (table.optional("firmware"), table.optional("firmware_digest")) {
        (Some(name), None) => FirmwareWanted::File(file(&name)?),
        (None, Some(digest)) => {
            let after = digest.hex(Measurement::from_hex, Measurement::is_zero)?;
            let layout = table.required("layout", "the firmware's sections, since only its digest is given")?;
            FirmwareWanted::Digest(Firmware::from_digest(after, read_layout(&layout)?))
        }
        _ => {
            let wanted = "firmware = \"FILE\", or firmware_digest with layout";
            return Err(table.error_at("firmware", PolicyProblem::Missing { wanted }));
        }
    };
    let kernel = match item(table, "kernel", "kernel_sha256")? {
        None => None,
        Some(kernel) => Some(KernelWanted {
            kernel,
            initrd: item(table, "initrd", "initrd_sha256")?,
            cmdline: cmdline(&table.required("cmdline", "the kernel's command line, exactly; \"\" if there is none")?)?,
        }),
    };
    let enforcement = match table.optional("kernel_hashes") {
        None => Enforcement::NotClaimed,
        Some(e) => e.word(&[(ENFORCED, Enforcement::Claimed)])?,
    };
    Ok(LaunchWanted { firmware, kernel, machines: machines(table)?, enforcement, userspace: userspace(table)? })
}

fn item(table: &mut Section<'_>, by_file: &str, by_digest: &str) -> Result<Option<Item>, PolicyError> {
    match (table.optional(by_file), table.optional(by_digest)) {
        (None, None) => Ok(None),
        (Some(name), None) => Ok(Some(Item::File(file(&name)?))),
        (None, Some(digest)) => Ok(Some(Item::Digest(digest.hex(Sha256Digest::from_hex, Sha256Digest::is_zero)?))),
        (Some(_), Some(digest)) => Err(digest.error(PolicyProblem::Conflict("give the file or its digest, not both"))),
    }
}

fn machines(table: &mut Section<'_>) -> Result<Machines, PolicyError> {
    let vmms = table.required("vmm", "[\"qemu\"], [\"ec2\"], [\"gce\"]: who launches")?.list(|e| e.word(VMMS))?;
    let counts = table.required("vcpus", "the numbers of vCPUs that are allowed, as [1, 2, 4]")?;
    let vcpus = counts.list(|e| {
        VcpuCount::new(e.integer(u64::MAX)?).map_err(|bad| e.value_error(&bad.0.to_string(), "a number of vCPUs"))
    })?;
    let models = match table.optional("vcpu_types") {
        Some(e) => e.list(|e| {
            e.text()?.parse().map_err(|_| e.value_error(e.text().unwrap_or_default(), "a model such as \"EPYC-v4\""))
        })?,
        None if vmms.iter().any(|vmm| vmm.model_is_measured()) => {
            let wanted = "the vCPU models that are allowed, as [\"EPYC-v4\"]: QEMU puts the model into the digest";
            return Err(table.error_at("vcpu_types", PolicyProblem::Missing { wanted }));
        }
        None => vec![VcpuSignature::KNOWN[0]],
    };
    let features = match table.optional("guest_features") {
        None => vec![GuestFeatures::SNP],
        Some(e) => e.list(|e| {
            e.text()?.parse().map_err(|_| e.value_error(e.text().unwrap_or_default(), "hex such as \"0x1\""))
        })?,
    };
    Machines::new(vmms, vcpus, models, features).map_err(|e| counts.error(PolicyProblem::Reference(e.to_string())))
}

fn userspace(table: &mut Section<'_>) -> Result<UserspaceWanted, PolicyError> {
    let words: [(&str, fn() -> UserspaceWanted); 2] =
        [("in the initrd", || UserspaceWanted::Initrd), ("on an encrypted disk", || UserspaceWanted::Sealed)];
    let said = table.optional("userspace").map(|e| e.word(&words)).transpose()?;
    match (said, table.optional("verity_key")) {
        (None, None) => Ok(UserspaceWanted::Elsewhere),
        (Some(place), None) => Ok(place()),
        (None, Some(key)) => match key.text()? {
            text if !text.is_empty() && !text.contains(|c: char| c == '=' || c.is_whitespace()) => {
                Ok(UserspaceWanted::VerityKey(text.to_owned()))
            }
            text => Err(key.value_error(text, "the name of a parameter such as \"verity_roothash\"")),
        },
        (Some(_), Some(key)) => {
            Err(key.error(PolicyProblem::Conflict("the userspace is in the initrd or in an image")))
        }
    }
}

fn read_layout(entry: &Entry<'_>) -> Result<OvmfLayout, PolicyError> {
    let mut table = entry.section(&["reset_eip", "hash_table", "sections"])?;
    let number = |e: &Entry<'_>| e.integer(u64::from(u32::MAX)).map(|n| u32::try_from(n).expect("bounded"));
    let reset_eip = table.optional("reset_eip").map(|e| number(&e)).transpose()?;
    let hash_table = table.optional("hash_table").map(|e| number(&e)).transpose()?;
    let list = table.required("sections", "a list of { gpa, size, type }")?;
    let sections = list.list(|e| {
        let mut section = e.section(&["gpa", "size", "type"])?;
        let mut field = |name: &str| number(&section.required(name, "a number")?);
        let found = (field("gpa")?, field("size")?, field("type")?);
        section.finish()?;
        Ok(found)
    })?;
    table.finish()?;
    OvmfLayout::from_parts(reset_eip, hash_table, &sections)
        .map_err(|e| list.error(PolicyProblem::Reference(e.to_string())))
}

fn image(table: &mut Section<'_>) -> Result<Wanted, PolicyError> {
    let entry = table.required("image", "the image that is mounted")?;
    let image = file(&entry)?;
    let superblock = table.optional("superblock").map(|e| file(&e)).transpose()?;
    let format = match superblock {
        // Its own superblock says all of it.
        Some(_) => VerityFormat::new(None, None, Vec::new()),
        None => {
            let mut size = |name: &str| table.optional(name).map(|e| e.integer(u64::MAX)).transpose();
            let (data, hash) = (size("data_block_size")?, size("hash_block_size")?);
            let salt = table.required("salt", "the salt in hex, \"\" if there is none; or superblock = \"FILE\"")?;
            let bytes =
                hex::decode(salt.text()?).map_err(|_| salt.value_error(salt.text().unwrap_or_default(), "hex"))?;
            VerityFormat::new(data, hash, bytes)
        }
    };
    let format = format.map_err(|e| entry.error(PolicyProblem::Reference(e.to_string())))?;
    Ok(Wanted::Image { image, superblock, format })
}

fn rebuild(table: &mut Section<'_>) -> Result<Wanted, PolicyError> {
    let statements = table.required("statements", "the files with the rebuilders' envelopes")?.list(|e| file(e))?;
    let rebuilders = table.required("rebuilders", "a list of { name, key }")?.list(|e| {
        let mut one = e.section(&["name", "key"])?;
        let name = sentence(&one.required("name", "whom the key belongs to")?)?;
        let entry = one.required("key", "the public key, in PEM or as the base64 between its lines")?;
        let key = TrustedKey::parse(entry.text()?).map_err(|e| entry.error(PolicyProblem::Reference(e.to_string())))?;
        one.finish()?;
        Ok((name, key))
    })?;
    let entry = table.required("at_least", "how many of them must have come to the same file")?;
    let at_least = usize::try_from(entry.integer(64)?).expect("at most 64");
    let all = rebuilders.iter().map(|(name, key)| Rebuilder { name: name.clone(), key: key.clone() }).collect();
    Rebuilders::new(all, at_least).map_err(|e| entry.error(PolicyProblem::Reference(e.to_string())))?;
    Ok(Wanted::Rebuild { statements, rebuilders, at_least })
}

fn file(entry: &Entry<'_>) -> Result<String, PolicyError> {
    match entry.text()? {
        "" => Err(entry.value_error("", "the name of a file")),
        name => Ok(name.to_owned()),
    }
}

fn cmdline(entry: &Entry<'_>) -> Result<String, PolicyError> {
    let text = entry.text()?;
    if text.len() > MAX_CMDLINE_BYTES || text.contains('\0') {
        return Err(entry.value_error("(the text)", "a command line shorter than 64 KiB and without NUL"));
    }
    Ok(text.to_owned())
}

/// A text that verdicts repeat.
fn sentence(entry: &Entry<'_>) -> Result<String, PolicyError> {
    let text = entry.text()?;
    if text.is_empty() || text.len() > 300 || text.contains(char::is_control) {
        return Err(entry.value_error(text, "a text of one line"));
    }
    Ok(text.to_owned())
}
