//! What an operator is told: usage and configuration errors, exit codes, and what is there in the place of a guest.
//! Everything that is wrong is said before anything is contacted, with the place where it stands.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, ensure};
use evident_tests::binaries::{evident_client, evident_proxy};
use evident_tests::client::inspect;
use evident_tests::curl::Way;
use evident_tests::ports::free_addr;
use evident_tests::process::Finished;
use evident_tests::wait::PATIENCE;
use evident_tests::{Client, Guest, Program, Upstream};
use serde_json::Value;

const NAME: &str = "web.example";

fn proxy(args: &[&str]) -> Result<Finished> {
    Program::new(evident_proxy()?).args(args).run(PATIENCE)
}

fn client(args: &[&str]) -> Result<Finished> {
    Program::new(evident_client()?).args(args).run(PATIENCE)
}

/// It ended with this code, printed nothing as a result, and its error says each of these.
fn says(done: &Finished, code: i32, words: &[&str]) -> Result<()> {
    ensure!(done.code()? == code, "exit code {}, wanted {code}: {}", done.code()?, done.stderr);
    for word in words {
        ensure!(done.stderr.contains(word), "no {word:?} in: {}", done.stderr);
    }
    ensure!(!done.stderr.contains("panicked"), "{}", done.stderr);
    Ok(())
}

// Usage.

#[test]
fn system_the_guest_says_what_is_wrong_with_its_flags_and_its_file() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("evident-proxy.toml");
    let path = file.to_string_lossy().into_owned();
    let folder = dir.path().to_string_lossy().into_owned();
    let flags: [(&[&str], &[&str]); 11] = [
        (&[], &["no upstream", "--upstream"]),
        (&["--bogus"], &["--bogus"]),
        (&["--upstream"], &["--upstream"]),
        (&["--upstream", "http://localhost:1"], &["URL"]),
        (&["--upstream", "localhost:99999"], &["--upstream"]),
        (&["--upstream", "203.0.113.1:80"], &["outside this guest", "upstream_outside_guest"]),
        (&["--upstream", "1", "--plain-clients", "maybe"], &["allow", "refuse"]),
        (&["--upstream", "1", "--client-policy", "p.toml"], &["--client-policy", "not supported"]),
        (&["--upstream", "1", "--admin", "0.0.0.0:1"], &["--admin", "admin_outside_host"]),
        (
            &["--upstream", "1", "--config", "/nonexistent/c.toml"],
            &["--config: cannot read /nonexistent/c.toml", "No such file"],
        ),
        (&["--upstream", "1", "--config", &folder], &[&folder]),
    ];
    for (args, words) in flags {
        says(&proxy(args)?, 2, words).with_context(|| format!("evident-proxy {args:?}"))?;
    }
    let files = [
        ("upstream = \"1\"\nlimits.conections = 7\n", &["line 2", "limits", "conections"][..]),
        ("upstream = \"1\"\n[limits]\nidle = 7\n", &["line 3", "limits.idle"]),
        ("upstream = \"1\"\n[limits]\nlifetime = \"1s\"\n", &["pool_idle", "lifetime"]),
        ("upstream = \"1\"\nplain_client = \"allow\"\n", &["line 2", "plain_client"]),
        ("upstream = \"1\"\n[clients]\ntokens_file = \"none\"\n", &["tokens_file", "none"]),
        ("upstream = \"1\"\nnames = [\"a b\"]\n", &["line 2", "names", "a b"]),
        ("upstream = \"1\nnames = []\n", &["line 1"]),
    ];
    for (text, words) in files {
        std::fs::write(&file, text)?;
        for args in [&["--config", &path][..], &["check-config", "--config", &path]] {
            let done = proxy(args)?;
            says(&done, 2, &[words, &[path.as_str()]].concat()).with_context(|| text.to_owned())?;
        }
    }
    std::fs::write(&file, "upstream = \"8080\"\n")?;
    let checked = proxy(&["check-config", "--config", &path])?.success()?;
    ensure!(checked.contains("config = \"") && checked.contains("upstream = "), "{checked}");
    Ok(())
}

