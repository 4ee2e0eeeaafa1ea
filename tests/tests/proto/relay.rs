//! R: evidence that is genuine, and of another connection, guest, time or protocol.

use std::net::SocketAddr;

use proxy_core::tls::client_config;
use ratls::appraise::{Severity, Stage, Verdict, appraise};
use ratls::binding::exporter::BIND_LABEL;
use ratls::binding::leaf::leaf_hash;
use ratls::binding::{Bind32, LeafType, Role, binder};
use ratls::crypto::sha512;
use ratls::policy::AppraisalPolicy;
use ratls::verify::{Channel, Connection, VerifyError, verify_connection, verify_key};
use ratls::wire::attest::Attest;
use ratls::wire::cbor::Encoder;
use ratls::wire::control::CloseCode;
use ratls::wire::frame::FrameType;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::client::{Script, https, judged, name, page_through, target};
use crate::genuine::{Genuine, anchors, policy};
use crate::liar::{Liar, closed, now, serve};
use crate::soon;

/// Carries bytes, and nothing else: what any network does.
async fn carry(from: TcpListener, to: SocketAddr) {
    let (mut victim, _) = from.accept().await.unwrap();
    let mut guest = TcpStream::connect(to).await.unwrap();
    let _ = tokio::io::copy_bidirectional(&mut victim, &mut guest).await;
}

/// Ends the victim's TLS with `shown`, gets evidence of the guest over a TLS connection of its own, shows it, and passes on what
/// the victim answers.
async fn relay_attest(listener: &TcpListener, shown: &ServerConfig, guest: SocketAddr) -> (CloseCode, String) {
    let (stream, _) = listener.accept().await.unwrap();
    let mut victim = serve(stream, shown).await;
    let mut own = Script::connect(guest).await;
    let evidence = own.attest().await;
    assert!(victim.exporter.bind_initial() != own.bind, "two connections have two exporters");
    victim.framed.write(FrameType::Attest, &evidence).await.unwrap();
    let close = closed(&mut victim.framed).await;
    own.framed.close(&close).await;
    (close.code, close.text)
}

#[tokio::test]
async fn proto_r1_refuses_genuine_evidence_that_a_relay_shows_with_the_stolen_key_of_the_guest() {
    let guest = Genuine::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let relay_address = listener.local_addr().unwrap();
    let victim = target(relay_address);

    // On the way, and without TLS of its own, it changes nothing.
    let through = tokio::spawn(carry(listener, guest.address));
    assert!(page_through(&victim).await.unwrap().ends_with("xxxxx"));
    through.abort();
    let _ = through.await;
    let reached = guest.upstream.accepted();

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (stolen, victim) = (guest.stolen(), target(listener.local_addr().unwrap()));
    let (refused, told) =
        soon("both ends", async { tokio::join!(victim.attested(), relay_attest(&listener, &stolen, guest.address)) })
            .await;
    assert_eq!(judged(&refused), Err(vec!["B_CHANNEL"]));
    assert_eq!(told, (CloseCode::EvidenceRefused, "B_CHANNEL".to_owned()));
    // The genuine guest attested a connection that nobody used.
    guest.until_ended_at("closed by the client", 1).await;
    assert_eq!(guest.upstream.accepted(), reached);
}

