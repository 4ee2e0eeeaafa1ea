//! One thing that verification or appraisal has to say, in a form that a person can act on.
//!
//! The ids are stable: scripts match on them, tests are named after them, and `docs/policy.md` lists them.

use std::error::Error;

use serde::Serialize;

/// What a finding does to the verdict; the gravest comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Refuses.
    Fatal,
    /// Holds levels down; refuses nothing by itself.
    Cap,
    Warning,
    Info,
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Fatal => "fatal",
            Severity::Cap => "cap",
            Severity::Warning => "warning",
            Severity::Info => "info",
        }
    }
}

/// A finding: what was looked at, what was seen, what was wanted, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub(super) id: &'static str,
    pub(super) severity: Severity,
    pub(super) subject: &'static str,
    pub(super) seen: String,
    pub(super) wanted: String,
    pub(super) help: String,
}

impl Finding {
    /// A refusal of the verify stage: the check's id, and the error with its sources. Always fatal.
    pub fn of_verification(id: &'static str, error: &(dyn Error + 'static)) -> Finding {
        let mut seen = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !seen.contains(&cause_text) {
                seen = format!("{seen}: {cause_text}");
            }
            source = cause.source();
        }
        let (subject, wanted, help) = expectation(id);
        Finding { id, severity: Severity::Fatal, subject, seen, wanted: wanted.to_owned(), help: help.to_owned() }
    }

    /// The same with help that knows more than the id does.
    pub fn with_help(self, help: String) -> Finding {
        Finding { help, ..self }
    }

    pub fn id(&self) -> &'static str {
        self.id
    }
    pub fn severity(&self) -> Severity {
        self.severity
    }
    pub fn subject(&self) -> &'static str {
        self.subject
    }
    pub fn seen(&self) -> &str {
        &self.seen
    }
    pub fn wanted(&self) -> &str {
        &self.wanted
    }
    pub fn help(&self) -> &str {
        &self.help
    }
}

