//! Who reaches the pair and how, and what it shows of itself: unix sockets and IPv6 everywhere, access tokens and client
//! certificates, verdict headers, the admin pages, logs.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use evident_tests::binaries::evident_client;
use evident_tests::client::inspect;
use evident_tests::curl::{Way, curl};
use evident_tests::http::fetch;
use evident_tests::observe::{metric, until_metric, until_ready};
use evident_tests::policy::PolicyText;
use evident_tests::ports::free_addr;
use evident_tests::wait::PATIENCE;
use evident_tests::{Client, Guest, Program, Running, Upstream};
use serde_json::Value;

const NAME: &str = "web.example";

// Addresses of every kind.

/// One exchange with `GET /` in absolute or origin form, on whatever stream.
fn get(stream: &mut (impl Read + Write), target: &str, host: &str) -> Result<String> {
    write!(stream, "GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn socks(stream: &mut (impl Read + Write)) -> Result<()> {
    let length = u8::try_from(NAME.len())?;
    stream.write_all(&[&[5, 1, 0, 5, 1, 0, 3, length], NAME.as_bytes(), &[0, 80]].concat())?;
    let mut reply = [0; 12];
    stream.read_exact(&mut reply)?;
    ensure!(reply[..4] == [5, 0, 5, 0], "{reply:?}");
    Ok(())
}

#[test]
fn system_unix_sockets_serve_everywhere() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let at = |name: &str| dir.path().join(name);
    let unix = |name: &str| format!("unix:{}", at(name).display());
    let upstream = UnixListener::bind(at("upstream"))?;
    std::thread::spawn(move || {
        for mut stream in upstream.incoming().flatten() {
            std::thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                    head.extend_from_slice(&byte);
                }
                let answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
                let _ = stream.write_all(answer.as_bytes());
            });
        }
    });
    let guest = Guest::in_front_of(unix("upstream")).start()?;
    let policy = at("policy.toml");
    guest.policy().names(&[NAME]).write(&policy)?;
    let mut client = Program::new(evident_client()?)
        .args(["--guest", &guest.address().to_string(), "--policy"])
        .arg(&policy)
        .args(["--listen", &unix("mapped"), "--http-proxy", &unix("http")])
        .args(["--socks5", &unix("socks"), "--admin", &unix("admin")])
        .spawn()?;
    client.watch("the sockets", PATIENCE, |_| at("admin").exists().then_some(()))?;

    let connect = |name: &str| UnixStream::connect(at(name)).with_context(|| name.to_owned());
    let mapped = get(&mut connect("mapped")?, "/", NAME)?;
    let absolute = get(&mut connect("http")?, &format!("http://{NAME}/"), NAME)?;
    let through_socks = {
        let mut stream = connect("socks")?;
        socks(&mut stream)?;
        get(&mut stream, "/", NAME)?
    };
    for answer in [mapped, absolute, through_socks] {
        ensure!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("hello"), "{answer}");
    }
    // Whoever opens the socket is no browser, so any host is fine there.
    let live = get(&mut connect("admin")?, "/livez", "whatever")?;
    ensure!(live.starts_with("HTTP/1.1 200 "), "{live}");
    let status = client.terminate(PATIENCE)?;
    ensure!(status.success(), "{status}");
    for name in ["mapped", "http", "socks", "admin"] {
        ensure!(!at(name).exists(), "{name} was left behind");
    }
    Ok(())
}

#[test]
fn system_ipv6_serves_everywhere() -> Result<()> {
    let v6 = || free_addr().map(|address| SocketAddr::new(std::net::Ipv6Addr::LOCALHOST.into(), address.port()));
    let upstream = Upstream::start("[::1]:0", |mut stream| {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte)?;
            head.extend_from_slice(&byte);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
    })?;
    let guest = Guest::in_front_of(upstream.address()).listen(v6()?).start()?;
    let dir = tempfile::tempdir()?;
    let policy = dir.path().join("policy.toml");
    guest.policy().names(&[NAME, "[2001:db8::7]"]).write(&policy)?;
    let (listen, http, socks5, admin) = (v6()?, v6()?, v6()?, v6()?);
    let mut client = Program::new(evident_client()?)
        .args(["--guest", &guest.address().to_string(), "--policy"])
        .arg(&policy)
        .args(["--listen", &listen.to_string(), "--http-proxy", &http.to_string()])
        .args(["--socks5", &socks5.to_string(), "--admin", &admin.to_string()])
        .spawn()?;
    client.wait_for_port(admin, PATIENCE)?;
    until_ready(admin)?;
    let (http, socks5) = (format!("http://{http}"), format!("socks5h://{socks5}"));
    // The second URL is an address as name: SOCKS sends it as an IPv6 address, HTTP in brackets.
    for url in [format!("http://{NAME}/"), "http://[2001:db8::7]/".to_owned()] {
        for args in [&["--proxy", &http][..], &["--proxytunnel", "--proxy", &http], &["--proxy", &socks5]] {
            let answer = curl().args(args).arg(&url).run(PATIENCE)?.success()?;
            ensure!(answer == "hello", "{args:?} {url}: {answer}");
        }
    }
    let answer = curl().arg(format!("http://{listen}/")).run(PATIENCE)?.success()?;
    ensure!(answer == "hello", "{answer}");
    inspect(guest.address(), Some(&policy))?.run(PATIENCE)?.success().map(drop)
}

