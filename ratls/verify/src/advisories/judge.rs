//! What one report shows of each advisory.
//!
//! Four TCB versions, two mitigation vectors, platform bits and policy bits decide. Three rules shape the answers:
//!
//! * "Met" needs everything that AMD names, in all four TCB versions and both vectors: current firmware alone is what
//!   the host may take back, and a fix that is loaded live need not be in force (SNP_VERIFY_MITIGATION).
//! * "Open" needs a number below the smallest that a fixed machine can have. Between the two, nothing is claimed.
//! * A part without a row is "not listed" if AMD publishes versions for the part, and "not provable" otherwise.
//!
//! Of the TCB versions the committed one comes first: below it the host can go back. The reported one is next, because
//! it is what the signing key was derived for. Firmware build numbers are never used: AMD ties fixes to SVNs.

use formats::binding::Profile;
use formats::evidence::snp::{MitigationVectors, Report, TcbKind};
use formats::tcb::{Product, TcbVersion};

use super::line::ProcessorLine;
use super::table::{Advisory, AdvisoryRow, AdvisoryTable, Alternative, ClearBit, RowKind};

/// What a report says about one advisory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdvisoryVerdict {
    /// Everything that AMD names is there, or the attack is ruled out in another way.
    Met { why: String },
    /// Something that every fixed machine has is missing.
    Open { what: OpenReason, why: String },
    /// Neither of the two can be said from a report.
    NotProvable { why: String },
    /// AMD does not list this part.
    NotListed { why: String },
}

/// What has to change for an open advisory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenReason {
    /// The machine: it runs firmware or microcode without the fix, or can go back to it.
    Machine,
    /// The signing key: it is one of an older TCB, so a machine broken at that TCB may have signed.
    Key,
    /// The guest: it was launched before the fix.
    Launch,
}

/// One advisory with its verdict.
#[derive(Clone, Debug)]
pub struct JudgedAdvisory {
    advisory: Advisory,
    verdict: AdvisoryVerdict,
}

impl AdvisoryVerdict {
    /// Returns the verdict as one word: `met`, `open`, `not-provable` or `not-listed`.
    pub const fn as_str(&self) -> &'static str {
        match self {
            AdvisoryVerdict::Met { .. } => "met",
            AdvisoryVerdict::Open { .. } => "open",
            AdvisoryVerdict::NotProvable { .. } => "not-provable",
            AdvisoryVerdict::NotListed { .. } => "not-listed",
        }
    }

    pub fn why(&self) -> &str {
        match self {
            AdvisoryVerdict::Met { why }
            | AdvisoryVerdict::Open { why, .. }
            | AdvisoryVerdict::NotProvable { why }
            | AdvisoryVerdict::NotListed { why } => why,
        }
    }
}

impl OpenReason {
    pub const fn as_str(self) -> &'static str {
        match self {
            OpenReason::Machine => "machine",
            OpenReason::Key => "key",
            OpenReason::Launch => "launch",
        }
    }
}

impl JudgedAdvisory {
    pub fn advisory(&self) -> &Advisory {
        &self.advisory
    }
    pub fn verdict(&self) -> &AdvisoryVerdict {
        &self.verdict
    }
    /// Whether this attack may have made every other answer false.
    pub fn casts_doubt(&self) -> bool {
        let is_ruled_out = matches!(self.verdict, AdvisoryVerdict::Met { .. } | AdvisoryVerdict::NotListed { .. });
        self.advisory.forges_reports() && !is_ruled_out
    }
}

impl AdvisoryTable {
    /// Judges a report. `product` is that of the verified signing key: reports of version 2 do not carry one. Advisories
    /// that cast doubt on the others come first; otherwise the order is the table's.
    pub fn judge(&self, report: &Report, product: Product, profile: Option<Profile>) -> Vec<JudgedAdvisory> {
        let applies = |advisory: &&Advisory| {
            let profiles = advisory.profiles();
            profiles.is_empty() || profile.is_none_or(|profile| profiles.contains(&profile))
        };
        let judged = |advisory: &Advisory| {
            let verdict = judge_advisory(advisory, report, product);
            JudgedAdvisory { advisory: advisory.clone(), verdict }
        };
        let mut all: Vec<_> = self.advisories().iter().filter(applies).map(judged).collect();
        all.sort_by_key(|one| !one.casts_doubt());
        all
    }
}

