//! dstack's attestations of SEV-SNP guests: a report with everything that was launched beside it, in two forms. One names the inputs in
//! JSON; the other is hex in JSON, names them in CBOR, and brings the certificates.

#![allow(dead_code, unreachable_pub)] // each test file uses a part

use std::path::Path;

use serde_json::{Map, Value};

pub struct Container {
    pub report: Vec<u8>,
    /// As the first form has them.
    pub inputs: Value,
    /// PEM, one each.
    pub certificates: Vec<String>,
}

pub fn read(file: &Path) -> Container {
    let mut bytes = std::fs::read(file).unwrap();
    if let Ok(json) = serde_json::from_slice::<Value>(&bytes) {
        bytes = hex::decode(json["attestation"].as_str().unwrap()).unwrap();
    }
    let start = bytes.windows(16).position(|w| w == b"{\"os_image_hash\"").unwrap();
    let config = serde_json::Deserializer::from_slice(&bytes[start..]).into_iter::<Value>().next().unwrap().unwrap();
    let inputs: Value = serde_json::from_str(config["sev_snp_measurement"].as_str().unwrap()).unwrap();
    // The report stands behind a header of four bytes.
    let report = bytes[4..4 + 1184].to_vec();
    Container { report, inputs: in_one_form(inputs), certificates: certificates(&bytes) }
}

fn certificates(bytes: &[u8]) -> Vec<String> {
    const END: &str = "-----END CERTIFICATE-----";
    let text = String::from_utf8_lossy(bytes);
    let begins = text.match_indices("-----BEGIN CERTIFICATE-----").map(|(at, _)| at);
    begins.map(|at| text[at..at + text[at..].find(END).unwrap() + END.len()].to_owned()).collect()
}

fn in_one_form(inputs: Value) -> Value {
    let Some(packed) = inputs["measurement"].as_str() else { return inputs };
    let bytes = base64(packed);
    let mut rest = &bytes[..];
    let mut measured = cbor(&mut rest);
    assert!(rest.is_empty());
    for section in measured["ovmf_sections"].as_array_mut().unwrap() {
        section["section_type"] = section["type"].take();
        section.as_object_mut().unwrap().remove("type");
    }
    let mut one = Map::new();
    for (name, known) in [
        ("cmdline", "base_cmdline"),
        ("ovmf_hash", "ovmf_hash"),
        ("kernel_hash", "kernel_hash"),
        ("initrd_hash", "initrd_hash"),
        ("hashes_table_gpa", "sev_hashes_table_gpa"),
        ("reset_eip", "sev_es_reset_eip"),
        ("ovmf_sections", "ovmf_sections"),
    ] {
        one.insert(known.to_owned(), measured[name].take());
    }
    for name in ["vcpus", "vcpu_type", "guest_features"] {
        one.insert(name.to_owned(), inputs[name].clone());
    }
    Value::Object(one)
}

/// Numbers, bytes as hex, texts, lists and maps of definite length.
fn cbor(rest: &mut &[u8]) -> Value {
    fn take<'a>(rest: &mut &'a [u8], n: usize) -> &'a [u8] {
        let (now, later) = rest.split_at(n);
        *rest = later;
        now
    }
    let head = take(rest, 1)[0];
    let n = match head & 31 {
        n @ 0..24 => u64::from(n),
        n => take(rest, 1 << (n - 24)).iter().fold(0, |value, byte| (value << 8) | u64::from(*byte)),
    };
    let length = usize::try_from(n).unwrap();
    match head >> 5 {
        0 => n.into(),
        2 => hex::encode(take(rest, length)).into(),
        3 => String::from_utf8(take(rest, length).to_vec()).unwrap().into(),
        4 => (0..n).map(|_| cbor(rest)).collect::<Vec<_>>().into(),
        5 => {
            let pairs = (0..n).map(|_| (cbor(rest).as_str().unwrap().to_owned(), cbor(rest)));
            Value::Object(pairs.collect())
        }
        kind => panic!("CBOR of major type {kind}"),
    }
}

fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits: Vec<usize> = text.bytes().filter_map(|byte| DIGITS.iter().position(|digit| *digit == byte)).collect();
    digits
        .chunks(4)
        .flat_map(|four| {
            let word = four.iter().fold(0, |word, digit| (word << 6) | digit) << (6 * (4 - four.len()));
            (0..four.len() - 1).map(move |at| ((word >> (16 - 8 * at)) & 0xFF) as u8)
        })
        .collect()
}
