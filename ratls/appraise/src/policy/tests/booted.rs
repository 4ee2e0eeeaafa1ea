//! Rules about what was booted.

use super::*;

/// A policy with an `[event_log]` table of these lines, which begins at line 14.
fn event_log(lines: &str) -> String {
    format!("{GOOD}\n[event_log]\n{lines}")
}

#[test]
fn rules_about_what_was_booted_are_read() {
    let digest = "11".repeat(32);
    let policy = parse(&event_log(&format!(
        "ignore_registers = [1, 5]\ntechnology = \"sev-snp\"\nsecure_boot = \"not required\"\n\
         secure_boot_keys = {{ PK = \"{digest}\" }}\nsbat = {{ date = 2023012900, shim = 2 }}\n\
         kernel = \"{digest}\"\nfiles = \"any\"\nkernel_command_line = [\"a ${{v}}\", \"b\"]\n\
         grub_commands = [\"set x=${{v}}\"]\nvariables = {{ v = \"1\" }}\nuki = {{ \".osrel\" = \"{digest}\" }}\n\
         ima = {{ policy = \"tcb\", files = {{ \"/init\" = [\"sha256:{digest}\"] }} }}\n"
    )))
    .unwrap();
    let rules = policy.only().unwrap().event_log().unwrap();
    assert_eq!((&rules.ignored[..], rules.secure_boot_required), (&[1, 5][..], false));
    assert_eq!((rules.kernel.len(), rules.command_lines.len(), rules.sections.len()), (1, 2, 1));
    assert_eq!(rules.files, event_log::Listed::Any);
    assert!(parse(GOOD).unwrap().only().unwrap().event_log().is_none());
    let strict = parse(&event_log("")).unwrap();
    assert!(strict.only().unwrap().event_log().unwrap().secure_boot_required);
}

#[test]
fn plat_n41_registers_that_are_never_evidence_cannot_be_named() {
    for pcr in [16, 17, 22, 23] {
        let error = error(&event_log(&format!("ignore_registers = [{pcr}]\n")));
        assert_eq!(
            error,
            "p.toml:16: event_log.ignore_registers[0]: this register is never evidence, and always ignored"
        );
    }
    for pcr in [10, 15] {
        assert!(
            error(&event_log(&format!("ignore_registers = [{pcr}]\n"))).ends_with("no rule speaks of this register")
        );
    }
    assert!(error(&event_log("ignore_registers = [24]\n")).contains("wanted an integer from 0 to 23"));
}

#[test]
fn wrong_rules_about_what_was_booted_name_line_and_key() {
    let zero = "0".repeat(64);
    for (line, wanted) in [
        ("secure_boot = false", "p.toml:16: event_log.secure_boot: wanted a string, seen a boolean"),
        (
            "secure_boot = \"off\"",
            "p.toml:16: event_log.secure_boot: wanted \"required\" or \"not required\", seen \"off\"",
        ),
        ("kernel = []", "p.toml:16: event_log.kernel: an empty list"),
        (
            "kernel = \"abc\"",
            "p.toml:16: event_log.kernel: wanted 64 hex digits (SHA-256) or 96 (SHA-384), seen \"abc\"",
        ),
        ("kernel = [\"ZERO\"]", "p.toml:16: event_log.kernel[0]: all zero"),
        ("files = \"all\"", "p.toml:16: event_log.files: wanted \"any\", seen \"all\""),
        ("kernel_command_line = \"${}\"", "p.toml:16: event_log.kernel_command_line: wanted a variable named"),
        ("variables = { v = \"1\" }", "p.toml:15: event_log.variables.v: stands in no pattern"),
        ("variables = {}", "p.toml:16: event_log.variables: an empty list"),
        ("pcrs = [1]", "p.toml:16: event_log.pcrs: unknown key"),
        ("uki = { \".linux\" = \"x\" }", "p.toml:16: event_log.uki..linux: unknown key"),
        ("ima = { policy = \"tcb\" }", "p.toml:16: event_log.ima.files: missing"),
        ("ima = { policy = \"\", files = {} }", "p.toml:16: event_log.ima.policy: wanted the name of a policy"),
        ("ima = { policy = \"tcb\", files = { \"/a\" = \"sha1:aa\" } }", "p.toml:16: event_log.ima.files./a: wanted"),
    ] {
        let error = error(&event_log(&format!("{}\n", line.replace("ZERO", &zero))));
        assert!(error.starts_with(wanted), "{line}: {error}");
    }
}

#[test]
fn files_of_a_boot_are_named_and_need_rules_about_it() {
    let boot = "[[reference]]\nkind = \"boot\"\nkernel = \"vmlinuz\"\nloaders = [\"shimx64.efi\", \"grubx64.efi\"]\n";
    let policy = parse(&event_log(boot)).unwrap();
    assert_eq!(policy.only().unwrap().references().files(), ["vmlinuz", "shimx64.efi", "grubx64.efi"]);
    assert!(policy.only().unwrap().references().boot().is_none(), "no file was read");
    struct Named;
    impl ReferenceFiles for Named {
        fn read(&mut self, name: &str, _: usize) -> Result<Vec<u8>, FileProblem> {
            Ok(format!("the file {name}").into_bytes())
        }
        fn stream(&mut self, name: &str, _: &mut dyn FnMut(&[u8])) -> Result<(), FileProblem> {
            Err(FileProblem(format!("{name} is not asked for in pieces")))
        }
    }
    let mut policy = policy;
    policy.load_references(&mut Named).unwrap();
    let known = formats::evidence::tpm::Bank::Sha256.hash(&[b"the file vmlinuz"]);
    assert!(policy.only().unwrap().references().boot().unwrap().knows_as(measure::reference::Part::Kernel, &known));
    let alone = error(&format!("{GOOD}\n{boot}"));
    assert!(alone.ends_with("has no effect without the table [event_log]"), "{alone}");
    let none = error(&event_log("[[reference]]\nkind = \"boot\"\n"));
    assert!(none.contains("missing: at least one of kernel, initrd, loaders"), "{none}");
}
