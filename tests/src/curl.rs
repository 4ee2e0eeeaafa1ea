//! curl, as anybody has it, by each way into the client proxy.

use std::path::Path;

use crate::{Client, Program, python};

/// curl without the user's configuration and proxies, unbuffered, ended after a minute at the latest.
pub fn curl() -> Program {
    let curl = Program::new("curl").args(["--disable", "--silent", "--show-error", "--no-buffer", "--max-time", "60"]);
    python::without_proxies(curl)
}

/// A way to the upstream for an HTTP client.
#[derive(Clone, Debug)]
pub struct Way {
    pub name: &'static str,
    /// What curl is told beside the URL.
    pub args: Vec<String>,
    /// The URL without its path.
    pub base: String,
}

impl Way {
    /// The port map, CONNECT, SOCKS5 and the absolute form. The policy must list `name`.
    pub fn all(client: &Client, name: &str) -> [Way; 4] {
        let proxy = format!("http://{}", client.http_proxy());
        let named = format!("http://{name}");
        let args = |args: &[&str]| args.iter().map(|arg| (*arg).to_owned()).collect();
        [
            Way { name: "port map", args: vec![], base: format!("http://{}", client.listen()) },
            Way { name: "CONNECT", args: args(&["--proxytunnel", "--proxy", &proxy]), base: named.clone() },
            Way {
                name: "SOCKS5",
                args: args(&["--socks5-hostname", &client.socks5().to_string()]),
                base: named.clone(),
            },
            Way { name: "absolute form", args: args(&["--proxy", &proxy]), base: named },
        ]
    }

    /// curl to this path.
    pub fn curl(&self, path: &str) -> Program {
        curl().named(self.name).args(&self.args).arg(format!("{}{path}", self.base))
    }

    /// curl to this path, into a file.
    pub fn download(&self, path: &str, into: &Path) -> Program {
        self.curl(path).arg("--output").arg(into)
    }
}
