//! Second opinions on TPMs: what swtpm quotes, `tpm2_checkquote` and we accept, and both refuse once it is changed; and what we
//! hide for an EK, swtpm finds.

#![allow(clippy::unwrap_used)]

mod shared;

use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};
use ratls::evidence::tpm::{Bank, PcrValues, Public, Signature};
use ratls::verify::credential::{OAEP_LABEL, Seed, id_object};
use ratls::verify::{QuoteError, verify_quote};
use shared::checkquote::{self, Files};
use simulator::tpm::command::{Channel, Command, ENDORSEMENT, Fields, response_code, sized};
use simulator::tpm::objects::{Bank as TpmBank, create_primary, extend, read_pcr, template};
use simulator::tpm::swtpm::Swtpm;

const QUOTE: u32 = 0x158;
const START_AUTH_SESSION: u32 = 0x176;
const POLICY_SECRET: u32 = 0x151;
const ACTIVATE_CREDENTIAL: u32 = 0x147;
const NULL: u32 = 0x4000_0007;
const NONCE: [u8; 32] = [0x5A; 32];

/// A swtpm that is asked again where it says TPM_RC_RETRY: it had something to write down first, and forgot nothing.
struct Patient(Swtpm);

impl Channel for Patient {
    fn transmit(&mut self, command: &[u8]) -> std::io::Result<Vec<u8>> {
        loop {
            let answer = self.0.transmit(command)?;
            if response_code(&answer) != Some(0x922) {
                return Ok(answer);
            }
        }
    }
}

fn swtpm(dir: &tempfile::TempDir) -> Patient {
    Patient(Swtpm::start(&dir.path().join("state"), &dir.path().join("tpm.sock")).unwrap())
}

/// The signing template that uses RSAPSS.
fn pss() -> Vec<u8> {
    let mut template = template::rsa_signing();
    let scheme = template.windows(2).position(|w| w == [0, 0x14]).unwrap();
    template[scheme + 1] = 0x16;
    template
}

/// TPMS_ATTEST and TPMT_SIGNATURE over these registers.
fn quote(tpm: &mut Patient, key: u32, bank: Bank, map: [u8; 3]) -> (Vec<u8>, Vec<u8>) {
    let selection = [&[0, 0, 0, 1][..], &bank.algorithm().to_be_bytes(), &[3], &map].concat();
    let command = Command::new(QUOTE).authorised(key).sized(&NONCE).u16(0x10).raw(&selection);
    let answer = command.run(tpm).unwrap();
    let mut fields = Fields::new(&answer.parameters);
    (fields.sized().unwrap().to_vec(), fields.rest().to_vec())
}

