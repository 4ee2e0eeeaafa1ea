//! Each deployment, as it should be.

use crate::guest::{Deployment, Guest, WITH_TPM};
use crate::policies;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_deployment_with_a_tpm_is_accepted_and_serves_through_the_tunnel() {
    for deployment in WITH_TPM {
        let guest = Guest::start(deployment).await;
        let policy = policies::accepting(deployment);
        assert_eq!(guest.judged().await, Ok(()), "{deployment:?}");
        assert!(guest.page(&policy).await.starts_with("HTTP/1.1 200"), "{deployment:?}");
        assert_eq!(guest.connections_of_upstream(), 1, "{deployment:?}");
        // The second connection brings evidence of its own.
        assert_eq!(guest.judged_under(&policy).await, Ok(()), "{deployment:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_deployment_is_accepted_where_another_is_wanted() {
    for (deployment, wanted) in WITH_TPM.into_iter().zip(WITH_TPM.into_iter().cycle().skip(1)) {
        let guest = Guest::start(deployment).await;
        let refused = guest.judged_under(&policies::accepting(wanted)).await.unwrap_err();
        assert!(refused.contains(&"P_PROFILE"), "{deployment:?} under a policy for {wanted:?}: {refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_svsms_ak_is_proven_where_the_client_can_ask_and_refused_as_unproven_where_it_cannot() {
    let guest = Guest::start(Deployment::Svsm).await;
    let strict = policies::accepting(Deployment::Svsm).replace("accept a key that nobody vouches for", "proven");
    assert!(strict.contains(policies::PROVEN));
    let wanted = if policies::proves_aks() { Ok(()) } else { Err(vec!["T_AK_UNPROVEN"]) };
    assert_eq!(guest.judged_under(&strict).await, wanted);
}
