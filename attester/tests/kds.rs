//! The client of AMD's key service against a stand-in: addresses, store, single flight, back-off.

#![allow(clippy::unwrap_used)] // all of this is test code

#[allow(dead_code)]
#[path = "support/kds_server.rs"]
mod kds_server;

use attester::kds::{Kds, KdsError, Resource, Settings};
use kds_server::{KdsServer, Trouble, serve};
use ratls::endorsement::VekKind;
use ratls::tcb::Product;
use ratls::time::UnixTime;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

const CRL: Resource = Resource::Crl { kind: VekKind::Vcek, product: Product::Milan };
const OTHER: Resource = Resource::Crl { kind: VekKind::Vcek, product: Product::Genoa };
const PATH: &str = "/vcek/v1/Milan/crl";
const MS: Duration = Duration::from_millis(1);

/// Of the right form, and nothing else.
fn list(byte: u8) -> Vec<u8> {
    let mut der = vec![0x30, 0x82, 0x02, 0x00];
    der.extend([byte; 512]);
    der
}

fn now() -> UnixTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    UnixTime::from_secs(since.as_secs() as i64)
}

fn client(url: &str, cache_dir: Option<&Path>) -> Arc<Kds> {
    let settings = Settings {
        base_url: url.to_owned(),
        cache_dir: cache_dir.map(Path::to_owned),
        timeout: 300 * MS,
        first_pause: 100 * MS,
        longest_pause: 400 * MS,
    };
    Arc::new(Kds::new(settings, now).unwrap())
}

#[tokio::test]
async fn asks_once_and_keeps_the_answer() {
    let server = KdsServer::start().await;
    server.serves(PATH, list(1));
    let kds = client(&server.url, None);
    assert!(!kds.fetch(&CRL, None).await.unwrap().from_store);
    let again = kds.fetch(&CRL, Some(Duration::from_secs(60))).await.unwrap();
    assert_eq!((again.bytes.to_vec(), again.from_store), (list(1), true));
    assert_eq!(server.asked(), [PATH]);
}

#[tokio::test]
async fn a_hundred_that_ask_at_once_cost_one_request() {
    let server = KdsServer::start().await;
    server.serves(PATH, list(1));
    server.state().troubles.push_back(Trouble::Slow(100 * MS));
    let kds = client(&server.url, None);
    let ask = || {
        let kds = kds.clone();
        tokio::spawn(async move { kds.fetch(&CRL, None).await })
    };
    let all: Vec<_> = (0..100).map(|_| ask()).collect();
    for answer in all {
        assert_eq!(answer.await.unwrap().unwrap().bytes, list(1));
    }
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn where_the_first_gives_up_one_of_the_others_goes_on() {
    let server = KdsServer::start().await;
    server.serves(PATH, list(1));
    server.state().troubles.push_back(Trouble::Slow(200 * MS));
    let kds = client(&server.url, None);
    let (one, two) = (kds.clone(), kds.clone());
    let first = tokio::spawn(async move { one.fetch(&CRL, None).await });
    while server.asked().is_empty() {
        tokio::time::sleep(MS).await;
    }
    let second = tokio::spawn(async move { two.fetch(&CRL, None).await });
    tokio::time::sleep(20 * MS).await;
    first.abort();
    assert!(second.await.unwrap().is_ok());
    assert_eq!(server.asked().len(), 2);
}

#[tokio::test]
async fn what_was_stored_survives_a_restart_and_a_service_that_is_down() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("kds");
    let server = KdsServer::start().await;
    server.serves(PATH, list(1));
    client(&server.url, Some(&cache)).fetch(&CRL, None).await.unwrap();
    let url = server.url.clone();
    drop(server);
    let kds = client(&url, Some(&cache));
    assert_eq!(kds.fetch(&CRL, None).await.unwrap().bytes, list(1));
    let names: Vec<_> = fs::read_dir(&cache).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["Milan-vcek.crl"], "no temporary file stays behind");
}

