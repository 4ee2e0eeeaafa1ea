//! `evident-client verify BUNDLE` and `policy check`, over what the simulator signed: what a bundle proves, and what it does not.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use clap::Parser;
use evident_client::tools::Output;
use evident_client::tools::policy::{CheckArgs, check};
use evident_client::tools::verify::{VerifyArgs, verify};
use ratls::binding::leaf::leaf_hash;
use ratls::binding::statement::Epoch;
use ratls::binding::{Bind32, LeafType, Profile, Purpose, Role, Statement, Tree, UpstreamScope, binder};
use ratls::bundle::Bundle;
use ratls::cert::spki_digest;
use ratls::digest::Sha256Digest;
use ratls::tcb::Product;
use ratls::time::UnixTime;
use ratls::wire::attest::{Attest, AttestPurpose, Endorsement, HardwareFormat, media};
use simulator::{Config, Pki, RsaSize, SimulatedAmdSp};

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    verify: VerifyArgs,
}

fn run(args: &[&str]) -> Output {
    let cli = Cli::try_parse_from(["verify"].iter().chain(args)).unwrap_or_else(|e| panic!("{e}"));
    verify(&cli.verify, NOW)
}

/// A bundle of a simulated guest, and the simulator's root.
fn bundle() -> (Bundle, String) {
    let pki = Arc::new(Pki::generate(Product::Milan, RsaSize::Bits2048));
    let mut sp = SimulatedAmdSp::new(&pki, Config::new(Product::Milan));
    // Any certificate has a key; which one it is makes no difference to a bundle.
    let leaf_certificate = sp.certificates().remove(0);
    let spki = spki_digest(&leaf_certificate).unwrap();
    let bind = Bind32::from_exporter([9; 32]);
    let tree = Tree::build(&[leaf_hash(LeafType::ChannelInitial, Role::Server, &spki, &bind)]).unwrap();
    let statement = Statement {
        profile: Profile::Snp,
        purpose: Purpose::Batch,
        root: tree.root(),
        n: 1,
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
    let certificate = |bytes| Endorsement { media_type: media::CERTIFICATE.to_owned(), bytes };
    let attest = Attest {
        purpose: AttestPurpose::Initial,
        seq: 0,
        statement,
        index: 0,
        siblings: vec![],
        hardware: vec![(HardwareFormat::SnpReport, report)],
        tpm: None,
        endorsements: sp.certificates().into_iter().map(certificate).collect(),
        parts: vec![],
        identity: vec![],
        client_evidence_wanted: false,
        features: 0,
        pool_idle_ms: 0,
    };
    let attest = attest.encode();
    (
        Bundle { attest, parts: Default::default(), leaf_certificate, bind, received: NOW, witnessed_ak: false },
        sp.root_pem(),
    )
}

/// The example policy beside the root that it names.
fn policy(folder: &Path, root: &str) -> String {
    let path = folder.join("simulated.toml");
    fs::write(&path, include_str!("../../examples/policies/simulated.toml")).unwrap();
    fs::write(folder.join(simulator::ROOT_FILE), root).unwrap();
    path.display().to_string()
}

fn id_of(output: &Output) -> String {
    let json: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    json["findings"][0]["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_bundle_is_accepted_only_where_the_policy_names_its_root_and_says_simulated() {
    let (bundle, root) = bundle();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("guest.bundle");
    fs::write(&file, bundle.encode()).unwrap();
    let file = file.to_str().unwrap();

    let output = run(&["--policy", &policy(folder.path(), &root), file]);
    assert_eq!(output.exit, 0, "{output:?}");
    assert!(output.stdout.starts_with("SIMULATED, PROVES NOTHING\nACCEPTED"), "{}", output.stdout);
    assert!(output.stdout.ends_with("SIMULATED, PROVES NOTHING\n"), "{}", output.stdout);
    let sha256 = ratls::crypto::sha256(&[include_bytes!("../../examples/policies/simulated.toml")]);
    assert!(output.stdout.contains(&format!("\n  policy        sha256 {sha256}\n")), "{}", output.stdout);
    assert!(output.stdout.contains("signed for the connection that the bundle recorded"), "{}", output.stdout);

    let output = run(&["--json", file]);
    assert_eq!((output.exit, id_of(&output).as_str()), (1, "E_ROOT"));
}

#[test]
fn a_bundle_that_was_changed_is_refused_with_the_check_that_failed() {
    let (bundle, root) = bundle();
    let folder = tempfile::tempdir().unwrap();
    let policy = policy(folder.path(), &root);
    let file = folder.path().join("guest.bundle");
    let refused = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        let output = run(&["--json", "--policy", &policy, file.to_str().unwrap()]);
        assert_eq!(output.exit, 1, "{output:?}");
        id_of(&output)
    };
    let whole = bundle.encode();
    assert_eq!(refused(&whole[..whole.len() - 1]), "B_BUNDLE");
    assert_eq!(refused(b"something else"), "B_BUNDLE");
    let said = run(&["--policy", &policy, file.to_str().unwrap()]).stdout;
    assert!(said.contains("give a file of inspect --save, or use --snp-report"), "{said}");
    let other = Bundle { bind: Bind32::from_exporter([8; 32]), ..bundle };
    assert_eq!(refused(&other.encode()), "B_CHANNEL");
}

#[test]
fn policy_check_says_what_is_accepted_and_what_to_look_at() {
    let folder = tempfile::tempdir().unwrap();
    let root = Pki::generate(Product::Milan, RsaSize::Bits2048).root_pem();
    let file = policy(folder.path(), &root);
    let output = check(&CheckArgs { file: file.clone().into(), json: false });
    assert_eq!(output.exit, 0, "{output:?}");
    assert!(output.stdout.contains("SIMULATED and PROVES NOTHING"), "{}", output.stdout);
    let output = check(&CheckArgs { file: file.clone().into(), json: true });
    let json: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!((&json["identity"], &json["profiles"]), (&"any".into(), &serde_json::json!(["snp"])));

    fs::remove_file(folder.path().join(simulator::ROOT_FILE)).unwrap();
    let output = check(&CheckArgs { file: file.clone().into(), json: false });
    assert_eq!((output.exit, output.stdout.as_str()), (2, ""));
    assert!(output.stderr.contains("roots.simulator") && output.stderr.contains("root.pem"), "{}", output.stderr);

    fs::write(folder.path().join(simulator::ROOT_FILE), "no certificate").unwrap();
    assert_eq!(check(&CheckArgs { file: file.into(), json: false }).exit, 2);
}

#[test]
fn policy_check_shows_what_a_vtpm_must_show_and_which_values_nobody_has_put_there() {
    let checked = |name: &str| {
        let file = format!("{}/../examples/policies/{name}.toml", env!("CARGO_MANIFEST_DIR"));
        let output = check(&CheckArgs { file: file.into(), json: false });
        assert_eq!(output.exit, 0, "{output:?}");
        output.stdout
    };
    let azure = checked("azure");
    for says in [
        format!("\n  measurement   {}\n", "2".repeat(96)),
        format!("\n  PCR 7         sha256 {}\n", "3".repeat(64)),
        "\n  registers     4, 7, 8, 9 must be shown, whatever they hold\n".to_owned(),
        "\n  vTPM's key    with Microsoft's certificate (ak_certificate)\n".to_owned(),
        "\n  look at       azure_vm_ids, measurements, [tpm.pcrs]: one digit over and over".to_owned(),
    ] {
        assert!(azure.contains(&says), "no {says:?} in\n{azure}");
    }
    for (name, says) in [
        ("gcp", "\n  project       example-project\n  zone          us-central1-a\n"),
        ("gcp", "\n  vouched for   by AMD and by the cloud (require_roots)\n"),
        ("gcp", "look at       gce_instance_ids, measurements, [tpm.pcrs]: one digit"),
        ("aws", "\n  document      at most 300 s old\n"),
        ("aws", "look at       ec2_instance_ids, measurements, [tpm.pcrs]: one digit"),
        ("svsm", "\n  vTPM's key    proven to live beside the EK that the SVSM names\n"),
        ("snp-selfhosted", "look at       chip_ids, measurements, [guest] config: one digit"),
        ("snp-vlek-aws-style", "look at       id_key_digest, measurements: one digit"),
    ] {
        let text = checked(name);
        assert!(text.contains(says) && !text.contains("kernel"), "{name}: no {says:?} in\n{text}");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = policy(folder.path(), &Pki::generate(Product::Milan, RsaSize::Bits2048).root_pem());
    let own = check(&CheckArgs { file: file.into(), json: false }).stdout;
    assert!(!own.contains("one digit") && !own.contains("PCR") && !own.contains("vTPM"), "{own}");
}

#[test]
fn wrong_flags_are_refused_before_any_file_is_read() {
    let parse =
        |args: &[&str]| Cli::try_parse_from(["verify"].iter().chain(args)).map(|_| ()).map_err(|e| e.exit_code());
    assert_eq!(parse(&[]), Err(2));
    assert_eq!(parse(&["bundle", "--snp-report", "r"]), Err(2));
    assert_eq!(parse(&["bundle", "--cert", "c"]), Err(2));
    assert_eq!(parse(&["bundle", "--at", "tomorrow"]), Err(2));
    // A piece without what it needs beside it.
    for flag in ["--quote", "--quote-signature", "--svsm-manifest", "--svsm-nonce"] {
        assert_eq!(parse(&["--snp-report", "/nonexistent", flag, "x"]), Err(2), "{flag}");
    }
    for flag in ["--hcl", "--quote", "--ak", "--event-log", "--ima-log", "--nitro-document"] {
        assert_eq!(parse(&["bundle", flag, "x"]), Err(2), "{flag} beside a bundle");
    }
}
