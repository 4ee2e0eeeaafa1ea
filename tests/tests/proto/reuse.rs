//! One connection for many tunnels, one after the other: nothing of one reaches another, and what is repeated on another
//! connection had no effect on the first (docs/protocol.md, "The client's side").

use std::sync::Arc;
use std::time::Duration;

use evident_client::config::{self, Limits};
use evident_client::guest::{Guest, Opens};
use evident_client::open::Opener;
use evident_client::pool::PoolLimits;
use evident_client::tools::policy::{LoadedPolicy, PolicySource};
use proxy_core::framing::{Framed, FramingError};
use proxy_core::metrics::Metrics;
use proxy_core::tasks::Tasks;
use ratls::policy::AppraisalPolicy;
use ratls::wire::attest::{Attest, features};
use ratls::wire::control::{Accept, Close, CloseCode, Mode, Open, Refuse, RefuseCode};
use ratls::wire::frame::FrameType;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::client::{DEADLINES, Script};
use crate::genuine::{Genuine, anchors, policy};
use crate::liar::{Connected, Liar};
use crate::{soon, until};

const REQUEST: &[u8] = b"GET /bytes/5 HTTP/1.1\r\nHost: a\r\n\r\n";

fn open(number: u64, features: u64) -> Vec<u8> {
    Open { number, mode: Mode::Framed, target: None, inner_alpn: None, features, token: None }.encode()
}

fn accept(number: u64) -> Vec<u8> {
    Accept { number, max_lifetime_secs: 60 }.encode()
}

/// One tunnel by a script, from OPEN to the last FIN.
async fn page(client: &mut Script, number: u64, features: u64) -> Vec<u8> {
    client.framed.write(FrameType::Open, &open(number, features)).await.unwrap();
    client.framed.write(FrameType::Data, REQUEST).await.unwrap();
    client.framed.write(FrameType::Fin, b"").await.unwrap();
    let answer = client.framed.read().await.unwrap();
    assert_eq!((answer.kind, Accept::parse(&answer.body).unwrap().number), (FrameType::Accept, number));
    let mut page = vec![];
    loop {
        let frame = client.framed.read().await.unwrap();
        match frame.kind {
            FrameType::Data => page.extend_from_slice(&frame.body),
            FrameType::Fin => return page,
            other => panic!("{other:?} in a tunnel"),
        }
    }
}

#[tokio::test]
async fn reuse_one_connection_carries_tunnels_one_after_the_other() {
    let guest = Genuine::start().await;
    let mut client = Script::connect(guest.address).await;
    let attest = Attest::parse(&client.attest().await).unwrap();
    assert_eq!(attest.features & features::REUSE, features::REUSE);
    for number in 0..5 {
        let page = soon("a page", page(&mut client, number, features::REUSE)).await;
        assert!(page.ends_with(b"\r\n\r\nxxxxx") || page.len() > 5, "{page:?}");
    }
    assert_eq!(guest.upstream.accepted(), 5, "each tunnel has an upstream connection of its own");
}

#[tokio::test]
async fn reuse_is_off_where_one_side_does_not_set_its_bit() {
    let guest = Genuine::start().await;
    let mut client = Script::connect(guest.address).await;
    client.attest().await;
    page(&mut client, 0, 0).await;
    let close = soon("CLOSE", client.closed()).await;
    assert_eq!((close.code, close.accepted), (CloseCode::Done, 1));
}

