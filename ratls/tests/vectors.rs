//! docs/vectors/evident-1.txt is what a second implementation is held to; this holds us to it.
//!
//! Each vector is computed from the inputs below and must equal the line in the file. After a deliberate change of the
//! wire: `EVIDENT_WRITE_VECTORS=1 cargo test -p ratls --test vectors`.

use std::fmt::Write as _;
use std::path::PathBuf;

use ratls::binding::exporter::{BIND_LABEL, ID_LABEL};
use ratls::binding::leaf::leaf_hash;
use ratls::binding::statement::{Epoch, LogDigest};
use ratls::binding::*;
use ratls::cert::KeyEvidence;
use ratls::crypto::sha256;
use ratls::wire::attest::*;
use ratls::wire::control::*;
use ratls::wire::frame::{FrameType, encode};
use ratls::wire::parts::{encode_parts, encode_want};

fn leaves(n: u32) -> Vec<LeafHash> {
    (0..n).map(|i| LeafHash::from_bytes(*sha256(&[&i.to_be_bytes()]).as_bytes())).collect()
}

fn statement(root: Root, n: u32) -> Statement {
    Statement {
        profile: Profile::Snp,
        purpose: Purpose::Batch,
        root,
        n,
        spki: SpkiDigest::from_bytes([0x22; 32]),
        epoch: Epoch::from_bytes([0x33; 16]),
        counter: 7,
        ak: None,
        logs: vec![],
        config: sha256(&[b"settings"]),
        names: vec!["llm.example".into()],
        time_ms: 1_800_000_000_000,
        upstream_scope: UpstreamScope::InsideGuest,
    }
}

fn vectors() -> Vec<(String, Vec<u8>)> {
    let mut v: Vec<(String, Vec<u8>)> = vec![];
    let mut add = |name: &str, bytes: &[u8]| v.push((name.to_owned(), bytes.to_vec()));

    let secret = ExporterSecret::from_key_log(&[0x11; 32]).unwrap();
    add("exporter: secret 32 x 11, bind label, empty context", &secret.export(BIND_LABEL, b"")[..]);
    add("exporter: secret 32 x 11, id label, empty context", &secret.export(ID_LABEL, b"")[..]);
    let long = ExporterSecret::from_key_log(&[0x11; 48]).unwrap();
    add("exporter: secret 48 x 11, bind label, empty context", &long.export(BIND_LABEL, b"")[..]);

    let spki = SpkiDigest::from_bytes([0x22; 32]);
    let bind = Bind32::from_exporter([0x44; 32]);
    let leaf = leaf_hash(LeafType::ChannelInitial, Role::Server, &spki, &bind);
    add("leaf: type 1, role server, spki 32 x 22, bind 32 x 44", leaf.as_bytes());
    add("leaf: type 3, role server, spki 32 x 22", KeyLeaf::new(&spki).hash().as_bytes());
    for n in [1, 2, 3, 5, 1000] {
        let tree = Tree::build(&leaves(n)).unwrap();
        add(&format!("root: leaves SHA-256(u32 i), i below {n}"), tree.root().as_bytes());
    }
    let tree = Tree::build(&leaves(5)).unwrap();
    let path: Vec<u8> = tree.path(3).unwrap().iter().flat_map(|s| *s.as_bytes()).collect();
    add("path: leaf 3 of those 5", &path);

    let small = statement(tree.root(), 5).encode();
    add("statement: small", &small);
    let full = Statement {
        purpose: Purpose::Key,
        ak: Some(sha256(&[b"ak"])),
        logs: vec![
            LogDigest { name: "ima".into(), length: 2, digest: sha256(&[b"ima"]) },
            LogDigest { name: "tcg".into(), length: 3, digest: sha256(&[b"tcg"]) },
        ],
        upstream_scope: UpstreamScope::OutsideGuest,
        ..statement(tree.root(), 5)
    };
    add("statement: full", &full.encode());
    let b = binder(&small);
    add("B: of the small statement", b.as_bytes());
    add("Q: of that B and a report of 1184 zero bytes", quote_binder(&b, &[0; 1184]).as_bytes());

    let attest = Attest {
        purpose: AttestPurpose::Initial,
        seq: 0,
        statement: small.clone(),
        index: 3,
        siblings: tree.path(3).unwrap(),
        hardware: vec![(HardwareFormat::SnpReport, vec![0x55; 8])],
        tpm: None,
        endorsements: vec![Endorsement { media_type: media::CERTIFICATE.into(), bytes: vec![0x66; 4] }],
        parts: vec![PartInfo {
            name: "settings".into(),
            digest: sha256(&[b"settings"]),
            length: 8,
            media_type: media::SETTINGS.into(),
        }],
        identity: vec![],
        client_evidence_wanted: false,
        features: 0,
        pool_idle_ms: 60_000,
    };
    assert_eq!(Attest::parse(&attest.encode()), Ok(attest.clone()));
    add("frame: ATTEST (report and certificate shortened)", &encode(FrameType::Attest, &attest.encode()));
    add("frame: WANT", &encode(FrameType::Want, &encode_want(&[sha256(&[b"settings"])])));
    let part = encode_parts(&sha256(&[b"settings"]), b"settings").next().unwrap();
    add("frame: PART", &encode(FrameType::Part, &part));
    let open = Open {
        number: 0,
        mode: Mode::Framed,
        target: Some("llm.example".into()),
        inner_alpn: None,
        features: 0,
        token: Some(b"secret".to_vec()),
    };
    add("frame: OPEN", &encode(FrameType::Open, &open.encode()));
    add("frame: ACCEPT", &encode(FrameType::Accept, &Accept { number: 0, max_lifetime_secs: 86_400 }.encode()));
    let refuse = Refuse { number: 0, code: RefuseCode::UpstreamRefused, text: "no".into() };
    add("frame: REFUSE", &encode(FrameType::Refuse, &refuse.encode()));
    let close = Close { retry_after_ms: 1500, ..Close::new(CloseCode::QueueFull, "busy") };
    add("frame: CLOSE", &encode(FrameType::Close, &close.encode()));
    add("frame: DATA", &encode(FrameType::Data, b"hello"));
    add("frame: FIN", &encode(FrameType::Fin, b""));

    let evidence = KeyEvidence {
        statement: small,
        hardware: vec![(HardwareFormat::SnpReport, vec![0x55; 8])],
        tpm: None,
        endorsements: attest.endorsements,
    };
    assert_eq!(KeyEvidence::parse_extension(&evidence.encode_extension()), Ok(evidence.clone()));
    add("extension: CMW (report and certificate shortened)", &evidence.encode_extension());
    v
}

#[test]
fn the_published_vectors_are_what_this_crate_computes() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/vectors/evident-1.txt");
    let mut wanted = String::from(
        "# Test vectors of evident/1: a name, an equals sign and hex. The inputs are in the name or in the vectors before;\n\
         # statements say: spki 32 x 22, epoch 16 x 33, counter 7, config SHA-256(\"settings\"), time 1800000000000.\n",
    );
    for (name, bytes) in vectors() {
        writeln!(wanted, "{name} = {}", hex::encode(bytes)).unwrap();
    }
    if std::env::var_os("EVIDENT_WRITE_VECTORS").is_some() {
        std::fs::write(&file, &wanted).unwrap();
    }
    let published = std::fs::read_to_string(&file).expect("docs/vectors/evident-1.txt");
    for (ours, theirs) in wanted.lines().zip(published.lines()) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(wanted.lines().count(), published.lines().count());
}
