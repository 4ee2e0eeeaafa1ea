//! What one thread pays to verify evidence, and for trees. CPU time of this thread, medians.

use anyhow::{Context, Result, ensure};
use ratls::binding::merkle::root_from_path;
use ratls::binding::statement::Epoch;
use ratls::binding::{
    ChannelLeaf, ExporterSecret, LeafHash, Profile, Purpose, Role, SpkiDigest, Statement, Tree, UpstreamScope, binder,
};
use ratls::cert::spki_digest;
use ratls::digest::Sha256Digest;
use ratls::endorsement::TrustAnchors;
use ratls::tcb::Product;
use ratls::time::UnixTime;
use ratls::verify::{Connection, verify_connection};
use ratls::wire::attest::{Attest, AttestPurpose, Endorsement, HardwareFormat, media};
use simulator::{Pki, RsaSize, SimulatedAmdSp};

fn thread_ns() -> f64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    now.tv_sec as f64 * 1e9 + now.tv_nsec as f64
}

/// Median microseconds of one call; `fresh` makes what each call uses up.
pub(crate) fn median<T>(
    rounds: usize,
    mut fresh: impl FnMut(usize) -> T,
    mut call: impl FnMut(T) -> Result<()>,
) -> Result<f64> {
    let mut times = Vec::with_capacity(rounds);
    for round in 0..rounds {
        let value = fresh(round);
        let begun = thread_ns();
        call(value)?;
        times.push((thread_ns() - begun) / 1e3);
    }
    times.sort_by(f64::total_cmp);
    times.get(rounds / 2).copied().context("some rounds")
}

/// A guest that attests connections in batches, and the certificate that it shows.
struct Prover {
    sp: SimulatedAmdSp,
    certificate: Vec<u8>,
    spki: SpkiDigest,
    anchors: TrustAnchors,
    counter: u64,
}

/// One connection of a batch.
struct Proven {
    exporter: ExporterSecret,
    attest: Vec<u8>,
}

impl Prover {
    fn new() -> Result<Prover> {
        let pki = std::sync::Arc::new(Pki::generate(Product::Milan, RsaSize::Bits4096));
        let key = rcgen::KeyPair::generate()?;
        let certificate = rcgen::CertificateParams::new(["localhost".to_owned()])?.self_signed(&key)?.der().to_vec();
        Ok(Prover {
            spki: spki_digest(&certificate)?,
            certificate,
            anchors: TrustAnchors::amd().with_simulator_root(pki.root_pem().as_bytes())?,
            sp: SimulatedAmdSp::new(&pki, simulator::Config::new(Product::Milan)),
            counter: 0,
        })
    }

    fn batch(&mut self, n: u8) -> Result<Vec<Proven>> {
        self.counter += 1;
        let exporters: Vec<ExporterSecret> =
            (0..n).map(|number| ExporterSecret::from_key_log(&[number; 32])).collect::<Result<_, _>>()?;
        let leaves: Vec<LeafHash> =
            exporters.iter().map(|exporter| ChannelLeaf::initial(Role::Server, &self.spki, exporter).hash()).collect();
        let tree = Tree::build(&leaves)?;
        let statement = Statement {
            profile: Profile::Snp,
            purpose: Purpose::Batch,
            root: tree.root(),
            n: tree.n(),
            spki: self.spki,
            epoch: Epoch::from_bytes([7; 16]),
            counter: self.counter,
            ak: None,
            logs: Vec::new(),
            config: Sha256Digest::from_bytes([9; 32]),
            names: Vec::new(),
            time_ms: 0,
            upstream_scope: UpstreamScope::InsideGuest,
        }
        .encode();
        let report = self.sp.report_with(binder(&statement).as_bytes(), |_| ());
        let certificate = |bytes| Endorsement { media_type: media::CERTIFICATE.to_owned(), bytes };
        let crl = Endorsement { media_type: media::CRL.to_owned(), bytes: self.sp.crl() };
        let endorsements: Vec<_> = self.sp.certificates().into_iter().map(certificate).chain([crl]).collect();
        exporters
            .into_iter()
            .zip(0_u32..)
            .map(|(exporter, index)| {
                let attest = Attest {
                    purpose: AttestPurpose::Initial,
                    seq: 0,
                    statement: statement.clone(),
                    index: index.into(),
                    siblings: tree.path(index).context("a path")?,
                    hardware: vec![(HardwareFormat::SnpReport, report.clone())],
                    tpm: None,
                    endorsements: endorsements.clone(),
                    parts: Vec::new(),
                    identity: Vec::new(),
                    client_evidence_wanted: false,
                    features: 0,
                    pool_idle_ms: 0,
                }
                .encode();
                Ok(Proven { exporter, attest })
            })
            .collect()
    }

