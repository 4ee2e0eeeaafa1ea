//! Every deployment of docs/table-1.md against every attack, as one table: what happens, or why the attack does not exist there.
//!
//! SNPGuard and a microCVM have no TPM: everything is in the launch digest, so that takes the place of a register, and the report that of
//! the quote. Each cell is one change of the guest in the first column, which is accepted.

use ratls::binding::quote_binder;
use ratls::wire::attest::HardwareFormat;

use crate::guest::{Deployment, Guest};
use crate::policies;
use crate::quoting::another_key_quotes;
use evident_tests::launch::Launched;
use evident_tests::policy::SIMULATED_MEASUREMENT;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    Azure,
    Gcp,
    Aws,
    EVtpm,
    SnpGuard,
    MicroCvm,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attack {
    /// None: the right policy.
    Honest,
    /// A register with another value than the policy names, or another launch digest.
    WrongPcr,
    /// A key that is as good as an AK, and that the statement names, but not the platform.
    SwappedAk,
    /// What another machine under the same authorities quoted, or its report.
    AnotherVm,
    /// The report of an earlier connection.
    OldReport,
    /// The word of the TPM left out, or the report.
    Stripped,
    /// The host may debug the guest.
    Debug,
}
use Attack::*;

#[derive(Clone, Copy, Debug)]
enum Cell {
    Accepted,
    /// With this reason, perhaps among others that follow from it.
    Refused(&'static str),
    /// Because.
    DoesNotApply(&'static str),
}
use Cell::{Accepted, DoesNotApply, Refused};

const ATTACKS: [Attack; 7] = [Honest, WrongPcr, SwappedAk, AnotherVm, OldReport, Stripped, Debug];
const NO_AK: &str = "the Nitro system signs the registers itself and its document names no AK; what stands in its place, a document by \
                     another PKI or for another question, is in aws.rs";
const NO_TPM: &str = "there is no TPM, so no key of one";

/// One row per deployment, one column per attack.
#[rustfmt::skip]
const TABLE: [(Where, [Cell; 7]); 6] = [
    //                right     wrong PCR          swapped AK               another VM            old report           stripped                debug
    (Where::Azure, [Accepted, Refused("T_PCR"), Refused("Q_AK"), Refused("Q_NONCE"), Refused("R_FRESH"), Refused("B_TPM"), Refused("R_DEBUG")]),
    (Where::Gcp, [Accepted, Refused("T_PCR"), Refused("T_AK_KEY"), Refused("Q_NONCE"), Refused("R_FRESH"), Refused("B_TPM"), Refused("R_DEBUG")]),
    (Where::Aws, [Accepted, Refused("T_PCR"), DoesNotApply(NO_AK), Refused("N_NONCE"), Refused("R_FRESH"), Refused("T_MISSING"), Refused("R_DEBUG")]),
    (Where::EVtpm, [Accepted, Refused("T_PCR"), Refused("T_AK_PROOF"), Refused("Q_NONCE"), Refused("R_FRESH"), Refused("B_TPM"), Refused("R_DEBUG")]),
    (Where::SnpGuard, [Accepted, Refused("R_LD"), DoesNotApply(NO_TPM), Refused("R_FRESH"), Refused("R_FRESH"), Refused("B_NO_REPORT"), Refused("R_DEBUG")]),
    (Where::MicroCvm, [Accepted, Refused("R_LD"), DoesNotApply(NO_TPM), Refused("R_FRESH"), Refused("R_FRESH"), Refused("B_NO_REPORT"), Refused("R_DEBUG")]),
];

impl Where {
    fn deployment(self) -> Deployment {
        match self {
            Where::Azure => Deployment::Azure,
            Where::Gcp => Deployment::Gcp,
            Where::Aws => Deployment::Aws,
            Where::EVtpm => Deployment::Svsm,
            Where::SnpGuard | Where::MicroCvm => Deployment::Direct,
        }
    }

    /// The launch digest of the guest that has no TPM, made from files, and of one that differs in them.
    fn digests(self) -> Option<(String, String)> {
        let of = |launched: anyhow::Result<Launched>| launched.unwrap().digest().unwrap();
        match self {
            Where::SnpGuard => Some((of(Launched::direct_boot("ro")), of(Launched::direct_boot("ro init=/bin/sh")))),
            Where::MicroCvm => Some((of(Launched::pages("workload")), of(Launched::pages("another workload")))),
            _ => None,
        }
    }
}

/// A guest that serves, its policy, and what `simulator.toml` says of it.
struct Row {
    place: Where,
    guest: Guest,
    policy: String,
    simulated: String,
    /// Another launch digest than the guest's.
    other_digest: Option<String>,
}

impl Row {
    async fn start(place: Where) -> Row {
        let digests = tokio::task::spawn_blocking(move || place.digests()).await.unwrap();
        let accepting = policies::accepting(place.deployment());
        let (policy, simulated) = match &digests {
            Some((digest, _)) => {
                (accepting.replace(SIMULATED_MEASUREMENT, digest), format!("measurement = \"{digest}\"\n"))
            }
            None => (accepting, String::new()),
        };
        let guest = Guest::simulated(place.deployment(), &simulated).await;
        Row { place, guest, policy, simulated, other_digest: digests.map(|(_, other)| other) }
    }

    async fn under(&self, attack: Attack) -> Result<(), Vec<&'static str>> {
        let guest = &self.guest;
        guest.restore();
        match attack {
            Honest => guest.judged_under(&self.policy).await,
            WrongPcr => guest.judged_under(&self.naming_another_register()).await,
            SwappedAk => {
                self.swap_ak();
                guest.judged_under(&self.policy).await
            }
            AnotherVm => {
                self.show_another_vms().await;
                guest.judged_under(&self.policy).await
            }
            OldReport => {
                let old = guest.gathered();
                guest.change(move |gathered, _| {
                    gathered.hardware.clone_from(&old.hardware);
                    gathered.report.clone_from(&old.report);
                });
                guest.judged_under(&self.policy).await
            }
            Stripped => {
                let place = self.place;
                guest.change(move |gathered, _| match place {
                    Where::Aws => gathered.hardware.retain(|(format, _)| *format != HardwareFormat::NitroDocument),
                    Where::SnpGuard | Where::MicroCvm => gathered.hardware.clear(),
                    _ => gathered.tpm = None,
                });
                guest.judged_under(&self.policy).await
            }
            Debug => {
                let bits = if self.place == Where::Azure { "policy = 0xB_001F\n" } else { "policy = 0xB_0000\n" };
                let debug = guest.beside(&format!("{}{bits}", self.simulated)).await;
                debug.judged_under(&self.policy).await
            }
        }
    }

    fn naming_another_register(&self) -> String {
        if let Some(other) = &self.other_digest {
            let (digest, _) = self.simulated.trim_start_matches("measurement = \"").split_once('"').unwrap();
            return self.policy.replace(digest, other);
        }
        let (bank, bytes) = if self.place == Where::Aws { ("sha384", 48) } else { ("sha256", 32) };
        policies::with_registers(&self.policy, bank, &[(4, "5e".repeat(bytes))])
    }

    fn swap_ak(&self) {
        let tpm = self.guest.tpm();
        let swapped = another_key_quotes(&tpm, &[0; 32]).public;
        self.guest.boot(|honest| attester::platform::Boot {
            ak: Some(swapped),
            event_log: honest.event_log.clone(),
            ak_certificate: honest.ak_certificate.clone(),
        });
        self.guest.change(move |gathered, binder| {
            let question = quote_binder(binder, &gathered.report);
            gathered.tpm = Some(another_key_quotes(&tpm, question.as_bytes()));
        });
        self.guest.makes_up_secrets();
    }

    /// All of it is genuine, its AK and certificate too, and none of it of this machine.
    async fn show_another_vms(&self) {
        let other = self.guest.beside(&self.simulated).await;
        assert_eq!(other.judged_under(&self.policy).await, Ok(()), "{:?}: the other", self.place);
        let theirs = other.gathered();
        match self.place {
            Where::Aws => self.guest.change(move |gathered, _| {
                let document = theirs.hardware.iter().find(|(format, _)| *format == HardwareFormat::NitroDocument);
                gathered.hardware.retain(|(format, _)| *format != HardwareFormat::NitroDocument);
                gathered.hardware.extend(document.cloned());
            }),
            Where::SnpGuard | Where::MicroCvm => self.guest.change(move |gathered, _| {
                gathered.hardware.clone_from(&theirs.hardware);
                gathered.report.clone_from(&theirs.report);
            }),
            _ => {
                self.guest.boot(|honest| attester::platform::Boot {
                    ak: theirs.tpm.as_ref().map(|tpm| tpm.public.clone()),
                    event_log: honest.event_log.clone(),
                    ak_certificate: other.certificate_of_ak(),
                });
                self.guest.change(move |gathered, _| gathered.tpm.clone_from(&theirs.tpm));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_attack_is_refused_on_each_deployment_or_does_not_exist_there() {
    for (place, cells) in TABLE {
        let row = Row::start(place).await;
        for (attack, cell) in ATTACKS.into_iter().zip(cells) {
            match cell {
                Accepted => assert_eq!(row.under(attack).await, Ok(()), "{place:?}, {attack:?}"),
                // Without the proof by CRED there is nothing that a swapped key could fail.
                Refused("T_AK_PROOF") if !policies::proves_aks() => {}
                Refused(id) => {
                    let reasons = row.under(attack).await.expect_err("a refusal");
                    assert!(reasons.contains(&id), "{place:?}, {attack:?}: {reasons:?}, wanted {id}");
                }
                DoesNotApply(why) => println!("{place:?}, {attack:?}: does not apply: {why}"),
            }
        }
        row.guest.restore();
        assert_eq!(row.guest.judged_under(&row.policy).await, Ok(()), "{place:?} is as it was");
    }
}