fn judge_advisory(advisory: &Advisory, report: &Report, product: Product) -> AdvisoryVerdict {
    if let Some(cpuid) = report.cpuid() {
        return match ProcessorLine::from_cpuid(cpuid) {
            Some(line) => judge_line(advisory, line, report),
            None => AdvisoryVerdict::NotProvable { why: format!("AMD publishes no value for the part {cpuid}") },
        };
    }
    // Version 2: any part of the product. They must agree, because the report does not say which one it is.
    let lines = ProcessorLine::ALL.into_iter().filter(|line| line.product() == product);
    let mut verdicts = lines.map(|line| (line, judge_line(advisory, line, report)));
    let Some((_, first)) = verdicts.next() else {
        return AdvisoryVerdict::NotProvable { why: format!("no part of {product} is known") };
    };
    match verdicts.find(|(_, verdict)| !is_same(verdict, &first)) {
        None => first,
        Some((line, other)) => AdvisoryVerdict::NotProvable {
            why: format!(
                "a report of version {} does not say which part made it: {} on {line}, {} on another",
                report.version(),
                other.as_str(),
                first.as_str()
            ),
        },
    }
}

/// The reasons may name other numbers; the answer is the same.
fn is_same(a: &AdvisoryVerdict, b: &AdvisoryVerdict) -> bool {
    match (a, b) {
        (AdvisoryVerdict::Open { what: a, .. }, AdvisoryVerdict::Open { what: b, .. }) => a == b,
        (a, b) => std::mem::discriminant(a) == std::mem::discriminant(b),
    }
}

fn judge_line(advisory: &Advisory, line: ProcessorLine, report: &Report) -> AdvisoryVerdict {
    match advisory.row(line) {
        None => AdvisoryVerdict::NotListed { why: format!("AMD lists no {line} for it") },
        Some(row) => RowJudge { row, line, report }.verdict(),
    }
}

/// What a component is called, the number that it must reach, and where it is in a TCB version.
type TcbFloor = (&'static str, Option<u8>, fn(&TcbVersion) -> u8);

struct RowJudge<'a> {
    row: &'a AdvisoryRow,
    line: ProcessorLine,
    report: &'a Report,
}

