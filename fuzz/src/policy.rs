//! Target for `ratls::policy`: a file that an operator wrote, or half wrote.

use ratls::crypto::sha256;
use ratls::policy::AppraisalPolicy;

/// An error names the file, a line that the file has, and a key; a policy that is accepted has an identity, measurements and
/// profiles, names itself by its digest, and is refused with a key too many.
pub fn policy(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let policy = match AppraisalPolicy::parse(text, "a.toml") {
        Ok(policy) => policy,
        Err(error) => {
            let lines = text.split('\n').count();
            assert!((1..=lines).contains(&error.line()), "line {} of {lines}", error.line());
            assert!(!error.key().is_empty(), "no key: {error}");
            let shown = error.to_string();
            assert!(shown.starts_with(&format!("a.toml:{}: {}: ", error.line(), error.key())));
            assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "a terminal would obey {shown:?}");
            return;
        }
    };
    assert_eq!(policy.digest(), sha256(&[data]));
    assert!(!policy.profiles().is_empty() && !policy.max_age().is_zero());
    assert!(policy.anchors_needed() != Some(""));
    let _ = policy.cautions();
    assert!(policy.to_string().contains("identity"));
    let more = format!("{text}\n[no-such-table]\n");
    assert!(AppraisalPolicy::parse(&more, "a.toml").is_err(), "an unknown table is accepted");
}