#[tokio::test]
async fn proto_r2_a_relay_with_the_stolen_key_passes_as_the_guest_in_cert_mode_and_not_with_fresh_evidence() {
    let guest = Genuine::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();

    // Cert mode: the relay shows the stolen leaf and passes requests on. All that the leaf proves holds, and the client talks to the relay.
    let stolen = guest.stolen_with_evidence();
    let relay = async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut victim = serve_http(stream, &stolen).await;
        let mut request = vec![0; 1024];
        let n = victim.read(&mut request).await.unwrap();
        assert!(request[..n].starts_with(b"GET /secret"), "the relay reads what the client wrote");
        victim.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged").await.unwrap();
        victim.shutdown().await.unwrap();
    };
    let client = async {
        let (mut tls, leaf) = https(address).await;
        let evidence = verify_key(&leaf, &anchors(), now()).expect("authentic, as far as a key goes");
        assert_eq!(evidence.channel(), Channel::Key);
        let result = appraise(None, evidence);
        assert_eq!(result.verdict(), Verdict::Authentic);
        assert!(result.findings().iter().any(|f| f.id() == "C_CHANNEL" && f.help().contains("relay")));
        tls.write_all(b"GET /secret HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        tls.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("forged"));
        leaf
    };
    let (leaf, ()) = soon("both ends", async { tokio::join!(client, relay) }).await;

    // A policy asks for evidence of this connection, and no key has that.
    let policy = AppraisalPolicy::parse(&policy().text(), "policy.toml").unwrap();
    let result = appraise(Some(&policy), verify_key(&leaf, &anchors(), now()).unwrap());
    let fatal: Vec<_> = result.findings().iter().filter(|f| f.severity() == Severity::Fatal).map(|f| f.id()).collect();
    assert_eq!((result.verdict(), fatal), (Verdict::Refused(Stage::Appraise), vec!["R_FRESH"]));

    // Fresh: the same key, the same leaf with its evidence, and the guest's newest ATTEST beside it.
    let mut evident = guest.stolen_with_evidence();
    evident.alpn_protocols = guest.stolen().alpn_protocols;
    let victim = target(address);
    let (refused, told) =
        soon("both ends", async { tokio::join!(victim.attested(), relay_attest(&listener, &evident, guest.address)) })
            .await;
    assert_eq!(judged(&refused), Err(vec!["B_CHANNEL"]));
    assert_eq!(told.0, CloseCode::EvidenceRefused);
    assert_eq!(guest.upstream.accepted(), 0);
}

/// A TLS server of somebody else's make with this configuration.
async fn serve_http(stream: TcpStream, config: &ServerConfig) -> impl AsyncRead + AsyncWrite + Unpin + use<> {
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config.clone()));
    acceptor.accept(stream).await.expect("an ordinary client")
}

#[tokio::test]
async fn proto_r3_refuses_evidence_of_another_connection_to_the_same_server() {
    let server = Liar::new().await;
    server.is_accepted_when_honest().await;
    let mut evidence_of_a = None;
    server
        .tells(|exporter| {
            let attest = server.honest(exporter);
            evidence_of_a = Some(attest.clone());
            attest
        })
        .await
        .accepted();
    server.tells(|_| evidence_of_a.unwrap()).await.refused_for("B_CHANNEL");
}

#[tokio::test]
async fn proto_r3_refuses_evidence_of_a_connection_that_is_open_at_the_same_time() {
    let server = Liar::new().await;
    let address = server.address;
    let (a, b) = (target(address), target(address));
    let clients = async { tokio::join!(a.attested(), b.attested()) };
    let serving = async {
        let (mut first, mut second) = (server.accept().await, server.accept().await);
        let attest = server.honest(&first.exporter).encode();
        for connection in [&mut first, &mut second] {
            connection.framed.write(FrameType::Attest, &attest).await.unwrap();
        }
        closed(&mut second.framed).await
    };
    let ((a, b), close) = soon("both ends", async { tokio::join!(clients, serving) }).await;
    let mut verdicts = [judged(&a), judged(&b)];
    verdicts.sort();
    assert_eq!(verdicts, [Ok(()), Err(vec!["B_CHANNEL"])]);
    assert_eq!((close.code, close.text.as_str()), (CloseCode::EvidenceRefused, "B_CHANNEL"));
}

#[tokio::test]
async fn proto_r4_refuses_evidence_of_a_guest_with_the_same_measurement_and_another_key() {
    let (guest, other) = (Genuine::start().await, Genuine::start().await);
    assert_ne!(guest.guest.spki, other.guest.spki);
    // An honest client of `other`, whose evidence is accepted, and the key of `guest` put in the place of its own.
    let mut client = Script::connect(other.address).await;
    let attest = client.attest().await;
    let leaf_of = |config: &ServerConfig| {
        let mut tls = rustls::ServerConnection::new(std::sync::Arc::new(config.clone())).unwrap();
        leaf_shown(&mut tls)
    };
    let judge = |leaf: &[u8]| {
        let connection = Connection { leaf_certificate: leaf, bind: client.bind, attest: &attest };
        verify_connection(&connection, &anchors(), now()).map(drop)
    };
    assert_eq!(leaf_of(&other.stolen()), client.leaf.to_vec());
    judge(&client.leaf).expect("its own key");
    let refused = judge(&leaf_of(&guest.stolen())).unwrap_err();
    assert!(matches!(refused, VerifyError::NotInTree), "{refused}");

    // And on the wire: what ends the connection is a server with a key of its own.
    let impostor = Liar::new().await;
    let evidence = Script::connect(guest.address).await.attest().await;
    impostor.tells_bytes(|_| evidence).await.refused_for("B_CHANNEL");
}

