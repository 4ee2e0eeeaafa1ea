//! Endorsements of real reports from a stand-in for AMD's service, and of simulated ones with everything that can go wrong.

#![allow(clippy::unwrap_used)] // all of this is test code

#[allow(dead_code)]
#[path = "support/evidence.rs"]
mod evidence;
#[allow(dead_code)]
#[path = "support/kds_server.rs"]
mod kds_server;

use attester::batcher::{Settings as BatcherSettings, StatementContext};
use attester::kds::Settings;
use attester::{
    Batcher, DeviceError, DeviceReport, EndorseError, Endorsed, Endorser, Kds, Pace, PlainSnp, ReportDevice, Standing,
};
use kds_server::{KdsServer, Trouble};
use ratls::binding::statement::Epoch;
use ratls::binding::{KeyLeaf, SpkiDigest, UpstreamScope};
use ratls::digest::Sha256Digest;
use ratls::endorsement::{CrlStatus, TrustAnchors};
use ratls::tcb::Product;
use ratls::time::UnixTime;
use ratls::verify::{ReportRefusal, verify_report};
use ratls::wire::attest::media;
use simulator::{Authority, Config, Pki, RsaSize, SimulatedAmdSp, Vek};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::sync::watch;

const MS: Duration = Duration::from_millis(1);
/// Within the validity of everything that the simulator makes.
const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
const DAY: i64 = 86_400;

fn kds(url: &str, cache_dir: Option<&Path>, at: UnixTime) -> Kds {
    let settings = Settings {
        base_url: url.to_owned(),
        cache_dir: cache_dir.map(Path::to_owned),
        timeout: 300 * MS,
        first_pause: 20 * MS,
        longest_pause: 50 * MS,
    };
    Kds::new(settings, move || at).unwrap()
}

/// The bytes in the staple of one media type.
fn stapled<'a>(endorsed: &'a Endorsed, media_type: &str) -> Vec<&'a [u8]> {
    endorsed.staple().iter().filter(|item| item.media_type == media_type).map(|item| item.bytes.as_slice()).collect()
}

/// What a client does with the staple.
fn client_accepts(report: &[u8], endorsed: &Endorsed, anchors: &TrustAnchors, at: UnixTime) -> bool {
    let (certificates, crls) = (stapled(endorsed, media::CERTIFICATE), stapled(endorsed, media::CRL));
    verify_report(report, &certificates, &crls, anchors, at).is_ok()
}

mod real {
    //! Reports of real machines.
    use super::*;

    async fn amd(folder: &Path, cases: &[evidence::Case]) -> KdsServer {
        let server = KdsServer::start().await;
        for (path, pem) in evidence::chains(folder) {
            server.serves(path, pem);
        }
        for case in cases.iter().filter(|case| !case.vlek) {
            server.serves(case.vcek_path(), case.vek.clone());
        }
        server
    }

    #[tokio::test]
    async fn every_vcek_report_is_endorsed_from_the_key_service_and_then_from_the_disk() {
        let name = "every_vcek_report_is_endorsed_from_the_key_service_and_then_from_the_disk";
        let Some(folder) = evidence::folder(name) else { return };
        let cases: Vec<_> = evidence::authentic_cases(&folder).into_iter().filter(|case| !case.vlek).collect();
        let server = amd(&folder, &cases).await;
        let cache = tempfile::tempdir().unwrap();
        for case in &cases {
            let at = UnixTime::parse_rfc3339(&case.at).unwrap();
            let endorser = |url: &str| {
                Endorser::new(Some(kds(url, Some(cache.path()), at)), TrustAnchors::amd(), vec![], move || at)
            };
            let endorsed = endorser(&server.url).endorse(&case.report, &[]).await.unwrap();
            let certificates = stapled(&endorsed, media::CERTIFICATE);
            assert_eq!(certificates[0], case.vek, "{}: the leaf comes first", case.id);
            assert_eq!(certificates.len(), 2, "{}: the root is not stapled", case.id);
            assert!(client_accepts(&case.report, &endorsed, &TrustAnchors::amd(), at), "{}", case.id);
            assert!(server.asked().contains(&case.vcek_path()), "{}", case.id);
            // 127.0.0.1:1 answers nothing.
            let again = endorser("http://127.0.0.1:1").endorse(&case.report, &[]).await.unwrap();
            assert_eq!(stapled(&again, media::CERTIFICATE), certificates, "{}", case.id);
        }
        assert!(cases.len() >= 15, "{} cases", cases.len());
    }

