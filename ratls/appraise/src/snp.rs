//! What the SNP rules of a policy say to a verified report (AMD 56860).
//!
//! Deliberately not compared: reported with committed TCB, and launch TCB with any other. In genuine reports of AWS all four
//! differ, and migration may put them in any order. The policy's floors are what matters.

use super::judge::Judge;
use super::launch;
use super::shortened::one_of;
use crate::policy::{AcceptedKey, CrlRule, MigrateMa, Permission, ProfilePolicy, SnpRules};
use findings::{EndorsementCheck, IdentityCheck, ReportCheck, Severity};
use formats::evidence::snp::{Report, SigningKey, TcbKind};
use formats::tcb::TcbVersion;
use verify::endorsement::CrlStatus;
use verify::{VerifiedEvidence, VerifiedReport};

/// Checks that hold under every policy and without one.
pub(super) fn always(judge: &mut Judge<'_>, verified: &VerifiedReport) {
    let report = verified.report();
    debug(judge, report);
    migration(judge, report);
    vmpl(judge, report);
    provisional(judge, verified);
    platform(judge, report);
    id_block(judge, report);
    revocation(judge, verified);
}

/// Checks that compare with what the policy names.
pub(super) fn under_policy(judge: &mut Judge<'_>, policy: &ProfilePolicy, evidence: &VerifiedEvidence) {
    let verified = evidence.report();
    let (rules, report) = (policy.snp(), verified.report());
    let product = verified.vek().product();
    if rules.distrust_products.contains(&product) {
        judge.fatal(ReportCheck::Product, product);
    }
    signing_key(judge, rules, verified);
    launch::digest(judge, policy, evidence);
    if !rules.host_data.is_empty() && !rules.host_data.contains(report.host_data()) {
        judge.fatal(ReportCheck::HostData, report.host_data()).wanting(one_of(&rules.host_data));
    }
    if report.guest_svn() < rules.min_guest_svn {
        let wanted = format!("{} or above", rules.min_guest_svn);
        judge.fatal(ReportCheck::GuestSvn, report.guest_svn()).wanting(wanted);
    }
    guest_policy(judge, rules, report);
    tcb(judge, rules, verified);
    mitigations(judge, rules, report);
}

fn debug(judge: &mut Judge<'_>, report: &Report) {
    if report.policy().debug_allowed() {
        judge.grave(ReportCheck::Debug, "DEBUG allowed: the host may read and write the guest's memory");
    }
}

fn migration(judge: &mut Judge<'_>, report: &Report) {
    if !report.policy().migrate_ma_allowed() {
        return;
    }
    let unused = report.report_id_ma().as_bytes().iter().all(|b| *b == 0xFF);
    let seen = if unused {
        "MIGRATE_MA allowed, no migration agent associated"
    } else {
        "MIGRATE_MA allowed, a migration agent is associated"
    };
    let opted_in = judge.policy().is_some_and(|p| p.snp().migrate_ma == MigrateMa::AllowUnused);
    if opted_in && unused {
        judge
            .add(ReportCheck::MigrationAgent, Severity::Warning, seen)
            .wanting("MIGRATE_MA not allowed, or unused by the policy's leave");
    } else {
        judge.grave(ReportCheck::MigrationAgent, seen);
    }
}

fn vmpl(judge: &mut Judge<'_>, report: &Report) {
    let wanted = judge.policy().map_or(0, |p| p.snp().vmpl);
    if report.vmpl() != wanted {
        judge.grave(ReportCheck::Vmpl, report.vmpl()).wanting(wanted);
    } else if wanted != 0 {
        let help = "the policy accepts a report of less privileged code";
        judge.add(ReportCheck::Vmpl, Severity::Warning, report.vmpl()).advising(help);
    }
}

/// Firmware that is not committed can be rolled back by the host, down to the committed one.
fn provisional(judge: &mut Judge<'_>, verified: &VerifiedReport) {
    let layout = verified.vek().product().layout();
    let tcb = |kind| verified.report().tcb(kind, layout);
    if tcb(TcbKind::Committed) != tcb(TcbKind::Current) {
        judge
            .add(
                ReportCheck::Tcb,
                Severity::Warning,
                format!("{}, while {} runs", tcb(TcbKind::Committed), tcb(TcbKind::Current)),
            )
            .wanting("the running firmware committed")
            .about("committed_tcb")
            .advising("the host can go back to the committed firmware; floors of a policy are tested against it");
    }
}

fn platform(judge: &mut Judge<'_>, report: &Report) {
    let info = report.platform_info();
    let required: Vec<_> = judge.policy().map(|p| p.snp().require_platform_info.clone()).unwrap_or_default();
    for bit in &required {
        if info.raw() & bit.mask == 0 {
            judge
                .fatal(ReportCheck::Platform, format!("{info} without {}", bit.name))
                .wanting(bit.name)
                .advising("the machine must be set up for it, in its BIOS or by new firmware");
        }
    }
    if !info.alias_check_complete() && !required.iter().any(|bit| bit.name == "alias-check-complete") {
        judge
            .add(ReportCheck::Platform, Severity::Warning, format!("{info} without alias-check-complete"))
            .wanting("memory checked for aliases since the last reset")
            .advising(
                "older firmware does not check for memory modules that lie about their size (BadRAM); \
             require_platform_info = [\"alias-check-complete\"] refuses it",
            );
    }
    if info.smt_enabled() {
        match judge.policy().map(|p| p.snp().smt) {
            Some(Permission::Refuse) => {
                judge
                    .fatal(ReportCheck::Platform, format!("{info} with SMT on"))
                    .wanting("SMT off")
                    .advising("turn SMT off, or set smt = \"allow\"");
            }
            Some(Permission::Allow) | None => {
                let help = "a sibling thread shares caches with the guest; smt = \"refuse\" refuses it";
                judge
                    .add(ReportCheck::Platform, Severity::Info, format!("{info} with SMT on"))
                    .wanting("nothing")
                    .advising(help);
            }
        }
    }
}

