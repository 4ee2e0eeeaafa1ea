//! What a client may ask of the evidence before it decides, and what becomes of one that asks for more.

use std::sync::Arc;

use attester::platform::{Activate, ActivateError, Activator, Boot, Gathered, Part, Platform};
use attester::{DeviceError, Pace, PlainSnp};
use ratls::binding::{Binder, Profile};
use ratls::wire::attest::{Attest, features, media, part};
use ratls::wire::control::{Close, CloseCode, Mode, Open};
use ratls::wire::credential::{Credential, CredentialResponse, CredentialSecret};
use ratls::wire::frame::FrameType;
use ratls::wire::parts::{Assembler, encode_want};
use tokio::sync::oneshot;

use crate::client::Script;
use crate::genuine::Genuine;

const SECRET: CredentialSecret = CredentialSecret::from_bytes([0x5E; 32]);

/// Plain SEV-SNP that has an event log, too, and answers CRED.
struct Asking {
    plain: PlainSnp,
    boot: Arc<Boot>,
}

/// Opens what is not empty.
struct Opens;

impl Activate for Opens {
    fn activate(&self, credential: Credential) -> oneshot::Receiver<Result<CredentialSecret, ActivateError>> {
        let (reply, answer) = oneshot::channel();
        let ours = credential.id_object == [1];
        reply.send(if ours { Ok(SECRET) } else { Err(ActivateError::NotOurs) }).expect("the receiver is here");
        answer
    }
}

impl Platform for Asking {
    fn profile(&self) -> Profile {
        self.plain.profile()
    }
    fn describe(&self) -> String {
        self.plain.describe()
    }
    fn simulated(&self) -> bool {
        true
    }
    fn pace(&self) -> Pace {
        self.plain.pace()
    }
    fn boot(&self) -> Arc<Boot> {
        self.boot.clone()
    }
    fn gather(&mut self, binder: &Binder) -> Result<Gathered, DeviceError> {
        self.plain.gather(binder)
    }
    fn activator(&self) -> Option<Activator> {
        Some(Activator::new(Opens))
    }
}

async fn guest(file: &str) -> Genuine {
    let log = Part::new(part::EVENT_LOG, media::EVENT_LOG, vec![7; 150_000]);
    let boot = Arc::new(Boot { event_log: log, ..Boot::default() });
    Genuine::on(|_| (), |plain| Box::new(Asking { plain, boot }), file).await
}

fn want(attest: &Attest, name: &str) -> Vec<u8> {
    let part = attest.parts.iter().find(|part| part.name == name).expect("it is listed");
    encode_want(&[part.digest])
}

impl Script {
    async fn attested(guest: &Genuine) -> (Script, Attest) {
        let mut client = Script::connect(guest.address).await;
        let attest = client.attest().await;
        (client, Attest::parse(&attest).unwrap())
    }

    async fn ask(&mut self, kind: FrameType, body: &[u8]) {
        self.framed.write(kind, body).await.unwrap();
    }

    async fn part(&mut self, attest: &Attest, name: &str) -> Vec<u8> {
        let mut assembler = Assembler::new(attest.parts.iter().filter(|part| part.name == name)).unwrap();
        loop {
            let frame = self.framed.read().await.unwrap();
            assert_eq!(frame.kind, FrameType::Part);
            if assembler.add(&frame.body).unwrap() {
                return assembler.finish().into_values().next().unwrap();
            }
        }
    }
}

fn credential(id_object: &[u8]) -> Vec<u8> {
    Credential { id_object: id_object.to_vec(), encrypted_secret: vec![2; 256] }.encode()
}

#[tokio::test]
async fn proto_d5_every_listed_part_is_given_and_a_fifth_want_ends_the_connection() {
    let guest = guest("").await;
    let (mut client, attest) = Script::attested(&guest).await;
    for name in [part::EVENT_LOG, part::SETTINGS, part::EVENT_LOG, part::SETTINGS] {
        client.ask(FrameType::Want, &want(&attest, name)).await;
        let bytes = client.part(&attest, name).await;
        assert_eq!(bytes.len() == 150_000, name == part::EVENT_LOG);
    }
    client.ask(FrameType::Want, &want(&attest, part::SETTINGS)).await;
    assert_eq!(client.closed().await.code, CloseCode::Protocol);
    guest.until_ended_at("asked", 1).await;
}