#[test]
fn system_the_client_says_what_is_wrong_with_its_flags_its_file_and_its_policy() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let (policy, config) = (at("policy.toml"), at("evident-client.toml"));
    // Never asked anything: every error comes before.
    let untouched = Upstream::echo()?;
    let guest = untouched.address().to_string();
    let genuine = Guest::in_front_of("127.0.0.1:9").start()?;
    genuine.policy().write(Path::new(&policy))?;
    let base = ["--guest", &guest, "--policy", &policy];
    let with = |more: &[&str]| client(&[&base[..], more].concat());

    says(&client(&[])?, 2, &["--guest"])?;
    says(&client(&["--guest", &guest])?, 2, &["--policy"])?;
    says(&client(&["--guest", "unix:/x", "--policy", &policy])?, 2, &["--guest"])?;
    says(&client(&["--guest", "127.0.0.1:0", "--policy", &policy])?, 2, &["port 0"])?;
    says(&with(&[])?, 2, &["no way in"])?;
    says(&with(&["--socks5", "1"])?, 2, &["names"])?;
    says(&with(&["--listen", "1", "--admin", "1"])?, 2, &["listened on twice"])?;
    says(&with(&["--listen", "1", "--admin", "0.0.0.0:2"])?, 2, &["admin_outside_host"])?;
    says(
        &with(&["--listen", "1", "--token-file", "/nonexistent"])?,
        2,
        &["--token-file: cannot read /nonexistent", "permissions"],
    )?;
    says(
        &with(&["--listen", "1", "--config", "/nonexistent"])?,
        2,
        &["--config: cannot read /nonexistent: No such file"],
    )?;
    for args in
        [&["--guest", &guest, "--listen", "1", "--policy", "/none"][..], &["inspect", &guest, "--policy", "/none"]]
    {
        let done = client(args)?;
        says(&done, 2, &["cannot read /none: No such file", "Check the name and the permissions of the policy file"])?;
    }
    says(&with(&["--listen", "1", "--config", &at("")])?, 2, &["evident-client"])?;
    says(&with(&["--listen", "nonsense"])?, 2, &["--listen"])?;

    for (text, words) in [
        ("[limits]\nidel = \"1s\"\n", &["evident-client.toml:2: limits.idel: unknown field"][..]),
        ("\nhttp-proxy = \"1\"\n", &["evident-client.toml:2: http-proxy: unknown field"]),
        ("[limits]\nconnections = 0\n", &["evident-client.toml:2: limits.connections"]),
        ("[[guest]]\naddresses = []\npolicy = \"policy.toml\"\n", &["evident-client.toml:2: guest.addresses"]),
        ("[[guest]]\naddresses = [\"127.0.0.1:1\"]\n", &["evident-client.toml:1", "policy"]),
        ("[[guest]]\naddresses = [\"127.0.0.1:1\"]\npolicy = \"none.toml\"\n", &["none.toml"]),
    ] {
        std::fs::write(&config, text)?;
        let guestless = text.contains("guest");
        let done = if guestless {
            client(&["--config", &config, "--listen", "1"])?
        } else {
            with(&["--config", &config, "--listen", "1"])?
        };
        says(&done, 2, words).with_context(|| text.to_owned())?;
    }

    let good = genuine.policy().text();
    for (from, to, place) in [
        ("measurements", "measurments", "snp.measurments: unknown key"),
        ("identity = \"any\"", "identity = \"yes\"", "policy.toml:3: identity"),
        ("identity = \"any\"\n", "", "identity: missing"),
        ("[\"vcek\"]", "[]", "snp.signing_keys: an empty list"),
        ("version = 1", "version = 3", "policy.toml:1: version"),
        ("bl = 4", "bl = 400", "snp.minimum_tcb.milan.bl"),
        ("root.pem", "nowhere.pem", "roots.simulator"),
        ("[roots]", "[roots", "policy.toml:"),
    ] {
        ensure!(good.contains(from), "{from} is not in the policy");
        std::fs::write(&policy, good.replacen(from, to, 1))?;
        for done in [with(&["--listen", "1"])?, client(&["inspect", &guest, "--policy", &policy])?] {
            says(&done, 2, &["policy.toml", place]).with_context(|| to.to_owned())?;
        }
        says(&client(&["policy", "check", &policy])?, 2, &[place]).with_context(|| to.to_owned())?;
    }
    ensure!(untouched.accepted() == 0, "something was contacted");
    Ok(())
}

