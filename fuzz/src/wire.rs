//! Targets for `ratls::wire`, `ratls::binding` and `ratls::bundle`: what one proxy believes of another's bytes.

use std::fmt::Debug;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use proxy_core::framing::{Frame, Framed, FramingError};
use ratls::binding::merkle::root_from_path;
use ratls::binding::{LeafHash, Sibling, Statement, Tree};
use ratls::bundle::Bundle;
use ratls::bytes::Reader;
use ratls::crypto::sha256;
use ratls::endorsement::TrustAnchors;
use ratls::verify::verify_bundle;
use ratls::wire::attest::{Attest, PartInfo};
use ratls::wire::control::{Accept, Close, Open, Refuse};
use ratls::wire::frame::{self, FrameType};
use ratls::wire::limits::{FRAME_HEADER, MAX_IGNORED, MAX_PART_TOTAL, MAX_PARTS_TOTAL, MAX_STATEMENT, MAX_WANT};
use ratls::wire::parts::{Assembler, encode_parts, encode_want, parse_want};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::evidence::NOW;

/// Frames come out the same however TCP cuts the stream, and are what went in; the bodies are parsed as their kinds.
pub fn frame(data: &[u8]) {
    let Some((cut, stream)) = data.split_first() else { return };
    let (frames, end) = read_all(stream, usize::MAX);
    let (again, end_again) = read_all(stream, usize::from(*cut) + 1);
    assert_eq!(frames, again, "frames depend on how the stream was cut");
    assert_eq!(end.to_string(), end_again.to_string(), "the end depends on how the stream was cut");

    let mut rest = stream;
    for frame in &frames {
        rest = skip_ignorable(rest);
        let whole = frame::encode(frame.kind, &frame.body);
        rest = rest.strip_prefix(&whole[..]).expect("a frame stands in the stream as it is written");
        body(frame.kind, &frame.body);
    }
    if let Some(close) = end.close() {
        assert!(Close::parse(&close.encode()).is_ok(), "the other side cannot read why");
    }
}

fn read_all(stream: &[u8], at_once: usize) -> (Vec<Frame>, FramingError) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime of one thread");
    runtime.block_on(async {
        let mut framed = Framed::new(Slices { rest: stream, at_once });
        let mut frames = vec![];
        loop {
            match framed.read().await {
                Ok(frame) => frames.push(frame),
                Err(end) => return (frames, end),
            }
        }
    })
}

fn skip_ignorable(mut stream: &[u8]) -> &[u8] {
    let begin = stream.len();
    while let Some([0x80..=0xFF, a, b, c]) = stream.first_chunk::<FRAME_HEADER>() {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        stream = &stream[FRAME_HEADER + length..];
    }
    assert!(begin - stream.len() <= MAX_IGNORED, "more was ignored than may be");
    stream
}

/// A stream that gives at most so many bytes at once, and swallows what is written.
struct Slices<'a> {
    rest: &'a [u8],
    at_once: usize,
}

impl AsyncRead for Slices<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (now, later) = self.rest.split_at(self.rest.len().min(self.at_once).min(buffer.remaining()));
        buffer.put_slice(now);
        self.rest = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Slices<'_> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn body(kind: FrameType, body: &[u8]) {
    assert!(body.len() <= kind.max_body());
    match kind {
        FrameType::Attest => drop(attest(body)),
        FrameType::Want => want(body),
        FrameType::Open => round_trip(body, Open::parse, Open::encode),
        FrameType::Accept => round_trip(body, Accept::parse, Accept::encode),
        FrameType::Close => round_trip(body, Close::parse, Close::encode),
        FrameType::Refuse => round_trip(body, Refuse::parse, Refuse::encode),
        FrameType::Challenge | FrameType::Part | FrameType::Data | FrameType::Fin => {}
        FrameType::Notice | FrameType::Cred | FrameType::CredResponse => {}
    }
}

/// Deterministic CBOR: what is accepted has one spelling. Only a default that was written out (`false`, scope 0) and keys that
/// the parser ignored (64 and up) are left out when we write it, so our spelling is the received one or a shorter one.
fn round_trip<T: PartialEq + Debug, E: Debug>(
    received: &[u8],
    parse: impl Fn(&[u8]) -> Result<T, E>,
    encode: impl Fn(&T) -> Vec<u8>,
) {
    let Ok(value) = parse(received) else { return };
    let written = encode(&value);
    assert!(written.len() <= received.len(), "the shortest form is longer than what was received");
    if written.len() == received.len() {
        assert_eq!(written, received, "two spellings of one length");
    }
    assert_eq!(parse(&written).expect("what we write we read"), value);
}

/// A statement has one spelling, within its limit.
pub fn statement(data: &[u8]) {
    round_trip(data, Statement::parse, Statement::encode);
    if Statement::parse(data).is_ok() {
        assert!(data.len() <= MAX_STATEMENT);
    }
}

/// An ATTEST has one spelling, and so has the statement in it.
pub fn attest(data: &[u8]) -> Option<Attest> {
    round_trip(data, Attest::parse, Attest::encode);
    let attest = Attest::parse(data).ok()?;
    statement(&attest.statement);
    for (_, bytes) in &attest.hardware {
        crate::evidence::report(bytes);
    }
    Some(attest)
}

/// OPEN, ACCEPT, REFUSE and CLOSE have one spelling each. The first byte chooses.
pub fn control(data: &[u8]) {
    let kinds = [FrameType::Open, FrameType::Accept, FrameType::Refuse, FrameType::Close, FrameType::Want];
    let Some((choice, bytes)) = data.split_first() else { return };
    let kind = kinds[usize::from(*choice) % kinds.len()];
    if bytes.len() <= kind.max_body() {
        body(kind, bytes);
    }
}

