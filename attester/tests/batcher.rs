//! The batcher with a device that answers when the test says so.

#![allow(clippy::unwrap_used)] // all of this is test code

use attester::batcher::{Observer, Settings, StatementContext};
use attester::{
    AttestError, AttestHandle, Attestation, Batcher, DeviceError, DeviceReport, Pace, PlainSnp, ReportDevice,
};
use ratls::binding::merkle::root_from_path;
use ratls::binding::statement::Epoch;
use ratls::binding::{
    ChannelLeaf, ExporterSecret, KeyLeaf, LeafHash, Purpose, Role, SpkiDigest, Statement, UpstreamScope, binder,
};
use ratls::digest::Sha256Digest;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const FAST: Pace = Pace { min_interval: Duration::ZERO, burst: 1 };

/// What the device is to do with one request.
type Order = Result<(), DeviceError>;

/// Waits for an order per request, or answers at once where `orders` is `None`.
struct Gated {
    orders: Option<mpsc::Receiver<Order>>,
    pace: Pace,
    started: Arc<Mutex<Vec<Instant>>>,
    lies: bool,
}

impl ReportDevice for Gated {
    fn report(&mut self, report_data: &[u8; 64]) -> Result<DeviceReport, DeviceError> {
        self.started.lock().unwrap().push(Instant::now());
        if let Some(orders) = &self.orders {
            orders.recv().expect("the test ends by dropping the batcher, or wants this panic")?;
        }
        let mut report = vec![0; 1184];
        report[0x50..0x90].copy_from_slice(if self.lies { &[0; 64] } else { report_data });
        Ok(DeviceReport { report, certificates: vec![] })
    }
    fn describe(&self) -> String {
        "a device of the test".into()
    }
    fn pace(&self) -> Pace {
        self.pace
    }
}

/// A running batcher and the strings to pull.
struct Rig {
    handle: AttestHandle,
    gate: Option<mpsc::Sender<Order>>,
    started: Arc<Mutex<Vec<Instant>>>,
    batches: Arc<Batches>,
    run: JoinHandle<Result<std::convert::Infallible, attester::batcher::DeviceThreadLost>>,
}

#[derive(Default)]
struct Batches {
    sizes: Mutex<Vec<u32>>,
    refused: AtomicU32,
    failed: AtomicU32,
}

impl Observer for Batches {
    fn report_asked(&self, leaves: u32) {
        self.sizes.lock().unwrap().push(leaves);
    }
    fn report_answered(&self, _: u32, _: Duration, result: Result<(), &DeviceError>) {
        self.failed.fetch_add(u32::from(result.is_err()), Ordering::Relaxed);
    }
    fn refused(&self, _: &AttestError) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }
}

struct Setup {
    gated: bool,
    pace: Pace,
    lies: bool,
    settings: Settings,
}

const GATED: Setup =
    Setup { gated: true, pace: FAST, lies: false, settings: Settings { max_pending: 16_384, max_per_source: 20_000 } };

impl Setup {
    fn start(self) -> Rig {
        let (gate, orders) = mpsc::channel();
        let started = Arc::new(Mutex::new(vec![]));
        let device =
            Gated { orders: self.gated.then_some(orders), pace: self.pace, started: started.clone(), lies: self.lies };
        let context = StatementContext {
            spki: spki(),
            epoch: Epoch::from_bytes([7; 16]),
            config: Sha256Digest::from_bytes([8; 32]),
            names: vec!["llm.example".into()],
            upstream_scope: UpstreamScope::InsideGuest,
            unix_ms: Box::new(|| 1_800_000_000_000),
        };
        let batches = Arc::new(Batches::default());
        let (batcher, handle) =
            Batcher::new(Box::new(PlainSnp::new(Box::new(device))), context, self.settings, batches.clone());
        Rig { handle, gate: Some(gate), started, batches, run: tokio::spawn(batcher.run()) }
    }
}

