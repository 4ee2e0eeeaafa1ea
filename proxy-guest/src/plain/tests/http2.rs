//! HTTP/2 clients that mean no good, frame by frame: half uploads, half heads, more requests than their share.

use super::*;

/// The preface and empty SETTINGS.
const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// `:method`, `:scheme: https`, `:path: /`, `:authority: a`.
const GET: &[u8] = b"\x82\x87\x84\x41\x01a";
const POST: &[u8] = b"\x83\x87\x84\x41\x01a";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

async fn read_frame(stream: &mut DuplexStream) -> (u8, u32, Vec<u8>) {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.unwrap();
    let mut payload = vec![0; usize::try_from(u32::from_be_bytes([0, head[0], head[1], head[2]])).unwrap()];
    stream.read_exact(&mut payload).await.unwrap();
    (head[3], u32::from_be_bytes(head[5..].try_into().unwrap()), payload)
}

/// What an upstream saw of an upload, after its head, until the end of the connection or of the upload.
async fn upload_ended_by(ends: &[Vec<u8>]) -> Vec<u8> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (plain, _) = plain_with(&listener.local_addr().unwrap().to_string(), "");
    let (mut stream, _serving) = client(&plain, true);
    let begun = [HELLO, &frame(HEADERS, END_HEADERS, 1, POST), &frame(DATA, 0, 1, b"half")].concat();
    stream.write_all(&begun).await.unwrap();
    let (mut upstream, _) = soon(listener.accept()).await.unwrap();
    soon(read_head(&mut upstream)).await.unwrap();
    upstream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nbegun\r\n").await.unwrap();
    while soon(read_frame(&mut stream)).await.2 != b"begun" {}
    stream.write_all(&ends.concat()).await.unwrap();
    let mut seen = vec![];
    while !seen.ends_with(b"\r\n0\r\n\r\n") {
        match soon(upstream.read_u8()).await {
            Ok(byte) => seen.push(byte),
            Err(_) => break,
        }
    }
    seen
}

#[tokio::test]
async fn only_end_stream_makes_an_upload_whole() {
    let whole = b"4\r\nhalf\r\n0\r\n\r\n";
    assert_eq!(upload_ended_by(&[frame(DATA, END_STREAM, 1, b"")]).await, whole);
    let trailers = frame(HEADERS, END_STREAM | END_HEADERS, 1, b"\0\x05x-sum\x011");
    assert!(upload_ended_by(&[trailers]).await.starts_with(b"4\r\nhalf\r\n0\r\n"));
    let [no_error, internal_error, cancel] = [0_u32, 2, 8].map(|code| frame(RST_STREAM, 0, 1, &code.to_be_bytes()));
    for end in [no_error, internal_error, cancel] {
        let seen = upload_ended_by(std::slice::from_ref(&end)).await;
        assert!(!seen.windows(3).any(|three| three == b"0\r\n"), "{end:?}: {seen:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn neither_a_preface_nor_half_a_head_nor_pings_keep_a_connection() {
    let (plain, _) = plain_with("1", "[limits]\nfirst_byte = \"2s\"\nidle = \"off\"");
    let half = frame(HEADERS, 0, 1, &GET[..3]);
    for begun in [HELLO.to_vec(), [HELLO, &half].concat(), HELLO[..20].to_vec()] {
        let (mut stream, mut serving) = client(&plain, true);
        stream.write_all(&begun).await.unwrap();
        let begin = Instant::now();
        let pings = async {
            loop {
                tokio::time::sleep(Duration::from_millis(700)).await;
                // Between the frames of a header block, nothing else may come.
                if begun == HELLO && stream.write_all(&frame(6, 0, 0, &[0; 8])).await.is_err() {
                    std::future::pending().await
                }
            }
        };
        tokio::select! {
            ended = timeout(Duration::from_secs(20), &mut serving) => drop(ended.expect("in time")),
            () = pings => {}
        }
        assert!((2..=8).contains(&begin.elapsed().as_secs()), "{begun:?}: {:?}", begin.elapsed());
    }
}

#[tokio::test]
async fn a_client_that_waits_for_its_answer_is_not_ended_for_want_of_a_head() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (plain, _) = plain_with(&address, "[limits]\nfirst_byte = \"100ms\"");
    let (mut stream, _serving) = client(&plain, true);
    stream.write_all(&[HELLO, &frame(HEADERS, END_HEADERS | END_STREAM, 1, GET)].concat()).await.unwrap();
    let (mut upstream, _) = soon(listener.accept()).await.unwrap();
    soon(read_head(&mut upstream)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(400)).await;
    upstream.write_all(OK.as_bytes()).await.unwrap();
    loop {
        let (kind, _, payload) = soon(read_frame(&mut stream)).await;
        assert_ne!(kind, GOAWAY, "ended before its answer");
        if (kind, &*payload) == (DATA, b"ok") {
            break;
        }
    }
}

#[tokio::test]
async fn one_source_has_its_share_of_requests_and_others_are_served() {
    let (upstream, address) = Scripted::start(&[]).await;
    // Eight further places, a quarter of them for one source.
    let (plain, _) = plain_with(&address, "[limits]\nconnections = 8");
    let mut held = vec![];
    let mut refused = 0;
    for _ in 0..2 {
        let (mut stream, serving) = client(&plain, true);
        stream.write_all(HELLO).await.unwrap();
        for stream_id in [1, 3, 5, 7, 9] {
            stream.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, stream_id, GET)).await.unwrap();
        }
        let expected = if held.is_empty() { 2 } else { 4 };
        let mut here = 0;
        while here < expected {
            let (kind, _, payload) = soon(read_frame(&mut stream)).await;
            here += usize::from(kind == DATA && payload.starts_with(b"evident-proxy: too many requests at once"));
        }
        refused += here;
        held.push((stream, serving));
    }
    assert_eq!(refused, 6, "of ten, one for each connection and two of the source go on");
    soon(async {
        while upstream.asked().len() < 4 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    upstream.answers.lock().unwrap().push_back(OK.to_owned());
    let (mut near, far) = tokio::io::duplex(64 * 1024);
    let elsewhere = plain.clone();
    tokio::spawn(async move { elsewhere.serve(far, None, Peer::Tcp("192.0.2.8:5".parse().unwrap())).await });
    near.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    soon(near.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn answers_that_nobody_reads_hold_their_places() {
    let answers: Vec<String> =
        (0..8).map(|_| format!("HTTP/1.1 200 OK\r\ncontent-length: 9000\r\n\r\n{}", "x".repeat(9000))).collect();
    let (upstream, address) = Scripted::start(&answers.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let (plain, _) = plain_with(&address, "[limits]\nconnections = 8");
    let (near, far) = tokio::io::duplex(256);
    let serving = {
        let plain = plain.clone();
        tokio::spawn(async move { plain.serve(far, Some(H2), Peer::Tcp(PEER.parse().unwrap())).await })
    };
    let (_unread, mut write) = tokio::io::split(near);
    write.write_all(HELLO).await.unwrap();
    for stream_id in (1..16).step_by(2) {
        write.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, stream_id, GET)).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(upstream.asked().len() <= 3, "{} requests reached the upstream", upstream.asked().len());
    drop((write, serving));
}
