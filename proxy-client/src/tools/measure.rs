//! `evident-client measure`: the launch digest of a guest, computed from its files, for a policy or to be compared.
//!
//! It contacts nothing. The digest goes to standard output alone, so that a script can take it; what it covers goes to
//! standard error.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use ratls::digest::{HexError, Sha256Digest};
use ratls::evidence::snp::Measurement;
use ratls::launch::{
    BadVcpuCount, Coverage, Covered, Difference, Enforcement, Firmware, GuestFeatures, IgvmError, Ingredient,
    KernelHashes, Known, LaunchError, LaunchLink, MAX_CMDLINE_BYTES, MAX_FIRMWARE_BYTES, MAX_IGVM_BYTES,
    MAX_RECIPE_BYTES, Machine, Machines, NotCovered, OvmfLaunch, PagesError, PagesRecipe, SvsmLaunch, VcpuCount,
    VcpuSignature, Vmm, measure_igvm, would_match,
};
use ratls::text::json_for_people;
use serde_json::{Value, json};

use super::input::{self, ReadFileError};
use super::{EXIT_REFUSED, EXIT_UNREADABLE, EXIT_USAGE, Output};

/// A kernel, an initrd, or a file of a list of pages. Larger ones are not what QEMU is given.
const MAX_FILE_BYTES: usize = 2 << 30;

