//! Checks of the NitroTPM's attestation document (AWS).

use super::family::check_family;

check_family! {
    /// A check of a NitroTPM document (`N_…`).
    NitroCheck {
        Parse = "N_PARSE", Verify, {
            subject: "NitroTPM document",
            wanted: "a COSE_Sign1 of AWS, as the TPM gave it",
            help: "give the document alone: without the padding of the NV index, and without a wrapper around it",
        }
        Enclave = "N_ENCLAVE", Verify, {
            subject: "NitroTPM document",
            wanted: "the document of a NitroTPM",
            help: "a Nitro Enclave is another machine, with no SNP report; this program does not attest enclaves",
        }
        Algorithm = "N_ALG", Verify, {
            subject: "NitroTPM document's algorithm",
            wanted: "ES384",
            help: "AWS signs with no other algorithm, so the document was changed or is not AWS's; ask the TPM again",
        }
        Signature = "N_SIG", Verify, {
            subject: "NitroTPM document's signature",
            wanted: "its certificate's key over the bytes received",
            help: "the document was changed after AWS signed it; ask the TPM again",
        }
        Chain = "N_CHAIN", Verify, {
            subject: "NitroTPM document's certificates",
            wanted: "the leaf up to AWS's root, each allowed to issue the next",
            help: "a certificate in the document was changed or left out; ask the TPM for a new document",
        }
        Root = "N_ROOT", Verify, {
            subject: "NitroTPM document's root",
            wanted: "AWS's, or the simulator's that the policy names",
            help: "a simulated guest needs [roots] simulator in the policy; every other document must end in AWS's root",
        }
        Validity = "N_VALIDITY", Verify, {
            subject: "NitroTPM document's validity",
            wanted: "a time within that of every certificate up to the root",
            help: "check the clock of this machine; if it is right, ask the TPM for a new document: its certificates live for \
                   hours",
        }
        Extension = "N_EXTENSION", Verify, {
            subject: "NitroTPM document's certificates",
            wanted: "extensions that are known here or not critical, each once",
            help: "these are no certificates of AWS, or AWS changed their form and a newer version of this program is needed",
        }
        Revoked = "N_REVOKED", Verify, {
            subject: "NitroTPM document's revocation",
            wanted: "certificates that AWS has not revoked",
            help: "AWS no longer trusts a CA of this document; do not use this VM",
        }
        Crl = "N_CRL", Verify, {
            subject: "NitroTPM document's revocation list",
            wanted: "one that the CA signed and that is not past its next update",
            help: "fetch the current list of AWS's CA; its certificate names where it is",
        }
        Nonce = "N_NONCE", Verify, {
            subject: "NitroTPM document's nonce",
            wanted: "the binder of this statement",
            help: "the document was made for another statement: it may be replayed or relayed",
        }
        Report = "N_REPORT", Verify, {
            subject: "NitroTPM document's user data",
            wanted: "the hash of this report",
            help: "the document was made beside another report, perhaps on another machine; take both in one request",
        }
        Age = "N_AGE", Appraise(Nothing), {
            subject: "document's age",
            wanted: "at most max_document_age",
            help: "the document was made at another time than the policy accepts; check the clock, or ask for a new document",
        }
    }
}
