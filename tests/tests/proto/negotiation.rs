//! N: servers and clients that speak less than `evident/1`, or other frames than those that are due, and names in the SNI.

use std::io;
use std::sync::Arc;

use evident_client::dial::Target;
use evident_client::open::OpenError;
use proxy_core::framing::FramingError;
use proxy_core::tls::client_config;
use ratls::binding::binder;
use ratls::wire::control::{Accept, Close, CloseCode, Open};
use ratls::wire::frame::{FrameType, Header};
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::client::{Script, answer_to, client_hello, judged, name, page_through, target, target_under, with_sni};
use crate::genuine::{Genuine, policy};
use crate::liar::{Connected, Liar, closed};
use crate::soon;

#[tokio::test]
async fn proto_n5_a_fresh_client_refuses_a_server_that_has_only_evidence_for_its_key() {
    let guest = Genuine::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = target(listener.local_addr().unwrap());
    for (alpn, reason) in [(&[][..], "it selected no protocol"), (&[&b"http/1.1"[..]], "no_application_protocol")] {
        let mut config = guest.stolen_with_evidence();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let (refused, seen) =
            soon("both ends", async { tokio::join!(client.attested(), cert_only(&listener, config)) }).await;
        let error = refused.err().expect("there is no code path that accepts a key's evidence").to_string();
        assert!(error.contains("the server is not EVIDENT") && error.contains(reason), "{error}");
        match alpn {
            [] => assert_eq!(seen.expect("the handshake itself succeeds"), b"", "the client said something"),
            _ => {
                let seen = seen.unwrap_err();
                let of_tls = seen.get_ref().and_then(|error| error.downcast_ref());
                assert_eq!(of_tls, Some(&rustls::Error::NoApplicationProtocol), "{seen}");
            }
        }
    }
}

/// What a client says to an ordinary HTTPS server.
async fn cert_only(listener: &TcpListener, config: ServerConfig) -> io::Result<Vec<u8>> {
    let (stream, _) = listener.accept().await?;
    let mut tls = TlsAcceptor::from(Arc::new(config)).accept(stream).await?;
    let mut said = vec![];
    match tls.read_to_end(&mut said).await {
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
        _ => Ok(said),
    }
}

/// Our client against a server that writes these frames after the handshake; what the server is told then.
async fn frames_instead_of_attest(frames: &[u8]) -> (OpenError, Close) {
    use tokio::io::AsyncWriteExt;
    let server = Liar::new().await;
    let client = target(server.address);
    let serving = async {
        let Connected { mut framed, .. } = server.accept().await;
        framed.stream_mut().write_all(frames).await.unwrap();
        framed.stream_mut().flush().await.unwrap();
        closed(&mut framed).await
    };
    let (refused, close) = soon("both ends", async { tokio::join!(client.attested(), serving) }).await;
    (refused.err().expect("nothing was attested"), close)
}

fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[kind], &length[1..], body].concat()
}

#[tokio::test]
async fn proto_n6_refuses_a_server_that_sends_something_else_before_its_evidence() {
    for (frames, what) in [
        (frame(FrameType::Data as u8, b"HTTP/1.1 200 OK\r\n\r\n"), "Data frame where ATTEST was due"),
        (frame(FrameType::Accept as u8, &Accept { number: 0, max_lifetime_secs: 9 }.encode()), "Accept frame"),
        (frame(FrameType::Fin as u8, b""), "Fin frame"),
    ] {
        let (error, close) = frames_instead_of_attest(&frames).await;
        assert!(error.to_string().contains(what), "{error}");
        assert_eq!(close.code, CloseCode::Protocol);
        assert!(close.text.contains(what), "{close:?}");
    }
}

#[tokio::test]
async fn proto_n8_refuses_an_unknown_critical_frame_of_a_server() {
    for kind in [0x00, 0x0E, 0x7F] {
        let (error, close) = frames_instead_of_attest(&frame(kind, b"x")).await;
        assert!(error.to_string().contains("no evidence"), "{error}");
        assert_eq!(close.code, CloseCode::Protocol, "{close:?}");
    }
}

#[tokio::test]
async fn proto_n8_refuses_an_unknown_critical_frame_of_a_client() {
    let guest = Genuine::start().await;
    for (ended, kind) in (1..).zip([0x00, 0x0E, 0x7F]) {
        let mut client = Script::connect(guest.address).await;
        client.attest().await;
        client.framed.stream_mut().write_all(&frame(kind, b"x")).await.unwrap();
        client.framed.stream_mut().flush().await.unwrap();
        let close = client.closed().await;
        assert_eq!((close.code, close.accepted), (CloseCode::Protocol, 0));
        drop(client);
        guest.until_ended_at("frames", ended).await;
    }
    assert_eq!(guest.upstream.accepted(), 0);
}

#[tokio::test]
async fn proto_n8_refuses_an_unknown_critical_key_of_a_statement_and_of_an_attest() {
    let server = Liar::new().await;
    for (key, refused) in [(vec![16], true), (vec![0x18, 63], true), (vec![0x18, 64], false)] {
        let told = server
            .tells(|exporter| {
                let mut statement = server.statement(server.leaf(exporter)).encode();
                statement[0] += 1;
                statement.extend(&key);
                statement.push(0);
                let report_data = *binder(&statement).as_bytes();
                server.attest(statement, &report_data)
            })
            .await;
        if refused {
            told.refused_for("B_STATEMENT")
        } else {
            told.accepted()
        }
        let told = server
            .tells_bytes(|exporter| {
                let mut body = server.honest(exporter).encode();
                body[0] += 1;
                body.extend(&key);
                body.push(0);
                body
            })
            .await;
        if refused { told.refused_for("B_ATTEST") } else { told.accepted() }
    }
}

