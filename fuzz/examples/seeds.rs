//! Writes the first inputs of each target to `corpus/<target>/`: `cargo run --example seeds`.
//!
//! They come from our own encoders, the vectors, the example policies and the simulator, so they are SIMULATED and PROVE NOTHING.
//! Run it once: the keys of the simulator are new each time, and so are the inputs that hold them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use evident_fuzz::tagged::{self, CERTIFICATE, CRL, REPORT, ROOT};
use ratls::binding::{
    Bind32, LeafType, Profile, Purpose, Root, SpkiDigest, Statement, Tree, UpstreamScope, binder, leaf,
    statement::Epoch,
};
use ratls::bundle::Bundle;
use ratls::cert::{CMW_OID, KeyEvidence, spki_digest};
use ratls::crypto::sha256;
use ratls::evidence::tpm::{Hierarchy, Public};
use ratls::time::UnixTime;
use ratls::wire::attest::{Attest, AttestPurpose, Endorsement, HardwareFormat, PartInfo, media};
use ratls::wire::control::{Accept, Close, CloseCode, Mode, Open, Refuse, RefuseCode};
use ratls::wire::frame::{self, FrameType};
use ratls::wire::parts::{encode_parts, encode_want};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use simulator::{Config, Pki, RsaSize, SimulatedAmdSp, Vek};

type Inputs = BTreeMap<&'static str, Vec<Vec<u8>>>;

fn main() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the folder of the workspace");
    let mut inputs = Inputs::new();
    for product in ratls::tcb::Product::ALL {
        let pki = Arc::new(Pki::generate(product, RsaSize::Bits2048));
        for vek in [Vek::Vcek, Vek::Vlek { csp: "CN=cc-eu-west-1.amazonaws.com".to_owned() }] {
            for report_version in [2, 3, 4, 5] {
                let config = Config { vek: vek.clone(), report_version, ..Config::new(product) };
                guest(&mut inputs, SimulatedAmdSp::new(&pki, config));
            }
        }
    }
    control(&mut inputs);
    platforms(&mut inputs);
    artefacts(&mut inputs);
    records(&mut inputs);
    let vectors = fs::read_to_string(workspace.join("docs/vectors/evident-1.txt")).expect("docs/vectors is there");
    for (name, value) in vectors.lines().filter_map(|line| line.split_once(" = ")) {
        let Ok(bytes) = hex::decode(value.trim()) else { continue };
        match name.split(':').next() {
            Some("frame") => add(&mut inputs, "frame", [&[7], &bytes[..]].concat()),
            Some("statement") => add(&mut inputs, "statement", bytes),
            Some("extension") => add(&mut inputs, "cmw", bytes),
            _ => {}
        }
    }
    for entry in fs::read_dir(workspace.join("examples/policies")).expect("examples/policies is there") {
        let text = fs::read(entry.expect("a folder can be read").path()).expect("a policy can be read");
        add(&mut inputs, "policy", text);
    }
    for text in POLICIES {
        add(&mut inputs, "policy", text.as_bytes().to_vec());
    }
    ways_in(&mut inputs);

    for (target, seeds) in inputs {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
        fs::create_dir_all(&folder).expect("corpus/ can be written");
        for seed in &seeds {
            let name = sha256(&[seed]).to_string();
            fs::write(folder.join(&name[..40]), seed).expect("corpus/ can be written");
        }
        println!("{target}: {}", seeds.len());
    }
}

fn add(inputs: &mut Inputs, target: &'static str, seed: Vec<u8>) {
    inputs.entry(target).or_default().push(seed);
}

