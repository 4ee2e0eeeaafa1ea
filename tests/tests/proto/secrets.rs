//! X2: what must not be in any log, page or verdict, looked for by its value.
//!
//! Each proxy runs with the most talkative log against an end of ours that knows the TLS secrets of the connection, and all
//! that the proxy says is searched for each of them in every spelling that a careless format string would give.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use evident_tests::http::fetch;
use evident_tests::{Client, Guest, Upstream};
use proxy_core::framing::{Framed, FramingError};
use proxy_core::tls::{client_config, connect};
use ratls::binding::ExporterSecret;
use ratls::binding::exporter::{BIND_LABEL, ID_LABEL};
use ratls::bundle::Bundle;
use ratls::wire::control::{Accept, Mode, Open};
use ratls::wire::frame::FrameType;
use rustls::KeyLog;
use tokio::net::TcpStream;

use crate::client::name;
use crate::genuine::PKI;
use crate::liar::Liar;
use crate::soon;

const TOKEN: &[u8] = b"correct horse battery staple";

/// Takes every secret of a connection.
#[derive(Debug, Default)]
pub(crate) struct Recorder(pub(crate) Mutex<Vec<(String, Vec<u8>)>>);

impl KeyLog for Recorder {
    fn log(&self, label: &str, _: &[u8], secret: &[u8]) {
        self.0.lock().unwrap().push((label.to_owned(), secret.to_vec()));
    }
}

impl Recorder {
    pub(crate) fn exporter(&self) -> ExporterSecret {
        let secrets = self.0.lock().unwrap();
        let (_, secret) = secrets.iter().find(|(label, _)| label == "EXPORTER_SECRET").expect("the handshake is done");
        ExporterSecret::from_key_log(secret).unwrap()
    }

    /// All that nobody may print of this connection.
    fn secrets(&self) -> Vec<(String, Vec<u8>)> {
        let exporter = self.exporter();
        let mut secrets = self.0.lock().unwrap().clone();
        assert!(secrets.len() >= 5, "handshake, traffic and exporter secrets: {}", secrets.len());
        secrets.push(("bind32".to_owned(), exporter.export(BIND_LABEL, b"").to_vec()));
        secrets.push(("id".to_owned(), exporter.export(ID_LABEL, b"")[..16].to_vec()));
        secrets.push(("token".to_owned(), TOKEN.to_vec()));
        secrets
    }
}

/// The spellings of some bytes that a program prints by mistake. Of each, enough to know it by.
fn spellings(bytes: &[u8]) -> Vec<String> {
    let bytes = &bytes[..12];
    let list =
        |format: fn(&u8) -> String, separator: &str| bytes.iter().map(format).collect::<Vec<_>>().join(separator);
    vec![
        list(|b| format!("{b:02x}"), ""),
        list(|b| format!("{b:02X}"), ""),
        list(|b| format!("{b:02x}"), ":"),
        list(|b| format!("{b:02x}"), " "),
        list(|b| format!("{b:x}"), ", "),
        list(|b| b.to_string(), ", "),
        list(|b| b.to_string(), ","),
        bytes.escape_ascii().to_string(),
        String::from_utf8_lossy(bytes).into_owned(),
        base64(bytes),
    ]
}

/// Of a multiple of three bytes, so a prefix of the whole.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let sextets = bytes.chunks_exact(3).flat_map(|c| {
        let bits = u32::from_be_bytes([0, c[0], c[1], c[2]]);
        [18, 12, 6, 0].map(|shift| ALPHABET[(bits >> shift) as usize & 63] as char)
    });
    sextets.collect()
}

fn assert_free_of(secrets: &[(String, Vec<u8>)], where_: &str, text: &str) {
    for (what, bytes) in secrets {
        for spelling in spellings(bytes) {
            assert!(!text.contains(&spelling), "{where_} contains {what} as {spelling:?}");
        }
    }
}

#[test]
fn the_search_finds_what_it_looks_for() {
    let bytes = TOKEN.to_vec();
    let secrets = [("token".to_owned(), bytes.clone())];
    let found = |text: String| std::panic::catch_unwind(|| assert_free_of(&secrets, "a log", &text)).is_err();
    for text in [
        hex::encode(&bytes),
        hex::encode_upper(&bytes),
        format!("{bytes:?}"),
        format!("{bytes:x?}"),
        format!("token={:?}", String::from_utf8(bytes.clone()).unwrap()),
        "Y29ycmVjdCBob3JzZSBiYXR0ZXJ5IHN0YXBsZQ==".to_owned(),
    ] {
        assert!(found(text.clone()), "{text}");
    }
    assert!(!found("an ordinary line".to_owned()));
}

