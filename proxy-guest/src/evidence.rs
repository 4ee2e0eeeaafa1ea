//! `evident-proxy evidence`: asks the hardware once and shows the operator what this guest would attest.
//!
//! The evidence is made as for a connection, with an exporter value that belongs to none, so that what is saved is a
//! bundle like any other.

use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use attester::batcher::{Batcher, Settings, StatementContext};
use proxy_core::exit;
use proxy_core::tasks::Tasks;
use ratls::appraise::appraise;
use ratls::binding::statement::Epoch;
use ratls::binding::{ChannelLeaf, ExporterSecret, Role, UpstreamScope};
use ratls::bundle::Bundle;
use ratls::verify::verify_bundle;

use crate::cli::EvidenceFlags;
use crate::config::Device;
use crate::identity::GuestKey;
use crate::machine::Machine;
use crate::serve::attest_body;
use crate::start::{now, random, settings_part, unix_ms};
use crate::version::VERSION;

pub async fn run(flags: EvidenceFlags) -> Result<ExitCode> {
    let config = Device::load(&flags.device)?;
    let machine = Machine::open(&config)?;
    let endorser = machine.endorser(&config)?;
    let (issuers, _) = machine.issuers(&config).find().await;
    let Machine { platform, anchors, .. } = machine;
    let described = platform.describe();
    let key = GuestKey::generate(&[], now())?;
    let settings = settings_part(&[])?;
    let context = StatementContext {
        spki: key.spki(),
        epoch: Epoch::from_bytes(random()?),
        config: settings.info().digest,
        names: vec![],
        upstream_scope: UpstreamScope::InsideGuest,
        unix_ms: Box::new(unix_ms),
    };
    let (batcher, attest) =
        Batcher::new(platform, context, Settings { max_pending: 1, max_per_source: 1 }, Arc::new(()));
    let tasks = Tasks::new();
    tasks.spawn("batcher", async move {
        let Err(error) = batcher.run().await;
        tracing::error!(%error, "the batcher ended");
    });
    let exporter = ExporterSecret::from_key_log(&random::<32>()?)?;
    let leaf = ChannelLeaf::initial(Role::Server, &key.spki(), &exporter);
    let attestation =
        attest.attest(leaf, IpAddr::V4(Ipv4Addr::LOCALHOST)).await.context("the device gives no report")?;
    let endorsed = endorser.endorse(attestation.batch.report(), attestation.batch.certificates()).await?;
    let bundle = Bundle {
        parts: std::iter::once(&settings)
            .chain(attestation.batch.parts())
            .map(|part| (part.info().digest, part.bytes().to_vec()))
            .collect(),
        attest: attest_body(attestation, [endorsed.staple(), &issuers].concat(), &settings, Duration::from_secs(1)),
        leaf_certificate: key.lean_identity(now())?.chain.remove(0).to_vec(),
        bind: exporter.bind_initial(),
        received: now(),
        witnessed_ak: false,
    };
    let (evidence, _) = verify_bundle(&bundle, &anchors, now()).context("our own verifier refuses our evidence")?;
    let result = appraise(None, evidence);
    let mut text = format!("evident-proxy {VERSION}\nasked: {described}\n{result}");
    if let Some(path) = &flags.save {
        std::fs::write(path, bundle.encode()).with_context(|| format!("cannot write {}", path.display()))?;
        text.push_str(&format!("saved the evidence to {}\n", path.display()));
    }
    Ok(exit::print("evident-proxy", &text, result.exit_code()))
}
