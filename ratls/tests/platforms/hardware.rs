//! Reports of every profile and what they are over: the paravisor's JSON, the SVSM's manifest, the chip.

use super::*;

#[test]
fn evidence_of_every_profile_verifies_and_says_how_far_it_hangs_on_the_amd_sp() {
    for profile in Profile::ALL {
        let evidence = guest(profile).verify().unwrap_or_else(|error| panic!("{profile}: {error}"));
        assert_eq!((evidence.profile(), evidence.hw_freshness()), (profile, Freshness::Connect));
        let tpm = evidence.tpm().map(|tpm| (tpm.kind(), tpm.proof().as_str(), tpm.link(), tpm.freshness()));
        let wanted = match profile {
            Profile::Snp => None,
            // Nobody vouches for these keys: no certificate came, no round trip was made.
            Profile::AwsSnp | Profile::GcpSnp => {
                Some((TpmKind::Host, "unproven", Link::GuestAsserted, Freshness::Connect))
            }
            Profile::AzureSnp => Some((TpmKind::Paravisor, "paravisor", Link::FirmwareAsserted, Freshness::Connect)),
            Profile::SvsmSnp => Some((TpmKind::Svsm, "unproven", Link::GuestAsserted, Freshness::Connect)),
        };
        assert_eq!(tpm, wanted, "{profile}");
        assert_eq!(evidence.hcl().is_some(), profile == Profile::AzureSnp);
        assert_eq!(evidence.svsm().is_some(), profile == Profile::SvsmSnp);
        assert!(evidence.simulated());
    }
}

#[test]
fn the_hardware_signed_b_wherever_the_profile_has_it() {
    for profile in [Profile::Snp, Profile::AwsSnp, Profile::GcpSnp] {
        Guest { report_data: Box::new(|data| data[63] ^= 1), ..guest(profile) }.refused_as("R_FRESH");
    }
    Guest { report_data: Box::new(|data| data[31] ^= 1), ..guest(Profile::AzureSnp) }.refused_as("H_HASH");
    Guest { report_data: Box::new(|data| data[63] ^= 1), ..guest(Profile::SvsmSnp) }.refused_as("H_MANIFEST");
    let other_nonce = |attest: &mut Attest| {
        let mut evidence = SvsmEvidence::parse(&attest.hardware[0].1).unwrap();
        evidence.nonce = Nonce::from_bytes([1; 64]);
        attest.hardware[0].1 = evidence.encode();
    };
    Guest { attest: Box::new(other_nonce), ..guest(Profile::SvsmSnp) }.refused_as("R_FRESH");
}

