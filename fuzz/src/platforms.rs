//! Targets for what the platforms add: the formats of TPMs, paravisors, SVSMs, clouds, firmware and kernels.

use ratls::endorsement::{TrustAnchors, verify_gce_endorsement, verify_nitro_document};
use ratls::evidence::event_log::{Comparison, EventLog, MAX_EVENTS, Replay};
use ratls::evidence::gce_endorsement::GceEndorsement;
use ratls::evidence::hcl::{Claims, Hcl, MAX_HCL};
use ratls::evidence::ima::ImaList;
use ratls::evidence::nitro::NitroDocument;
use ratls::evidence::svsm::{Manifest, VTPM_MANIFEST};
use ratls::evidence::tpm::{Bank, Hierarchy, PcrValues, Public, Quoted, Signature};
use ratls::launch::OvmfLayout;
use ratls::measured_boot::Boot;
use ratls::time::UnixTime;

/// What is accepted is smaller than its bound, and its report and JSON belong together: one changed byte of the JSON refuses.
pub fn hcl(data: &[u8]) {
    let Ok(hcl) = Hcl::parse(data) else { return };
    assert!(data.len() <= MAX_HCL && hcl.report().len() == 1184);
    assert_eq!(hcl.claims().ak_modulus.len(), 256);
    let at = data.windows(9).position(|window| window == b"\"HCLAkPub").expect("it was found by its name");
    let mut changed = data.to_vec();
    changed[at + 1] ^= 1;
    assert!(Hcl::parse(&changed).is_err(), "the JSON is hashed into the report");
}

/// An accepted JSON has one AK of 2048 bit, and user data of 64 bytes or none; with something behind it, it is refused.
pub fn runtime_json(data: &[u8]) {
    let Ok(claims) = Claims::parse(data) else { return };
    assert!(claims.ak_modulus.len() == 256 && claims.ak_modulus[0] & 0x80 != 0);
    assert!(claims.ek_modulus.as_ref().is_none_or(|modulus| modulus.len() == 256));
    assert!(Claims::parse(&[data, b"{}"].concat()).is_err());
}

/// Whole or not at all; registers ascend and exist.
pub fn tpms_attest(data: &[u8]) {
    let Ok(quoted) = Quoted::parse(data) else { return };
    assert!(Quoted::parse(&[data, &[0]].concat()).is_err() && Quoted::parse(&data[..data.len() - 1]).is_err());
    for selection in &quoted.selections {
        assert!(selection.indices.iter().all(|index| *index < 24));
        assert!(selection.indices.is_sorted_by(|a, b| a < b));
    }
}

/// Kept as received, with names that follow from it.
pub fn tpmt_public(data: &[u8]) {
    let Ok(public) = Public::parse(data) else { return };
    assert_eq!(public.as_bytes(), data);
    assert_eq!(public.digest(), ratls::crypto::sha256(&[data]));
    assert!(!public.key().subject_public_key().is_empty());
    for hierarchy in Hierarchy::ALL {
        assert_ne!(public.qualified_name(hierarchy).as_bytes(), public.name().as_bytes());
    }
    assert!(Public::parse(&data[..data.len() - 1]).is_err());
}

/// Whole or not at all.
pub fn tpmt_signature(data: &[u8]) {
    let Ok(signature) = Signature::parse(data) else { return };
    assert!([0x14, 0x16, 0x18].contains(&signature.scheme()));
    assert!(Signature::parse(&[data, &[0]].concat()).is_err() && Signature::parse(&data[..data.len() - 1]).is_err());
}

