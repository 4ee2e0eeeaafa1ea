//! What one thread pays for a full bundle of Azure and of GCP: report, chain and list, the vTPM's quote and the certificates of its
//! key, an event log of 64 KiB, and everything that a policy asks of them.
//!
//! AMD-SP, TPM, authorities and log are software and PROVE NOTHING; keys and certificates are as large as the real ones.

use anyhow::{Context, Result, bail, ensure};
use ratls::appraise::{Verdict, appraise};
use ratls::binding::statement::{Epoch, LogDigest};
use ratls::binding::{
    Binder, ChannelLeaf, ExporterSecret, Profile, Purpose, Role, Statement, Tree, UpstreamScope, binder, quote_binder,
};
use ratls::bundle::Bundle;
use ratls::cert::spki_digest;
use ratls::crypto::sha256;
use ratls::digest::Sha256Digest;
use ratls::endorsement::TrustAnchors;
use ratls::evidence::event_log::{EventLog, Replay};
use ratls::evidence::snp::Report;
use ratls::evidence::tpm::Bank;
use ratls::policy::AppraisalPolicy;
use ratls::tcb::Product;
use ratls::time::UnixTime;
use ratls::verify::{Connection, Part, VerifiedEvidence, verify_connection};
use ratls::wire::attest::{Attest, AttestPurpose, Endorsement, HardwareFormat, PartInfo, media, part};
use simulator::boot::event::{IMAGE_SECURITY, grub_text, secure_boot_variable, signature_list};
use simulator::boot::{Firmware, Guest, Log};
use simulator::cloud::{azure, gce};
use simulator::{Pki, RsaSize, SimulatedAmdSp};

use crate::micro::median;

/// The TPM of ratls' tests: written from the documents, and in need of no process.
#[allow(clippy::unwrap_used)]
#[path = "../../ratls/tests/shared/soft_tpm.rs"]
mod soft_tpm;
use soft_tpm::SoftTpm;

const LOG_BYTES: usize = 64 << 10;
/// What Secure Boot revokes: the largest event of a real log.
const DBX_BYTES: usize = 20 << 10;
const URL: &str = "http://127.0.0.1";
const BATCHES: usize = 40;

/// A guest of one cloud, and who reads its evidence.
struct Cloud {
    profile: Profile,
    sp: SimulatedAmdSp,
    tpm: SoftTpm,
    certificates: Vec<Vec<u8>>,
    log: Vec<u8>,
    leaf: Vec<u8>,
    anchors: TrustAnchors,
    policy: AppraisalPolicy,
}

/// One row per quantity: what, microseconds, target.
pub(crate) fn rows(now: UnixTime) -> Result<Vec<(String, f64, &'static str)>> {
    let pki = std::sync::Arc::new(Pki::generate(Product::Milan, RsaSize::Bits4096));
    let mut rows = Vec::new();
    for profile in [Profile::AzureSnp, Profile::GcpSnp] {
        let cloud = Cloud::new(&pki, profile)?;
        let name = if profile == Profile::AzureSnp { "Azure" } else { "GCP" };
        let bundles = (0..BATCHES).map(|number| cloud.bundle(number, now)).collect::<Result<Vec<_>>>()?;
        let of = |number: usize| bundles.get(number).expect("it was made");
        let cold = median(
            BATCHES,
            |round| (round, cloud.anchors.clone().remembering()),
            |(round, fresh)| cloud.verify(of(round), &fresh, &cloud.part()?, now),
        )?;
        rows.push((format!("a full {name} bundle with a log of 64 KiB, nothing seen before"), cold, "≤ 2,000 µs"));
        let memory = cloud.anchors.clone().remembering();
        // A client keeps what a guest's connections brought, and reads it once.
        let log = cloud.part()?;
        cloud.verify(of(0), &memory, &log, now)?;
        let batch = median(BATCHES - 1, |round| round + 1, |round| cloud.verify(of(round), &memory, &log, now))?;
        rows.push((format!("a further batch of the same {name} guest"), batch, "≤ 500 µs"));
        let again = median(200, |_| (), |()| cloud.verify(of(0), &memory, &log, now))?;
        rows.push((format!("the same {name} batch again"), again, ""));
        let parts = median(
            200,
            |_| (),
            |()| {
                cloud.verified(of(0), &memory, &log, now)?;
                Ok(())
            },
        )?;
        rows.push((format!("of which to verify; the rest is to appraise ({name})"), parts, ""));
    }
    Ok(rows)
}

