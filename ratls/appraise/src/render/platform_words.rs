//! The vTPM and the machine in a line each, for people: where it is, whose word it is, and which machine of the cloud that makes it.

use formats::evidence::snp::Measurement;
use verify::endorsement::AkIdentity;
use verify::{AkProof, TpmKind, VerifiedEvidence, VerifiedParts, VerifiedTpm};

pub(super) fn vtpm(tpm: &VerifiedTpm) -> String {
    let place = match tpm.kind() {
        TpmKind::Host => "outside the guest, with the cloud's host",
        TpmKind::Paravisor => "in the guest, in the cloud's paravisor",
        TpmKind::Svsm => "in the guest, in its SVSM",
    };
    let proof = match tpm.proof() {
        AkProof::Paravisor { certificate: Some(_) } => "the paravisor names its key, and the cloud certifies it",
        AkProof::Paravisor { certificate: None } => "the paravisor alone names its key",
        AkProof::Certificate(_) => "the cloud certifies its key",
        AkProof::Credential => "its key was shown to live beside the EK that the SVSM names",
        AkProof::Witnessed(_) => {
            "its key was shown to live beside the EK that the SVSM names, says who saved the bundle"
        }
        AkProof::Document => "the cloud's Nitro system signs its registers",
        AkProof::Unproven => "nobody vouches for its key",
    };
    format!("{place}; {proof}; registers of bank {}", tpm.pcrs().bank())
}

/// Name and text of each row.
pub(super) fn machine(evidence: &VerifiedEvidence) -> Vec<(&'static str, String)> {
    let mut rows = Vec::new();
    if let Some(AkIdentity::Gce(instance)) =
        evidence.tpm().and_then(|tpm| tpm.proof().certificate()).map(|certificate| certificate.identity())
    {
        rows.push(("place", format!("project {}, zone {}, says Google", instance.project_id(), instance.zone())));
        rows.push(("instance", format!("{} ({})", instance.instance_name(), instance.instance_id())));
    }
    if let Some(document) = evidence.tpm().and_then(VerifiedTpm::document) {
        rows.push(("instance", format!("{}, says AWS", document.document().module_id())));
    }
    if let Some(claims) = evidence.hcl() {
        let configuration = &claims.configuration;
        let on = |flag: Option<bool>| match flag {
            Some(true) => "on",
            Some(false) => "off",
            None => "not said",
        };
        let (boot, console) = (on(configuration.secure_boot), on(configuration.console_enabled));
        let input = match configuration.interactive_console_enabled {
            Some(true) => " and takes input",
            Some(false) => " and takes no input",
            None => "",
        };
        rows.push(("paravisor", format!("says: secure boot {boot}, serial console {console}{input}")));
        if let Some(id) = &configuration.vm_unique_id {
            rows.push(("instance", format!("VM {id}, says the paravisor")));
        }
    }
    rows.extend(endorsement(evidence.parts(), evidence.report().report().measurement()));
    rows
}

/// What Google endorsed, and whether that is the firmware of this report.
fn endorsement(parts: &VerifiedParts, measurement: &Measurement) -> Vec<(&'static str, String)> {
    let Some(snp) = parts.gce_endorsement().and_then(|verified| verified.endorsement().snp()) else {
        return Vec::new();
    };
    let of_report = match snp.vmsas_of(measurement) {
        Some(vmsas) => format!("this measurement, with {vmsas} virtual CPUs"),
        None => "another firmware than this report's".to_owned(),
    };
    let mut rows = vec![("endorsement", format!("Google endorses {of_report}; svn {}", snp.svn()))];
    rows.extend(
        snp.svsm_measurement().map(|digest| ("endorsed svsm", format!("{digest}, which nothing is compared with"))),
    );
    rows
}
