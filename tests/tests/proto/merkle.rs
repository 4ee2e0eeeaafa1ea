//! M: leaves of other types and purposes, reports that commit to something else, large batches, and swapped proofs.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use attester::batcher::{AttestHandle, Batcher, Settings, StatementContext};
use attester::{AttestError, Attestation, PlainSnp};
use proxy_core::tls::{ServerIdentity, client_config, connect, server_config};
use ratls::binding::leaf::leaf_hash;
use ratls::binding::merkle::root_from_path;
use ratls::binding::statement::Epoch;
use ratls::binding::{
    Bind32, ChannelLeaf, ExporterSecret, KeyLeaf, LeafType, Purpose, Role, SpkiDigest, Statement, Tree, UpstreamScope,
    binder,
};
use ratls::cert::{KeyEvidence, spki_digest};
use ratls::crypto::{sha256, sha512};
use ratls::digest::Sha256Digest;
use ratls::verify::{Connection, VerifyError, verify_connection, verify_key};
use ratls::wire::ALPN;
use ratls::wire::attest::{Attest, AttestPurpose, Endorsement, HardwareFormat, media};
use ratls::wire::control::CloseCode;
use ratls::wire::frame::FrameType;
use simulator::{Controls, SimulatedAmdSp};

use crate::client::{judged, name, target};
use crate::genuine::{PKI, anchors};
use crate::liar::{Liar, closed, now};
use crate::soon;

const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

#[tokio::test]
async fn proto_m5_refuses_data_of_an_application_that_imitates_a_channel() {
    let server = Liar::new().await;
    server.is_accepted_when_honest().await;
    // Everything that a channel leaf hashes, but for the type.
    for role in [Role::Server, Role::None] {
        server
            .tells(|exporter| {
                let bind = exporter.bind_initial();
                server.over(&server.statement(leaf_hash(LeafType::AppData, role, &server.spki, &bind)))
            })
            .await
            .refused_for("B_CHANNEL");
    }
}

#[test]
fn proto_m6_the_tests_that_nothing_can_be_inserted_by_hash_are_there() {
    // They are examples that must not compile, and run with the documentation's tests.
    let read = |path: &str| std::fs::read_to_string(evident_tests::binaries::workspace().join(path)).unwrap();
    assert_eq!(read("ratls/formats/src/binding/leaf.rs").matches("```compile_fail").count(), 2);
    assert_eq!(read("attester/src/batcher/mod.rs").matches("```compile_fail,E0308").count(), 2);
}

#[tokio::test]
async fn proto_m7_refuses_report_data_that_is_a_hash_without_our_tag_or_with_another_tool_s() {
    let server = Liar::new().await;
    server.is_accepted_when_honest().await;
    let spki = *server.spki.as_bytes();
    type ReportData = fn(&[u8], &[u8; 32], &[u8; 32]) -> [u8; 64];
    fn short(digest: Sha256Digest) -> [u8; 64] {
        let mut data = [0; 64];
        data[..32].copy_from_slice(digest.as_bytes());
        data
    }
    let others: [(&str, ReportData); 5] = [
        ("no tag", |statement, _, _| *sha512(&[statement]).as_bytes()),
        ("the tag of leaves", |statement, _, _| *sha512(&[b"EVIDENT-LEAF-v1\0", statement]).as_bytes()),
        ("RA-TLS: the key", |_, spki, _| short(Sha256Digest::from_bytes(*spki))),
        ("key and exporter, as others bind", |_, spki, bind| *sha512(&[spki, bind]).as_bytes()),
        ("SHA-256 of the statement", |statement, _, _| short(sha256(&[statement]))),
    ];
    for (what, report_data) in others {
        let told = server
            .tells(|exporter| {
                let statement = server.statement(server.leaf(exporter)).encode();
                let data = report_data(&statement, &spki, exporter.bind_initial().as_bytes());
                server.attest(statement, &data)
            })
            .await;
        println!("REPORT_DATA is {what}");
        told.refused_for("R_FRESH");
    }
}