/// Compute the launch digest of a guest from its files
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(false).args(["firmware", "recipe", "igvm"]), after_help = AFTER_HELP)]
pub struct MeasureArgs {
    /// OVMF image, as it is given to the hypervisor
    #[arg(long, value_name = "FILE", requires = "vmm", requires = "vcpus")]
    pub firmware: Option<PathBuf>,
    /// Kernel of a direct boot with kernel hashes
    #[arg(long, value_name = "FILE", requires = "firmware", conflicts_with = "recipe")]
    pub kernel: Option<PathBuf>,
    /// Its SHA-256, where the file is not at hand
    #[arg(long, value_name = "HEX", requires = "firmware", conflicts_with_all = ["kernel", "recipe"], value_parser = sha256)]
    pub kernel_sha256: Option<Sha256Digest>,
    /// Initrd of a direct boot
    #[arg(long, value_name = "FILE", requires = "firmware", conflicts_with = "recipe")]
    pub initrd: Option<PathBuf>,
    /// Its SHA-256, where the file is not at hand
    #[arg(long, value_name = "HEX", requires = "firmware", conflicts_with_all = ["initrd", "recipe"], value_parser = sha256)]
    pub initrd_sha256: Option<Sha256Digest>,
    /// Kernel command line of a direct boot, exactly as the hypervisor gets it
    #[arg(long, value_name = "TEXT", requires = "firmware", conflicts_with = "recipe", allow_hyphen_values = true)]
    pub append: Option<String>,
    /// Number of vCPUs
    #[arg(long, value_name = "N", value_parser = vcpu_count, conflicts_with = "recipe")]
    pub vcpus: Option<VcpuCount>,
    /// Model of the vCPUs, as QEMU names it, or CPUID(1).EAX in hex; EC2 and GCE do not measure it
    #[arg(long, value_name = "T", conflicts_with = "recipe")]
    pub vcpu_type: Option<VcpuSignature>,
    /// Hypervisor: qemu, ec2, gce (on Milan hosts) or gce-genoa
    #[arg(long, value_name = "VMM", conflicts_with = "recipe")]
    pub vmm: Option<Vmm>,
    /// SEV_FEATURES in hex; 1 unless the host sets more (Linux 6.6 and 6.7 set 0x21)
    #[arg(long, value_name = "HEX", conflicts_with = "recipe")]
    pub guest_features: Option<GuestFeatures>,
    /// Image of COCONUT-SVSM for its old loader under QEMU
    #[arg(long, value_name = "FILE", requires = "firmware", requires = "vars_size", conflicts_with_all = ["kernel", "kernel_sha256", "recipe"])]
    pub svsm: Option<PathBuf>,
    /// Bytes of the variable store between SVSM and firmware
    #[arg(long, value_name = "BYTES", requires = "svsm")]
    pub vars_size: Option<u32>,
    /// List of pages, instead of a firmware (docs/measure.md)
    #[arg(long, value_name = "FILE")]
    pub recipe: Option<PathBuf>,
    /// IGVM file, as it is given to the hypervisor, instead of a firmware
    #[arg(long, value_name = "FILE", conflicts_with_all = ["vcpus", "vcpu_type", "vmm", "guest_features"])]
    pub igvm: Option<PathBuf>,
    /// Compare with this measurement; if it is another, say what would have to differ
    #[arg(long, value_name = "HEX", value_parser = measurement)]
    pub expect: Option<Measurement>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

const AFTER_HELP: &str = "Exit codes: 0 computed, and equal to --expect if that was given; 2 these inputs cannot be measured; \
3 not equal to --expect; 4 a file cannot be read.";

fn sha256(text: &str) -> Result<Sha256Digest, HexError> {
    Sha256Digest::from_hex(text)
}

fn measurement(text: &str) -> Result<Measurement, HexError> {
    Measurement::from_hex(text)
}

fn vcpu_count(text: &str) -> Result<VcpuCount, String> {
    let count = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    VcpuCount::new(count).map_err(|e: BadVcpuCount| e.to_string())
}

#[derive(Debug, thiserror::Error)]
enum MeasureError {
    #[error(transparent)]
    Read(#[from] ReadFileError),
    #[error("{}: {source}", file.display())]
    Launch { file: PathBuf, source: LaunchError },
    #[error("{}: {source}", file.display())]
    Pages { file: PathBuf, source: PagesError },
    #[error("{}: {source}", file.display())]
    Igvm { file: PathBuf, source: IgvmError },
    #[error("{}: the list of pages is not UTF-8", .0.display())]
    NotText(PathBuf),
    #[error("{0}")]
    Usage(&'static str),
}

/// What was computed, before it is written down.
struct Measured {
    digest: Measurement,
    what: String,
    machine: Option<Machine>,
    coverage: Coverage,
    /// Where it is not the expected digest: what would have to differ, if that was found.
    differs: Option<Vec<Difference>>,
}

pub fn run(args: &MeasureArgs) -> ExitCode {
    measure(args).emit()
}

/// The command.
pub fn measure(args: &MeasureArgs) -> Output {
    match compute(args) {
        Ok(measured) => written(&measured, args),
        Err(error @ MeasureError::Read(_)) => {
            Output::failed(EXIT_UNREADABLE, &error, "Check the name and the permissions of the file.")
        }
        Err(error) => Output::failed(EXIT_USAGE, &error, next_step(&error)),
    }
}

fn next_step(error: &MeasureError) -> &'static str {
    match error {
        MeasureError::Launch { source: LaunchError::NoKernelHashes, .. } => {
            "Give a firmware that was built for measured direct boot (edk2 OvmfPkg/AmdSev), or leave --kernel, --initrd and \
             --append away and know that the digest then covers the firmware alone."
        }
        MeasureError::Launch { .. } => {
            "Give the image that the hypervisor loads: OVMF.fd, or OVMF_CODE.fd without variables."
        }
        MeasureError::Pages { .. } | MeasureError::NotText(_) => {
            "docs/measure.md shows how a list of pages is written."
        }
        MeasureError::Igvm { .. } => "Give the file that the hypervisor loads, with the platform SEV-SNP in it.",
        MeasureError::Usage(_) | MeasureError::Read(_) => "See evident-client measure --help.",
    }
}

fn compute(args: &MeasureArgs) -> Result<Measured, MeasureError> {
    match (&args.firmware, &args.recipe, &args.igvm) {
        (Some(firmware), None, None) if args.svsm.is_some() => svsm(args, firmware),
        (Some(firmware), None, None) => ovmf(args, firmware),
        (None, Some(recipe), None) => pages(recipe),
        (None, None, Some(file)) => igvm(file),
        _ => Err(MeasureError::Usage("give --firmware, --recipe or --igvm, one of them")),
    }
}

fn ovmf(args: &MeasureArgs, file: &Path) -> Result<Measured, MeasureError> {
    let refused = |source| MeasureError::Launch { file: file.to_owned(), source };
    let machine = machine(args)?;
    let image = input::read(file, MAX_FIRMWARE_BYTES)?;
    let firmware = Firmware::from_image(&image).map_err(|e| refused(e.into()))?;
    let launch = OvmfLaunch::new(firmware, kernel(args)?).map_err(refused)?;
    let digest = launch.digest(&machine).map_err(refused)?;
    let differs = args.expect.filter(|wanted| *wanted != digest);
    Ok(Measured {
        digest,
        what: machine.to_string(),
        machine: Some(machine),
        coverage: launch.coverage(Enforcement::Claimed),
        differs: differs.and_then(|wanted| {
            let machines = Machines::one(machine);
            let line = || launch.explain_line(&machines, args.append.as_deref().unwrap_or_default(), &wanted);
            launch.explain(&machines, &wanted).or_else(|| line().map(|line| vec![line]))
        }),
    })
}

fn machine(args: &MeasureArgs) -> Result<Machine, MeasureError> {
    let (Some(vmm), Some(vcpus)) = (args.vmm, args.vcpus) else {
        return Err(MeasureError::Usage("--vmm and --vcpus are needed: both are in the digest"));
    };
    let model = match args.vcpu_type {
        Some(model) => model,
        None if vmm.model_is_measured() => {
            return Err(MeasureError::Usage(
                "--vcpu-type is needed: QEMU puts the model of the vCPUs into the digest (-cpu EPYC-v4 is EPYC-v4)",
            ));
        }
        None => VcpuSignature::KNOWN[0],
    };
    Ok(Machine { vmm, vcpus, model, features: args.guest_features.unwrap_or(GuestFeatures::SNP) })
}

fn kernel(args: &MeasureArgs) -> Result<Option<KernelHashes>, MeasureError> {
    let one = |file: &Option<PathBuf>, digest: Option<Sha256Digest>| match (file, digest) {
        (Some(file), _) => Ok(Some(Ingredient::of_file(&input::read(file, MAX_FILE_BYTES)?))),
        (None, Some(digest)) => Ok(Some(Ingredient::by_digest(digest))),
        (None, None) => Ok::<_, MeasureError>(None),
    };
    let Some(kernel) = one(&args.kernel, args.kernel_sha256)? else {
        let alone = args.initrd.is_some() || args.initrd_sha256.is_some() || args.append.is_some();
        return match alone {
            true => Err(MeasureError::Usage(
                "--initrd and --append are measured beside a kernel: give --kernel or --kernel-sha256",
            )),
            false => Ok(None),
        };
    };
    let append = args.append.as_deref().unwrap_or_default();
    if append.len() > MAX_CMDLINE_BYTES || append.contains('\0') {
        return Err(MeasureError::Usage("--append must be shorter than 64 KiB and without NUL"));
    }
    let initrd = one(&args.initrd, args.initrd_sha256)?.unwrap_or_else(Ingredient::absent);
    Ok(Some(KernelHashes { kernel, initrd, cmdline: Ingredient::of_cmdline(append) }))
}

fn svsm(args: &MeasureArgs, file: &Path) -> Result<Measured, MeasureError> {
    let refused = |source| MeasureError::Launch { file: file.to_owned(), source };
    let machine = machine(args)?;
    if machine.vmm != Vmm::Qemu || args.guest_features.is_some() {
        return Err(MeasureError::Usage("--svsm is for --vmm qemu, and its guest features are always 1"));
    }
    if args.initrd.is_some() || args.initrd_sha256.is_some() || args.append.is_some() {
        return Err(MeasureError::Usage(
            "with --svsm no kernel is measured at launch: leave --initrd and --append away",
        ));
    }
    let (Some(svsm), Some(vars)) = (&args.svsm, args.vars_size) else {
        return Err(MeasureError::Usage("--svsm needs --vars-size"));
    };
    let image = input::read(file, MAX_FIRMWARE_BYTES)?;
    let svsm = input::read(svsm, MAX_FIRMWARE_BYTES)?;
    let launch = SvsmLaunch::new(&image, &svsm, vars).map_err(refused)?;
    let absent = Err(NotCovered::NotInRecipe);
    Ok(Measured {
        digest: launch.digest(machine.vcpus, machine.model),
        what: format!("COCONUT-SVSM, {machine}"),
        machine: Some(machine),
        coverage: Coverage {
            firmware: Ok(Covered { link: LaunchLink::Direct, known: Known::Bytes }),
            kernel: absent,
            initrd: absent,
            cmdline: absent,
        },
        differs: None,
    })
}

fn pages(file: &Path) -> Result<Measured, MeasureError> {
    let refused = |source| MeasureError::Pages { file: file.to_owned(), source };
    let text =
        String::from_utf8(input::read(file, MAX_RECIPE_BYTES)?).map_err(|_| MeasureError::NotText(file.to_owned()))?;
    let recipe = PagesRecipe::parse(&text).map_err(refused)?;
    let folder = file.parent().unwrap_or(Path::new(""));
    let files = recipe
        .files()
        .into_iter()
        .map(|name| Ok((name.to_owned(), input::read(&folder.join(name), MAX_FILE_BYTES)?)))
        .collect::<Result<Vec<_>, ReadFileError>>()?;
    let bytes_of = |name: &str| files.iter().find(|(known, _)| known == name).map(|(_, bytes)| bytes.as_slice());
    let launch = recipe.measure(bytes_of).map_err(refused)?;
    let vcpus = launch.vcpus();
    Ok(Measured {
        digest: launch.digest(),
        what: format!("page by page, {vcpus} vCPU{}", if vcpus == 1 { "" } else { "s" }),
        machine: None,
        coverage: *launch.coverage(),
        differs: None,
    })
}

fn igvm(file: &Path) -> Result<Measured, MeasureError> {
    let bytes = input::read(file, MAX_IGVM_BYTES)?;
    let name = file.display().to_string();
    let launch = measure_igvm(&bytes, &name).map_err(|source| MeasureError::Igvm { file: file.to_owned(), source })?;
    Ok(Measured {
        digest: launch.digest(),
        what: format!("IGVM file, save areas of {} vCPUs", launch.vcpus()),
        machine: None,
        coverage: *launch.coverage(),
        differs: None,
    })
}

fn written(measured: &Measured, args: &MeasureArgs) -> Output {
    let equal = args.expect.map(|wanted| wanted == measured.digest);
    let exit = if equal == Some(false) { EXIT_REFUSED } else { 0 };
    if args.json {
        return Output {
            stdout: json_for_people(&format!("{:#}\n", as_json(measured, args.expect))),
            coloured: None,
            stderr: String::new(),
            exit,
        };
    }
    let mut notes = format!("  launched by   {}\n", measured.what);
    for (name, covered) in components(&measured.coverage) {
        notes.push_str(&format!("  {name:<13} {}\n", in_words(&covered)));
    }
    match (equal, &measured.differs) {
        (None, _) => {}
        (Some(true), _) => notes.push_str("  expected      equal\n"),
        (Some(false), Some(found)) => notes.push_str(&format!("  expected      not equal: {}\n", would_match(found))),
        (Some(false), None) => notes.push_str(
            "  expected      not equal, and neither another number or type of vCPUs nor a slip in the command line explains it: a file or the command line differs\n",
        ),
    }
    Output { stdout: format!("{}\n", measured.digest), coloured: None, stderr: notes, exit }
}

fn components(coverage: &Coverage) -> [(&'static str, Result<Covered, NotCovered>); 4] {
    let Coverage { firmware, kernel, initrd, cmdline } = *coverage;
    [("firmware", firmware), ("kernel", kernel), ("initrd", initrd), ("command line", cmdline)]
}

fn in_words(covered: &Result<Covered, NotCovered>) -> String {
    match covered {
        Ok(Covered { link: LaunchLink::Direct, known: Known::Bytes }) => "in the digest".to_owned(),
        Ok(Covered { link: LaunchLink::Direct, known: Known::Digest }) => {
            "in the digest, by a digest you gave".to_owned()
        }
        Ok(Covered { link: LaunchLink::VerifiedByMeasured, known }) => {
            let given = if *known == Known::Digest { ", which you gave" } else { "" };
            format!("by its hash{given}; that counts if this firmware refuses another one")
        }
        Err(why) => format!("not covered: {why}"),
    }
}

fn as_json(measured: &Measured, expect: Option<Measurement>) -> Value {
    let covers: serde_json::Map<String, Value> = components(&measured.coverage)
        .into_iter()
        .map(|(name, covered)| {
            let value = match covered {
                Ok(Covered { link, known }) => json!({
                    "link": match link {
                        LaunchLink::Direct => "direct",
                        LaunchLink::VerifiedByMeasured => "verified-by-measured",
                    },
                    "known": match known {
                        Known::Bytes => "bytes",
                        Known::Digest => "digest",
                    },
                }),
                Err(_) => Value::Null,
            };
            (name.replace(' ', "_"), value)
        })
        .collect();
    let mut all = json!({"measurement": measured.digest, "covers": covers});
    if let Some(Machine { vmm, vcpus, model, features }) = measured.machine {
        all["machine"] = json!({
            "vmm": vmm.to_string(),
            "vcpus": vcpus.number(),
            "vcpu_type": vmm.model_is_measured().then(|| model.to_string()),
            "guest_features": format!("{:#x}", features.raw()),
        });
    }
    if let Some(wanted) = expect {
        all["equal"] = json!(wanted == measured.digest);
        all["would_match_with"] =
            json!(measured.differs.as_ref().map(|found| found.iter().map(Difference::to_string).collect::<Vec<_>>()));
    }
    all
}
