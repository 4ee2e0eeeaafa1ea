//! AWS's machines: the Nitro system's document.

use super::*;

fn cbor(major: u8, len: usize) -> Vec<u8> {
    let [high, low] = u16::try_from(len).unwrap().to_be_bytes();
    vec![major << 5 | 25, high, low]
}

fn bytes(value: &[u8]) -> Vec<u8> {
    [cbor(2, value.len()), value.to_vec()].concat()
}

fn text(value: &str) -> Vec<u8> {
    [cbor(3, value.len()), value.as_bytes().to_vec()].concat()
}

fn document(lab: &Lab, user_data: &[u8], seconds: u64) -> Vec<u8> {
    document_with(lab, user_data, seconds, "")
}

/// With this among the extensions of its certificate.
fn document_with(lab: &Lab, user_data: &[u8], seconds: u64, extensions: &str) -> Vec<u8> {
    let leaf = lab.leaf("/CN=i-07-tpm01", &format!("{LEAF}\n{extensions}"), None, P384, &["-sha384"]);
    let pcrs: Vec<u8> = (0..24u8).flat_map(|index| [cbor(0, index.into()), bytes(&[index; 48])].concat()).collect();
    let time = [vec![0x1B], (seconds * 1000).to_be_bytes().to_vec()].concat();
    let pairs = [
        [text("module_id"), text("i-07-tpm01")].concat(),
        [text("digest"), text("SHA384")].concat(),
        [text("timestamp"), time].concat(),
        [text("nitrotpm_pcrs"), cbor(5, 24), pcrs].concat(),
        [text("certificate"), bytes(&leaf)].concat(),
        [text("cabundle"), cbor(4, 1), bytes(&lab.der("root.pem"))].concat(),
        [text("public_key"), vec![0xF6]].concat(),
        [text("user_data"), bytes(user_data)].concat(),
        [text("nonce"), bytes(&B)].concat(),
    ];
    let payload = [cbor(5, pairs.len()), pairs.concat()].concat();
    let mut whole = [vec![0x84, 0x44, 0xA1, 0x01, 0x38, 0x22, 0xA0], bytes(&payload), bytes(&[0; 96])].concat();
    lab.write("signed", NitroDocument::parse(&whole).unwrap().signed_bytes());
    lab.openssl(&["dgst", "-sha384", "-sign", "leaf.key", "-out", "sig", "signed"]);
    let der = lab.read("sig");
    let r_len = usize::from(der[3]);
    let fixed = |integer: &[u8]| {
        let digits: Vec<u8> = integer.iter().copied().skip_while(|b| *b == 0).collect();
        [vec![0; 48 - digits.len()], digits].concat()
    };
    let signature = [fixed(&der[4..4 + r_len]), fixed(&der[6 + r_len..])].concat();
    let at = whole.len() - 96;
    whole[at..].copy_from_slice(&signature);
    whole
}

pub(super) fn aws(lab: &Lab) -> Guest {
    aws_with(lab, "")
}

/// With this among the extensions of its document's certificate.
pub(super) fn aws_with(lab: &Lab, extensions: &str) -> Guest {
    lab.root("/CN=aws.nitro-enclaves", P384, &["-sha384"]);
    let mut guest = Guest::of(sp().report(&B).unwrap(), lab.anchors());
    guest.nitro = Some(document_with(lab, sha384(&[&guest.report]).as_bytes(), 1_800_000_000 - 60, extensions));
    guest
}

#[test]
fn a_guest_of_aws_is_accepted_by_its_document_and_refused_without() {
    let lab = Lab::new("aws");
    let mut guest = aws(&lab);
    let identity = "require_roots = [\"amd\", \"csp\"]\n[identity.tpm]\nec2_instance_ids = [\"i-07\"]";
    let judge = |guest: &Guest, identity: &str, more: &str| {
        fatal(&guest.judge(&policy("aws-snp", &guest.report, identity, more)))
    };
    let registers = format!("[tpm.pcrs.sha384]\n4 = \"{}\"\n", "04".repeat(48));
    accepted(&guest.judge(&policy(
        "aws-snp",
        &guest.report,
        identity,
        &format!("{registers}[aws]\nmax_document_age = \"1m\"\n"),
    )));
    assert_eq!(judge(&guest, identity, "[aws]\nmax_document_age = \"59s\"\n"), ["N_AGE"]);
    assert_eq!(judge(&guest, "[identity.tpm]\nec2_instance_ids = [\"i-08\"]", ""), ["I_TPM"]);
    assert_eq!(judge(&guest, ANY, &registers.replace("04", "05")), ["T_PCR"]);
    guest.nitro = Some(document(&lab, sha384(&[b"another report"]).as_bytes(), 1_800_000_000));
    assert_eq!(judge(&guest, ANY, ""), ["T_UNBOUND"]);
    // A quote in the document's place: genuine, by a key that nobody vouches for.
    guest.nitro = None;
    let tpm = SoftTpm::gce();
    guest.ak = Some(area(&tpm));
    guest.tpm = Some(tpm);
    assert_eq!(judge(&guest, ANY, ""), ["T_AK_UNPROVEN"]);
    assert!(judge(&guest, ANY, "[aws]\nvtpm = \"none\"\n").is_empty());
}

#[test]
fn plat_n50_a_document_is_no_link_to_the_amd_sp_whatever_it_carries() {
    let lab = Lab::new("aws-link");
    let guest = aws(&lab);
    let result = guest.judge(&policy("aws-snp", &guest.report, ANY, ""));
    let tpm = result.evidence().unwrap().tpm().unwrap();
    assert_eq!(tpm.link().anchor(), Some(ratls::verify::Root::Vtpm));
    assert!(result.findings().iter().any(|f| f.id() == "T_VENDOR"), "{result}");
}
