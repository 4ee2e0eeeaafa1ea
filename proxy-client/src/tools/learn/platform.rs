//! What a platform's own evidence says: which machine of the cloud it is, and what its table of the policy must be for it.

use ratls::appraise::is_gce_pcr0_of_snp;
use ratls::binding::Profile;
use ratls::endorsement::{AkIdentity, GceInstance};
use ratls::evidence::tpm::{Bank, PcrValues};
use ratls::measured_boot::registers::{Evidential, meaning};
use ratls::verify::VerifiedEvidence;

use super::draft::{Draft, quoted};

/// Answers to whose guest it is, by the word of whoever vouches for its vTPM. Lines of the table `[identity]`.
pub(super) fn identities(evidence: &VerifiedEvidence) -> Vec<String> {
    let mut answers = Vec::new();
    let Some(tpm) = evidence.tpm().filter(|tpm| tpm.link().anchor().is_some()) else { return answers };
    let mut answer = |key: &str, value: &str, what: &str| {
        answers.push(format!("tpm = {{ {key} = [{}] }}   # {what}", quoted(value)));
    };
    if let Some(id) = evidence.hcl().and_then(|claims| claims.configuration.vm_unique_id.as_ref()) {
        answer("azure_vm_ids", id, "this VM, by the paravisor's word");
    }
    if let Some(instance) = gce(evidence) {
        answer("gce_instance_ids", &instance.instance_id().to_string(), "this instance, by Google's word");
    }
    let module = tpm.document().map(|document| document.document().module_id());
    if let Some((instance, _)) = module.and_then(|module| module.rsplit_once("-tpm")) {
        answer("ec2_instance_ids", instance, "this instance, by Amazon's word");
    }
    if let Some(ak) = tpm.ak() {
        answer("ak_names", &ak.name().to_string(), "this vTPM, as long as its key lives");
    }
    answers
}

fn gce(evidence: &VerifiedEvidence) -> Option<&GceInstance> {
    match evidence.tpm()?.proof().certificate()?.identity() {
        AkIdentity::Gce(instance) => Some(instance),
        AkIdentity::Azure(_) => None,
    }
}

/// `[tpm]` and the table of the platform. What the strict default refuses is a question.
pub(super) fn tables(out: &mut Draft, evidence: &VerifiedEvidence) {
    match evidence.profile() {
        Profile::Snp => return,
        Profile::AzureSnp => azure(out, evidence),
        Profile::GcpSnp => gcp(out, evidence),
        Profile::AwsSnp => aws(out, evidence),
        Profile::SvsmSnp => svsm(out, evidence),
    }
    out.line("");
    out.line("[tpm]");
    let Some(tpm) = evidence.tpm() else {
        let answer = "quote = \"if-present\"".to_owned();
        out.question("nothing came of the vTPM. Do you do without knowing what was booted?", &[answer]);
        out.line("");
        return;
    };
    let bank = tpm.pcrs().bank();
    out.line(format!("banks = [\"{bank}\"]"));
    if evidence.parts().event_log().is_none() {
        out.line("# No event log came, so nothing tells what the registers mean. [tpm.pcrs] pins them as they are.");
    }
    registers(out, tpm.pcrs(), bank, evidence.parts().event_log().is_some());
    out.line("");
}

/// Registers that no rule of `[event_log]` compares: the firmware's own, and the machine's; or all of them, where no log came.
fn registers(out: &mut Draft, pcrs: &PcrValues, bank: Bank, logged: bool) {
    let is_open = |pcr: u8| match meaning(pcr).map(|meaning| meaning.evidential) {
        // IMA's goes on growing.
        Some(Evidential::Yes) => pcr != 10 && (!logged || matches!(pcr, 0 | 1 | 15)),
        _ => false,
    };
    let open: Vec<String> = pcrs
        .iter()
        .filter(|(pcr, _)| is_open(*pcr))
        .map(|(pcr, value)| {
            let holds = meaning(pcr).map_or("", |meaning| meaning.holds);
            format!("{pcr} = \"{value}\"   # {holds}")
        })
        .collect();
    if open.is_empty() {
        return;
    }
    let answers: Vec<String> = std::iter::once(format!("[tpm.pcrs.{bank}]")).chain(open).collect();
    out.question(
        "these registers are compared with nothing. Which of them must stay as they are? Their values change with the cloud's firmware \
         and the machine's hardware.",
        &answers,
    );
}

