//! examples/http-clients: curl by every way in, events as they happen, uploads, and git over the three kinds of proxy.
//!
//! The server behind the guest and the clients in front of the client proxy are what anybody has installed; neither is told
//! anything but an address.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use evident_tests::guest::Guest;
use evident_tests::ports::free_addr;
use evident_tests::wait::PATIENCE;
use evident_tests::{Client, Program, Running, python};

const NAME: &str = "web.example";

/// Guest, client proxy and the example's server behind them.
struct Web {
    _server: Running,
    _guest: Guest,
    client: Client,
}

impl Web {
    fn start(server_args: &[&str]) -> Result<Web> {
        let upstream = free_addr()?;
        let server = python::example("http-clients/server.py")?.arg(upstream.port().to_string()).args(server_args);
        let mut server = server.spawn()?;
        server.wait_for_port(upstream, PATIENCE)?;
        let guest = Guest::in_front_of(upstream).start()?;
        let client = Client::of(&guest, &[NAME]).start()?;
        Ok(Web { _server: server, _guest: guest, client })
    }
}

/// curl without the user's configuration and proxies; it fails on an HTTP error.
fn curl() -> Program {
    let curl = Program::new("curl").args(["--disable", "--silent", "--show-error", "--fail", "--max-time", "60"]);
    python::without_proxies(curl)
}

