//! `[[reference]]` in a policy file, key by key.

use super::super::document::{Entry, Section};
use super::super::error::{PolicyError, PolicyProblem};
use super::super::verity;
use super::load::NoFiles;
use super::wanted::{FirmwareWanted, Item, KernelWanted, LaunchWanted, Place, UserspaceWanted, Wanted};
use super::{DigestOrigin, References};
use formats::digest::Sha256Digest;
use formats::evidence::snp::Measurement;
use measure::launch::{
    Enforcement, Firmware, GceHost, GuestFeatures, MAX_CMDLINE_BYTES, Machines, OvmfLayout, VcpuCount, VcpuSignature,
    Vmm,
};
use measure::reference::{Part, Rebuilder, Rebuilders, TrustedKey, VerityFormat};

/// References of one policy.
const MAX_REFERENCES: usize = 64;

/// The phrase by which a policy's author says what no digest can show.
const ENFORCED: &str = "enforced by this firmware";

pub(in crate::policy) const ORIGINS: &[(&str, DigestOrigin)] =
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
    "neutral_words",
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
            Kind::Pages => &["kind", "list", "userspace", "neutral_words"],
            Kind::Igvm => &["kind", "file"],
            Kind::Digest => &["kind", "measurements", "from"],
            Kind::Verity => &["kind", "image", "superblock", "salt", "data_block_size", "hash_block_size"],
            Kind::Rebuild => &["kind", "statements", "rebuilders", "at_least"],
            Kind::OwnBuild => &["kind", "command", "source", "sha256"],
            Kind::Boot => &["kind", "kernel", "initrd", "loaders"],
        }
    }
}

pub(in crate::policy) fn parse(root: &mut Section<'_>) -> Result<References, PolicyError> {
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
    let said = match table.optional("userspace") {
        Some(entry) => Some((entry.word(&[("in the initrd", true), ("on an encrypted disk", false)])?, entry)),
        None => None,
    };
    if let Some((true, _)) = said {
        let neutral_words = verity::neutral_words(table)?;
        return match table.optional("verity_key") {
            None => Ok(UserspaceWanted::Initrd { neutral_words }),
            Some(key) => Err(key.error(PolicyProblem::Conflict("the userspace is in the initrd or in an image"))),
        };
    }
    match (said, verity::parse(table)?) {
        (None, None) => Ok(UserspaceWanted::Elsewhere),
        (Some(_), None) => Ok(UserspaceWanted::Sealed),
        (None, Some(rules)) => Ok(UserspaceWanted::Verity(rules)),
        (Some((_, entry)), Some(_)) => {
            Err(entry.error(PolicyProblem::Conflict("the userspace is on a disk or in an image under verity_key")))
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
