//! What a client asks of a guest beside its ATTEST, over frames, from a guest below an SVSM. SIMULATED, PROVES NOTHING.

#![allow(clippy::unwrap_used)]

#[path = "../../ratls/tests/shared/soft_tpm.rs"]
mod soft_tpm;

use std::sync::{Arc, OnceLock};

use aws_lc_rs::cipher::{AES_128, DecryptingKey, DecryptionContext, UnboundCipherKey};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rsa::{KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey};
use evident_client::evidence::{AskError, Complete, Known, complete};
use proxy_core::framing::{Framed, FramingError};
use ratls::binding::leaf::leaf_hash;
use ratls::binding::statement::{Epoch, LogDigest};
use ratls::binding::{Bind32, LeafType, Profile, Purpose, Role, Statement, Tree, UpstreamScope, binder};
use ratls::cert::spki_digest;
use ratls::crypto::{BACKEND, hmac_sha256, sha256, sha384, sha512};
use ratls::endorsement::TrustAnchors;
use ratls::evidence::snp::ReportId;
use ratls::evidence::svsm::Nonce;
use ratls::evidence::tpm::Public;
use ratls::tcb::Product;
use ratls::time::UnixTime;
use ratls::verify::{AkProof, Connection, Link, VerifiedEvidence, verify_connection};
use ratls::wire::attest::{Attest, AttestPurpose, Endorsement, HardwareFormat, PartInfo, media, part};
use ratls::wire::credential::{Credential, CredentialResponse, CredentialSecret};
use ratls::wire::frame::FrameType;
use ratls::wire::parts::{encode_parts, parse_want};
use ratls::wire::svsm::SvsmEvidence;
use simulator::boot::{Firmware, Guest};
use simulator::{Config, Pki, RsaSize, SimulatedAmdSp};
use soft_tpm::SoftTpm;
use tokio::io::DuplexStream;

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

fn pki() -> &'static Arc<Pki> {
    static PKI: OnceLock<Arc<Pki>> = OnceLock::new();
    PKI.get_or_init(|| Arc::new(Pki::generate(Product::Milan, RsaSize::Bits2048)))
}

fn anchors() -> TrustAnchors {
    TrustAnchors::amd().with_simulator_root(pki().root_pem().as_bytes()).unwrap()
}

fn log() -> &'static Vec<u8> {
    static LOG: OnceLock<Vec<u8>> = OnceLock::new();
    LOG.get_or_init(|| Guest::new(Firmware::Svsm).log().to_bytes())
}

/// The vTPM: an EK that decrypts and an AK that quotes.
struct Tpm {
    ek: PrivateDecryptingKey,
    ak: SoftTpm,
}

fn tpm() -> &'static Tpm {
    static TPM: OnceLock<Tpm> = OnceLock::new();
    TPM.get_or_init(|| Tpm { ek: PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap(), ak: SoftTpm::gce() })
}

impl Tpm {
    /// The EK template around the modulus, which stands behind 33 bytes of SubjectPublicKeyInfo.
    fn manifest(&self) -> Vec<u8> {
        let head = "0001000b000300b20020837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa00060080004300100800000000000100";
        let spki = AsDer::<PublicKeyX509Der<'_>>::as_der(&self.ek.public_key()).unwrap();
        [&hex::decode(head).unwrap()[..], &spki.as_ref()[33..289]].concat()
    }

    /// TPM2_ActivateCredential, written from Part 1, 24.
    fn activate(&self, credential: &Credential) -> CredentialSecret {
        let mut seed = [0; 256];
        let ek = OaepPrivateDecryptingKey::new(self.ek.clone()).unwrap();
        let seed =
            ek.decrypt(&OAEP_SHA256_MGF1SHA256, &credential.encrypted_secret, &mut seed, Some(b"IDENTITY\0")).unwrap();
        let name = Public::parse(&self.ak.public()).unwrap().name();
        let (mac, identity) = credential.id_object[2..].split_at(32);
        let integrity = hmac_sha256(seed, &[&[0, 0, 0, 1], b"INTEGRITY\0", &[0, 0, 1, 0]]);
        assert_eq!(hmac_sha256(integrity.as_slice(), &[identity, name.as_bytes()]).as_slice(), mac);
        let storage = hmac_sha256(seed, &[&[0, 0, 0, 1], b"STORAGE\0", name.as_bytes(), &[0, 0, 0, 128]]);
        let key = DecryptingKey::cfb128(UnboundCipherKey::new(&AES_128, &storage[..16]).unwrap()).unwrap();
        let mut identity = identity.to_vec();
        let plain = key.decrypt(&mut identity, DecryptionContext::Iv128(FixedLength::from([0; 16]))).unwrap();
        CredentialSecret::from_bytes(plain[2..].try_into().unwrap())
    }
}

