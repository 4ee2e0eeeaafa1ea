//! Targets for the files that reference values are made from: what an operator downloaded, and what rebuilders signed.

use std::sync::LazyLock;

use data_encoding::BASE64;
use ratls::crypto::sha256;
use ratls::evidence::tpm::Bank;
use ratls::launch::measure_igvm;
use ratls::reference::{
    Envelope, PeImage, RebuildError, Rebuilder, Rebuilders, SUPERBLOCK_BYTES, TrustedKey, Unified, VerityFormat,
    VerityHasher,
};
use rcgen::{KeyPair, PKCS_ED25519, PublicKeyData, SigningKey};

/// A file is measured whole or not at all, and its name is no part of its measurement.
pub fn igvm(data: &[u8]) {
    let Ok(launch) = measure_igvm(data, "a.igvm") else { return };
    assert!(launch.vcpus() > 0 && launch.files().len() == 1);
    assert_eq!(measure_igvm(data, "b.igvm").map(|again| again.digest()), Ok(launch.digest()));
    assert!(measure_igvm(&[data, &[0]].concat(), "a.igvm").is_err());
    assert!(measure_igvm(&data[..data.len() - 1], "a.igvm").is_err());
}

/// A rebuilder's key, and the same as a policy has it.
struct Key {
    pair: KeyPair,
    public: TrustedKey,
}

static KEYS: LazyLock<[Key; 2]> = LazyLock::new(|| {
    [(), ()].map(|()| {
        let pair = KeyPair::generate_for(&PKCS_ED25519).expect("the system gives random numbers");
        let public = TrustedKey::parse(&BASE64.encode(&pair.subject_public_key_info())).expect("an ed25519 key");
        Key { pair, public }
    })
});

fn rebuilders(keys: &[&Key], at_least: usize) -> Rebuilders {
    let named = |(name, key): (&str, &&Key)| Rebuilder { name: name.to_owned(), key: key.public.clone() };
    Rebuilders::new(["a", "b"].into_iter().zip(keys).map(named).collect(), at_least).expect("two keys that differ")
}

/// Nothing counts that nobody signed, one signer is one rebuilder however often he says it, and what he says of a source stays
/// on its line. After an even byte `data` is an envelope, after an odd one a payload that gets signed.
pub fn dsse(data: &[u8]) {
    let Some((choice, data)) = data.split_first() else { return };
    let [known, other] = &*KEYS;
    let trusted = rebuilders(&[known], 1);
    if choice % 2 == 0 {
        if let Ok(envelope) = Envelope::parse(data) {
            assert!(!envelope.is_signed_by(&known.public), "signed without the key");
        }
        assert!(trusted.check(&[("a", data)]).is_err(), "nobody signed it");
        return;
    }
    let file = signed(&known.pair, data);
    assert!(Envelope::parse(&file).is_ok_and(|envelope| envelope.payload() == data));
    let refused = rebuilders(&[other], 1).check(&[("a", &file)]);
    assert_eq!(refused, Err(RebuildError::NotSigned { file: "a".to_owned() }));
    let Ok(rebuilds) = trusted.check(&[("a", &file)]) else { return };
    for rebuild in &rebuilds {
        assert_eq!(rebuild.by(), ["a"]);
        assert!(!rebuild.source().is_empty() && !rebuild.source().contains(char::is_control));
        let named = rebuild.sha256().to_string();
        let text = String::from_utf8_lossy(data).to_ascii_lowercase();
        // JSON may write a digit as \u0061.
        assert!(text.contains(&named) || text.contains("\\u"), "a digest that the statement does not have");
    }
    let both = rebuilders(&[known, other], 2);
    assert!(both.check(&[("a", &file), ("again", &file)]).is_err(), "one signer counts once");
}

fn signed(pair: &KeyPair, payload: &[u8]) -> Vec<u8> {
    let kind = "application/vnd.in-toto+json";
    let head = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len());
    let signature = pair.sign(&[head.as_bytes(), payload].concat()).expect("an ed25519 key signs");
    let (payload, signature) = (BASE64.encode(payload), BASE64.encode(&signature));
    format!(r#"{{"payloadType":"{kind}","payload":"{payload}","signatures":[{{"sig":"{signature}"}}]}}"#).into_bytes()
}

/// The root is the one that the tree has when it is made level by level, however the image came. `data` is a superblock and an image.
pub fn verity(data: &[u8]) {
    let Some((superblock, image)) = data.split_at_checked(SUPERBLOCK_BYTES) else { return };
    let Ok(format) = VerityFormat::from_superblock(superblock) else { return };
    let hashed = |pieces: usize| {
        let mut hasher: VerityHasher = format.clone().hasher();
        image.chunks(pieces).for_each(|piece| hasher.update(piece));
        hasher.finish()
    };
    let whole = hashed(usize::MAX);
    assert_eq!(whole, hashed(513));
    let Ok(whole) = whole else { return };
    assert_eq!(whole.file(), sha256(&[image]));
    assert_eq!(whole.root().as_bytes()[..], level_by_level(superblock, image));
}

fn level_by_level(superblock: &[u8], image: &[u8]) -> Vec<u8> {
    let number = |at: usize, bytes: usize| {
        superblock[at..at + bytes].iter().rev().fold(0_usize, |value, byte| (value << 8) | usize::from(*byte))
    };
    let (data_block, hash_block, blocks) = (number(64, 4), number(68, 4), number(72, 8));
    let salt = &superblock[88..88 + number(80, 2)];
    let hash = |block: &[u8]| sha256(&[salt, block]).as_bytes().to_vec();
    let mut level: Vec<_> = image.chunks_exact(data_block).take(blocks).map(hash).collect();
    while level.len() > 1 {
        let block = |digests: &[Vec<u8>]| {
            let mut block = digests.concat();
            block.resize(hash_block, 0);
            hash(&block)
        };
        level = level.chunks(hash_block / 32).map(block).collect();
    }
    level.concat()
}

/// A unified kernel's sections are bytes of the file with zeros behind them, and a byte that changes one changes the digest that
/// firmware measures.
pub fn uki(data: &[u8]) {
    let Ok(image) = PeImage::parse(data) else { return };
    let digest = image.digest(Bank::Sha256);
    let Some(unified) = Unified::of(&image) else { return };
    for (name, content) in unified.sections() {
        let end = content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        if end == 0 {
            continue;
        }
        let at = data.windows(end).position(|window| window == &content[..end]).expect("content that the file has");
        let mut changed = data.to_vec();
        changed[at] ^= 1;
        // The same bytes may stand elsewhere too, in the table of certificates for one, which no digest covers.
        if let Ok(other) = PeImage::parse(&changed)
            && other.section(name) != image.section(name)
        {
            assert_ne!(other.digest(Bank::Sha256), digest);
        }
    }
    assert_ne!(unified.pcr11(Bank::Sha256, &[]), unified.pcr11(Bank::Sha256, &["enter-initrd"]));
}