    #[tokio::test]
    async fn a_vlek_leaf_is_never_asked_of_the_key_service_and_taken_from_the_table() {
        let name = "a_vlek_leaf_is_never_asked_of_the_key_service_and_taken_from_the_table";
        let Some(folder) = evidence::folder(name) else { return };
        let cases: Vec<_> = evidence::authentic_cases(&folder).into_iter().filter(|case| case.vlek).collect();
        assert!(!cases.is_empty());
        for case in &cases {
            let server = amd(&folder, &[]).await;
            let at = UnixTime::parse_rfc3339(&case.at).unwrap();
            let endorser = || Endorser::new(Some(kds(&server.url, None, at)), TrustAnchors::amd(), vec![], move || at);
            let without = endorser();
            for _ in 0..2 {
                let refused = without.endorse(&case.report, &[]).await.unwrap_err();
                assert!(matches!(refused, EndorseError::NoVlek), "{}: {refused}", case.id);
            }
            let chains = server.asked().iter().filter(|path| path.ends_with("/cert_chain")).count();
            assert!(chains <= 2, "{}: the chain is not to blame and not fetched again", case.id);
            let guid = 0xa8074bc2_a25a_483e_aae6_39c045a0b8a1_u128;
            let table = simulator::amd_sp::certificate_table(&[(guid.to_be_bytes(), &case.vek)]);
            let endorsed = endorser().endorse(&case.report, &table).await.unwrap();
            assert_eq!(stapled(&endorsed, media::CERTIFICATE)[0], case.vek, "{}", case.id);
            assert!(client_accepts(&case.report, &endorsed, &TrustAnchors::amd(), at), "{}", case.id);
            let asked = server.asked();
            let expected = |path: &String| path.ends_with("/cert_chain") || path.ends_with("/crl");
            assert!(asked.iter().all(expected), "{asked:?}");
        }
    }

    #[tokio::test]
    async fn another_chips_certificate_is_not_published_and_forgotten() {
        let Some(folder) = evidence::folder("another_chips_certificate_is_not_published_and_forgotten") else { return };
        let cases = evidence::authentic_cases(&folder);
        let milan: Vec<_> = cases.iter().filter(|case| case.id.starts_with("milan-v3-vcek")).collect();
        let (case, other) = (milan[0], milan[1]);
        let server = amd(&folder, &cases).await;
        server.serves(case.vcek_path(), other.vek.clone());
        let cache = tempfile::tempdir().unwrap();
        let at = UnixTime::parse_rfc3339(&case.at).unwrap();
        let kds = kds(&server.url, Some(cache.path()), at);
        let endorser = Endorser::new(Some(kds), TrustAnchors::amd(), vec![], move || at);
        let refused = endorser.endorse(&case.report, &[]).await.unwrap_err();
        assert!(matches!(&refused, EndorseError::Refused(cause) if cause.id() == "E_CHIP_ID"), "{refused:?}");
        assert_eq!(std::fs::read_dir(cache.path()).unwrap().count(), 0, "nothing of it is kept");
        let asked = server.asked().len();
        endorser.endorse(&case.report, &[]).await.unwrap_err();
        assert_eq!(server.asked().len(), asked, "nor asked for again at once");
        server.serves(case.vcek_path(), case.vek.clone());
        tokio::time::sleep(60 * MS).await;
        assert!(endorser.endorse(&case.report, &[]).await.is_ok());
    }

