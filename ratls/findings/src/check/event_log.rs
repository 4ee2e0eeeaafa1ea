//! Checks of event logs and IMA lists: are they whole, do registers confirm them, and is what they tell accepted?

use super::family::check_family;

check_family! {
    /// A check of a log of what was booted or run (`L_…`).
    EventLogCheck {
        Parse = "L_PARSE", Verify, {
            subject: "event log",
            wanted: "a crypto-agile TCG event log, whole",
            help: "give the log as the kernel has it (binary_bios_measurements); it was cut or changed, or is of another format",
        }
        Sha1 = "L_SHA1", Verify, {
            subject: "event log",
            wanted: "digests of SHA-256 or SHA-384",
            help: "the log holds SHA-1 digests only, for which two texts with one digest can be made; enable the SHA-256 bank of \
                   the TPM",
        }
        ImaParse = "L_IMA_PARSE", Verify, {
            subject: "IMA list",
            wanted: "a binary list of IMA's measurements, whole",
            help: "give the list as the kernel has it (binary_runtime_measurements, not ascii_…); it was cut or changed",
        }
        Absent = "L_ABSENT", Appraise(Nothing), {
            subject: "event log",
            wanted: "a quote and an event log",
            help: "the policy has rules for the event log; let the guest quote its registers and send the log ([evidence] in its \
                   configuration)",
        }
        Replay = "L_REPLAY", Both(Nothing), {
            subject: "event log",
            wanted: "a log that leads to the quoted registers",
            help: "the log was changed or cut, is of another boot, or something extended the register without an entry in it",
        }
        Odd = "L_ODD", Appraise(Nothing), {
            subject: "event log",
            wanted: "a log as the TCG profile describes it",
            help: "firmware that follows the profile does not write such a log, so the register proves nothing",
        }
        Kernel = "L_KERNEL", Appraise(Nothing), {
            subject: "kernel",
            wanted: "a kernel that the policy names",
            help: "digests are of the quoted bank: of the file if grub read it, of the image (Authenticode) or of the .linux \
                   section otherwise",
        }
        CommandLine = "L_COMMAND_LINE", Appraise(Nothing), {
            subject: "kernel command line",
            wanted: "a command line that the policy names",
            help: "every command line that was measured must be one that the policy names",
        }
        SecureBoot = "L_SECURE_BOOT", Appraise(Nothing), {
            subject: "Secure Boot",
            wanted: "on",
            help: "turn Secure Boot on, or set secure_boot = \"not required\": then only the policy's digests decide what may start",
        }
        Keys = "L_KEYS", Appraise(Nothing), {
            subject: "Secure Boot keys",
            wanted: "keys that the policy names",
            help: "the value is the SHA-256 of the variable's content: `tail -c +5` of its file in efivarfs",
        }
        Sbat = "L_SBAT", Appraise(Nothing), {
            subject: "SBAT level",
            wanted: "the policy's level or above",
            help: "shim on this machine would start boot programs that are revoked; raise its SBAT level",
        }
        Technology = "L_TECHNOLOGY", Appraise(Nothing), {
            subject: "technology",
            wanted: "the technology that the policy names",
            help: "the firmware found itself under another technology; only the vTPM says so, the report does not",
        }
        Event = "L_EVENT", Appraise(Nothing), {
            subject: "event log",
            wanted: "only what the policy names",
            help: "name the event if it is yours; with `any`, or in ignore_registers, the rest is not compared",
        }
        Open = "L_OPEN", Appraise(Nothing), {
            subject: "event log",
            wanted: "rules that name them",
            help: "what the register covers stays partly compared until rules name these events",
        }
        Ignored = "L_IGNORED", Appraise(Nothing), {
            subject: "event log",
            wanted: "rules",
            help: "the register is not looked at (ignore_registers); boot and kernel stay partly covered",
        }
        ImaAbsent = "L_IMA_ABSENT", Appraise(Nothing), {
            subject: "IMA list",
            wanted: "the list of the files that the kernel measured",
            help: "let the guest send its IMA list ([evidence] in its configuration)",
        }
        ImaReplay = "L_IMA_REPLAY", Both(Nothing), {
            subject: "IMA list",
            wanted: "a list that replays to the quoted PCR 10",
            help: "the list was changed or cut, or is of another boot",
        }
        ImaQuote = "L_IMA_QUOTE", Appraise(Nothing), {
            subject: "IMA list",
            wanted: "a quote that covers PCR 10",
            help: "nothing confirms the list; let the guest quote PCR 10 too",
        }
        ImaSha1 = "L_IMA_SHA1", Both(Nothing), {
            subject: "IMA list",
            wanted: "a kernel that extends digests of the quoted bank",
            help: "kernels before 5.8 extend SHA-1 digests into every bank, which proves too little; use a newer kernel",
        }
        ImaBoot = "L_IMA_BOOT", Appraise(Nothing), {
            subject: "IMA list",
            wanted: "the hash of the quoted PCR 0 to 9",
            help: "only its first entry ties a list to a boot; let the guest quote PCR 0 to 9 in the bank of that entry",
        }
        ImaPolicy = "L_IMA_POLICY", Appraise(Nothing), {
            subject: "IMA list",
            wanted: "the measuring policy that the policy names",
            help: "a list says nothing about files that its measuring policy leaves out; set ima_policy= on a command line that \
                   the registers confirm",
        }
        ImaFile = "L_IMA_FILE", Appraise(Nothing), {
            subject: "IMA list",
            wanted: "only files that the policy names",
            help: "a program or file was used that the policy does not name; add it if it is yours",
        }
        ImaViolation = "L_IMA_VIOLATION", Appraise(Nothing), {
            subject: "IMA list",
            wanted: "none",
            help: "files changed while they were measured, and what was read is not known, so the list covers only a part",
        }
    }
}
