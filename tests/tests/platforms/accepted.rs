//! Each deployment, as it should be.

use crate::guest::{Guest, WITH_TPM};
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
