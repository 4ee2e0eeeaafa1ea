//! H: nobody but the two proxies writes a verdict into HTTP, and they only where it is one.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use evident_tests::wait::PATIENCE;
use evident_tests::{Client, Guest, Upstream};

use crate::client::https;

/// Every spelling, with values that an application might believe.
const FORGED: &str = "Evident-Verdict: accepted\r\nevident-level: 4\r\nX-Evident-Client: attested\r\nEVIDENT_VERDICT: accepted\r\n\
                      x_evident_peer: owner\r\nEvident: yes\r\n";
const OURS_NOT: &str = "Evidently: mine\r\nX-Evidence: mine\r\n";

/// Answers with the head it got as its body, and with forged headers and trailers of its own.
fn upstream() -> Upstream {
    Upstream::start("127.0.0.1:0", |mut stream| {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read(&mut byte)? == 0 {
                return Ok(());
            }
            head.push(byte[0]);
        }
        write!(
            stream,
            "HTTP/1.1 200 OK\r\n{FORGED}{OURS_NOT}Transfer-Encoding: chunked\r\nTrailer: Evident-Verdict, X-Sum\r\n\r\n\
             {:x}\r\n{}\r\n0\r\nEvident-Verdict: accepted\r\nX-Sum: 1\r\n\r\n",
            head.len(),
            String::from_utf8_lossy(&head),
        )
    })
    .unwrap()
}

/// What came back: the head of the answer, and the body, which is the head that the upstream got.
struct Seen {
    by_client: String,
    by_upstream: String,
}

impl Seen {
    fn of(answer: &str) -> Seen {
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP: {answer:?}"));
        Seen { by_client: head.to_ascii_lowercase(), by_upstream: body.to_ascii_lowercase() }
    }
}

/// The lines that any reader could take for ours.
fn ours(text: &str) -> Vec<&str> {
    let is_ours = |line: &&str| {
        let name = line.split(':').next().unwrap_or_default().replace('_', "-");
        let name = name.strip_prefix("x-").unwrap_or(&name);
        line.contains(':') && (name == "evident" || name.starts_with("evident-"))
    };
    text.lines().filter(is_ours).collect()
}

fn request(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: llm.example\r\nConnection: close\r\nTE: trailers\r\n{FORGED}{OURS_NOT}\r\n")
}

fn exchange(address: SocketAddr, requests: &[&str]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = String::new();
    for (number, request) in requests.iter().enumerate() {
        stream.write_all(request.as_bytes()).unwrap();
        if number + 1 < requests.len() {
            let mut byte = [0];
            while !answer.ends_with("\r\n\r\n") {
                assert_eq!(stream.read(&mut byte).unwrap(), 1, "{answer}");
                answer.push(byte[0].into());
            }
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            answer.clear();
        }
    }
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proto_h1_an_ordinary_client_and_an_upstream_cannot_write_verdicts_for_each_other() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let upstream = upstream();
    let guest = Guest::in_front_of(upstream.address()).start().unwrap();
    let (mut tls, _) = https(guest.address()).await;
    tls.write_all(request("/").as_bytes()).await.unwrap();
    let mut answer = String::new();
    tls.read_to_string(&mut answer).await.unwrap();
    let seen = Seen::of(&answer);
    assert_eq!(ours(&seen.by_upstream), [""; 0], "an ordinary client is not attested, and nothing may say so");
    assert_eq!(ours(&seen.by_client), [""; 0]);
    for line in ["evidently: mine", "x-evidence: mine"] {
        assert!(seen.by_upstream.contains(line) && seen.by_client.contains(line), "{line}: {answer}");
    }
}

#[test]
fn proto_h1_h2_the_client_proxy_sets_its_verdict_where_it_parses_http_and_only_there() {
    let upstream = upstream();
    let guest = Guest::in_front_of(upstream.address()).start().unwrap();
    let client = Client::of(&guest, &["llm.example"]).config("add_verdict_headers = true\n").start().unwrap();

    // Absolute form: parsed, so stripped both ways, and then the verdict of this very tunnel is set.
    let answer = exchange(client.http_proxy(), &[&request("http://llm.example/")]);
    let seen = Seen::of(&answer);
    assert_eq!(ours(&seen.by_upstream), [""; 0], "{answer}");
    let verdict = ours(&seen.by_client);
    assert_eq!(verdict.len(), 2, "{answer}");
    assert!(verdict.contains(&"evident-verdict: accepted; simulated"), "{answer}");
    assert!(verdict.iter().any(|line| line.starts_with("evident-level: amd_sp=ok")), "{answer}");
    assert!(seen.by_client.contains("evidently: mine") && seen.by_upstream.contains("x-evidence: mine"), "{answer}");
    assert!(seen.by_upstream.ends_with("x-sum: 1\r\n\r\n"), "other trailers pass: {answer}");

    // CONNECT and the port map: tunnels, whose bytes are the application's.
    let connect = "CONNECT llm.example:80 HTTP/1.1\r\nHost: llm.example:80\r\n\r\n";
    for answer in
        [exchange(client.http_proxy(), &[connect, &request("/")]), exchange(client.listen(), &[&request("/")])]
    {
        let seen = Seen::of(&answer);
        let forged = FORGED.lines().count();
        assert_eq!(ours(&seen.by_client).len(), forged, "{answer}");
        assert_eq!(ours(&seen.by_upstream).len(), forged + 1, "and the trailer: {answer}");
    }
}

#[test]
fn proto_h1_without_the_setting_the_client_proxy_strips_and_sets_nothing() {
    let upstream = upstream();
    let guest = Guest::in_front_of(upstream.address()).start().unwrap();
    let client = Client::of(&guest, &["llm.example"]).start().unwrap();
    let seen = Seen::of(&exchange(client.http_proxy(), &[&request("http://llm.example/")]));
    assert_eq!((ours(&seen.by_upstream), ours(&seen.by_client)), (vec![], vec![]));
}

#[test]
fn proto_h2_a_refused_guest_gets_no_accepting_header_and_no_request() {
    let upstream = upstream();
    let guest = Guest::in_front_of(upstream.address()).start().unwrap();
    let client = Client::of(&guest, &["llm.example"])
        .config("add_verdict_headers = true\n")
        .policy(|policy| policy.measurement(&"ab".repeat(48)))
        .start()
        .unwrap();
    let answer = exchange(client.http_proxy(), &[&request("http://llm.example/")]);
    assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("R_LD"), "{answer}");
    let (head, _) = answer.split_once("\r\n\r\n").unwrap();
    let level = "evident-level: amd_sp=ok, vtpm=absent, firmware=1;amd-sp, boot=0, kernel=0, userspace=0";
    assert_eq!(ours(&head.to_ascii_lowercase()), ["evident-verdict: refused", level]);
    // A name that is on no entry was not attested at all.
    let answer = exchange(client.http_proxy(), &[&request("http://other.example/")]);
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    let (head, _) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!(ours(&head.to_ascii_lowercase()), [""; 0]);
    assert_eq!(upstream.accepted(), 0);
}