impl Rig {
    fn attest(&self, n: u32) -> JoinHandle<Result<Attestation, AttestError>> {
        self.attest_from(n, HERE)
    }
    fn attest_from(&self, n: u32, source: IpAddr) -> JoinHandle<Result<Attestation, AttestError>> {
        let handle = self.handle.clone();
        tokio::spawn(async move { handle.attest(leaf(n), source).await })
    }
    /// Lets the running or next request end.
    fn order(&self, order: Order) {
        self.gate.as_ref().unwrap().send(order).unwrap();
    }
    fn sizes(&self) -> Vec<u32> {
        self.batches.sizes.lock().unwrap().clone()
    }
    /// Returns when the device is in its `n`-th request.
    async fn in_request(&self, n: usize) {
        until(|| self.started.lock().unwrap().len() >= n).await;
    }
}

async fn until(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "waited 20 s in vain");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Lets the tasks that were spawned reach their first wait. The test's runtime has one thread, so yielding runs them all.
async fn settle() {
    for _ in 0..4 {
        tokio::task::yield_now().await;
    }
}

fn spki() -> SpkiDigest {
    SpkiDigest::from_bytes([1; 32])
}

fn leaf(n: u32) -> ChannelLeaf {
    let mut secret = [0; 32];
    secret[..4].copy_from_slice(&n.to_be_bytes());
    ChannelLeaf::initial(Role::Server, &spki(), &ExporterSecret::from_key_log(&secret).unwrap())
}

/// The verifier's way from the leaf to REPORT_DATA.
fn holds(leaf: LeafHash, attestation: &Attestation) -> bool {
    let statement = Statement::parse(attestation.batch.statement()).unwrap();
    let root = root_from_path(&leaf, attestation.index.into(), statement.n.into(), &attestation.path).unwrap();
    let report_data = &attestation.batch.report()[0x50..0x90];
    root == statement.root && report_data == binder(attestation.batch.statement()).as_bytes()
}

#[tokio::test]
async fn an_idle_device_is_asked_at_once_and_everything_that_comes_meanwhile_shares_the_next_report() {
    let rig = GATED.start();
    let first = rig.attest(0);
    rig.in_request(1).await;
    let rest: Vec<_> = (1..=100).map(|n| rig.attest(n)).collect();
    settle().await;
    assert_eq!(rig.sizes(), [1]);
    rig.order(Ok(()));
    assert!(holds(leaf(0).hash(), &first.await.unwrap().unwrap()));
    rig.order(Ok(()));
    for (n, answer) in (1..).zip(rest) {
        assert!(holds(leaf(n).hash(), &answer.await.unwrap().unwrap()), "leaf {n}");
    }
    assert_eq!(rig.sizes(), [1, 100]);
}

#[tokio::test]
async fn proto_m9_1_2_3_5_1000_and_16384_leaves_in_one_batch_each_verify_and_swapped_proofs_do_not() {
    for size in [1, 2, 3, 5, 1000, 16_384] {
        let rig = GATED.start();
        let first = rig.attest(u32::MAX);
        rig.in_request(1).await;
        let rest: Vec<_> = (0..size).map(|n| rig.attest(n)).collect();
        settle().await;
        rig.order(Ok(()));
        rig.order(Ok(()));
        first.await.unwrap().unwrap();
        let mut answers = vec![];
        for (n, answer) in (0..).zip(rest) {
            let answer = answer.await.unwrap().unwrap();
            assert!(holds(leaf(n).hash(), &answer), "leaf {n} of {size}");
            answers.push(answer);
        }
        assert_eq!(rig.sizes(), [1, size]);
        if let [a, b, ..] = &answers[..] {
            assert!(!holds(leaf(0).hash(), b) && !holds(leaf(1).hash(), a), "swapped proofs of {size}");
        }
    }
}

