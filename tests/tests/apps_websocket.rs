//! examples/websocket: an upgraded connection carries messages of all sizes both ways, by every way in that a client has.

use anyhow::{Result, ensure};
use evident_tests::ports::free_addr;
use evident_tests::wait::PATIENCE;
use evident_tests::{Client, Guest, python};

#[test]
fn apps_websocket_echoes_through_the_port_map() -> Result<()> {
    let upstream = free_addr()?;
    let mut server = python::example("websocket/server.py")?.arg(upstream.port().to_string()).spawn()?;
    server.wait_for_port(upstream, PATIENCE)?;
    let guest = Guest::in_front_of(upstream).start()?;
    let client = Client::of(&guest, &[]).start()?;
    let url = format!("ws://{}", client.listen());
    let output = python::example("websocket/client.py")?.arg(url).run(PATIENCE)?.success()?;
    ensure!(output.contains("closed with 1000"), "{output}");
    Ok(())
}
