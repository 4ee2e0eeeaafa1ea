//! Checks of what Google says: its endorsement of firmware, and which instance a certificate names.

use super::family::check_family;

check_family! {
    /// A check of Google's endorsement or certificate (`G_…`).
    GoogleCheck {
        Parse = "G_PARSE", Both(Nothing), {
            subject: "firmware endorsement",
            wanted: "a VMLaunchEndorsement of Google",
            help: "fetch it again: docs/policy.md says where Google publishes it",
        }
        Signature = "G_SIG", Both(Nothing), {
            subject: "firmware endorsement's signature",
            wanted: "its certificate's key over the bytes received",
            help: "the endorsement was changed after Google signed it; fetch it again",
        }
        Chain = "G_CHAIN", Both(Nothing), {
            subject: "firmware endorsement's certificate",
            wanted: "one that the root issued itself, for signing",
            help: "the endorsement was changed, or has a form that this version does not know",
        }
        Root = "G_ROOT", Both(Nothing), {
            subject: "firmware endorsement's root",
            wanted: "the built-in GCE-cc-tcb-root, or the one that the policy names under [gcp] endorsement_root",
            help: "an endorsement of Google's ends in its root; where the policy names a root, only that one counts",
        }
        Validity = "G_VALIDITY", Both(Nothing), {
            subject: "firmware endorsement's validity",
            wanted: "a time within that of the signer's certificate and of the root",
            help: "check the clock of this machine; if it is right, fetch the endorsement again",
        }
        Extension = "G_EXTENSION", Both(Nothing), {
            subject: "firmware endorsement's certificate",
            wanted: "extensions that are known here or not critical, each once",
            help: "this is no certificate of Google's signer, or its form changed and a newer version of this program is needed",
        }
        Project = "G_PROJECT", Appraise(Nothing), {
            subject: "project",
            wanted: "a project that the policy names",
            help: "the certificate of the vTPM's key names the instance's project, and it is none of the policy's",
        }
        Zone = "G_ZONE", Appraise(Nothing), {
            subject: "zone",
            wanted: "a zone that the policy names",
            help: "the certificate of the vTPM's key names the instance's zone, and it is none of the policy's",
        }
        Pcr0 = "G_PCR0", Appraise(Vtpm), {
            subject: "PCR 0",
            wanted: "that of Google's firmware under SEV-SNP",
            help: "the firmware did not take its machine for one with SEV-SNP: the quote is of another VM than the report",
        }
        Missing = "G_MISSING", Appraise(Nothing), {
            subject: "firmware endorsement",
            wanted: "Google's, for this measurement",
            help: "let the guest send Google's endorsement of its firmware; docs/policy.md says where Google publishes it",
        }
        Measurement = "G_MEASUREMENT", Appraise(Nothing), {
            subject: "measurement",
            wanted: "one that the endorsement names",
            help: "the endorsement is of other firmware: an old release, or one for another number of virtual CPUs",
        }
        Svn = "G_SVN", Appraise(Nothing), {
            subject: "firmware svn",
            wanted: "the policy's minimum or above",
            help: "Google's firmware is older than the policy accepts; stop and start the VM to get the current one",
        }
        Old = "G_OLD", Appraise(Nothing), {
            subject: "endorsed at",
            wanted: "the policy's time or later",
            help: "Google endorsed this firmware before the time that the policy names; stop and start the VM to get the \
                   current one",
        }
    }
}
