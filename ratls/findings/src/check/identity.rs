//! Checks of the identity rule: is this the machine or the guest that the policy expects?

use super::family::check_family;

check_family! {
    /// A check of the identity rule (`I_…`).
    IdentityCheck {
        Any = "I_ANY", Appraise(Nothing), {
            subject: "identity",
            wanted: "an identity rule",
            help: "anyone's guest with this measurement is accepted; name chip_ids, report_ids, launch_identity or tpm",
        }
        Chip = "I_CHIP", Appraise(Nothing), {
            subject: "chip_id",
            wanted: "a chip that the policy names",
            help: "the guest runs on another machine than the policy names; add the chip if it is yours",
        }
        Vlek = "I_VLEK", Appraise(Nothing), {
            subject: "chip_id",
            wanted: "a report signed by a VCEK",
            help: "a VLEK belongs to a cloud and not to a machine: use launch_identity there, or refuse VLEK",
        }
        Pin = "I_PIN", Appraise(Nothing), {
            subject: "report_id",
            wanted: "a guest instance that the policy names",
            help: "the guest was launched again, or is another one; pin the new instance if you launched it",
        }
        Launch = "I_LAUNCH", Appraise(LaunchSigner), {
            subject: "ID block",
            wanted: "an ID block of the owner that the policy names",
            help: "launch the guest with an ID block of this owner; this one was launched without it, or by somebody else",
        }
        Tpm = "I_TPM", Appraise(Nothing), {
            subject: "vTPM",
            wanted: "a vTPM that the policy names",
            help: "this is another machine's vTPM than the policy names, or no trusted certificate covers it",
        }
        Csp = "I_CSP", Appraise(AmdSp), {
            subject: "csp",
            wanted: "a cloud that the policy names",
            help: "the key belongs to another cloud or region than the policy names; add its name to csp if you accept it",
        }
    }
}
