//! X3: five seconds after a connection has ended, neither program's memory holds a secret of it: not the exporter's, not a
//! traffic secret of any phase, not a key of a record.
//!
//! Each program runs against an end of ours that knows the secrets; its writable memory is searched through /proc/PID/mem,
//! while the connection is open (the search must find what it looks for) and afterwards.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use evident_tests::{Client, Guest, Upstream};
use proxy_core::framing::Framed;
use proxy_core::tls::{connect, provider};
use ratls::crypto::SuiteHash;
use ratls::wire::control::{Accept, Mode, Open};
use ratls::wire::frame::FrameType;
use rustls::CipherSuite;
use tokio::net::TcpStream;

use crate::client::name;
use crate::genuine::PKI;
use crate::liar::Liar;
use crate::secrets::Recorder;
use crate::soon;

/// What the kernel, other threads and pools get to let go of a connection.
const AFTERWARDS: Duration = Duration::from_secs(5);

/// Everything of a connection that would open its records or make its exporter values.
fn secrets(recorder: &Recorder, suite: CipherSuite) -> BTreeMap<String, Vec<u8>> {
    let logged = recorder.0.lock().unwrap().clone();
    assert_eq!(logged.len(), 5, "handshake, traffic and exporter secrets");
    let key_length = if suite == CipherSuite::TLS13_AES_128_GCM_SHA256 { 16 } else { 32 };
    let mut all = BTreeMap::new();
    for (label, secret) in logged {
        let hash = SuiteHash::from_length(secret.len()).unwrap();
        if label.contains("TRAFFIC") {
            let mut key = vec![0; key_length];
            hash.expand_label(&secret, b"key", None, &mut key);
            all.insert(format!("the key of {label}"), key);
            let mut next = vec![0; hash.length()];
            hash.expand_label(&secret, b"traffic upd", None, &mut next);
            all.insert(format!("the secret after {label}"), next);
        }
        all.insert(label, secret);
    }
    all
}

/// Which of them the process's writable memory holds, and in which mapping.
fn found_in(pid: u32, secrets: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut found = Vec::new();
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (Some(range), Some(rights)) = (words.next(), words.next()) else { continue };
        if !rights.starts_with("rw") {
            continue;
        }
        let (begin, end) = range.split_once('-').unwrap();
        let [begin, end] = [begin, end].map(|text| u64::from_str_radix(text, 16).unwrap());
        let mut bytes = vec![0; usize::try_from(end - begin).unwrap()];
        // A mapping may have gone since the list was read.
        if memory.read_exact_at(&mut bytes, begin).is_err() {
            continue;
        }
        for (what, secret) in secrets {
            for at in find_all(&bytes, secret) {
                found.push(format!(
                    "{what} at {:#x} of {}",
                    begin + at as u64,
                    words.clone().next_back().unwrap_or("?")
                ));
            }
        }
    }
    found
}

fn find_all(bytes: &[u8], wanted: &[u8]) -> Vec<usize> {
    let first = wanted[0];
    let starts = bytes.iter().enumerate().filter(|(_, byte)| **byte == first).map(|(at, _)| at);
    starts.filter(|at| bytes[*at..].starts_with(wanted)).collect()
}

/// A client that offers this suite alone and believes any certificate of the right name: whose guest it is does not matter.
fn recorded(suite: rustls::SupportedCipherSuite, recorder: Arc<Recorder>) -> rustls::ClientConfig {
    let chosen = rustls::crypto::CryptoProvider { cipher_suites: vec![suite], ..(*provider()).clone() };
    let mut config =
        proxy_core::tls::config::client_config_under(Arc::new(chosen), &[ratls::wire::ALPN], None).unwrap();
    config.key_log = recorder;
    config
}

