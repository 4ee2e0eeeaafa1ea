//! examples/grpc: HTTP/2 without TLS of its own, through the port map and CONNECT: unary, streams, trailers, status, many at once.

use anyhow::{Result, ensure};
use evident_tests::ports::free_addr;
use evident_tests::wait::PATIENCE;
use evident_tests::{Client, Guest, python};

const NAME: &str = "grpc.example";

#[test]
fn apps_grpc_calls_of_every_kind_pass() -> Result<()> {
    let upstream = free_addr()?;
    let mut server = python::example("grpc/server.py")?.arg(upstream.port().to_string()).spawn()?;
    server.wait_for_port(upstream, PATIENCE)?;
    let guest = Guest::in_front_of(upstream).start()?;
    let client = Client::of(&guest, &[NAME]).start()?;
    let mapped = vec![client.listen().to_string()];
    let connect = vec![format!("{NAME}:80"), format!("http://{}", client.http_proxy())];
    for args in [mapped, connect] {
        let output = python::example("grpc/client.py")?.args(&args).run(PATIENCE)?.success()?;
        ensure!(output.contains("200 parallel calls"), "{args:?}: {output}");
    }
    Ok(())
}
