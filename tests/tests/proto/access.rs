//! Who may use a guest, and what those are told who may not, who are not EVIDENT, or who meet something that is not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use evident_client::dial::Target;
use evident_client::open::OpenError;
use evident_tests::Client;
use evident_tests::wait::PATIENCE;
use proxy_core::framing::FramingError;
use proxy_core::tls::{ServerIdentity, client_config};
use ratls::wire::control::{CloseCode, Open};
use ratls::wire::frame::FrameType;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{AlertDescription, ClientConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::client::{Script, answer_to, name, page_through, target};
use crate::genuine::{Genuine, PKI};
use crate::liar::{Connected, Liar, closed};
use crate::soon;

/// A guest that asks for the token "right".
async fn with_tokens(dir: &std::path::Path) -> Genuine {
    let hash = ratls::crypto::sha256(&[b"right"]);
    let file = dir.join("tokens");
    std::fs::write(&file, format!("{hash} laptop\n")).unwrap();
    Genuine::with(|_| (), &format!("[clients]\ntokens_file = {file:?}\n")).await
}

#[tokio::test]
async fn a_tunnel_opens_with_the_right_access_token_and_not_without_or_with_another() {
    let dir = tempfile::tempdir().unwrap();
    let guest = with_tokens(dir.path()).await;
    let with =
        |token: Option<&str>| Target { token: token.map(|token| token.as_bytes().to_vec()), ..target(guest.address) };
    assert!(page_through(&with(Some("right"))).await.unwrap().ends_with("xxxxx"));
    let reached = guest.upstream.accepted();
    for (ended, token) in (1..).zip([None, Some("wrong"), Some("right "), Some("Right")]) {
        let error = page_through(&with(token)).await.unwrap_err();
        assert!(matches!(error, OpenError::AccessDenied { .. }), "{error}");
        assert!(error.to_string().contains("access token missing or wrong"), "{error}");
        guest.until_ended_at("access", ended).await;
    }
    assert_eq!(guest.upstream.accepted(), reached);
    assert!(page_through(&with(Some("right"))).await.is_ok());
}

#[tokio::test]
async fn the_second_open_of_a_connection_is_checked_for_its_token_too() {
    let dir = tempfile::tempdir().unwrap();
    let guest = with_tokens(dir.path()).await;
    let mut client = Script::connect(guest.address).await;
    client.attest().await;
    let open = |number, token: &[u8]| Open {
        number,
        mode: ratls::wire::control::Mode::Raw,
        target: None,
        inner_alpn: None,
        features: 0,
        token: Some(token.to_vec()),
    };
    client.framed.write(FrameType::Open, &open(0, b"right").encode()).await.unwrap();
    assert_eq!(client.framed.read().await.unwrap().kind, FrameType::Refuse, "raw tunnels are not served");
    client.framed.write(FrameType::Open, &open(1, b"wrong").encode()).await.unwrap();
    let close = client.closed().await;
    assert_eq!((close.code, close.accepted), (CloseCode::AccessDenied, 0));
}

#[tokio::test]
async fn a_right_token_passes_however_many_wrong_ones_came_from_its_source() {
    let dir = tempfile::tempdir().unwrap();
    let guest = with_tokens(dir.path()).await;
    let with = |token: &str| Target { token: Some(token.as_bytes().to_vec()), ..target(guest.address) };
    let begun = std::time::Instant::now();
    let guess = async || (page_through(&with("wrong")).await.unwrap_err(), begun.elapsed());
    let guesses = async { tokio::join!(guess(), guess(), guess(), guess(), guess(), guess()) };
    let ((a, b, c, d, e, f), right) = tokio::join!(guesses, async {
        page_through(&with("right")).await.unwrap();
        page_through(&with("right")).await.unwrap();
        begun.elapsed()
    });
    for (error, after) in [a, b, c, d, e, f] {
        assert!(matches!(error, OpenError::AccessDenied { .. }), "{error}");
        assert!(after >= std::time::Duration::from_secs(1), "a guess was answered after {after:?}");
        assert!(right < after, "the right token waited for the wrong ones");
    }
}

#[tokio::test]
async fn an_access_token_is_not_shown_to_a_server_whose_evidence_is_refused() {
    let server = Liar::new().await;
    let client = Target { token: Some(b"secret-token".to_vec()), ..target(server.address) };
    let serving = async {
        let Connected { mut framed, exporter } = server.accept().await;
        let statement = server.statement(server.leaf(&exporter)).encode();
        framed.write(FrameType::Attest, &server.attest(statement, &[0; 64]).encode()).await.unwrap();
        // The first frame is CLOSE, and no second one comes.
        let close = closed(&mut framed).await;
        (close.code, framed.read().await.map(drop))
    };
    let (refused, (code, after)) = soon("both ends", async { tokio::join!(client.attested(), serving) }).await;
    assert!(matches!(refused, Err(OpenError::Refused { .. })));
    assert_eq!(code, CloseCode::EvidenceRefused);
    assert!(matches!(after, Err(FramingError::Ended)), "{after:?}");
}

/// A CA in PEM, and a client's identity that it signed.
struct Ca {
    pem: String,
    client: ServerIdentity,
}

fn ca() -> Ca {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(["client.example".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    Ca { pem: issuer.pem(), client: ServerIdentity { chain: vec![leaf.der().clone()], key } }
}

#[tokio::test]
async fn a_client_with_a_certificate_of_the_right_ca_is_served_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (ca(), ca());
    let file = dir.path().join("ca.pem");
    std::fs::write(&file, &ours.pem).unwrap();
    let guest = Genuine::with(|_| (), &format!("[clients]\nca_file = {file:?}\n")).await;
    let with = |identity| Target { tls: Arc::new(client_config(identity).unwrap()), ..target(guest.address) };

    // The evidence then follows the client's Finished, which the client does not notice.
    assert!(page_through(&with(Some(ours.client))).await.unwrap().ends_with("xxxxx"));
    let (reached, reports) = (guest.upstream.accepted(), guest.controls.reports_made());
    for (ended, identity) in (1..).zip([None, Some(theirs.client)]) {
        let error = page_through(&with(identity)).await.unwrap_err();
        assert!(matches!(error, OpenError::Unreachable { .. }), "{error}");
        assert!(error.to_string().contains("alert"), "{error}");
        guest.until_ended_at("handshake", ended).await;
    }
    assert_eq!(guest.upstream.accepted(), reached);
    assert!(guest.controls.reports_made() <= reports + 2);
}

#[tokio::test]
async fn an_ordinary_client_is_served_as_a_browser_would_be() {
    let guest = Genuine::start().await;
    for alpn in [&[&b"h2"[..], b"http/1.1"][..], &[b"http/1.1"], &[]] {
        let config = proxy_core::tls::config::client_config_for(alpn, None).unwrap();
        let stream = TcpStream::connect(guest.address).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let tls = connector.connect(name("guest.example"), stream).await.unwrap();
        assert_eq!(tls.get_ref().1.alpn_protocol(), alpn.first().copied());
    }
    let status = curl(guest.address).await.unwrap();
    assert_eq!(status, "200");
}

#[tokio::test]
async fn an_ordinary_client_is_told_where_only_attested_ones_are_served() {
    let guest = Genuine::with(|_| (), "plain_clients = \"refuse\"\n").await;
    for (ended, alpn) in (1..).zip([&[&b"h2"[..], b"http/1.1"][..], &[]]) {
        let config = proxy_core::tls::config::client_config_for(alpn, None).unwrap();
        let mut tls = ClientConnection::new(Arc::new(config), name("guest.example")).unwrap();
        let mut hello = vec![];
        tls.write_tls(&mut hello).unwrap();
        let (kind, body) = answer_to(guest.address, &hello).await;
        let alert = u8::from(AlertDescription::NoApplicationProtocol);
        assert_eq!((kind, &body[..]), (21, &[2, alert][..]));
        guest.until_ended_at("protocol refused", ended).await;
    }
    assert!(curl(guest.address).await.is_err());
    assert!(page_through(&target(guest.address)).await.is_ok());
}

/// The status that `curl -k` gets.
async fn curl(address: SocketAddr) -> anyhow::Result<String> {
    let url = format!("https://{address}/");
    let curl = evident_tests::Program::new("curl")
        .args(["--disable", "--silent", "--show-error", "--insecure", "--noproxy", "*", "--max-time", "20"])
        .args(["--output", "/dev/null", "--write-out", "%{http_code}", &url]);
    tokio::task::spawn_blocking(move || curl.run(evident_tests::wait::PATIENCE)?.success()).await?
}

/// What the client says of a server that is not EVIDENT, and how soon.
async fn met(listener: TcpListener, serve: impl AsyncFn(TcpStream)) -> (String, Duration) {
    let mut client = target(listener.local_addr().unwrap());
    client.deadlines.handshake = Duration::from_millis(700);
    let begun = Instant::now();
    let serving = async {
        let (stream, _) = listener.accept().await.unwrap();
        serve(stream).await;
    };
    let (outcome, ()) = soon("both ends", async { tokio::join!(client.attested(), serving) }).await;
    (outcome.err().expect("there is nothing to attest").to_string(), begun.elapsed())
}

#[tokio::test]
async fn a_client_says_what_it_met_instead_of_a_guest_and_does_not_wait_for_more() {
    let bind = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
    let banner = async |mut stream: TcpStream| {
        stream.write_all(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n").await.unwrap();
        let _ = stream.read_to_end(&mut vec![]).await;
    };
    let http = async |mut stream: TcpStream| {
        let _ = stream.read(&mut [0; 64]).await;
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").await;
        let _ = stream.read_to_end(&mut vec![]).await;
    };
    let ends = async |mut stream: TcpStream| {
        let _ = stream.read(&mut [0; 4096]).await;
    };
    let silent = async |mut stream: TcpStream| {
        let _ = stream.read_to_end(&mut vec![]).await;
    };
    for (told, (error, took)) in [
        ("does not speak TLS", met(bind().await, banner).await),
        ("does not speak TLS", met(bind().await, http).await),
        ("the TLS handshake failed", met(bind().await, ends).await),
        ("the TLS handshake took too long", met(bind().await, silent).await),
    ] {
        assert!(error.starts_with("cannot reach the guest at 127.0.0.1:") && error.contains(told), "{error}");
        assert!(took < Duration::from_secs(2), "{told}: {took:?}");
    }
    // Nobody.
    let gone = bind().await.local_addr().unwrap();
    let error = target(gone).attested().await.err().unwrap().to_string();
    assert!(error.contains("nothing listens"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_programs_say_so_too() {
    let guest = Genuine::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut config = guest.stolen_with_evidence();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let serving = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move { acceptor.accept(stream).await.map(drop) });
        }
    });

    let inspected = tokio::task::spawn_blocking(move || {
        evident_tests::client::inspect(address, None).unwrap().run(PATIENCE).unwrap()
    });
    let inspected = inspected.await.unwrap();
    assert_eq!(inspected.code().unwrap(), 4, "{inspected:?}");
    assert!(inspected.stderr.contains("the server is not EVIDENT"), "{inspected:?}");
    assert!(inspected.took < Duration::from_secs(3), "{inspected:?}");

    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("root.pem"), PKI.root_pem()).unwrap();
    let policy = evident_tests::policy::PolicyText::for_simulator(dir.path()).names(&["llm.example"]);
    let client = tokio::task::spawn_blocking(move || Client::with_policy(address, policy).start().unwrap());
    let client = client.await.unwrap();
    let mut proxy = TcpStream::connect(client.http_proxy()).await.unwrap();
    proxy
        .write_all(b"GET http://llm.example/ HTTP/1.1\r\nHost: llm.example\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    soon("an answer", proxy.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("the server is not EVIDENT"), "{answer}");
    serving.abort();
    tokio::task::spawn_blocking(move || drop(client)).await.unwrap();
}
