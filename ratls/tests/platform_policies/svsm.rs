//! A guest below an SVSM.

use super::*;

pub(super) fn svsm() -> Guest {
    let lab = Lab::new("svsm");
    lab.root("/CN=EK\\/AK CA Root", P256, &["-sha256"]);
    let mut manifest = hex::decode(
        "0001000b000300b20020837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa00060080004300100800000000000100",
    )
    .unwrap();
    let tpm = SoftTpm::azure();
    manifest.extend(tpm.modulus());
    let mut guest = Guest::of(sp().report(sha512(&[&B, &manifest]).as_bytes()).unwrap(), lab.anchors());
    guest.svsm = Some(manifest);
    guest.ak = Some(area(&tpm));
    guest.tpm = Some(tpm);
    guest
}

#[test]
fn plat_n55_an_unproven_key_below_an_svsm_is_refused_unless_the_policy_says_so_in_words() {
    let guest = svsm();
    let judge = |more: &str| fatal(&guest.judge(&policy("svsm-snp", &guest.report, ANY, more)));
    assert_eq!(judge(""), ["T_AK_UNPROVEN"]);
    assert!(judge("[svsm]\nak = \"accept a key that nobody vouches for\"\n").is_empty());
}