#[tokio::test]
async fn proto_d5_what_was_not_listed_is_passed_over() {
    let guest = guest("").await;
    let (mut client, attest) = Script::attested(&guest).await;
    client.ask(FrameType::Want, &encode_want(&[ratls::digest::Sha256Digest::from_bytes([1; 32])])).await;
    client.ask(FrameType::Want, &want(&attest, part::SETTINGS)).await;
    assert!(!client.part(&attest, part::SETTINGS).await.is_empty());
}

#[tokio::test]
async fn proto_d5_a_source_that_fetched_its_share_is_told_when_to_come_back() {
    let guest = guest("[limits]\npart_bytes_per_source = 200000\n").await;
    let (mut first, attest) = Script::attested(&guest).await;
    first.ask(FrameType::Want, &want(&attest, part::EVENT_LOG)).await;
    assert_eq!(first.part(&attest, part::EVENT_LOG).await.len(), 150_000);
    // Another connection of the same source.
    let (mut second, attest) = Script::attested(&guest).await;
    second.ask(FrameType::Want, &want(&attest, part::SETTINGS)).await;
    assert!(!second.part(&attest, part::SETTINGS).await.is_empty(), "there is room for that");
    second.ask(FrameType::Want, &want(&attest, part::EVENT_LOG)).await;
    let Close { code, retry_after_ms, .. } = second.closed().await;
    assert_eq!(code, CloseCode::Limit);
    assert!((1..=60_000).contains(&retry_after_ms), "{retry_after_ms}");
}

#[tokio::test]
async fn proto_d8_a_credential_is_opened_once_per_connection() {
    let guest = guest("").await;
    let (mut client, _) = Script::attested(&guest).await;
    client.ask(FrameType::Cred, &credential(&[1])).await;
    let answer = client.framed.read().await.unwrap();
    assert_eq!(answer.kind, FrameType::CredResponse);
    assert_eq!(CredentialResponse::parse(&answer.body).unwrap().secret, SECRET);
    client.ask(FrameType::Cred, &credential(&[1])).await;
    assert_eq!(client.closed().await.code, CloseCode::Protocol);
}

#[tokio::test]
async fn proto_d8_a_credential_for_another_tpm_or_of_a_guest_that_has_none_ends_the_connection() {
    let asking = guest("").await;
    let (mut client, _) = Script::attested(&asking).await;
    client.ask(FrameType::Cred, &credential(&[9])).await;
    assert_eq!(client.closed().await.code, CloseCode::Protocol);
    let plain = Genuine::start().await;
    let (mut client, _) = Script::attested(&plain).await;
    client.ask(FrameType::Cred, &credential(&[1])).await;
    assert_eq!(client.closed().await.code, CloseCode::Protocol);
}

/// One tunnel to its end, so that the connection waits for the next.
async fn tunnel(client: &mut Script, number: u64, ends: bool) {
    let open =
        Open { number, mode: Mode::Framed, target: None, inner_alpn: None, features: features::REUSE, token: None };
    client.ask(FrameType::Open, &open.encode()).await;
    assert_eq!(client.framed.read().await.unwrap().kind, FrameType::Accept);
    if ends {
        client.ask(FrameType::Data, b"GET /bytes/5 HTTP/1.1\r\nHost: a\r\n\r\n").await;
        client.ask(FrameType::Fin, b"").await;
        while client.framed.read().await.unwrap().kind != FrameType::Fin {}
    }
}

/// Decision 2: the evidence is asked about before the first tunnel. The same question is answered there, and not after.
#[tokio::test]
async fn a_want_or_cred_after_the_first_accept_ends_the_connection_inside_a_tunnel_and_between_two() {
    let guest = guest("").await;
    for (tunnels, inside) in [(1, true), (1, false), (2, true), (2, false)] {
        for kind in [FrameType::Want, FrameType::Cred] {
            let (mut client, attest) = Script::attested(&guest).await;
            let question = match kind {
                FrameType::Want => want(&attest, part::SETTINGS),
                _ => credential(&[1]),
            };
            if kind == FrameType::Want {
                client.ask(kind, &question).await;
                assert!(!client.part(&attest, part::SETTINGS).await.is_empty());
            }
            for number in 0..tunnels {
                tunnel(&mut client, number, !inside || number + 1 < tunnels).await;
            }
            client.ask(kind, &question).await;
            let close = client.closed().await;
            assert_eq!((close.code, close.accepted), (CloseCode::Protocol, tunnels), "{kind:?}, {tunnels}, {inside}");
        }
    }
}
