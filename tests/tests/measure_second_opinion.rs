//! Launch digests of random guests, computed by `evident-client measure` and by `sev-snp-measure` (PyPI, Apache-2.0).
//!
//! Skipped by name where the Python environment of `cargo xtask setup` is absent.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use evident_client::cli::{self, Cli};
use evident_client::tools::measure::measure;
use evident_tests::python::python;
use serde_json::{Value, json};

const CASES: usize = 60;

/// Reads one case per line, writes one digest per line.
const SCRIPT: &str = r#"
import json, sys
from sevsnpmeasure import guest
from sevsnpmeasure.sev_mode import SevMode
from sevsnpmeasure.vcpu_types import CPU_SIGS
from sevsnpmeasure.vmm_types import VMMType
for line in sys.stdin:
    c = json.loads(line)
    mode = SevMode.SEV_SNP_SVSM if c["svsm"] else SevMode.SEV_SNP
    vmm = {"qemu": VMMType.QEMU, "ec2": VMMType.ec2, "gce": VMMType.gce}[c["vmm"]]
    print(guest.calc_launch_digest(mode, c["vcpus"], CPU_SIGS[c["model"]], c["firmware"], c["kernel"], c["initrd"],
        c["append"], c["features"], vmm_type=vmm, svsm_file=c["svsm"] or "", ovmf_vars_size=c["vars"]).hex())
"#;

#[test]
fn sev_snp_measure_comes_to_the_same_digests() -> Result<()> {
    let test = "sev_snp_measure_comes_to_the_same_digests";
    let Ok(python) = python() else {
        println!("skipped: {test}: no Python environment");
        return Ok(());
    };
    let present = Command::new(&python).args(["-c", "import sevsnpmeasure"]).stderr(Stdio::null()).status()?;
    if !present.success() {
        println!("skipped: {test}: no sev-snp-measure in the Python environment; make it with: cargo xtask setup");
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let mut random = Random(0x5EED_0006);
    let cases = (0..CASES).map(|n| case(&mut random, folder.path(), n)).collect::<Result<Vec<_>>>()?;

    let theirs = second_opinion(&python, &cases)?;
    ensure!(theirs.len() == CASES, "{} answers", theirs.len());
    let mut svsm = 0;
    for (case, theirs) in cases.iter().zip(&theirs) {
        let ours = ours(case)?;
        ensure!(ours == *theirs, "{case:#}: {ours} here, {theirs} there");
        svsm += usize::from(!case["svsm"].is_null());
    }
    ensure!(svsm > 3 && svsm < CASES - 20, "{svsm} cases with an SVSM");
    Ok(())
}

fn second_opinion(python: &Path, cases: &[Value]) -> Result<Vec<String>> {
    let mut child = Command::new(python)
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting sev-snp-measure")?;
    let mut stdin = child.stdin.take().context("its input")?;
    for case in cases {
        writeln!(stdin, "{case}")?;
    }
    drop(stdin);
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "sev-snp-measure failed");
    Ok(String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect())
}

fn ours(case: &Value) -> Result<String> {
    let mut args = vec!["evident-client".to_owned(), "measure".to_owned()];
    let mut give = |flag: &str, value: &Value| match value {
        Value::Null => {}
        Value::String(text) => args.extend([flag.to_owned(), text.clone()]),
        other => args.extend([flag.to_owned(), other.to_string()]),
    };
    let is_svsm = !case["svsm"].is_null();
    for (flag, key) in [
        ("--firmware", "firmware"),
        ("--kernel", "kernel"),
        ("--initrd", "initrd"),
        ("--append", "append"),
        ("--vcpus", "vcpus"),
        ("--vcpu-type", "model"),
        ("--vmm", "vmm"),
        ("--svsm", "svsm"),
    ] {
        give(flag, &case[key]);
    }
    match is_svsm {
        true => give("--vars-size", &case["vars"]),
        false => give("--guest-features", &json!(format!("{:#x}", case["features"].as_u64().context("features")?))),
    }
    let Some(cli::Command::Measure(args)) = Cli::try_parse_from(args)?.command else {
        anyhow::bail!("another command");
    };
    let output = measure(&args);
    ensure!(output.exit == 0, "{case:#}: {}", output.stderr);
    Ok(output.stdout.trim().to_owned())
}

