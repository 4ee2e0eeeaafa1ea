//! Laws of the engine, over any claims: more evidence never lowers a level, nothing is above its measurer or its reference,
//! and nothing counts without a fresh and bound root.

use proptest::prelude::*;
use proptest::sample::select;

use super::worked::{binary, digest, source};
use super::{Claim, Component, Cover, Inputs, Level, Matched, RootState, Row, View, judge};
use verify::{Link, Root};

fn matched(strength: u8, component: Component) -> Matched {
    match strength {
        0 => Matched::Nothing,
        1 => Matched::Signer("somebody".to_owned()),
        2 => digest(),
        3 => binary(component),
        _ => source(component),
    }
}

fn raw(claim: &Claim) -> Level {
    match (claim.cover, &claim.matched) {
        (Cover::None, _) => Level::L0,
        (Cover::Partial, _) | (_, Matched::Nothing | Matched::Signer(_)) => Level::L1,
        (_, Matched::Digest(_)) => Level::L2,
        (_, Matched::Binary(_)) => Level::L3,
        (_, Matched::Source(_)) => Level::L4,
    }
}

fn any_claim() -> impl Strategy<Value = Claim> {
    let links = vec![
        Link::Direct,
        Link::VerifiedByMeasured,
        Link::FirmwareAsserted,
        Link::VendorPki,
        Link::GuestAsserted,
        Link::None,
    ];
    let covers = vec![Cover::None, Cover::Partial, Cover::PolicyBounded, Cover::Full];
    let measurers = prop::collection::vec(select(Component::ALL.to_vec()), 0..3);
    (select(Component::ALL.to_vec()), any::<bool>(), select(links), select(covers), 0..5u8, measurers).prop_map(
        |(component, amd, link, cover, strength, measured_by)| Claim {
            component,
            root: if amd { Root::AmdSp } else { Root::Vtpm },
            link,
            cover,
            matched: matched(strength, component),
            measured_by,
            says: vec![],
            notes: vec![],
        },
    )
}

fn any_root() -> impl Strategy<Value = RootState> {
    // Mostly sound: otherwise nearly every table is empty.
    let flag = || prop::bool::weighted(0.9);
    (flag(), flag(), flag(), flag()).prop_map(|(authentic, fresh, bound, accepted)| RootState {
        missing: false,
        authentic,
        fresh,
        bound,
        ageless: false,
        fatal: if accepted { vec![] } else { vec![findings::ReportCheck::Debug.into()] },
        because: String::new(),
    })
}

fn any_inputs() -> impl Strategy<Value = Inputs> {
    (any_root(), prop::option::weighted(0.8, any_root()), prop::collection::vec(any_claim(), 0..8))
        .prop_map(|(amd_sp, vtpm, claims)| Inputs { amd_sp, vtpm, claims })
}

