//! Logs and other parts beside an ATTEST, bundles, and the profiles that a policy names.

use super::vouched::anchors_with_clouds;
use super::*;

#[test]
fn proto_c6_parts_belong_to_the_evidence_or_are_refused() {
    let log = shared::logs::good().bytes();
    let settings = b"settings".to_vec();
    let committed = |statement: &mut Statement| {
        let length = u64::try_from(log.len()).unwrap();
        statement.logs = vec![LogDigest { name: part::EVENT_LOG.to_owned(), length, digest: sha256(&[&log]) }];
        statement.config = sha256(&[&settings]);
    };
    let info = |name: &str, bytes: &[u8]| PartInfo {
        name: name.to_owned(),
        digest: sha256(&[bytes]),
        length: u32::try_from(bytes.len()).unwrap(),
        media_type: media::EVENT_LOG.to_owned(),
    };
    let listed = |attest: &mut Attest| {
        attest.parts = vec![
            info(part::EVENT_LOG, &log),
            info(part::SETTINGS, &settings),
            info(part::IMA_LOG, b"not an IMA list"),
            info(part::GCE_ENDORSEMENT, b"not an endorsement"),
        ];
    };
    let mut evidence =
        Guest { statement: Box::new(committed), attest: Box::new(listed), ..guest(Profile::GcpSnp) }.verify().unwrap();
    assert_eq!(evidence.listed_parts().len(), 4);
    assert!(evidence.parts().event_log().is_none());
    let mut add = |name: &str, bytes: &[u8], anchors: &TrustAnchors| {
        Part::read(name, bytes).and_then(|part| evidence.add_part(&part, anchors)).map_err(|error| error.id())
    };
    assert_eq!(add(part::EVENT_LOG, &log, &anchors()), Ok(()));
    assert_eq!(add(part::SETTINGS, &settings, &anchors()), Ok(()));
    assert_eq!(add(part::SETTINGS, b"others", &anchors()), Err("B_PART"));
    assert!(add(part::IMA_LOG, b"not an IMA list", &anchors()).is_err());
    assert!(add(part::EVENT_LOG, &log[..log.len() - 1], &anchors()).is_err(), "truncated");
    let longer = shared::logs::good().separator(9).bytes();
    assert_eq!(add(part::EVENT_LOG, &longer, &anchors()), Err("B_PART"), "a good log of another boot");
    // Nothing rests on it unless a policy asks for one: it counts for nothing, and the report is what it was.
    assert_eq!(add(part::GCE_ENDORSEMENT, b"not an endorsement", &anchors_with_clouds()), Ok(()));
    assert_eq!(evidence.parts().refused_endorsement().map(|refusal| refusal.id()), Some("G_PARSE"));
    assert!(evidence.parts().event_log().is_some() && evidence.parts().settings() == Some(&settings[..]));
    assert!(evidence.parts().ima_list().is_none() && evidence.parts().gce_endorsement().is_none());
}

pub(super) fn bundle(shown: &Shown, parts: &[&[u8]], witnessed_ak: bool) -> Bundle {
    Bundle {
        attest: shown.attest.clone(),
        parts: parts.iter().map(|part| (sha256(&[part]), part.to_vec())).collect(),
        leaf_certificate: shown.leaf_certificate.clone(),
        bind: Bind32::from_exporter([9; 32]),
        received: NOW,
        witnessed_ak,
    }
}

#[test]
fn a_bundle_of_every_platform_verifies_again_and_is_of_no_connection() {
    for profile in Profile::ALL {
        let log = shared::logs::good().bytes();
        let length = u32::try_from(log.len()).unwrap();
        let committed = |statement: &mut Statement| {
            let digest = sha256(&[&log]);
            statement.logs = vec![LogDigest { name: part::EVENT_LOG.to_owned(), length: length.into(), digest }];
        };
        let listed = |attest: &mut Attest| {
            let (digest, media_type) = (sha256(&[&log]), media::EVENT_LOG.to_owned());
            attest.parts = vec![PartInfo { name: part::EVENT_LOG.to_owned(), digest, length, media_type }];
        };
        let shown = Guest { statement: Box::new(committed), attest: Box::new(listed), ..guest(profile) }.show();
        let saved = Bundle::parse(&bundle(&shown, &[&log], false).encode()).unwrap();
        let (evidence, _) = verify_bundle(&saved, &anchors(), NOW).unwrap();
        assert_eq!((evidence.channel(), evidence.hw_freshness()), (Channel::None, Freshness::None));
        assert!(evidence.tpm().is_none_or(|tpm| tpm.freshness() == Freshness::None));
        assert!(evidence.parts().event_log().is_some(), "{profile}");
        let truncated = bundle(&shown, &[&log[..log.len() - 1]], false);
        let (evidence, _) = verify_bundle(&truncated, &anchors(), NOW).unwrap();
        assert!(evidence.parts().event_log().is_none(), "a part that nobody listed is no part");
    }
}

/// Recorded, and nothing that anybody could verify again.
#[test]
fn a_bundle_says_that_its_witness_saw_the_ak_proven_where_there_was_something_to_prove() {
    let verified = |profile, witnessed| {
        let saved = bundle(&guest(profile).show(), &[], witnessed);
        verify_bundle(&saved, &anchors(), NOW).map(|(evidence, _)| evidence.tpm().map(|tpm| tpm.proof().as_str()))
    };
    assert_eq!(verified(Profile::SvsmSnp, true).unwrap(), Some("witnessed"));
    assert_eq!(verified(Profile::SvsmSnp, false).unwrap(), Some("unproven"));
    let told = |witnessed, by_reader| {
        let saved = bundle(&guest(Profile::SvsmSnp).show(), &[], witnessed);
        let (mut evidence, _) = verify_bundle(&saved, &anchors(), NOW).unwrap();
        if by_reader {
            evidence.witnessed_by_reader();
        }
        let result = appraise(None, evidence);
        let found = result.findings().iter().find(|finding| finding.id().starts_with("T_AK_"));
        found.map(|finding| (finding.id(), finding.severity()))
    };
    assert_eq!(told(true, false), Some(("T_AK_WITNESSED", Severity::Cap)));
    assert_eq!(told(true, true), Some(("T_AK_WITNESSED", Severity::Warning)));
    for by_reader in [false, true] {
        assert_eq!(told(false, by_reader), Some(("T_AK_UNPROVEN", Severity::Cap)));
    }
    for profile in [Profile::Snp, Profile::AzureSnp, Profile::GcpSnp] {
        assert_eq!(verified(profile, true).unwrap_err().id(), "T_AK_PROOF");
    }
}

#[test]
fn proto_c10_evidence_of_another_profile_than_the_policy_names_is_refused() {
    let policy = |name: &str| {
        let file = format!("{}/../examples/policies/{name}.toml", env!("CARGO_MANIFEST_DIR"));
        AppraisalPolicy::parse(&std::fs::read_to_string(&file).unwrap(), &file).unwrap()
    };
    let judged = |profile, policy: &AppraisalPolicy| {
        let result = appraise(Some(policy), guest(profile).verify().unwrap());
        result.findings().iter().any(|f| f.id() == "P_PROFILE" && f.severity() == Severity::Fatal)
    };
    for (name, own) in [("azure", Profile::AzureSnp), ("svsm", Profile::SvsmSnp), ("gcp", Profile::GcpSnp)] {
        let policy = policy(name);
        for profile in Profile::ALL {
            assert_eq!(judged(profile, &policy), profile != own, "{profile} under {name}.toml");
        }
    }
}
