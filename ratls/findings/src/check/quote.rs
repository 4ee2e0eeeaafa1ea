//! Checks of a TPM's quote: is it one, who signed it, what does it answer, and which registers does it cover?

use super::family::check_family;

check_family! {
    /// A check of a quote (`Q_…`).
    QuoteCheck {
        Parse = "Q_PARSE", Verify, {
            subject: "quote",
            wanted: "a TPMS_ATTEST structure, whole and without trailing bytes",
            help: "give the quoted message alone, as TPM2_Quote returned it (tpm2_quote --message), without a length before it",
        }
        Magic = "Q_MAGIC", Verify, {
            subject: "quote",
            wanted: "TPM_GENERATED_VALUE at its beginning",
            help: "a TPM did not make these bytes; somebody signed a text that looks like a quote",
        }
        Type = "Q_TYPE", Verify, {
            subject: "quote",
            wanted: "an attestation of type TPM_ST_ATTEST_QUOTE",
            help: "the TPM signed something else, such as a certification of a key; give the result of TPM2_Quote",
        }
        Signature = "Q_SIG", Verify, {
            subject: "quote signature",
            wanted: "the attestation key's over the bytes received, in the key's own scheme",
            help: "quote, signature or key was changed, or they do not belong together; take all three from one TPM2_Quote",
        }
        Key = "Q_AK", Verify, {
            subject: "attestation key",
            wanted: "a restricted signing key that never left its TPM, and that the statement or the report names",
            help: "an ordinary key signs whatever it is given; let the guest quote with its attestation key, or give that \
                   key with --ak",
        }
        Nonce = "Q_NONCE", Verify, {
            subject: "quote",
            wanted: "the nonce of this question in extraData",
            help: "the quote answers another question: it may be old, or made for somebody else",
        }
        Selection = "Q_SEL", Both(Nothing), {
            subject: "PCR selection",
            wanted: "one bank, with a value for each register that the quote covers",
            help: "give the values of exactly the registers that were quoted, of the same bank; a register that is not quoted \
                   could hold any value",
        }
        Digest = "Q_DIG", Verify, {
            subject: "register values",
            wanted: "values that hash to the digest in the quote",
            help: "the values were changed, or read at another time than the quote; read and quote them together",
        }
        QualifiedName = "Q_QN", Verify, {
            subject: "quote's signer",
            wanted: "the qualified name of this key as a primary key",
            help: "the quote was made by another key than the one that came with it, or by one below a storage key; use a \
                   primary key",
        }
    }
}