impl RowJudge<'_> {
    fn verdict(&self) -> AdvisoryVerdict {
        let why = || self.row.why.clone().unwrap_or_default();
        match self.row.shows {
            RowKind::NotAffected => AdvisoryVerdict::NotListed { why: why() },
            RowKind::Physical => AdvisoryVerdict::NotProvable { why: why() },
            RowKind::NotProvable => self.open().unwrap_or_else(|| AdvisoryVerdict::NotProvable { why: why() }),
            RowKind::Alternatives => self.alternative().unwrap_or_else(|| AdvisoryVerdict::Open {
                what: OpenReason::Launch,
                why: "neither the guest policy nor the platform rules it out".to_owned(),
            }),
            RowKind::Fix => self.alternative().or_else(|| self.open()).unwrap_or_else(|| self.met()),
        }
    }

    fn alternative(&self) -> Option<AdvisoryVerdict> {
        let (policy, platform) = (self.report.policy(), self.report.platform_info());
        let holds = |alternative: &&Alternative| match alternative {
            Alternative::PolicySmtRefused => !policy.smt_allowed(),
            Alternative::PolicyRaplDisabled => policy.rapl_disabled_required(),
            Alternative::PolicyCiphertextHiding => policy.ciphertext_hiding_required(),
            Alternative::PolicyPageSwapDisabled => policy.page_swap_disabled_required(),
            Alternative::PlatformSmtOff => !platform.smt_enabled(),
            Alternative::PlatformRaplDisabled => platform.rapl_disabled(),
            Alternative::PlatformCiphertextHiding => platform.ciphertext_hiding_enabled(),
        };
        let found = self.row.alternatives.iter().find(holds)?;
        Some(AdvisoryVerdict::Met { why: sentence(*found).to_owned() })
    }

    fn tcb(&self, kind: TcbKind) -> TcbVersion {
        self.report.tcb(kind, self.line.product().layout())
    }

    /// The necessary numbers and bits.
    fn open(&self) -> Option<AdvisoryVerdict> {
        let floors: [TcbFloor; 2] = [
            ("SNP firmware", self.row.open_below_snp, TcbVersion::snp),
            ("microcode", self.row.open_below_microcode, TcbVersion::microcode),
        ];
        // By TCB first, so that one reason covers firmware and microcode alike.
        for (kind, what) in [
            (TcbKind::Committed, OpenReason::Machine),
            (TcbKind::Reported, OpenReason::Key),
            (TcbKind::Launch, OpenReason::Launch),
        ] {
            for (part, floor, component) in floors {
                let seen = component(&self.tcb(kind));
                if let Some(want) = floor
                    && seen < want
                {
                    let why = format!("{part} {seen} in the {} TCB, {want} or later is needed", kind_name(kind));
                    return Some(AdvisoryVerdict::Open { what, why });
                }
            }
        }
        if let Some(bit) = self.row.platform_bit
            && self.report.platform_info().raw() & (1 << bit) == 0
        {
            let why = format!("platform bit {bit} is clear");
            return Some(AdvisoryVerdict::Open { what: OpenReason::Machine, why });
        }
        let vectors = self.report.mitigation()?;
        let (mask, meaning) = (self.row.bit_mask(), self.row.bit_clear?);
        let (what, why) = missing_bits(vectors, mask)?;
        Some(match meaning {
            ClearBit::Open => AdvisoryVerdict::Open { what, why },
            ClearBit::NotProvable => {
                AdvisoryVerdict::NotProvable { why: format!("{why}, and its meaning is not confirmed") }
            }
        })
    }

    /// The sufficient ones, once nothing necessary is missing.
    fn met(&self) -> AdvisoryVerdict {
        let minima: [TcbFloor; 5] = [
            ("FMC", self.row.min_fmc, |tcb| tcb.fmc().unwrap_or(0)),
            ("boot loader", self.row.min_bl, TcbVersion::bootloader),
            ("TEE", self.row.min_tee, TcbVersion::tee),
            ("SNP firmware", self.row.min_snp, TcbVersion::snp),
            ("microcode", self.row.min_microcode, TcbVersion::microcode),
        ];
        for (part, minimum, component) in minima {
            let Some(want) = minimum else { continue };
            if let Some(kind) = TcbKind::ALL.into_iter().find(|kind| component(&self.tcb(*kind)) < want) {
                let seen = component(&self.tcb(kind));
                return AdvisoryVerdict::NotProvable {
                    why: format!(
                        "{part} {seen} in the {} TCB; {want} is known to be enough, and less is not known to be too little",
                        kind_name(kind)
                    ),
                };
            }
        }
        if !self.row.bits.is_empty() && self.report.mitigation().is_none() {
            let version = self.report.version();
            return AdvisoryVerdict::NotProvable {
                why: format!("a report of version {version} has no mitigation vectors"),
            };
        }
        AdvisoryVerdict::Met { why: "the report shows everything that AMD names".to_owned() }
    }
}

/// A bit that is set now and was not at launch is the guest's to fix: it was set up without it.
fn missing_bits(vectors: MitigationVectors, mask: u64) -> Option<(OpenReason, String)> {
    let (launch, current) = (mask & !vectors.launch, mask & !vectors.current);
    let (missing, what, place) = match (launch, current) {
        (0, 0) => return None,
        (missing, 0) => (missing, OpenReason::Launch, "the launch vector"),
        (0, missing) => (missing, OpenReason::Machine, "the current vector"),
        (launch, current) => (launch | current, OpenReason::Machine, "both vectors"),
    };
    let bits: Vec<String> = (0..64).filter(|bit| missing & (1 << bit) != 0).map(|bit: u32| bit.to_string()).collect();
    Some((what, format!("mitigation bit {} is clear in {place}", bits.join(", "))))
}

const fn kind_name(kind: TcbKind) -> &'static str {
    match kind {
        TcbKind::Current => "current",
        TcbKind::Reported => "reported",
        TcbKind::Committed => "committed",
        TcbKind::Launch => "launch",
    }
}

const fn sentence(alternative: Alternative) -> &'static str {
    match alternative {
        Alternative::PolicySmtRefused => "the guest policy does not allow SMT",
        Alternative::PolicyRaplDisabled => "the guest policy requires RAPL to be off",
        Alternative::PolicyCiphertextHiding => "the guest policy requires ciphertext hiding",
        Alternative::PolicyPageSwapDisabled => "the guest policy forbids the host to move pages",
        Alternative::PlatformSmtOff => "SMT is off on the platform",
        Alternative::PlatformRaplDisabled => "RAPL is off on the platform",
        Alternative::PlatformCiphertextHiding => "ciphertext hiding is on",
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