#[test]
fn system_a_port_that_is_taken_is_said_and_nothing_is_served_beside_it() -> Result<()> {
    let upstream = Upstream::echo()?;
    let guest = Guest::in_front_of(upstream.address()).start()?;
    let dir = tempfile::tempdir()?;
    let policy = dir.path().join("policy.toml");
    guest.policy().names(&[NAME]).write(&policy)?;
    let policy = policy.to_string_lossy();
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let taken = taken.local_addr()?.to_string();
    let address = guest.address().to_string();
    for way in ["--listen", "--http-proxy", "--socks5", "--admin"] {
        let mut args = vec!["--guest", &address, "--policy", &policy, way, &taken];
        if way == "--admin" {
            args.extend(["--listen", "0"]);
        }
        says(&client(&args)?, 4, &[&taken, "another program uses it"]).context(way)?;
    }
    let simulate = format!("--simulate={}", dir.path().display());
    let up = upstream.address().to_string();
    for way in ["--listen", "--admin"] {
        let mut args = vec!["--upstream", &up, &simulate, way, &taken];
        if way == "--admin" {
            args.extend(["--listen", "127.0.0.1:0"]);
        }
        says(&proxy(&args)?, 4, &[&taken, "another program uses it"]).context(way)?;
    }
    Ok(())
}

// What is there, and what it proves.

#[test]
fn system_inspect_and_verify_end_with_the_code_that_fits() -> Result<()> {
    let upstream = Upstream::echo()?;
    let guest = Guest::in_front_of(upstream.address()).start()?;
    let dir = tempfile::tempdir()?;
    let at = |name: &str| dir.path().join(name);
    let policies = [
        ("accepts", guest.policy(), 0, "accepted"),
        ("other-launch", guest.policy().measurement(&"ab".repeat(48)), 3, "refused"),
    ];
    let bundle = at("bundle").to_string_lossy().into_owned();
    for (name, policy, code, verdict) in policies {
        policy.write(&at(name))?;
        let shown = inspect(guest.address(), Some(&at(name)))?.args(["--json", "--save", &bundle]).run(PATIENCE)?;
        ensure!(shown.code()? == code, "{name}: {} {}", shown.code()?, shown.stderr);
        let json: Value = serde_json::from_str(&shown.stdout).with_context(|| shown.stdout.clone())?;
        ensure!(json["verdict"] == verdict && json["simulated"] == true, "{}", shown.stdout);
        let text = inspect(guest.address(), Some(&at(name)))?.run(PATIENCE)?;
        ensure!(text.code()? == code && text.stdout.contains("SIMULATED, PROVES NOTHING"), "{}", text.stdout);
        let verified = client(&["verify", "--json", "--policy", &at(name).to_string_lossy(), &bundle])?;
        ensure!(verified.code()? == code, "verify, {name}: {}", verified.stdout);
    }
    // Without the simulator's root its chain ends nowhere.
    says(&inspect(guest.address(), None)?.run(PATIENCE)?, 1, &[])?;
    says(&client(&["verify", &bundle])?, 1, &[])?;

    let accepts = at("accepts").to_string_lossy().into_owned();
    let mut bytes = std::fs::read(&bundle)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(at("damaged"), &bytes)?;
    says(&client(&["verify", "--policy", &accepts, &at("damaged").to_string_lossy()])?, 1, &[])?;
    says(&client(&["verify", "--policy", &accepts, "--at", "2001-01-01T00:00:00Z", &bundle])?, 1, &[])?;
    says(&client(&["verify", "--policy", &accepts, "/nonexistent"])?, 4, &["/nonexistent"])?;
    says(&client(&["verify", "--policy", "/nonexistent", &bundle])?, 2, &["/nonexistent"])?;
    says(&client(&["verify", "--at", "yesterday", &bundle])?, 2, &["--at"])?;
    says(&client(&["verify"])?, 2, &[])?;
    ensure!(upstream.accepted() == 0, "inspecting reached the upstream");
    Ok(())
}

/// Something that listens and is no guest, with everything that was sent to it.
struct Stranger {
    server: Upstream,
    received: Arc<Mutex<Vec<u8>>>,
}

