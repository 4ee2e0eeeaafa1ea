//! Targets for `ratls::evidence`, `ratls::endorsement`, `ratls::cert` and `ratls::verify`: what hosts, guests and key services send.

use ratls::cert::{KeyEvidence, spki_digest};
use ratls::endorsement::table::{CertificateTable, TableItem};
use ratls::endorsement::{TrustAnchors, pem};
use ratls::evidence::snp::{FirmwareVersion, REPORT_LEN, Report, SigningKey, TcbKind};
use ratls::tcb::TcbLayout;
use ratls::time::UnixTime;
use ratls::verify::{verify_key, verify_report};
use ratls::wire::attest::HardwareFormat;

use crate::tagged::{self, CERTIFICATE, CRL, REPORT, ROOT};

/// Within the validity of AMD's roots and of everything that the simulator signs.
pub const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

/// A report is exactly its fields: written from what the accessors say, it is what was received. So no byte of an accepted
/// report is without a name, and none that is reserved says anything.
pub fn report(data: &[u8]) {
    let Ok(report) = Report::parse(data) else { return };
    assert_eq!(&report.raw()[..], data);
    assert_eq!(write(&report), data, "a byte has no name");
    assert_eq!(report.signed_bytes().len(), 0x2A0);
    assert!(report.cpuid().is_some() || report.product_from_cpuid().is_none());
    for kind in TcbKind::ALL {
        for layout in [TcbLayout::MilanGenoa, TcbLayout::Turin] {
            let tcb = report.tcb(kind, layout);
            assert_eq!(tcb.at_least(&tcb), Ok(true));
            let _ = (tcb.to_string(), tcb.reserved_is_zero(), kind.to_string());
        }
    }
    let _ = (report.platform_info().to_string(), report.policy().to_string(), report.current_firmware().to_string());
    assert!(verify_report(data, &[], &[], &TrustAnchors::amd(), NOW).is_err(), "nobody vouches for it");
}

/// The layout of AMD 56860 once more, in the other direction.
fn write(report: &Report) -> Vec<u8> {
    let mut raw = vec![0; REPORT_LEN];
    let mut put = |at: usize, bytes: &[u8]| raw[at..at + bytes.len()].copy_from_slice(bytes);
    let firmware = |f: FirmwareVersion| [f.build, f.minor, f.major];
    let tcb = |kind| report.tcb(kind, TcbLayout::MilanGenoa).raw().to_le_bytes();
    let key = match report.signing_key() {
        SigningKey::Vcek => 0,
        SigningKey::Vlek => 1,
        SigningKey::None => 7,
    };
    let key_info = u32::from(report.author_key_en()) | u32::from(report.mask_chip_key()) << 1 | key << 2;
    put(0x000, &report.version().to_le_bytes());
    put(0x004, &report.guest_svn().to_le_bytes());
    put(0x008, &report.policy().raw().to_le_bytes());
    put(0x010, report.family_id().as_bytes());
    put(0x020, report.image_id().as_bytes());
    put(0x030, &report.vmpl().to_le_bytes());
    put(0x034, &report.signature_algorithm().to_le_bytes());
    put(0x038, &tcb(TcbKind::Current));
    put(0x040, &report.platform_info().raw().to_le_bytes());
    put(0x048, &key_info.to_le_bytes());
    put(0x050, report.report_data().as_bytes());
    put(0x090, report.measurement().as_bytes());
    put(0x0C0, report.host_data().as_bytes());
    put(0x0E0, report.id_key_digest().as_bytes());
    put(0x110, report.author_key_digest().as_bytes());
    put(0x140, report.report_id().as_bytes());
    put(0x160, report.report_id_ma().as_bytes());
    put(0x180, &tcb(TcbKind::Reported));
    if let Some(cpuid) = report.cpuid() {
        put(0x188, &[cpuid.family, cpuid.model, cpuid.stepping]);
    }
    put(0x1A0, report.chip_id().as_bytes());
    put(0x1E0, &tcb(TcbKind::Committed));
    put(0x1E8, &firmware(report.current_firmware()));
    put(0x1EC, &firmware(report.committed_firmware()));
    put(0x1F0, &tcb(TcbKind::Launch));
    if let Some(mitigation) = report.mitigation() {
        put(0x1F8, &mitigation.launch.to_le_bytes());
        put(0x200, &mitigation.current.to_le_bytes());
    }
    let signature = report.signature_fixed();
    let little_endian = |half: &[u8]| half.iter().rev().copied().collect::<Vec<u8>>();
    put(0x2A0, &little_endian(&signature[..48]));
    put(0x2A0 + 72, &little_endian(&signature[48..]));
    raw
}

