//! Paths and lists of a cloud's hierarchy, made with openssl: what holds, and one change that refuses each time.
//!
//! The root has the name of Google's and stands in a simulator's file; a leaf needs its instance extension.

mod shared;

use ratls::endorsement::{
    AkError, PublicKey, TrustAnchors, VerifiedAk, gce_ak_keys, verify_gce_ak, verify_gce_endorsement,
};
use ratls::endorsement::{CrlStatus, pem};
use ratls::time::UnixTime;
use shared::lab::Lab;
use std::time::{SystemTime, UNIX_EPOCH};

const CA: &str = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash";
const SUBJECT: &str = "/O=Google Compute Engine/L=z/OU=p/CN=7";

fn instance(production: bool) -> String {
    let flag = if production { "ff" } else { "00" };
    // SEQUENCE { "z", 1, "p", 7, "n", [0] { SEQUENCE { [1] { BOOLEAN } } } }
    format!("1.3.6.1.4.1.11129.2.1.21=DER:30180c017a0201010c01700201070c016ea0073005a1030101{flag}")
}

fn leaf(more: &str) -> String {
    format!("basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n{}\n{more}", instance(true))
}

impl Lab {
    fn key(&self, name: &str, kind: &[&str]) {
        self.openssl(&[&["genpkey", "-out", name], kind].concat());
    }

    fn root(&self, extensions: &str) {
        self.key("root.key", P256);
        self.write("root.ext", format!("[req]\ndistinguished_name=dn\n[dn]\n[ca]\n{extensions}\n"));
        self.openssl(&[
            "req",
            "-x509",
            "-new",
            "-key",
            "root.key",
            "-sha256",
            "-days",
            "30",
            "-subj",
            "/CN=EK\\/AK CA Root",
            "-config",
            "root.ext",
            "-extensions",
            "ca",
            "-out",
            "root.pem",
        ]);
    }

    /// A certificate below `issuer`.
    fn issue(&self, name: &str, issuer: &str, subject: &str, extensions: &str) {
        self.key(&format!("{name}.key"), P256);
        self.write("ext", extensions);
        self.openssl(&["req", "-new", "-key", &format!("{name}.key"), "-subj", subject, "-out", "csr"]);
        self.openssl(&[
            "x509",
            "-req",
            "-in",
            "csr",
            "-CA",
            &format!("{issuer}.pem"),
            "-CAkey",
            &format!("{issuer}.key"),
            "-days",
            "20",
            "-sha256",
            "-extfile",
            "ext",
            "-out",
            &format!("{name}.pem"),
        ]);
    }

    fn anchors(&self) -> TrustAnchors {
        TrustAnchors::amd().with_simulator_root(&self.read("root.pem")).unwrap()
    }

    fn verify_with(&self, names: &[&str], crls: &[&[u8]]) -> Result<VerifiedAk, AkError> {
        self.verify_under(&self.anchors(), names, crls, now())
    }

    fn verify_under(
        &self,
        anchors: &TrustAnchors,
        names: &[&str],
        crls: &[&[u8]],
        at: UnixTime,
    ) -> Result<VerifiedAk, AkError> {
        let ders: Vec<Vec<u8>> =
            names.iter().map(|name| pem::certificates(&self.read(&format!("{name}.pem"))).unwrap().remove(0)).collect();
        let slices: Vec<&[u8]> = ders.iter().map(Vec::as_slice).collect();
        let key: PublicKey = gce_ak_keys(&slices[..1]).unwrap().remove(0);
        verify_gce_ak(&slices, crls, &key, anchors, at)
    }

    fn verify(&self, names: &[&str]) -> Result<VerifiedAk, AkError> {
        self.verify_with(names, &[])
    }

    fn refused(&self, names: &[&str]) -> &'static str {
        self.verify(names).unwrap_err().id()
    }
}

const P256: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];

