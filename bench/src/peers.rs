//! Pairs of processes on loopback: `client (plain in) → TLS 1.3 → server (plain out) → upstream`.
//!
//! All with TLS 1.3, a P-256 leaf, X25519 and AES-128-GCM where that can be said, no tickets, no resumption, two workers. Ours
//! is attested, by the simulator: SIMULATED, PROVES NOTHING; it chooses X25519MLKEM768, as it does elsewhere.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

pub(crate) const ALL: [&str; 4] = ["evident", "nginx", "haproxy", "stunnel"];

/// A pair that runs. Its processes end with it.
pub(crate) struct Pair {
    pub(crate) name: &'static str,
    pub(crate) client: SocketAddr,
    pub(crate) server: SocketAddr,
    halves: Vec<Child>,
}

/// Where a pair is to be and what it needs.
pub(crate) struct Place<'a> {
    pub(crate) binaries: &'a Path,
    pub(crate) directory: PathBuf,
    pub(crate) upstream: SocketAddr,
    pub(crate) client: SocketAddr,
    pub(crate) server: SocketAddr,
}

impl Drop for Pair {
    fn drop(&mut self) {
        for half in &mut self.halves {
            for pid in crate::proc::tree(half.id()) {
                if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
            }
            let _ = half.wait();
        }
    }
}

impl Pair {
    pub(crate) fn start(name: &'static str, place: &Place<'_>) -> Result<Pair> {
        fs::create_dir_all(&place.directory)?;
        certificates(&place.directory)?;
        let mut pair = Pair { name, client: place.client, server: place.server, halves: Vec::new() };
        for (half, address) in [("server", place.server), ("client", place.client)] {
            let mut command = match name {
                "evident" => evident(half, place)?,
                "nginx" => nginx(half, place)?,
                "haproxy" => haproxy(half, place)?,
                "stunnel" => stunnel(half, place)?,
                other => bail!("no pair is called {other}"),
            };
            let log = File::create(place.directory.join(format!("{half}.log")))?;
            command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
            pair.halves.push(command.spawn().with_context(|| format!("starting the {half} of {name}"))?);
            wait_for(address).with_context(|| format!("the {half} of {name}"))?;
        }
        Ok(pair)
    }

    /// CPU seconds of client half and server half so far.
    pub(crate) fn cpu(&self) -> [f64; 2] {
        self.both(crate::proc::cpu_seconds)
    }

    pub(crate) fn memory_kib(&self) -> [f64; 2] {
        self.both(crate::proc::memory_kib)
    }

    fn both(&self, of: impl Fn(u32) -> f64) -> [f64; 2] {
        let of = |half: usize| self.halves.get(half).map_or(0.0, |child| of(child.id()));
        [of(1), of(0)]
    }
}

fn wait_for(address: SocketAddr) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(20);
    while Instant::now() < until {
        if TcpStream::connect(address).is_ok() {
            return Ok(());
        }
        sleep(Duration::from_millis(50));
    }
    bail!("nothing listens on {address}")
}

fn certificates(directory: &Path) -> Result<()> {
    let key = rcgen::KeyPair::generate()?;
    let certificate = rcgen::CertificateParams::new(["localhost".to_owned()])?.self_signed(&key)?;
    fs::write(directory.join("leaf.pem"), certificate.pem())?;
    fs::write(directory.join("key.pem"), key.serialize_pem())?;
    fs::write(directory.join("both.pem"), certificate.pem() + &key.serialize_pem())?;
    Ok(())
}

const POLICY: &str = r#"version = 1
profiles = ["snp"]
identity = "any"
[snp]
measurements = ["5538e97d21fa4ecaeb9286d989ffc8627f389c8ee2e6a565acdd27418d75c2d6e26267ca057094c1431c0503f576561e"]
signing_keys = ["vcek"]
smt = "allow"
[snp.minimum_tcb.milan]
bl = 4
tee = 0
snp = 24
ucode = 219
[roots]
simulator = "simulator/root.pem"
"#;

/// Every connection comes from one address here, so the limits per source are raised.
const GUEST: &str = "[limits]\nconnections = 20000\nconnections_per_source = 20000\n\
    idle_connections_per_source = 20000\npending_leaves_per_source = 16384\n";
const CLIENT: &str = "[limits]\nconnections = 20000\nconnections_per_source = 20000\n";

