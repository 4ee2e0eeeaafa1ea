//! What systemd is told (`Type=notify`): ready, stopping, and one line of status. Nothing happens where no
//! `NOTIFY_SOCKET` is set.

use ratls::text::deceives;
use sd_notify::NotifyState;

/// To be called when the proxy serves: bound, and its own evidence verified.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
}

pub fn status(status: &str) {
    send(&[NotifyState::Status(&one_line(status))]);
}

/// To be called when the drain begins.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// A failure to notify is systemd's to see (it will time the start out); the proxy itself works.
fn send(state: &[NotifyState<'_>]) {
    if let Err(e) = sd_notify::notify(state) {
        tracing::warn!(error = %e, "cannot notify the service manager");
    }
}

/// A line break in a status would start another assignment of the notify protocol.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if deceives(c) { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::one_line;

    #[test]
    fn a_status_cannot_smuggle_another_assignment() {
        assert_eq!(one_line("serving\nMAINPID=1"), "serving MAINPID=1");
    }
}
