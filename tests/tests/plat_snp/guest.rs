//! A simulated guest, one attested connection to it, and what a client with a policy says of that connection.
//!
//! Everything is public and plain, so that a test takes the good case and changes one thing of it.

use ratls::appraise::{self, Finding, Identity, Severity, Verdict};
use ratls::binding::leaf::leaf_hash;
use ratls::binding::statement::{Epoch, UpstreamScope};
use ratls::binding::{Bind32, LeafType, Profile, Purpose, Role, Statement, Tree, binder};
use ratls::digest::Sha256Digest;
use ratls::endorsement::TrustAnchors;
use ratls::policy::AppraisalPolicy;
use ratls::tcb::Product;
use ratls::time::UnixTime;
use ratls::verify::{Channel, Connection, verify_connection};
use ratls::wire::attest::{Attest, AttestPurpose, Endorsement, HardwareFormat, media};
use simulator::amd_sp::SIGNED_LEN;
use simulator::{Config, Pki, RsaSize, SimulatedAmdSp};
use std::sync::{Arc, LazyLock};

/// 2026-11-23T21:00:00Z
pub(crate) const NOW: UnixTime = UnixTime::from_secs(1_795_467_600);
pub(crate) const BIND: Bind32 = Bind32::from_exporter([0xB1; 32]);

/// One set of roots for a test; all of this product.
pub(crate) static MILAN: LazyLock<Arc<Pki>> = LazyLock::new(|| roots(Product::Milan));

pub(crate) fn roots(product: Product) -> Arc<Pki> {
    Arc::new(Pki::generate(product, RsaSize::Bits2048))
}

/// What a client has at the end of a handshake and of the first frame, and what it holds against it.
pub(crate) struct Seen {
    pub(crate) sp: SimulatedAmdSp,
    /// The TLS leaf. Its key is not used here: that it signed the handshake is checked elsewhere.
    pub(crate) leaf: Vec<u8>,
    pub(crate) bind: Bind32,
    pub(crate) attest: Attest,
    /// Text of the policy file.
    pub(crate) policy: String,
    pub(crate) roots: TrustAnchors,
    pub(crate) now: UnixTime,
}

/// The judgement, in the terms that the tests compare.
#[derive(Debug)]
pub(crate) struct Judgement {
    pub(crate) verdict: Verdict,
    pub(crate) identity: Identity,
    pub(crate) findings: Vec<Finding>,
}

/// A Milan guest that its policy accepts.
pub(crate) fn good() -> Seen {
    seen(&MILAN, Config::new(Product::Milan))
}

/// A connection to this guest, under a policy for a guest that nothing was changed of. Accepted, unless `config` is not the good one.
pub(crate) fn seen(pki: &Arc<Pki>, config: Config) -> Seen {
    let policy = policy(&Config::new(config.product));
    let sp = SimulatedAmdSp::new(pki, config);
    let tls_leaf = simulator::LeafTemplate { common_name: "evident".to_owned(), ..sp.leaf_template() };
    let leaf = pki.issue(&tls_leaf);
    let attest = attest(&sp, &leaf, &BIND, 1, |_| ());
    let roots = TrustAnchors::amd().with_simulator_root(pki.root_pem().as_bytes()).expect("the simulator's root");
    Seen { sp, leaf, bind: BIND, attest, policy, roots, now: NOW }
}

/// The good Milan guest but for this change of it.
pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Seen {
    good().judge().accepted();
    let mut config = Config::new(Product::Milan);
    change(&mut config);
    seen(&MILAN, config)
}

/// The good Milan case but for this change of what the client has.
pub(crate) fn after(change: impl FnOnce(&mut Seen)) -> Seen {
    let mut case = good();
    case.judge().accepted();
    change(&mut case);
    case
}

/// The good Milan case, but its report says something else and is correctly signed again.
pub(crate) fn forged(change: impl FnOnce(&mut [u8; SIGNED_LEN])) -> Seen {
    after(|case| case.attest = attest(&case.sp, &case.leaf, &case.bind, 1, change))
}

/// What the guest answers to the connection with this exporter value: a batch of one. `forge` alters the report before it is signed.
pub(crate) fn attest(
    sp: &SimulatedAmdSp,
    leaf: &[u8],
    bind: &Bind32,
    counter: u64,
    forge: impl FnOnce(&mut [u8; SIGNED_LEN]),
) -> Attest {
    let spki = ratls::cert::spki_digest(leaf).expect("a certificate");
    let tree = Tree::build(&[leaf_hash(LeafType::ChannelInitial, Role::Server, &spki, bind)]).expect("one leaf");
    let statement = Statement {
        profile: Profile::Snp,
        purpose: Purpose::Batch,
        root: tree.root(),
        n: tree.n(),
        spki,
        epoch: Epoch::from_bytes([7; 16]),
        counter,
        ak: None,
        logs: Vec::new(),
        config: Sha256Digest::from_bytes([9; 32]),
        names: Vec::new(),
        time_ms: 0,
        upstream_scope: UpstreamScope::InsideGuest,
    };
    let statement = statement.encode();
    let report = sp.report_with(binder(&statement).as_bytes(), forge);
    let certificates = sp.certificates().into_iter().map(certificate);
    let crl = Endorsement { media_type: media::CRL.to_owned(), bytes: sp.crl() };
    Attest {
        purpose: AttestPurpose::Initial,
        seq: 0,
        statement,
        index: 0,
        siblings: Vec::new(),
        hardware: vec![(HardwareFormat::SnpReport, report)],
        tpm: None,
        endorsements: certificates.chain([crl]).collect(),
        parts: Vec::new(),
        identity: Vec::new(),
        client_evidence_wanted: false,
        features: 0,
        pool_idle_ms: 60_000,
    }
}