#[tokio::test]
async fn nobody_waits_for_more_than_the_running_request_and_the_next() {
    let rig = GATED.start();
    let mut waiting = vec![];
    for round in 1..=20_usize {
        let flood = std::iter::repeat_with(|| IpAddr::from([192, 0, 2, 1])).take(50);
        for (n, source) in (0..).zip(flood.chain([HERE])) {
            waiting.push((round, rig.attest_from(round as u32 * 1000 + n, source)));
        }
        settle().await;
        rig.in_request(round).await;
        rig.order(Ok(()));
        // The answers are out when the next request starts, or never comes.
        until(|| rig.sizes().len() > round || waiting.iter().all(|(_, answer)| answer.is_finished())).await;
        waiting.retain(|(entered, answer)| {
            assert!(
                answer.is_finished() || round < entered + 1,
                "entered in round {entered}, still waits after {round}"
            );
            !answer.is_finished()
        });
    }
}

#[tokio::test]
async fn starts_are_a_minimum_interval_apart_however_quick_the_device() {
    let min_interval = Duration::from_millis(60);
    let rig = Setup { gated: false, pace: Pace { min_interval, burst: 1 }, ..GATED }.start();
    for n in 0..5 {
        rig.attest(n).await.unwrap().unwrap();
    }
    let started = rig.started.lock().unwrap().clone();
    let gaps: Vec<_> = started.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // The device notes its start a little after the batcher does, so a gap may come out shorter by that.
    assert!(gaps.iter().all(|gap| *gap >= min_interval - Duration::from_millis(10)), "{gaps:?}");
    assert_eq!(gaps.len(), 4);
}