#[tokio::test]
async fn reuse_between_tunnels_a_guest_takes_nothing_but_the_next_open() {
    let guest = Genuine::start().await;
    let refuse = Refuse { number: 0, code: RefuseCode::Limit, text: String::new() }.encode();
    let late: [(&str, FrameType, Vec<u8>); 7] = [
        ("DATA of the tunnel before", FrameType::Data, b"late".to_vec()),
        ("FIN of the tunnel before", FrameType::Fin, vec![]),
        ("ACCEPT of the tunnel before", FrameType::Accept, accept(0)),
        ("REFUSE of the tunnel before", FrameType::Refuse, refuse),
        ("OPEN of the same number", FrameType::Open, open(0, features::REUSE)),
        ("OPEN of a number that was left out", FrameType::Open, open(2, features::REUSE)),
        ("OPEN of a number below", FrameType::Open, open(u64::MAX, features::REUSE)),
    ];
    for (ended, (what, kind, body)) in (1..).zip(late) {
        let reached = guest.upstream.accepted();
        let mut client = Script::connect(guest.address).await;
        client.attest().await;
        page(&mut client, 0, features::REUSE).await;
        client.framed.write(kind, &body).await.unwrap();
        let close = soon(what, client.closed()).await;
        assert_eq!((close.code, close.accepted), (CloseCode::Protocol, 1), "{what}");
        guest.until_ended_at("frames", ended).await;
        assert_eq!(guest.upstream.accepted(), reached + 1, "{what} reached the upstream");
    }
}

/// A tunnel that this guest refuses: it knows framed ones only.
async fn refused(client: &mut Script, number: u64) {
    let features = features::REUSE;
    let open = Open { number, mode: Mode::Raw, target: None, inner_alpn: None, features, token: None };
    client.framed.write(FrameType::Open, &open.encode()).await.unwrap();
    assert_eq!(soon("REFUSE", client.framed.read()).await.unwrap().kind, FrameType::Refuse);
}

#[tokio::test]
async fn reuse_after_a_refusal_a_guest_takes_what_was_under_way_and_one_fin() {
    let guest = Genuine::start().await;
    let mut client = Script::connect(guest.address).await;
    client.attest().await;
    refused(&mut client, 0).await;
    client.framed.write(FrameType::Data, b"on its way").await.unwrap();
    client.framed.write(FrameType::Fin, b"").await.unwrap();
    page(&mut client, 1, features::REUSE).await;
    for late in [FrameType::Fin, FrameType::Data] {
        let mut client = Script::connect(guest.address).await;
        client.attest().await;
        refused(&mut client, 0).await;
        client.framed.write(FrameType::Fin, b"").await.unwrap();
        client.framed.write(late, if late == FrameType::Data { b"x" } else { b"" }).await.unwrap();
        assert_eq!(soon("CLOSE", client.closed()).await.code, CloseCode::Limit, "{late:?}");
    }
    assert_eq!(guest.upstream.accepted(), 1, "nothing of it reached the upstream");
}

#[tokio::test]
async fn reuse_what_is_discarded_does_not_keep_a_connection_from_being_idle() {
    let guest = Genuine::with(|_| (), "[limits]\npool_idle = \"1s\"\n").await;
    let mut client = Script::connect(guest.address).await;
    client.attest().await;
    refused(&mut client, 0).await;
    let dripping = async {
        loop {
            match tokio::time::timeout(Duration::from_millis(100), client.framed.read()).await {
                Err(_) => client.framed.write(FrameType::Data, b"x").await.unwrap(),
                Ok(Err(FramingError::Closed(close))) => return close.code,
                Ok(other) => panic!("wanted CLOSE: {other:?}"),
            }
        }
    };
    assert_eq!(soon("CLOSE", dripping).await, CloseCode::Idle);
}

#[tokio::test]
async fn reuse_inside_a_later_tunnel_a_guest_takes_nothing_but_its_own_data() {
    let guest = Genuine::start().await;
    let wrong: [(&str, FrameType, Vec<u8>); 4] = [
        ("OPEN before FIN", FrameType::Open, open(2, features::REUSE)),
        ("OPEN again", FrameType::Open, open(1, features::REUSE)),
        ("ACCEPT", FrameType::Accept, accept(1)),
        ("WANT", FrameType::Want, vec![0x81]),
    ];
    for (what, kind, body) in wrong {
        let mut client = Script::connect(guest.address).await;
        client.attest().await;
        page(&mut client, 0, features::REUSE).await;
        client.framed.write(FrameType::Open, &open(1, features::REUSE)).await.unwrap();
        assert_eq!(client.framed.read().await.unwrap().kind, FrameType::Accept);
        client.framed.write(kind, &body).await.unwrap();
        let close = soon(what, client.closed()).await;
        assert_eq!((close.code, close.accepted), (CloseCode::Protocol, 2), "{what}");
    }
}

