//! `evident-client inspect`: attests a guest once, shows what it proves, and sends it nothing.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use proxy_core::exit::{FAILED as EXIT_UNREACHABLE, USAGE as EXIT_USAGE};
use proxy_core::net::{Addr, AddrError};
use proxy_core::tasks::Tasks;
use proxy_core::tls::client_config;
use ratls::appraise::AttestationResult;
use ratls::endorsement::TrustAnchors;
use rustls::pki_types::ServerName;

use crate::cli::InspectArgs;
use crate::dial::{Deadlines, Target};
use crate::tools::{self, Output};

pub async fn run(args: InspectArgs) -> ExitCode {
    inspect(args).await.emit()
}

async fn inspect(args: InspectArgs) -> Output {
    let (policy, anchors) = match args.policy.as_deref().map(tools::policy::load).transpose() {
        Ok(Some(loaded)) => (Some(Arc::new(loaded.policy)), loaded.anchors),
        Ok(None) => (None, TrustAnchors::amd()),
        Err(error) => return tools::policy::refused(&error),
    };
    let subject = args.guest.to_string();
    let target = match target(args.guest, policy, anchors) {
        Ok(target) => target,
        Err(error) => return tools::failed(EXIT_USAGE, error.as_ref(), "Give the guest as HOST:PORT."),
    };
    let mut shown = match target.show().await {
        Ok(shown) => shown,
        Err(error) => {
            // A CLOSE may be on its way.
            target.tasks.drain(Duration::from_secs(3)).await;
            return tools::failed(
                EXIT_UNREACHABLE,
                &error,
                "Is evident-proxy listening there, and reachable from here?",
            );
        }
    };
    let result = match shown.result(&target).await {
        Ok(result) => result,
        Err(error) => {
            return tools::failed(EXIT_UNREACHABLE, &error, "The guest did not answer what belongs to its evidence.");
        }
    };
    let mut output = tools::inspect_view::output_with_html(&result, args.json, args.html.as_deref(), &subject);
    if let Some(path) = &args.save
        && let Err(error) = std::fs::write(path, shown.bundle().encode())
    {
        return tools::failed(
            EXIT_UNREACHABLE,
            &error,
            &format!("The bundle could not be written to {}.", path.display()),
        );
    }
    if let Some(path) = &args.save {
        output.stderr.push_str(&format!("saved the evidence to {}\n", path.display()));
    }
    shown.close().await;
    output
}

/// One look at a guest for the tools: what it proves, without a policy.
pub(crate) async fn look(guest: &str, anchors: TrustAnchors) -> Result<AttestationResult, Output> {
    let usage = |error: &dyn std::error::Error| tools::failed(EXIT_USAGE, error, "Give the guest as HOST:PORT.");
    let address: proxy_core::net::HostPort = guest.parse().map_err(|error: AddrError| usage(&error))?;
    let target = target(Addr::Tcp(address), None, anchors).map_err(|error| usage(error.as_ref()))?;
    let away = |error: &dyn std::error::Error| {
        tools::failed(EXIT_UNREACHABLE, error, "Is evident-proxy listening there, and reachable from here?")
    };
    let mut shown = target.show().await.map_err(|error| away(&error))?;
    let result = shown.result(&target).await.map_err(|error| away(&error))?;
    shown.close().await;
    Ok(result)
}

fn target(
    guest: Addr,
    policy: Option<Arc<ratls::policy::AppraisalPolicy>>,
    anchors: TrustAnchors,
) -> anyhow::Result<Target> {
    let host = match &guest {
        Addr::Tcp(address) => address.host().to_string(),
        other => other.to_string(),
    };
    Ok(Target {
        server_name: ServerName::try_from(host)?,
        addresses: vec![guest],
        tls: Arc::new(client_config(None)?),
        policy,
        anchors: Arc::new(anchors),
        known: Arc::default(),
        token: None,
        deadlines: Deadlines {
            connect: Duration::from_secs(10),
            handshake: Duration::from_secs(10),
            attest: Duration::from_secs(20),
            accept: Duration::from_secs(10),
            idle: None,
            lifetime: Duration::from_secs(60),
        },
        tasks: Tasks::new(),
        audit: None,
    })
}