/// Everything that one simulated guest gives: reports, chains, a connection's evidence, a key's evidence.
fn guest(inputs: &mut Inputs, mut device: SimulatedAmdSp) {
    let root = device.root_pem().into_bytes();
    let (certificates, crl) = (device.certificates(), device.crl());
    for certificate in &certificates {
        add(inputs, "certificate", certificate.clone());
    }
    add(inputs, "table", device.certificate_table());
    let mut endorsements: Vec<Endorsement> = certificates
        .iter()
        .map(|bytes| Endorsement { media_type: media::CERTIFICATE.to_owned(), bytes: bytes.clone() })
        .collect();
    endorsements.push(Endorsement { media_type: media::CRL.to_owned(), bytes: crl.clone() });

    let key = KeyPair::generate().expect("the system gives random numbers");
    let lean = CertificateParams::default().self_signed(&key).expect("a lean leaf").der().to_vec();
    let spki = spki_digest(&lean).expect("the leaf parses");
    let bind = Bind32::from_exporter([0x44; 32]);
    let leaves = [
        leaf::leaf_hash(LeafType::ChannelInitial, leaf::Role::Server, &spki, &bind),
        leaf::leaf_hash(LeafType::ChannelInitial, leaf::Role::Server, &spki, &Bind32::ZERO),
        leaf::leaf_hash(LeafType::ChannelInitial, leaf::Role::Client, &spki, &bind),
    ];
    let tree = Tree::build(&leaves).expect("three leaves");
    let statement = statement(Purpose::Batch, tree.root(), 3, spki).encode();
    let report = device.report(binder(&statement).as_bytes()).expect("the simulator works");
    add(inputs, "statement", statement.clone());
    add(inputs, "report", report.clone());

    let mut items = vec![(ROOT, &root[..]), (REPORT, &report[..]), (CRL, &crl[..])];
    items.extend(certificates.iter().map(|bytes| (CERTIFICATE, &bytes[..])));
    add(inputs, "chain", tagged::join(&items));
    add(inputs, "chain", tagged::join(&[&items[..2], &items[3..]].concat()));

    let settings = b"\x81\x82\x61a\x61b".to_vec();
    let attest = Attest {
        purpose: AttestPurpose::Initial,
        seq: 0,
        statement,
        index: 0,
        siblings: tree.path(0).expect("leaf 0 is there"),
        hardware: vec![(HardwareFormat::SnpReport, report)],
        tpm: None,
        endorsements: endorsements.clone(),
        parts: vec![PartInfo {
            name: "settings".to_owned(),
            digest: sha256(&[&settings]),
            length: 6,
            media_type: media::SETTINGS.to_owned(),
        }],
        identity: vec![],
        client_evidence_wanted: false,
        features: 1,
        pool_idle_ms: 60_000,
    }
    .encode();
    add(inputs, "frame", [&[200], &frame::encode(FrameType::Attest, &attest)[..]].concat());
    add(inputs, "attest", attest.clone());
    let bundle = Bundle {
        attest,
        parts: BTreeMap::from([(sha256(&[&settings]), settings)]),
        leaf_certificate: lean,
        bind,
        received: UnixTime::from_secs(1_800_000_000),
        witnessed_ak: true,
    };
    add(inputs, "bundle", bundle.encode());

    let key_leaf = leaf::leaf_hash(LeafType::Key, leaf::Role::Server, &spki, &Bind32::ZERO);
    let of_key = Tree::build(&[key_leaf]).expect("one leaf");
    let statement = self::statement(Purpose::Key, of_key.root(), 1, spki).encode();
    let report = device.report(binder(&statement).as_bytes()).expect("the simulator works");
    let evidence =
        KeyEvidence { statement, hardware: vec![(HardwareFormat::SnpReport, report)], tpm: None, endorsements };
    add(inputs, "cmw", evidence.encode_extension());
    let mut params = CertificateParams::default();
    params.custom_extensions.push(CustomExtension::from_oid_content(CMW_OID, evidence.encode_extension()));
    add(inputs, "cmw", params.self_signed(&key).expect("an evidence-bearing leaf").der().to_vec());
}

fn statement(purpose: Purpose, root: Root, n: u32, spki: SpkiDigest) -> Statement {
    Statement {
        profile: Profile::Snp,
        purpose,
        root,
        n,
        spki,
        epoch: Epoch::from_bytes([0x33; 16]),
        counter: 7,
        ak: None,
        logs: vec![],
        config: sha256(&[b"\x81\x82\x61a\x61b"]),
        names: vec!["llm.example".to_owned()],
        time_ms: 1_800_000_000_000,
        upstream_scope: UpstreamScope::OutsideGuest,
    }
}

