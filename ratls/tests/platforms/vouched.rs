//! Who vouches for the vTPM: certificates of the clouds, and documents of the Nitro system.

use super::*;

/// The clouds' authorities, as their emulators have them.
pub(super) struct Clouds {
    azure: simulator::cloud::azure::Authorities,
    gce: simulator::cloud::gce::Authorities,
    aws: simulator::cloud::aws::Authorities,
}

pub(super) fn clouds() -> &'static Clouds {
    static CLOUDS: OnceLock<Clouds> = OnceLock::new();
    CLOUDS.get_or_init(|| {
        use simulator::cloud::{aws, azure, gce};
        let dir = tempfile::tempdir().unwrap();
        let (dir, size) = (dir.path(), RsaSize::Bits2048);
        Clouds {
            azure: azure::Authorities::load_or_create(dir, pki(), size).unwrap(),
            gce: gce::Authorities::load_or_create(dir, pki(), size).unwrap(),
            aws: aws::Authorities::load_or_create(dir, pki()).unwrap(),
        }
    })
}

pub(super) fn anchors_with_clouds() -> TrustAnchors {
    let clouds = clouds();
    let roots = [clouds.azure.root_pem(), clouds.gce.root_pem(), clouds.aws.root_pem()].concat();
    anchors().with_simulator_root(roots.as_bytes()).unwrap()
}

pub(super) fn certified<'a>(certificates: Vec<Vec<u8>>) -> On<'a, Attest> {
    Box::new(move |attest| {
        let certificates = certificates.iter().cloned();
        let endorsement = |bytes| Endorsement { media_type: media::CERTIFICATE.to_owned(), bytes };
        attest.endorsements.extend(certificates.map(endorsement));
    })
}

pub(super) fn gce_certificates(tpm: &SoftTpm) -> Vec<Vec<u8>> {
    let gce = &clouds().gce;
    vec![
        gce.ak_certificate(&simulator::cloud::gce::Instance::new(), &tpm.spki(), "http://127.0.0.1"),
        gce.intermediate(),
    ]
}

pub(super) fn azure_certificates(tpm: &SoftTpm) -> Vec<Vec<u8>> {
    use simulator::cloud::azure::Hierarchy;
    let (azure, url) = (&clouds().azure, "http://127.0.0.1");
    let name = "0123456789ab.ConfidentialVM.Azure.windows.net";
    [
        vec![azure.ak_certificate(Hierarchy::Cloud, name, &tpm.modulus(), url)],
        azure.intermediates(Hierarchy::Cloud, url),
    ]
    .concat()
}

impl Guest<'_> {
    fn verify_with_clouds(&self) -> Result<VerifiedEvidence, VerifyError> {
        self.show().verify(&anchors_with_clouds())
    }
}

#[test]
fn a_certificate_of_the_cloud_makes_a_key_the_vendor_s_and_no_more() {
    let gce = Guest { attest: certified(gce_certificates(gce_tpm())), ..guest(Profile::GcpSnp) };
    let evidence = gce.verify_with_clouds().unwrap();
    let tpm = evidence.tpm().unwrap();
    assert_eq!((tpm.link(), tpm.proof().as_str(), tpm.simulated()), (Link::VendorPki, "certificate", true));
    assert!(tpm.proof().certificate().is_some());
    let azure = Guest { attest: certified(azure_certificates(azure_tpm())), ..guest(Profile::AzureSnp) };
    let evidence = azure.verify_with_clouds().unwrap();
    let tpm = evidence.tpm().unwrap();
    assert_eq!((tpm.link(), tpm.proof().as_str()), (Link::FirmwareAsserted, "paravisor"));
    assert!(tpm.proof().certificate().is_some());
    // At another VMPL the paravisor vouches for nothing, and the certificate remains.
    let azure = Guest { config: Box::new(|config| config.vmpl = 2), ..azure };
    assert_eq!(azure.verify_with_clouds().unwrap().tpm().unwrap().link(), Link::VendorPki);
}

