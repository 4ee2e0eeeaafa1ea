//! P, I6: settings that would make a check vacuous, and a clock that cannot be right. Nothing starts with them.

use std::path::{Path, PathBuf};
use std::process::Command;

use evident_tests::binaries::{evident_client, evident_proxy};
use evident_tests::policy::PolicyText;
use evident_tests::wait::PATIENCE;
use evident_tests::{Guest, Program, Upstream};
use ratls::time::RELEASE_DATE;

/// A directory with a policy that is good, whose root need not be anybody's.
fn good_policy() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("root.pem"), crate::genuine::PKI.root_pem()).unwrap();
    let text = PolicyText::for_simulator(dir.path()).names(&["llm.example"]).text();
    (dir, text)
}

fn written(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// A client that starts with this policy or not; the port of the guest is nobody's.
fn client_with(dir: &Path, policy: &str) -> Program {
    let policy = written(dir, "policy.toml", policy);
    Program::new(evident_client().unwrap())
        .args(["--guest", "127.0.0.1:1", "--listen", "127.0.0.1:0", "--policy"])
        .arg(policy)
}

/// Exit code 2, before anything is bound or contacted, and `told` among the reasons.
#[track_caller]
fn refuses_to_start(program: Program, told: &str) {
    let done = program.run(PATIENCE).unwrap();
    assert_eq!(done.code().unwrap(), 2, "{done:?}");
    assert!(done.stderr.contains(told), "wanted {told:?}: {done:?}");
    assert!(!done.stderr.contains("listening") && !done.stderr.contains("serving"), "{done:?}");
}

#[test]
fn proto_i6_a_policy_without_an_identity_rule_does_not_start() {
    let (dir, good) = good_policy();
    let without = good.replace("identity = \"any\"\n", "");
    assert_ne!(without, good);
    refuses_to_start(client_with(dir.path(), &without), "identity");
    refuses_to_start(client_with(dir.path(), &format!("{without}\n[identity]\n")), "identity");
    refuses_to_start(client_with(dir.path(), &good.replace("identity = \"any\"", "identity = \"none\"")), "identity");
    refuses_to_start(client_with(dir.path(), &good.replace("identity = \"any\"", "identity = true")), "identity");
}

#[test]
fn proto_p1_a_policy_that_expects_nothing_does_not_start() {
    let (dir, good) = good_policy();
    let measurement = evident_tests::policy::SIMULATED_MEASUREMENT;
    let chip = "22".repeat(64);
    for (old, new, told) in [
        (format!("[\"{measurement}\"]"), "[]", "measurements"),
        (format!("[\"{measurement}\"]"), "[\"\"]", "measurements"),
        (format!("measurements = [\"{measurement}\"]\n"), "", "measurements"),
        ("[\"vcek\"]".to_owned(), "[]", "signing_keys"),
        ("profiles = [\"snp\"]".to_owned(), "profiles = []", "profiles"),
        ("minimum_tcb.milan = { bl = 4, tee = 0, snp = 24, ucode = 219 }\n".to_owned(), "", "minimum_tcb"),
        ("identity = \"any\"\n\n[snp]".to_owned(), "\n[identity]\nchip_ids = []\n\n[snp]", "chip_ids"),
        ("[snp]\n".to_owned(), "[snp]\nhost_data = []\n", "host_data"),
        ("[snp]\n".to_owned(), "[snp]\nalow_debug = true\n", "alow_debug"),
        ("version = 1\n".to_owned(), "version = 1\nmeasurments = []\n", "measurments"),
        ("version = 1\n".to_owned(), "version = 2\n", "version"),
        ("version = 1\n".to_owned(), "", "version"),
        (measurement.to_owned(), &measurement[2..], "measurements"),
        ("names = [\"llm.example\"]".to_owned(), "names = []", "names"),
    ] {
        let changed = good.replacen(&old, new, 1);
        assert_ne!(changed, good, "{old}");
        refuses_to_start(client_with(dir.path(), &changed), told);
    }
    // A chip that is all one digit is the placeholder of an example; and what is good starts.
    let machine = good.replace("identity = \"any\"\n", "") + &format!("[identity]\nchip_ids = [\"{chip}\"]\n");
    for policy in [&good, &machine] {
        let mut started = client_with(dir.path(), policy).spawn().unwrap();
        started.wait_for_output("listening", PATIENCE).unwrap();
    }
}

#[test]
fn proto_p1_a_client_whose_configuration_leaves_something_open_does_not_start() {
    let (dir, good) = good_policy();
    written(dir.path(), "policy.toml", &good);
    written(dir.path(), "empty-token", "\n");
    let guest = "[[guest]]\naddresses = [\"127.0.0.1:1\"]\npolicy = \"policy.toml\"\nlisten = \"127.0.0.1:0\"\n";
    for (text, told) in [
        (String::new(), "no guest"),
        (guest.replace("[\"127.0.0.1:1\"]", "[]"), "addresses"),
        (guest.replace("policy = \"policy.toml\"\n", ""), "policy"),
        (guest.replace("policy.toml", "nowhere.toml"), "nowhere.toml"),
        (format!("{guest}names = []\n"), "names"),
        (format!("{guest}token_file = \"empty-token\"\n"), "token"),
        (format!("{guest}insecure = true\n"), "insecure"),
        (format!("{guest}client_key = \"key.pem\"\n"), "client_certificate"),
        (format!("{guest}client_certificate = \"no.pem\"\nclient_key = \"no.pem\"\n"), "guest.client_certificate: "),
        (format!("{guest}client_certificate = \"root.pem\"\nclient_key = \"no.pem\"\n"), "guest.client_key: "),
        (format!("{guest}client_certificate = \"root.pem\"\nclient_key = \"root.pem\"\n"), "guest.client_key: "),
        (format!("{guest}[limits]\nattest = \"0s\"\n"), "attest"),
        (format!("{guest}[limits]\nattest = 20\n"), "attest"),
    ] {
        let config = written(dir.path(), "evident-client.toml", &text);
        refuses_to_start(Program::new(evident_client().unwrap()).arg("--config").arg(config), told);
    }
}

#[test]
fn proto_p1_a_guest_whose_configuration_leaves_something_open_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), "no-tokens", "# nobody\n");
    written(dir.path(), "a-token", "correct horse battery staple\n");
    written(dir.path(), "no-ca", "");
    for (text, told) in [
        ("[clients]\ntokens_file = \"no-tokens\"\n", "no token"),
        ("[clients]\ntokens_file = \"a-token\"\n", "64 hex digits"),
        ("[clients]\ntokens_file = \"nowhere\"\n", "nowhere"),
        ("[clients]\nca_file = \"no-ca\"\n", "no-ca"),
        ("[clients]\npolicy = \"clients.toml\"\n", "not supported"),
        ("upstream = \"192.0.2.1:80\"\n", "plaintext leaves the guest"),
        ("upstream_outside_guest = \"yes\"\nupstream = \"192.0.2.1:80\"\n", "plaintext leaves the guest"),
        ("plain_client = \"refuse\"\n", "plain_client"),
        ("plain_clients = \"maybe\"\n", "plain_clients"),
        ("names = [\"\"]\n", "names"),
        ("vmpl = 4\n", "vmpl"),
        ("[limits]\nconnections = 0\n", "limits.connections"),
        ("[limits]\nhandshake = \"0s\"\n", "is zero"),
        ("[limits]\nhandshake = \"off\"\n", "always applies"),
        ("[limits]\npending_leaves = 65537\n", "65536"),
    ] {
        let upstream = if text.contains("upstream =") { "" } else { "upstream = \"127.0.0.1:1\"\n" };
        let config = written(dir.path(), "evident-proxy.toml", &format!("{upstream}{text}"));
        let program = Program::new(evident_proxy().unwrap()).arg("--config").arg(config);
        let simulator = dir.path().join("simulator");
        let program = program.arg(format!("--simulate={}", simulator.display())).args(["--listen", "127.0.0.1:0"]);
        refuses_to_start(program, told);
        assert!(!simulator.exists(), "the device was not even opened");
    }
    refuses_to_start(Program::new(evident_proxy().unwrap()), "upstream");
}