#[tokio::test]
async fn an_old_copy_is_replaced_and_one_from_the_future_counts_as_old() {
    let dir = tempfile::tempdir().unwrap();
    let server = KdsServer::start().await;
    server.serves(PATH, list(2));
    let file = dir.path().join("Milan-vcek.crl");
    for stored_at in [SystemTime::now() - Duration::from_secs(7200), SystemTime::now() + Duration::from_secs(7200)] {
        fs::write(&file, list(1)).unwrap();
        fs::File::options().write(true).open(&file).unwrap().set_modified(stored_at).unwrap();
        let kds = client(&server.url, Some(dir.path()));
        assert_eq!(kds.stored(&CRL, None).await.unwrap(), list(1));
        assert_eq!(kds.fetch(&CRL, Some(Duration::from_secs(3600))).await.unwrap().bytes, list(2));
        assert_eq!(fs::read(&file).unwrap(), list(2));
    }
    assert_eq!(server.asked().len(), 2);
}

#[tokio::test]
async fn a_stored_file_that_is_broken_or_too_large_is_fetched_again() {
    let dir = tempfile::tempdir().unwrap();
    let server = KdsServer::start().await;
    server.serves(PATH, list(2));
    for broken in [b"".to_vec(), list(1)[..100].to_vec(), vec![0x30; 70_000]] {
        fs::write(dir.path().join("Milan-vcek.crl"), broken).unwrap();
        assert_eq!(client(&server.url, Some(dir.path())).fetch(&CRL, None).await.unwrap().bytes, list(2));
    }
    assert_eq!(server.asked().len(), 3);
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_costs_no_answer() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a file, not a directory");
    fs::write(&file, "").unwrap();
    let server = KdsServer::start().await;
    server.serves(PATH, list(1));
    assert_eq!(client(&server.url, Some(&file)).fetch(&CRL, None).await.unwrap().bytes, list(1));
}

#[tokio::test]
async fn a_throttling_service_is_left_alone_for_all_resources_as_long_as_it_said() {
    let server = KdsServer::start().await;
    server.serves(PATH, list(1));
    server.state().troubles.push_back(Trouble::Throttle(1));
    let kds = client(&server.url, None);
    let throttled = kds.fetch(&CRL, None).await.unwrap_err();
    assert_eq!(throttled, KdsError::Throttled { retry_after: Duration::from_secs(1) });
    for resource in [&CRL, &OTHER] {
        let refused = kds.fetch(resource, None).await.unwrap_err();
        assert!(matches!(refused, KdsError::Throttled { .. }), "{refused}");
        assert!(kds.pause(resource) > 500 * MS);
    }
    assert_eq!(server.asked().len(), 1, "nothing was asked meanwhile");
    tokio::time::sleep(kds.pause(&CRL)).await;
    assert!(kds.fetch(&CRL, None).await.is_ok());
}

#[tokio::test]
async fn an_absurd_retry_after_is_bounded() {
    let server = KdsServer::start().await;
    server.state().troubles.push_back(Trouble::Throttle(u64::MAX));
    let kds = client(&server.url, None);
    assert_eq!(kds.fetch(&CRL, None).await, Err(KdsError::Throttled { retry_after: Duration::from_secs(3600) }));
}

#[tokio::test]
async fn a_failure_is_remembered_for_longer_each_time_and_only_for_its_resource() {
    let server = KdsServer::start().await;
    server.serves(PATH, list(1));
    server.serves("/vcek/v1/Genoa/crl", list(3));
    server.state().troubles.extend([Trouble::Status(500), Trouble::Status(503)]);
    let kds = client(&server.url, None);
    for (status, at_least) in [(500, 80 * MS), (503, 170 * MS)] {
        let refused = kds.fetch(&CRL, None).await.unwrap_err();
        assert_eq!(refused, KdsError::Status { path: PATH.into(), status });
        assert_eq!(kds.fetch(&CRL, None).await.unwrap_err(), refused, "remembered");
        let pause = kds.pause(&CRL);
        assert!(pause >= at_least, "{pause:?}");
        tokio::time::sleep(pause).await;
    }
    assert_eq!(server.asked().len(), 2);
    assert!(kds.fetch(&CRL, None).await.is_ok());
    assert!(kds.fetch(&OTHER, None).await.is_ok());
}

