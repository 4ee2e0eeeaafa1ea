//! Checks of the SNP report: is it one, is it the hardware's, and what does it say of the guest and the machine?

use super::family::check_family;

check_family! {
    /// A check of an SNP report (`R_…`).
    ReportCheck {
        Length = "R_LEN", Verify, {
            subject: "report",
            wanted: "1184 bytes",
            help: "give the report alone, as the firmware wrote it: no header before it, no certificates behind it",
        }
        Version = "R_VER", Verify, {
            subject: "report version",
            wanted: "2 to 5",
            help: "if the number is higher, update evident-client; a lower one is no report of SEV-SNP",
        }
        Algorithm = "R_ALG", Verify, {
            subject: "report signature algorithm",
            wanted: "1, ECDSA P-384 with SHA-384",
            help: "SEV-SNP firmware signs with this algorithm only: the bytes are no report, or were changed",
        }
        Reserved = "R_RESERVED", Verify, {
            subject: "report",
            wanted: "reserved bytes as the ABI says",
            help: "the report was damaged, or newer firmware gave these bytes a meaning that this version does not know",
        }
        Parse = "R_PARSE", Verify, {
            subject: "report",
            wanted: "an SNP report of a known version, whole and in the layout of that version",
            help: "the report was cut or changed on its way, or newer firmware made it; take it from the guest again",
        }
        Signature = "R_SIG", Verify, {
            subject: "report signature",
            wanted: "the endorsement key's over the bytes received",
            help: "the report or the certificate was changed, or they do not belong together",
        }
        SigningKey = "R_KEYSEL", Both(AmdSp), {
            subject: "report signing key",
            wanted: "the kind of key that the certificate is for",
            help: "give the VCEK certificate for a report signed by a VCEK, the VLEK certificate for one signed by a VLEK",
        }
        Masked = "R_MASK", Verify, {
            subject: "report signing key",
            wanted: "a report that was signed",
            help: "the host masks the chip key, and such a report carries no signature; only the machine's operator can \
                   change that",
        }
        Tcb = "R_TCB", Both(AmdSp), {
            subject: "TCB",
            wanted: "reported equal to the certificate's, neither reported nor committed above current",
            help: "fetch the certificate for the reported TCB of this report",
        }
        Fresh = "R_FRESH", Both(Nothing), {
            subject: "report_data",
            wanted: "the binder of this connection",
            help: "the evidence was made for something else: it may be replayed or relayed",
        }
        Debug = "R_DEBUG", Appraise(AmdSp), {
            subject: "guest policy",
            wanted: "DEBUG not allowed",
            help: "the host can read and write the memory of such a guest; launch it without the debug bit, no policy can \
                   accept it",
        }
        MigrationAgent = "R_MIG", Appraise(AmdSp), {
            subject: "guest policy",
            wanted: "MIGRATE_MA not allowed",
            help: "a migration agent can hold the guest's keys; launch the guest without MIGRATE_MA, or set \
                   migrate_ma = \"allow-unused\"",
        }
        Vmpl = "R_VMPL", Appraise(AmdSp), {
            subject: "vmpl",
            wanted: "0",
            help: "less privileged code of the guest can ask for a report at a higher number; request the report at VMPL 0",
        }
        LaunchDigest = "R_LD", Appraise(Nothing), {
            subject: "measurement",
            wanted: "a launch digest that the policy names",
            help: "this guest does not run what the policy names; after an intended update, put the new digest into the \
                   policy",
        }
        HostData = "R_HOST", Appraise(Nothing), {
            subject: "host_data",
            wanted: "a value that the policy names",
            help: "the host launched the guest for another purpose; if the value is yours, add it to host_data",
        }
        GuestSvn = "R_SVN", Appraise(Nothing), {
            subject: "guest_svn",
            wanted: "the policy's min_guest_svn or above",
            help: "the guest is an older release than the policy accepts; launch the current one",
        }
        IdBlock = "R_ID", Appraise(Nothing), {
            subject: "id_key_digest",
            wanted: "a key that the policy pins",
            help: "anyone can sign an ID block with a key of their own; it counts once [identity] launch_identity names this \
                   key",
        }
        GuestPolicy = "R_POLICY", Appraise(AmdSp), {
            subject: "guest policy",
            wanted: "the bits that the policy asks for",
            help: "the guest's owner sets these bits at launch; launch the guest with those that the policy asks for",
        }
        Platform = "R_PLATFORM", Appraise(AmdSp), {
            subject: "platform_info",
            wanted: "the features that the policy asks for",
            help: "the machine's operator must enable the feature in the BIOS, or install firmware that has it",
        }
        Mitigation = "R_MITIGATION", Appraise(AmdSp), {
            subject: "mitigation vector",
            wanted: "the bits that the policy asks for",
            help: "the machine's operator must update its firmware to one with these mitigations",
        }
        Product = "R_PRODUCT", Appraise(AmdSp), {
            subject: "product",
            wanted: "a product that the policy does not distrust",
            help: "run the guest on another generation of processors, or take the product off distrust_products",
        }
        Missing = "R_MISSING", Appraise(Nothing), {
            subject: "report",
            wanted: "the SNP report of the guest",
            help: "give the report with --snp-report (on Azure the blob with --hcl): without it, nothing here comes from a \
                   machine that the AMD-SP knows",
        }
    }
}
