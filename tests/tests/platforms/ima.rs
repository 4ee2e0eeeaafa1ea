//! The kernel's list of files (IMA), asked for by a policy and fetched over the connection.

use std::io::Write;

use simulator::boot::event::BANKS;
use simulator::boot::{Firmware, Guest as Booted, ima};
use simulator::machine::OPENED;
use simulator::tpm::objects::Bank;

use crate::guest::{Deployment, Guest};
use crate::policies;
use crate::quoting::with_tpm;

/// IMA's own policy stands on the command line, or nobody knows which files it measures.
const COMMAND_LINE: &str = "root=/dev/vda ro ima_policy=tcb";
const WITH_LIST: [Deployment; 2] = [Deployment::Azure, Deployment::Gcp];

fn simulated(keeps_list: bool) -> String {
    format!("[boot]\ncommand_line = \"{COMMAND_LINE}\"\nima = {keeps_list}\n")
}

/// The policy of this deployment for that command line, and nothing but these files.
fn naming(deployment: Deployment, files: &[(&str, &[u8])]) -> String {
    let firmware = if deployment == Deployment::Azure { Firmware::Azure } else { Firmware::Gce };
    let policy = policies::accepting(deployment).replace(&Booted::new(firmware).command_line, COMMAND_LINE);
    assert!(policy.contains(COMMAND_LINE));
    let digest = |content: &[u8]| hex::encode(Bank::Sha256.hash(content));
    let files: String =
        files.iter().map(|(path, content)| format!("{path:?} = \"sha256:{}\"\n", digest(content))).collect();
    format!("{policy}\n[event_log.ima]\npolicy = \"tcb\"\n[event_log.ima.files]\n{files}")
}

/// The kernel of that machine opens one file more.
fn opens(guest: &Guest, path: &str, content: &[u8]) {
    let more = with_tpm(&guest.tpm(), |tpm| ima::opened(tpm, &BANKS, &[(path, content)]).unwrap());
    let list = guest.tpm().with_file_name("ima-log");
    std::fs::OpenOptions::new().append(true).open(list).unwrap().write_all(&more).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_is_accepted_as_long_as_the_policy_names_each_file() {
    for deployment in WITH_LIST {
        let guest = Guest::simulated(deployment, &simulated(true)).await;
        let policy = naming(deployment, &OPENED);
        assert_eq!(guest.judged_under(&policy).await, Ok(()), "{deployment:?}");
        assert!(guest.page(&policy).await.starts_with("HTTP/1.1 200"), "{deployment:?}");
        // One more that is named, one of them again, and then one that nobody knows.
        let more = [&OPENED[..], &[("/usr/bin/sleep", &b"simulated sleep"[..])]].concat();
        opens(&guest, "/usr/bin/sleep", b"simulated sleep");
        assert_eq!(guest.judged_under(&naming(deployment, &more)).await, Ok(()), "{deployment:?}");
        assert_eq!(guest.judged_under(&policy).await, Err(vec!["L_IMA_FILE"]), "{deployment:?}: an unknown path");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plat_n43_a_list_with_an_unknown_path_or_a_changed_digest_is_refused() {
    for deployment in WITH_LIST {
        for (path, content) in [("/tmp/dropped", &b"anything"[..]), ("/usr/bin/bash", b"another shell")] {
            let guest = Guest::simulated(deployment, &simulated(true)).await;
            let policy = naming(deployment, &OPENED);
            assert_eq!(guest.judged_under(&policy).await, Ok(()), "{deployment:?}");
            opens(&guest, path, content);
            assert_eq!(guest.judged_under(&policy).await, Err(vec!["L_IMA_FILE"]), "{deployment:?}: {path}");
        }
    }
}

/// The register tells what the list leaves out, and a guest that keeps none has none to show.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plat_n43_a_list_that_hides_a_file_or_is_not_there_is_refused() {
    let guest = Guest::simulated(Deployment::Gcp, &simulated(true)).await;
    let policy = naming(Deployment::Gcp, &OPENED);
    assert_eq!(guest.judged_under(&policy).await, Ok(()));
    with_tpm(&guest.tpm(), |tpm| ima::opened(tpm, &BANKS, &[("/tmp/hidden", b"anything")]).unwrap());
    assert_eq!(guest.judged_under(&policy).await, Err(vec!["L_IMA_REPLAY"]));
    let without = Guest::simulated(Deployment::Gcp, &simulated(false)).await;
    assert_eq!(without.judged_under(&policy).await, Err(vec!["L_IMA_ABSENT"]));
}
