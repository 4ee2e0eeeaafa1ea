//! The documents against the tree: links lead somewhere, files that they name exist, flags are those of `--help`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use evident_tests::binaries::{evident_client, evident_proxy, workspace};
use evident_tests::wait::PATIENCE;
use evident_tests::{Program, process::Finished};

/// Flags of other programs that the documents show: cargo, curl, python, systemd.
const OF_OTHERS: [&str; 8] =
    ["--release", "--features", "--proxy", "--bind", "--create", "--now", "--reload", "--system"];

/// Every Markdown file under version control.
fn documents() -> Result<Vec<PathBuf>> {
    let listed = Command::new("git").current_dir(workspace()).args(["ls-files", "*.md"]).output();
    let names = match listed {
        Ok(output) if output.status.success() => String::from_utf8(output.stdout)?,
        // Not a checkout: the ones that matter most.
        _ => "README.md\nARCHITECTURE.md\nSECURITY.md\nCONTRIBUTING.md\nCHANGELOG.md\ndocs/protocol.md".to_owned(),
    };
    let found: Vec<PathBuf> = names.lines().map(|name| workspace().join(name)).filter(|path| path.is_file()).collect();
    ensure!(found.len() >= 6, "only {found:?}");
    Ok(found)
}

fn is_elsewhere(target: &str) -> bool {
    ["http://", "https://", "mailto:"].iter().any(|scheme| target.starts_with(scheme))
}

/// Targets of `[text](target)` outside code.
fn links(text: &str) -> Vec<String> {
    let prose = without_fences(text);
    prose.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target.to_owned()).collect()
}

fn without_fences(text: &str) -> String {
    text.split("```").step_by(2).collect()
}

/// What is between single backticks.
fn quoted(text: &str) -> Vec<String> {
    let prose = without_fences(text);
    prose.lines().flat_map(|line| line.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// The anchor that a heading gets.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = without_fences(text);
    let headings = headings.lines().filter(|line| line.starts_with('#'));
    let slug = |heading: &str| {
        let words = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        words.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
    };
    headings.map(slug).collect()
}

#[test]
fn docs_links_lead_to_files_and_headings_that_exist() -> Result<()> {
    let mut broken = Vec::new();
    for document in documents()? {
        let text = std::fs::read_to_string(&document)?;
        let folder = document.parent().expect("a file is in a folder");
        for link in links(&text).into_iter().filter(|link| !is_elsewhere(link)) {
            let (path, anchor) = link.split_once('#').map_or((link.as_str(), None), |(path, a)| (path, Some(a)));
            let target = if path.is_empty() { document.clone() } else { folder.join(path) };
            let holds = match anchor {
                Some(anchor) if target.is_file() => anchors(&std::fs::read_to_string(&target)?).contains(anchor),
                _ => target.exists(),
            };
            if !holds {
                broken.push(format!("{}: {link}", document.display()));
            }
        }
    }
    ensure!(broken.is_empty(), "{}", broken.join("\n"));
    Ok(())
}

#[test]
fn docs_name_files_that_exist() -> Result<()> {
    let top: BTreeSet<String> = std::fs::read_dir(workspace())?
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .collect();
    let mut broken = Vec::new();
    for document in documents()? {
        let text = std::fs::read_to_string(&document)?;
        for name in quoted(&text) {
            // A path of the tree: `ratls/src/wire`, not `application/pkix-cert` and not a command.
            let Some((first, _)) = name.split_once('/') else { continue };
            let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
            let ours = top.contains(first) && first != "target";
            let there =
                [workspace(), document.parent().expect("a file is in a folder")].iter().any(|f| f.join(&name).exists());
            if plain && ours && !there {
                broken.push(format!("{}: {name}", document.display()));
            }
        }
    }
    ensure!(broken.is_empty(), "{}", broken.join("\n"));
    Ok(())
}

/// What `--help` of both programs and all their commands say.
fn helps() -> Result<String> {
    let client: [&[&str]; 11] = [
        &[],
        &["inspect"],
        &["verify"],
        &["measure"],
        &["policy"],
        &["policy", "check"],
        &["policy", "learn"],
        &["policy", "diff"],
        &["explain"],
        &["audit"],
        &["audit", "verify"],
    ];
    let proxy: [&[&str]; 3] = [&[], &["evidence"], &["check-config"]];
    let mut all = String::new();
    for (program, commands) in [(evident_client()?, &client[..]), (evident_proxy()?, &proxy[..])] {
        for command in commands {
            let help = Program::new(&program).args(*command).arg("--help").run(PATIENCE);
            all.push_str(&help.and_then(Finished::success).with_context(|| format!("{command:?}"))?);
        }
    }
    Ok(all)
}

fn flags(text: &str) -> BTreeSet<String> {
    let is_flag_char = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let starts = text.match_indices("--").filter(|(at, _)| !text[..*at].ends_with(is_flag_char));
    let read = |at: usize| text[at..].chars().take_while(|c| is_flag_char(*c)).collect::<String>();
    starts.map(|(at, _)| read(at)).filter(|flag| flag.len() > 3 && !flag[2..].starts_with('-')).collect()
}

#[test]
fn docs_show_flags_that_exist() -> Result<()> {
    let known = flags(&helps()?);
    ensure!(known.contains("--http-proxy") && known.contains("--simulate"), "the help says too little: {known:?}");
    let mut unknown = Vec::new();
    let shown = [
        "README.md",
        "SECURITY.md",
        "docs/verify-by-hand.md",
        "docs/measure.md",
        "docs/limitations.md",
        "docs/configuration.md",
    ];
    for document in shown {
        let text = read(document)?;
        let foreign = flags(&text).into_iter().filter(|flag| !known.contains(flag) && !OF_OTHERS.contains(&&**flag));
        unknown.extend(foreign.map(|flag| format!("{document}: {flag}")));
    }
    ensure!(unknown.is_empty(), "not in any --help:\n{}", unknown.join("\n"));
    Ok(())
}

/// The README's quick start prints what the programs print.
#[test]
fn docs_first_steps_name_the_measurement_and_the_findings_of_the_simulator() -> Result<()> {
    let steps = read("docs/first-steps.md")?;
    ensure!(steps.contains(evident_tests::policy::SIMULATED_MEASUREMENT), "another measurement than the simulator's");
    let policy = read("docs/policy.md")?;
    for id in ["S_SIMULATED", "I_ANY", "R_LD", "E_ROOT"] {
        ensure!(steps.contains(id) && policy.contains(id), "{id} is not in docs/first-steps.md and docs/policy.md");
    }
    Ok(())
}

fn read(name: impl AsRef<Path>) -> Result<String> {
    let path = workspace().join(name.as_ref());
    std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
}

#[test]
fn flags_are_found_in_text() {
    let seen = flags("`--a-b FILE`, --c1|--dd; a--b, ---, `--simulate[=DIR]`");
    let wanted: BTreeSet<String> = ["--a-b", "--c1", "--dd", "--simulate"].map(str::to_owned).into();
    assert_eq!(seen, wanted);
    assert_eq!(links("[a](b) ```[c](d)``` [e](f#g)"), ["b", "f#g"]);
    assert!(anchors("# The client's side\n").contains("the-clients-side"));
}