/// One certificate with AMD's extensions, as the leaf and as the issuer of a chain. Without a root it proves nothing.
pub fn certificate(data: &[u8]) {
    let anchors = TrustAnchors::amd();
    for signing_key in [0, 1] {
        let report = minimal_report(signing_key);
        assert!(verify_report(&report, &[data], &[], &anchors, NOW).is_err(), "AMD signed nothing here");
    }
    let _ = anchors.with_simulator_root(data);
    let _ = (pem::certificates(data), pem::crls(data), spki_digest(data));
}

/// A report that parses and asks for a VCEK (0) or a VLEK (1).
fn minimal_report(signing_key: u32) -> Vec<u8> {
    let mut raw = vec![0; REPORT_LEN];
    raw[0x000] = 3;
    raw[0x00A] = 0x03;
    raw[0x034] = 1;
    raw[0x048..0x04C].copy_from_slice(&(signing_key << 2).to_le_bytes());
    raw[0x188..0x18B].copy_from_slice(&[0x19, 0x01, 0x01]);
    raw
}

/// A whole chain: a simulator's root, certificates, revocation lists and a report, tagged. What verifies is simulated and says
/// so; without the simulator's root it does not verify, and neither does another report under the same chain.
pub fn chain(data: &[u8]) -> Option<()> {
    let items = tagged::split(data);
    let all = |wanted| items.iter().filter(move |(tag, _)| *tag == wanted).map(|(_, bytes)| *bytes);
    let report = all(REPORT).next()?;
    let (certificates, crls): (Vec<_>, Vec<_>) = (all(CERTIFICATE).collect(), all(CRL).collect());
    let amd = TrustAnchors::amd();
    assert!(verify_report(report, &certificates, &crls, &amd, NOW).is_err(), "AMD signed nothing here");
    let anchors = amd.with_simulator_root(all(ROOT).next()?).ok()?;
    let verified = verify_report(report, &certificates, &crls, &anchors, NOW).ok()?;
    assert!(verified.vek().simulated(), "simulated evidence that does not say so");
    assert!(verified.vek().not_after() >= NOW);
    let mut other = report.to_vec();
    other[0x050] ^= 1;
    assert!(verify_report(&other, &certificates, &crls, &anchors, NOW).is_err(), "another report, the same signature");
    Some(())
}

/// The table of the host: blobs lie inside it, each kind at most once.
pub fn table(data: &[u8]) {
    let Ok(table) = CertificateTable::parse(data) else { return };
    let inside = data.as_ptr_range();
    for item in [TableItem::Vcek, TableItem::Vlek, TableItem::Ask, TableItem::Ark, TableItem::Crl] {
        if let Some(blob) = table.get(item) {
            assert!(!blob.is_empty() && inside.start <= blob.as_ptr() && blob.as_ptr_range().end <= inside.end);
        }
    }
    assert!(table.certificates().count() <= 3);
    let certificates: Vec<_> = table.certificates().collect();
    let crls: Vec<_> = table.get(TableItem::Crl).into_iter().collect();
    assert!(verify_report(&minimal_report(0), &certificates, &crls, &TrustAnchors::amd(), NOW).is_err());
}

/// Evidence in a certificate has one spelling, and none that a fuzzer writes verifies under AMD's roots. The input is a
/// certificate, or only the extension.
pub fn cmw(data: &[u8]) {
    if let Ok(evidence) = KeyEvidence::parse_extension(data) {
        assert_eq!(evidence.encode_extension(), data, "two spellings of one extension");
    }
    let _ = spki_digest(data);
    if let Ok(evidence) = KeyEvidence::from_leaf(data) {
        let extension = evidence.encode_extension();
        assert!(
            data.windows(extension.len()).any(|window| window == extension),
            "evidence that the leaf does not hold"
        );
        crate::wire::statement(&evidence.statement);
        for (format, bytes) in &evidence.hardware {
            if *format == HardwareFormat::SnpReport {
                report(bytes);
            }
        }
    }
    assert!(verify_key(data, &TrustAnchors::amd(), NOW).is_err(), "AMD signed nothing here");
}