#[tokio::test]
async fn proto_m8_refuses_a_leaf_of_a_key_or_of_a_re_attestation_where_a_channel_s_is_due() {
    let server = Liar::new().await;
    server.is_accepted_when_honest().await;
    server.tells(|_| server.over(&server.statement(KeyLeaf::new(&server.spki).hash()))).await.refused_for("B_CHANNEL");
    // A key leaf cannot carry an exporter, and if it did it would still be of type 3.
    for kind in [LeafType::Key, LeafType::ChannelReattest] {
        server
            .tells(|exporter| {
                let bind = exporter.bind_initial();
                server.over(&server.statement(leaf_hash(kind, Role::Server, &server.spki, &bind)))
            })
            .await
            .refused_for("B_CHANNEL");
    }
}

#[tokio::test]
async fn proto_m8_refuses_a_statement_of_another_purpose() {
    let server = Liar::new().await;
    server
        .tells(|exporter| server.over(&Statement { purpose: Purpose::Key, ..server.statement(server.leaf(exporter)) }))
        .await
        .refused_for("B_PURPOSE");
    for (purpose, seq) in [(AttestPurpose::Reattest, 0), (AttestPurpose::HwConfirm, 0), (AttestPurpose::Initial, 1)] {
        server.tells(|exporter| Attest { purpose, seq, ..server.honest(exporter) }).await.refused_for("B_PURPOSE");
    }
}

#[tokio::test]
async fn proto_m8_refuses_a_batch_of_connections_as_evidence_for_a_key() {
    let server = Liar::new().await;
    let key = evident_proxy::identity::GuestKey::generate(&[], now()).unwrap();
    let leaf = |statement: &Statement| {
        let attest = server.over(statement);
        let evidence = KeyEvidence {
            statement: attest.statement,
            hardware: attest.hardware.clone(),
            tpm: None,
            endorsements: attest.endorsements,
        };
        key.evidence_identity(&evidence, now()).unwrap().chain.remove(0)
    };
    let for_key = |purpose, leaf_type, n| {
        let hash = leaf_hash(leaf_type, Role::Server, &key.spki(), &Bind32::ZERO);
        let tree = Tree::build(&vec![hash; n]).unwrap();
        let over_hash = Statement { root: tree.root(), n: tree.n(), ..server.statement(hash) };
        let statement = Statement { purpose, spki: key.spki(), ..over_hash };
        verify_key(&leaf(&statement), &anchors(), now()).map(drop)
    };
    for_key(Purpose::Key, LeafType::Key, 1).expect("as a guest makes it");
    let refused = for_key(Purpose::Batch, LeafType::Key, 1).unwrap_err();
    assert!(
        matches!(refused, VerifyError::StatementPurpose { seen: Purpose::Batch, wanted: Purpose::Key }),
        "{refused}"
    );
    let refused = for_key(Purpose::Key, LeafType::ChannelInitial, 1).unwrap_err();
    assert!(matches!(refused, VerifyError::NotInTree), "{refused}");
    // One key, one leaf.
    let refused = for_key(Purpose::Key, LeafType::Key, 2).unwrap_err();
    assert_eq!(refused.id(), "B_PATH", "{refused}");
    let other = Statement { purpose: Purpose::Key, ..server.statement(KeyLeaf::new(&server.spki).hash()) };
    let refused = verify_key(&leaf(&other), &anchors(), now()).unwrap_err();
    assert!(matches!(refused, VerifyError::OtherKey { .. }), "{refused}");
}

/// A real batcher over a simulated device, and the TLS identity that its statements name.
struct Batches {
    handle: AttestHandle,
    controls: Controls,
    leaf: Vec<u8>,
    spki: SpkiDigest,
    shown: ServerIdentity,
    endorsements: Vec<Endorsement>,
    running: tokio::task::JoinHandle<()>,
}