/// A check's id, and what makes it fail.
type Change = (&'static str, fn(&mut Files));

#[test]
fn swtpm_s_quotes_are_accepted_by_tpm2_checkquote_and_by_us_and_refused_by_both_once_changed() {
    let dir = tempfile::tempdir().unwrap();
    let mut tpm = swtpm(&dir);
    for pcr in [0, 4, 7, 11] {
        let digests = [(TpmBank::Sha256, vec![pcr; 32]), (TpmBank::Sha384, vec![pcr; 48])];
        extend(&mut tpm, pcr.into(), &digests).unwrap();
    }
    let templates =
        [("RSASSA", template::rsa_signing()), ("RSAPSS", pss()), ("ECDSA", template::ecc_signing(&[0; 32]))];
    for (scheme, template) in templates {
        for (bank, tpm_bank) in [(Bank::Sha256, TpmBank::Sha256), (Bank::Sha384, TpmBank::Sha384)] {
            let key = create_primary(&mut tpm, ENDORSEMENT, &template).unwrap();
            let (attest, signature) = quote(&mut tpm, key.handle, bank, [0x91, 0x08, 0x80]);
            simulator::tpm::objects::flush(&mut tpm, key.handle).unwrap();
            let values: Vec<_> =
                [0u8, 4, 7, 11, 23].map(|pcr| (pcr, read_pcr(&mut tpm, tpm_bank, pcr.into()).unwrap())).into();
            let files = Files { public: key.public, attest, signature, nonce: NONCE.to_vec(), bank, values };
            let ours = |files: &Files| verify(files).map_err(|error| error.id());
            assert_eq!(ours(&files), Ok(()), "{scheme} {bank}");
            // tpm2_checkquote 5.4 accepts no RSAPSS; there swtpm alone is the second opinion.
            let checked = scheme != "RSAPSS";
            assert_eq!(checkquote::accepts(&files), checked, "{scheme} {bank}");
            let changed: [Change; 5] = [
                ("Q_NONCE", |files| files.nonce[31] ^= 1),
                ("Q_NONCE", |files| files.attest[44] ^= 1),
                ("Q_DIG", |files| files.values[1].1[0] ^= 1),
                ("Q_SIG", |files| *files.signature.last_mut().unwrap() ^= 1),
                ("Q_SIG", |files| files.attest[80] ^= 1),
            ];
            for (id, change) in changed {
                let mut files = files.clone();
                change(&mut files);
                assert_eq!(ours(&files), Err(id), "{scheme} {bank}");
                assert!(!checkquote::accepts(&files), "{scheme} {bank}: {id}");
            }
        }
    }
}

fn verify(files: &Files) -> Result<(), QuoteError> {
    let public = Public::parse(&files.public).unwrap();
    let signature = Signature::parse(&files.signature).unwrap();
    let pcrs = PcrValues::new(files.bank, files.values.iter().map(|(i, v)| (*i, &v[..]))).unwrap();
    verify_quote(&public, &files.attest, &signature, &files.nonce, &pcrs).map(drop)
}

/// What swtpm finds in a credential, as its own software and not ours.
fn activate(tpm: &mut Patient, ak: u32, ek: u32, id_object: &[u8], encrypted_secret: &[u8]) -> Result<Vec<u8>, u32> {
    let start = Command::new(START_AUTH_SESSION).handle(NULL).handle(NULL);
    let start = start.sized(&[7; 16]).sized(&[]).raw(&[1]).u16(0x10).u16(0x0B).run(tpm).unwrap();
    let session = Fields::new(&start.parameters).u32().unwrap();
    let secret = Command::new(POLICY_SECRET).authorised(ENDORSEMENT).handle(session);
    secret.sized(&[]).sized(&[]).sized(&[]).u32(0).run(tpm).unwrap();
    // The AK by an empty password, the EK by the policy session.
    let password = [0x40, 0, 0, 9, 0, 0, 0, 0, 0];
    let policy = [&session.to_be_bytes()[..], &[0, 0, 0, 0, 0]].concat();
    let body = [
        &ak.to_be_bytes()[..],
        &ek.to_be_bytes(),
        &18u32.to_be_bytes(),
        &password,
        &policy,
        &sized(id_object),
        &sized(encrypted_secret),
    ]
    .concat();
    let size = u32::try_from(10 + body.len()).unwrap();
    let command = [&[0x80, 0x02][..], &size.to_be_bytes(), &ACTIVATE_CREDENTIAL.to_be_bytes(), &body].concat();
    let answer = tpm.transmit(&command).unwrap();
    match response_code(&answer).unwrap() {
        0 => Ok(Fields::new(&answer[14..]).sized().unwrap().to_vec()),
        code => Err(code),
    }
}

#[test]
fn swtpm_finds_the_secret_for_its_own_ak_and_for_no_other_name() {
    if ratls::crypto::BACKEND == "ring" {
        println!("skipped: swtpm_finds_the_secret_for_its_own_ak_and_for_no_other_name: ring makes no credentials");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut tpm = swtpm(&dir);
    let ek = create_primary(&mut tpm, ENDORSEMENT, &template::rsa_ek()).unwrap();
    let ak = create_primary(&mut tpm, ENDORSEMENT, &template::ecc_signing(&[0; 32])).unwrap();
    let other = create_primary(&mut tpm, ENDORSEMENT, &template::ecc_signing(&[1; 32])).unwrap();
    let [ek_public, ak_public, other_public] = [&ek, &ak, &other].map(|key| Public::parse(&key.public).unwrap());
    assert_eq!(ratls::evidence::svsm::Manifest::parse(&ek.public).unwrap().ek(), &ek_public);
    let (seed, secret) = ([3; 32], [4; 32]);
    let key = PublicEncryptingKey::from_der(&checkquote::spki(&ek_public)).unwrap();
    let mut encrypted = vec![0; 256];
    OaepPublicEncryptingKey::new(key)
        .unwrap()
        .encrypt(&OAEP_SHA256_MGF1SHA256, &seed, &mut encrypted, Some(OAEP_LABEL))
        .unwrap();
    let object = |name: &Public| id_object(&Seed::from_bytes(seed), &name.name(), &secret).unwrap();
    assert_eq!(activate(&mut tpm, ak.handle, ek.handle, &object(&ak_public), &encrypted), Ok(secret.to_vec()));
    // TPM_RC_INTEGRITY: made for a key of another name.
    let refused = activate(&mut tpm, ak.handle, ek.handle, &object(&other_public), &encrypted).unwrap_err();
    assert_eq!(refused & 0x3F, 0x1F, "{refused:#x}");
}