// Who may connect.

#[test]
fn system_an_access_token_opens_the_guest_and_nothing_else_does() -> Result<()> {
    let upstream = Upstream::http()?;
    let dir = tempfile::tempdir()?;
    let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    std::fs::write(at("right"), "correct horse battery staple\n")?;
    std::fs::write(at("wrong"), "guess guess guess guess guess\n")?;
    let hash = Program::new("sh").args(["-c", "printf %s 'correct horse battery staple' | sha256sum"]).run(PATIENCE)?;
    let hash = hash.success()?;
    std::fs::write(at("tokens"), format!("{} the laptop\n", hash.split(' ').next().unwrap_or_default()))?;
    let guest =
        Guest::in_front_of(upstream.address()).config(&format!("[clients]\ntokens_file = {:?}\n", at("tokens")));
    let guest = guest.start()?;

    let holder = Client::of(&guest, &[NAME]).args(&["--token-file", &at("right")]).start()?;
    for way in Way::all(&holder, NAME) {
        ensure!(way.curl("/bytes/2").run(PATIENCE)?.success()? == "xx", "by {}", way.name);
    }
    let served = upstream.accepted();
    let without = Client::of(&guest, &[NAME]).start()?;
    let guesser = Client::of(&guest, &[NAME]).args(&["--token-file", &at("wrong")]).start()?;
    for stranger in [&without, &guesser] {
        for way in Way::all(stranger, NAME) {
            let refused = way.curl("/").arg("--fail").run(PATIENCE)?;
            ensure!(refused.code()? != 0, "by {}: {}", way.name, refused.stdout);
        }
        let told = Way::all(stranger, NAME)[3].curl("/").run(PATIENCE)?.stdout;
        ensure!(told.contains("access token missing or wrong"), "{told}");
    }
    ensure!(guest.program.stderr().contains("the access token is not known here"), "a guess is not in the log");
    ensure!(upstream.accepted() == served, "one of them reached the upstream");
    let right = Way::all(&holder, NAME)[3].curl("/bytes/2").run(PATIENCE)?.success()?;
    ensure!(right == "xx", "after the guesses, the right token was refused: {right}");
    let served = upstream.accepted();
    let plain = curl().args(["--insecure", &format!("https://{}/", guest.address())]).run(PATIENCE)?;
    ensure!(plain.code()? == 35, "an ordinary client was served: {}", plain.stdout);
    ensure!(upstream.accepted() == served, "the ordinary client reached the upstream");
    for log in [guest.program.stderr(), holder.program.stderr(), guesser.program.stderr()] {
        ensure!(!log.contains("horse") && !log.contains("guess guess"), "a token stands in a log");
    }
    Ok(())
}

#[test]
fn system_a_client_certificate_opens_the_guest_and_nothing_else_does() -> Result<()> {
    let upstream = Upstream::http()?;
    let dir = tempfile::tempdir()?;
    let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    issued_by_a_ca(dir.path())?;
    let config = format!("[clients]\nca_file = {:?}\n", at("ca.pem"));
    let guest = Guest::in_front_of(upstream.address()).config(&config).start()?;
    guest.policy().names(&[NAME]).write(&dir.path().join("policy.toml"))?;

    for (certificate, key, served) in [("client.pem", "client.key", true), ("other.pem", "other.key", false)] {
        let listen = free_addr()?;
        let toml = format!(
            "[[guest]]\naddresses = [\"{}\"]\npolicy = \"policy.toml\"\nlisten = \"{listen}\"\n\
             client_certificate = \"{certificate}\"\nclient_key = \"{key}\"\n",
            guest.address()
        );
        std::fs::write(at("client.toml"), toml)?;
        let mut client = Program::new(evident_client()?).args(["--config", &at("client.toml")]).spawn()?;
        client.wait_for_port(listen, PATIENCE)?;
        let answer = curl().arg(format!("http://{listen}/bytes/2")).run(PATIENCE)?;
        ensure!((answer.stdout == "xx") == served, "{certificate}: {} {}", answer.stdout, answer.stderr);
        let url = format!("https://{}/bytes/2", guest.address());
        let plain = curl().args(["--insecure", "--cert", &at(certificate), "--key", &at(key), &url]).run(PATIENCE)?;
        ensure!((plain.stdout == "xx") == served, "plain, {certificate}: {} {}", plain.stdout, plain.stderr);
    }
    let reached = upstream.accepted();
    let without = Client::of(&guest, &[]).start()?;
    ensure!(curl().arg(format!("http://{}/", without.listen())).run(PATIENCE)?.code()? != 0, "served without one");
    let plain = curl().args(["--insecure", &format!("https://{}/", guest.address())]).run(PATIENCE)?;
    ensure!(plain.code()? != 0, "an ordinary client was served without one");
    ensure!(upstream.accepted() == reached, "one of them reached the upstream");
    Ok(())
}