impl Stranger {
    fn new(answer: impl Fn(&mut TcpStream, &[u8]) -> std::io::Result<()> + Send + Sync + 'static) -> Result<Stranger> {
        let received = Arc::new(Mutex::new(Vec::new()));
        let kept = received.clone();
        let server = Upstream::start("127.0.0.1:0", move |mut stream| {
            let mut buffer = [0; 4096];
            loop {
                let n = stream.read(&mut buffer)?;
                if n == 0 {
                    return Ok(());
                }
                kept.lock().expect("no holder panics").extend_from_slice(&buffer[..n]);
                answer(&mut stream, &buffer[..n])?;
            }
        })?;
        Ok(Stranger { server, received })
    }
}

#[test]
fn system_what_is_no_guest_gets_nothing_but_a_client_hello() -> Result<()> {
    const SECRET: &str = "the application's own words";
    let echo = Stranger::new(|stream, bytes| stream.write_all(bytes))?;
    let http = Stranger::new(|stream, _| stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"))?;
    let leaves = Stranger::new(|stream, _| stream.shutdown(std::net::Shutdown::Both))?;
    let genuine = Guest::in_front_of("127.0.0.1:9").start()?;
    let policy = genuine.policy().names(&[NAME]);
    for (what, stranger) in [("echo", &echo), ("HTTP", &http), ("one that leaves", &leaves)] {
        let address = stranger.server.address();
        let seen = inspect(address, None)?.run(PATIENCE)?;
        says(&seen, 4, &[&address.to_string()]).context(what)?;
        let client = Client::with_policy(address, policy.clone()).start()?;
        for way in Way::all(&client, NAME) {
            let refused = way.curl("/").args(["--fail", "--data", SECRET]).run(PATIENCE)?;
            ensure!(refused.code()? != 0, "{what} by {}: {}", way.name, refused.stdout);
        }
        let told = Way::all(&client, NAME)[3].curl("/").args(["--header", "Accept: application/json"]).run(PATIENCE)?;
        let told: Value = serde_json::from_str(&told.stdout).with_context(|| told.stdout.clone())?;
        ensure!(told["kind"] == "unreachable" && told["error"].is_string(), "{told}");
        let received = stranger.received.lock().expect("no holder panics");
        ensure!(received.starts_with(&[0x16, 0x03]), "{what} saw something else than a ClientHello first");
        ensure!(!contains(&received, SECRET.as_bytes()), "{what} received what the application sent");
    }
    Ok(())
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn system_https_servers_closed_ports_and_silence_are_not_guests() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (key, certificate) = (dir.path().join("key.pem"), dir.path().join("certificate.pem"));
    self_signed(&key, &certificate, "web.example")?;
    for (flags, why) in [
        (&["-tls1_3"][..], "it selected no protocol"),
        (&["-tls1_3", "-alpn", "http/1.1"], "no_application_protocol"),
        (&["-tls1_2"], "TLS handshake failed"),
    ] {
        let address = free_addr()?;
        let server =
            Program::new("openssl").args(["s_server", "-www", "-quiet", "-accept", &address.to_string(), "-key"]);
        let mut server = server.arg(&key).arg("-cert").arg(&certificate).args(flags).spawn()?;
        server.wait_for_port(address, PATIENCE)?;
        says(&inspect(address, None)?.run(PATIENCE)?, 4, &[why]).with_context(|| format!("{flags:?}"))?;
    }
    says(&inspect(free_addr()?, None)?.run(PATIENCE)?, 4, &["nothing listens"])?;
    let silent = Stranger::new(|_, _| Ok(()))?;
    says(&inspect(silent.server.address(), None)?.run(PATIENCE)?, 4, &["too long"])?;
    says(&client(&["inspect", "nowhere.invalid:1"])?, 4, &["nowhere.invalid"])
}

fn self_signed(key: &Path, certificate: &Path, name: &str) -> Result<()> {
    let openssl =
        Program::new("openssl").args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    let openssl = openssl.args(["-nodes", "-days", "2", "-subj", &format!("/CN={name}"), "-keyout"]).arg(key);
    openssl.arg("-out").arg(certificate).run(PATIENCE)?.success().map(drop)
}