/// The certificates begin when openssl makes them, so this test needs the machine's clock.
#[allow(clippy::disallowed_methods)]
fn now() -> UnixTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    UnixTime::from_secs(i64::try_from(since.as_secs()).unwrap() + 60)
}

/// root ← a ← b ← leaf.
fn lab(test: &str) -> Lab {
    let lab = Lab::new(test);
    lab.root(CA);
    lab.issue("a", "root", "/CN=A", CA);
    lab.issue("b", "a", "/CN=B", CA);
    lab.issue("leaf", "b", SUBJECT, &leaf(""));
    lab
}

#[test]
fn a_path_to_a_simulators_root_holds_and_is_simulated() {
    let lab = lab("holds");
    let ak = lab.verify(&["leaf", "a", "b"]).unwrap();
    assert!(ak.simulated());
    assert_eq!(ak.crl(), CrlStatus::Absent);
    assert!(lab.anchors().has_simulator_root());
    assert_eq!(lab.refused(&["leaf", "a"]), "T_AK_ROOT");
}

#[test]
fn a_ca_must_be_one_and_may_have_only_so_many_below() {
    let lab = lab("cas");
    let cases = [
        ("no-ca", "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,keyCertSign", "T_AK_CHAIN"),
        ("no-sign", "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,digitalSignature", "T_AK_CHAIN"),
        ("bare", "subjectKeyIdentifier=hash", "T_AK_CHAIN"),
        ("other-use", &format!("{CA}\nextendedKeyUsage=serverAuth"), "T_AK_CHAIN"),
        ("names", &format!("{CA}\nnameConstraints=permitted;DNS:example.com"), "T_AK_EXTENSION"),
        ("critical", &format!("{CA}\n1.2.3.4=critical,DER:0500"), "T_AK_EXTENSION"),
    ];
    for (name, extensions, wanted) in cases {
        lab.issue(name, "a", "/CN=B", extensions);
        lab.issue("below", name, SUBJECT, &leaf(""));
        assert_eq!(lab.refused(&["below", "a", name]), wanted, "{name}");
    }
    lab.issue("short", "root", "/CN=A", "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign");
    lab.issue("b2", "short", "/CN=B", CA);
    lab.issue("below", "b2", SUBJECT, &leaf(""));
    assert_eq!(lab.refused(&["below", "short", "b2"]), "T_AK_CHAIN", "pathlen:0 with a CA below");
    lab.issue("below", "short", SUBJECT, &leaf(""));
    assert!(lab.verify(&["below", "short"]).is_ok(), "pathlen:0 with a leaf below");
    lab.issue("use", "a", "/CN=B", &format!("{CA}\nextendedKeyUsage=2.23.133.8.1"));
    lab.issue("below", "use", SUBJECT, &leaf(""));
    assert!(lab.verify(&["below", "a", "use"]).is_ok(), "the use that Google's CAs have");
}

#[test]
fn paths_are_bounded() {
    let lab = lab("bounds");
    let mut names = vec!["leaf".to_owned()];
    let mut issuer = "root".to_owned();
    for depth in 0..5 {
        let name = format!("d{depth}");
        lab.issue(&name, &issuer, &format!("/CN=D{depth}"), CA);
        names.push(name.clone());
        issuer = name;
    }
    lab.issue("leaf", &issuer, SUBJECT, &leaf(""));
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(lab.refused(&all), "T_AK_CHAIN", "five CAs");
    lab.issue("leaf", "d3", SUBJECT, &leaf(""));
    assert!(lab.verify(&all).is_ok(), "four CAs");
    let nine = [&all[..], &["a", "b", "root"]].concat();
    assert_eq!(lab.refused(&nine), "T_AK_CHAIN", "nine certificates");
}

