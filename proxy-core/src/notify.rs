//! What systemd is told (`Type=notify`): ready, stopping, and one line of status. Nothing happens where no
//! `NOTIFY_SOCKET` is set.

use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use sd_notify::NotifyState;

/// Messages that may wait for the service manager; it needs none of them to be ours.
const MAX_QUEUED: usize = 16;

enum ServiceState {
    Ready { status: String },
    Status(String),
    Stopping,
}

/// To be called when the proxy serves: bound, and its own evidence verified.
pub fn ready(status: &str) {
    send(ServiceState::Ready { status: one_line(status) });
}

pub fn status(status: &str) {
    send(ServiceState::Status(one_line(status)));
}

/// To be called when the drain begins.
pub fn stopping() {
    send(ServiceState::Stopping);
}

/// A failure to notify is systemd's to see (it will time the start out); the proxy itself works. Nor does it wait: a
/// manager that does not read its socket holds up a thread that does nothing else.
fn send(state: ServiceState) {
    static NOTIFIER: OnceLock<Option<SyncSender<ServiceState>>> = OnceLock::new();
    if let Some(notifier) = NOTIFIER.get_or_init(start)
        && notifier.try_send(state).is_err()
    {
        tracing::warn!("the service manager does not take notifications");
    }
}

fn start() -> Option<SyncSender<ServiceState>> {
    std::env::var_os("NOTIFY_SOCKET")?;
    let (sender, receiver) = sync_channel(MAX_QUEUED);
    match std::thread::Builder::new().name("notify".into()).spawn(|| tell(receiver)) {
        Ok(_) => Some(sender),
        Err(error) => {
            tracing::warn!(%error, "cannot notify the service manager");
            None
        }
    }
}

fn tell(states: Receiver<ServiceState>) {
    for state in states {
        let sent = match &state {
            ServiceState::Ready { status } => sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(status)]),
            ServiceState::Status(status) => sd_notify::notify(&[NotifyState::Status(status)]),
            ServiceState::Stopping => sd_notify::notify(&[NotifyState::Stopping]),
        };
        if let Err(error) = sent {
            tracing::warn!(%error, "cannot notify the service manager");
        }
    }
}

/// A line break in a status would start another assignment of the notify protocol.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::one_line;

    #[test]
    fn a_status_cannot_smuggle_another_assignment() {
        assert_eq!(one_line("serving\nMAINPID=1"), "serving MAINPID=1");
    }
}