#[test]
fn plat_n44_the_json_has_one_reading_and_is_hashed_as_it_came() {
    let azure = |json: Json<'static>| Guest { json, ..guest(Profile::AzureSnp) };
    let good = |tpm: &SoftTpm, b: &Binder| json(tpm, Some(&b.to_string()));
    // Hashed by the paravisor as it is, so only the reader can refuse it.
    azure(Box::new(move |tpm, b| good(tpm, b).replacen("{\"kid\"", "{\"kid\":\"HCLAkPub\",\"kid\"", 1)))
        .refused_as("H_JSON");
    azure(Box::new(move |tpm, b| good(tpm, b).replacen('{', "{\"user-data\":\"00\",", 1))).refused_as("H_JSON");
    azure(Box::new(move |tpm, b| {
        let key =
            format!(r#"{{"kid":"HCLAkPub","kty":"RSA","e":"AQAB","n":"{}"}},"#, base64url(&other_tpm().modulus()));
        good(tpm, b).replacen("\"keys\":[", &format!("\"keys\":[{key}"), 1)
    }))
    .refused_as("H_JSON");
    azure(Box::new(move |tpm, b| good(tpm, b) + " {}")).refused_as("H_JSON");
    azure(Box::new(move |tpm, b| good(tpm, b).replace("HCLAkPub", "HCLOther"))).refused_as("H_KEY");
    azure(Box::new(move |tpm, b| good(tpm, b).replace("AQAB", "Aw"))).refused_as("H_KEY");
    azure(Box::new(move |tpm, b| good(tpm, b).replace(&base64url(&tpm.modulus()), &base64url(&[0; 256]))))
        .refused_as("H_KEY");
    // White space that the paravisor hashed is no lie.
    assert!(azure(Box::new(move |tpm, b| good(tpm, b).replace(",\"", ", \""))).verify().is_ok());
}

#[test]
fn proto_c7_a_json_that_was_written_anew_is_refused() {
    let rewritten = |attest: &mut Attest| {
        let blob = &mut attest.hardware[0].1;
        let at = blob.windows(2).position(|w| w == b",\"").unwrap();
        blob.splice(at..at + 2, *b", \"");
        blob.truncate(2600);
        let length = u32::from_le_bytes(blob[1232..1236].try_into().unwrap()) + 1;
        blob[1232..1236].copy_from_slice(&length.to_le_bytes());
        blob[1216..1220].copy_from_slice(&(length + 20).to_le_bytes());
    };
    Guest { attest: Box::new(rewritten), ..guest(Profile::AzureSnp) }.refused_as("H_HASH");
}

#[test]
fn plat_n45_headers_that_are_not_signed_decide_nothing() {
    let blob = |at: usize, value: u8| {
        Box::new(move |attest: &mut Attest| attest.hardware[0].1[at] = value) as On<'static, Attest>
    };
    let azure = |attest| Guest { attest, ..guest(Profile::AzureSnp) };
    azure(blob(1224, 4)).refused_as("H_TYPE");
    azure(blob(1224, 5)).refused_as("H_TYPE");
    azure(blob(1228, 2)).refused_as("H_HASH");
    azure(blob(1228, 3)).refused_as("H_HASH");
    azure(blob(1228, 0)).refused_as("H_PARSE");
    azure(blob(1220, 3)).refused_as("H_PARSE");
    azure(blob(1216, 0)).refused_as("H_PARSE");
    azure(blob(0, b'h')).refused_as("H_PARSE");
    azure(blob(4, 9)).refused_as("H_PARSE");
    Guest { report_data: Box::new(|data| data[63] = 1), ..guest(Profile::AzureSnp) }.refused_as("H_HASH");
}

#[test]
fn plat_n46_user_data_is_b_or_the_report_is_not_fresh() {
    let with = |user_data: Option<String>| Guest {
        json: Box::new(move |tpm, _| json(tpm, user_data.as_deref())),
        ..guest(Profile::AzureSnp)
    };
    with(Some("00".repeat(64))).refused_as("R_FRESH");
    with(Some("11".repeat(64))).refused_as("R_FRESH");
    with(Some("00".repeat(63))).refused_as("H_JSON");
    let prefix = Guest {
        json: Box::new(|tpm, b| json(tpm, Some(&format!("{}{}", &b.to_string()[..64], "00".repeat(32))))),
        ..guest(Profile::AzureSnp)
    };
    prefix.refused_as("R_FRESH");
    let old = with(None).verify().unwrap();
    assert_eq!(old.hw_freshness(), Freshness::Stale);
    let tpm = old.tpm().unwrap();
    assert_eq!((tpm.freshness(), old.hcl().unwrap().user_data), (Freshness::Connect, None));
}

#[test]
fn plat_n47_an_old_paravisors_report_of_any_day_is_never_fresh() {
    // The report was made for somebody else, long ago; the key is the same and quotes now.
    let old = Guest { json: Box::new(|tpm, _| json(tpm, None)), ..guest(Profile::AzureSnp) };
    let recorded = Attest::parse(&old.show().attest).unwrap().hardware.remove(0);
    let replayed = |attest: &mut Attest| {
        let b = binder(&attest.statement);
        let report = &recorded.1[32..1216];
        attest.tpm = Some(azure_tpm().quote(&question(&b, report), |_| {}));
        attest.hardware = vec![recorded.clone()];
    };
    let replay = Guest {
        statement: Box::new(|statement| statement.counter = 99),
        attest: Box::new(replayed),
        ..guest(Profile::AzureSnp)
    };
    assert_eq!(replay.verify().unwrap().hw_freshness(), Freshness::Stale, "so the AMD-SP vouches for nothing of now");
    let nothing_of_now = Guest { tpm: None, json: Box::new(|tpm, _| json(tpm, None)), ..guest(Profile::AzureSnp) };
    nothing_of_now.refused_as("R_FRESH");
}

#[test]
fn plat_n48_proto_c9_certificates_of_another_chip_or_tcb_are_refused() {
    for profile in Profile::ALL {
        let of = |change: fn(&mut Config)| {
            let mut config = Config::new(Product::Milan);
            change(&mut config);
            let certificates = SimulatedAmdSp::new(pki(), config).certificates();
            Box::new(move |attest: &mut Attest| {
                for (endorsement, bytes) in attest.endorsements.iter_mut().zip(&certificates) {
                    endorsement.bytes = bytes.clone();
                }
            }) as On<'static, Attest>
        };
        let chip: fn(&mut Config) = |config| config.chip_id = Some(ratls::evidence::snp::ChipId::from_bytes([9; 64]));
        Guest { attest: of(chip), ..guest(profile) }.refused_as("E_CHIP_ID");
        let tcb: fn(&mut Config) = |config| config.reported_tcb.snp -= 1;
        Guest { attest: of(tcb), ..guest(profile) }.refused_as("R_TCB");
        let none = |attest: &mut Attest| attest.endorsements.clear();
        Guest { attest: Box::new(none), ..guest(profile) }.refused_as("E_NO_ENDORSEMENT");
    }
}

#[test]
fn proto_c6_a_log_is_the_one_that_the_statement_commits_to() {
    let log = b"log of this boot".to_vec();
    let committed = |statement: &mut Statement| {
        let digest = sha256(&[&log]);
        statement.logs = vec![LogDigest { name: part::EVENT_LOG.to_owned(), length: 16, digest }];
    };
    let listed = |bytes: &[u8], length: u32| {
        let digest = sha256(&[bytes]);
        let info =
            PartInfo { name: part::EVENT_LOG.to_owned(), digest, length, media_type: media::EVENT_LOG.to_owned() };
        Box::new(move |attest: &mut Attest| attest.parts = vec![info.clone()]) as On<'static, Attest>
    };
    let with = |attest| Guest { statement: Box::new(committed), attest, ..guest(Profile::GcpSnp) };
    assert!(with(listed(&log, 16)).verify().is_ok());
    with(listed(b"log of that boot", 16)).refused_as("B_LOGS");
    with(listed(&log, 15)).refused_as("B_LOGS");
    Guest { attest: listed(&log, 16), ..guest(Profile::GcpSnp) }.refused_as("B_LOGS");
}

#[test]
fn proto_c8_plat_n03_at_another_vmpl_anybody_can_have_asked() {
    for profile in [Profile::SvsmSnp, Profile::AzureSnp] {
        for vmpl in 1..=3 {
            let evidence =
                Guest { config: Box::new(move |config| config.vmpl = vmpl), ..guest(profile) }.verify().unwrap();
            assert_eq!(evidence.tpm().unwrap().link(), Link::GuestAsserted);
            assert!(fatal_ids(evidence).contains(&"R_VMPL"), "{profile} at VMPL {vmpl}");
        }
    }
}

#[test]
fn proto_c11_a_simulated_chain_is_refused_where_no_policy_names_its_root() {
    for profile in Profile::ALL {
        let error = guest(profile).show().verify(&TrustAnchors::amd()).unwrap_err();
        assert_eq!(error.id(), "E_ROOT", "{error}");
    }
}

#[test]
fn hardware_of_another_platform_is_refused() {
    for profile in Profile::ALL {
        for other in [HardwareFormat::SnpReport, HardwareFormat::HclBlob, HardwareFormat::SvsmManifest] {
            let relabelled = |attest: &mut Attest| attest.hardware[0].0 = other;
            let own = guest(profile).show().attest;
            if Attest::parse(&own).unwrap().hardware[0].0 != other {
                Guest { attest: Box::new(relabelled), ..guest(profile) }.refused_as("B_PROFILE");
            }
        }
        Guest { attest: Box::new(|attest| attest.hardware.clear()), ..guest(profile) }.refused_as("B_NO_REPORT");
        let beside = |attest: &mut Attest| attest.hardware.push((HardwareFormat::NitroDocument, vec![1]));
        if profile != Profile::AwsSnp {
            Guest { attest: Box::new(beside), ..guest(profile) }.refused_as("B_PROFILE");
        }
    }
}

#[test]
fn plat_n54_only_the_manifest_in_the_report_says_what_the_ek_is() {
    let other_key = |attest: &mut Attest| {
        let mut evidence = SvsmEvidence::parse(&attest.hardware[0].1).unwrap();
        evidence.manifest[100] ^= 1;
        attest.hardware[0].1 = evidence.encode();
    };
    Guest { attest: Box::new(other_key), ..guest(Profile::SvsmSnp) }.refused_as("H_MANIFEST");
    // Hashed by the SVSM, and not that of a vTPM.
    Guest { manifest: vec![1, 0, 0, 0], ..guest(Profile::SvsmSnp) }.refused_as("H_MANIFEST");
    Guest { manifest: [ek_manifest(), vec![0]].concat(), ..guest(Profile::SvsmSnp) }.refused_as("H_MANIFEST");
}

/// The secret is ours, so that the answer can be given without a TPM.
fn asked(evidence: &VerifiedEvidence) -> Result<Question, CredentialError> {
    Question::new(evidence, &Seed::from_bytes([1; 32]), CredentialSecret::from_bytes([2; 32]))
}

#[test]
fn plat_n55_an_ak_is_proven_by_the_secret_and_by_nothing_else() {
    if ratls::crypto::BACKEND == "ring" {
        let evidence = guest(Profile::SvsmSnp).verify().unwrap();
        assert!(matches!(asked(&evidence), Err(CredentialError::Unsupported)));
        return;
    }
    let mut evidence = guest(Profile::SvsmSnp).verify().unwrap();
    assert_eq!(evidence.tpm().unwrap().link(), Link::GuestAsserted);
    let wrong = CredentialResponse { secret: CredentialSecret::from_bytes([3; 32]) };
    assert_eq!(asked(&evidence).unwrap().answered(&wrong), Err(CredentialError::Secret));
    let right = CredentialResponse { secret: CredentialSecret::from_bytes([2; 32]) };
    let proof = asked(&evidence).unwrap().answered(&right).unwrap();
    assert!(proof.is_of(&CredentialProof::key(&evidence).unwrap()));

    let mut another_guest = Guest {
        config: Box::new(|config| config.report_id = Some(ReportId::from_bytes([7; 32]))),
        ..guest(Profile::SvsmSnp)
    }
    .verify()
    .unwrap();
    assert_eq!(another_guest.prove_ak(&proof), Err(CredentialError::Other));
    let mut another_ak = Guest { tpm: Some(gce_tpm()), ..guest(Profile::SvsmSnp) }.verify().unwrap();
    assert_eq!(another_ak.prove_ak(&proof), Err(CredentialError::Other));
    let mut another_ek = ek_manifest();
    another_ek[100] ^= 1;
    let mut another_ek = Guest { manifest: another_ek, ..guest(Profile::SvsmSnp) }.verify().unwrap();
    assert_eq!(another_ek.prove_ak(&proof), Err(CredentialError::Other));
    let mut azure = guest(Profile::AzureSnp).verify().unwrap();
    assert_eq!(azure.prove_ak(&proof), Err(CredentialError::NothingToProve));

    evidence.prove_ak(&proof).unwrap();
    assert_eq!(evidence.tpm().unwrap().link(), Link::FirmwareAsserted);
    assert!(matches!(evidence.tpm().unwrap().proof(), AkProof::Credential));
}