#[test]
fn a_leaf_must_be_one_for_signing_of_the_instance_that_it_names() {
    let lab = lab("leaf");
    let cases = [
        ("ca", format!("{CA}\n{}", instance(true)), SUBJECT, "T_AK_USE"),
        (
            "agree",
            format!("basicConstraints=critical,CA:FALSE\nkeyUsage=critical,keyAgreement\n{}", instance(true)),
            SUBJECT,
            "T_AK_USE",
        ),
        ("server", leaf("extendedKeyUsage=serverAuth"), SUBJECT, "T_AK_USE"),
        ("critical", leaf("1.2.3.4=critical,DER:0500"), SUBJECT, "T_AK_EXTENSION"),
        ("plat_n52", leaf("").replace(&instance(true), &instance(false)), SUBJECT, "T_AK_PRODUCTION"),
        ("plat_n33", leaf(""), "/O=Google Compute Engine/L=z/OU=p/CN=8", "T_AK_SUBJECT"),
        ("project", leaf(""), "/O=Google Compute Engine/L=z/OU=q/CN=7", "T_AK_SUBJECT"),
        ("zone", leaf(""), "/O=Google Compute Engine/L=y/OU=p/CN=7", "T_AK_SUBJECT"),
        ("alt", leaf("subjectAltName=DNS:example.com"), SUBJECT, "T_AK_SUBJECT"),
        ("empty", leaf(""), "/", "T_AK_SUBJECT"),
        ("malformed", leaf("").replace("30180c", "30190c"), SUBJECT, "T_AK_EXTENSION"),
    ];
    for (name, extensions, subject, wanted) in cases {
        lab.issue("leaf", "b", subject, &extensions);
        assert_eq!(lab.refused(&["leaf", "a", "b"]), wanted, "{name}");
    }
}

#[test]
fn plat_n22_lists_are_looked_at_where_they_come_along() {
    let lab = lab("lists");
    let names = ["leaf", "a", "b"];
    let good = lab.crl("b", &[], "20991231000000Z");
    let ak = lab.verify_with(&names, &[&good]).unwrap();
    assert!(matches!(ak.crl(), CrlStatus::Checked { .. }));
    let id = |crl: &[u8]| lab.verify_with(&names, &[crl]).unwrap_err().id();
    assert_eq!(id(&lab.crl("b", &["leaf"], "20991231000000Z")), "T_AK_REVOKED");
    assert_eq!(id(&lab.crl("root", &["a"], "20991231000000Z")), "T_AK_REVOKED");
    assert_eq!(id(&lab.crl("b", &[], "20210101000000Z")), "T_AK_CRL", "stale");
    let mut forged = good;
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(id(&forged), "T_AK_CRL");
    // Another CA of the same name, as Google has them: its list is not about this path.
    lab.issue("twin", "a", "/CN=B", CA);
    let of_twin = lab.crl("twin", &["leaf"], "20991231000000Z");
    assert_eq!(lab.verify_with(&names, &[&of_twin]).unwrap().crl(), CrlStatus::Absent);
    assert!(lab.verify(&["leaf", "a", "twin", "b"]).is_ok(), "and its certificate does not get into the way");
    lab.issue("silent", "a", "/CN=B", "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign");
    lab.issue("leaf", "silent", SUBJECT, &leaf(""));
    let unasked = lab.crl("silent", &[], "20991231000000Z");
    assert_eq!(
        lab.verify_with(&["leaf", "a", "silent"], &[&unasked]).unwrap_err().id(),
        "T_AK_CRL",
        "no right to sign lists"
    );
}

