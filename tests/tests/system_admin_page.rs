//! The client's page for people, in a browser: what it shows without any script, in light and in dark, and that what it shows of a
//! guest that is refused is the reason.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use evident_tests::http::fetch;
use evident_tests::observe::until_ready;
use evident_tests::wait::until;
use evident_tests::{Client, Guest, Program, Upstream};

const NAME: &str = "web.example";
/// A browser starts slowly where many tests run beside it.
const BROWSER: Duration = Duration::from_secs(60);

/// Chromium without a window, with a profile of its own.
fn browser(profile: &Path) -> Program {
    Program::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"])
        .arg("--window-size=1100,1400")
        .arg(format!("--user-data-dir={}", profile.display()))
}

/// The page has no script, and its Content-Security-Policy would let none run.
fn screenshot(url: &str, dark: bool, folder: &Path) -> Result<Vec<u8>> {
    let name = if dark { "dark" } else { "light" };
    let png = folder.join(format!("{name}.png"));
    let scheme = if dark { 0 } else { 1 };
    browser(&folder.join(format!("profile-{name}")))
        .arg(format!("--blink-settings=preferredColorScheme={scheme}"))
        .arg(format!("--screenshot={}", png.display()))
        .arg(url)
        .run(BROWSER)?
        .success()?;
    let image = std::fs::read(&png).context("the browser took no picture")?;
    ensure!(image.starts_with(b"\x89PNG"), "not a picture");
    Ok(image)
}

#[test]
fn system_a_browser_shows_each_guest_its_table_and_its_history_without_script() -> Result<()> {
    let upstream = Upstream::http()?;
    let guest = Guest::in_front_of(upstream.address()).start()?;
    let client = Client::of(&guest, &[NAME]).start()?;
    until_ready(client.admin())?;
    let folder = tempfile::tempdir()?;
    let url = format!("http://{}/", client.admin());

    let page = browser(&folder.path().join("profile")).args(["--dump-dom", &url]).run(BROWSER)?.success()?;
    for part in [
        "SIMULATED, PROVES NOTHING",
        &guest.address().to_string(),
        "<svg",
        "Trust table. AMD-SP ok, vTPM none, firmware L2 by amd-sp, other boot L0",
        "Open tunnels: 0",
        "<h3>History</h3>",
        "accepted",
        "give the firmware file to reach L3",
    ] {
        ensure!(page.contains(part), "{part:?} is not on the page:\n{page}");
    }
    ensure!(!page.contains("<script"), "{page}");

    // The style sheet is applied (the page is not white in the dark), and light and dark differ.
    let (light, dark) = (screenshot(&url, false, folder.path())?, screenshot(&url, true, folder.path())?);
    ensure!(light != dark, "light and dark look the same");
    let head = fetch(client.admin(), "/")?.head.to_ascii_lowercase();
    ensure!(head.contains("content-security-policy: default-src 'none'; style-src 'self'"), "{head}");
    Ok(())
}

#[test]
fn system_the_page_says_why_a_guest_is_refused() -> Result<()> {
    let upstream = Upstream::http()?;
    let guest = Guest::in_front_of(upstream.address()).start()?;
    let other = "7".repeat(96);
    let client = Client::of(&guest, &[NAME]).policy(|policy| policy.measurement(&other)).start()?;
    let page = until("the refusal on the page", BROWSER, || {
        let page = fetch(client.admin(), "/")?.body;
        Ok(page.contains("R_LD").then_some(page))
    })?;
    ensure!(page.contains("refused") && page.contains(&other), "{page}");
    ensure!(page.contains("firmware L1"), "measured, and equal to nothing in the policy: {page}");
    Ok(())
}