fn case(random: &mut Random, folder: &Path, number: usize) -> Result<Value> {
    let file = |name: &str, bytes: Vec<u8>| -> Result<PathBuf> {
        let path = folder.join(format!("{number}-{name}"));
        std::fs::write(&path, bytes)?;
        Ok(path)
    };
    let svsm = random.below(5) == 0;
    let kernel = !svsm && random.below(2) == 0;
    let models = ["EPYC", "EPYC-v4", "EPYC-Rome-v2", "EPYC-Milan", "EPYC-Genoa-v1", "EPYC-Turin"];
    let firmware = file("ovmf", image(random, false))?;
    let vmm = if svsm { "qemu" } else { ["qemu", "ec2", "gce"][random.below(3)] };
    let features = [0x1, 0x21, 0x5, 0x201, 0xFFFF_0000_u64][random.below(5)];
    Ok(json!({
        "firmware": firmware,
        "svsm": if svsm { Some(file("svsm", image(random, true))?) } else { None },
        "vars": random.below(4) * 4096,
        "kernel": if kernel { let len = random.below(9000); Some(file("kernel", random.bytes(len))?) } else { None },
        "initrd": if kernel && random.below(3) > 0 { let len = random.below(9000); Some(file("initrd", random.bytes(len))?) } else { None },
        "append": if kernel { Some("console=ttyS0 ro quiet ".repeat(random.below(4))) } else { None },
        "vcpus": 1 + random.below(if number == 0 { 300 } else { 9 }),
        "model": models[random.below(models.len())],
        "features": features,
        "vmm": vmm,
    }))
}

/// An image of random bytes with a table and metadata at its end, in edk2's layout.
fn image(random: &mut Random, svsm: bool) -> Vec<u8> {
    const PAGES: usize = 3;
    let table_gpa: u32 = 0x81_0000 + 16 * number(random.below(245));
    let mut sections = vec![(0x81_0000, 1, 0x10), (0x80_D000, 1, 2), (0x80_E000, 1, 3), (0x80_F000, 1, 4)];
    for n in 0..random.below(4) {
        sections.push((0x90_0000 + 0x10_0000 * number(n), 1 + number(random.below(9)), 1));
    }
    // Any order: it is in the digest.
    for n in 0..sections.len() {
        let other = random.below(sections.len());
        sections.swap(n, other);
    }
    let mut metadata = [&b"ASEV"[..], &(16 + 12 * number(sections.len())).to_le_bytes(), &1_u32.to_le_bytes()].concat();
    metadata.extend(number(sections.len()).to_le_bytes());
    for (gpa, pages, kind) in sections {
        metadata.extend([gpa, pages * 4096, kind].map(u32::to_le_bytes).concat());
    }

    let from_end = 1024_u32;
    let entry = |data: &[u8], guid: &str| {
        let mut guid: Vec<u8> = hex::decode(guid.replace('-', "")).expect("hex");
        guid[..4].reverse();
        guid[4..6].reverse();
        guid[6..8].reverse();
        let size = u16::try_from(data.len() + 18).expect("short");
        [data, &size.to_le_bytes(), &guid].concat()
    };
    let mut table = vec![
        entry(&from_end.to_le_bytes(), "dc886566-984a-4798-a75e-5585a7bf67cc"),
        entry(&[table_gpa, 0x400].map(u32::to_le_bytes).concat(), "7255371f-3a3b-4b04-927b-1da6efa8d454"),
        entry(&(0x80_B000 + number(random.below(4096))).to_le_bytes(), "00f771de-1a7e-4fcb-890e-68c77e2fb44e"),
        entry(&random.bytes(6), "11111111-2222-3333-4444-555555555555"),
    ];
    if svsm {
        table.push(entry(&number(random.below(8192)).to_le_bytes(), "a789a612-0597-4c4b-a49f-cbb1fe9d1ddd"));
    }
    let mut table = table.concat();
    let footer = number(table.len() + 18);
    table.extend(&footer.to_le_bytes()[..2]);
    table.extend(&entry(&[], "96b582de-1fb2-45f7-baea-a366c55a082d")[2..]);

    let mut image = random.bytes(PAGES * 4096);
    let end = image.len();
    image[end - 1024..][..metadata.len()].copy_from_slice(&metadata);
    image[end - 32 - table.len()..end - 32].copy_from_slice(&table);
    image
}

fn number(n: usize) -> u32 {
    u32::try_from(n).expect("small")
}

/// xorshift: the same cases in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() >> 16).expect("64 bit") % end
    }
    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next().to_le_bytes()[3]).collect()
    }
}