/// A CA whose certificates announce a list has one; that another list of the path came does not stand in for it.
#[test]
fn a_list_that_a_certificate_announces_is_missing_until_it_comes() {
    let lab = Lab::new("announced");
    let announces = "crlDistributionPoints=URI:http://example.com/list.crl";
    lab.root(CA);
    lab.issue("a", "root", "/CN=A", CA);
    lab.issue("b", "a", "/CN=B", &format!("{CA}\n{announces}"));
    lab.issue("leaf", "b", SUBJECT, &leaf(announces));
    let missing = |issuers: &[&str]| {
        let lists: Vec<Vec<u8>> = issuers.iter().map(|issuer| lab.crl(issuer, &[], "20991231000000Z")).collect();
        let lists: Vec<&[u8]> = lists.iter().map(Vec::as_slice).collect();
        let ak = lab.verify_with(&["leaf", "a", "b"], &lists).unwrap();
        assert_eq!(matches!(ak.crl(), CrlStatus::Checked { .. }), !issuers.is_empty());
        ak.missing_list().map(str::to_owned)
    };
    assert_eq!(missing(&[]).as_deref(), Some("B"));
    assert_eq!(missing(&["root"]).as_deref(), Some("B"));
    assert_eq!(missing(&["b"]).as_deref(), Some("A"));
    assert_eq!(missing(&["a", "b"]), None, "the root's is announced by nobody");
}

/// What is remembered of a key ends with the first of its lists, and another list is another question.
#[test]
fn lists_are_looked_at_although_the_key_is_remembered() {
    let lab = lab("remembered-lists");
    let (names, memory) = (["leaf", "a", "b"], lab.anchors().remembering());
    let after = |days: i64| UnixTime::from_secs(now().as_secs() + days * 86_400);
    let digits = |time: UnixTime| time.to_string().replace(['-', ':', 'T'], "");
    let good = lab.crl("b", &[], &digits(after(10)));
    for at in [after(0), after(0), after(9)] {
        let ak = lab.verify_under(&memory, &names, &[&good], at).unwrap();
        assert!(matches!(ak.crl(), CrlStatus::Checked { .. }));
    }
    let id = |crl: &[u8], at| lab.verify_under(&memory, &names, &[crl], at).unwrap_err().id();
    assert_eq!(id(&good, after(11)), "T_AK_CRL");
    assert_eq!(id(&lab.crl("b", &["leaf"], &digits(after(10))), after(0)), "T_AK_REVOKED");
    assert_eq!(lab.verify_under(&memory, &names, &[], after(11)).unwrap().crl(), CrlStatus::Absent);
}

#[test]
fn a_simulators_file_holds_one_root_for_each_place() {
    let lab = lab("file");
    let root = lab.read("root.pem");
    assert!(TrustAnchors::amd().with_simulator_root(&[&root[..], &root].concat()).is_err(), "the same place twice");
    lab.key("other.key", P256);
    lab.openssl(&[
        "req",
        "-x509",
        "-new",
        "-key",
        "other.key",
        "-days",
        "9",
        "-subj",
        "/CN=anything",
        "-out",
        "other.pem",
    ]);
    assert!(TrustAnchors::amd().with_simulator_root(&lab.read("other.pem")).is_err(), "a name of no place");
    lab.openssl(&[
        "req",
        "-x509",
        "-new",
        "-key",
        "other.key",
        "-days",
        "9",
        "-subj",
        "/CN=aws.nitro-enclaves",
        "-addext",
        "keyUsage=critical,keyCertSign",
        "-out",
        "other.pem",
    ]);
    assert!(TrustAnchors::amd().with_simulator_root(&[&root[..], &lab.read("other.pem")].concat()).is_ok());
}

// ---- endorsements of Google's firmware

const PSS: &[&str] = &["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:32"];

fn proto(number: u8, contents: &[u8]) -> Vec<u8> {
    let (mut len, mut length) = (contents.len(), vec![]);
    while len >= 0x80 {
        length.push(u8::try_from(len & 0x7F).unwrap() | 0x80);
        len >>= 7;
    }
    length.push(u8::try_from(len).unwrap());
    [vec![number << 3 | 2], length, contents.to_vec()].concat()
}

struct Firmware {
    lab: Lab,
    golden: Vec<u8>,
}

