//! Checks of a vTPM: what covers its key, is it this guest's, and do its registers hold what the policy names?

use super::family::check_family;

check_family! {
    /// A check of a vTPM and of its key's certificate (`T_…`).
    TpmCheck {
        NoCertificate = "T_AK_NO_CERT", Both(Nothing), {
            subject: "AK certificate",
            wanted: "the certificate of the vTPM's attestation key",
            help: "give it with --ak or --cert; the guest reads it from its TPM",
        }
        OtherKey = "T_AK_KEY", Verify, {
            subject: "AK certificate",
            wanted: "one for the key that signed the quote",
            help: "certificate and quote are of different keys: of another VM, or the key in the TPM was replaced",
        }
        Chain = "T_AK_CHAIN", Verify, {
            subject: "AK certificate",
            wanted: "certificates from the key up to the provider's root, each allowed to issue the next",
            help: "give the CAs between leaf and root with --cert; roots are built in and never taken from the peer",
        }
        Root = "T_AK_ROOT", Verify, {
            subject: "AK certificate's root",
            wanted: "the provider's root for vTPMs, or the simulator's that the policy names",
            help: "give the missing CA with --cert; the leaf says where to fetch it (authority information access)",
        }
        Validity = "T_AK_VALIDITY", Verify, {
            subject: "AK certificate's validity",
            wanted: "a time within that of every certificate up to the root",
            help: "check the clock of this machine; if it is right, the guest must read its renewed certificate from the TPM",
        }
        Subject = "T_AK_SUBJECT", Verify, {
            subject: "AK certificate's subject",
            wanted: "that of a confidential VM",
            help: "the host of any other VM controls its vTPM and can make it claim anything; use a confidential VM",
        }
        Use = "T_AK_USE", Verify, {
            subject: "AK certificate",
            wanted: "one for a key that signs attestations",
            help: "give the certificate of the attestation key, not that of the endorsement key or of a CA",
        }
        Extension = "T_AK_EXTENSION", Verify, {
            subject: "AK certificate",
            wanted: "extensions that are known here or not critical, each once",
            help: "this is no AK certificate of that provider, or the provider changed its form and a newer version of this \
                   program is needed",
        }
        Production = "T_AK_PRODUCTION", Verify, {
            subject: "AK certificate",
            wanted: "a vTPM that Google calls a production one",
            help: "people may know the keys of other vTPMs; do not use this VM",
        }
        Revoked = "T_AK_REVOKED", Verify, {
            subject: "AK certificate's revocation",
            wanted: "certificates that the provider has not revoked",
            help: "the provider no longer trusts this vTPM's key or one of its CAs; do not use this VM",
        }
        Crl = "T_AK_CRL", Verify, {
            subject: "AK certificate's revocation list",
            wanted: "one that the CA signed and that is not past its next update",
            help: "fetch the CA's current list; its certificates name where it is",
        }
        Proof = "T_AK_PROOF", Verify, {
            subject: "attestation key",
            wanted: "an answer that only the TPM with the SVSM's endorsement key can give",
            help: "the key that quoted does not live in the SVSM's TPM, or this build cannot ask: the crypto backend ring has no \
                   OAEP",
        }
        Missing = "T_MISSING", Appraise(Nothing), {
            subject: "vTPM",
            wanted: "a quote of its registers, or a document about them",
            help: "nothing shows which system booted after the firmware; let the guest show its TPM's registers, or let the \
                   policy do without them",
        }
        Unproven = "T_AK_UNPROVEN", Appraise(Vtpm), {
            subject: "attestation key",
            wanted: "a key that its TPM's maker vouches for",
            help: "no trusted certificate or proof covers the TPM attestation key; give the provider's certificate or document",
        }
        Witnessed = "T_AK_WITNESSED", Appraise(Vtpm), {
            subject: "attestation key",
            wanted: "the proof itself",
            help: "the proof cannot be repeated from a file; inspect the guest yourself",
        }
        Unbound = "T_UNBOUND", Appraise(Vtpm), {
            subject: "vTPM",
            wanted: "the hash of this report",
            help: "the TPM answered another question than this report, so the two may be of different machines; a bundle, or a \
                   connection, holds both together",
        }
        Vendor = "T_VENDOR", Appraise(Nothing), {
            subject: "vTPM",
            wanted: "a vTPM that the measured firmware vouches for",
            help: "the provider's host runs the vTPM, and the AMD-SP does not know what runs after the firmware: trust in the \
                   registers is trust in the provider",
        }
        Roots = "T_ROOTS", Appraise(Nothing), {
            subject: "required roots",
            wanted: "AMD's and the provider's",
            help: "the policy requires the provider's PKI too (require_roots); the guest must show a certificate of its vTPM's \
                   key, or a document of the provider",
        }
        Bank = "T_BANK", Appraise(Nothing), {
            subject: "PCR bank",
            wanted: "a bank that the policy accepts and names values of",
            help: "name the bank under [tpm] banks if you accept it",
        }
        Pcr = "T_PCR", Appraise(Nothing), {
            subject: "PCR",
            wanted: "a value that the policy names",
            help: "this guest booted something else than the policy names; after an intended update, put the new value into \
                   the policy",
        }
    }
}