fn control(inputs: &mut Inputs) {
    let open = Open {
        number: 3,
        mode: Mode::Framed,
        target: Some("llm.example:443".to_owned()),
        inner_alpn: Some("h2".to_owned()),
        features: 1,
        token: Some(vec![7; 32]),
    };
    let accept = Accept { number: 3, max_lifetime_secs: 86_400 };
    let refuse = Refuse { number: 3, code: RefuseCode::UpstreamRefused, text: "no".to_owned() };
    let close = Close { code: CloseCode::Limit, retry_after_ms: 1_500, text: "later".to_owned(), accepted: 3 };
    let part = vec![5; 200];
    let digest = sha256(&[&part]);
    let bodies = [
        (FrameType::Open, open.encode()),
        (FrameType::Accept, accept.encode()),
        (FrameType::Refuse, refuse.encode()),
        (FrameType::Close, close.encode()),
        (FrameType::Want, encode_want(&[digest, digest])),
    ];
    let mut all = vec![0, 0x80, 0, 0, 3, 1, 2, 3];
    for (choice, (kind, body)) in bodies.iter().enumerate() {
        add(inputs, "control", [&[choice as u8], &body[..]].concat());
        all.extend(frame::encode(*kind, body));
    }
    for body in encode_parts(&digest, &part) {
        all.extend(frame::encode(FrameType::Part, &body));
    }
    all.extend(frame::encode(FrameType::Data, b"hello"));
    all.extend(frame::encode(FrameType::Fin, b""));
    add(inputs, "frame", all);
    add(inputs, "parts", [&[1, 4, 1, 2, 3, 4][..], &[0, 0, 0, 0, 0]].concat());
    add(
        inputs,
        "parts",
        [&[2, 2, 1, 2, 3, 7, 8, 9][..], &[0, 1, 0, 0, 2], &[1, 1, 0, 0, 1], &[1, 1, 0, 1, 2]].concat(),
    );
    add(inputs, "parts", [&[1, 255][..], &[9; 255], &[0, 0, 0, 0, 0]].concat());
    add(inputs, "merkle", vec![0, 4, 0, 3, 1, 1]);
    add(inputs, "merkle", [&[2, 0, 1, 5, 9, 0][..], &[6; 64]].concat());
}

