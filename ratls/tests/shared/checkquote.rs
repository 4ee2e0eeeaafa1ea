//! `tpm2_checkquote` of Debian's tpm2-tools, as another reader of quotes.

#![allow(dead_code, unreachable_pub)] // each test file uses a part

use std::fs;
use std::process::Command;

use ratls::evidence::tpm::{Bank, Key, Public};

/// A quote as the tool takes it.
#[derive(Clone)]
pub struct Files {
    /// TPMT_PUBLIC.
    pub public: Vec<u8>,
    pub attest: Vec<u8>,
    /// TPMT_SIGNATURE.
    pub signature: Vec<u8>,
    pub nonce: Vec<u8>,
    pub bank: Bank,
    pub values: Vec<(u8, Vec<u8>)>,
}

/// Whether the tool accepts it. Values are left out where there are more than eight: version 5.4 fails on 24 of them.
pub fn accepts(files: &Files) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let length = u16::try_from(files.public.len()).unwrap().to_be_bytes();
    fs::write(path("ak.pub"), [&length[..], &files.public].concat()).unwrap();
    fs::write(path("quote.msg"), &files.attest).unwrap();
    fs::write(path("quote.sig"), &files.signature).unwrap();
    let values: Vec<u8> = files.values.iter().flat_map(|(_, value)| value.clone()).collect();
    fs::write(path("pcrs"), values).unwrap();
    let indices = files.values.iter().map(|(index, _)| index.to_string()).collect::<Vec<_>>().join(",");
    let mut command = Command::new("tpm2_checkquote");
    if files.values.len() <= 8 {
        command.args(["-l", &format!("{}:{indices}", files.bank)]).arg("-f").arg(path("pcrs"));
    }
    let output = command
        .args(["-g", "sha256", "-q", &hex::encode(&files.nonce)])
        .arg("-u")
        .arg(path("ak.pub"))
        .arg("-m")
        .arg(path("quote.msg"))
        .arg("-s")
        .arg(path("quote.sig"))
        .output()
        .expect("tpm2_checkquote of tpm2-tools runs; `cargo xtask setup` installs it");
    if !output.status.success() {
        println!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    output.status.success()
}

/// SubjectPublicKeyInfo of an RSA key of 2048 bit.
pub fn spki(public: &Public) -> Vec<u8> {
    let Key::Rsa { .. } = public.key() else { panic!("an RSA key") };
    let key = public.key().subject_public_key();
    let length = |n: usize| u16::try_from(n).unwrap().to_be_bytes();
    let bits = [&[3, 0x82][..], &length(key.len() + 1), &[0], &key].concat();
    let algorithm = [0x30, 13, 6, 9, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 1, 1, 5, 0];
    [&[0x30, 0x82][..], &length(algorithm.len() + bits.len()), &algorithm, &bits].concat()
}