impl Batches {
    fn new() -> Batches {
        let device = SimulatedAmdSp::new(&PKI, simulator::Config::new(PKI.product()));
        let certificate = |bytes| Endorsement { media_type: media::CERTIFICATE.to_owned(), bytes };
        let endorsements = device.certificates().into_iter().map(certificate).collect();
        let controls = device.controls();
        let key = evident_proxy::identity::GuestKey::generate(&[], now()).unwrap();
        let shown = key.lean_identity(now()).unwrap();
        let leaf = shown.chain[0].to_vec();
        let context = StatementContext {
            spki: key.spki(),
            epoch: Epoch::from_bytes([7; 16]),
            config: Sha256Digest::from_bytes([9; 32]),
            names: vec![],
            upstream_scope: UpstreamScope::InsideGuest,
            unix_ms: Box::new(|| 0),
        };
        let settings = Settings { max_pending: 16_384, max_per_source: 16_385 };
        let (batcher, handle) =
            Batcher::new(Box::new(PlainSnp::new(Box::new(device))), context, settings, Arc::new(()));
        let running = tokio::spawn(async move {
            let Err(error) = batcher.run().await;
            panic!("{error}");
        });
        Batches { handle, controls, leaf, spki: key.spki(), shown, endorsements, running }
    }

    /// Evidence for all of these in one batch: they wait while the device is held by somebody else's request.
    async fn together(&self, exporters: &[ExporterSecret]) -> Vec<Attestation> {
        let held = self.controls.hold();
        let leaf_of = |exporter: &ExporterSecret| ChannelLeaf::initial(Role::Server, &self.spki, exporter);
        let (handle, first) = (self.handle.clone(), leaf_of(&secret(u32::MAX)));
        let first = tokio::spawn(async move { handle.attest(first, SOURCE).await.map(drop) });
        let controls = self.controls.clone();
        assert!(
            tokio::task::spawn_blocking(move || controls.wait_for_waiting(1, Duration::from_secs(20))).await.unwrap()
        );
        type Waiting<'a> = Pin<Box<dyn Future<Output = Result<Attestation, AttestError>> + Send + 'a>>;
        let mut waiting: Vec<Waiting<'_>> =
            exporters.iter().map(|exporter| Box::pin(self.handle.attest(leaf_of(exporter), SOURCE)) as _).collect();
        std::future::poll_fn(|cx| {
            // One poll each, and every leaf is in the queue.
            assert!(waiting.iter_mut().all(|leaf| leaf.as_mut().poll(cx).is_pending()));
            Poll::Ready(())
        })
        .await;
        drop(held);
        first.await.unwrap().unwrap();
        let mut answers = vec![];
        for leaf in waiting {
            answers.push(leaf.await.unwrap());
        }
        assert_eq!(self.controls.reports_made(), 2, "one report for the first, one for all of these");
        answers
    }

    fn attest(&self, answer: &Attestation) -> Attest {
        Attest {
            purpose: AttestPurpose::Initial,
            seq: 0,
            statement: answer.batch.statement().to_vec(),
            index: answer.index.into(),
            siblings: answer.path.clone(),
            hardware: vec![(HardwareFormat::SnpReport, answer.batch.report().to_vec())],
            tpm: None,
            endorsements: self.endorsements.clone(),
            parts: vec![],
            identity: vec![],
            client_evidence_wanted: false,
            features: 0,
            pool_idle_ms: 60_000,
        }
    }