/// Evidence of a guest that lists its event log.
fn evidence() -> VerifiedEvidence {
    let mut config = Config::new(Product::Milan);
    config.report_id = Some(ReportId::from_bytes([0x1D; 32]));
    let mut sp = SimulatedAmdSp::new(pki(), config);
    let leaf_certificate = sp.certificates().remove(0);
    let spki = spki_digest(&leaf_certificate).unwrap();
    let bind = || Bind32::from_exporter([9; 32]);
    let length = u32::try_from(log().len()).unwrap();
    let digest = sha256(&[log()]);
    let statement = Statement {
        profile: Profile::SvsmSnp,
        purpose: Purpose::Batch,
        root: Tree::build(&[leaf_hash(LeafType::ChannelInitial, Role::Server, &spki, &bind())]).unwrap().root(),
        n: 1,
        spki,
        epoch: Epoch::from_bytes([3; 16]),
        counter: 1,
        ak: Some(sha256(&[&tpm().ak.public()])),
        logs: vec![LogDigest { name: part::EVENT_LOG.to_owned(), length: length.into(), digest }],
        config: sha256(&[b"settings"]),
        names: vec![],
        time_ms: 1_800_000_000_000,
        upstream_scope: UpstreamScope::InsideGuest,
    }
    .encode();
    let b = binder(&statement);
    let manifest = tpm().manifest();
    let report = sp.report(sha512(&[b.as_bytes(), &manifest]).as_bytes()).unwrap();
    let q = sha256(&[b"EVIDENT-TPM\0", b.as_bytes(), sha384(&[&report]).as_bytes()]);
    let hardware = SvsmEvidence { report, manifest, nonce: Nonce::from_bytes(*b.as_bytes()) };
    let certificate = |bytes| Endorsement { media_type: media::CERTIFICATE.to_owned(), bytes };
    let info = |name: &str, digest, length| PartInfo {
        name: name.to_owned(),
        digest,
        length,
        media_type: media::EVENT_LOG.to_owned(),
    };
    let attest = Attest {
        purpose: AttestPurpose::Initial,
        seq: 0,
        statement,
        index: 0,
        siblings: vec![],
        hardware: vec![(HardwareFormat::SvsmManifest, hardware.encode())],
        tpm: Some(tpm().ak.quote(q.as_bytes(), |_| {})),
        endorsements: sp.certificates().into_iter().map(certificate).collect(),
        parts: vec![info(part::EVENT_LOG, digest, length), info(part::SETTINGS, sha256(&[b"settings"]), 8)],
        identity: vec![],
        client_evidence_wanted: false,
        features: 0,
        pool_idle_ms: 0,
    }
    .encode();
    let connection = Connection { leaf_certificate: &leaf_certificate, bind: bind(), attest: &attest };
    verify_connection(&connection, &anchors(), NOW).unwrap().0
}

/// How a guest answers.
#[derive(Clone, Copy)]
enum Guests {
    Well,
    WithAnotherLog,
    WithAnotherSecret,
    WithTheSecretFirst,
}