/// Bounded; replayed to itself it is equal or untouched in every register; and it can be told in words that stay on their line.
pub fn event_log(data: &[u8]) {
    let Ok(log) = EventLog::parse(data) else { return };
    assert!(log.events().len() <= MAX_EVENTS && !log.banks().is_empty());
    for bank in log.banks() {
        let replay = Replay::of(&log, *bank).expect("the log has this bank");
        let values: Vec<_> = (0..24).map(|pcr| (pcr, replay.value(pcr).expect("24 registers").as_bytes())).collect();
        let quoted = PcrValues::new(*bank, values).expect("24 values");
        for pcr in 0..24 {
            assert!(matches!(replay.compare(pcr, &quoted), Comparison::Equal | Comparison::Untouched));
        }
        let boot = Boot::interpret(&log, *bank, Some(&quoted)).expect("the log has this bank");
        for sentence in boot.sentences() {
            let text = format!("{sentence:?}");
            assert!(!text.contains(char::is_control));
        }
    }
    for event in log.events() {
        let _ = event.read();
    }
    let _ = log.anomalies();
}

/// What replays is a prefix of what was read, whichever register value is asked for.
pub fn ima(data: &[u8]) {
    let (value, list) = data.split_at_checked(32).unwrap_or((&[0; 32], data));
    let Ok(list) = ImaList::parse(list) else { return };
    for value in [value, &[0; 32]] {
        let quoted = PcrValues::new(Bank::Sha256, [(10, value)]).expect("one value");
        if let Ok(prefix) = list.replay(&quoted) {
            assert!(prefix.entries().len() <= list.entries().len());
            assert!(prefix.violations().count() <= prefix.entries().len());
        }
    }
    for entry in list.entries() {
        let _ = (entry.path(), entry.file(), entry.template(), entry.extra().len());
    }
}

/// The EK is bytes of the manifest.
pub fn svsm_manifest(data: &[u8]) {
    let Ok(manifest) = Manifest::parse(data) else { return };
    let ek = manifest.ek().as_bytes();
    assert_eq!(ek.len(), VTPM_MANIFEST);
    assert!(data.windows(VTPM_MANIFEST).any(|window| window == ek));
    assert_eq!(manifest.names_services(), data.len() != VTPM_MANIFEST);
}

/// What lies in front of the tables changes nothing. `data` is the end of an image, put behind zeros up to a page's boundary.
pub fn ovmf(data: &[u8]) {
    let missing = data.len().next_multiple_of(4096) - data.len();
    let image = [&vec![0; missing][..], data].concat();
    let Ok(layout) = OvmfLayout::parse(&image) else { return };
    assert_eq!(OvmfLayout::parse(&[&[0xFF; 4096], &image[..]].concat()), Ok(layout));
}

/// Whole or not at all, in every register of the SHA-384 bank; never verifies under AWS's root.
pub fn nitro(data: &[u8]) {
    let Ok(document) = NitroDocument::parse(data) else { return };
    assert!(
        NitroDocument::parse(&[data, &[0]].concat()).is_err() && NitroDocument::parse(&data[..data.len() - 1]).is_err()
    );
    assert_eq!(document.pcrs().bank(), Bank::Sha384);
    assert!(!document.module_id().is_empty() && !document.cabundle().is_empty());
    assert!(document.signed_bytes().len() < data.len() + 64, "what was signed is what came, in another envelope");
    let now = UnixTime::from_secs(1_800_000_000);
    assert!(verify_nitro_document(data, &[], &TrustAnchors::amd(), now).is_err());
}

/// What was signed stands in what came; unknown fields pass and known ones stand once; nothing verifies without a named root.
pub fn gce_endorsement(data: &[u8]) {
    let Ok(endorsement) = GceEndorsement::parse(data) else { return };
    let signed = endorsement.signed_bytes();
    assert!(signed.is_empty() || data.windows(signed.len()).any(|window| window == signed));
    // Field 15, which nobody knows.
    assert_eq!(GceEndorsement::parse(&[data, &[0x78, 1]].concat()).as_ref(), Ok(&endorsement));
    assert!(GceEndorsement::parse(&[data, &[0x12, 0]].concat()).is_err(), "a second signature");
    for measurement in endorsement.snp().into_iter().flat_map(|snp| snp.measurements().values()) {
        assert!(endorsement.snp().is_some_and(|snp| snp.vmsas_of(measurement).is_some()));
    }
    assert!(verify_gce_endorsement(data, &TrustAnchors::amd(), UnixTime::from_secs(1_800_000_000)).is_err());
}
