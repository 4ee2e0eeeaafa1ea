//! `evident-proxy evidence`: asks the hardware once and shows the operator what this guest would attest.

use std::process::ExitCode;

use anyhow::{Context, Result};
use attester::endorse::Endorser;
use proxy_core::tls::provider;
use ratls::appraise::appraise;
use ratls::verify::{VerifiedEvidence, verify_report};
use ratls::wire::attest::media;

use crate::cli::EvidenceFlags;
use crate::config::Device;
use crate::start::{kds, now, open_device};

pub async fn run(flags: EvidenceFlags) -> Result<ExitCode> {
    let device_config = Device::load(&flags.device)?;
    let (mut device, anchors) = open_device(&device_config)?;
    let mut report_data = [0; 64];
    provider()
        .secure_random
        .fill(&mut report_data)
        .map_err(|_| anyhow::anyhow!("the system gives no random numbers"))?;
    let answer = device.report(&report_data).context("the device gives no report")?;
    let endorser = Endorser::new(kds(&device_config)?, anchors.clone(), vec![], now);
    let endorsed = endorser.endorse(&answer.report, &answer.certificates).await?;
    let of_type = |wanted: &str| -> Vec<&[u8]> {
        endorsed.staple().iter().filter(|e| e.media_type == wanted).map(|e| &e.bytes[..]).collect()
    };
    let (certificates, crls) = (of_type(media::CERTIFICATE), of_type(media::CRL));
    let report = verify_report(&answer.report, &certificates, &crls, &anchors, now())?;
    let result = appraise(None, VerifiedEvidence::offline(report, now()));
    println!("{result}");
    if let Some(dir) = &flags.save {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let write = |name: &str, bytes: &[u8]| {
            let path = dir.join(name);
            std::fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))
        };
        write("report.bin", &answer.report)?;
        for (name, bytes) in ["vek.der", "issuer.der"].iter().zip(&certificates) {
            write(name, bytes)?;
        }
        println!("saved report.bin, vek.der and issuer.der in {}", dir.display());
    }
    Ok(ExitCode::from(result.exit_code()))
}
