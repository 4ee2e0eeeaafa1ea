//! I: guests that prove everything but that they are the one that is meant.

use evident_client::open::OpenError;
use simulator::Vek;

use crate::client::{judged, target_under};
use crate::genuine::{Genuine, PKI, policy};

const CSP: &str = "CN=cc-simulated.example";

fn machines(chips: &[String]) -> String {
    format!("[identity]\nchip_ids = {chips:?}")
}

#[tokio::test]
async fn proto_i1_refuses_a_good_measurement_on_a_chip_that_is_not_listed() {
    let guest = Genuine::start().await;
    let ours = PKI.chip_id().to_string();
    let one_off = format!("{}{}", &ours[..127], if ours.ends_with('0') { '1' } else { '0' });

    let listed = target_under(guest.address, &policy().identity(&machines(&[one_off.clone(), ours])));
    assert_eq!(judged(&listed.attested().await), Ok(()));

    let not_listed = target_under(guest.address, &policy().identity(&machines(&[one_off])));
    let refused = not_listed.attested().await;
    assert_eq!(judged(&refused), Err(vec!["I_CHIP"]));
    let told = refused.err().unwrap();
    assert!(matches!(&told, OpenError::Refused { result, .. } if !result.simulated() || result.evidence().is_some()));
    guest.until_ended_at("closed by the client", 1).await;
    assert_eq!(guest.upstream.accepted(), 0);
}

#[tokio::test]
async fn proto_i2_refuses_a_vlek_where_the_rule_is_about_machines() {
    let guest = Genuine::with(|guest| guest.vek = Vek::Vlek { csp: CSP.to_owned() }, "").await;
    let both_keys = |identity: &str| {
        let text = policy().identity(identity).text();
        let keys = format!("signing_keys = [\"vcek\", \"vlek\"]\ncsp = [\"{CSP}\"]");
        let text = text.replace("signing_keys = [\"vcek\"]", &keys);
        let mut target = target_under(guest.address, &policy());
        target.policy = Some(ratls::policy::AppraisalPolicy::parse(&text, "policy.toml").unwrap().into());
        target
    };
    assert_eq!(judged(&both_keys("identity = \"any\"").attested().await), Ok(()));
    // Although the report happens to show the chip.
    let machine = machines(&[PKI.chip_id().to_string()]);
    assert_eq!(judged(&both_keys(&machine).attested().await), Err(vec!["I_VLEK"]));
    guest.until_ended_at("closed by the client", 1).await;
    assert_eq!(guest.upstream.accepted(), 0);
}