#[tokio::test]
async fn five_thousand_leaves_cost_no_more_reports_than_the_pace_allows() {
    let min_interval = Duration::from_millis(50);
    let rig = Setup { gated: false, pace: Pace { min_interval, burst: 1 }, ..GATED }.start();
    let begin = Instant::now();
    let mut waiting = vec![];
    for n in 0..5000 {
        waiting.push(rig.attest(n));
        if n % 100 == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    for answer in waiting {
        answer.await.unwrap().unwrap();
    }
    let allowed = begin.elapsed().as_millis() / min_interval.as_millis() + 1;
    assert!(rig.sizes().len() as u128 <= allowed, "{} reports, {allowed} allowed", rig.sizes().len());
}

#[tokio::test]
async fn refuses_what_goes_over_the_pending_limit_and_says_when_to_come_back() {
    let rig = Setup { settings: Settings { max_pending: 3, max_per_source: 100 }, ..GATED }.start();
    let first = rig.attest(0);
    rig.in_request(1).await;
    let rest: Vec<_> = (1..=3).map(|n| rig.attest(n)).collect();
    settle().await;
    let refused = rig.attest(4).await.unwrap().unwrap_err();
    assert!(matches!(refused, AttestError::QueueFull { .. }), "{refused}");
    assert!(refused.retry_after().unwrap() >= Duration::from_millis(100));
    assert_eq!(rig.batches.refused.load(Ordering::Relaxed), 1);
    rig.order(Ok(()));
    rig.order(Ok(()));
    first.await.unwrap().unwrap();
    for answer in rest {
        answer.await.unwrap().unwrap();
    }
    assert_eq!(rig.sizes(), [1, 3]);
}

#[tokio::test]
async fn a_source_over_its_cap_is_refused_and_the_others_are_not() {
    let rig = Setup { settings: Settings { max_pending: 100, max_per_source: 2 }, ..GATED }.start();
    let (a, b) = (rig.attest(0), rig.attest(1));
    rig.in_request(1).await;
    let refused = rig.attest(2).await.unwrap().unwrap_err();
    assert!(matches!(refused, AttestError::SourceOverCap { cap: 2 }), "{refused}");
    let other = rig.attest_from(3, "2001:db8::1".parse().unwrap());
    settle().await;
    for _ in 0..3 {
        rig.order(Ok(()));
    }
    for answer in [a, b, other] {
        answer.await.unwrap().unwrap();
    }
    assert!(rig.attest(4).await.unwrap().is_ok(), "answers give the places back");
}

#[tokio::test]
async fn who_stops_waiting_takes_only_itself_out() {
    let rig = Setup { settings: Settings { max_pending: 4, max_per_source: 5 }, ..GATED }.start();
    let first = rig.attest(0);
    rig.in_request(1).await;
    let rest: Vec<_> = (1..=4).map(|n| rig.attest(n)).collect();
    settle().await;
    rest[0].abort();
    rest[2].abort();
    settle().await;
    let late = rig.attest(5);
    settle().await;
    rig.order(Ok(()));
    rig.in_request(2).await;
    // In the running request, its leaf stays in the tree and its place is free.
    rest[1].abort();
    rig.order(Ok(()));
    first.await.unwrap().unwrap();
    for (n, answer) in [(4, rest.into_iter().nth(3).unwrap()), (5, late)] {
        assert!(holds(leaf(n).hash(), &answer.await.unwrap().unwrap()), "leaf {n}");
    }
    assert_eq!(rig.sizes(), [1, 3], "two left before the request, one during it");
    rig.order(Ok(()));
    assert!(rig.attest(6).await.unwrap().is_ok());
}

#[tokio::test]
async fn a_device_error_reaches_everybody_in_the_batch_and_the_next_request_recovers() {
    let rig = GATED.start();
    let first = rig.attest(0);
    rig.in_request(1).await;
    let rest: Vec<_> = (1..=10).map(|n| rig.attest(n)).collect();
    settle().await;
    rig.order(Ok(()));
    rig.order(Err(DeviceError::Refused { reason: "for the test".into() }));
    first.await.unwrap().unwrap();
    for answer in rest {
        let refused = answer.await.unwrap().unwrap_err();
        assert!(matches!(refused, AttestError::Device(DeviceError::Refused { .. })), "{refused}");
        assert_eq!(refused.retry_after(), None);
    }
    rig.order(Ok(()));
    rig.attest(11).await.unwrap().unwrap();
    assert_eq!(rig.batches.failed.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_device_that_is_busy_for_a_moment_is_asked_again_for_the_same_leaves_and_what_came_meanwhile() {
    let rig = GATED.start();
    let first: Vec<_> = (0..3).map(|n| rig.attest(n)).collect();
    rig.in_request(1).await;
    let gone = &first[1];
    gone.abort();
    settle().await;
    let late = rig.attest(3);
    let handle = rig.handle.clone();
    let key = tokio::spawn(async move { handle.attest_key(KeyLeaf::new(&spki())).await });
    settle().await;
    let rest = Duration::from_millis(300);
    // The batch, and then the key, whose turn it is.
    for _ in 0..2 {
        rig.order(Err(DeviceError::Busy { retry_after: rest }));
    }
    for _ in 0..2 {
        rig.order(Ok(()));
    }
    let taken = rig.sizes()[0];
    assert_eq!(key.await.unwrap().unwrap().batch.n(), 1);
    for (n, answer) in first.into_iter().chain([late]).enumerate().filter(|(n, _)| *n != 1) {
        let n = u32::try_from(n).unwrap();
        assert!(holds(leaf(n).hash(), &answer.await.unwrap().unwrap()), "leaf {n}");
    }
    assert_eq!(rig.sizes(), [taken, 1, 1, 3], "nobody waits for the leaf in the middle any more");
    assert_eq!(rig.batches.failed.load(Ordering::Relaxed), 2);
    let started = rig.started.lock().unwrap().clone();
    assert!(started[2].duration_since(started[0]) >= 2 * rest, "each rest is kept");
}

#[tokio::test]
async fn a_device_that_is_busy_again_and_again_is_reported_after_some_seconds() {
    let rig = GATED.start();
    let waiting = rig.attest(0);
    let begin = Instant::now();
    for _ in 0..20 {
        rig.order(Err(DeviceError::Busy { retry_after: Duration::from_millis(900) }));
    }
    let refused = waiting.await.unwrap().unwrap_err();
    assert!(matches!(refused, AttestError::Device(DeviceError::Busy { .. })), "{refused}");
    let waited = begin.elapsed();
    assert!((3..6).contains(&waited.as_secs()), "{waited:?}");
}

#[tokio::test]
async fn a_device_that_wants_a_long_rest_gets_it_and_callers_are_told_at_once() {
    let rig = GATED.start();
    let rest = Duration::from_millis(1300);
    let first = rig.attest(0);
    rig.in_request(1).await;
    let waiting = rig.attest(1);
    settle().await;
    let begin = Instant::now();
    rig.order(Err(DeviceError::Busy { retry_after: rest }));
    for answer in [first, waiting] {
        assert!(answer.await.unwrap().unwrap_err().retry_after().unwrap() <= rest);
    }
    let refused = rig.attest(2).await.unwrap().unwrap_err();
    assert!(matches!(refused, AttestError::Device(DeviceError::Busy { .. })), "{refused}");
    assert_eq!(rig.sizes(), [1], "the device was left alone");
    tokio::time::sleep(refused.retry_after().unwrap()).await;
    rig.order(Ok(()));
    rig.attest(3).await.unwrap().unwrap();
    let started = rig.started.lock().unwrap().clone();
    assert!(started[1].duration_since(begin) >= rest);
}

#[tokio::test]
async fn a_report_over_other_bytes_never_reaches_a_connection() {
    let rig = Setup { gated: false, lies: true, ..GATED }.start();
    let refused = rig.attest(0).await.unwrap().unwrap_err();
    assert!(matches!(refused, AttestError::Device(DeviceError::WrongReportData)), "{refused}");
    assert!(rig.handle.latest().borrow().is_none());
}

#[tokio::test]
async fn statements_count_up_and_a_key_has_a_purpose_of_its_own() {
    let rig = Setup { gated: false, ..GATED }.start();
    let statement = |attestation: &Attestation| Statement::parse(attestation.batch.statement()).unwrap();
    let first = rig.attest(0).await.unwrap().unwrap();
    let key_leaf = KeyLeaf::new(&spki());
    let key = rig.handle.attest_key(key_leaf).await.unwrap();
    let second = rig.attest(0).await.unwrap().unwrap();
    assert!(holds(key_leaf.hash(), &key));
    assert_eq!([&first, &key, &second].map(|a| statement(a).counter), [1, 2, 3]);
    assert_eq!([&first, &key].map(|a| statement(a).purpose), [Purpose::Batch, Purpose::Key]);
    assert_eq!(statement(&second).names, ["llm.example"]);
    assert_eq!(rig.handle.latest().borrow().as_ref().unwrap().statement(), second.batch.statement());
}

#[tokio::test]
async fn a_key_has_its_turn_beside_a_stream_of_connections() {
    let rig = GATED.start();
    let first = rig.attest(0);
    rig.in_request(1).await;
    let handle = rig.handle.clone();
    let key = tokio::spawn(async move { handle.attest_key(KeyLeaf::new(&spki())).await });
    let second = rig.attest(1);
    settle().await;
    for _ in 0..3 {
        rig.order(Ok(()));
    }
    assert_eq!(key.await.unwrap().unwrap().batch.n(), 1);
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    assert_eq!(rig.sizes(), [1, 1, 1]);
}

#[tokio::test]
async fn when_the_batcher_ends_everybody_learns_it() {
    let rig = GATED.start();
    let running = rig.attest(0);
    rig.in_request(1).await;
    let waiting = rig.attest(1);
    settle().await;
    rig.run.abort();
    for answer in [running, waiting, rig.attest(2)] {
        assert!(matches!(answer.await.unwrap().unwrap_err(), AttestError::Closed));
    }
}

#[tokio::test]
async fn a_device_that_panics_ends_the_batcher_with_an_error() {
    let mut rig = GATED.start();
    let running = rig.attest(0);
    rig.in_request(1).await;
    rig.gate = None;
    assert!(rig.run.await.unwrap().is_err());
    assert!(matches!(running.await.unwrap().unwrap_err(), AttestError::Closed));
}