fn evident(half: &str, place: &Place<'_>) -> Result<Command> {
    let directory = &place.directory;
    if half == "server" {
        fs::create_dir_all(directory.join("simulator"))?;
        fs::write(directory.join("simulator/simulator.toml"), "latency_ms = 1\n")?;
        fs::write(directory.join("guest.toml"), GUEST)?;
        let mut command = Command::new(place.binaries.join("evident-proxy"));
        command.args(["--upstream", &place.upstream.to_string(), "--listen", &place.server.to_string(), "--config"]);
        command.arg(directory.join("guest.toml"));
        command.arg(format!("--simulate={}", directory.join("simulator").display())).env("RUST_LOG", "error");
        return Ok(command);
    }
    fs::write(directory.join("policy.toml"), POLICY)?;
    fs::write(directory.join("client.toml"), CLIENT)?;
    let mut command = Command::new(place.binaries.join("evident-client"));
    command.args(["--guest", &place.server.to_string(), "--listen", &place.client.to_string(), "--policy"]);
    command.arg(directory.join("policy.toml")).arg("--config").arg(directory.join("client.toml"));
    command.env("RUST_LOG", "error");
    Ok(command)
}

fn nginx(half: &str, place: &Place<'_>) -> Result<Command> {
    let directory = place.directory.display();
    let server = match half {
        "server" => format!(
            "listen {} ssl backlog=4096 reuseport; proxy_pass {}; ssl_certificate {directory}/leaf.pem; \
             ssl_certificate_key {directory}/key.pem; ssl_protocols TLSv1.3; ssl_ecdh_curve X25519; \
             ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256; ssl_session_tickets off; ssl_session_cache off;",
            place.server, place.upstream
        ),
        _ => format!(
            "listen {} backlog=4096 reuseport; proxy_pass {}; proxy_ssl on; proxy_ssl_protocols TLSv1.3; \
             proxy_ssl_verify on; proxy_ssl_trusted_certificate {directory}/leaf.pem; proxy_ssl_name localhost; \
             proxy_ssl_server_name on; proxy_ssl_session_reuse off; \
             proxy_ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;",
            place.client, place.server
        ),
    };
    let file = place.directory.join(format!("{half}.conf"));
    fs::write(
        &file,
        format!(
            "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\nuser root;\ndaemon off;\nworker_processes 2;\n\
             worker_rlimit_nofile 20000;\npid {directory}/{half}.pid;\nerror_log {directory}/{half}.err error;\n\
             events {{ worker_connections 20000; multi_accept on; }}\n\
             stream {{ tcp_nodelay on; proxy_buffer_size 16k; server {{ {server} }} }}\n"
        ),
    )?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(&place.directory).arg("-c").arg(file);
    Ok(command)
}

fn haproxy(half: &str, place: &Place<'_>) -> Result<Command> {
    let directory = place.directory.display();
    let (bind, to) = match half {
        "server" => (
            format!("{} ssl crt {directory}/both.pem curves X25519 no-tls-tickets", place.server),
            place.upstream.to_string(),
        ),
        _ => (
            place.client.to_string(),
            format!(
                "{} ssl verify required ca-file {directory}/leaf.pem verifyhost localhost sni str(localhost) no-ssl-reuse",
                place.server
            ),
        ),
    };
    let file = place.directory.join(format!("{half}.cfg"));
    fs::write(
        &file,
        format!(
            "global\n nbthread 2\n maxconn 4000\n tune.ssl.cachesize 0\n ssl-default-bind-options ssl-min-ver TLSv1.3\n \
             ssl-default-server-options ssl-min-ver TLSv1.3\n \
             ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256\n \
             ssl-default-server-ciphersuites TLS_AES_128_GCM_SHA256\n\
             defaults\n mode tcp\n maxconn 4000\n timeout connect 10s\n timeout client 120s\n timeout server 120s\n\
             listen pair\n bind {bind}\n server next {to}\n"
        ),
    )?;
    let mut command = Command::new("haproxy");
    command.arg("-q").arg("-db").arg("-f").arg(file);
    Ok(command)
}

fn stunnel(half: &str, place: &Place<'_>) -> Result<Command> {
    let directory = place.directory.display();
    let service = match half {
        "server" => format!(
            "accept = {}\nconnect = {}\ncert = {directory}/both.pem\ncurves = X25519\n",
            place.server, place.upstream
        ),
        _ => format!(
            "client = yes\naccept = {}\nconnect = {}\nCAfile = {directory}/leaf.pem\nverifyChain = yes\n\
             checkHost = localhost\nsni = localhost\n",
            place.client, place.server
        ),
    };
    let file = place.directory.join(format!("{half}.stunnel"));
    fs::write(
        &file,
        format!(
            "foreground = yes\npid =\nsyslog = no\ndebug = err\n[pair]\nsslVersionMin = TLSv1.3\nsessionResume = no\n\
             ciphersuites = TLS_AES_128_GCM_SHA256\n{service}"
        ),
    )?;
    let mut command = Command::new("stunnel4");
    command.arg(file);
    Ok(command)
}
