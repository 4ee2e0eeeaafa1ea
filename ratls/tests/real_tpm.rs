//! Quotes and HCL reports of real machines (`../shared/evidence`): each is accepted as it is, and refused with any byte changed.

mod shared;

use std::path::Path;

use ratls::crypto::{self, Scheme};
use ratls::endorsement::TrustAnchors;
use ratls::evidence::event_log::{Comparison, EventLog, Replay};
use ratls::evidence::hcl::{Hcl, HclError};
use ratls::evidence::tpm::{Bank, Hierarchy, PcrValues, Public, Quoted, Signature};
use ratls::time::UnixTime;
use ratls::verify::quote::verify_quote_of_file;
use ratls::verify::{QuoteError, verify_quote, verify_report};
use serde_json::Value;
use shared::checkquote::{self, Files};

fn read(path: impl AsRef<Path>) -> Vec<u8> {
    std::fs::read(path.as_ref()).unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

fn json(path: impl AsRef<Path>) -> Value {
    serde_json::from_slice(&read(path)).unwrap()
}

fn unhex(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn pcrs(bank: Bank, map: &Value) -> PcrValues {
    let values: Vec<_> = map.as_object().unwrap().iter().map(|(i, v)| (i.parse::<u8>().unwrap(), unhex(v))).collect();
    PcrValues::new(bank, values.iter().map(|(index, value)| (*index, &value[..]))).unwrap()
}

/// A quote with everything that it takes to judge it.
#[derive(Clone)]
struct Case {
    name: String,
    public: Public,
    attest: Vec<u8>,
    signature: Signature,
    nonce: Vec<u8>,
    pcrs: PcrValues,
}

impl Case {
    fn verify(&self) -> Result<ratls::verify::VerifiedQuote, QuoteError> {
        verify_quote(&self.public, &self.attest, &self.signature, &self.nonce, &self.pcrs)
    }

    fn refused_as(&self, id: &str) {
        match self.verify() {
            Ok(_) => panic!("{}: accepted, wanted {id}", self.name),
            Err(error) => assert_eq!(error.id(), id, "{}: {error}", self.name),
        }
    }
}

fn azure(folder: &Path) -> Vec<Case> {
    let of = |id: &str| {
        let dir = folder.join("azure").join(id);
        let hcl = Hcl::parse(&read(dir.join("hcl.bin"))).unwrap();
        let public = Public::azure_ak(&hcl.claims().ak_modulus).unwrap();
        let nonce = unhex(&json(dir.join("case.json"))["quotes"][0]["extra_data"]);
        let signature = Signature::parse_file(&read(dir.join("quote.sig")), public.key()).unwrap();
        let pcrs = pcrs(Bank::Sha256, &json(dir.join("pcrs.json")));
        Case { name: id.into(), public, attest: read(dir.join("quote.msg")), signature, nonce, pcrs }
    };
    vec![of("hcl-snp-12afe089"), of("hcl-snp-5145bacd")]
}

/// The form in which vaportpm stores a P-256 key, a quote and its signature in DER.
fn vaportpm(file: &Path, bank: Bank) -> Case {
    let fixture = json(file);
    let key = &fixture["ak_pubkeys"]["ecc_p256"];
    let coordinate = |name: &str| unhex(&key[name]).try_into().unwrap();
    let public = Public::gce_ecc_ak(&coordinate("x"), &coordinate("y")).unwrap();
    let quote = &fixture["attestation"]["tpm"]["ecc_p256"];
    Case {
        name: file.file_name().unwrap().to_string_lossy().into(),
        attest: unhex(&quote["attest_data"]),
        signature: Signature::parse_file(&unhex(&quote["signature"]), public.key()).unwrap(),
        nonce: unhex(&fixture["nonce"]),
        pcrs: pcrs(bank, &fixture["pcrs"][bank.as_str()]),
        public,
    }
}

/// Fields of one protobuf message: enough of the format to read go-tpm-tools' attestations.
fn fields(mut message: &[u8]) -> Vec<(u64, u64, &[u8])> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let (byte, rest) = bytes.split_first().unwrap();
            *bytes = rest;
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        value
    }
    let mut found = vec![];
    while !message.is_empty() {
        let key = varint(&mut message);
        let value = varint(&mut message);
        let (bytes, rest) = if key & 7 == 2 { message.split_at(value as usize) } else { (&message[..0], message) };
        found.push((key >> 3, value, bytes));
        message = rest;
    }
    found
}

