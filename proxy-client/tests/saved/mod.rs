//! Bundles of a simulated guest, for tests of what reads saved evidence.

#![allow(dead_code, clippy::unwrap_used)]

use std::sync::{Arc, OnceLock};

use ratls::binding::leaf::leaf_hash;
use ratls::binding::statement::Epoch;
use ratls::binding::{Bind32, LeafType, Profile, Purpose, Role, Statement, Tree, UpstreamScope, binder};
use ratls::bundle::Bundle;
use ratls::cert::spki_digest;
use ratls::digest::Sha256Digest;
use ratls::endorsement::TrustAnchors;
use ratls::tcb::Product;
use ratls::time::UnixTime;
use ratls::wire::attest::{Attest, AttestPurpose, Endorsement, HardwareFormat, media};
use simulator::{Config, Pki, RsaSize, SimulatedAmdSp};

pub(crate) const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

pub(crate) fn pki() -> &'static Arc<Pki> {
    static PKI: OnceLock<Arc<Pki>> = OnceLock::new();
    PKI.get_or_init(|| Arc::new(Pki::generate(Product::Milan, RsaSize::Bits2048)))
}

pub(crate) fn anchors() -> TrustAnchors {
    TrustAnchors::amd().with_simulator_root(pki().root_pem().as_bytes()).unwrap()
}

pub(crate) fn policy_text(measurement: &str) -> String {
    format!(
        "version = 1\nprofiles = [\"snp\"]\nidentity = \"any\"\n[snp]\nmeasurements = [\"{measurement}\"]\n\
         signing_keys = [\"vcek\"]\nsmt = \"allow\"\n[snp.minimum_tcb.milan]\nbl = 4\ntee = 0\nsnp = 24\nucode = 219\n\
         [roots]\nsimulator = \"root.pem\"\n"
    )
}

/// One batch for `n` connections: their bundles.
pub(crate) fn batch(n: u8) -> Vec<Bundle> {
    batch_of(Config::new(Product::Milan), n)
}

/// The same of another guest.
pub(crate) fn batch_of(config: Config, n: u8) -> Vec<Bundle> {
    let mut sp = SimulatedAmdSp::new(pki(), config);
    let leaf_certificate = sp.certificates().remove(0);
    let spki = spki_digest(&leaf_certificate).unwrap();
    let bind = |i: u8| Bind32::from_exporter([i + 1; 32]);
    let leaves: Vec<_> = (0..n).map(|i| leaf_hash(LeafType::ChannelInitial, Role::Server, &spki, &bind(i))).collect();
    let tree = Tree::build(&leaves).unwrap();
    let statement = Statement {
        profile: Profile::Snp,
        purpose: Purpose::Batch,
        root: tree.root(),
        n: n.into(),
        spki,
        epoch: Epoch::from_bytes([3; 16]),
        counter: 1,
        ak: None,
        logs: vec![],
        config: Sha256Digest::from_bytes([5; 32]),
        names: vec![],
        time_ms: 1_800_000_000_000,
        upstream_scope: UpstreamScope::InsideGuest,
    }
    .encode();
    let report = sp.report(binder(&statement).as_bytes()).unwrap();
    let endorsements: Vec<_> = sp
        .certificates()
        .into_iter()
        .map(|bytes| Endorsement { media_type: media::CERTIFICATE.to_owned(), bytes })
        .collect();
    (0..n)
        .map(|i| Bundle {
            attest: Attest {
                purpose: AttestPurpose::Initial,
                seq: 0,
                statement: statement.clone(),
                index: i.into(),
                siblings: tree.path(i.into()).unwrap(),
                hardware: vec![(HardwareFormat::SnpReport, report.clone())],
                tpm: None,
                endorsements: endorsements.clone(),
                parts: vec![],
                identity: vec![],
                client_evidence_wanted: false,
                features: 0,
                pool_idle_ms: 0,
            }
            .encode(),
            parts: Default::default(),
            leaf_certificate: leaf_certificate.clone(),
            bind: bind(i),
            received: NOW,
            witnessed_ak: false,
        })
        .collect()
}
