//! examples/inference: the stock llama.cpp server in the guest, the stock openai client streaming tokens from it.
//!
//! Runs where the server's wheel is in the Python environment (`cargo xtask setup --llm` builds it). Elsewhere it skips, and
//! says so, unless EVIDENT_REQUIRE_LLM=1.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use evident_tests::ports::free_addr;
use evident_tests::wait::{self, PATIENCE};
use evident_tests::{Client, Guest, Program, http, python};

const NAME: &str = "apps_inference_streams_tokens_through_the_port_map";

#[test]
fn apps_inference_streams_tokens_through_the_port_map() -> Result<()> {
    let Some(model) = model()? else { return Ok(()) };
    let upstream = free_addr()?;
    let mut server = python::console_script("llama-cpp-server")?
        .args(["--model", &model, "--host", "127.0.0.1", "--port", &upstream.port().to_string(), "--ctx-size", "2048"])
        .spawn()?;
    // It listens before it has read the model, and says so with 503.
    server.wait_for_port(upstream, PATIENCE)?;
    wait::until("the model to be loaded", 2 * PATIENCE, || {
        Ok(http::fetch(upstream, "/health").ok().filter(|answer| answer.status == 200))
    })?;

    let guest = Guest::in_front_of(upstream).start()?;
    let client = Client::of(&guest, &[]).start()?;
    let direct = chat(&format!("http://{upstream}/v1"))?;
    let tunnelled = chat(&format!("http://{}/v1", client.listen()))?;
    println!("direct:    {}\ntunnelled: {}", direct.summary, tunnelled.summary);

    ensure!(direct.text == tunnelled.text, "{:?} is not {:?}", tunnelled.text, direct.text);
    ensure!(tunnelled.pieces > 10, "{}", tunnelled.summary);
    ensure!(tunnelled.last > tunnelled.first, "the answer came in one piece: {}", tunnelled.summary);
    Ok(())
}

struct Chat {
    text: String,
    summary: String,
    pieces: usize,
    first: f32,
    last: f32,
}

fn chat(base: &str) -> Result<Chat> {
    let output = python::example("inference/chat.py")?.arg(base).run(Duration::from_secs(120))?.success()?;
    let (text, summary) = output.trim_end().rsplit_once('\n').context("an answer and a summary")?;
    let numbers: Vec<f32> = summary.split([' ', ',']).filter_map(|word| word.parse().ok()).collect();
    let [pieces, first, last] = numbers.as_slice() else { bail!("three numbers in {summary:?}") };
    Ok(Chat {
        text: text.to_owned(),
        summary: summary.to_owned(),
        pieces: *pieces as usize,
        first: *first,
        last: *last,
    })
}

/// The model's file, or `None` where the LLM is not installed and nobody insists.
fn model() -> Result<Option<String>> {
    let found: Program = python::example("inference/model.py")?;
    let found = found.run(PATIENCE)?;
    if found.status.success() {
        return Ok(Some(found.stdout.trim().to_owned()));
    }
    let required = std::env::var_os("EVIDENT_REQUIRE_LLM").is_some_and(|value| value == "1");
    ensure!(!required, "EVIDENT_REQUIRE_LLM=1, but {}", found.stderr);
    println!("skipped: {NAME}: {}", found.stderr.trim());
    Ok(None)
}
