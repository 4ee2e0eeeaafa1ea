//! Checks of the certificates and revocation lists that say which chip signed a report.

use super::family::check_family;

check_family! {
    /// A check of the endorsement of a report (`E_…`).
    EndorsementCheck {
        Missing = "E_NO_ENDORSEMENT", Verify, {
            subject: "endorsement",
            wanted: "the VCEK or VLEK certificate of this report, and its issuer",
            help: "give them with --cert; without them nothing shows whose key signed the report",
        }
        Chain = "E_CHAIN", Verify, {
            subject: "certificate chain",
            wanted: "VCEK or VLEK, then ASK or ASVK, up to an AMD root",
            help: "give the issuer (ASK or ASVK) of the same product; roots are built in and never taken from the peer",
        }
        Root = "E_ROOT", Verify, {
            subject: "root",
            wanted: "one of AMD's roots, or the simulator's that the policy names",
            help: "a simulated guest needs [roots] simulator in the policy; every other chain must end in a root of AMD",
        }
        Validity = "E_VALIDITY", Verify, {
            subject: "certificate validity",
            wanted: "a time within it",
            help: "check the clock of this machine; if it is right, the guest needs a newer certificate",
        }
        File = "E_CERTIFICATE", Verify, {
            subject: "certificate file",
            wanted: "certificates in DER or PEM",
            help: "give the file as the key service or the TPM delivered it, without anything before or behind it",
        }
        Type = "E_TYPE", Verify, {
            subject: "endorsement",
            wanted: "certificates, revocation lists or a host's certificate table, under the media types of docs/protocol.md",
            help: "the guest sent a kind of endorsement that this version does not read; update evident-client, or the \
                   evident-proxy that sent it",
        }
        Revoked = "E_REVOKED", Verify, {
            subject: "revocation",
            wanted: "a key that AMD has not revoked",
            help: "AMD no longer trusts the issuer of this machine's key; do not use the machine",
        }
        Crl = "E_CRL", Verify, {
            subject: "revocation list",
            wanted: "one that AMD signed and that is not past its next update",
            help: "fetch the current list of the product from AMD's key service",
        }
        CrlAbsent = "E_CRL_ABSENT", Appraise(AmdSp), {
            subject: "revocation list",
            wanted: "the product's current list",
            help: "nothing shows that AMD has not revoked the key's issuer; let the guest staple the list, or give it with \
                   --crl",
        }
        ProviderCrlAbsent = "E_CRL_ABSENT", Appraise(Nothing), {
            subject: "vTPM's revocation list",
            wanted: "a current list of each CA that has one",
            help: "nothing shows that this CA has not revoked the certificate below it, which names where its list is; let \
                   the guest staple the list, or give it with --crl",
        }
        Extension = "E_EXTENSION", Verify, {
            subject: "certificate",
            wanted: "AMD's extensions, each once",
            help: "this is no VCEK or VLEK certificate; give the one that AMD's key service has for this chip or cloud",
        }
        Product = "E_PRODUCT", Verify, {
            subject: "product",
            wanted: "the same in report, certificate and issuer",
            help: "report and certificates are of different generations of processors; fetch those of the report's product",
        }
        ChipId = "E_CHIP_ID", Verify, {
            subject: "chip id",
            wanted: "that of the certificate",
            help: "report and certificate are of different machines; fetch the VCEK certificate of the report's chip",
        }
    }
}