    #[tokio::test]
    async fn an_issuer_in_the_place_of_a_vcek_is_forgotten() {
        let Some(folder) = evidence::folder("an_issuer_in_the_place_of_a_vcek_is_forgotten") else { return };
        let cases = evidence::authentic_cases(&folder);
        let case = cases.iter().find(|case| case.product == "Genoa").unwrap();
        let server = amd(&folder, &cases).await;
        let issuer = std::fs::read(folder.join("snp").join(&case.id).join("issuer.der")).unwrap();
        server.serves(case.vcek_path(), issuer);
        let cache = tempfile::tempdir().unwrap();
        let at = UnixTime::parse_rfc3339(&case.at).unwrap();
        let endorser =
            || Endorser::new(Some(kds(&server.url, Some(cache.path()), at)), TrustAnchors::amd(), vec![], move || at);
        let refused = endorser().endorse(&case.report, &[]).await.unwrap_err();
        assert!(matches!(&refused, EndorseError::Refused(cause) if cause.id() == "E_NO_ENDORSEMENT"), "{refused:?}");
        // One wrong answer must not last: the service is right again, and so is the next process.
        server.serves(case.vcek_path(), case.vek.clone());
        assert!(endorser().endorse(&case.report, &[]).await.is_ok());
    }

    #[tokio::test]
    async fn a_tampered_cache_is_noticed_and_replaced() {
        let Some(folder) = evidence::folder("a_tampered_cache_is_noticed_and_replaced") else { return };
        let cases = evidence::authentic_cases(&folder);
        let case = cases.iter().find(|case| case.product == "Genoa").unwrap();
        let server = amd(&folder, &cases).await;
        let cache = tempfile::tempdir().unwrap();
        let at = UnixTime::parse_rfc3339(&case.at).unwrap();
        let endorser =
            || Endorser::new(Some(kds(&server.url, Some(cache.path()), at)), TrustAnchors::amd(), vec![], move || at);
        let _ = endorser().endorse(&case.report, &[]).await.unwrap();
        let stored = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().path();
        let vcek = std::fs::read_dir(cache.path()).unwrap().map(stored).find(|path| path.ends_with(vcek_file(case)));
        let vcek = vcek.expect("the VCEK was stored");
        let mut bytes = std::fs::read(&vcek).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&vcek, bytes).unwrap();
        let endorser = endorser();
        endorser.endorse(&case.report, &[]).await.unwrap_err();
        tokio::time::sleep(60 * MS).await;
        assert!(endorser.endorse(&case.report, &[]).await.is_ok());
        assert_eq!(std::fs::read(&vcek).unwrap(), case.vek);
    }

    fn vcek_file(case: &evidence::Case) -> String {
        let at = case.report[0x180..0x188].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let chip = case.report[0x1A0..0x1E0].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        format!("{}-{chip}-{at}-vcek.der", case.product)
    }
}

/// One set of keys for all tests: making it takes a third of a second.
static PKI: LazyLock<Arc<Pki>> = LazyLock::new(|| Arc::new(Pki::generate(Product::Genoa, RsaSize::Bits2048)));

fn anchors() -> TrustAnchors {
    TrustAnchors::amd().with_simulator_root(PKI.root_pem().as_bytes()).unwrap()
}

fn later(days: i64) -> UnixTime {
    UnixTime::from_secs(NOW.as_secs() + days * DAY)
}

/// A simulated machine and the key service that knows it.
struct Simulated {
    sp: SimulatedAmdSp,
    report: Vec<u8>,
    server: KdsServer,
}

const CHAIN: &str = "/vcek/v1/Genoa/cert_chain";
const CRL: &str = "/vcek/v1/Genoa/crl";

impl Simulated {
    async fn start() -> Self {
        let mut sp = SimulatedAmdSp::new(&PKI, Config::new(Product::Genoa));
        let report = sp.report(&[1; 64]).unwrap();
        let server = KdsServer::start().await;
        server.serves(vcek_path(&sp), sp.certificates()[0].clone());
        let pem = |der: &[u8]| format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", base64(der));
        let chain = [Authority::Ask, Authority::Ark].map(|authority| pem(PKI.certificate(authority))).concat();
        server.serves(CHAIN, chain);
        server.serves(CRL, PKI.crl(&[], later(-1), later(30)));
        Simulated { sp, report, server }
    }