fn self_signed(key: &Path, certificate: &Path, name: &str) -> Result<()> {
    let openssl =
        Program::new("openssl").args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    let openssl = openssl.args(["-nodes", "-days", "2", "-subj", &format!("/CN={name}"), "-keyout"]).arg(key);
    openssl.arg("-out").arg(certificate).run(PATIENCE)?.success().map(drop)
}

/// `ca.pem`, `client.pem` of it with `client.key`, and `other.pem`, which is its own issuer.
fn issued_by_a_ca(dir: &Path) -> Result<()> {
    self_signed(&dir.join("ca.key"), &dir.join("ca.pem"), "CA of the test")?;
    self_signed(&dir.join("other.key"), &dir.join("other.pem"), "somebody")?;
    let script = "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj '/CN=the application' \
                  -keyout client.key -out client.csr && printf 'basicConstraints=CA:FALSE\\n' > extensions && openssl x509 \
                  -req -in client.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out client.pem";
    Program::new("sh").args(["-c", script]).dir(dir).run(PATIENCE)?.success().map(drop)
}

// What is shown.

#[test]
fn system_verdict_headers_are_ours_and_only_where_asked_for() -> Result<()> {
    let upstream = Upstream::start("127.0.0.1:0", |mut stream| {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte)?;
            head.extend_from_slice(&byte);
        }
        let answer = "HTTP/1.1 200 OK\r\nEvident-Verdict: forged\r\nX-Evident-Level: 9\r\nX-Mine: kept\r\nContent-Length: 0\r\n\r\n";
        stream.write_all(answer.as_bytes())
    })?;
    let guest = Guest::in_front_of(upstream.address()).start()?;
    for (config, wanted) in [("add_verdict_headers = true\n", true), ("", false)] {
        let client = Client::of(&guest, &[NAME]).config(config).start()?;
        let [mapped, .., absolute] = Way::all(&client, NAME);
        let head = absolute.curl("/").arg("--include").run(PATIENCE)?.success()?.to_ascii_lowercase();
        ensure!(!head.contains("forged") && !head.contains("x-evident") && head.contains("x-mine: kept"), "{head}");
        ensure!(head.contains("evident-verdict: accepted; simulated\r\n") == wanted, "{head}");
        ensure!(head.contains("evident-level: amd_sp=ok") == wanted, "{head}");
        let head = mapped.curl("/").arg("--include").run(PATIENCE)?.success()?;
        ensure!(head.contains("Evident-Verdict: forged\r\n"), "a tunnel's bytes were changed: {head}");
    }
    Ok(())
}