#[tokio::test]
async fn reuse_after_its_fin_a_client_may_send_nothing_until_the_guests_fin() {
    let guest = Genuine::start().await;
    for (what, kind, body) in [
        ("DATA", FrameType::Data, b"late".to_vec()),
        ("FIN", FrameType::Fin, vec![]),
        ("the next OPEN", FrameType::Open, open(1, features::REUSE)),
    ] {
        let reached = guest.upstream.accepted();
        let mut client = Script::connect(guest.address).await;
        client.attest().await;
        client.framed.write(FrameType::Open, &open(0, features::REUSE)).await.unwrap();
        // The events take their time: the guest's FIN is a while away.
        client.framed.write(FrameType::Data, b"GET /sse HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        client.framed.write(FrameType::Fin, b"").await.unwrap();
        client.framed.write(kind, &body).await.unwrap();
        let close = loop {
            match soon(what, client.framed.read()).await {
                Ok(frame) => assert!(matches!(frame.kind, FrameType::Accept | FrameType::Data), "{what}: {frame:?}"),
                Err(FramingError::Closed(close)) => break close,
                Err(other) => panic!("{what}: {other}"),
            }
        };
        assert_eq!((close.code, close.accepted), (CloseCode::Protocol, 1), "{what}");
        // The upstream's thread may be slower than all that.
        until("the upstream to accept", || guest.upstream.accepted() > reached).await;
        assert_eq!(guest.upstream.accepted(), reached + 1);
    }
}

/// Our client with a pool, of a server that goes by a script.
fn pooled(server: &Liar) -> Arc<Guest> {
    let policy = AppraisalPolicy::parse(&policy().text(), "policy.toml").unwrap_or_else(|error| panic!("{error}"));
    let entry = config::Guest {
        label: "liar".into(),
        names: vec![],
        addresses: vec![server.address.into()],
        server_name: Some("guest.example".into()),
        policy: LoadedPolicy { policy, anchors: anchors(), source: PolicySource::default() },
        listen: None,
        token: None,
        client_certificate: None,
    };
    let limits = Limits {
        connect: DEADLINES.connect,
        handshake: DEADLINES.handshake,
        attest: DEADLINES.attest,
        request: Duration::from_secs(10),
        keep_alive: Duration::from_secs(10),
        idle: None,
        lifetime: Duration::from_secs(600),
        connections: 10,
        connections_per_source: 10,
        head_bytes: 65_536,
        drain: Duration::from_secs(1),
        pool: PoolLimits { connections: 4, reuse_for: Duration::from_secs(600) },
    };
    Arc::new(Guest::new(entry, &limits, Arc::new(Metrics::new("evident-client", "test")), Tasks::new()).unwrap())
}

/// An application whose connection our client carries as a port map does.
async fn application(guest: &Arc<Guest>) -> (TcpStream, JoinHandle<std::io::Result<()>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let application = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (local, _) = listener.accept().await.unwrap();
    let opened = Opens(guest.clone()).open_early("").await.unwrap();
    (application, tokio::spawn(opened.tunnel.relay(local.into())))
}

type Link = Framed<proxy_core::tls::ServerTls<TcpStream>>;

/// Accepts a connection of our client and attests honestly, with the feature.
async fn attested(server: &Liar) -> Link {
    let Connected { mut framed, exporter } = server.accept().await;
    let attest = Attest { features: features::REUSE, ..server.honest(&exporter) };
    framed.write(FrameType::Attest, &attest.encode()).await.unwrap();
    framed
}

async fn opened(framed: &mut Link) -> u64 {
    let frame = soon("OPEN", framed.read()).await.unwrap();
    assert_eq!(frame.kind, FrameType::Open);
    Open::parse(&frame.body).unwrap().number
}

async fn data(framed: &mut Link) -> Vec<u8> {
    let frame = soon("DATA", framed.read()).await.unwrap();
    assert_eq!(frame.kind, FrameType::Data);
    frame.body.to_vec()
}

/// A connection that has carried tunnel 0 and waits in the client's pool.
async fn waiting(server: &Liar, guest: &Arc<Guest>) -> Link {
    let server_side = async {
        let mut framed = attested(server).await;
        assert_eq!(opened(&mut framed).await, 0);
        framed.write(FrameType::Accept, &accept(0)).await.unwrap();
        framed.write(FrameType::Fin, b"").await.unwrap();
        assert_eq!(soon("FIN", framed.read()).await.unwrap().kind, FrameType::Fin);
        framed
    };
    let client_side = async {
        let (mut app, relay) = application(guest).await;
        app.shutdown().await.unwrap();
        assert_eq!(app.read(&mut [0; 8]).await.unwrap(), 0);
        relay.await.unwrap().unwrap();
    };
    tokio::join!(server_side, client_side).0
}

#[tokio::test]
async fn reuse_the_next_application_gets_the_same_connection_and_none_of_the_bytes_before() {
    let server = Liar::new().await;
    let guest = pooled(&server);
    let mut framed = waiting(&server, &guest).await;
    let (mut app, relay) = application(&guest).await;
    app.write_all(b"second").await.unwrap();
    assert_eq!(opened(&mut framed).await, 1);
    assert_eq!(data(&mut framed).await, b"second");
    framed.write(FrameType::Accept, &accept(1)).await.unwrap();
    framed.write(FrameType::Data, b"answer").await.unwrap();
    framed.write(FrameType::Fin, b"").await.unwrap();
    app.shutdown().await.unwrap();
    let mut seen = vec![];
    app.read_to_end(&mut seen).await.unwrap();
    assert_eq!(seen, b"answer");
    relay.await.unwrap().unwrap();
}

#[tokio::test]
async fn reuse_a_waiting_connection_on_which_anything_came_is_not_used() {
    let refuse = Refuse { number: 0, code: RefuseCode::Limit, text: String::new() }.encode();
    for (what, kind, body) in [
        ("late DATA", FrameType::Data, b"late".to_vec()),
        ("late FIN", FrameType::Fin, vec![]),
        ("late ACCEPT", FrameType::Accept, accept(0)),
        ("ACCEPT before OPEN", FrameType::Accept, accept(1)),
        ("late REFUSE", FrameType::Refuse, refuse),
        ("CLOSE", FrameType::Close, Close { accepted: 1, ..Close::new(CloseCode::Idle, "") }.encode()),
    ] {
        let server = Liar::new().await;
        let guest = pooled(&server);
        let mut old = waiting(&server, &guest).await;
        old.write(kind, &body).await.unwrap();
        // Loopback is quick, but not instant.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let ((mut app, _relay), mut new) = tokio::join!(application(&guest), attested(&server));
        assert_eq!(opened(&mut new).await, 0, "{what}");
        app.write_all(b"x").await.unwrap();
        assert_eq!(data(&mut new).await, b"x", "{what}");
    }
}

#[tokio::test]
async fn reuse_before_its_accept_a_tunnel_takes_nothing_of_another_number() {
    let refuse = |number| Refuse { number, code: RefuseCode::Limit, text: String::new() }.encode();
    for (what, kind, body) in [
        ("DATA", FrameType::Data, b"of the tunnel before".to_vec()),
        ("FIN", FrameType::Fin, vec![]),
        ("ACCEPT of the tunnel before", FrameType::Accept, accept(0)),
        ("ACCEPT of the next", FrameType::Accept, accept(2)),
        ("REFUSE of the tunnel before", FrameType::Refuse, refuse(0)),
        ("OPEN", FrameType::Open, open(1, 0)),
    ] {
        let server = Liar::new().await;
        let guest = pooled(&server);
        let mut framed = waiting(&server, &guest).await;
        let (mut app, relay) = application(&guest).await;
        assert_eq!(opened(&mut framed).await, 1);
        framed.write(kind, &body).await.unwrap();
        let error = soon(what, app.read(&mut [0; 32])).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{what}");
        assert!(relay.await.unwrap().is_err(), "{what}");
        assert!(
            matches!(soon(what, framed.read()).await, Err(FramingError::Closed(close)) if close.code == CloseCode::Protocol && close.accepted == 1),
            "{what}"
        );
    }
}

#[tokio::test]
async fn reuse_what_a_close_says_was_not_accepted_is_repeated_whole_on_another_connection() {
    let server = Liar::new().await;
    let guest = pooled(&server);
    let mut old = waiting(&server, &guest).await;
    let (mut app, relay) = application(&guest).await;
    app.write_all(b"one").await.unwrap();
    assert_eq!((opened(&mut old).await, data(&mut old).await), (1, b"one".to_vec()));
    let close = async {
        old.close(&Close { accepted: 1, ..Close::new(CloseCode::Idle, "crossed the OPEN") }).await;
    };
    let again = async {
        let mut new = attested(&server).await;
        assert_eq!((opened(&mut new).await, data(&mut new).await), (0, b"one".to_vec()));
        app.write_all(b"two").await.unwrap();
        assert_eq!(data(&mut new).await, b"two");
        new.write(FrameType::Accept, &accept(0)).await.unwrap();
        new.write(FrameType::Data, b"answer").await.unwrap();
        new.write(FrameType::Fin, b"").await.unwrap();
        app.shutdown().await.unwrap();
        let mut seen = vec![];
        app.read_to_end(&mut seen).await.unwrap();
        assert_eq!(seen, b"answer");
    };
    soon("both", async { tokio::join!(close, again) }).await;
    relay.await.unwrap().unwrap();
}

#[tokio::test]
async fn reuse_what_may_have_had_effects_is_never_repeated() {
    let ends: [(&str, Option<Close>); 4] = [
        ("CLOSE counts it as accepted", Some(Close { accepted: 2, ..Close::new(CloseCode::Idle, "") })),
        ("CLOSE counts fewer than there were", Some(Close { accepted: 0, ..Close::new(CloseCode::Idle, "") })),
        ("CLOSE that is not innocent", Some(Close { accepted: 1, ..Close::new(CloseCode::Abort, "") })),
        ("the end of TCP, after DATA", None),
    ];
    for (what, close) in ends {
        let server = Liar::new().await;
        let guest = pooled(&server);
        let mut old = waiting(&server, &guest).await;
        let (mut app, relay) = application(&guest).await;
        app.write_all(b"one").await.unwrap();
        assert_eq!((opened(&mut old).await, data(&mut old).await), (1, b"one".to_vec()));
        match close {
            Some(close) => drop(tokio::spawn(old.close_owned(close))),
            None => drop(old),
        }
        let error = soon(what, app.read(&mut [0; 32])).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{what}");
        assert!(relay.await.unwrap().is_err(), "{what}");
        let another = tokio::time::timeout(Duration::from_millis(100), server.accept_tcp()).await;
        assert!(another.is_err(), "{what}: it was repeated");
    }
}

#[tokio::test]
async fn reuse_an_open_without_data_is_repeated_after_a_bare_end() {
    let server = Liar::new().await;
    let guest = pooled(&server);
    let mut old = waiting(&server, &guest).await;
    let (mut app, _relay) = application(&guest).await;
    assert_eq!(opened(&mut old).await, 1);
    drop(old);
    let mut new = attested(&server).await;
    assert_eq!(opened(&mut new).await, 0);
    app.write_all(b"x").await.unwrap();
    assert_eq!(data(&mut new).await, b"x");
}

#[tokio::test]
async fn reuse_an_aborted_tunnel_takes_its_connection_along() {
    let server = Liar::new().await;
    let guest = pooled(&server);
    let mut framed = waiting(&server, &guest).await;
    let (app, relay) = application(&guest).await;
    assert_eq!(opened(&mut framed).await, 1);
    framed.write(FrameType::Accept, &accept(1)).await.unwrap();
    proxy_core::net::LocalStream::from(app).abort();
    assert!(relay.await.unwrap().is_err());
    assert!(
        matches!(soon("CLOSE", framed.read()).await, Err(FramingError::Closed(close)) if close.code == CloseCode::Abort && close.accepted == 2)
    );
    let ((_app, _relay), mut new) = tokio::join!(application(&guest), attested(&server));
    assert_eq!(opened(&mut new).await, 0, "the next one is fresh");
}