/// A library for `LD_PRELOAD` under which the wall clock shows this time. `None` where there is no C compiler.
fn clock_at(dir: &Path, secs: i64) -> Option<PathBuf> {
    let source = format!(
        "#define _GNU_SOURCE\n#include <time.h>\n#include <unistd.h>\n#include <sys/syscall.h>\n\
         int clock_gettime(clockid_t id, struct timespec *t) {{\n\
         if (id == CLOCK_REALTIME) {{ t->tv_sec = {secs}; t->tv_nsec = 0; return 0; }}\n\
         return (int)syscall(SYS_clock_gettime, id, t);\n}}\n"
    );
    let (source, library) = (written(dir, "clock.c", &source), dir.join(format!("clock{secs}.so")));
    let status = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).status().ok()?;
    status.success().then_some(library)
}

#[test]
fn proto_p2_with_a_clock_before_the_release_neither_program_starts() {
    let (dir, policy) = good_policy();
    let wrong = clock_at(dir.path(), RELEASE_DATE.as_secs() - 1);
    let right = clock_at(dir.path(), RELEASE_DATE.as_secs());
    let (Some(wrong), Some(right)) = (wrong, right) else {
        println!("skipped: proto_p2_with_a_clock_before_the_release_neither_program_starts: no C compiler");
        return;
    };
    let guest = || {
        Program::new(evident_proxy().unwrap())
            .args(["--upstream", "127.0.0.1:1", "--listen", "127.0.0.1:0"])
            .arg(format!("--simulate={}", dir.path().join("simulator").display()))
    };
    std::fs::create_dir(dir.path().join("simulator")).unwrap();
    written(&dir.path().join("simulator"), "simulator.toml", "small_keys = true\n");
    let client = || client_with(dir.path(), &policy);
    let inspect = || Program::new(evident_client().unwrap()).args(["inspect", "127.0.0.1:1"]);
    for program in [guest(), client(), inspect()] {
        refuses_to_start(program.env("LD_PRELOAD", &wrong), "which is before this program was released");
    }
    for (program, started) in [(guest(), "serving"), (client(), "listening")] {
        program.env("LD_PRELOAD", &right).spawn().unwrap().wait_for_output(started, PATIENCE).unwrap();
    }
    let unreachable = inspect().env("LD_PRELOAD", &right).run(PATIENCE).unwrap();
    assert_eq!(unreachable.code().unwrap(), 4, "{unreachable:?}");
}

