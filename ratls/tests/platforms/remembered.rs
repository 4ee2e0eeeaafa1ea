//! What is remembered of evidence that verified, and that it is never an answer to other bytes.

use super::parts::bundle;
use super::vouched::{anchors_with_clouds, azure_certificates, certified, gce_certificates, with_document};
use super::*;

/// A guest of this cloud with its log and the certificates of its key, as a client would save it.
fn full_bundle(profile: Profile, log: &[u8], certificates: Vec<Vec<u8>>) -> Bundle {
    let (digest, length) = (sha256(&[log]), u32::try_from(log.len()).unwrap());
    let committed = |statement: &mut Statement| {
        statement.logs = vec![LogDigest { name: part::EVENT_LOG.to_owned(), length: length.into(), digest }];
    };
    let certified = certified(certificates);
    let listed = |attest: &mut Attest| {
        certified(attest);
        let media_type = media::EVENT_LOG.to_owned();
        attest.parts = vec![PartInfo { name: part::EVENT_LOG.to_owned(), digest, length, media_type }];
    };
    let shown = Guest { statement: Box::new(committed), attest: Box::new(listed), ..guest(profile) }.show();
    bundle(&shown, &[log], false)
}

fn copy(bundle: &Bundle) -> Bundle {
    Bundle::parse(&bundle.encode()).unwrap()
}

fn full_bundles() -> [Bundle; 2] {
    let log = shared::logs::good().bytes();
    [
        full_bundle(Profile::AzureSnp, &log, azure_certificates(azure_tpm())),
        full_bundle(Profile::GcpSnp, &log, gce_certificates(gce_tpm())),
    ]
}

/// What a verifier finds: the id of its refusal, or all of the verdict.
fn found(bundle: &Bundle, anchors: &TrustAnchors, at: UnixTime) -> Result<String, &'static str> {
    match verify_bundle(bundle, anchors, at) {
        Ok((evidence, _)) => Ok(appraise(None, evidence).to_json().to_string()),
        Err(error) => Err(error.id()),
    }
}

#[test]
fn a_changed_byte_of_a_full_bundle_is_never_answered_from_memory() {
    for saved in full_bundles() {
        let memory = anchors_with_clouds().remembering();
        let accepted = found(&saved, &memory, NOW).unwrap();
        assert_eq!(found(&saved, &memory, NOW).as_ref(), Ok(&accepted), "the second time as the first");
        let (fresh, mut tried, mut refused) = (anchors_with_clouds(), 0, 0);
        for at in (0..saved.attest.len()).step_by(29) {
            let mut changed = copy(&saved);
            changed.attest[at] ^= 1;
            let answer = found(&changed, &memory, NOW);
            assert_eq!(answer, found(&changed, &fresh, NOW), "byte {at}");
            (tried, refused) = (tried + 1, refused + usize::from(answer.is_err()));
        }
        // A byte that decides nothing is one of the connection's own terms.
        assert!(refused * 10 > tried * 9, "{refused} of {tried}");
        let log = saved.parts.values().next().unwrap().clone();
        for at in (0..log.len()).step_by(29) {
            let mut other = log.clone();
            other[at] ^= 1;
            // Even where somebody lists it under the digest of the first.
            let forged = Bundle { parts: [(sha256(&[&log]), other)].into(), ..copy(&saved) };
            assert_eq!(found(&forged, &memory, NOW), found(&forged, &fresh, NOW), "byte {at}");
            assert!(found(&forged, &memory, NOW).is_err(), "byte {at}");
        }
        assert_eq!(found(&saved, &memory, NOW), Ok(accepted));
    }
}

#[test]
fn a_certificate_that_expired_is_refused_although_it_is_remembered() {
    use ratls::endorsement::{AkError, PublicKey, verify_azure_ak, verify_gce_ak};

    let ends = UnixTime::from_secs(2_524_607_999);
    let (before, after) =
        (UnixTime::from_secs(1_577_836_799 - CLOCK_LEEWAY_SECS), UnixTime::from_secs(ends.as_secs() + 1));
    type Verify =
        fn(&[&[u8]], &[&[u8]], &PublicKey, &TrustAnchors, UnixTime) -> Result<ratls::endorsement::VerifiedAk, AkError>;
    let azure_key = PublicKey::rsa(&azure_tpm().modulus(), &[1, 0, 1]).unwrap();
    let gce_key = PublicKey::point(&gce_tpm().point()).unwrap();
    let cases: [(Verify, Vec<Vec<u8>>, PublicKey); 2] = [
        (verify_azure_ak, azure_certificates(azure_tpm()), azure_key),
        (verify_gce_ak, gce_certificates(gce_tpm()), gce_key),
    ];
    for (verify, certificates, key) in cases {
        let memory = anchors_with_clouds().remembering();
        let certificates: Vec<&[u8]> = certificates.iter().map(Vec::as_slice).collect();
        let ak = verify(&certificates, &[], &key, &memory, NOW).unwrap();
        assert_eq!(ak.not_after(), ends);
        for at in [NOW, ends] {
            assert!(verify(&certificates, &[], &key, &memory, at).is_ok());
        }
        for at in [before, after] {
            assert_eq!(verify(&certificates, &[], &key, &memory, at).unwrap_err().id(), "T_AK_VALIDITY");
        }
        // Another key, fewer certificates, other roots: other questions.
        let other = PublicKey::point(&SoftTpm::gce().point()).unwrap();
        assert_eq!(verify(&certificates, &[], &other, &memory, NOW).unwrap_err().id(), "T_AK_KEY");
        assert_eq!(verify(&certificates[..1], &[], &key, &memory, NOW).unwrap_err().id(), "T_AK_ROOT");
        assert_eq!(verify(&certificates, &[], &key, &anchors().remembering(), NOW).unwrap_err().id(), "T_AK_ROOT");
    }
}

#[test]
fn a_document_that_is_remembered_ends_with_its_certificate() {
    let shown = with_document(|_| {}).show();
    let memory = anchors_with_clouds().remembering();
    let saved = bundle(&shown, &[], false);
    let accepted = found(&saved, &memory, NOW).unwrap();
    assert_eq!(found(&saved, &memory, NOW), Ok(accepted));
    assert_eq!(found(&saved, &memory, UnixTime::from_secs(NOW.as_secs() + 4 * 3600)), Err("N_VALIDITY"));
}