/// A server that attests honestly, and sends a second ATTEST before or after ACCEPT.
async fn attests_twice(server: &Liar, after_accept: bool) -> Result<Close, FramingError> {
    let Connected { mut framed, exporter } = server.accept().await;
    let attest = server.honest(&exporter).encode();
    framed.write(FrameType::Attest, &attest).await.unwrap();
    let open = framed.read().await.unwrap();
    assert_eq!((open.kind, Open::parse(&open.body).unwrap().number), (FrameType::Open, 0));
    if after_accept {
        let accept = Accept { number: 0, max_lifetime_secs: 60 };
        framed.write(FrameType::Accept, &accept.encode()).await.unwrap();
    }
    framed.write(FrameType::Attest, &attest).await.unwrap();
    loop {
        match framed.read().await {
            Ok(frame) => assert!(matches!(frame.kind, FrameType::Data | FrameType::Fin), "{frame:?}"),
            Err(FramingError::Closed(close)) => return Ok(close),
            Err(other) => return Err(other),
        }
    }
}

#[tokio::test]
async fn proto_n7_refuses_a_second_first_attest() {
    let server = Liar::new().await;
    let client = target(server.address);
    // Where ACCEPT is due, the tunnel never opens.
    let opening = async { client.attested().await?.open(None, &client).await?.accepted().await.map(|_| ()) };
    let (opened, _) = soon("both ends", async { tokio::join!(opening, attests_twice(&server, false)) }).await;
    let error = opened.unwrap_err().to_string();
    assert!(error.contains("Attest"), "{error}");

    // In an open tunnel it is an abort, and the application sees a reset.
    let through = page_of_a_broken_tunnel(&client);
    let (read, close) = soon("both ends", async { tokio::join!(through, attests_twice(&server, true)) }).await;
    assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(close.unwrap().code, CloseCode::Protocol);
}

async fn page_of_a_broken_tunnel(client: &Target) -> io::Result<Vec<u8>> {
    let tunnel = client.attested().await.unwrap().open(None, client).await.unwrap().accepted().await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut application = TcpStream::connect(listener.local_addr()?).await?;
    let (local, _) = listener.accept().await?;
    let relay = tokio::spawn(tunnel.relay(local.into()));
    let mut bytes = vec![];
    let read = application.read_to_end(&mut bytes).await;
    assert!(relay.await.unwrap().is_err());
    read.map(|_| bytes)
}

#[tokio::test]
async fn proto_n7_a_guest_refuses_an_attest_of_a_client_that_it_did_not_ask() {
    let guest = Genuine::start().await;
    let mut client = Script::connect(guest.address).await;
    let theirs = client.attest().await;
    client.framed.write(FrameType::Attest, &theirs).await.unwrap();
    let close = client.closed().await;
    assert_eq!(close.code, CloseCode::Protocol);
    assert!(close.text.contains("where OPEN was due"), "{close:?}");
    drop(client);
    guest.until_ended_at("frames", 1).await;
}

#[tokio::test]
async fn proto_n9_the_name_in_the_sni_neither_helps_nor_hurts() {
    let guest = Genuine::with(|_| (), "names = [\"llm.example\"]\n").await;
    let expects = policy().names(&["llm.example"]);
    let mut no_sni = client_config(None).unwrap();
    no_sni.enable_sni = false;
    let mut client = target_under(guest.address, &expects);
    for shown in ["llm.example", "other.example", "127.0.0.1", "::1"] {
        client.server_name = name(shown);
        assert!(page_through(&client).await.unwrap().ends_with("xxxxx"), "{shown}");
    }
    client.tls = Arc::new(no_sni);
    assert!(page_through(&client).await.unwrap().ends_with("xxxxx"), "without SNI");

    // What counts is the statement: a client that wants another name is not served by asking for it.
    let mut elsewhere = target_under(guest.address, &policy().names(&["other.example"]));
    elsewhere.server_name = name("other.example");
    assert_eq!(judged(&elsewhere.attested().await), Err(vec!["P_NAME"]));
    guest.until_ended_at("closed by the client", 1).await;
}

#[tokio::test]
async fn proto_n9_a_malformed_name_ends_only_its_own_connection() {
    const ALERT: u8 = 21;
    const HANDSHAKE: u8 = 22;
    let guest = Genuine::start().await;
    let hello = client_hello();
    let long = vec![b'a'; 255];
    for (sni, answer) in [
        (&b"guest.example"[..], HANDSHAKE),
        // Not allowed in the SNI (RFC 6066 §3); rustls takes it as none.
        (b"127.0.0.1", HANDSHAKE),
        (&long, ALERT),
        (b"", ALERT),
        (b"two\0names", ALERT),
    ] {
        let (seen, body) = soon("an answer", answer_to(guest.address, &with_sni(&hello, sni))).await;
        assert_eq!(seen, answer, "{:?}: {body:?}", String::from_utf8_lossy(sni));
        if answer == ALERT {
            assert_eq!(body[0], 2, "fatal: {body:?}");
        }
    }
    assert!(page_through(&target(guest.address)).await.unwrap().ends_with("xxxxx"));
}

#[test]
fn headers_of_this_file_are_those_of_the_wire() {
    assert_eq!(frame(FrameType::Data as u8, b"abc")[..4], Header::encode(FrameType::Data, 3));
}