/// An HCL report and its JSON, TPM structures, logs, a manifest and the end of a firmware image.
fn platforms(inputs: &mut Inputs) {
    use simulator::boot::guest::{Firmware, Guest};

    let modulus = [&[0xC1][..], &[5; 255]].concat();
    // 256 bytes in base64url: 0xC1, 85 times 0x050505.
    let n = format!("wQ{}", "UFB".repeat(114)).chars().take(342).collect::<String>();
    let key = |kid: &str| format!(r#"{{"kid":"{kid}","key_ops":["sign"],"kty":"RSA","e":"AQAB","n":"{n}"}}"#);
    let json = format!(
        r#"{{"keys":[{},{}],"vm-configuration":{{"secure-boot":true,"tpm-persisted":false,"vmUniqueId":"x"}},"user-data":"{}"}}"#,
        key("HCLAkPub"),
        key("HCLEkPub"),
        "00".repeat(64)
    );
    add(inputs, "runtime_json", json.clone().into_bytes());
    let mut report_data = [0; 64];
    report_data[..32].copy_from_slice(sha256(&[json.as_bytes()]).as_bytes());
    let pki = Arc::new(Pki::generate(ratls::tcb::Product::Milan, RsaSize::Bits2048));
    let mut sp = SimulatedAmdSp::new(&pki, Config::new(ratls::tcb::Product::Milan));
    let report = sp.report(&report_data).expect("the simulator answers");
    let word = |n: usize| u32::try_from(n).expect("short").to_le_bytes();
    let parts: [&[u8]; 12] = [
        b"HCLA",
        &word(2),
        &word(1236 + json.len()),
        &word(2),
        &[0; 16],
        &report,
        &word(20 + json.len()),
        &word(1),
        &word(2),
        &word(1),
        &word(json.len()),
        json.as_bytes(),
    ];
    add(inputs, "hcl", parts.concat());

    add(inputs, "nitro", nitro());
    add(inputs, "gce_endorsement", gce_endorsement());

    let public = Public::azure_ak(&modulus).expect("a modulus of 2048 bit");
    add(inputs, "tpmt_public", public.as_bytes().to_vec());
    add(inputs, "tpmt_public", Public::gce_ecc_ak(&[7; 32], &[9; 32]).expect("a point").as_bytes().to_vec());
    let signer = public.qualified_name(Hierarchy::Endorsement);
    let quote: [&[u8]; 8] = [
        &[0xFF, 0x54, 0x43, 0x47, 0x80, 0x18, 0, 34],
        signer.as_bytes(),
        &[0, 32],
        &[3; 32],
        &[0; 25],
        &[0, 0, 0, 1, 0, 0x0B, 3, 0xFF, 0xFF, 0xFF],
        &[0, 32],
        &[4; 32],
    ];
    add(inputs, "tpms_attest", quote.concat());
    add(inputs, "tpmt_signature", [&[0, 0x14, 0, 0x0B, 1, 0][..], &[1; 256]].concat());
    add(inputs, "tpmt_signature", [&[0, 0x18, 0, 0x0B, 0, 32][..], &[1; 32], &[0, 32], &[2; 32]].concat());

    for firmware in [Firmware::Azure, Firmware::Gce, Firmware::Aws, Firmware::Svsm] {
        add(inputs, "event_log", Guest::new(firmware).log().to_bytes());
    }
    // A record of template ima-ng over SHA-1, and a violation.
    let file = [&b"sha256:\0"[..], &[6; 32]].concat();
    let data = [&word(file.len())[..], &file, &word(9), b"/bin/init\0".get(..9).expect("nine")].concat();
    let record = |hash: [u8; 20]| [&word(10)[..], &hash, &word(6), b"ima-ng", &word(data.len()), &data].concat();
    add(inputs, "ima", [&[0; 32][..], &record([1; 20]), &record([0; 20])].concat());

    let head = "0001000b000300b20020837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa00060080004300100800000000000100";
    let ek = [hex::decode(head).expect("hex"), modulus].concat();
    add(inputs, "svsm_manifest", ek.clone());
    let guid = |text: &str| hex::decode(text).expect("hex");
    let all: [&[u8]; 7] = [
        &guid("bb9e8463923d7046a1ff58f9c94b87bb"),
        &word(48 + ek.len()),
        &word(1),
        &guid("ebf176c42301a5459641b4e7dde5bfe3"),
        &word(48),
        &word(ek.len()),
        &ek,
    ];
    add(inputs, "svsm_manifest", all.concat());
    add(inputs, "ovmf", firmware_end());
}

/// The end of an OVMF image: metadata with one section of each kind, and the table of GUIDs that points to it.
fn firmware_end() -> Vec<u8> {
    let word = |n: u32| n.to_le_bytes();
    let sections =
        [(0x80_0000u32, 0x9000u32, 1u32), (0x80_D000, 0x1000, 2), (0x80_E000, 0x1000, 3), (0x81_0000, 0x1000, 0x10)];
    let mut metadata = [&b"ASEV"[..], &word(16 + 12 * 4), &word(1), &word(4)].concat();
    for (gpa, size, kind) in sections {
        metadata.extend([word(gpa), word(size), word(kind)].concat());
    }
    let guid = |text: &str| {
        let hex = hex::decode(text.replace('-', "")).expect("a GUID");
        let mut mixed = hex.clone();
        mixed[..4].reverse();
        mixed[4..6].reverse();
        mixed[6..8].reverse();
        mixed
    };
    let entry = |text: &str, data: &[u8]| {
        let length = u16::try_from(data.len() + 18).expect("short").to_le_bytes();
        [data, &length, &guid(text)].concat()
    };
    let head = [
        entry("7255371f-3a3b-4b04-927b-1da6efa8d454", &word(0x81_0400)),
        entry("00f771de-1a7e-4fcb-890e-68c77e2fb44e", &word(0x80_B004)),
    ]
    .concat();
    // Behind the metadata: three entries of 22 bytes, the footer's 18, and 32 bytes.
    let distance = u32::try_from(metadata.len() + head.len() + 22 + 18 + 32).expect("short");
    let pointer = entry("dc886566-984a-4798-a75e-5585a7bf67cc", &word(distance));
    let whole = u16::try_from(head.len() + pointer.len() + 18).expect("short").to_le_bytes();
    let footer = [&whole[..], &guid("96b582de-1fb2-45f7-baea-a366c55a082d")].concat();
    [metadata, head, pointer, footer, vec![0; 32]].concat()
}

/// A statement and envelopes, an IGVM file of three pages, a superblock with its image, a unified kernel image.
fn artefacts(inputs: &mut Inputs) {
    let statement = |predicate: &str, body: &str| {
        let digest = "5e".repeat(32);
        format!(
            r#"{{"_type":"https://in-toto.io/Statement/v1","subject":[{{"name":"k","digest":{{"sha256":"{digest}"}}}}],"predicateType":"{predicate}","predicate":{body}}}"#
        )
    };
    let source = r#"{"uri":"git+https://git.example/a","digest":{"gitCommit":"0a"}}"#;
    let v1 = statement(
        "https://slsa.dev/provenance/v1",
        &format!(r#"{{"buildDefinition":{{"resolvedDependencies":[{source}]}}}}"#),
    );
    let v0 = statement("https://slsa.dev/provenance/v0.2", &format!(r#"{{"materials":[{source}]}}"#));
    for payload in [v1, v0] {
        add(inputs, "dsse", [&[1], payload.as_bytes()].concat());
    }
    let envelope =
        br#"{"payloadType":"application/vnd.in-toto+json","payload":"e30=","signatures":[{"keyid":"x","sig":"AAAA"}]}"#;
    add(inputs, "dsse", [&[0], &envelope[..]].concat());

    let word = |n: u32| n.to_le_bytes();
    let header = |kind: u32, content: &[u8]| {
        let length = u32::try_from(content.len()).expect("short");
        let mut bytes = [&word(kind)[..], &word(length), content].concat();
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    };
    let page = |gpa: u64, offset: u32, flags: u32, kind: u16| {
        let fields = [&gpa.to_le_bytes()[..], &word(1), &word(offset), &word(flags), &kind.to_le_bytes(), &[0; 2]];
        header(0x302, &fields.concat())
    };
    let headers = [
        header(1, &[&word(1)[..], &[0, 2, 1, 0], &[0; 8]].concat()),
        header(0x301, &[&8192_u64.to_le_bytes()[..], &word(7), &[0; 4]].concat()),
        page(0x1000, 512, 0, 0),
        page(0x2000, 0, 2, 0),
        page(0x3000, 0, 0, 1),
        page(0x4000, 0, 0, 2),
        header(0x303, &[&0x9000_u64.to_le_bytes()[..], &word(1), &word(7)].concat()),
        header(0x304, &[&0xFFFF_FFFF_F000_u64.to_le_bytes()[..], &word(1), &word(512), &[0; 8]].concat()),
    ]
    .concat();
    let length = u32::try_from(headers.len()).expect("short");
    let mut file = [&b"IGVM"[..], &[1, 24, length, 512 + 4096, 0].map(u32::to_le_bytes).concat(), &headers].concat();
    assert!(file.len() <= 512, "the data begins behind the headers");
    file.resize(512, 0);
    file.extend([5; 4096]);
    add(inputs, "igvm", file);

    for (data_block, hash_block, blocks, salt) in
        [(512, 512, 20_u32, &[7; 32][..]), (512, 1024, 1, b""), (1024, 512, 3, b"s")]
    {
        let mut superblock = [&b"verity\0\0"[..], &word(1), &word(1), &[9; 16], b"sha256"].concat();
        superblock.resize(64, 0);
        superblock.extend([word(data_block), word(hash_block), word(blocks), word(0)].concat());
        superblock.extend(u16::try_from(salt.len()).expect("short").to_le_bytes());
        superblock.resize(88, 0);
        superblock.extend(salt);
        superblock.resize(512, 0);
        let image: Vec<u8> = (0..data_block * blocks).map(|at| (at / data_block).to_le_bytes()[0]).collect();
        add(inputs, "verity", [superblock, image].concat());
    }
    add(inputs, "uki", unified_kernel());
}

/// A PE image with the sections of a unified kernel and a table of certificates.
fn unified_kernel() -> Vec<u8> {
    let mut file = vec![0; 512];
    let put = |file: &mut Vec<u8>, at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    let word = |n: usize| u32::try_from(n).expect("short").to_le_bytes();
    put(&mut file, 0, b"MZ");
    put(&mut file, 0x3C, &[0x40]);
    put(&mut file, 0x40, b"PE\0\0");
    put(&mut file, 0x46, &[3]);
    put(&mut file, 0x54, &240_u16.to_le_bytes());
    put(&mut file, 0x58, &0x020B_u16.to_le_bytes());
    put(&mut file, 0x58 + 60, &word(512));
    put(&mut file, 0x58 + 108, &word(16));
    for (place, (name, content, more)) in
        [(".linux", &b"kernel"[..], 2), (".cmdline", b"ro quiet", 8), (".initrd", b"initrd", 0)].into_iter().enumerate()
    {
        let (at, start) = (0x58 + 240 + 40 * place, file.len());
        put(&mut file, at, name.as_bytes());
        put(&mut file, at + 8, &word(content.len() + more));
        put(&mut file, at + 16, &word(content.len()));
        put(&mut file, at + 20, &word(start));
        file.extend(content);
    }
    let start = file.len();
    put(&mut file, 0x58 + 112 + 32, &word(start));
    put(&mut file, 0x58 + 112 + 36, &word(9));
    file.extend(b"signature");
    file
}

fn records(inputs: &mut Inputs) {
    use evident_fuzz::records::{DATA, INNER, KEY_UPDATE, WIRE};

    let good = [(DATA, &b"one"[..]), (KEY_UPDATE, &[1]), (DATA, &[7; 300]), (INNER, b"x\x17\0\0"), (KEY_UPDATE, &[0])];
    let ends = [(INNER, &b"\x01\0\x15"[..]), (INNER, b"\x02\x28\x15"), (WIRE, b"\x17\x03\x03\0\x20"), (DATA, b"")];
    for cut in [1_u16, 30, 4_096] {
        add(inputs, "records", [&cut.to_be_bytes()[..], &tagged::join(&good)].concat());
        for end in ends {
            let script = tagged::join(&[&good[..2], &[end], &good[2..]].concat());
            add(inputs, "records", [&cut.to_be_bytes()[..], &script].concat());
        }
    }
    // Three records as they stand before keys: the steps are bytes too.
    add(inputs, "records", b"\0\x05\x16\x03\x01\0\x02ab\x14\x03\x03\0\x01\x01\x17\x03\x03\0\x09part".to_vec());
}

const POLICIES: [&str; 3] =
    ["", "version = 2", "version = 1\nprofiles = [\"snp\"]\nidentity = { id_keys = [\"00\"] }\n[snp]\n"];

const HTTP: [&str; 9] = [
    "CONNECT echo.example:443 HTTP/1.1\r\nHost: echo.example:443\r\n\r\nping",
    "CONNECT other.example:443 HTTP/1.1\r\nHost: other.example:443\r\n\r\nping",
    "GET http://echo.example/a?b HTTP/1.1\r\nHost: echo.example\r\nEvident-Verdict: x\r\nConnection: x, close\r\nX: 1\r\n\r\n",
    "GET http://other.example/ HTTP/1.1\r\nHost: other.example\r\n\r\nGET http://other.example/2 HTTP/1.0\r\n\r\n",
    "POST http://echo.example:80/ HTTP/1.1\r\nHost: echo.example\r\nTransfer-Encoding: chunked\r\nTrailer: T\r\n\r\n3\r\nabc\r\n0\r\nT: 1\r\n\r\n",
    "POST http://echo.example/ HTTP/1.1\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello",
    "GET http://echo.example/ HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nTE: trailers\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nAccept: application/json\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
];

/// A ClientHello begins like this; the rest is for the fuzzer.
const TLS: [&[u8]; 2] = [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x15\x03\x03\x00\x02\x02\x28"];

fn ways_in(inputs: &mut Inputs) {
    for request in HTTP {
        add(inputs, "http", request.as_bytes().to_vec());
    }
    for address in [
        &b"\x03\x0cecho.example"[..],
        b"\x03\x0dother.example",
        b"\x01\x7f\0\0\x01",
        b"\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01",
    ] {
        for command in 1..=3 {
            let request = [&[5, 1, 0, 5, command, 0][..], address, &[1, 187], b"ping"].concat();
            add(inputs, "socks", request);
        }
    }
    add(inputs, "socks", b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00".to_vec());
    add(inputs, "socks", b"\x05\x02\x01\x02".to_vec());
    for record in TLS {
        add(inputs, "tls", record.to_vec());
    }
    add(inputs, "tls", client_hello());
}

/// What our own client says first.
fn client_hello() -> Vec<u8> {
    let config = proxy_core::tls::client_config(None).expect("a configuration of ours");
    let name = "guest.example".try_into().expect("a name");
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).expect("a connection");
    let mut hello = vec![];
    client.write_tls(&mut hello).expect("a vector takes everything");
    hello
}

/// A document of NitroTPM's shape with a map of open length, as AWS writes it. Nothing in it is signed.
fn nitro() -> Vec<u8> {
    let mut payload = vec![0xBF];
    let mut key = |name: &str, value: &[u8]| {
        payload.push(0x60 | u8::try_from(name.len()).expect("a short name"));
        payload.extend(name.as_bytes());
        payload.extend(value);
    };
    key("module_id", b"\x6Ai-07-tpm01");
    key("digest", b"\x66SHA384");
    key("timestamp", &[0x1B, 0, 0, 1, 0x9C, 0, 0, 0, 0]);
    let register = [&[0x04, 0x58, 48][..], &[4; 48]].concat();
    key("nitrotpm_pcrs", &[&[0xA1][..], &register].concat());
    key("certificate", &[0x43, 0x30, 0x01, 0x00]);
    key("cabundle", &[0x81, 0x43, 0x30, 0x01, 0x00]);
    key("public_key", &[0xF6]);
    key("user_data", &[0x41, 1]);
    key("nonce", &[0x41, 2]);
    payload.push(0xFF);
    let mut whole = vec![0x84, 0x44, 0xA1, 0x01, 0x38, 0x22, 0xA0, 0x58];
    whole.push(u8::try_from(payload.len()).expect("below 256"));
    whole.extend(&payload);
    whole.extend([0x58, 96]);
    whole.extend([7; 96]);
    whole
}

/// An endorsement of Google's shape for two virtual CPUs. Nothing in it is signed.
fn gce_endorsement() -> Vec<u8> {
    let field = |number: u8, contents: &[u8]| {
        let len = contents.len();
        let length = if len < 0x80 { vec![len] } else { vec![0x80 | (len & 0x7F), len >> 7] };
        let length = length.into_iter().map(|byte| u8::try_from(byte).expect("a byte"));
        [vec![number << 3 | 2], length.collect(), contents.to_vec()].concat()
    };
    let entry = field(2, &[vec![0x08, 2], field(2, &[9; 48])].concat());
    let snp = [vec![0x08, 3], entry, vec![0x28, 9]].concat();
    let golden =
        [field(1, &[0x08, 100]), vec![0x10, 7], field(4, &[0x30, 0]), field(5, &[5; 48]), field(7, &snp)].concat();
    [field(1, &golden), field(2, &[8; 64])].concat()
}
