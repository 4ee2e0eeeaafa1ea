//! EC2 with and without NitroTPM, and what stands there in place of a swapped AK: its document names no key, so a host that wants other
//! registers believed needs another document.

use std::path::Path;

use ratls::binding::{Binder, quote_binder};
use ratls::crypto::sha384;
use ratls::tcb::Product;
use ratls::wire::attest::HardwareFormat;
use simulator::cloud::aws::{Asked, Authorities};
use simulator::tpm::objects::Bank;
use simulator::{Pki, RsaSize};

use crate::guest::{Deployment, Guest};
use crate::policies;
use crate::quoting::{another_key_quotes, register};

const WITHOUT: &str = "[aws]\nnitro_tpm = false\n";

/// A policy for an instance that shows a report under a VLEK and nothing more.
fn without_tpm() -> String {
    let accepting = policies::accepting(Deployment::Aws);
    let (head, _) = accepting.split_once("[event_log]").unwrap();
    head.replace("vtpm = \"document\"\nmax_document_age = \"10m\"\n", "vtpm = \"none\"\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_without_nitrotpm_is_accepted_for_what_it_is_and_the_gap_is_named() {
    let guest = Guest::simulated(Deployment::Aws, WITHOUT).await;
    let policy = without_tpm();
    let result = guest.found(&policy).await;
    assert_eq!(result.verdict().as_str(), "accepted", "{result}");
    let evidence = result.evidence().unwrap();
    assert!(evidence.tpm().is_none() && evidence.report().vek().csp().is_some(), "{result}");
    let text = result.to_string();
    assert!(text.contains("T_MISSING"), "{text}");
    assert!(guest.page(&policy).await.starts_with("HTTP/1.1 200"));

    // Whoever asks for the document, or for registers, does not get them.
    let refused = guest.judged().await.unwrap_err();
    assert!(refused.contains(&"T_MISSING"), "{refused:?}");
    let registers = policies::with_registers(&policy, "sha384", &[(4, "00".repeat(48))]);
    assert_eq!(guest.judged_under(&registers).await, Err(vec!["T_PCR"]));
}

/// A key that the guest made itself quotes what the guest likes: genuine, and nobody's word but the guest's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quote_by_a_key_of_the_guests_own_is_named_as_the_missing_link() {
    let guest = Guest::simulated(Deployment::Aws, WITHOUT).await;
    let tpm = guest.tpm();
    let key = another_key_quotes(&tpm, &[0; 32]).public;
    guest.boot(|honest| attester::platform::Boot { ak: Some(key), ..copy(honest) });
    guest.change(move |gathered, binder| {
        let question = quote_binder(binder, &gathered.report);
        gathered.tpm = Some(another_key_quotes(&tpm, question.as_bytes()));
    });
    let strict = without_tpm().replace("vtpm = \"none\"", "vtpm = \"document\"");
    assert_eq!(guest.judged_under(&strict).await, Err(vec!["T_AK_UNPROVEN"]));
    let result = guest.found(&without_tpm()).await;
    assert_eq!(result.verdict().as_str(), "accepted", "{result}");
    let unproven = result.findings().iter().find(|finding| finding.id() == "T_AK_UNPROVEN").unwrap();
    assert!(unproven.seen().contains("the guest's own word"), "{unproven:?}");
    assert_eq!(result.evidence().unwrap().tpm().unwrap().link().anchor(), None);
}

fn copy(boot: &attester::platform::Boot) -> attester::platform::Boot {
    attester::platform::Boot {
        ak: boot.ak.clone(),
        event_log: boot.event_log.clone(),
        ak_certificate: boot.ak_certificate.clone(),
    }
}

/// The document is all that is said of the registers. One by other authorities, for another question, or over another report is
/// as good as it looks and none of this guest's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plat_n32_a_document_by_another_pki_or_of_another_question_or_report_is_refused() {
    let guest = Guest::start(Deployment::Aws).await;
    assert_eq!(guest.judged().await, Ok(()));
    let strangers = tempfile::tempdir().unwrap();
    let (theirs, ours) = (authorities(strangers.path()), || authorities(guest.roots().parent().unwrap()));
    let now_ms = u64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    // Registers that the policy accepts: only who signed, and for what, is wrong.
    let registers: Vec<_> = (0..24).map(|pcr| register(&guest.tpm(), Bank::Sha384, pcr)).collect();
    let module = "i-5eed0000000000000-tpm0000000000000000";
    let asked = |binder: &Binder, report: &[u8]| Asked {
        nonce: Some(binder.as_bytes().to_vec()),
        user_data: Some(sha384(&[report]).as_bytes().to_vec()),
        public_key: None,
    };
    type Wrong = fn(&mut Asked);
    let cases: [(Authorities, Wrong, &str); 3] = [
        (theirs, |_| {}, "N_ROOT"),
        (ours(), |asked| asked.nonce.as_mut().unwrap()[0] ^= 1, "N_NONCE"),
        (ours(), |asked| asked.user_data.as_mut().unwrap()[0] ^= 1, "N_REPORT"),
    ];
    let shows = |authorities: Authorities, wrong: Wrong| {
        let registers = registers.clone();
        guest.change(move |gathered, binder| {
            let mut asked = asked(binder, &gathered.report);
            wrong(&mut asked);
            let document = authorities.document(module, &registers, &asked, now_ms);
            gathered.hardware.retain(|(format, _)| *format != HardwareFormat::NitroDocument);
            gathered.hardware.push((HardwareFormat::NitroDocument, document));
        });
    };
    // The same document with nothing wrong is believed: so it is the one thing that each case changes.
    shows(ours(), |_| {});
    assert_eq!(guest.judged().await, Ok(()));
    for (authorities, wrong, id) in cases {
        shows(authorities, wrong);
        assert_eq!(guest.judged().await, Err(vec![id]));
    }
}

/// AWS's place, as it lies in the directory of a simulator.
fn authorities(dir: &Path) -> Authorities {
    let pki = Pki::load_or_create(dir, Product::Milan, RsaSize::Bits2048).unwrap();
    Authorities::load_or_create(dir, &pki).unwrap()
}