/// Anybody can make an ID block with a key of his own: it says something only where the policy pins the key (N19).
fn id_block(judge: &mut Judge<'_>, report: &Report) {
    if !report.id_key_digest().is_zero() && !judge.pins_launch_identity() {
        judge.add(ReportCheck::IdBlock, Severity::Cap, report.id_key_digest());
    }
}

fn revocation(judge: &mut Judge<'_>, verified: &VerifiedReport) {
    if matches!(verified.vek().crl(), CrlStatus::Absent) {
        let required = judge.policy().is_some_and(|p| p.crl() != CrlRule::IfPresent);
        let severity = if required { Severity::Fatal } else { Severity::Warning };
        judge.add(EndorsementCheck::CrlAbsent, severity, "none");
    }
}

fn signing_key(judge: &mut Judge<'_>, rules: &SnpRules, verified: &VerifiedReport) {
    let kind = verified.report().signing_key();
    let accepted = match kind {
        SigningKey::Vcek => rules.signing_keys.contains(&AcceptedKey::Vcek),
        SigningKey::Vlek => rules.signing_keys.contains(&AcceptedKey::Vlek),
        SigningKey::None => false,
    };
    if !accepted {
        let wanted = one_of(&rules.signing_keys.iter().map(|k| format!("{k:?}").to_uppercase()).collect::<Vec<_>>());
        judge
            .fatal(ReportCheck::SigningKey, kind)
            .wanting(wanted)
            .about("signing_key")
            .advising("name the kind of key under signing_keys if you accept it");
    } else if kind == SigningKey::Vlek {
        let csp = verified.vek().csp().unwrap_or_default();
        if !rules.csp.iter().any(|accepted| accepted == csp) {
            judge.fatal(IdentityCheck::Csp, csp).wanting(one_of(&rules.csp));
        }
    }
}

fn guest_policy(judge: &mut Judge<'_>, rules: &SnpRules, report: &Report) {
    const HELP: &str = "the guest's owner sets this at launch; launch it with the bits that the policy asks for";
    let policy = report.policy();
    if policy.smt_allowed() && rules.smt == Permission::Refuse {
        let help = "launch the guest without the SMT bit, or set smt = \"allow\"";
        judge.fatal(ReportCheck::GuestPolicy, format!("{policy} allows SMT")).wanting("SMT not allowed").advising(help);
    }
    if policy.cxl_allowed() && rules.cxl == Permission::Refuse {
        let help = "launch the guest without the CXL bit, or set cxl = \"allow\"";
        judge.fatal(ReportCheck::GuestPolicy, format!("{policy} allows CXL")).wanting("CXL not allowed").advising(help);
    }
    for bit in &rules.require_policy {
        if policy.raw() & bit.mask == 0 {
            judge
                .fatal(ReportCheck::GuestPolicy, format!("{policy} does not require {}", bit.name))
                .wanting(bit.name)
                .advising(HELP);
        }
    }
    if let Some(minimum) = rules.minimum_abi {
        let (major, minor) = policy.abi();
        if (major, minor) < (minimum.major, minimum.minor) {
            let seen = format!("{policy} is content with ABI {major}.{minor}");
            judge.fatal(ReportCheck::GuestPolicy, seen).wanting(format!("ABI {minimum} or above")).advising(HELP);
        }
    }
}

fn tcb(judge: &mut Judge<'_>, rules: &SnpRules, verified: &VerifiedReport) {
    let product = verified.vek().product();
    let value = |kind| verified.report().tcb(kind, product.layout());
    match rules.minimum_tcb.floor(product) {
        None => {
            judge
                .fatal(ReportCheck::Tcb, product)
                .wanting("a product for which the policy has a floor")
                .about("product")
                .advising(format!(
                    "add [snp.minimum_tcb.{}] to the policy if you accept it",
                    product.name().to_lowercase()
                ));
        }
        Some(floor) => {
            below(judge, "reported_tcb", &value(TcbKind::Reported), floor);
            below(judge, "committed_tcb", &value(TcbKind::Committed), floor);
        }
    }
    if let Some(floor) = rules.minimum_committed_tcb.floor(product) {
        below(judge, "committed_tcb", &value(TcbKind::Committed), floor);
    }
    if let Some(floor) = rules.minimum_launch_tcb.floor(product) {
        below(judge, "launch_tcb", &value(TcbKind::Launch), floor);
    }
}

/// A floor of another layout cannot be met: it is refused like one that is too high.
fn below(judge: &mut Judge<'_>, subject: &'static str, seen: &TcbVersion, floor: &TcbVersion) {
    if seen.at_least(floor) != Ok(true) {
        let help = "the machine's firmware or microcode is older than the policy accepts; its operator must update it";
        judge.fatal(ReportCheck::Tcb, seen).wanting(format!("{floor}, each or above")).about(subject).advising(help);
    }
}

fn mitigations(judge: &mut Judge<'_>, rules: &SnpRules, report: &Report) {
    let vectors = report.mitigation();
    for (subject, mask, seen) in [
        ("launch_mit_vector", rules.mitigations.launch, vectors.map(|v| v.launch)),
        ("current_mit_vector", rules.mitigations.current, vectors.map(|v| v.current)),
    ] {
        if seen.unwrap_or(0) & mask != mask {
            let seen = seen.map_or("none: only reports of version 5 carry it".to_owned(), |bits| format!("{bits:#x}"));
            judge.fatal(ReportCheck::Mitigation, seen).wanting(format!("all bits of {mask:#x}")).about(subject);
        }
    }
}
