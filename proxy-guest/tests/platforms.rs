//! A guest starts on each platform: it opens the machine, gathers, and our own verifier accepts what it would serve. The machines are
//! emulated: SIMULATED, PROVES NOTHING.

#![cfg(feature = "simulator")]
#![allow(clippy::unwrap_used)] // all of this is test code

use clap::Parser;
use evident_proxy::cli::Cli;
use evident_proxy::config::Config;
use evident_proxy::start::{Ready, start};
use proxy_core::metrics::Metrics;
use proxy_core::tasks::Tasks;
use std::path::Path;
use std::sync::Arc;

fn config(dir: &Path, platform: &str, settings: &str) -> Config {
    std::fs::write(dir.join("simulator.toml"), format!("small_keys = true\n{settings}")).unwrap();
    let line = format!("evident-proxy --upstream 1 --platform {platform} --simulate={}", dir.display());
    Config::load(&Cli::try_parse_from(line.split(' ')).unwrap().serve).unwrap()
}

/// `None`, with a line that names the platform, where its machine cannot be emulated here.
async fn started(dir: &Path, platform: &str, settings: &str) -> Option<Ready> {
    let (tasks, background) = (Tasks::new(), Tasks::new());
    let metrics = Arc::new(Metrics::new("evident-proxy", "test"));
    match start(&config(dir, platform, settings), metrics, tasks, background).await {
        Ok(ready) => Some(ready),
        Err(error) if format!("{error:#}").contains("FUSE") || format!("{error:#}").contains("package swtpm") => {
            println!("skipped: a guest on {platform}: {error:#}");
            None
        }
        Err(error) => panic!("{platform}: {error:#}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_starts_on_every_platform_and_accepts_itself() {
    for (platform, profile, certificates_of_ak) in [
        ("snp", "snp", 0),
        ("azure", "azure-snp", 2),
        ("gcp", "gcp-snp", 1),
        ("aws", "aws-snp", 0),
        ("svsm", "svsm-snp", 0),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let Some(ready) = started(dir.path(), platform, "").await else { continue };
        assert!(ready.result.simulated());
        assert_eq!(ready.result.profile().unwrap().as_str(), profile);
        let evidence = ready.guest.attest.latest().borrow().clone().expect("the first evidence");
        assert_eq!(evidence.tpm().is_some(), !matches!(platform, "snp" | "aws"), "{platform}");
        let event_log = evidence.parts().any(|part| part.info().name == "event-log");
        assert_eq!(event_log, platform != "snp", "{platform}");
        assert_eq!(ready.guest.issuers.borrow().len(), certificates_of_ak, "{platform}");
        assert_eq!(ready.guest.attest.activator().is_some(), platform == "svsm");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_of_an_old_paravisor_starts_too_and_shows_what_it_is() {
    for takes_data in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let settings = format!("[azure]\nuser_data = {takes_data}\n");
        let Some(ready) = started(dir.path(), "azure", &settings).await else { return };
        let claims = ready.result.evidence().unwrap().hcl().unwrap();
        assert_eq!(claims.user_data.is_some(), takes_data);
    }
}
