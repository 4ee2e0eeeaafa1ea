//! The reverse proxy itself: start, serve, drain.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use attester::endorse::Standing;
use proxy_core::admin::{self, Pages, Readiness};
use proxy_core::limits::Connections;
use proxy_core::metrics::Metrics;
use proxy_core::net::Listener;
use proxy_core::nofile::Descriptors;
use proxy_core::signals::Signals;
use proxy_core::tasks::{Holding, Tasks};
use proxy_core::workers::Workers;
use proxy_core::{notify, telemetry};
use ratls::appraise::AttestationResult;
use ratls::crypto::sha256;
use tokio::sync::watch;

use crate::config::Config;
use crate::plain::further_upstreams;
use crate::serve::Guest;
use crate::start::{Ready, settings_bytes, start};
use crate::version::VERSION;

/// For the admin page and the batcher to end after the connections.
const LAST_DRAIN: Duration = Duration::from_secs(1);

/// Serves until SIGTERM or SIGINT.
pub async fn run(config: Config) -> Result<ExitCode> {
    let _log = telemetry::init(config.log.format, &config.log.level).context("cannot set up logging")?;
    tracing::info!(version = VERSION, "starting");
    let mut signals = Signals::watch().context("cannot watch for signals")?;
    let metrics = Arc::new(Metrics::new("evident-proxy", VERSION));
    let limits = &config.limits;
    let connections = Connections::new(
        Descriptors::raised().fit(limits.max_connections.get(), further_upstreams(&config)),
        limits.max_connections_per_source.get(),
    );
    let tasks = Tasks::new().over(Workers::start().context("cannot start the threads that serve")?);
    // What connections need until they have ended is drained after them.
    let background = Tasks::new();

    let ready = tokio::select! {
        ready = start(&config, metrics.clone(), tasks.clone(), background.clone()) => ready?,
        _ = signals.termination() => return Ok(ExitCode::SUCCESS),
    };
    let Ready { guest, standing, device_failure, result } = ready;
    let listener = Listener::bind(&config.listen).await.context("cannot serve")?;
    let address = listener.local_addr().map_or_else(|_| config.listen.to_string(), |addr| addr.to_string());
    if config.is_open_to_anyone() {
        tracing::warn!(
            %address,
            "anyone who reaches this port can use the server: evident-client asks no permission; \
             set clients.tokens_file or clients.ca_file, or listen on loopback"
        );
    }
    let notice = if result.simulated() { "SIMULATED, PROVES NOTHING: " } else { "" };
    tracing::info!(%address, upstream = %config.upstream.addr, "{notice}serving");
    for finding in result.findings() {
        tracing::debug!(
            id = finding.id(),
            severity = finding.severity().as_str(),
            seen = finding.seen(),
            "our own evidence"
        );
    }
    if let Some(addr) = &config.admin {
        let admin_listener = Listener::bind(addr.addr()).await.context("cannot serve the admin page")?;
        tracing::info!(address = %addr.addr(), "admin page");
        let page = Page { standing, device_failure, result, metrics: metrics.clone(), tasks: tasks.clone() };
        background.spawn("admin", admin::serve(admin_listener, Arc::new(page), background.clone()));
    }
    tasks.spawn("accept", accept(listener, guest, connections, tasks.clone(), metrics));
    notify::ready("serving");

    let signal = signals.termination().await;
    tracing::info!(signal, "draining");
    notify::stopping();
    signals.drain(&tasks, limits.drain_deadline.get()).await;
    background.drain(LAST_DRAIN).await;
    Ok(ExitCode::SUCCESS)
}

async fn accept(listener: Listener, guest: Arc<Guest>, connections: Connections, tasks: Tasks, metrics: Arc<Metrics>) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = tasks.draining() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::error!(%error, "the listener failed; no further connection is accepted");
                return;
            }
        };
        match connections.try_admit(peer) {
            Ok(permit) => {
                let guest = guest.clone();
                tasks.spawn_connection("connection", stream, move |stream| {
                    Holding::new(guest.serve(stream, peer), permit)
                });
            }
            Err(refusal) => {
                tracing::warn!(%peer, reason = refusal.reason(), %refusal, "connection refused");
                metrics.refused_connection(refusal.reason());
                stream.abort();
            }
        }
    }
}

/// What `check-config` prints.
pub fn describe(config: &Config) -> String {
    let measured = config.measured_settings();
    let mut out = String::from("# what the statement commits to (key 11)\n");
    for (name, value) in &measured {
        let _ = writeln!(out, "{name} = {value:?}");
    }
    let _ = writeln!(out, "config = \"{}\"", sha256(&[&settings_bytes(&measured)]));
    out.push_str("# everything else\n");
    for (name, value) in config.other_settings() {
        let _ = writeln!(out, "{name} = {value:?}");
    }
    out
}

struct Page {
    standing: watch::Receiver<Standing>,
    device_failure: watch::Receiver<Option<String>>,
    result: AttestationResult,
    metrics: Arc<Metrics>,
    tasks: Tasks,
}

impl Pages for Page {
    fn readiness(&self) -> Readiness {
        if self.tasks.is_draining() {
            return Readiness::NotReady { why: "draining".into() };
        }
        if let Some(why) = &*self.device_failure.borrow() {
            return Readiness::NotReady { why: format!("the device gives no reports: {why}") };
        }
        let why = match &*self.standing.borrow() {
            Standing::Endorsed(_) => return Readiness::Ready,
            Standing::Pending => "no endorsements yet".to_owned(),
            Standing::Failed(error) => format!("the reports of this guest cannot be endorsed: {error}"),
        };
        Readiness::NotReady { why }
    }

    fn verdict(&self) -> String {
        self.result.to_json().to_string()
    }

    fn metrics(&self) -> String {
        self.metrics.encode()
    }
}