fn open(number: u64) -> Vec<u8> {
    Open { number, mode: Mode::Framed, target: None, inner_alpn: None, features: 0, token: None }.encode()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proto_x3_the_guest_keeps_no_secret_of_a_connection_that_has_ended() {
    let upstream = Upstream::http().unwrap();
    let guest = Guest::in_front_of(upstream.address()).start().unwrap();
    for suite in provider().cipher_suites.iter().filter(|suite| suite.tls13().is_some()) {
        let recorder = Arc::new(Recorder::default());
        let config = recorded(*suite, recorder.clone());
        let stream = TcpStream::connect(guest.address()).await.unwrap();
        let handshake = connect(Arc::new(config), name("guest.example"), stream).await.unwrap();
        let mut framed = Framed::new(handshake.tls);
        assert_eq!(framed.read().await.unwrap().kind, FrameType::Attest);
        framed.write(FrameType::Open, &open(0)).await.unwrap();
        assert_eq!(framed.read().await.unwrap().kind, FrameType::Accept);
        framed.write(FrameType::Data, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        assert_eq!(framed.read().await.unwrap().kind, FrameType::Data);
        let secrets = secrets(&recorder, suite.suite());
        let held = found_in(guest.program.pid(), &secrets);
        assert!(!held.is_empty(), "the search finds nothing even in a connection that is open");
        framed.write(FrameType::Fin, b"").await.unwrap();
        while framed.read().await.is_ok() {}
        drop(framed);
        tokio::time::sleep(AFTERWARDS).await;
        let left = found_in(guest.program.pid(), &secrets);
        assert!(left.is_empty(), "{:?}: {left:#?}", suite.suite());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proto_x3_the_client_keeps_no_secret_of_a_connection_that_has_ended() {
    let server = Liar::new().await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("root.pem"), PKI.root_pem()).unwrap();
    let policy = evident_tests::policy::PolicyText::for_simulator(dir.path());
    let builder = Client::with_policy(server.address, policy).config("[limits]\npool_connections = 0\n");
    let client = tokio::task::spawn_blocking(move || builder.start().unwrap()).await.unwrap();

    // Accepted by the probe at start, accepted with a tunnel, and refused.
    for (accepted, opens) in [(true, false), (true, true), (false, false)] {
        let application = match (accepted, opens) {
            (true, false) => None,
            _ => Some(TcpStream::connect(client.listen()).await.unwrap()),
        };
        let recorder = Arc::new(Recorder::default());
        let mut config = server.config();
        config.key_log = recorder.clone();
        let stream = server.accept_tcp().await;
        let tls = tokio_rustls::TlsAcceptor::from(Arc::new(config)).accept(stream).await.unwrap();
        let suite = tls.get_ref().1.negotiated_cipher_suite().unwrap().suite();
        let mut framed = Framed::new(tls);
        let exporter = recorder.exporter();
        let statement = server.statement(server.leaf(&exporter));
        let attest = if accepted { server.over(&statement) } else { server.attest(statement.encode(), &[0; 64]) };
        framed.write(FrameType::Attest, &attest.encode()).await.unwrap();
        let secrets = secrets(&recorder, suite);
        if opens {
            soon("OPEN", framed.read()).await.unwrap();
            let held = found_in(client.program.pid(), &secrets);
            assert!(!held.is_empty(), "the search finds nothing even in a connection that is open");
            framed.write(FrameType::Accept, &Accept { number: 0, max_lifetime_secs: 9 }.encode()).await.unwrap();
            framed.write(FrameType::Data, b"hello").await.unwrap();
            framed.write(FrameType::Fin, b"").await.unwrap();
            drop(application);
        }
        while soon("CLOSE", framed.read()).await.is_ok() {}
        drop(framed);
        tokio::time::sleep(AFTERWARDS).await;
        let left = found_in(client.program.pid(), &secrets);
        assert!(left.is_empty(), "accepted: {accepted}, with a tunnel: {opens}: {left:#?}");
    }
    tokio::task::spawn_blocking(move || drop(client)).await.unwrap();
}
