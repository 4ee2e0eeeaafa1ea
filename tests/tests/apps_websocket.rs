//! examples/websocket: an upgraded connection carries messages of all sizes both ways, through the port map and CONNECT.

use anyhow::{Result, ensure};
use evident_tests::ports::free_addr;
use evident_tests::wait::PATIENCE;
use evident_tests::{Client, Guest, python};

const NAME: &str = "websocket.example";

#[test]
fn apps_websocket_echoes_through_the_port_map_and_connect() -> Result<()> {
    let upstream = free_addr()?;
    let mut server = python::example("websocket/server.py")?.arg(upstream.port().to_string()).spawn()?;
    server.wait_for_port(upstream, PATIENCE)?;
    let guest = Guest::in_front_of(upstream).start()?;
    let client = Client::of(&guest, &[NAME]).start()?;
    let mapped = vec![format!("ws://{}", client.listen())];
    let connect = vec![format!("ws://{NAME}/"), format!("http://{}", client.http_proxy())];
    for args in [mapped, connect] {
        let output = python::example("websocket/client.py")?.args(&args).run(PATIENCE)?.success()?;
        ensure!(output.contains("closed with 1000"), "{args:?}: {output}");
    }
    Ok(())
}
