//! The JSON of what came beside the report: `evidence.tpm`, `.azure`, `.gcp`, `.aws`, `.svsm` and what logs came.

use serde_json::{Map, Value, json};

use formats::evidence::hcl::Claims;
use formats::evidence::tpm::{Clock, PcrValues};
use verify::endorsement::{AkIdentity, CrlStatus, GceInstance, VerifiedAk, VerifiedGceEndorsement, VerifiedNitro};
use verify::{VerifiedEvidence, VerifiedParts, VerifiedPieces, VerifiedTpm};

/// Adds what there is; nothing stands for what there is not.
pub(super) fn add(shown: &mut Map<String, Value>, evidence: &VerifiedEvidence) {
    if let Some(tpm) = evidence.tpm() {
        add_tpm(shown, tpm);
    }
    if let Some(claims) = evidence.hcl() {
        shown.insert("azure".to_owned(), azure(claims, evidence.named_ak()));
    }
    if let Some(manifest) = evidence.svsm() {
        shown.insert("svsm".to_owned(), json!({"ek_name": manifest.ek().name().to_string()}));
    }
    add_parts(shown, evidence.parts());
}

/// Pieces that make no guest.
pub(super) fn pieces(pieces: &VerifiedPieces) -> Value {
    let mut shown = Map::new();
    if let Some(tpm) = pieces.tpm() {
        add_tpm(&mut shown, tpm);
    }
    if let Some(ak) = pieces.ak() {
        shown.insert("ak".to_owned(), ak_certificate(ak));
    }
    add_parts(&mut shown, pieces.parts());
    shown.into()
}

fn add_tpm(shown: &mut Map<String, Value>, tpm: &VerifiedTpm) {
    shown.insert("tpm".to_owned(), self::tpm(tpm));
    if let Some(instance) = tpm.proof().certificate().and_then(gce_instance) {
        shown.insert("gcp".to_owned(), gcp(instance));
    }
    if let Some(document) = tpm.document() {
        shown.insert("aws".to_owned(), nitro(document));
    }
}

fn add_parts(shown: &mut Map<String, Value>, parts: &VerifiedParts) {
    if let Some(endorsement) = parts.gce_endorsement() {
        shown.insert("gce_endorsement".to_owned(), gce_endorsement(endorsement));
    }
    if let Some(log) = parts.event_log() {
        shown.insert("event_log".to_owned(), json!({"events": log.events().len()}));
    }
    if let Some(list) = parts.ima_list() {
        shown.insert("ima_list".to_owned(), json!({"entries": list.entries().len()}));
    }
}

/// The vTPM: what it holds, and who vouches for it.
fn tpm(tpm: &VerifiedTpm) -> Value {
    let certificate = tpm.proof().certificate();
    json!({
        "kind": tpm.kind().as_str(),
        "proof": tpm.proof().as_str(),
        "anchor": tpm.link().anchor().map(|root| root.as_str()),
        "freshness": tpm.freshness().as_str(),
        "ak_name": tpm.ak().map(|ak| ak.name().to_string()),
        "bank": tpm.pcrs().bank().as_str(),
        "pcrs": pcrs(tpm.pcrs()),
        "clock": tpm.clock().map(clock),
        "certificate": certificate.map(ak_certificate),
    })
}

fn clock(clock: Clock) -> Value {
    json!({
        "clock_ms": clock.clock_ms,
        "reset_count": clock.reset_count,
        "restart_count": clock.restart_count,
        "safe": clock.safe,
    })
}

/// By number, as in `--pcrs`.
fn pcrs(values: &PcrValues) -> Value {
    values.iter().map(|(index, value)| (index.to_string(), json!(value.to_string()))).collect::<Map<_, _>>().into()
}

/// A certificate of a cloud for an AK.
fn ak_certificate(ak: &VerifiedAk) -> Value {
    let identity = match ak.identity() {
        AkIdentity::Azure(vm) => json!({"azure_vm": vm.id()}),
        AkIdentity::Gce(instance) => gcp(instance),
    };
    json!({
        "key": ak.key().to_string(),
        "identity": identity,
        "not_before": ak.not_before(),
        "not_after": ak.not_after(),
        "simulated": ak.simulated(),
        "crl": match ak.crl() {
            CrlStatus::Checked { next_update } => json!({"next_update": next_update}),
            CrlStatus::Absent => Value::Null,
        },
    })
}

fn gce_instance(ak: &VerifiedAk) -> Option<&GceInstance> {
    match ak.identity() {
        AkIdentity::Gce(instance) => Some(instance),
        AkIdentity::Azure(_) => None,
    }
}

/// Instance ids use all 64 bits, which a JSON reader may not keep: they are texts.
fn gcp(instance: &GceInstance) -> Value {
    let security = instance.security();
    json!({
        "project_id": instance.project_id(),
        "project_number": instance.project_number().to_string(),
        "zone": instance.zone(),
        "instance_id": instance.instance_id().to_string(),
        "instance_name": instance.instance_name(),
        "security": {
            "version": security.security_version,
            "production": security.is_production,
            "tpm_data_always_encrypted": security.tpm_data_always_encrypted,
            "suspend_resume_always_disabled": security.suspend_resume_always_disabled,
            "vmtd_always_disabled": security.vmtd_always_disabled,
            "always_in_yarn": security.always_in_yarn,
        },
    })
}

/// A document of NitroTPM.
fn nitro(verified: &VerifiedNitro) -> Value {
    let document = verified.document();
    json!({
        "module_id": document.module_id(),
        "timestamp_ms": document.timestamp_ms(),
        "nonce": document.nonce().map(hex::encode),
        "user_data": document.user_data().map(hex::encode),
        "public_key": document.public_key().map(hex::encode),
        "pcrs": pcrs(document.pcrs()),
        "not_after": verified.not_after(),
    })
}

fn azure(claims: &Claims, certificate: Option<&VerifiedAk>) -> Value {
    let configuration = &claims.configuration;
    json!({
        "user_data": claims.user_data.as_ref().map(|data| hex::encode(data.as_bytes())),
        "vm_unique_id": configuration.vm_unique_id,
        "secure_boot": configuration.secure_boot,
        "console_enabled": configuration.console_enabled,
        "interactive_console_enabled": configuration.interactive_console_enabled,
        "tpm_enabled": configuration.tpm_enabled,
        "tpm_persisted": configuration.tpm_persisted,
        "current_time": configuration.current_time,
        "certificate": certificate.map(ak_certificate),
    })
}

fn gce_endorsement(verified: &VerifiedGceEndorsement) -> Value {
    let endorsement = verified.endorsement();
    let snp = endorsement.snp().map(|snp| {
        let measurements: Map<_, _> =
            snp.measurements().iter().map(|(vmsas, digest)| (vmsas.to_string(), json!(digest))).collect();
        json!({
            "svn": snp.svn(),
            "policy": snp.policy(),
            "measurements": measurements,
            "svsm_measurement": snp.svsm_measurement(),
        })
    });
    json!({
        "firmware_sha384": endorsement.firmware(),
        "changelist": endorsement.changelist(),
        "timestamp": endorsement.timestamp().map(formats::time::UnixTime::from_secs),
        "snp": snp,
    })
}