fn azure(out: &mut Draft, evidence: &VerifiedEvidence) {
    out.line("[azure]");
    let Some(claims) = evidence.hcl() else { return };
    if evidence.tpm().is_some_and(|tpm| tpm.proof().certificate().is_some()) {
        out.line("ak_certificate = \"require\"   # Microsoft's certificate for the same key came too");
    } else {
        out.line("# No certificate of Microsoft's came for the vTPM's key: only the paravisor vouches for it.");
    }
    if claims.user_data.is_none() {
        out.question(
            "this paravisor takes no data of the guest, so its report may be of any day, and holds every level down. Do you accept that?",
            &["stale_report = \"accept a report of unknown age\"".to_owned()],
        );
    }
    if claims.configuration.console_enabled != Some(false) {
        out.question(
            "the VM has a serial console, and the host has its other end. Do you accept that?",
            &["console = \"allow\"".to_owned()],
        );
    }
    if claims.configuration.secure_boot != Some(true) {
        out.question(
            "the paravisor says that secure boot is off. Do you accept that?",
            &["insecure_boot = \"allow\"".to_owned()],
        );
    }
}

fn gcp(out: &mut Draft, evidence: &VerifiedEvidence) {
    out.line("[gcp]");
    match gce(evidence) {
        Some(instance) => {
            out.question("is this your project, and the zone that you chose? Google's certificate names them.", &[]);
            out.line(format!("projects = [{}]", quoted(instance.project_id())));
            out.line(format!("zones = [{}]", quoted(instance.zone())));
        }
        None => out.line("# No certificate of Google's came, so the instance is not known."),
    }
    if let Some(value) = evidence.tpm().and_then(|tpm| tpm.pcrs().value(0)).filter(|value| !is_gce_pcr0_of_snp(value)) {
        out.question(
            &format!(
                "PCR 0 is {value}, and not that of Google's firmware under SEV-SNP: the vTPM may be another machine's. Do you accept \
                 that?"
            ),
            &["pcr0 = \"not compared\"".to_owned()],
        );
    }
    if let Some(verified) = evidence.parts().gce_endorsement() {
        let svn = verified.endorsement().snp().map_or(0, |golden| golden.svn());
        out.question(
            "Google's endorsement of its firmware came too. Must it? docs/policy.md says where its root is.",
            &["endorsement_root = \"GCE-cc-tcb-root_1.crt\"".to_owned(), format!("min_svn = {svn}")],
        );
    }
}

fn aws(out: &mut Draft, evidence: &VerifiedEvidence) {
    out.line("[aws]");
    match evidence.tpm().and_then(|tpm| tpm.document()) {
        Some(_) => {
            out.line(
                "vtpm = \"document\"   # the Nitro system signs the registers; [event_log] says what they must hold",
            );
            out.question("how old may the document be?", &["max_document_age = \"5m\"".to_owned()]);
        }
        None => out.question(
            "no document of the Nitro system came: nothing but the report counts. Do you do without the vTPM?",
            &["vtpm = \"none\"".to_owned()],
        ),
    }
}

fn svsm(out: &mut Draft, evidence: &VerifiedEvidence) {
    out.line("[svsm]");
    if let Some(manifest) = evidence.svsm() {
        out.line(format!(
            "# The SVSM's manifest names the EK {}: a new one with each launch, so it is not pinned. The SVSM itself is in the launch \
             measurement.",
            manifest.ek().name()
        ));
    }
    match evidence.tpm().is_some_and(|tpm| tpm.proof().is_proven()) {
        true => out.line("ak = \"proven\"   # the key that quotes was shown to live beside that EK"),
        false => out.question(
            "the key that quotes was not proven to live in the SVSM's vTPM; everything above the firmware stays at L0. Do you accept that?",
            &["ak = \"accept a key that nobody vouches for\"".to_owned()],
        ),
    }
}
