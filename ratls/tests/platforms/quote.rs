//! The quote of a vTPM: which key, over what, and bound to which report.

use super::*;

#[test]
fn a_quote_with_pss_verifies_too() {
    let tpm = SoftTpm::pss();
    assert!(Guest { tpm: Some(&tpm), ..guest(Profile::AzureSnp) }.verify().is_ok());
}

#[test]
fn plat_n30_what_no_tpm_made_is_no_quote() {
    for profile in WITH_TPM {
        Guest { quote: Box::new(|q| q.magic = 0xFF54_4348), ..guest(profile) }.refused_as("Q_MAGIC");
        Guest { quote: Box::new(|q| q.kind = 0x8017), ..guest(profile) }.refused_as("Q_TYPE");
    }
}

#[test]
fn plat_n31_a_key_without_the_attributes_of_an_ak_is_refused() {
    // userWithAuth and noDA say nothing; each of the others makes it an AK, and decrypt unmakes it.
    for bit in [1, 4, 5, 16, 17, 18] {
        let tpm = SoftTpm::gce().with_attributes(0x0005_0072 ^ 1 << bit);
        Guest { tpm: Some(&tpm), ..guest(Profile::GcpSnp) }.refused_as("Q_AK");
    }
}

#[test]
fn plat_n32_a_key_that_the_paravisor_does_not_name_is_refused() {
    Guest { json: Box::new(|_, b| json(other_tpm(), Some(&b.to_string()))), ..guest(Profile::AzureSnp) }
        .refused_as("Q_AK");
}

#[test]
fn plat_n34_values_are_of_exactly_the_selected_registers_of_one_bank() {
    for profile in WITH_TPM {
        Guest { quote: Box::new(|q| q.selections[0].1 = bitmap(0..8)), ..guest(profile) }.refused_as("Q_SEL");
        Guest { quote: Box::new(|q| q.selections[0].1 = bitmap(1..17)), ..guest(profile) }.refused_as("Q_SEL");
        Guest { quote: Box::new(|q| q.selections[0].0 = 0x000C), ..guest(profile) }.refused_as("Q_SEL");
        Guest { quote: Box::new(|q| q.selections[0].0 = 0x0004), ..guest(profile) }.refused_as("Q_SEL");
        Guest { quote: Box::new(|q| q.selections.push((0x0C, [0, 0, 0]))), ..guest(profile) }.refused_as("Q_SEL");
        let sha1 = |attest: &mut Attest| attest.tpm.as_mut().unwrap().bank = 0x0004;
        Guest { attest: Box::new(sha1), ..guest(profile) }.refused_as("Q_SEL");
    }
}

#[test]
fn proto_c5_a_selection_of_nothing_or_of_other_registers_is_refused() {
    let nothing = |q: &mut Quote| {
        q.selections[0].1 = [0; 3];
        q.pcr_digest = sha256(&[]).as_bytes().to_vec();
    };
    Guest { quote: Box::new(nothing), ..guest(Profile::GcpSnp) }.refused_as("Q_SEL");
    let one_less = |attest: &mut Attest| drop(attest.tpm.as_mut().unwrap().pcrs.remove(&7));
    Guest { attest: Box::new(one_less), ..guest(Profile::GcpSnp) }.refused_as("Q_SEL");
    let one_more = |attest: &mut Attest| drop(attest.tpm.as_mut().unwrap().pcrs.insert(23, vec![0; 32]));
    Guest { attest: Box::new(one_more), ..guest(Profile::GcpSnp) }.refused_as("Q_SEL");
}

#[test]
fn plat_n35_the_digest_is_the_scheme_s_hash_over_ascending_registers() {
    let values = |tpm: &SoftTpm| tpm.pcrs.values().cloned().collect::<Vec<_>>();
    let tpm = gce_tpm();
    let reversed = |q: &mut Quote| {
        let values = values(tpm);
        q.pcr_digest = sha256(&values.iter().rev().map(Vec::as_slice).collect::<Vec<_>>()).as_bytes().to_vec();
    };
    Guest { quote: Box::new(reversed), ..guest(Profile::GcpSnp) }.refused_as("Q_DIG");
    let other_hash = |q: &mut Quote| {
        let values = values(tpm);
        q.pcr_digest = sha384_digest(&values.iter().map(Vec::as_slice).collect::<Vec<_>>());
    };
    Guest { quote: Box::new(other_hash), ..guest(Profile::GcpSnp) }.refused_as("Q_DIG");
    let printed = |attest: &mut Attest| attest.tpm.as_mut().unwrap().pcrs.get_mut(&4).unwrap()[0] ^= 1;
    Guest { attest: Box::new(printed), ..guest(Profile::GcpSnp) }.refused_as("Q_DIG");
}