fn any_view() -> impl Strategy<Value = View> {
    select(vec![View::Strict, View::Relaxed])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn more_evidence_never_lowers_a_level(inputs in any_inputs(), more in any_claim()) {
        let before = judge(&inputs, View::Strict);
        let mut richer = inputs;
        richer.claims.push(more);
        let after = judge(&richer, View::Strict);
        for (cell, was) in after.cells().iter().zip(before.cells()) {
            prop_assert!(cell.level() >= was.level(), "{} then {}", was.why(), cell.why());
        }
    }

    #[test]
    fn a_stronger_reference_never_lowers_a_level(inputs in any_inputs(), at in any::<prop::sample::Index>()) {
        prop_assume!(!inputs.claims.is_empty());
        let before = judge(&inputs, View::Strict);
        let mut richer = inputs;
        let at = at.index(richer.claims.len());
        richer.claims[at].matched = source(richer.claims[at].component);
        richer.claims[at].cover = Cover::Full;
        let after = judge(&richer, View::Strict);
        for (cell, was) in after.cells().iter().zip(before.cells()) {
            prop_assert!(cell.level() >= was.level());
        }
    }

    #[test]
    fn no_component_is_above_what_measured_it(inputs in any_inputs()) {
        let levels = judge(&inputs, View::Strict);
        for cell in levels.cells() {
            // The best claim decides; so some claim must allow the level, by itself and by everything that measured it.
            let allowed = inputs.claims.iter().filter(|claim| claim.component == cell.component()).any(|claim| {
                let by = claim.measured_by.iter().map(|m| {
                    if *m < claim.component { levels.cell(*m).level() } else { Level::L0 }
                });
                by.chain([raw(claim)]).min().unwrap_or(Level::L0) >= cell.level()
            });
            prop_assert!(allowed || cell.level() == Level::L0, "{}", cell.why());
        }
    }

    #[test]
    fn no_level_is_above_its_reference_and_none_above_two_is_without_its_proof(inputs in any_inputs(), view in any_view()) {
        for cell in judge(&inputs, view).cells() {
            let best = inputs.claims.iter().filter(|c| c.component == cell.component()).map(raw).max();
            prop_assert!(cell.level() <= best.unwrap_or(Level::L0));
            prop_assert!(cell.level() < Level::L3 || cell.proof().is_some());
            prop_assert!(cell.level() < Level::L4 || cell.source().is_some());
            prop_assert_eq!(cell.anchor().is_none(), cell.level() == Level::L0);
        }
    }

    #[test]
    fn nothing_counts_without_a_fresh_and_bound_root(inputs in any_inputs(), view in any_view(), which in 0..3u8) {
        let spoil = |root: &RootState| match which {
            0 => RootState { authentic: false, ..root.clone() },
            1 => RootState { fresh: false, ..root.clone() },
            _ => RootState { bound: false, ..root.clone() },
        };
        let both = Inputs { amd_sp: spoil(&inputs.amd_sp), vtpm: inputs.vtpm.as_ref().map(spoil), ..inputs.clone() };
        let levels = judge(&both, view);
        prop_assert!(levels.cells().iter().all(|cell| cell.level() == Level::L0));
        prop_assert!(levels.amd_sp() == Row::Failed && levels.vtpm() != Row::Ok);
        // With one root spoiled nothing comes down to it any more.
        let one = Inputs { amd_sp: spoil(&inputs.amd_sp), ..inputs };
        prop_assert!(judge(&one, view).cells().iter().all(|cell| cell.anchor() != Some(Root::AmdSp)));
    }

    #[test]
    fn asking_now_makes_nothing_fresh_whose_word_is_the_same_for_ever(inputs in any_inputs(), view in any_view()) {
        let amd_sp = RootState { ageless: true, ..inputs.amd_sp.clone() };
        let levels = judge(&Inputs { amd_sp, ..inputs }.if_fresh(), view);
        prop_assert!(levels.cells().iter().all(|cell| cell.anchor() != Some(Root::AmdSp)));
        prop_assert!(levels.amd_sp() == Row::Failed);
    }

    #[test]
    fn what_the_guest_says_of_itself_changes_nothing(inputs in any_inputs(), view in any_view()) {
        let mut without = inputs.clone();
        without.claims.retain(|claim| claim.link.anchor().is_some());
        let (levels, plain) = (judge(&inputs, view), judge(&without, view));
        for (cell, other) in levels.cells().iter().zip(plain.cells()) {
            prop_assert_eq!((cell.level(), cell.anchor()), (other.level(), other.anchor()));
        }
    }

    #[test]
    fn the_relaxed_view_never_shows_less(inputs in any_inputs()) {
        let (strict, relaxed) = (judge(&inputs, View::Strict), judge(&inputs, View::Relaxed));
        for (cell, other) in strict.cells().iter().zip(relaxed.cells()) {
            prop_assert!(cell.level() <= other.level());
        }
        prop_assert_eq!(strict.cells()[0].level(), relaxed.cells()[0].level(), "firmware is measured by nothing else");
    }
}