pub(crate) fn certificate(bytes: Vec<u8>) -> Endorsement {
    Endorsement { media_type: media::CERTIFICATE.to_owned(), bytes }
}

/// A policy that accepts exactly this guest's measurement and TCB, under a VCEK.
fn policy(config: &Config) -> String {
    let tcb = &config.launch_tcb;
    let fmc = if config.product == Product::Turin { format!("fmc = {}, ", tcb.fmc) } else { String::new() };
    format!(
        r#"version = 1
profiles = ["snp"]
identity = "any"
[roots]
simulator = "root.pem"
[snp]
measurements = ["{}"]
signing_keys = ["vcek"]
smt = "allow"
[snp.minimum_tcb]
{} = {{ {fmc}bl = {}, tee = {}, snp = {}, ucode = {} }}
"#,
        config.measurement,
        config.product.name().to_lowercase(),
        tcb.bootloader,
        tcb.tee,
        tcb.snp,
        tcb.microcode,
    )
}

impl Seen {
    /// The report as it travels.
    pub(crate) fn report(&mut self) -> &mut Vec<u8> {
        &mut self.attest.hardware.first_mut().expect("a report").1
    }

    /// The leaf of the endorsement chain as it travels.
    pub(crate) fn vek(&mut self) -> &mut Vec<u8> {
        &mut self.attest.endorsements.first_mut().expect("a VCEK or VLEK").bytes
    }

    /// Lines for the `[snp]` table of the policy.
    pub(crate) fn snp_policy(&mut self, lines: &str) {
        self.replace_policy("[snp]\n", &format!("[snp]\n{lines}\n"));
    }

    pub(crate) fn replace_policy(&mut self, old: &str, new: &str) {
        assert!(self.policy.contains(old), "{old:?} is not in the policy");
        self.policy = self.policy.replace(old, new);
    }

    /// Verify, then appraise, as the client does.
    pub(crate) fn judge(&self) -> Judgement {
        let policy = AppraisalPolicy::parse(&self.policy, "policy.toml").unwrap_or_else(|e| panic!("{e}"));
        let attest = self.attest.encode();
        let connection = Connection { leaf_certificate: &self.leaf, bind: self.bind, attest: &attest };
        let result = match verify_connection(&connection, &self.roots, self.now) {
            Ok((evidence, _)) => appraise::appraise(Some(&policy), evidence),
            Err(error) => {
                let finding = Finding::of_verification(error.check(), &error);
                appraise::AttestationResult::refusal(finding, Channel::Exporter, None, self.now)
            }
        };
        let findings = result.findings().to_vec();
        let judgement = Judgement { verdict: result.verdict(), identity: result.identity(), findings };
        // The only way to an attested stream agrees with the verdict.
        assert_eq!(result.into_accepted().is_ok(), judgement.verdict == Verdict::Accepted, "{judgement:?}");
        judgement
    }
}

impl Judgement {
    /// Refused, and for this one reason.
    #[track_caller]
    pub(crate) fn refused_for(&self, id: &str) {
        let fatal: Vec<_> = self.findings.iter().filter(|f| f.severity() == Severity::Fatal).map(Finding::id).collect();
        assert!(matches!(self.verdict, Verdict::Refused(_)), "{self:?}");
        assert_eq!(fatal, [id], "{self:?}");
    }

    /// Refused for this one reason, which is about `subject`.
    #[track_caller]
    pub(crate) fn refused_for_the(&self, subject: &str, id: &str) {
        self.refused_for(id);
        assert!(self.findings.iter().any(|f| f.id() == id && f.subject() == subject), "{self:?}");
    }

    #[track_caller]
    pub(crate) fn accepted(&self) {
        assert_eq!(self.verdict, Verdict::Accepted, "{self:?}");
    }

    /// Accepted, and this was said of it.
    #[track_caller]
    pub(crate) fn accepted_with(&self, id: &str, severity: Severity) {
        self.accepted();
        assert!(self.findings.iter().any(|f| f.id() == id && f.severity() == severity), "{self:?}");
    }

    /// Accepted, and nothing was said of this.
    #[track_caller]
    pub(crate) fn accepted_without(&self, id: &str) {
        self.accepted();
        assert!(self.findings.iter().all(|f| f.id() != id), "{self:?}");
    }
}