    fn verify(&self, answer: &Attestation, bind: Bind32) -> Result<(), VerifyError> {
        let attest = self.attest(answer).encode();
        let connection = Connection { leaf_certificate: &self.leaf, bind, attest: &attest };
        verify_connection(&connection, &anchors(), now()).map(drop)
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// The exporter secret of a connection that is only a number.
fn secret(number: u32) -> ExporterSecret {
    ExporterSecret::from_key_log(sha256(&[b"exporter", &number.to_be_bytes()]).as_bytes()).unwrap()
}

/// `n` clients shake hands; all their evidence is in one batch, and each accepts its own and nobody else's.
async fn clients_of_one_batch(n: usize) {
    let batches = Batches::new();
    let identity = ServerIdentity { chain: batches.shown.chain.clone(), key: batches.shown.key.clone_key() };
    let server = server_config(identity, &[ALPN], true, None).unwrap();
    let client = Arc::new(client_config(None).unwrap());
    let (mut exporters, mut clients) = (vec![], vec![]);
    for _ in 0..n {
        let (near, far) = tokio::io::duplex(16 * 1024);
        let serving = async {
            let mut tls = proxy_core::tls::Hello::read(far).await.unwrap().start(&server).unwrap();
            let exporter = tls.first_flight().await.unwrap();
            tls.finish_handshake().await.unwrap();
            (tls, exporter)
        };
        let connecting = connect(client.clone(), name("guest.example"), near);
        let (handshake, (tls, exporter)) = tokio::join!(connecting, serving);
        clients.push((handshake.unwrap(), tls));
        exporters.push(exporter);
    }
    let answers = batches.together(&exporters).await;
    assert_eq!(answers.len(), n);
    for (index, ((handshake, _), answer)) in clients.iter().zip(&answers).enumerate() {
        assert_eq!((answer.batch.n() as usize, answer.index as usize), (n, index));
        assert_eq!(handshake.leaf_certificate.to_vec(), batches.leaf);
        batches.verify(answer, handshake.bind).unwrap_or_else(|error| panic!("client {index} of {n}: {error}"));
        let neighbour = &answers[(index + 1) % n];
        if n > 1 {
            let refused = batches.verify(neighbour, handshake.bind).unwrap_err();
            assert!(matches!(refused, VerifyError::NotInTree), "{refused}");
        }
    }
}

#[tokio::test]
async fn proto_m9_each_of_1_2_3_and_5_clients_in_one_batch_accepts_its_own_proof_only() {
    for n in [1, 2, 3, 5] {
        clients_of_one_batch(n).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proto_m9_each_of_1000_clients_in_one_batch_accepts_its_own_proof_only_heavy() {
    clients_of_one_batch(1000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proto_m9_each_of_16384_connections_in_one_batch_has_a_proof_heavy() {
    let batches = Batches::new();
    let exporters: Vec<_> = (0..16_384).map(secret).collect();
    let answers = batches.together(&exporters).await;
    let statement = Statement::parse(answers[0].batch.statement()).unwrap();
    assert_eq!(statement.n, 16_384);
    let spki = spki_digest(&batches.leaf).unwrap();
    for (index, (exporter, answer)) in exporters.iter().zip(&answers).enumerate() {
        assert!(Arc::ptr_eq(&answer.batch, &answers[0].batch), "one batch");
        let leaf = leaf_hash(LeafType::ChannelInitial, Role::Server, &spki, &exporter.bind_initial());
        let root = root_from_path(&leaf, answer.index.into(), statement.n.into(), &answer.path).unwrap();
        assert_eq!((answer.index as usize, root), (index, statement.root));
        // What differs between two of them was just checked; signatures, of every 64th.
        if index % 64 == 0 {
            batches.verify(answer, exporter.bind_initial()).unwrap();
            let other = &answers[index ^ 1];
            assert!(matches!(batches.verify(other, exporter.bind_initial()), Err(VerifyError::NotInTree)));
        }
    }
}

#[tokio::test]
async fn proto_m9_refuses_both_of_two_clients_whose_proofs_are_swapped() {
    let server = Liar::new().await;
    let clients = [target(server.address), target(server.address)];
    let connecting = async { tokio::join!(clients[0].attested(), clients[1].attested()) };
    let serving = async {
        let mut connections = [server.accept().await, server.accept().await];
        let leaves = [0, 1].map(|i| server.leaf(&connections[i].exporter));
        let tree = Tree::build(&leaves).unwrap();
        let statement = Statement { root: tree.root(), n: 2, ..server.statement(leaves[0]) };
        let shared = server.over(&statement);
        assert_eq!(binder(&shared.statement).as_bytes()[..], shared.hardware[0].1[0x50..0x90]);
        let mut closes = vec![];
        for (connection, index) in connections.iter_mut().zip([1u32, 0]) {
            let siblings = tree.path(index).unwrap();
            let swapped = Attest { index: index.into(), siblings, ..shared.clone() };
            connection.framed.write(FrameType::Attest, &swapped.encode()).await.unwrap();
            closes.push(closed(&mut connection.framed).await);
        }
        closes
    };
    let ((a, b), closes) = soon("both ends", async { tokio::join!(connecting, serving) }).await;
    assert_eq!([judged(&a), judged(&b)], [Err(vec!["B_CHANNEL"]), Err(vec!["B_CHANNEL"])]);
    for close in closes {
        assert_eq!((close.code, close.text.as_str()), (CloseCode::EvidenceRefused, "B_CHANNEL"));
    }
}