fn want(bytes: &[u8]) {
    if let Ok(digests) = parse_want(bytes) {
        assert!(digests.len() <= MAX_WANT);
        assert_eq!(encode_want(&digests), bytes);
    }
}

/// What comes out of the assembler has the digest and length that were announced, whatever was sent and in whatever order.
///
/// Input: one byte n, then n announced parts as `u8 length ‖ bytes` (a length of 255 announces more than is sent), then the
/// PARTs: `u8 which ‖ u8 change ‖ u16 offset ‖ u8 length`, true ones where `change` is even.
pub fn parts(data: &[u8]) -> Option<()> {
    let mut input = Reader::new(data);
    let mut sources = vec![];
    for _ in 0..input.u8().ok()? % 8 {
        let length = usize::from(input.u8().ok()?);
        let bytes = input.take(length.min(input.left())).ok()?;
        sources.push(if length == 255 { bytes.repeat(MAX_PART_TOTAL / 1024) } else { bytes.to_vec() });
    }
    let infos: Vec<PartInfo> = sources.iter().map(|bytes| info(bytes)).collect();
    let announced: usize = infos.iter().map(|part| part.length as usize).sum();
    let mut assembler = match Assembler::new(&infos) {
        Ok(assembler) => assembler,
        Err(_) => {
            assert!(announced > MAX_PARTS_TOTAL || infos.iter().any(|part| part.length == 0));
            return None;
        }
    };
    let mut complete = false;
    while let (Ok(which), Ok(change), Ok(offset), Ok(length)) = (input.u8(), input.u8(), input.u16_be(), input.u8()) {
        let Some(source) = sources.get(usize::from(which)) else { continue };
        let digest = sha256(&[source]);
        let added = if change % 2 == 0 {
            encode_parts(&digest, source).map(|body| assembler.add(&body)).last()?
        } else {
            let total = u32::try_from(source.len()).expect("at most 1 MiB") ^ u32::from(change >> 4);
            let from = usize::from(offset).min(source.len());
            let bytes = &source[from..source.len().min(from + usize::from(length))];
            assembler
                .add(&[digest.as_bytes(), &total.to_be_bytes()[..], &u32::from(offset).to_be_bytes(), bytes].concat())
        };
        match added {
            Ok(done) => complete = done,
            Err(_) => break, // the connection ends
        }
    }
    let found = assembler.finish();
    for (digest, bytes) in &found {
        assert_eq!(sha256(&[bytes]), *digest);
        assert!(infos.iter().any(|part| part.digest == *digest && part.length as usize == bytes.len()));
    }
    assert!(!complete || infos.iter().all(|part| found.contains_key(&part.digest)));
    Some(())
}

fn info(bytes: &[u8]) -> PartInfo {
    PartInfo {
        name: "part".to_owned(),
        digest: sha256(&[bytes]),
        length: u32::try_from(bytes.len()).expect("at most 1 MiB"),
        media_type: "application/octet-stream".to_owned(),
    }
}

/// A bundle is written as it was read, but for the order of its parts; and none that a fuzzer writes verifies under AMD's roots.
pub fn bundle(data: &[u8]) {
    let Ok(bundle) = Bundle::parse(data) else { return };
    let written = bundle.encode();
    assert!(written.len() <= data.len(), "parts are only ever left out as duplicates");
    let again = Bundle::parse(&written).expect("what we write we read");
    assert_eq!((&again.attest, &again.parts, again.received), (&bundle.attest, &bundle.parts, bundle.received));
    assert!(again.bind == bundle.bind && again.leaf_certificate == bundle.leaf_certificate);
    for (digest, bytes) in &bundle.parts {
        assert_eq!(sha256(&[bytes]), *digest);
    }
    attest(&bundle.attest);
    assert!(verify_bundle(&bundle, &TrustAnchors::amd(), NOW).is_err(), "AMD signed nothing here");
}

/// The path of each leaf leads to the root; a path that was changed, or one for another leaf, does not.
///
/// Input: u16 n, u16 index, u8 what to change, u8 how, then a path of our own.
pub fn merkle(data: &[u8]) -> Option<()> {
    let mut input = Reader::new(data);
    let n = u32::from(input.u16_be().ok()? % 700) + 1;
    let index = u32::from(input.u16_be().ok()?) % n;
    let (what, how) = (input.u8().ok()?, input.u8().ok()?);
    let leaves: Vec<LeafHash> = (0..n)
        .map(|i| LeafHash::from_bytes(*sha256(&[&i.to_be_bytes(), input.clone().remaining()]).as_bytes()))
        .collect();
    let tree = Tree::build(&leaves).expect("1 to 700 leaves");
    let (root, leaf) = (tree.root(), leaves[index as usize]);
    let mut path = tree.path(index).expect("the index is below n");
    assert_eq!(root_from_path(&leaf, index.into(), n.into(), &path), Ok(root));

    let mut own = vec![];
    while let Ok(hash) = input.array() {
        own.push(Sibling::from_bytes(hash));
    }
    if own != path {
        assert_ne!(root_from_path(&leaf, index.into(), n.into(), &own), Ok(root), "a path from nowhere");
    }
    if how != 0 && !path.is_empty() {
        let at = usize::from(what) % path.len();
        let mut hash = *path[at].as_bytes();
        hash[usize::from(what / 16)] ^= how;
        path[at] = Sibling::from_bytes(hash);
        assert_ne!(root_from_path(&leaf, index.into(), n.into(), &path), Ok(root), "a changed path");
    }
    let other = (index + 1 + u32::from(what)) % n;
    if other != index {
        let honest = tree.path(index).expect("the index is below n");
        assert_ne!(root_from_path(&leaf, other.into(), n.into(), &honest), Ok(root), "another place in the tree");
    }
    Some(())
}
