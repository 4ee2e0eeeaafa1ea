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
use ratls::evidence::svsm::Nonce;
use ratls::evidence::tpm::Public;
use ratls::verify::credential::{Seed, id_object};
use ratls::wire::attest::*;
use ratls::wire::control::*;
use ratls::wire::credential::{Credential, CredentialResponse, CredentialSecret};
use ratls::wire::frame::{FrameType, encode};
use ratls::wire::parts::{encode_parts, encode_want};
use ratls::wire::svsm::SvsmEvidence;

/// Made with openssl and a second KDFa, so that the backend without AES publishes it too.
const ID_OBJECT: &str = "00203e856f13ced78e102fb0fd618a8618a4eafa69f5630bfdae3612614ce10678d684f6bb746fbf16c1fa5705ce3eaaaffcf6f2cf7603ec1c9bc2979888d8f690a9e178";

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

    let tpm = TpmEvidence {
        attest: vec![0x77; 4],
        signature: vec![0x88; 4],
        bank: 0x000B,
        pcrs: [(0, vec![0x99; 32]), (23, vec![0xAA; 32])].into(),
        public: vec![0xBB; 4],
    };
    let svsm = SvsmEvidence { report: vec![0x55; 8], manifest: vec![0xCC; 4], nonce: Nonce::from_bytes(*b.as_bytes()) };
    add("hardware: SVSM (report and manifest shortened)", &svsm.encode());
    let with_tpm = Attest {
        hardware: vec![(HardwareFormat::SvsmManifest, svsm.encode())],
        tpm: Some(tpm.clone()),
        endorsements: vec![],
        parts: vec![],
        ..attest
    };
    assert_eq!(Attest::parse(&with_tpm.encode()), Ok(with_tpm.clone()));
    add("frame: ATTEST with a TPM (structures shortened)", &encode(FrameType::Attest, &with_tpm.encode()));
    let credential = Credential { id_object: vec![0xDD; 4], encrypted_secret: vec![0xEE; 4] };
    add("frame: CRED (buffers shortened)", &encode(FrameType::Cred, &credential.encode()));
    let response = CredentialResponse { secret: CredentialSecret::from_bytes([0xFF; 32]) };
    add("frame: CRED_RESP", &encode(FrameType::CredResponse, &response.encode()));
    let name = Public::gce_ecc_ak(&[1; 32], &[2; 32]).unwrap().name();
    if ratls::crypto::BACKEND != "ring" {
        let object = id_object(&Seed::from_bytes([3; 32]), &name, &[4; 32]).unwrap();
        assert_eq!(hex::encode(object), ID_OBJECT);
    }
    add("AK name: GCE's template on P-256, x = 32 bytes 01, y = 32 bytes 02", name.as_bytes());
    add("ID object: for that name, seed = 32 bytes 03, secret = 32 bytes 04", &hex::decode(ID_OBJECT).unwrap());
    let of_platform = KeyEvidence {
        hardware: vec![(HardwareFormat::HclBlob, vec![0x55; 8])],
        tpm: Some(tpm),
        endorsements: vec![],
        ..evidence
    };
    assert_eq!(KeyEvidence::parse_extension(&of_platform.encode_extension()), Ok(of_platform.clone()));
    add("extension: CMW with an HCL report and a TPM (structures shortened)", &of_platform.encode_extension());
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
