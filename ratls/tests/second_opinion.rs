//! The `sev` crate, an independent parser, reads every real report to the same fields.

mod shared;

use ratls::evidence::snp::{Report, TcbKind};
use ratls::tcb::{TcbLayout, TcbVersion};
use sev::firmware::guest::AttestationReport;
use sev::firmware::host::TcbVersion as TheirTcb;
use sev::parser::ByteParser;

fn tcb(theirs: &TheirTcb) -> TcbVersion {
    match theirs.fmc {
        Some(fmc) => TcbVersion::new_turin(fmc, theirs.bootloader, theirs.tee, theirs.snp, theirs.microcode),
        None => TcbVersion::new_milan_genoa(theirs.bootloader, theirs.tee, theirs.snp, theirs.microcode),
    }
}

#[test]
fn another_parser_reads_the_same_fields() {
    for case in shared::cases("another_parser_reads_the_same_fields") {
        let id = &case.id;
        let ours = Report::parse(&case.report).unwrap();
        // For version 2 `sev` guesses the layout from the chip id, and gives up on the zero one of a VLEK.
        let guessed = ours.version() == 2 && ours.chip_id().is_zero();
        let mut for_them = case.report.clone();
        if guessed {
            for_them[0x1A0..0x1E0].fill(0xFF);
        }
        let theirs = AttestationReport::from_bytes(&for_them).unwrap();

        assert_eq!(ours.version(), theirs.version, "{id}");
        assert_eq!(ours.guest_svn(), theirs.guest_svn, "{id}");
        assert_eq!(ours.policy().raw(), u64::from(theirs.policy), "{id}");
        assert_eq!(ours.policy().smt_allowed(), theirs.policy.smt_allowed(), "{id}");
        assert_eq!(ours.policy().debug_allowed(), theirs.policy.debug_allowed(), "{id}");
        assert_eq!(ours.policy().migrate_ma_allowed(), theirs.policy.migrate_ma_allowed(), "{id}");
        assert_eq!(u64::from(ours.policy().abi().0), theirs.policy.abi_major(), "{id}");
        assert_eq!(u64::from(ours.policy().abi().1), theirs.policy.abi_minor(), "{id}");
        assert_eq!(ours.family_id().as_bytes(), &theirs.family_id, "{id}");
        assert_eq!(ours.image_id().as_bytes(), &theirs.image_id, "{id}");
        assert_eq!(ours.vmpl(), theirs.vmpl, "{id}");
        assert_eq!(ours.signature_algorithm(), theirs.sig_algo, "{id}");
        assert_eq!(ours.platform_info().raw(), u64::from(theirs.plat_info), "{id}");
        assert_eq!(ours.author_key_en(), theirs.key_info.author_key_en(), "{id}");
        assert_eq!(ours.mask_chip_key(), theirs.key_info.mask_chip_key(), "{id}");
        assert_eq!(ours.report_data().as_bytes(), &theirs.report_data, "{id}");
        assert_eq!(ours.measurement().as_bytes(), &theirs.measurement, "{id}");
        assert_eq!(ours.host_data().as_bytes(), &theirs.host_data, "{id}");
        assert_eq!(ours.id_key_digest().as_bytes(), &theirs.id_key_digest, "{id}");
        assert_eq!(ours.author_key_digest().as_bytes(), &theirs.author_key_digest, "{id}");
        assert_eq!(ours.report_id().as_bytes(), &theirs.report_id, "{id}");
        assert_eq!(ours.report_id_ma().as_bytes(), &theirs.report_id_ma, "{id}");
        if !guessed {
            assert_eq!(ours.chip_id().as_bytes(), &theirs.chip_id, "{id}");
        }

        let cpuid = ours.cpuid();
        assert_eq!(cpuid.map(|c| c.family), theirs.cpuid_fam_id, "{id}");
        assert_eq!(cpuid.map(|c| c.model), theirs.cpuid_mod_id, "{id}");
        assert_eq!(cpuid.map(|c| c.stepping), theirs.cpuid_step, "{id}");

        let layout = if theirs.current_tcb.fmc.is_some() { TcbLayout::Turin } else { TcbLayout::MilanGenoa };
        assert_eq!(ours.tcb(TcbKind::Current, layout), tcb(&theirs.current_tcb), "{id}");
        assert_eq!(ours.tcb(TcbKind::Reported, layout), tcb(&theirs.reported_tcb), "{id}");
        assert_eq!(ours.tcb(TcbKind::Committed, layout), tcb(&theirs.committed_tcb), "{id}");
        assert_eq!(ours.tcb(TcbKind::Launch, layout), tcb(&theirs.launch_tcb), "{id}");

        let firmware = |v: sev::firmware::guest::Version| (v.major, v.minor, v.build);
        let (current, committed) = (ours.current_firmware(), ours.committed_firmware());
        assert_eq!((current.major, current.minor, current.build), firmware(theirs.current), "{id}");
        assert_eq!((committed.major, committed.minor, committed.build), firmware(theirs.committed), "{id}");

        assert_eq!(ours.mitigation().map(|m| m.launch), theirs.launch_mit_vector, "{id}");
        assert_eq!(ours.mitigation().map(|m| m.current), theirs.current_mit_vector, "{id}");

        let (r, s) = (theirs.signature.r(), theirs.signature.s());
        let big_endian: Vec<u8> = r[..48].iter().rev().chain(s[..48].iter().rev()).copied().collect();
        assert_eq!(ours.signature_fixed()[..], big_endian[..], "{id}");
    }
}
