//! Checks that evidence belongs to this connection, this key and this statement, and is encoded as the protocol says.

use super::family::check_family;

check_family! {
    /// A check of the binding (`B_…`).
    BindingCheck {
        Attest = "B_ATTEST", Verify, {
            subject: "ATTEST frame",
            wanted: "an ATTEST body in the canonical encoding of docs/protocol.cddl",
            help: "the message was damaged, or made by an incompatible version; compare the versions of evident-proxy and \
                   evident-client",
        }
        Purpose = "B_PURPOSE", Verify, {
            subject: "purpose",
            wanted: "a statement made for this use: a connection, a key or a re-attestation",
            help: "evidence for one use was shown for another; treat it as an attack unless the file was given under the \
                   wrong flag",
        }
        Statement = "B_STATEMENT", Verify, {
            subject: "statement",
            wanted: "a statement in the canonical encoding of docs/protocol.cddl",
            help: "the statement was damaged, or made by an incompatible version of evident-proxy",
        }
        Certificate = "B_CERTIFICATE", Verify, {
            subject: "leaf certificate",
            wanted: "a leaf certificate of evident-proxy, of the kind that docs/protocol.md describes",
            help: "what answered is no evident-proxy, or something between terminates TLS; connect to the guest's evidence \
                   port itself",
        }
        Path = "B_PATH", Verify, {
            subject: "binding",
            wanted: "a Merkle path of at most the permitted depth, whose index fits the size of its tree",
            help: "the proof that ties this connection to the report is malformed; treat it as an attack, or compare the \
                   versions of both programs",
        }
        Channel = "B_CHANNEL", Verify, {
            subject: "binding",
            wanted: "evidence of this connection and this key",
            help: "the evidence was made for another connection: treat it as an attack",
        }
        Key = "B_KEY", Verify, {
            subject: "TLS key",
            wanted: "the key of the certificate that was shown",
            help: "the evidence was made for another TLS key: treat it as an attack, or, in a file, give the certificate that \
                   belongs to it",
        }
        Profile = "B_PROFILE", Verify, {
            subject: "profile",
            wanted: "the pieces of evidence that the stated profile has, and no others",
            help: "the guest states one kind of platform and sends evidence of another; correct `platform` in its \
                   configuration, or distrust it",
        }
        NoReport = "B_NO_REPORT", Verify, {
            subject: "report",
            wanted: "an SNP report",
            help: "without a report no hardware has signed anything; the guest's log says why it could not get one",
        }
        Tpm = "B_TPM", Verify, {
            subject: "TPM evidence",
            wanted: "a quote exactly if the statement names the key of a TPM",
            help: "evidence of the TPM was removed or added after the statement was signed: treat it as an attack",
        }
        Logs = "B_LOGS", Verify, {
            subject: "logs",
            wanted: "the list of logs that the statement commits to",
            help: "the list of logs was changed after the statement was signed: treat it as an attack",
        }
        Part = "B_PART", Verify, {
            subject: "part",
            wanted: "a part that the ATTEST lists, with that digest",
            help: "the guest sent something else than it had announced, or the bundle was changed; ask the guest again",
        }
        Settings = "B_SETTINGS", Verify, {
            subject: "settings",
            wanted: "settings with the digest that the statement names",
            help: "the settings were changed after the statement was signed, or are of another guest",
        }
        Bundle = "B_BUNDLE", Verify, {
            subject: "bundle",
            wanted: "a bundle as `evident-client inspect --save` writes it",
            help: "the file is no bundle, was cut or changed, or was written by a newer version; save the evidence again",
        }
    }
}
