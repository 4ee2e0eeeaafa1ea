//! Checks of what a paravisor (Azure) or an SVSM says of itself and of the TPM that it runs.

use super::family::check_family;

check_family! {
    /// A check of a paravisor's or an SVSM's own words (`H_…`).
    ClaimsCheck {
        Parse = "H_PARSE", Verify, {
            subject: "HCL report",
            wanted: "an HCL report of version 1 or 2 as NV index 0x01400001 holds it",
            help: "give the whole content of the NV index: header, report and runtime data; anything else was cut or changed",
        }
        Type = "H_TYPE", Verify, {
            subject: "HCL report",
            wanted: "evidence of type SNP",
            help: "the VM is a confidential one of another technology, such as TDX, which this program does not attest",
        }
        Hash = "H_HASH", Verify, {
            subject: "runtime data",
            wanted: "runtime data whose hash is in the report",
            help: "the runtime data was changed, or is of another report: take both from one read of the NV index",
        }
        Json = "H_JSON", Verify, {
            subject: "runtime data",
            wanted: "a JSON object with each key once, and values of the documented types",
            help: "two readers could see different things in it, so nothing in it counts; a newer paravisor may need a newer \
                   version of this program",
        }
        Key = "H_KEY", Verify, {
            subject: "runtime data",
            wanted: "the key HCLAkPub: RSA of 2048 bits with exponent 65537",
            help: "the paravisor names no key of its TPM that can be used here; the quote cannot be tied to the report",
        }
        Manifest = "H_MANIFEST", Verify, {
            subject: "SVSM manifest",
            wanted: "the nonce and the manifest whose hash is the report's REPORT_DATA",
            help: "manifest, nonce and report do not belong together, or the manifest was changed; take all three from one \
                   request to the SVSM",
        }
    }
}