/// The quotes of a go-tpm-tools attestation: SHA-256 and SHA-384 as cases, and the algorithms of all.
fn go_tpm_tools(file: &Path, nonce: &[u8]) -> (Vec<Case>, Vec<u64>) {
    let bytes = read(file);
    let attestation = fields(&bytes);
    let public = Public::parse(attestation.iter().find(|(field, ..)| *field == 1).unwrap().2).unwrap();
    let (mut cases, mut algorithms) = (vec![], vec![]);
    for (_, _, quote) in attestation.iter().filter(|(field, ..)| *field == 2) {
        let quote = fields(quote);
        let registers = fields(quote[2].2);
        algorithms.push(registers[0].1);
        let Some(bank) = Bank::from_algorithm(registers[0].1 as u16) else { continue };
        let values: Vec<_> = registers[1..]
            .iter()
            .map(|(_, _, entry)| {
                let entry = fields(entry);
                let index = entry.iter().find(|(field, ..)| *field == 1).map_or(0, |(_, index, _)| *index as u8);
                (index, entry.iter().find(|(field, ..)| *field == 2).unwrap().2)
            })
            .collect();
        cases.push(Case {
            name: format!("{} {bank}", file.display()),
            public: public.clone(),
            attest: quote[0].2.to_vec(),
            signature: Signature::parse(quote[1].2).unwrap(),
            nonce: nonce.to_vec(),
            pcrs: PcrValues::new(bank, values).unwrap(),
        });
    }
    (cases, algorithms)
}

fn all(folder: &Path) -> Vec<Case> {
    let mut cases = azure(folder);
    cases.push(vaportpm(&folder.join("tpm-gcp/test-gcp-amd-fixture.json"), Bank::Sha256));
    cases.push(vaportpm(&folder.join("tpm-aws/test-nitro-fixture.json"), Bank::Sha384));
    for (file, nonce) in [("gce-cos-85-no-nonce", &[][..]), ("gce-cos-85-nonce9009", &[0x90, 0x09])] {
        let (found, algorithms) = go_tpm_tools(&folder.join(format!("tpm-gcp/attestations__{file}.pb")), nonce);
        assert_eq!(
            (found.len(), algorithms),
            (2, vec![4, 11, 12]),
            "SHA-1, SHA-256, SHA-384; the first is no bank here"
        );
        cases.extend(found);
    }
    cases
}

#[test]
fn every_real_quote_verifies_under_its_key() {
    let Some(folder) = shared::folder("every_real_quote_verifies_under_its_key") else { return };
    let cases = all(&folder);
    assert_eq!(cases.len(), 8);
    for case in cases {
        let quote = case.verify().unwrap_or_else(|error| panic!("{}: {error}", case.name));
        assert_eq!(quote.pcrs().indices().count(), 24);
        assert!(quote.missing([0, 7, 23]).is_empty());
        assert_eq!(quote.pcrs(), &case.pcrs);
        println!("{}: {:?}, {:?}", case.name, quote.hierarchy(), quote.clock());
        assert_eq!(
            verify_quote_of_file(&case.public, &case.attest, &case.signature, &case.pcrs).unwrap().clock(),
            quote.clock()
        );
    }
}

/// Field 3 of an attestation is the log. IMA extended register 10 after it.
#[test]
fn the_event_log_beside_a_real_quote_leads_to_the_registers_that_it_covers() {
    let Some(folder) = shared::folder("the_event_log_beside_a_real_quote_leads_to_the_registers_that_it_covers") else {
        return;
    };
    for (file, nonce) in [("gce-cos-85-no-nonce", &[][..]), ("gce-cos-85-nonce9009", &[0x90, 0x09])] {
        let path = folder.join(format!("tpm-gcp/attestations__{file}.pb"));
        let bytes = read(&path);
        let log = fields(&bytes).into_iter().find(|(field, ..)| *field == 3).unwrap().2.to_vec();
        let log = EventLog::parse(&log).unwrap();
        assert_eq!(log.events().len(), 44, "{file}");
        for case in go_tpm_tools(&path, nonce).0 {
            let replay = Replay::of(&log, case.pcrs.bank()).unwrap();
            let differ: Vec<u8> = (0..24)
                .filter(|pcr| matches!(replay.compare(*pcr, &case.pcrs), Comparison::Different { .. }))
                .collect();
            assert_eq!(differ, [10], "{}", case.name);
        }
    }
}