/// What a proxy shows on its pages.
fn pages(admin: SocketAddr) -> String {
    ["/verdict", "/metrics", "/readyz"].map(|path| fetch(admin, path).unwrap().body).concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proto_x2_the_guest_says_no_secret_of_a_connection_at_any_log_level() {
    let upstream = Upstream::http().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let tokens = dir.path().join("tokens");
    std::fs::write(&tokens, format!("{} laptop\n", ratls::crypto::sha256(&[TOKEN]))).unwrap();
    let guest = Guest::in_front_of(upstream.address())
        .config(&format!("[clients]\ntokens_file = {tokens:?}\n"))
        .log("trace")
        .start()
        .unwrap();
    // With the right token, and with one that is refused.
    for token in [TOKEN, &TOKEN[..16]] {
        let recorder = Arc::new(Recorder::default());
        let mut config = client_config(None).unwrap();
        config.key_log = recorder.clone();
        let stream = TcpStream::connect(guest.address()).await.unwrap();
        let handshake = connect(Arc::new(config), name("guest.example"), stream).await.unwrap();
        let mut framed = Framed::new(handshake.tls);
        assert_eq!(framed.read().await.unwrap().kind, FrameType::Attest);
        assert!(recorder.exporter().bind_initial() == handshake.bind);
        let open = Open {
            number: 0,
            mode: Mode::Framed,
            target: None,
            inner_alpn: None,
            features: 0,
            token: Some(token.to_vec()),
        };
        framed.write(FrameType::Open, &open.encode()).await.unwrap();
        match framed.read().await {
            Ok(frame) => {
                assert_eq!((frame.kind, token), (FrameType::Accept, TOKEN));
                framed.write(FrameType::Data, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
                framed.write(FrameType::Fin, b"").await.unwrap();
                while framed.read().await.is_ok() {}
            }
            Err(error) => assert!(matches!(error, FramingError::Closed(_)) && token != TOKEN, "{error}"),
        }
        drop(framed);
        assert_free_of(&recorder.secrets(), "the guest's pages", &pages(guest.admin()));
        let log = guest.program.stderr() + &guest.program.stdout();
        assert!(log.contains("TRACE"), "the log is at its most talkative: {log}");
        assert_free_of(&recorder.secrets(), "the guest's log", &log);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proto_x2_the_client_says_no_secret_of_a_connection_at_any_log_level() {
    let server = Liar::new().await;
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    file("root.pem", &PKI.root_pem());
    let token = file("token", std::str::from_utf8(TOKEN).unwrap());
    let policy = evident_tests::policy::PolicyText::for_simulator(dir.path());
    let builder =
        Client::with_policy(server.address, policy).log("trace").args(&["--token-file", token.to_str().unwrap()]);
    let client = tokio::task::spawn_blocking(move || builder.start().unwrap()).await.unwrap();

    // Twice accepted, the first by the probe at start; once refused.
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
        let mut framed = Framed::new(tls);
        let exporter = recorder.exporter();
        let statement = server.statement(server.leaf(&exporter));
        let attest = if accepted { server.over(&statement) } else { server.attest(statement.encode(), &[0; 64]) };
        framed.write(FrameType::Attest, &attest.encode()).await.unwrap();
        if opens {
            let open = soon("OPEN", framed.read()).await.unwrap();
            assert_eq!(Open::parse(&open.body).unwrap().token.as_deref(), Some(TOKEN));
            framed.write(FrameType::Accept, &Accept { number: 0, max_lifetime_secs: 9 }.encode()).await.unwrap();
            framed.write(FrameType::Data, b"hello").await.unwrap();
            framed.write(FrameType::Fin, b"").await.unwrap();
            drop(application);
        }
        while soon("CLOSE", framed.read()).await.is_ok() {}
        drop(framed);
        let admin = client.admin();
        let shown = tokio::task::spawn_blocking(move || pages(admin)).await.unwrap();
        assert_free_of(&recorder.secrets(), "the client's pages", &shown);
        let log = client.program.stderr() + &client.program.stdout();
        assert!(log.contains("TRACE"), "the log is at its most talkative: {log}");
        assert_free_of(&recorder.secrets(), "the client's log", &log);
    }
    tokio::task::spawn_blocking(move || drop(client)).await.unwrap();
}

#[test]
fn proto_x2_a_verdict_holds_no_secret_of_the_bundle_that_it_is_about() {
    let upstream = Upstream::http().unwrap();
    let guest = Guest::in_front_of(upstream.address()).log("trace").start().unwrap();
    let policy = guest.simulator().join("policy.toml");
    guest.policy().write(&policy).unwrap();
    let file = guest.simulator().join("bundle");
    let inspect = || evident_tests::client::inspect(guest.address(), Some(&policy)).unwrap().env("RUST_LOG", "trace");
    let saved = inspect().arg("--json").arg("--save").arg(&file).run(evident_tests::wait::PATIENCE).unwrap();
    let bundle = Bundle::parse(&std::fs::read(&file).unwrap()).unwrap();
    let secrets = [("bind32".to_owned(), bundle.bind.as_bytes().to_vec())];
    assert!(saved.stdout.contains("\"verdict\": \"accepted\""), "{saved:?}");
    let verify = |json: &[&str]| {
        let program = evident_tests::Program::new(evident_tests::binaries::evident_client().unwrap());
        let program = program.args(["verify", "--policy"]).arg(&policy).args(json).arg(&file).env("RUST_LOG", "trace");
        let done = program.run(evident_tests::wait::PATIENCE).unwrap();
        done.stdout + &done.stderr
    };
    for (where_, text) in [
        ("inspect", saved.stdout + &saved.stderr),
        ("verify", verify(&[])),
        ("verify --json", verify(&["--json"])),
        ("the guest's log", guest.program.stderr()),
    ] {
        assert!(!text.is_empty());
        assert_free_of(&secrets, where_, &text);
    }
}