    fn verify(&self, proven: &Proven, anchors: &TrustAnchors, now: UnixTime) -> Result<()> {
        let connection = Connection {
            leaf_certificate: &self.certificate,
            bind: proven.exporter.bind_initial(),
            attest: &proven.attest,
        };
        let _ = verify_connection(&connection, anchors, now)?;
        Ok(())
    }
}

/// One row per quantity: what, measured, target.
pub(crate) fn run() -> Result<Vec<String>> {
    let mut prover = Prover::new()?;
    let now = UnixTime::from_secs(i64::try_from(std::time::UNIX_EPOCH.elapsed()?.as_secs())?);
    let mut batches = (0..60).map(|_| prover.batch(8)).collect::<Result<Vec<_>>>()?;
    let mut rows = Vec::new();
    let mut row = |what: &str, us: f64, target: &str| rows.push(format!("| {what} | {us:.1} µs | {target} |"));

    let of = |batch: usize, index: usize| batches.get(batch).and_then(|batch| batch.get(index)).expect("it was made");
    let first = median(60, |_| prover.anchors.clone().remembering(), |fresh| prover.verify(of(0, 0), &fresh, now))?;
    row("first ATTEST of a guest, plain SNP", first, "≤ 700 µs");

    let memory = prover.anchors.clone().remembering();
    prover.verify(of(0, 0), &memory, now)?;
    let further = median(400, |round| 1 + round % 7, |index| prover.verify(of(0, index), &memory, now))?;
    row("a further one in the same batch", further, "≤ 20 µs");
    let another = median(59, |round| 1 + round, |batch| prover.verify(of(batch, 0), &memory, now))?;
    row("a further batch", another, "≤ 350 µs");
    batches.clear();
    for (what, us, target) in crate::full::rows(now)? {
        row(&what, us, target);
    }

    let leaves: Vec<LeafHash> = (0..16_384_u32)
        .map(|number| {
            let mut secret = [0; 32];
            secret[..4].copy_from_slice(&number.to_be_bytes());
            ExporterSecret::from_key_log(&secret)
                .map(|exporter| ChannelLeaf::initial(Role::Server, &prover.spki, &exporter).hash())
        })
        .collect::<Result<_, _>>()?;
    let build = median(15, |_| (), |()| Tree::build(&leaves).map(|_| ()).map_err(Into::into))?;
    row("a tree over 16,384 leaves", build, "≤ 5,000 µs");
    let tree = Tree::build(&leaves)?;
    let path = median(
        2_000,
        |round| (round * 8) as u32,
        |index| {
            ensure!(tree.path(index).is_some_and(|path| path.len() == 14));
            Ok(())
        },
    )?;
    row("a path of 14 hashes, taken from it", path, "");
    let path = tree.path(9_999).context("a path")?;
    let (root, leaf) = (tree.root(), leaves.get(9_999).context("a leaf")?);
    let check = median(
        2_000,
        |_| (),
        |()| {
            ensure!(root_from_path(leaf, 9_999, 16_384, &path)? == root);
            Ok(())
        },
    )?;
    row("a path of 14 hashes, verified", check, "≤ 5 µs");
    Ok(rows)
}