#[test]
fn real_quotes_are_refused_with_any_bit_of_them_changed() {
    let Some(folder) = shared::folder("real_quotes_are_refused_with_any_bit_of_them_changed") else { return };
    for case in all(&folder) {
        for at in 0..case.attest.len() {
            let mut changed = case.clone();
            changed.attest[at] ^= 1 << (at % 8);
            let error = changed.verify().err().unwrap_or_else(|| panic!("{}: byte {at}", case.name));
            let wanted: &[&str] = match at {
                0..4 => &["Q_MAGIC"],
                4..6 => &["Q_TYPE"],
                _ => &["Q_PARSE", "Q_NONCE", "Q_SEL", "Q_DIG", "Q_QN", "Q_SIG"],
            };
            assert!(wanted.contains(&error.id()), "{}: byte {at}: {error}", case.name);
        }
        for at in 0..case.public.as_bytes().len() {
            let mut area = case.public.as_bytes().to_vec();
            area[at] ^= 1;
            if let Ok(public) = Public::parse(&area) {
                assert!(Case { public, ..case.clone() }.verify().is_err(), "{}: byte {at} of the key", case.name);
            }
        }
        for index in 0..24 {
            let values: Vec<_> = case
                .pcrs
                .iter()
                .map(|(i, v)| (i, v.as_bytes().iter().map(|b| if i == index { b ^ 1 } else { *b }).collect::<Vec<_>>()))
                .collect();
            let pcrs = PcrValues::new(case.pcrs.bank(), values.iter().map(|(i, v)| (*i, &v[..]))).unwrap();
            Case { pcrs, ..case.clone() }.refused_as("Q_DIG");
        }
        let flipped = |bytes: &[u8]| bytes.iter().enumerate().map(|(i, b)| if i == 9 { b ^ 1 } else { *b }).collect();
        let signature = match case.signature.clone() {
            Signature::RsaSsa { hash, signature } => Signature::RsaSsa { hash, signature: flipped(&signature) },
            Signature::Ecdsa { hash, r, s } => Signature::Ecdsa { hash, r, s: flipped(&s) },
            other => panic!("{other:?}"),
        };
        Case { signature, ..case.clone() }.refused_as("Q_SIG");
    }
}