/// git without the user's configuration.
fn git(home: &Path) -> Program {
    let git = Program::new("git").env("HOME", home).env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_TERMINAL_PROMPT", "0");
    // These would override the `-c` options of a test.
    let git =
        ["GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "GIT_SSL_NO_VERIFY"].iter().fold(git, |git, name| git.without_env(name));
    python::without_proxies(git).dir(home)
}

#[test]
fn apps_curl_reaches_the_upstream_by_every_way_in() -> Result<()> {
    let web = Web::start(&[])?;
    let http_proxy = format!("http://{}", web.client.http_proxy());
    let socks5 = format!("socks5h://{}", web.client.socks5());
    let named = format!("http://{NAME}/page");
    let ways: [(&str, Program); 4] = [
        ("port map", curl().arg(format!("http://{}/page", web.client.listen()))),
        ("CONNECT", curl().args(["--proxytunnel", "--proxy", &http_proxy, &named])),
        ("absolute form", curl().args(["--proxy", &http_proxy, &named])),
        ("SOCKS5", curl().args(["--proxy", &socks5, &named])),
    ];
    for (way, curl) in ways {
        let page = curl.named(way).run(PATIENCE)?.success()?;
        ensure!(page.starts_with("GET /page HTTP/1.1\n"), "by {way} the server saw: {page}");
    }
    Ok(())
}

#[test]
fn apps_a_name_without_a_guest_is_refused_and_not_passed_on() -> Result<()> {
    let web = Web::start(&[])?;
    let http_proxy = format!("http://{}", web.client.http_proxy());
    let socks5 = format!("socks5h://{}", web.client.socks5());
    let other = "http://elsewhere.example/";
    for args in
        [["--proxy", http_proxy.as_str()].as_slice(), &["--proxytunnel", "--proxy", &http_proxy], &["--proxy", &socks5]]
    {
        let done = curl().args(args).arg(other).run(PATIENCE)?;
        ensure!(done.code()? != 0, "{args:?} answered {}", done.stdout);
    }
    Ok(())
}

#[test]
fn apps_events_arrive_as_they_happen() -> Result<()> {
    let web = Web::start(&[])?;
    let url = format!("http://{}/events?n=10", web.client.listen());
    let output = python::example("http-clients/events.py")?.arg(url).run(PATIENCE)?.success()?;
    let arrivals: Vec<u64> = output.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect();
    ensure!(arrivals.len() == 10, "ten events were sent: {output}");
    // The server takes 900 ms between the first and the last; held back, they would come together.
    let spread = arrivals.last().copied().unwrap_or(0) - arrivals.first().copied().unwrap_or(0);
    ensure!(spread >= 700, "all within {spread} ms: {output}");
    Ok(())
}

#[test]
fn apps_an_upload_arrives_whole_by_every_way_in() -> Result<()> {
    let web = Web::start(&[])?;
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("upload");
    let bytes: Vec<u8> = (0..5_000_000_u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(&file, &bytes)?;
    let wanted = Program::new("sha256sum").arg(&file).run(PATIENCE)?.success()?;
    let wanted = wanted.split(' ').next().unwrap_or_default();
    let (http_proxy, socks5) = (web.client.http_proxy().to_string(), web.client.socks5().to_string());
    let mapped = format!("http://{}/upload", web.client.listen());
    let named = format!("http://{NAME}/upload");
    let chunked = "Transfer-Encoding: chunked";
    for args in [
        ["--header", "Expect:", &mapped].as_slice(),
        &["--header", chunked, &mapped],
        &["--proxy", &http_proxy, &named],
        &["--proxy", &http_proxy, "--header", chunked, &named],
        &["--proxytunnel", "--proxy", &http_proxy, &named],
        &["--socks5-hostname", &socks5, &named],
    ] {
        let upload = curl().arg("--data-binary").arg(format!("@{}", file.display())).args(args);
        let seen = upload.run(Duration::from_secs(60))?.success()?;
        ensure!(seen == wanted, "{args:?}: {seen} is not {wanted}");
    }
    Ok(())
}

#[test]
fn apps_git_clones_in_absolute_form_through_socks_and_the_port_map() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let head = repository(dir.path())?;
    let web = Web::start(&["--git", &dir.path().to_string_lossy()])?;
    let http_proxy = format!("http.proxy=http://{}", web.client.http_proxy());
    let socks5 = format!("http.proxy=socks5h://{}", web.client.socks5());
    let named = format!("http://{NAME}/git/project.git");
    clone(dir.path(), "absolute", &["-c", &http_proxy], &named, &head)?;
    clone(dir.path(), "socks", &["-c", &socks5], &named, &head)?;
    clone(dir.path(), "mapped", &[], &format!("http://{}/git/project.git", web.client.listen()), &head)
}

/// git asks for CONNECT only where the URL says https, so this server has a certificate of its own inside the tunnel.
#[test]
fn apps_git_clones_through_connect() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let head = repository(dir.path())?;
    let (certificate, key) = (dir.path().join("certificate.pem"), dir.path().join("key.pem"));
    Program::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        .args(["-subj", &format!("/CN={NAME}"), "-addext", &format!("subjectAltName=DNS:{NAME}"), "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .run(PATIENCE)?
        .success()?;
    let git_dir = dir.path().to_string_lossy();
    let web = Web::start(&["--git", &git_dir, "--tls", &certificate.to_string_lossy(), &key.to_string_lossy()])?;
    let proxy = format!("http.proxy=http://{}", web.client.http_proxy());
    let ca = format!("http.sslCAInfo={}", certificate.display());
    clone(dir.path(), "connect", &["-c", &proxy, "-c", &ca], &format!("https://{NAME}/git/project.git"), &head)
}

/// A bare repository `project.git` with one commit of a few hundred files; gives the commit's id.
fn repository(dir: &Path) -> Result<String> {
    let work = dir.join("work");
    std::fs::create_dir(&work)?;
    for number in 0..300 {
        std::fs::write(work.join(format!("file-{number}")), format!("{number}\n").repeat(500))?;
    }
    let run = |args: &[&str]| git(dir).args(["-C", "work"]).args(args).run(PATIENCE)?.success();
    run(&["init", "--quiet", "--initial-branch=main"])?;
    run(&["add", "."])?;
    let author = ["-c", "user.name=Somebody", "-c", "user.email=somebody@example.org"];
    run(&[author.as_slice(), &["commit", "--quiet", "--message", "All files"]].concat())?;
    run(&["clone", "--quiet", "--bare", ".", "../project.git"])?;
    run(&["rev-parse", "HEAD"])
}

fn clone(dir: &Path, into: &str, options: &[&str], url: &str, head: &str) -> Result<()> {
    git(dir).named(into).args(options).args(["clone", "--quiet", url, into]).run(PATIENCE)?.success()?;
    let seen = git(dir).args(["-C", into, "rev-parse", "HEAD"]).run(PATIENCE)?.success()?;
    ensure!(seen == head, "{into} has {seen}, wanted {head}");
    Ok(())
}