#[test]
fn proto_p2_an_expired_certificate_names_the_clock_and_a_given_time_is_not_the_clock_s() {
    let upstream = Upstream::echo().unwrap();
    let guest = Guest::in_front_of(upstream.address()).start().unwrap();
    let policy = guest.simulator().join("policy.toml");
    guest.policy().write(&policy).unwrap();
    let bundle = guest.simulator().join("bundle");
    let inspect = evident_tests::client::inspect(guest.address(), Some(&policy)).unwrap();
    inspect.arg("--save").arg(&bundle).run(PATIENCE).unwrap().success().unwrap();
    let verify = |at: &str| {
        let program = Program::new(evident_client().unwrap()).args(["verify", "--at", at, "--policy"]);
        program.arg(&policy).arg(&bundle).run(PATIENCE).unwrap()
    };
    assert_eq!(verify("2026-11-24T00:00:00Z").code().unwrap(), 0);
    // Long before the release, and long after every certificate.
    for at in ["2001-09-09T01:46:40Z", "2199-01-01T00:00:00Z"] {
        let refused = verify(at);
        assert_eq!(refused.code().unwrap(), 1, "{refused:?}");
        assert!(refused.stdout.contains("E_VALIDITY") && refused.stdout.contains("clock"), "{refused:?}");
    }
}