    fn endorser(&self) -> Endorser {
        Endorser::new(Some(kds(&self.server.url, None, NOW)), anchors(), vec![], || NOW)
    }

    async fn endorsed(&self) -> Result<Endorsed, EndorseError> {
        self.endorser().endorse(&self.report, &[]).await
    }
}

fn vcek_path(sp: &SimulatedAmdSp) -> String {
    let tcb = sp.config().reported_tcb;
    format!(
        "/vcek/v1/Genoa/{}?blSPL={:02}&teeSPL={:02}&snpSPL={:02}&ucodeSPL={:02}",
        sp.chip_id(),
        tcb.bootloader,
        tcb.tee,
        tcb.snp,
        tcb.microcode
    )
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = bytes.chunks(3).flat_map(|chunk| {
        let block = chunk.iter().chain([&0, &0]).take(3).fold(0_usize, |block, byte| block << 8 | usize::from(*byte));
        let used = chunk.len() + 1;
        (0..4).map(move |i| if i < used { char::from(ALPHABET[block >> (18 - 6 * i) & 63]) } else { '=' })
    });
    let digits: Vec<char> = digits.collect();
    digits.chunks(64).map(|line| line.iter().collect::<String>()).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn staples_leaf_issuer_and_a_current_revocation_list() {
    let simulated = Simulated::start().await;
    let endorsed = simulated.endorsed().await.unwrap();
    let types: Vec<_> = endorsed.staple().iter().map(|item| item.media_type.as_str()).collect();
    assert_eq!(types, [media::CERTIFICATE, media::CERTIFICATE, media::CRL]);
    assert_eq!(stapled(&endorsed, media::CERTIFICATE), simulated.sp.certificates());
    assert_eq!(endorsed.report().vek().crl(), CrlStatus::Checked { next_update: later(30) });
    assert!(endorsed.report().vek().simulated());
    assert!(client_accepts(&simulated.report, &endorsed, &anchors(), NOW));
}

#[tokio::test]
async fn serves_without_a_list_where_none_good_can_be_had() {
    let simulated = Simulated::start().await;
    let too_large = PKI.crl(&(1..2000).collect::<Vec<_>>(), later(-1), later(30));
    assert!(too_large.len() > 16 * 1024 && too_large.len() < 64 * 1024);
    let expired = PKI.crl(&[], later(-30), later(-1));
    let foreign = Pki::generate(Product::Genoa, RsaSize::Bits2048).crl(&[], later(-1), later(30));
    for list in [too_large, expired, foreign, b"0\x82\x01\x00".repeat(65)] {
        simulated.server.serves(CRL, list);
        let endorsed = simulated.endorsed().await.unwrap();
        assert_eq!(stapled(&endorsed, media::CRL).len(), 0);
        assert_eq!(endorsed.report().vek().crl(), CrlStatus::Absent);
    }
    simulated.server.state().answers.remove(CRL);
    assert_eq!(simulated.endorsed().await.unwrap().staple().len(), 2);
}

#[tokio::test]
async fn does_not_serve_under_an_issuer_that_is_revoked() {
    let simulated = Simulated::start().await;
    simulated.server.serves(CRL, PKI.crl(&[PKI.serial(Authority::Ask)], later(-1), later(30)));
    let refused = simulated.endorsed().await.unwrap_err();
    assert!(matches!(&refused, EndorseError::Refused(cause) if cause.id() == "E_REVOKED"), "{refused:?}");
}

#[tokio::test]
async fn a_stored_list_is_served_until_its_next_update_when_the_service_fails_and_not_after() {
    let simulated = Simulated::start().await;
    let cache = tempfile::tempdir().unwrap();
    let at = |at: UnixTime| {
        Endorser::new(Some(kds(&simulated.server.url, Some(cache.path()), at)), anchors(), vec![], move || at)
    };
    let _ = at(NOW).endorse(&simulated.report, &[]).await.unwrap();
    simulated.server.state().answers.clear();
    for (days, lists) in [(29, 1), (31, 0)] {
        let endorsed = at(later(days)).endorse(&simulated.report, &[]).await.unwrap();
        assert_eq!(stapled(&endorsed, media::CRL).len(), lists, "after {days} days");
        assert!(client_accepts(&simulated.report, &endorsed, &anchors(), later(days)));
    }
}

#[tokio::test]
async fn the_hosts_table_is_enough_and_a_broken_one_is_as_good_as_none() {
    let simulated = Simulated::start().await;
    let alone = Endorser::new(None, anchors(), vec![], || NOW);
    let endorsed = alone.endorse(&simulated.report, &simulated.sp.certificate_table()).await.unwrap();
    assert_eq!(endorsed.staple().len(), 3);
    assert!(client_accepts(&simulated.report, &endorsed, &anchors(), NOW));
    let refused = alone.endorse(&simulated.report, &[1; 100]).await.unwrap_err();
    assert!(matches!(refused, EndorseError::Refused(ReportRefusal::NoEndorsement)), "{refused:?}");
    let endorsed = simulated.endorser().endorse(&simulated.report, &[1; 100]).await.unwrap();
    assert_eq!(endorsed.staple().len(), 3, "AMD's service has what the table has not");
}

#[tokio::test]
async fn rubbish_in_the_table_does_not_spoil_what_is_good() {
    let simulated = Simulated::start().await;
    let guid = 0x63da758d_e664_4564_adc5_f4b93be8accd_u128;
    let table = simulator::amd_sp::certificate_table(&[(guid.to_be_bytes(), &[0xAA; 300])]);
    assert!(simulated.endorser().endorse(&simulated.report, &table).await.is_ok());
}

#[tokio::test]
async fn an_operators_files_vouch_for_a_vlek() {
    let config = Config { vek: Vek::Vlek { csp: "CN=cloud.example".into() }, ..Config::new(Product::Genoa) };
    let mut sp = SimulatedAmdSp::new(&PKI, config);
    let report = sp.report(&[1; 64]).unwrap();
    let with = |files: Vec<Vec<u8>>| Endorser::new(None, anchors(), files, || NOW);
    assert!(matches!(with(vec![]).endorse(&report, &[]).await, Err(EndorseError::NoVlek)));
    let mut files = sp.certificates();
    files.reverse();
    let endorsed = with(files).endorse(&report, &[]).await.unwrap();
    assert_eq!(
        stapled(&endorsed, media::CERTIFICATE),
        sp.certificates(),
        "leaf first, whatever the order of the files"
    );
}

#[tokio::test]
async fn roots_that_nobody_named_vouch_for_nothing() {
    let simulated = Simulated::start().await;
    let endorser = Endorser::new(Some(kds(&simulated.server.url, None, NOW)), TrustAnchors::amd(), vec![], || NOW);
    let refused = endorser.endorse(&simulated.report, &simulated.sp.certificate_table()).await.unwrap_err();
    assert!(matches!(&refused, EndorseError::Refused(cause) if cause.id() == "E_ROOT"), "{refused:?}");
}

#[tokio::test]
async fn a_report_that_no_certificate_can_help_costs_no_request() {
    let simulated = Simulated::start().await;
    let mut masked = SimulatedAmdSp::new(&PKI, Config { mask_chip_key: true, ..Config::new(Product::Genoa) });
    let refused = simulated.endorser().endorse(&masked.report(&[1; 64]).unwrap(), &[]).await.unwrap_err();
    assert!(matches!(&refused, EndorseError::Refused(cause) if cause.id() == "R_MASK"), "{refused:?}");
    assert!(simulated.server.asked().is_empty());
}

/// One simulated chip before or after a firmware update.
struct Updatable {
    before: SimulatedAmdSp,
    after: SimulatedAmdSp,
    updated: Arc<AtomicBool>,
}

impl ReportDevice for Updatable {
    fn report(&mut self, report_data: &[u8; 64]) -> Result<DeviceReport, DeviceError> {
        let sp = if self.updated.load(Ordering::SeqCst) { &mut self.after } else { &mut self.before };
        let report = sp.report(report_data).map_err(|error| DeviceError::Refused { reason: error.to_string() })?;
        DeviceReport::over(report_data, report, vec![])
    }
    fn describe(&self) -> String {
        "simulated".into()
    }
    fn simulated(&self) -> bool {
        true
    }
    fn pace(&self) -> Pace {
        Pace { min_interval: Duration::ZERO, burst: 1 }
    }
}

async fn until(standing: &mut watch::Receiver<Standing>, wanted: impl FnMut(&Standing) -> bool) -> Standing {
    let found = tokio::time::timeout(Duration::from_secs(20), standing.wait_for(wanted)).await;
    found.expect("within 20 s").unwrap().clone()
}

#[tokio::test]
async fn the_standing_follows_a_firmware_update_and_recovers_from_a_service_that_was_down() {
    let simulated = Simulated::start().await;
    let mut config = Config::new(Product::Genoa);
    config.current_tcb.microcode += 1;
    config.reported_tcb = config.current_tcb;
    let after = SimulatedAmdSp::new(&PKI, config);
    let (after_path, after_leaf) = (vcek_path(&after), after.certificates()[0].clone());
    let updated = Arc::new(AtomicBool::new(false));
    let before = SimulatedAmdSp::new(&PKI, Config::new(Product::Genoa));
    let device = Updatable { before, after, updated: updated.clone() };
    let spki = SpkiDigest::from_bytes([1; 32]);
    let context = StatementContext {
        spki,
        epoch: Epoch::from_bytes([2; 16]),
        config: Sha256Digest::from_bytes([3; 32]),
        names: vec![],
        upstream_scope: UpstreamScope::InsideGuest,
        unix_ms: Box::new(|| 0),
    };
    let settings = BatcherSettings { max_pending: 10, max_per_source: 10 };
    let (batcher, handle) = Batcher::new(Box::new(PlainSnp::new(Box::new(device))), context, settings, Arc::new(()));
    let batcher = tokio::spawn(batcher.run());
    let (publisher, mut standing) = watch::channel(Standing::Pending);
    let endorser = tokio::spawn(simulated.endorser().run(handle.latest(), publisher));
    assert!(matches!(*standing.borrow(), Standing::Pending), "nothing is asked before there is a report");

    // The service is down at first.
    simulated.server.state().troubles.extend([Trouble::Status(500), Trouble::Slow(Duration::from_secs(1))]);
    handle.attest_key(KeyLeaf::new(&spki)).await.unwrap();
    until(&mut standing, |s| matches!(s, Standing::Failed(_))).await;
    let Standing::Endorsed(first) = until(&mut standing, |s| matches!(s, Standing::Endorsed(_))).await else {
        unreachable!()
    };
    assert_eq!(stapled(&first, media::CERTIFICATE), simulated.sp.certificates());
    until(&mut standing, |s| matches!(s, Standing::Endorsed(e) if e.staple().len() == 3)).await;

    // The same key and TCB cause no request.
    let asked = simulated.server.asked().len();
    handle.attest_key(KeyLeaf::new(&spki)).await.unwrap();
    tokio::time::sleep(50 * MS).await;
    assert_eq!(simulated.server.asked().len(), asked);

    // The new firmware's key is not known to the service yet: what no longer fits is not served.
    updated.store(true, Ordering::SeqCst);
    handle.attest_key(KeyLeaf::new(&spki)).await.unwrap();
    until(&mut standing, |s| matches!(s, Standing::Failed(_))).await;
    simulated.server.serves(after_path, after_leaf.clone());
    let followed = |s: &Standing| matches!(s, Standing::Endorsed(e) if stapled(e, media::CERTIFICATE)[0] == after_leaf);
    until(&mut standing, followed).await;

    batcher.abort();
    assert!(tokio::time::timeout(Duration::from_secs(5), endorser).await.is_ok(), "ends with the batcher");
}
