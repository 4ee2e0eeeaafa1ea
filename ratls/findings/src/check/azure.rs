//! Checks of what Azure's paravisor says of its VM.

use super::family::check_family;

check_family! {
    /// A check of an Azure VM's configuration (`Z_…`).
    AzureCheck {
        Stale = "Z_STALE", Appraise(ReportAge), {
            subject: "paravisor's report",
            wanted: "one over this connection's data",
            help: "this paravisor takes no data of the guest, so every report of this VM looks the same, and nothing shows that \
                   the measured paravisor still runs; stop and start the VM to get a newer one",
        }
        Tpm = "Z_TPM", Appraise(Vtpm), {
            subject: "tpm-enabled",
            wanted: "true",
            help: "the paravisor says that the VM has no vTPM, so the quote does not come from this VM",
        }
        Console = "Z_CONSOLE", Appraise(Nothing), {
            subject: "console-enabled",
            wanted: "false",
            help: "the host has the other end of the serial console: create the VM without it, or set console = \"allow\" in [azure]",
        }
        SecureBoot = "Z_SECURE_BOOT", Appraise(Nothing), {
            subject: "secure-boot",
            wanted: "true",
            help: "the VM may boot unsigned programs: create it with secure boot, or set insecure_boot = \"allow\" in [azure]",
        }
    }
}