#[tokio::test]
async fn refuses_what_is_slow_too_large_or_no_certificate_and_stores_none_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let server = KdsServer::start().await;
    server.serves(PATH, list(1));
    let slow = Trouble::Slow(Duration::from_secs(5));
    let garbage = |body: &[u8]| Trouble::Body(body.to_vec());
    type Expected = fn(&KdsError) -> bool;
    let cases: [(Trouble, Expected); 5] = [
        (slow, |error| matches!(error, KdsError::Unreachable { .. })),
        (garbage(&[0x30; 65_537]), |error| matches!(error, KdsError::TooLarge { max_bytes: 65_536, .. })),
        (garbage(b"<html>captive portal</html>"), |error| matches!(error, KdsError::Form { .. })),
        (garbage(&list(1)[..300]), |error| matches!(error, KdsError::Form { .. })),
        (Trouble::Status(302), |error| matches!(error, KdsError::Status { status: 302, .. })),
    ];
    for (trouble, expected) in cases {
        server.state().troubles.push_back(trouble);
        let refused = client(&server.url, Some(dir.path())).fetch(&CRL, None).await.unwrap_err();
        assert!(expected(&refused), "{refused}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn a_service_that_is_not_there_says_so() {
    let server = KdsServer::start().await;
    let url = server.url.clone();
    drop(server);
    tokio::task::yield_now().await;
    let refused = client(&url, None).fetch(&CRL, None).await.unwrap_err();
    assert!(matches!(refused, KdsError::Unreachable { .. }), "{refused}");
}

/// Names the server for the child below.
const CHILD_URL: &str = "EVIDENT_TEST_KDS_URL";

/// Not a test of its own: what the test below runs with another root store.
#[tokio::test]
async fn child_of_the_https_test() {
    let Ok(url) = std::env::var(CHILD_URL) else { return };
    let kds = Kds::new(Settings { base_url: url, ..Settings::amd(None) }, now).unwrap();
    match kds.fetch(&CRL, None).await {
        Ok(fetched) => println!("answer: {} bytes", fetched.bytes.len()),
        Err(error) => println!("answer: {error}"),
    }
}

#[tokio::test]
async fn https_is_taken_from_servers_that_the_systems_roots_vouch_for_and_from_no_others() {
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let roots = dir.path().join("roots.pem");
    fs::write(&roots, key.cert.pem()).unwrap();
    let other = dir.path().join("other.pem");
    fs::write(&other, rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.pem()).unwrap();

    let private = rustls::pki_types::PrivatePkcs8KeyDer::from(key.signing_key.serialize_der());
    #[cfg(feature = "aws-lc-rs")]
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    #[cfg(not(feature = "aws-lc-rs"))]
    let provider = rustls::crypto::ring::default_provider();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], private.into())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let state = Arc::new(std::sync::Mutex::new(kds_server::State::default()));
    state.lock().unwrap().answers.insert(PATH.into(), list(7));
    let server = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(tls) = acceptor.accept(stream).await {
                tokio::spawn(serve(tls, state.clone()));
            }
        }
    });

    for (roots, expected) in [(&roots, "answer: 516 bytes"), (&other, "TLS: invalid peer certificate")] {
        let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "child_of_the_https_test", "--nocapture"]);
        let output = child.env(CHILD_URL, &url).env("SSL_CERT_FILE", roots).output().await.unwrap();
        let output = String::from_utf8_lossy(&output.stdout);
        assert!(output.contains(expected), "{output}");
    }
    server.abort();
}