/// The certificate that a server shows in its first flight.
fn leaf_shown(server: &mut rustls::ServerConnection) -> Vec<u8> {
    let config = std::sync::Arc::new(client_config(None).unwrap());
    let mut client = rustls::ClientConnection::new(config, name("guest.example")).unwrap();
    for _ in 0..3 {
        let mut wire = vec![];
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut &wire[..]).unwrap();
        server.process_new_packets().unwrap();
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut wire = &wire[..];
        while !wire.is_empty() {
            client.read_tls(&mut wire).unwrap();
            client.process_new_packets().unwrap();
        }
    }
    client.peer_certificates().expect("the handshake is done")[0].to_vec()
}

#[tokio::test]
async fn proto_r4_refuses_a_report_of_a_guest_with_the_same_measurement_on_another_chip() {
    let server = Liar::new().await;
    server.is_accepted_when_honest().await;
    let chip = ratls::evidence::snp::ChipId::from_bytes([0xC2; 64]);
    let other = Genuine::with(|guest| guest.chip_id = Some(chip), "").await;
    let mut client = Script::connect(other.address).await;
    let theirs = Attest::parse(&client.attest().await).unwrap();
    // The report and its certificates are of the other chip; statement and path are of this connection.
    server
        .tells(|exporter| Attest {
            hardware: theirs.hardware.clone(),
            endorsements: theirs.endorsements.clone(),
            ..server.honest(exporter)
        })
        .await
        .refused_for("R_FRESH");
    // Nor may only the certificates be.
    server
        .tells(|exporter| Attest { endorsements: theirs.endorsements.clone(), ..server.honest(exporter) })
        .await
        .refused_for("E_CHIP_ID");
}

#[tokio::test]
async fn proto_r5_refuses_an_attest_that_was_recorded_on_an_accepted_connection() {
    let guest = Genuine::start().await;
    let client = target(guest.address);
    let mut recorded = client.show().await.unwrap();
    assert_eq!(recorded.result(&client).await.unwrap().verdict(), Verdict::Accepted);
    let attest = recorded.bundle().attest;

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let victim = target(listener.local_addr().unwrap());
    let stolen = guest.stolen();
    let replay = async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = serve(stream, &stolen).await;
        connection.framed.write(FrameType::Attest, &attest).await.unwrap();
        closed(&mut connection.framed).await
    };
    let (refused, close) = soon("both ends", async { tokio::join!(victim.attested(), replay) }).await;
    assert_eq!(judged(&refused), Err(vec!["B_CHANNEL"]));
    assert_eq!((close.code, close.text.as_str()), (CloseCode::EvidenceRefused, "B_CHANNEL"));
}

#[tokio::test]
async fn proto_r7_refuses_a_report_that_was_made_before_the_client_hello() {
    let server = Liar::new().await;
    server.is_accepted_when_honest().await;
    // Before any connection the server can only guess what to have signed; here, a key leaf.
    let key = ratls::binding::KeyLeaf::new(&server.spki).hash();
    let before = server.over(&server.statement(key));
    server.tells(|_| before.clone()).await.refused_for("B_CHANNEL");
    // With a new statement over the same old report.
    server
        .tells(|exporter| Attest { hardware: before.hardware.clone(), ..server.honest(exporter) })
        .await
        .refused_for("R_FRESH");
    // With a new path under the same old statement.
    server
        .tells(|exporter| {
            let sibling = ratls::binding::Sibling::from_bytes(*server.leaf(exporter).as_bytes());
            Attest { siblings: vec![sibling], index: 1, ..before.clone() }
        })
        .await
        .refused_for("B_PATH");
}