#[test]
fn plat_n33_a_certificate_for_another_key_is_refused() {
    let others = SoftTpm::gce();
    let gce = Guest { attest: certified(gce_certificates(&others)), ..guest(Profile::GcpSnp) };
    assert_eq!(gce.verify_with_clouds().unwrap_err().id(), "T_AK_KEY");
    let azure = Guest { attest: certified(azure_certificates(other_tpm())), ..guest(Profile::AzureSnp) };
    assert_eq!(azure.verify_with_clouds().unwrap_err().id(), "T_AK_KEY");
    let unknown_root = Guest { attest: certified(gce_certificates(gce_tpm())), ..guest(Profile::GcpSnp) };
    unknown_root.refused_as("T_AK_ROOT");
}

/// A document that the Nitro system made for this guest, changed before it is signed.
pub(super) fn with_document<'a>(change: impl Fn(&mut simulator::cloud::aws::Asked) + 'a) -> Guest<'a> {
    let document = move |attest: &mut Attest| {
        let b = binder(&attest.statement);
        let mut asked = simulator::cloud::aws::Asked {
            nonce: Some(b.as_bytes().to_vec()),
            user_data: Some(sha384(&[&attest.hardware[0].1]).as_bytes().to_vec()),
            public_key: None,
        };
        change(&mut asked);
        let pcrs: Vec<Vec<u8>> = (0..24).map(|index| sha384(&[&[index]]).as_bytes().to_vec()).collect();
        let module = "i-0123456789abcdef0-tpm0000000000000000";
        let now_ms = u64::try_from(NOW.as_secs()).unwrap() * 1000;
        let document = clouds().aws.document(module, &pcrs, &asked, now_ms);
        attest.hardware.push((HardwareFormat::NitroDocument, document));
    };
    Guest { tpm: None, attest: Box::new(document), ..guest(Profile::AwsSnp) }
}

#[test]
fn a_nitro_document_speaks_for_the_registers_and_is_no_link_to_the_amd_sp() {
    let evidence = with_document(|_| {}).verify_with_clouds().unwrap();
    let tpm = evidence.tpm().unwrap();
    assert_eq!((tpm.kind(), tpm.link(), tpm.proof().as_str()), (TpmKind::Host, Link::VendorPki, "document"));
    assert_eq!((tpm.pcrs().indices().count(), tpm.ak(), tpm.clock()), (24, None, None));
    assert!(evidence.not_after() < evidence.report().vek().not_after(), "the document lives for hours");
    // Beside a quote it is the document that counts, and the quote must still be good.
    let both = Guest { tpm: Some(gce_tpm()), ..with_document(|_| {}) };
    assert_eq!(both.verify_with_clouds().unwrap().tpm().unwrap().proof().as_str(), "document");
    let bad = Guest { quote: Box::new(|q| q.extra_data[0] ^= 1), ..both };
    assert_eq!(bad.verify_with_clouds().unwrap_err().id(), "Q_NONCE");
}

#[test]
fn plat_n50_a_document_answers_this_statement_and_this_report_and_its_public_key_says_nothing() {
    let id = |change: fn(&mut simulator::cloud::aws::Asked)| {
        with_document(change).verify_with_clouds().map(|_| "").unwrap_or_else(|e| e.id())
    };
    assert_eq!(id(|asked| asked.nonce.as_mut().unwrap()[63] ^= 1), "N_NONCE");
    assert_eq!(id(|asked| asked.nonce.as_mut().unwrap().truncate(63)), "N_NONCE");
    assert_eq!(id(|asked| asked.nonce = None), "N_NONCE");
    assert_eq!(id(|asked| asked.user_data.as_mut().unwrap()[0] ^= 1), "N_REPORT");
    assert_eq!(id(|asked| asked.user_data = None), "N_REPORT");
    // The guest itself chooses it, so it neither harms nor helps.
    let with_key = with_document(|asked| asked.public_key = Some(gce_tpm().spki()));
    let with_key = Guest { tpm: Some(gce_tpm()), ..with_key };
    assert_eq!(with_key.verify_with_clouds().unwrap().tpm().unwrap().link(), Link::VendorPki);
    let unknown_root = with_document(|_| {});
    unknown_root.refused_as("N_ROOT");
}
