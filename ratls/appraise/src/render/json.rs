//! The JSON of a result: the contract of `inspect`, `verify` and the admin page's `/verdict`.
//!
//! Nothing secret is in a result, so nothing is left out: exporter values never reach this folder.

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value, json};

use super::advisories;
use super::levels_json;
use super::platform_json;
use crate::files;
use crate::result::AttestationResult;
use formats::evidence::snp::{SigningKey, TcbKind};
use measure::measured_boot::Boot;
use verify::endorsement::CrlStatus;
use verify::{VerifiedEvidence, VerifiedReport};

impl Serialize for AttestationResult {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(None)?;
        map.serialize_entry("verdict", self.verdict.as_str())?;
        map.serialize_entry("refused_by", &self.refused_by().map(|stage| stage.as_str()))?;
        map.serialize_entry("profile", &self.profile())?;
        map.serialize_entry("simulated", &self.simulated())?;
        map.serialize_entry("channel", self.channel.as_str())?;
        map.serialize_entry(
            "freshness",
            &json!({"hw": self.hw_freshness().as_str(), "tpm": self.tpm_freshness().as_str()}),
        )?;
        map.serialize_entry("identity", self.identity.as_str())?;
        map.serialize_entry("levels", &levels_json::to_json(self.levels()))?;
        map.serialize_entry("levels_if_fresh", &levels_json::to_json(self.levels_if_fresh()))?;
        if let Some(relaxed) = self.levels_relaxed() {
            map.serialize_entry("levels_relaxed", &levels_json::to_json(relaxed))?;
        }
        map.serialize_entry("findings", &self.findings)?;
        let shown = self.pieces().map_or_else(|| evidence(self.evidence()), platform_json::pieces);
        map.serialize_entry("evidence", &shown)?;
        let accounts = self.accounts();
        if !accounts.is_empty() {
            map.serialize_entry("pieces", &files::to_json(accounts))?;
        }
        if let Some(boot) = self.booted() {
            map.serialize_entry("booted", &booted(&boot))?;
        }
        map.serialize_entry("advisories", &advisories::to_json(&self.advisories()))?;
        map.serialize_entry("policy", &self.policy.as_ref().map(|p| json!({"file": p.file, "sha256": p.digest})))?;
        map.serialize_entry("at", &self.at)?;
        map.serialize_entry("expires", &self.expires())?;
        map.end()
    }
}

impl AttestationResult {
    pub fn to_json(&self) -> Value {
        serde_json::to_value(self).expect("a result has only JSON's types and text keys")
    }
}

/// What was booted: each sentence, and what confirms each register.
fn booted(boot: &Boot) -> Value {
    let sentences: Vec<Value> = boot
        .sentences()
        .iter()
        .map(|sentence| json!({"about": sentence.subject, "says": sentence.text, "bound": sentence.bound}))
        .collect();
    let registers: Map<String, Value> =
        boot.registers().iter().map(|register| (register.pcr.to_string(), register.state.as_str().into())).collect();
    json!({"bank": boot.bank().as_str(), "registers": registers, "sentences": sentences})
}

fn evidence(evidence: Option<&VerifiedEvidence>) -> Value {
    match evidence {
        None => json!({}),
        Some(evidence) => {
            let mut parts = Map::new();
            parts.insert("snp".to_owned(), snp(evidence.report()));
            platform_json::add(&mut parts, evidence);
            if let Some(statement) = evidence.statement() {
                let shown = json!({
                    "epoch": statement.epoch,
                    "counter": statement.counter,
                    "config": statement.config,
                    "names": statement.names,
                    "upstream_inside_guest": statement.upstream_scope == formats::binding::UpstreamScope::InsideGuest,
                });
                parts.insert("statement".to_owned(), shown);
            }
            parts.into()
        }
    }
}

fn snp(verified: &VerifiedReport) -> Value {
    let (report, vek) = (verified.report(), verified.vek());
    let tcb = |kind| report.tcb(kind, vek.product().layout());
    json!({
        "version": report.version(),
        "product": vek.product(),
        "vmpl": report.vmpl(),
        "signing_key": report.signing_key(),
        "measurement": report.measurement(),
        "report_data": report.report_data(),
        "chip_id": report.chip_id(),
        "policy": report.policy(),
        "reported_tcb": tcb(TcbKind::Reported),
        "committed_tcb": tcb(TcbKind::Committed),
        "launch_tcb": tcb(TcbKind::Launch),
        "current_tcb": tcb(TcbKind::Current),
        "guest_svn": report.guest_svn(),
        "debug": report.policy().debug_allowed(),
        "smt": report.policy().smt_allowed(),
        "migrate_ma": report.policy().migrate_ma_allowed(),
        "family_id": report.family_id(),
        "image_id": report.image_id(),
        "platform_info": report.platform_info(),
        "mask_chip_key": u8::from(report.mask_chip_key()),
        "author_key_en": u8::from(report.author_key_en()),
        "host_data": report.host_data(),
        "id_key_digest": report.id_key_digest(),
        "author_key_digest": report.author_key_digest(),
        "report_id": report.report_id(),
        "report_id_ma": report.report_id_ma(),
        "cpuid": report.cpuid(),
        "current_fw": report.current_firmware(),
        "committed_fw": report.committed_firmware(),
        "mitigation": report.mitigation(),
        "vek": {
            "kind": match report.signing_key() {
                SigningKey::Vlek => "vlek",
                SigningKey::Vcek | SigningKey::None => "vcek",
            },
            "tcb": vek.tcb(),
            "csp": vek.csp(),
            "not_after": vek.not_after(),
            "crl": match vek.crl() {
                CrlStatus::Checked { next_update } => json!({"next_update": next_update}),
                CrlStatus::Absent => Value::Null,
            },
        },
    })
}