#[test]
fn plat_n36_the_question_is_answered_whole() {
    for profile in WITH_TPM {
        Guest { quote: Box::new(|q| q.extra_data.truncate(31)), ..guest(profile) }.refused_as("Q_NONCE");
        Guest { quote: Box::new(|q| q.extra_data.push(0)), ..guest(profile) }.refused_as("Q_NONCE");
        Guest { quote: Box::new(|q| q.extra_data.clear()), ..guest(profile) }.refused_as("Q_NONCE");
        Guest { quote: Box::new(|q| q.extra_data[31] ^= 1), ..guest(profile) }.refused_as("Q_NONCE");
    }
}

#[test]
fn a_quote_names_its_signer_and_is_signed_by_it() {
    for profile in WITH_TPM {
        Guest { quote: Box::new(|q| q.qualified_signer[9] ^= 1), ..guest(profile) }.refused_as("Q_QN");
        let forged = |attest: &mut Attest| *attest.tpm.as_mut().unwrap().signature.last_mut().unwrap() ^= 1;
        Guest { attest: Box::new(forged), ..guest(profile) }.refused_as("Q_SIG");
        let other_scheme = |attest: &mut Attest| attest.tpm.as_mut().unwrap().signature[1] ^= 2;
        Guest { attest: Box::new(other_scheme), ..guest(profile) }.refused_as("Q_SIG");
        let sha1 = |attest: &mut Attest| attest.tpm.as_mut().unwrap().signature[3] = 4;
        Guest { attest: Box::new(sha1), ..guest(profile) }.refused_as("Q_SIG");
    }
}

#[test]
fn proto_c1_a_stripped_tpm_is_missed_by_the_statement_or_shown_as_missing() {
    for profile in WITH_TPM {
        Guest { attest: Box::new(|attest| attest.tpm = None), ..guest(profile) }.refused_as("B_TPM");
        Guest { statement: Box::new(|statement| statement.ak = None), ..guest(profile) }.refused_as("B_TPM");
        let without = Guest { tpm: None, ..guest(profile) }.verify().unwrap();
        assert!(without.tpm().is_none(), "{profile}: which is for the policy to judge");
    }
    let unasked = |attest: &mut Attest| attest.tpm = Some(gce_tpm().quote(&[0; 32], |_| {}));
    Guest { attest: Box::new(unasked), ..guest(Profile::Snp) }.refused_as("B_PROFILE");
}

#[test]
fn proto_c2_a_quote_by_another_key_than_the_statement_names_is_refused() {
    for profile in WITH_TPM {
        let swapped = |attest: &mut Attest| {
            let quote = attest.tpm.as_ref().unwrap();
            let asked = quote.attest[44..76].to_vec();
            attest.tpm = Some(other_tpm().quote(&asked, |_| {}));
        };
        Guest { attest: Box::new(swapped), ..guest(profile) }.refused_as("Q_AK");
    }
}

#[test]
fn proto_c3_and_c4_a_quote_over_another_report_is_refused() {
    for profile in WITH_TPM {
        Guest { quoted_report: Box::new(|report| report[0x90] ^= 1), ..guest(profile) }.refused_as("Q_NONCE");
    }
    // Another machine's quote over the same B: its report is another one, whoever's TPM it is.
    let another_guest = guest(Profile::GcpSnp).show();
    let Ok(theirs) = Attest::parse(&another_guest.attest) else { panic!("it parses") };
    let its_quote = |attest: &mut Attest| attest.tpm = theirs.tpm.clone();
    Guest {
        config: Box::new(|config| config.report_id = Some(ReportId::from_bytes([7; 32]))),
        attest: Box::new(its_quote),
        ..guest(Profile::GcpSnp)
    }
    .refused_as("Q_NONCE");
}

#[test]
fn every_piece_of_the_tpm_is_bound_to_every_other() {
    for profile in WITH_TPM {
        let flips: [Flip; 4] = [
            ("attest", |tpm| tpm.attest[50] ^= 1),
            ("signature", |tpm| tpm.signature[40] ^= 1),
            ("public", |tpm| *tpm.public.last_mut().unwrap() ^= 1),
            ("pcrs", |tpm| tpm.pcrs.get_mut(&0).unwrap()[0] ^= 1),
        ];
        for (what, flip) in flips {
            let changed =
                Guest { attest: Box::new(move |attest| flip(attest.tpm.as_mut().unwrap())), ..guest(profile) };
            assert!(changed.verify().is_err(), "{profile}: {what}");
        }
    }
}
