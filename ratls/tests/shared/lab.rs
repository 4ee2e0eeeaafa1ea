//! Certificate authorities of one test, made with openssl in a folder that is gone with it: PROVE NOTHING.

use std::path::PathBuf;
use std::process::Command;

use ratls::endorsement::pem;

pub struct Lab(PathBuf);

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Lab {
    pub fn new(test: &str) -> Lab {
        let dir = std::env::temp_dir().join(format!("evident-lab-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Lab(dir)
    }

    pub fn openssl(&self, args: &[&str]) {
        let output = Command::new("openssl").current_dir(&self.0).args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        std::fs::write(self.0.join(name), contents).unwrap();
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.0.join(name)).unwrap()
    }

    /// The certificate in this file of PEM.
    pub fn der(&self, name: &str) -> Vec<u8> {
        pem::certificates(&self.read(name)).unwrap().remove(0)
    }

    /// The list of `issuer`, of these certificates, which wants to be replaced at `next` (`20991231000000Z`).
    pub fn crl(&self, issuer: &str, revoked: &[&str], next: &str) -> Vec<u8> {
        self.crl_with("sha256", issuer, revoked, next)
    }

    /// The same, signed with this hash.
    pub fn crl_with(&self, hash: &str, issuer: &str, revoked: &[&str], next: &str) -> Vec<u8> {
        self.write("index", "");
        self.write("index.attr", "unique_subject = no\n");
        self.write("crlnumber", "01\n");
        self.write(
            "ca.conf",
            format!(
                "[ca]\ndefault_ca=d\n[d]\ndatabase=index\ncrlnumber=crlnumber\ndefault_md={hash}\ncrl_extensions=e\n\
                 [e]\nauthorityKeyIdentifier=keyid\n"
            ),
        );
        let (certificate, key) = (format!("{issuer}.pem"), format!("{issuer}.key"));
        let ca = ["ca", "-config", "ca.conf", "-cert", &certificate, "-keyfile", &key];
        for name in revoked {
            self.openssl(&[&ca[..], &["-revoke", &format!("{name}.pem")]].concat());
        }
        let made = ["-gencrl", "-crl_lastupdate", "20200101000000Z", "-crl_nextupdate", next, "-out", "crl.pem"];
        self.openssl(&[&ca[..], &made].concat());
        pem::crls(&self.read("crl.pem")).unwrap().remove(0)
    }
}