fn firmware(test: &str, signer_extensions: &str) -> Firmware {
    let lab = Lab::new(test);
    let rsa = ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
    lab.key("root.key", &rsa);
    lab.key("signer.key", &rsa);
    let ca = ["-addext", "keyUsage=critical,keyCertSign,cRLSign"];
    lab.openssl(
        &[
            &["req", "-x509", "-new", "-key", "root.key", "-sha256", "-days", "30", "-subj", "/CN=GCE-cc-tcb-root"][..],
            PSS,
            &ca,
            &["-out", "root.pem"],
        ]
        .concat(),
    );
    lab.openssl(&["req", "-new", "-key", "signer.key", "-subj", "/CN=signer", "-out", "csr"]);
    lab.write("ext", signer_extensions);
    lab.openssl(
        &[
            &["x509", "-req", "-in", "csr", "-CA", "root.pem", "-CAkey", "root.key", "-days", "20", "-sha256"][..],
            PSS,
            &["-extfile", "ext", "-outform", "der", "-out", "signer.der"],
        ]
        .concat(),
    );
    let measurement = proto(2, &[vec![0x08, 2], proto(2, &[9; 48])].concat());
    let snp = [vec![0x08, 3], measurement].concat();
    let golden =
        [proto(1, &[0x08, 100]), proto(4, &lab.read("signer.der")), proto(5, &[5; 48]), proto(7, &snp)].concat();
    Firmware { lab, golden }
}

impl Firmware {
    fn endorse(&self, golden: &[u8], salt: &str) -> Vec<u8> {
        self.lab.write("golden", golden);
        let salt = format!("rsa_pss_saltlen:{salt}");
        self.lab.openssl(&[
            "dgst",
            "-sha256",
            "-sign",
            "signer.key",
            "-sigopt",
            "rsa_padding_mode:pss",
            "-sigopt",
            &salt,
            "-out",
            "sig",
            "golden",
        ]);
        [proto(1, golden), proto(2, &self.lab.read("sig"))].concat()
    }
}

const SIGNER: &str = "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature";

#[test]
fn an_endorsement_below_the_named_root_verifies_and_one_change_refuses() {
    let f = firmware("firmware", SIGNER);
    let root = f.lab.read("root.pem");
    let anchors = TrustAnchors::amd().with_gce_firmware_root(&root).unwrap();
    let endorsement = f.endorse(&f.golden, "32");
    let verified = verify_gce_endorsement(&endorsement, &anchors, now()).unwrap();
    assert!(!verified.simulated());
    assert_eq!(verified.endorsement().snp().unwrap().svn(), 3);
    let simulator = TrustAnchors::amd().with_simulator_root(&root).unwrap();
    assert!(verify_gce_endorsement(&endorsement, &simulator, now()).unwrap().simulated());

    let id = |bytes: &[u8], anchors: &TrustAnchors, at| verify_gce_endorsement(bytes, anchors, at).unwrap_err().id();
    assert_eq!(id(&endorsement, &TrustAnchors::amd(), now()), "G_ROOT", "the built-in root is Google's");
    assert_eq!(id(&endorsement, &anchors, UnixTime::from_secs(now().as_secs() + 25 * 86_400)), "G_VALIDITY");
    assert_eq!(id(&f.endorse(&f.golden, "20"), &anchors, now()), "G_SIG", "another salt");
    let other = firmware("firmware-other", SIGNER);
    let foreign = TrustAnchors::amd().with_gce_firmware_root(&other.lab.read("root.pem")).unwrap();
    assert_eq!(id(&endorsement, &foreign, now()), "G_CHAIN", "another root of this name");
    for byte in (0..endorsement.len()).step_by(3) {
        let mut changed = endorsement.clone();
        changed[byte] ^= 0x10;
        assert!(verify_gce_endorsement(&changed, &anchors, now()).is_err(), "byte {byte}");
    }
}

#[test]
fn a_ca_signs_no_endorsement_itself() {
    let f = firmware("firmware-ca", CA);
    let anchors = TrustAnchors::amd().with_gce_firmware_root(&f.lab.read("root.pem")).unwrap();
    let refused = verify_gce_endorsement(&f.endorse(&f.golden, "32"), &anchors, now()).unwrap_err();
    assert_eq!(refused.id(), "G_CHAIN");
}