/// TPMT_SIGNATURE, in which the tool wants it; two of the sources keep another form.
fn tpmt_signature(signature: &Signature) -> Vec<u8> {
    let sized = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat();
    let head = [signature.scheme().to_be_bytes(), signature.hash().algorithm().to_be_bytes()].concat();
    match signature {
        Signature::RsaSsa { signature, .. } => [head, sized(signature)].concat(),
        // DER's sign byte is no part of the number.
        Signature::Ecdsa { r, s, .. } => {
            let number = |n: &[u8]| sized(n.strip_prefix(&[0]).unwrap_or(n));
            [head, number(r), number(s)].concat()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn tpm2_checkquote_accepts_the_real_quotes_and_refuses_them_with_another_question() {
    let Some(folder) = shared::folder("tpm2_checkquote_accepts_the_real_quotes_and_refuses_them_with_another_question")
    else {
        return;
    };
    // The tool takes an empty question for none; two of the quotes answer one.
    for case in all(&folder).into_iter().filter(|case| !case.nonce.is_empty()) {
        let files = Files {
            public: case.public.as_bytes().to_vec(),
            attest: case.attest.clone(),
            signature: tpmt_signature(&case.signature),
            nonce: case.nonce.clone(),
            bank: case.pcrs.bank(),
            values: case.pcrs.iter().map(|(index, value)| (index, value.as_bytes().to_vec())).collect(),
        };
        assert!(checkquote::accepts(&files), "{}", case.name);
        let mut forged = files.clone();
        *forged.signature.last_mut().unwrap() ^= 1;
        assert!(!checkquote::accepts(&forged), "{}", case.name);
        assert!(!checkquote::accepts(&Files { nonce: vec![1; 32], ..files }), "{}", case.name);
    }
}

#[test]
fn a_quote_of_another_key_is_refused() {
    let Some(folder) = shared::folder("a_quote_of_another_key_is_refused") else { return };
    let cases = azure(&folder);
    let attest = read(folder.join("refuse/az-snp-vtpm__tpm-quote.msg"));
    let quoted = Quoted::parse(&attest).unwrap();
    for case in &cases {
        let signature =
            Signature::parse_file(&read(folder.join("refuse/az-snp-vtpm__tpm-quote.sig")), case.public.key()).unwrap();
        let refused = verify_quote(&case.public, &attest, &signature, &quoted.extra_data, &case.pcrs).unwrap_err();
        assert_eq!(refused.id(), "Q_QN", "{refused}");
        assert!(
            crypto::verify(
                Scheme::RsaPkcs1Sha256,
                &case.public.key().subject_public_key(),
                &attest,
                match &signature {
                    Signature::RsaSsa { signature, .. } => signature,
                    other => panic!("{other:?}"),
                }
            )
            .is_err()
        );
    }
    let [first, second] = &cases[..] else { panic!("two cases") };
    Case { public: second.public.clone(), ..first.clone() }.refused_as("Q_QN");
}

/// Only the signature and the signer can be judged: nobody published the register's value.
#[test]
fn a_quote_over_one_register_is_by_the_certified_key_and_covers_no_other() {
    let Some(folder) = shared::folder("a_quote_over_one_register_is_by_the_certified_key_and_covers_no_other") else {
        return;
    };
    let dir = folder.join("tpm-azure-ak");
    let attest = read(dir.join("azure_test.go.vtpm-quote.msg.bin"));
    let quoted = Quoted::parse(&attest).unwrap();
    assert_eq!((quoted.selections.len(), &quoted.selections[0].indices[..]), (1, &[1][..]));
    let certificate = read(dir.join("azure_test.go.cert-3fcb21ec.der"));
    let (_, certificate) = x509_parser::parse_x509_certificate(&certificate).unwrap();
    let Ok(x509_parser::public_key::PublicKey::RSA(key)) = certificate.public_key().parsed() else { panic!("RSA") };
    let public = Public::azure_ak(key.modulus.strip_prefix(&[0]).unwrap_or(key.modulus)).unwrap();
    assert_eq!(public.key().subject_public_key(), certificate.public_key().subject_public_key.data.as_ref());
    assert_eq!(public.qualified_name(Hierarchy::Endorsement).as_bytes(), quoted.qualified_signer);
    let signature = Signature::parse(&read(dir.join("azure_test.go.vtpm-quote.sig.bin"))).unwrap();
    let Signature::RsaSsa { signature: bytes, .. } = &signature else { panic!("RSASSA") };
    crypto::verify(Scheme::RsaPkcs1Sha256, &public.key().subject_public_key(), &attest, bytes).unwrap();
    let value = [0; 32];
    for (given, id) in [(&[1][..], "Q_DIG"), (&[0, 1], "Q_SEL"), (&[4], "Q_SEL")] {
        let pcrs = PcrValues::new(Bank::Sha256, given.iter().map(|index| (*index, &value[..]))).unwrap();
        let refused = verify_quote(&public, &attest, &signature, &quoted.extra_data, &pcrs).unwrap_err();
        assert_eq!(refused.id(), id, "{refused}");
    }
}

#[test]
fn every_real_hcl_report_is_what_its_case_says() {
    let Some(folder) = shared::folder("every_real_hcl_report_is_what_its_case_says") else { return };
    let mut seen = 0;
    for dir in std::fs::read_dir(folder.join("azure")).unwrap().map(|entry| entry.unwrap().path()) {
        let case = json(dir.join("case.json"));
        let hcl = Hcl::parse(&read(dir.join("hcl.bin")));
        let expect = case["expect"].as_str().unwrap();
        if expect == "refused" {
            assert_eq!(hcl, Err(HclError::ReportType { seen: 4 }), "{}", dir.display());
        } else {
            let hcl = hcl.unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
            let user_data = hcl.claims().user_data.map(|data| data.to_string()).unwrap_or_default();
            assert_eq!(user_data, case["facts"]["user_data"].as_str().unwrap().to_lowercase());
            assert_eq!(hcl.claims().ek_modulus.is_some(), case["facts"]["keys"].as_array().unwrap().len() == 2);
            assert_eq!(hcl.claims().configuration.secure_boot, Some(true));
        }
        if expect == "authentic" {
            let hcl = Hcl::parse(&read(dir.join("hcl.bin"))).unwrap();
            let (vek, issuer) = (read(dir.join("vek.der")), read(dir.join("issuer.der")));
            let at = UnixTime::parse_rfc3339(case["at"].as_str().unwrap()).unwrap();
            let report = verify_report(hcl.report(), &[&vek, &issuer], &[], &TrustAnchors::amd(), at).unwrap();
            assert_eq!(report.report().vmpl(), 0);
        }
        seen += 1;
    }
    assert!(seen >= 5, "{seen} cases");
}

#[test]
fn a_real_hcl_report_is_refused_with_any_byte_of_its_json_changed_and_shorter() {
    let Some(folder) = shared::folder("a_real_hcl_report_is_refused_with_any_byte_of_its_json_changed_and_shorter")
    else {
        return;
    };
    let blob = read(folder.join("azure/hcl-snp-12afe089/hcl.bin"));
    let length = usize::try_from(u32::from_le_bytes(blob[1232..1236].try_into().unwrap())).unwrap();
    for at in 1236..1236 + length {
        let mut changed = blob.clone();
        changed[at] ^= 1;
        assert_eq!(Hcl::parse(&changed), Err(HclError::NotHashed), "byte {at}");
    }
    assert!((0..1236 + length).all(|end| Hcl::parse(&blob[..end]).is_err()));
    assert!(Hcl::parse(&blob[..1236 + length]).is_ok(), "padding may be missing");
}