#[test]
fn system_the_admin_pages_say_what_is_and_nothing_else_may_ask() -> Result<()> {
    let upstream = Upstream::http()?;
    let guest = Guest::in_front_of(upstream.address()).start()?;
    let client = Client::of(&guest, &[NAME]).start()?;
    until_ready(client.admin())?;
    Way::all(&client, NAME)[0].curl("/bytes/1000").run(PATIENCE)?.success()?;
    for admin in [guest.admin(), client.admin()] {
        ensure!(fetch(admin, "/livez")?.body == "ok\n");
        ensure!(fetch(admin, "/readyz")?.body == "ready\n");
        ensure!(fetch(admin, "/nothing")?.status == 404);
        for host in ["evil.example", "evil.example:80", "localhost.evil.example"] {
            let answer = get(&mut TcpStream::connect(admin)?, "/verdict", host)?;
            ensure!(answer.starts_with("HTTP/1.1 421 ") && !answer.contains("measurement"), "{host}: {answer}");
        }
        let answer = get(&mut TcpStream::connect(admin)?, "/livez", "localhost")?.to_ascii_lowercase();
        ensure!(answer.contains("content-security-policy: default-src 'none'"), "{answer}");
        ensure!(!answer.contains("access-control"), "{answer}");
        let post = curl().args(["--request", "POST", "--write-out", "%{http_code}", &format!("http://{admin}/livez")]);
        ensure!(post.run(PATIENCE)?.stdout.ends_with("405"));
        ensure!(metric(admin, "evident_tunnels_total")? == 1.0);
        ensure!(metric(admin, "evident_relayed_bytes_total{direction=\"to_client\"}")? > 1000.0);
        ensure!(fetch(admin, "/metrics")?.body.ends_with("# EOF\n"));
    }
    // The connection of the first attestation carries the tunnels too.
    ensure!(metric(guest.admin(), "evident_connections_total{kind=\"attested\"}")? >= 1.0);
    ensure!(metric(guest.admin(), "evident_hardware_reports_total{outcome=\"ok\"}")? >= 2.0);
    ensure!(metric(guest.admin(), "evident_hardware_report_latency_seconds_count")? >= 2.0);
    ensure!(metric(client.admin(), "evident_connections_total{kind=\"local\"}")? == 1.0);
    ensure!(metric(client.admin(), "evident_verdicts_total{verdict=\"accepted\",reason=\"none\"}")? >= 1.0);

    let own: Value = serde_json::from_str(&fetch(guest.admin(), "/verdict")?.body)?;
    ensure!(own["simulated"] == true && own["verdict"] == "authentic" && own["channel"] == "key", "{own}");
    let of_guests: Value = serde_json::from_str(&fetch(client.admin(), "/verdict")?.body)?;
    let result = &of_guests["guests"][0]["result"];
    ensure!(result["verdict"] == "accepted" && result["channel"] == "exporter", "{of_guests}");
    ensure!(result["freshness"]["hw"] == "connect" && result["simulated"] == true, "{of_guests}");

    let refusing = Client::with_policy(guest.address(), guest.policy().measurement(&"ab".repeat(48))).start()?;
    let ready = fetch(refusing.admin(), "/readyz")?;
    ensure!(ready.status == 503 && ready.body.contains("no guest"), "{}", ready.body);
    until_metric(refusing.admin(), "evident_verdicts_total{verdict=\"refused\",reason=\"R_LD\"}", 1.0)
}

#[test]
fn system_logs_are_json_where_asked_for() -> Result<()> {
    let upstream = Upstream::http()?;
    let guest = Guest::in_front_of(upstream.address()).config("[log]\nformat = \"json\"\n").start()?;
    let client = Client::of(&guest, &[NAME]).args(&["--log-format", "json"]).start()?;
    until_ready(client.admin())?;
    let refused = Way::all(&client, "elsewhere.example")[3].curl("/").run(PATIENCE)?;
    ensure!(refused.stdout.contains("elsewhere.example"), "{}", refused.stdout);
    let events = |program: &Running| -> Result<Vec<Value>> {
        let log = program.stderr();
        log.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
    };
    let (at_guest, at_client) = (events(&guest.program)?, events(&client.program)?);
    for event in at_guest.iter().chain(&at_client) {
        ensure!(
            event["level"].is_string() && event["message"].is_string() && event["timestamp"].is_string(),
            "{event}"
        );
    }
    let find = |events: &[Value], message: &str| -> Result<Value> {
        match events.iter().find(|event| event["message"] == message) {
            Some(event) => Ok(event.clone()),
            None => bail!("no event {message:?} in {events:?}"),
        }
    };
    find(&at_guest, "SIMULATED, PROVES NOTHING")?;
    find(&at_guest, "SIMULATED, PROVES NOTHING: serving")?;
    ensure!(
        find(&at_client, "SIMULATED, PROVES NOTHING: attestation result")?["verdict"] == "accepted",
        "{at_client:?}"
    );
    let refusal = find(&at_client, "no tunnel")?;
    ensure!(refusal["kind"] == "unknown-name" && refusal["way"] == "http", "{refusal}");
    Ok(())
}

/// The policy that a simulated guest gets is for it alone.
#[test]
fn system_a_policy_without_the_simulators_root_refuses_a_simulated_guest() -> Result<()> {
    let upstream = Upstream::echo()?;
    let guest = Guest::in_front_of(upstream.address()).start()?;
    let other = Guest::in_front_of(upstream.address()).start()?;
    let of_the_other = PolicyText::for_simulator(other.simulator()).names(&[NAME]);
    let client = Client::with_policy(guest.address(), of_the_other).start()?;
    let refused = Way::all(&client, NAME)[3].curl("/").args(["--header", "Accept: application/json"]).run(PATIENCE)?;
    let told: Value = serde_json::from_str(&refused.stdout).with_context(|| refused.stdout.clone())?;
    ensure!(
        told["kind"] == "refused" && told["findings"][0]["id"].as_str().is_some_and(|id| id.starts_with("E_")),
        "{told}"
    );
    ensure!(upstream.accepted() == 0, "it reached the upstream");
    Ok(())
}