impl Cloud {
    fn new(pki: &std::sync::Arc<Pki>, profile: Profile) -> Result<Cloud> {
        let dir = std::env::temp_dir().join(format!("evident-bench-{}-{profile}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        let made = Cloud::below(&dir, pki, profile);
        std::fs::remove_dir_all(&dir)?;
        made
    }

    fn below(dir: &std::path::Path, pki: &std::sync::Arc<Pki>, profile: Profile) -> Result<Cloud> {
        let sp = SimulatedAmdSp::new(pki, simulator::Config::new(Product::Milan));
        let (firmware, mut tpm, root, certificates, platform) = match profile {
            Profile::AzureSnp => {
                let (tpm, kind) = (SoftTpm::azure(), azure::Hierarchy::Cloud);
                let authorities = azure::Authorities::load_or_create(dir, pki, RsaSize::Bits4096)?;
                let name = "5eed00c0ffee.ConfidentialVM.Azure.windows.net";
                let leaf = authorities.ak_certificate(kind, name, &tpm.modulus(), URL);
                let certificates = [vec![leaf], authorities.intermediates(kind, URL)].concat();
                let policy = "[azure]\nak_certificate = \"require\"\n";
                (Firmware::Azure, tpm, authorities.root_pem().to_owned(), certificates, policy)
            }
            Profile::GcpSnp => {
                let tpm = SoftTpm::gce();
                let authorities = gce::Authorities::load_or_create(dir, pki, RsaSize::Bits4096)?;
                let leaf = authorities.ak_certificate(&gce::Instance::new(), &tpm.spki(), URL);
                let certificates = vec![leaf, authorities.intermediate()];
                let policy = "[gcp]\nprojects = [\"evident-simulated\"]\nzones = [\"us-central1-a\"]\n";
                (Firmware::Gce, tpm, authorities.root_pem().to_owned(), certificates, policy)
            }
            other => bail!("{other} has no full bundle here"),
        };
        let guest = Guest::new(firmware);
        let log = padded(guest.log());
        let replay = Replay::of(&EventLog::parse(&log)?, Bank::Sha256).context("the log has SHA-256")?;
        let value = |pcr: u8| replay.value(pcr).map(|value| (pcr, value.as_bytes().to_vec())).context("24 registers");
        tpm.pcrs = (0..24).map(value).collect::<Result<_>>()?;
        let key = rcgen::KeyPair::generate()?;
        let leaf = rcgen::CertificateParams::new(["localhost".to_owned()])?.self_signed(&key)?.der().to_vec();
        let roots = [pki.root_pem(), root].concat();
        let policy = policy(profile, &sp, platform, &guest.command_line)?;
        Ok(Cloud {
            profile,
            anchors: TrustAnchors::amd().with_simulator_root(roots.as_bytes())?,
            sp,
            tpm,
            certificates,
            log,
            leaf,
            policy,
        })
    }

    /// What a connection of this batch shows, with its log.
    fn bundle(&self, number: usize, now: UnixTime) -> Result<Bundle> {
        let spki = spki_digest(&self.leaf)?;
        let exporter = ExporterSecret::from_key_log(&[7; 32])?;
        let tree = Tree::build(&[ChannelLeaf::initial(Role::Server, &spki, &exporter).hash()])?;
        let (digest, length) = (sha256(&[&self.log]), u32::try_from(self.log.len())?);
        let statement = Statement {
            profile: self.profile,
            purpose: Purpose::Batch,
            root: tree.root(),
            n: tree.n(),
            spki,
            epoch: Epoch::from_bytes([7; 16]),
            counter: u64::try_from(number)?,
            ak: Some(sha256(&[&self.tpm.public()])),
            logs: vec![LogDigest { name: part::EVENT_LOG.to_owned(), length: length.into(), digest }],
            config: Sha256Digest::from_bytes([9; 32]),
            names: Vec::new(),
            time_ms: 0,
            upstream_scope: UpstreamScope::InsideGuest,
        }
        .encode();
        let b = binder(&statement);
        let (format, evidence, report) = self.hardware(&b);
        let certificates = self.sp.certificates().into_iter().chain(self.certificates.iter().cloned());
        let certificate = |bytes| Endorsement { media_type: media::CERTIFICATE.to_owned(), bytes };
        let crl = Endorsement { media_type: media::CRL.to_owned(), bytes: self.sp.crl() };
        let attest = Attest {
            purpose: AttestPurpose::Initial,
            seq: 0,
            statement,
            index: 0,
            siblings: Vec::new(),
            hardware: vec![(format, evidence)],
            tpm: Some(self.tpm.quote(quote_binder(&b, &report).as_bytes(), |_| ())),
            endorsements: certificates.map(certificate).chain([crl]).collect(),
            parts: vec![PartInfo {
                name: part::EVENT_LOG.to_owned(),
                digest,
                length,
                media_type: media::EVENT_LOG.to_owned(),
            }],
            identity: Vec::new(),
            client_evidence_wanted: false,
            features: 0,
            pool_idle_ms: 0,
        }
        .encode();
        Ok(Bundle {
            attest,
            parts: [(digest, self.log.clone())].into(),
            leaf_certificate: self.leaf.clone(),
            bind: exporter.bind_initial(),
            received: now,
            witnessed_ak: false,
        })
    }

    /// The evidence as it travels, and the report in it.
    fn hardware(&self, b: &Binder) -> (HardwareFormat, Vec<u8>, Vec<u8>) {
        if self.profile != Profile::AzureSnp {
            let report = self.sp.report_with(b.as_bytes(), |_| ());
            return (HardwareFormat::SnpReport, report.clone(), report);
        }
        let modulus = self.tpm.modulus();
        let json = azure::Vm::new().claims(&modulus, &modulus, b.as_bytes());
        let mut data = [0; 64];
        data[..32].copy_from_slice(sha256(&[json.as_bytes()]).as_bytes());
        let report = self.sp.report_with(&data, |_| ());
        (HardwareFormat::HclBlob, azure::blob(&report, json.as_bytes()), report)
    }

    /// The log, read.
    fn part(&self) -> Result<Part> {
        Ok(Part::read(part::EVENT_LOG, &self.log[..])?)
    }

    /// As on a live connection.
    fn verified(&self, bundle: &Bundle, anchors: &TrustAnchors, log: &Part, now: UnixTime) -> Result<VerifiedEvidence> {
        let Bundle { leaf_certificate, bind, attest, .. } = bundle;
        let (mut evidence, _) = verify_connection(&Connection { leaf_certificate, bind: *bind, attest }, anchors, now)?;
        evidence.add_part(log, anchors)?;
        Ok(evidence)
    }

    fn verify(&self, bundle: &Bundle, anchors: &TrustAnchors, log: &Part, now: UnixTime) -> Result<()> {
        let result = appraise(Some(&self.policy), self.verified(bundle, anchors, log, now)?);
        ensure!(result.verdict() == Verdict::Accepted, "{result}");
        Ok(())
    }
}

/// A log with a list of revocations and as many commands of GRUB as fill it.
fn padded(mut log: Log) -> Vec<u8> {
    let dbx = |event: &&mut simulator::boot::log::Event| event.data.windows(6).any(|text| text == b"d\0b\0x\0");
    if let Some(event) = log.events.iter_mut().find(dbx) {
        *event = secure_boot_variable(IMAGE_SECURITY, "dbx", &signature_list(1, &[0x5E; DBX_BYTES]));
    }
    let grub = log.events.iter().position(|event| event.pcr == 8).unwrap_or(log.events.len());
    for number in 0.. {
        if log.to_bytes().len() + 256 > LOG_BYTES {
            break;
        }
        let text =
            format!("menuentry number {number} of a menu with a text about as long as such texts are in grub.cfg");
        log.events.insert(grub, grub_text("grub_cmd", &text));
    }
    log.to_bytes()
}

fn policy(profile: Profile, sp: &SimulatedAmdSp, platform: &str, command_line: &str) -> Result<AppraisalPolicy> {
    let report = sp.report_with(&[0; 64], |_| ());
    let measurement = Report::parse(&report)?.measurement().to_string();
    let text = format!(
        "version = 1\nprofiles = [\"{profile}\"]\nidentity = \"any\"\n[roots]\nsimulator = \"roots.pem\"\n\
         [snp]\nmeasurements = [\"{measurement}\"]\nsmt = \"allow\"\nsigning_keys = [\"vcek\"]\n\
         minimum_tcb.milan = {{ bl = 4, tee = 0, snp = 24, ucode = 219 }}\n{platform}\
         [event_log]\nkernel_command_line = \"/vmlinuz-6.12.0-simulated {command_line}\"\n\
         grub_commands = \"any\"\nfiles = \"any\"\n"
    );
    Ok(AppraisalPolicy::parse(&text, "bench.toml")?)
}