/// Answers until the client goes away; how many WANT and CRED came.
async fn guest(stream: DuplexStream, manner: Guests) -> (usize, usize) {
    let mut framed = Framed::new(stream);
    let (mut wants, mut credentials) = (0, 0);
    loop {
        let frame = match framed.read().await {
            Ok(frame) => frame,
            Err(FramingError::Ended | FramingError::Io(_)) => return (wants, credentials),
            Err(error) => panic!("{error}"),
        };
        match frame.kind {
            FrameType::Want => {
                wants += 1;
                if matches!(manner, Guests::WithTheSecretFirst) {
                    let secret = CredentialSecret::from_bytes([0; 32]);
                    let body = CredentialResponse { secret }.encode();
                    let _ = framed.write(FrameType::CredResponse, &body).await;
                    continue;
                }
                for digest in parse_want(&frame.body).unwrap() {
                    let mut bytes = if digest == sha256(&[log()]) { log().clone() } else { b"settings".to_vec() };
                    if matches!(manner, Guests::WithAnotherLog) {
                        *bytes.last_mut().unwrap() ^= 1;
                    }
                    for body in encode_parts(&digest, &bytes) {
                        let _ = framed.write(FrameType::Part, &body).await;
                    }
                }
            }
            FrameType::Cred => {
                credentials += 1;
                let mut secret = *tpm().activate(&Credential::parse(&frame.body).unwrap()).as_bytes();
                if matches!(manner, Guests::WithAnotherSecret) {
                    secret[31] ^= 1;
                }
                let body = CredentialResponse { secret: CredentialSecret::from_bytes(secret) }.encode();
                let _ = framed.write(FrameType::CredResponse, &body).await;
            }
            kind => panic!("{kind:?}"),
        }
    }
}

async fn asked(known: &Known, manner: Guests) -> (Result<Complete, AskError>, (usize, usize)) {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let served = tokio::spawn(guest(theirs, manner));
    let mut framed = Framed::new(ours);
    let outcome = complete(&mut framed, evidence(), None, &anchors(), known).await;
    drop(framed);
    (outcome, served.await.unwrap())
}

fn refused(outcome: Result<Complete, AskError>) -> &'static str {
    match outcome {
        Err(AskError::Guest(finding)) => finding.id(),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("accepted"),
    }
}

#[tokio::test]
async fn parts_and_proof_are_asked_for_once_and_known_from_then_on() {
    let known = Known::default();
    let (first, asked_first) = asked(&known, Guests::Well).await;
    let Complete { evidence, parts, proven } = first.unwrap_or_else(|error| panic!("{error}"));
    assert!(evidence.parts().event_log().is_some() && evidence.parts().settings() == Some(b"settings"));
    assert_eq!(parts.len(), 2);
    let tpm = evidence.tpm().unwrap();
    if BACKEND == "ring" {
        // No OAEP: nothing is asked, and nothing is proven.
        assert_eq!((proven, tpm.link(), asked_first), (false, Link::GuestAsserted, (1, 0)));
        return;
    }
    assert_eq!((proven, tpm.link(), asked_first), (true, Link::FirmwareAsserted, (1, 1)));
    assert!(matches!(tpm.proof(), AkProof::Credential));
    let (second, asked_second) = asked(&known, Guests::Well).await;
    let second = second.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((second.parts.len(), second.proven, asked_second), (2, true, (0, 0)), "nothing is asked again");
    assert_eq!(second.evidence.tpm().unwrap().link(), Link::FirmwareAsserted);
}

#[tokio::test]
async fn proto_d5_a_part_with_other_bytes_is_the_guests_fault_and_is_not_kept() {
    let known = Known::default();
    assert_eq!(refused(asked(&known, Guests::WithAnotherLog).await.0), "B_PART");
    let (again, (wants, _)) = asked(&known, Guests::Well).await;
    assert!(again.is_ok() && wants == 1, "the bad one was not kept");
}

#[tokio::test]
async fn plat_n55_another_secret_refuses_and_is_not_remembered() {
    if BACKEND == "ring" {
        return;
    }
    let known = Known::default();
    assert_eq!(refused(asked(&known, Guests::WithAnotherSecret).await.0), "T_AK_PROOF");
    let (again, (_, credentials)) = asked(&known, Guests::Well).await;
    assert!(again.is_ok() && credentials == 1);
}

#[tokio::test]
async fn an_answer_to_nothing_ends_the_connection() {
    let (outcome, _) = asked(&Known::default(), Guests::WithTheSecretFirst).await;
    assert!(matches!(outcome, Err(AskError::Framing(FramingError::Unexpected { wanted: "PART", .. }))));
}
