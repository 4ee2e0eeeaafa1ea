//! The connection after the handshake, without rustls: it must be what rustls at the other end takes for TLS 1.3, in both
//! directions, through key updates, and must refuse what TLS 1.3 refuses.

#![allow(clippy::unwrap_used)]

mod common;

use std::io;
use std::sync::Arc;

use common::{Identity, Rng, joined, name, serve, soon, stream_client};
use proxy_core::framing::{Framed, FramingError};
use proxy_core::tls::{Records, client_config, connect};
use ratls::wire::frame::{FrameType, encode};
use rustls::pki_types::ServerName;
use rustls::version::TLS13;
use rustls::{CipherSuite, ClientConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::client::TlsStream;

/// Our guest's end, and a client of rustls as it comes that offers one suite.
async fn with_rustls(suite: CipherSuite) -> (TlsStream<DuplexStream>, Framed<Records<DuplexStream>>) {
    let ours = client_config(None).unwrap();
    let mut provider = ours.crypto_provider().as_ref().clone();
    provider.cipher_suites.retain(|offered| offered.suite() == suite);
    let identity = Identity::new();
    let mut client = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(identity.roots())
        .with_no_client_auth();
    client.alpn_protocols = vec![ratls::wire::ALPN.to_vec()];
    let (near, far) = duplex(1 << 20);
    let config = identity.evident();
    let (client, server) = soon(async { tokio::join!(stream_client(client, near), serve(far, &config)) }).await;
    (client.unwrap(), Framed::new(server.unwrap().into_records().unwrap()))
}

async fn frame(tls: &mut TlsStream<DuplexStream>, length: usize) -> Vec<u8> {
    let mut whole = vec![0; 4 + length];
    soon(tls.read_exact(&mut whole)).await.unwrap();
    whole.split_off(4)
}

#[tokio::test]
async fn rustls_reads_what_we_seal_and_we_read_what_rustls_seals_under_every_suite() {
    for suite in [
        CipherSuite::TLS13_AES_128_GCM_SHA256,
        CipherSuite::TLS13_AES_256_GCM_SHA384,
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
    ] {
        let (mut client, mut server) = with_rustls(suite).await;
        let mut rng = Rng::new(1);
        for length in [1, 100, 16_379, 16_380, 16_381, 16_384, 32_764, 32_765, 65_532] {
            let body = rng.bytes(length);
            server.write(FrameType::Data, &body).await.unwrap();
            assert!(frame(&mut client, length).await == body, "{suite:?}, {length} down");
            client.write_all(&encode(FrameType::Data, &body)).await.unwrap();
            client.flush().await.unwrap();
            assert!(soon(server.read()).await.unwrap().body == body, "{suite:?}, {length} up");
        }
    }
}

#[tokio::test]
async fn key_updates_of_either_side_are_followed_and_answered() {
    let (mut client, mut server) = with_rustls(CipherSuite::TLS13_AES_128_GCM_SHA256).await;
    for round in 0..100_u8 {
        client.get_mut().1.refresh_traffic_keys().unwrap();
        client.write_all(&encode(FrameType::Data, &[round; 100])).await.unwrap();
        client.flush().await.unwrap();
        assert_eq!(soon(server.read()).await.unwrap().body[..], [round; 100]);
        // rustls asked for an update: ours comes before the next record, under the key before.
        server.write(FrameType::Data, &[round; 200]).await.unwrap();
        assert_eq!(frame(&mut client, 200).await, [round; 200]);
    }
}

#[tokio::test]
async fn key_updates_without_data_are_a_flood() {
    let (mut client, mut server) = with_rustls(CipherSuite::TLS13_AES_128_GCM_SHA256).await;
    for _ in 0..40 {
        client.get_mut().1.refresh_traffic_keys().unwrap();
    }
    client.flush().await.unwrap();
    let error = soon(server.read()).await.unwrap_err();
    assert!(matches!(error, FramingError::Io(e) if e.kind() == io::ErrorKind::InvalidData));
}

#[tokio::test]
async fn bytes_that_come_with_the_last_flight_are_not_lost() {
    // The guest's ATTEST and more, as half-RTT data in the same flight as its Finished.
    let config = Identity::new().evident();
    let (near, far) = duplex(1 << 20);
    let server = async {
        let (mut tls, _) = common::serve_first_flight(far, &config).await.unwrap();
        tls.write_all(&encode(FrameType::Attest, &[7; 9_000])).await.unwrap();
        tls.write_all(&encode(FrameType::Data, b"x")).await.unwrap();
        tls.flush().await.unwrap();
        tls.finish_handshake().await.unwrap();
        Framed::new(tls.into_records().unwrap())
    };
    let client = async {
        let tls = connect(Arc::new(client_config(None).unwrap()), name(), near).await.unwrap().tls;
        let mut framed = Framed::new(tls);
        framed.write(FrameType::Open, b"at once").await.unwrap();
        let (first, second) = (framed.read().await.unwrap(), framed.read().await.unwrap());
        assert_eq!((first.body.len(), &second.body[..]), (9_000, &b"x"[..]));
        framed
    };
    let (mut server, mut client) = soon(async { tokio::join!(server, client) }).await;
    assert_eq!(server.read().await.unwrap().body[..], b"at once"[..]);
    server.write(FrameType::Data, b"on").await.unwrap();
    assert_eq!(client.read().await.unwrap().body[..], b"on"[..]);
}

/// A relay in between that changes the byte at `at` of what the client sends after its handshake, or cuts there.
async fn tampered(at: usize, cut: bool) -> FramingError {
    let (near, mut near_far) = duplex(1 << 20);
    let (mut far_near, far) = duplex(1 << 20);
    let middle = tokio::spawn(async move {
        let (mut client, mut server) = ([0; 16_384], [0; 16_384]);
        let mut armed = false;
        loop {
            tokio::select! {
                n = near_far.read(&mut client) => match n.unwrap_or(0) {
                    0 => return,
                    n if armed => {
                        if cut {
                            let _ = far_near.write_all(&client[..at.min(n)]).await;
                            return;
                        }
                        client[at.min(n - 1)] ^= 1;
                        let _ = far_near.write_all(&client[..n]).await;
                    }
                    n => { let _ = far_near.write_all(&client[..n]).await; }
                },
                n = far_near.read(&mut server) => match n.unwrap_or(0) {
                    0 => return,
                    // The guest's word, the last before the client's.
                    n => {
                        armed = n < 100;
                        let _ = near_far.write_all(&server[..n]).await;
                    }
                },
            }
        }
    });
    let (mut client, mut server) = soon(async {
        let (client, server) = joined(near, far).await;
        (Framed::new(client), Framed::new(server))
    })
    .await;
    server.write(FrameType::Data, b"go").await.unwrap();
    soon(client.read()).await.unwrap();
    client.write(FrameType::Data, &[5; 50]).await.unwrap();
    drop(client);
    let error = soon(server.read()).await.unwrap_err();
    middle.abort();
    error
}

#[tokio::test]
async fn no_changed_byte_is_read_and_no_cut_record() {
    for at in 0..76 {
        let error = tampered(at, false).await;
        let refused = match &error {
            FramingError::Io(error) => error.kind() == io::ErrorKind::InvalidData,
            // A longer length waits for what does not come.
            FramingError::Ended => (3..5).contains(&at),
            _ => false,
        };
        assert!(refused, "byte {at}: {error}");
        assert!(matches!(tampered(at, true).await, FramingError::Ended), "cut at {at}");
    }
}

#[tokio::test]
async fn a_ticket_or_any_other_handshake_message_is_refused() {
    // A server of somebody else gives tickets after the handshake.
    let identity = Identity::new();
    let server = common::foreign_server(identity.certified(vec![identity.certificate.clone()]), &[ratls::wire::ALPN]);
    let (near, far) = duplex(1 << 20);
    let server = tokio_rustls::TlsAcceptor::from(Arc::new(server)).accept(far);
    let client = connect(Arc::new(client_config(None).unwrap()), ServerName::try_from(common::NAME).unwrap(), near);
    let (client, server) = soon(async { tokio::join!(client, server) }).await;
    let mut server = server.unwrap();
    server.write_all(&encode(FrameType::Data, b"x")).await.unwrap();
    server.flush().await.unwrap();
    let error = soon(Framed::new(client.unwrap().tls).read()).await.unwrap_err();
    assert!(matches!(error, FramingError::Io(e) if e.to_string().contains("not KeyUpdate")));
}