/// Subject, expectation and advice for each check of the verify stage.
fn expectation(id: &str) -> (&'static str, &'static str, &'static str) {
    match id {
        "R_LEN" => ("report", "1184 bytes", "give the report as the firmware wrote it, without a wrapper around it"),
        "R_VER" => (
            "report version",
            "2 to 5",
            "if the number is higher, update evident-client; a lower one is no report of SEV-SNP",
        ),
        "R_ALG" => {
            ("report signature algorithm", "1, ECDSA P-384 with SHA-384", "this is no report of SEV-SNP firmware")
        }
        "R_RESERVED" => (
            "report",
            "reserved bytes as the ABI says",
            "the report was damaged, or a newer firmware gave these bytes a meaning",
        ),
        "R_SIG" => (
            "report signature",
            "the endorsement key's over the bytes received",
            "the report or the certificate was changed, or they do not belong together",
        ),
        "R_KEYSEL" => (
            "report signing key",
            "the kind of key that the certificate is for",
            "give the VCEK certificate for a report signed by a VCEK, the VLEK's for one signed by a VLEK",
        ),
        "R_MASK" => (
            "report signing key",
            "a report that was signed",
            "the host masks the chip key, and such a report carries no signature: the operator must change that",
        ),
        "R_TCB" => (
            "TCB",
            "reported equal to the certificate's, neither reported nor committed above current",
            "fetch the certificate for the reported TCB of this report",
        ),
        "R_FRESH" => (
            "report_data",
            "the binder of this connection",
            "the evidence was made for something else: it may be replayed or relayed",
        ),
        "B_CHANNEL" | "B_PATH" | "B_KEY" => (
            "binding",
            "evidence of this connection and this key",
            "somebody shows evidence that was made for another connection: treat it as an attack",
        ),
        "B_PROFILE" => {
            ("profile", "one that this version verifies: snp", "a newer version of this program may know it")
        }
        "E_NO_ENDORSEMENT" => (
            "endorsement",
            "the VCEK or VLEK certificate of this report, and its issuer",
            "give them with --cert; without them nobody can tell who signed the report",
        ),
        "E_CHAIN" => (
            "certificate chain",
            "VCEK or VLEK, then ASK or ASVK, up to an AMD root",
            "give the issuer (ASK or ASVK) of the same product; roots are built in and never taken from the peer",
        ),
        "E_ROOT" => (
            "root",
            "one of AMD's roots, or the simulator's that the policy names",
            "a simulated guest needs [roots] simulator in the policy; everything else must end in AMD's",
        ),
        "E_VALIDITY" => (
            "certificate validity",
            "a time within it",
            "check the clock of this machine; if it is right, the guest needs a newer certificate",
        ),
        "E_CERTIFICATE" => {
            ("certificate file", "certificates in DER or PEM", "give the file as AMD's key service sent it")
        }
        "E_REVOKED" => ("revocation", "a key that AMD has not revoked", "do not use this machine"),
        "E_CRL" => (
            "revocation list",
            "one that AMD signed and that is not past its next update",
            "fetch the current list of the product",
        ),
        "E_EXTENSION" => ("certificate", "AMD's extensions, each once", "this is no VCEK or VLEK certificate"),
        "E_PRODUCT" => (
            "product",
            "the same in report, certificate and issuer",
            "report and certificates are of different machines",
        ),
        "E_CHIP_ID" => (
            "chip id",
            "that of the certificate",
            "report and certificate are of different machines; fetch the VCEK for this chip",
        ),
        "T_AK_NO_CERT" => (
            "AK certificate",
            "the certificate of the vTPM's attestation key",
            "give it with --ak or --cert; the guest reads it from its TPM",
        ),
        "T_AK_KEY" => (
            "AK certificate",
            "one for the key that signed the quote",
            "certificate and quote are of different keys: of another VM, or the key in the TPM was replaced",
        ),
        "T_AK_CHAIN" => (
            "AK certificate",
            "certificates from the key up to the provider's root, each allowed to issue the next",
            "give the CAs between leaf and root with --cert; roots are built in and never taken from the peer",
        ),
        "T_AK_ROOT" => (
            "AK certificate's root",
            "the provider's root for vTPMs, or the simulator's that the policy names",
            "give the missing CA with --cert; the leaf says where it can be fetched (authority information access)",
        ),
        "T_AK_VALIDITY" | "N_VALIDITY" | "G_VALIDITY" => (
            "certificate validity",
            "a time within that of every certificate up to the root",
            "check the clock of this machine; if it is right, the guest must fetch a new certificate or document",
        ),
        "T_AK_SUBJECT" => (
            "AK certificate's subject",
            "that of a confidential VM",
            "the host of any other VM controls its vTPM, and can make it say anything",
        ),
        "T_AK_USE" => (
            "AK certificate",
            "one for a key that signs attestations",
            "give the certificate of the attestation key, not that of the endorsement key or of a CA",
        ),
        "T_AK_EXTENSION" | "N_EXTENSION" | "G_EXTENSION" => (
            "certificate",
            "extensions that are known here or not critical, each once",
            "this is no certificate of that provider, or a newer version of this program is needed",
        ),
        "T_AK_PRODUCTION" => (
            "AK certificate",
            "a vTPM that Google calls a production one",
            "keys of other vTPMs may be known to people; do not use this VM",
        ),
        "T_AK_REVOKED" | "N_REVOKED" => {
            ("revocation", "certificates that the provider has not revoked", "do not use this VM")
        }
        "T_AK_CRL" | "N_CRL" => (
            "revocation list",
            "one that the CA signed and that is not past its next update",
            "fetch the current list of the CA",
        ),
        "N_PARSE" => (
            "NitroTPM document",
            "a COSE_Sign1 of AWS, as the TPM gave it",
            "give the document alone: without the padding of the NV index, and without a wrapper around it",
        ),
        "N_ENCLAVE" => (
            "NitroTPM document",
            "the document of a NitroTPM",
            "a Nitro Enclave is another machine, with no SNP report; this program does not attest enclaves",
        ),
        "N_ALG" => ("NitroTPM document's algorithm", "ES384", "no document of AWS has another; it was changed"),
        "N_SIG" => (
            "NitroTPM document's signature",
            "its certificate's key over the bytes received",
            "the document was changed",
        ),
        "N_CHAIN" => (
            "NitroTPM document's certificates",
            "the leaf up to AWS's root, each allowed to issue the next",
            "the document was changed",
        ),
        "N_ROOT" => (
            "NitroTPM document's root",
            "AWS's, or the simulator's that the policy names",
            "a simulated guest needs [roots] simulator in the policy; everything else must end in AWS's",
        ),
        "G_PARSE" => (
            "firmware endorsement",
            "a VMLaunchEndorsement of Google",
            "fetch it again: docs/policy.md says where Google has it",
        ),
        "G_SIG" => (
            "firmware endorsement's signature",
            "its certificate's key over the bytes received",
            "the endorsement was changed",
        ),
        "G_CHAIN" => (
            "firmware endorsement's certificate",
            "one that the root issued itself, for signing",
            "the endorsement was changed, or is of a form that this version does not know",
        ),
        "G_ROOT" => (
            "firmware endorsement's root",
            "the one that the policy names under [gcp] endorsement_root",
            "no fingerprint of Google's root is published, so none is built in: fetch it and name its file",
        ),
        _ => (
            "evidence",
            "what docs/protocol.md says",
            "update both sides; if that does not help, do not trust the peer",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the chain does not hold")]
    struct Outer(#[source] std::num::ParseIntError);

    #[test]
    fn a_refusal_of_verify_is_fatal_and_tells_every_cause() {
        let finding = Finding::of_verification("E_CHAIN", &Outer("x".parse::<u8>().unwrap_err()));
        assert_eq!(finding.severity(), Severity::Fatal);
        assert_eq!(finding.seen(), "the chain does not hold: invalid digit found in string");
        assert_eq!(finding.subject(), "certificate chain");
        assert!(finding.help().contains("ASK"));
        assert_eq!(Finding::of_verification("X_NEW", &Outer("x".parse::<u8>().unwrap_err())).subject(), "evidence");
    }
}
