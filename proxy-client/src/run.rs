//! The forward proxy itself: from a checked configuration to a drained end.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use proxy_core::admin::{self, Overview, Pages, Readiness};
use proxy_core::limits::Connections;
use proxy_core::metrics::Metrics;
use proxy_core::net::{Addr, Listener};
use proxy_core::nofile::Descriptors;
use proxy_core::signals::Signals;
use proxy_core::tasks::Tasks;
use proxy_core::workers::Workers;
use proxy_core::{notify, telemetry};

use ratls::appraise::html;
use ratls::text::json_for_people;

use crate::audit::AuditLog;
use crate::config::Config;
use crate::dial::now;
use crate::front::http::{self, HttpProxy};
use crate::front::{Entrance, port_map, socks5};
use crate::guest::{Guest, Opens};
use crate::open::Opener;
use crate::page;
use crate::retry::Retry;
use crate::router::ByName;

/// For the admin page to answer the last question after the drain.
const ADMIN_DRAIN: Duration = Duration::from_secs(1);

/// Serves until SIGTERM or SIGINT.
pub async fn run(config: Config) -> Result<ExitCode> {
    let _log = telemetry::init(config.log_format, &config.log_level).context("cannot set up logging")?;
    for caution in config.cautions() {
        tracing::warn!("{caution}");
    }
    let mut signals = Signals::watch().context("cannot watch for signals")?;
    let metrics = Arc::new(Metrics::new("evident-client", env!("CARGO_PKG_VERSION")));
    let mut limits = config.limits;
    let (descriptors, pools) = (Descriptors::raised(), config.guests.len());
    limits.pool.connections = descriptors.pooled(limits.pool.connections, pools);
    let kept = limits.pool.connections * pools;
    let connections = Connections::new(descriptors.fit(limits.connections, kept), limits.connections_per_source);
    let tasks = Tasks::new().over(Workers::start().context("cannot start the threads that serve")?);
    let admin_tasks = Tasks::new();

    let audit = match &config.audit {
        None => None,
        Some((folder, bounds)) => {
            Some(Arc::new(AuditLog::open(folder, *bounds).context("no verdict could be written down")?))
        }
    };
    let port_maps: Vec<Option<Addr>> = config.guests.iter().map(|guest| guest.listen.clone()).collect();
    let guests = config
        .guests
        .into_iter()
        .map(|guest| {
            let kept = match &audit {
                Some(log) => Some((log.clone(), log.keep_policy(guest.policy.policy.digest(), &guest.policy.source)?)),
                None => None,
            };
            let guest = Guest::new(guest, &limits, metrics.clone(), tasks.clone())?;
            Ok(Arc::new(match kept {
                Some((log, policy)) => guest.audited(log, policy),
                None => guest,
            }))
        })
        .collect::<Result<Vec<_>>>()?;
    let by_name: Arc<dyn Opener> = Arc::new(ByName::new(
        config.router,
        guests.iter().map(|guest| Arc::new(Opens(guest.clone())) as Arc<dyn Opener>).collect(),
    ));

    let entrance = async |way: &'static str, addr: &Addr, too_many: &'static [u8]| -> Result<Entrance> {
        let listener = Listener::bind(addr).await.with_context(|| format!("cannot serve {way}"))?;
        let bound = listener.local_addr().map_or_else(|_| addr.to_string(), |addr| addr.to_string());
        tracing::info!(way, address = %bound, "listening");
        let (connections, tasks, metrics) = (connections.clone(), tasks.clone(), metrics.clone());
        Ok(Entrance { way, listener, connections, tasks, metrics, too_many })
    };
    for (guest, addr) in guests.iter().zip(&port_maps) {
        if let Some(addr) = addr {
            let entrance = entrance(port_map::WAY, addr, b"").await?;
            let (opener, label): (Arc<dyn Opener>, Arc<str>) =
                (Arc::new(Opens(guest.clone())), guest.label.as_str().into());
            tasks.spawn(
                "port map",
                entrance.accept(move |local, peer| port_map::serve(opener.clone(), label.clone(), local, peer)),
            );
        }
    }
    if let Some(addr) = &config.http_proxy {
        let entrance = entrance(http::WAY, addr, http::TOO_MANY).await?;
        let proxy = Arc::new(HttpProxy {
            opener: by_name.clone(),
            deadlines: limits.http(),
            max_head_bytes: limits.head_bytes,
            add_verdict_headers: config.add_verdict_headers,
        });
        let drain = tasks.clone();
        tasks.spawn(
            "http proxy",
            entrance.accept(move |local, peer| {
                let drain = drain.clone();
                http::serve(proxy.clone(), local, peer, async move { drain.draining().await })
            }),
        );
    }
    if let Some(addr) = &config.socks5 {
        let entrance = entrance(socks5::WAY, addr, socks5::TOO_MANY).await?;
        let opener = by_name.clone();
        tasks.spawn(
            "socks5",
            entrance.accept(move |local, peer| socks5::serve(opener.clone(), limits.request, local, peer)),
        );
    }
    if let Some(addr) = &config.admin {
        let listener = Listener::bind(addr.addr()).await.context("cannot serve the admin page")?;
        tracing::info!(address = %addr.addr(), "admin page");
        let pages = Arc::new(Page { guests: guests.clone(), metrics: metrics.clone(), tasks: tasks.clone() });
        admin_tasks.spawn("admin", admin::serve(listener, pages, admin_tasks.clone()));
    }
    for guest in &guests {
        tasks.spawn("probe", probe(guest.clone(), tasks.clone()));
    }
    notify::ready("serving");

    let signal = signals.termination().await;
    tracing::info!(signal, "draining");
    notify::stopping();
    signals.drain(&tasks, limits.drain).await;
    admin_tasks.drain(ADMIN_DRAIN).await;
    Ok(ExitCode::SUCCESS)
}

/// Attests a guest at start, and again until it succeeds once, so that readiness does not wait for an application. From then
/// on keeps its pool.
async fn probe(guest: Arc<Guest>, tasks: Tasks) {
    let mut retry = Retry::new(guest.label.clone());
    loop {
        let pause = tokio::select! {
            () = tasks.draining() => return,
            result = guest.probe() => match result {
                Ok(()) => break,
                Err(error) => retry.after(&error),
            },
        };
        tokio::select! {
            () = tasks.draining() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
    retry.attested();
    guest.keep_pool().await;
}

struct Page {
    guests: Vec<Arc<Guest>>,
    metrics: Arc<Metrics>,
    tasks: Tasks,
}

impl Pages for Page {
    fn readiness(&self) -> Readiness {
        if self.tasks.is_draining() {
            return Readiness::NotReady { why: "draining".into() };
        }
        if self.guests.iter().any(|guest| guest.latest().is_some_and(|(_, attested)| attested)) {
            Readiness::Ready
        } else {
            Readiness::NotReady { why: "no guest was attested yet".into() }
        }
    }

    fn verdict(&self) -> String {
        let guests: Vec<_> = self
            .guests
            .iter()
            .map(|guest| {
                serde_json::json!({
                    "guest": guest.label,
                    "result": guest.latest().map(|(result, _)| result.to_json()),
                })
            })
            .collect();
        json_for_people(&serde_json::json!({ "guests": guests }).to_string())
    }

    fn metrics(&self) -> String {
        self.metrics.encode()
    }

    fn overview(&self) -> Option<Overview> {
        let ready = match self.readiness() {
            Readiness::Ready => "ready".to_owned(),
            Readiness::NotReady { why } => format!("not ready: {why}"),
        };
        Some(Overview { html: page::page(&self.guests, &ready, now()), style: html::STYLE })
    }
}
