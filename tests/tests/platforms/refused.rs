//! Each deployment with one thing wrong.

use ratls::binding::quote_binder;
use ratls::wire::attest::HardwareFormat;
use simulator::tpm::objects::{self, Bank};

use crate::guest::{Deployment, Guest, WITH_TPM};
use crate::policies;
use crate::quoting::{another_key_quotes, register};

/// The register that holds the kernel, and the bank that this deployment quotes.
fn kernel_register(deployment: Deployment) -> (u32, &'static str, Bank) {
    match deployment {
        Deployment::Azure | Deployment::Gcp => (9, "sha256", Bank::Sha256),
        Deployment::Aws => (11, "sha384", Bank::Sha384),
        Deployment::Svsm => (11, "sha256", Bank::Sha256),
        Deployment::Direct => unreachable!("it has no registers"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refuses_a_register_with_another_value() {
    for deployment in WITH_TPM {
        let guest = Guest::start(deployment).await;
        let (pcr, name, bank) = kernel_register(deployment);
        let value = hex::encode(register(&guest.tpm(), bank, pcr));
        let policy = policies::with_registers(&policies::accepting(deployment), name, &[(pcr, value)]);
        assert_eq!(guest.judged_under(&policy).await, Ok(()), "{deployment:?}");
        let other = guest.beside("[boot]\nkernel = \"another kernel\"\n").await;
        // Where the policy names the kernel by its digest, that tells as well.
        let reasons = match deployment {
            Deployment::Azure | Deployment::Gcp => vec!["T_PCR"],
            _ => vec!["T_PCR", "L_KERNEL", "L_EVENT", "L_EVENT"],
        };
        assert_eq!(other.judged_under(&policy).await, Err(reasons), "{deployment:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refuses_another_command_line() {
    for deployment in WITH_TPM {
        let guest = Guest::simulated(deployment, "[boot]\ncommand_line = \"root=/dev/vda init=/bin/sh\"\n").await;
        // A unified kernel image with another command line is another image, in PCR 4 and 11.
        let reasons = match deployment {
            Deployment::Azure | Deployment::Gcp => vec!["L_COMMAND_LINE"],
            _ => vec!["L_COMMAND_LINE", "L_EVENT", "L_EVENT"],
        };
        assert_eq!(guest.judged().await, Err(reasons), "{deployment:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plat_n31_refuses_a_quote_by_another_key_of_the_same_tpm() {
    for deployment in [Deployment::Azure, Deployment::Gcp, Deployment::Svsm] {
        let guest = Guest::start(deployment).await;
        assert_eq!(guest.judged().await, Ok(()), "{deployment:?}");
        let tpm = guest.tpm();
        guest.change(move |gathered, binder| {
            let qualifying = quote_binder(binder, &gathered.report);
            gathered.tpm = Some(another_key_quotes(&tpm, qualifying.as_bytes()));
        });
        assert_eq!(guest.judged().await, Err(vec!["Q_AK"]), "{deployment:?}");
    }
}

/// The statement names the other key too, so that only the platform's own link tells.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plat_n32_refuses_an_ak_that_the_platform_does_not_vouch_for() {
    let reasons = [(Deployment::Azure, "Q_AK"), (Deployment::Gcp, "T_AK_KEY"), (Deployment::Svsm, "T_AK_PROOF")];
    // Below an SVSM the link is the proof that the client asks for.
    let linked = |deployment| deployment != Deployment::Svsm || policies::proves_aks();
    for (deployment, reason) in reasons.into_iter().filter(|(deployment, _)| linked(*deployment)) {
        let guest = Guest::start(deployment).await;
        assert_eq!(guest.judged().await, Ok(()), "{deployment:?}");
        let tpm = guest.tpm();
        let swapped = another_key_quotes(&tpm, &[0; 32]).public;
        guest.boot(|honest| attester::platform::Boot {
            ak: Some(swapped),
            event_log: honest.event_log.clone(),
            ak_certificate: honest.ak_certificate.clone(),
        });
        guest.change(move |gathered, binder| {
            let qualifying = quote_binder(binder, &gathered.report);
            gathered.tpm = Some(another_key_quotes(&tpm, qualifying.as_bytes()));
        });
        // An honest TPM does not open what was made for another key; this guest makes something up instead.
        guest.makes_up_secrets();
        assert_eq!(guest.judged().await, Err(vec![reason]), "{deployment:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refuses_the_quote_of_another_machine() {
    for deployment in [Deployment::Azure, Deployment::Gcp, Deployment::Svsm] {
        let guest = Guest::start(deployment).await;
        let other = guest.beside("").await;
        assert_eq!((guest.judged().await, other.judged().await), (Ok(()), Ok(())), "{deployment:?}");
        let theirs = other.gathered().tpm;
        // Their AK and its certificate as well: all of it is genuine, and none of it of this machine.
        guest.boot(|honest| attester::platform::Boot {
            ak: theirs.as_ref().map(|tpm| tpm.public.clone()),
            event_log: honest.event_log.clone(),
            ak_certificate: other.certificate_of_ak(),
        });
        guest.change(move |gathered, _| gathered.tpm = theirs.clone());
        assert_eq!(guest.judged().await, Err(vec!["Q_NONCE"]), "{deployment:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refuses_the_nitro_document_of_another_instance() {
    let guest = Guest::start(Deployment::Aws).await;
    let other = guest.beside("").await;
    assert_eq!((guest.judged().await, other.judged().await), (Ok(()), Ok(())));
    let theirs = other.gathered().hardware;
    guest.change(move |gathered, _| {
        let document = theirs.iter().find(|(format, _)| *format == HardwareFormat::NitroDocument).cloned();
        gathered.hardware.retain(|(format, _)| *format != HardwareFormat::NitroDocument);
        gathered.hardware.extend(document);
    });
    assert_eq!(guest.judged().await, Err(vec!["N_NONCE"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plat_n05_refuses_an_older_report_of_the_same_machine() {
    for deployment in WITH_TPM {
        let guest = Guest::start(deployment).await;
        assert_eq!(guest.judged().await, Ok(()), "{deployment:?}");
        let old = guest.gathered();
        guest.change(move |gathered, _| {
            gathered.hardware.clone_from(&old.hardware);
            gathered.report.clone_from(&old.report);
        });
        assert_eq!(guest.judged().await, Err(vec!["R_FRESH"]), "{deployment:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refuses_evidence_without_its_quote() {
    for deployment in [Deployment::Azure, Deployment::Gcp, Deployment::Svsm] {
        let guest = Guest::start(deployment).await;
        assert_eq!(guest.judged().await, Ok(()), "{deployment:?}");
        guest.change(|gathered, _| gathered.tpm = None);
        assert_eq!(guest.judged().await, Err(vec!["B_TPM"]), "{deployment:?}");
        // Nor where the statement promises none: the policy asks for it.
        guest.boot(|_| attester::platform::Boot::default());
        let refused = guest.judged().await.unwrap_err();
        assert!(refused.contains(&"T_MISSING"), "{deployment:?}: {refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refuses_aws_without_its_document() {
    let guest = Guest::start(Deployment::Aws).await;
    assert_eq!(guest.judged().await, Ok(()));
    guest.change(|gathered, _| gathered.hardware.retain(|(format, _)| *format != HardwareFormat::NitroDocument));
    let refused = guest.judged().await.unwrap_err();
    assert!(refused.contains(&"T_MISSING"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refuses_evidence_without_its_event_log() {
    for deployment in WITH_TPM {
        let guest = Guest::start(deployment).await;
        assert_eq!(guest.judged().await, Ok(()), "{deployment:?}");
        guest.boot(|honest| attester::platform::Boot {
            ak: honest.ak.clone(),
            event_log: None,
            ak_certificate: honest.ak_certificate.clone(),
        });
        let refused = guest.judged().await.unwrap_err();
        assert!(refused.contains(&"L_ABSENT"), "{deployment:?}: {refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plat_n01_refuses_a_guest_that_the_host_may_debug() {
    for deployment in WITH_TPM {
        let policy = match deployment {
            Deployment::Azure => "policy = 0xB_001F\n",
            _ => "policy = 0xB_0000\n",
        };
        let guest = Guest::simulated(deployment, policy).await;
        assert_eq!(guest.judged().await, Err(vec!["R_DEBUG"]), "{deployment:?}");
        assert_eq!(guest.connections_of_upstream(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plat_n46_refuses_a_paravisor_that_takes_no_data_of_the_guest() {
    let guest = Guest::simulated_azure("user_data = false").await;
    assert_eq!(guest.judged().await, Err(vec!["R_FRESH"]));
}

/// What is extended after the boot is in no log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unexplained_register_is_seen() {
    let guest = Guest::start(Deployment::Gcp).await;
    let (pcr, name, bank) = kernel_register(Deployment::Gcp);
    let value = hex::encode(register(&guest.tpm(), bank, pcr));
    let policy = policies::with_registers(&policies::accepting(Deployment::Gcp), name, &[(pcr, value)]);
    assert_eq!(guest.judged_under(&policy).await, Ok(()));
    crate::quoting::with_tpm(&guest.tpm(), |tpm| objects::extend(tpm, pcr, &[(Bank::Sha256, vec![1; 32])]).unwrap());
    assert_eq!(guest.judged_under(&policy).await, Err(vec!["T_PCR", "L_REPLAY"]));
}