#[tokio::test]
async fn proto_r8_refuses_the_right_binder_in_an_unsigned_field_beside_a_report_over_another() {
    let server = Liar::new().await;
    server.is_accepted_when_honest().await;
    let unsigned = |exporter: &_, report_data: &[u8; 64]| {
        let statement = server.statement(server.leaf(exporter)).encode();
        let b = binder(&statement);
        let mut body = server.attest(statement, report_data).encode();
        // One more field of an ignorable key.
        assert_eq!(body[0] & 0xE0, 0xA0, "a short map");
        body[0] += 1;
        let mut field = Encoder::new();
        field.uint(64).bytes(b.as_bytes());
        body.extend(field.finish());
        (body, *b.as_bytes())
    };
    server.tells_bytes(|exporter| unsigned(exporter, &[0x5A; 64]).0).await.refused_for("R_FRESH");
    server.tells_bytes(|exporter| unsigned(exporter, &[0; 64]).0).await.refused_for("R_FRESH");
    // The field itself is harmless.
    server
        .tells_bytes(|exporter| {
            let b = unsigned(exporter, &[0; 64]).1;
            unsigned(exporter, &b).0
        })
        .await
        .accepted();
}

#[tokio::test]
async fn proto_r8_refuses_a_binder_that_only_the_bytes_after_the_signature_say() {
    let server = Liar::new().await;
    server
        .tells(|exporter| {
            let mut attest = server.honest(exporter);
            let (_, report) = &mut attest.hardware[0];
            let b: Vec<u8> = report.splice(0x50..0x90, [0; 64]).collect();
            report.extend(b);
            attest
        })
        .await
        .refused_for("R_PARSE");
    // REPORT_DATA changed to the right binder after the device had signed another.
    server
        .tells(|exporter| {
            let honest = server.honest(exporter);
            let mut attest = server.attest(honest.statement.clone(), &[1; 64]);
            let b = binder(&honest.statement);
            attest.hardware[0].1[0x50..0x90].copy_from_slice(b.as_bytes());
            attest
        })
        .await
        .refused_for("R_SIG");
}

#[tokio::test]
async fn proto_r10_refuses_an_exporter_with_the_label_of_another_protocol() {
    let server = Liar::new().await;
    let with = |exporter: &ratls::binding::ExporterSecret, label: &[u8], context: &[u8]| {
        let bind = Bind32::from_exporter(*exporter.export(label, context));
        server.over(&server.statement(leaf_hash(LeafType::ChannelInitial, Role::Server, &server.spki, &bind)))
    };
    server.tells(|exporter| with(exporter, BIND_LABEL, b"")).await.accepted();
    // RFC 9266's, which SCRAM uses; then our own with the context of a re-attestation.
    server.tells(|exporter| with(exporter, b"EXPORTER-Channel-Binding", b"")).await.refused_for("B_CHANNEL");
    server.tells(|exporter| with(exporter, b"EXPERIMENTAL evident id 1", b"")).await.refused_for("B_CHANNEL");
    server.tells(|exporter| with(exporter, BIND_LABEL, b"RE")).await.refused_for("B_CHANNEL");
}

#[tokio::test]
async fn proto_r10_refuses_a_statement_under_the_tag_of_another_version() {
    let server = Liar::new().await;
    for (tag, accepted) in [(&b"EVIDENT-B-v1\0"[..], true), (b"EVIDENT-B-v0\0", false), (b"EVIDENT-B-v2\0", false)] {
        let told = server
            .tells(|exporter| {
                let statement = server.statement(server.leaf(exporter)).encode();
                let report_data = *sha512(&[tag, &statement]).as_bytes();
                server.attest(statement, &report_data)
            })
            .await;
        if accepted { told.accepted() } else { told.refused_for("R_FRESH") }
    }
    for version in [0, 2] {
        server
            .tells(|exporter| {
                let mut statement = server.statement(server.leaf(exporter)).encode();
                assert_eq!(statement[1..3], [1, 1], "key 1 is the version, and that is 1");
                statement[2] = version;
                let report_data = *binder(&statement).as_bytes();
                server.attest(statement, &report_data)
            })
            .await
            .refused_for("B_STATEMENT");
    }
}

#[tokio::test]
async fn proto_r9_refuses_the_leaf_of_a_client_where_the_server_s_is_due() {
    let server = Liar::new().await;
    server
        .tells(|exporter| {
            let bind = exporter.bind_initial();
            server.over(&server.statement(leaf_hash(LeafType::ChannelInitial, Role::Client, &server.spki, &bind)))
        })
        .await
        .refused_for("B_CHANNEL");
}
