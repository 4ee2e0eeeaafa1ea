//! Real reports and certificates from the evidence folder, which is no part of this repository.

use serde_json::Value;
use std::path::{Path, PathBuf};

/// One case that is authentic at `at`.
pub(crate) struct Case {
    pub(crate) id: String,
    pub(crate) report: Vec<u8>,
    pub(crate) vek: Vec<u8>,
    pub(crate) at: String,
    /// As in AMD's addresses.
    pub(crate) product: String,
    pub(crate) vlek: bool,
    fields: Value,
}

/// `None`, with a line that names the test, where there is no such folder.
pub(crate) fn folder(test: &str) -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/evidence");
    let folder = std::env::var_os("EVIDENT_EVIDENCE").map_or_else(beside, PathBuf::from);
    if !folder.is_dir() {
        println!("skipped: {test}: no evidence folder");
        return None;
    }
    Some(folder)
}

pub(crate) fn authentic_cases(folder: &Path) -> Vec<Case> {
    let mut cases = vec![];
    for entry in std::fs::read_dir(folder.join("snp")).expect("the folder has reports") {
        let dir = entry.expect("readable").path();
        let read = |name: &str| std::fs::read(dir.join(name)).expect("each case has this file");
        let json: Value = serde_json::from_slice(&read("case.json")).expect("a case is JSON");
        if json["expect"] != "authentic" {
            continue;
        }
        let id = dir.file_name().expect("a case has a name").to_string_lossy().into_owned();
        // The name of a case begins with the product.
        let product = ["Milan", "Genoa", "Turin"].into_iter().find(|name| id.starts_with(&name.to_lowercase()));
        let product = product.expect("a product").to_owned();
        cases.push(Case {
            id,
            report: read("report.bin"),
            vek: read("vek.der"),
            at: json["at"].as_str().expect("a time").to_owned(),
            product,
            vlek: json["fields"]["signing_key"] == "VLEK",
            fields: json["fields"].clone(),
        });
    }
    cases.sort_by(|a, b| a.id.cmp(&b.id));
    cases
}

impl Case {
    /// Where AMD's service has the VCEK, written by hand from AMD 57230.
    pub(crate) fn vcek_path(&self) -> String {
        let tcb = &self.fields["reported_tcb"];
        let spl = |name: &str| tcb[name].as_u64().expect("a number");
        let chip_id = self.fields["chip_id"].as_str().expect("hex");
        let (chip_id, fmc) = match self.product.as_str() {
            "Turin" => (&chip_id[..16], format!("fmcSPL={:02}&", spl("fmc"))),
            _ => (chip_id, String::new()),
        };
        format!(
            "/vcek/v1/{}/{chip_id}?{fmc}blSPL={:02}&teeSPL={:02}&snpSPL={:02}&ucodeSPL={:02}",
            self.product,
            spl("bl"),
            spl("tee"),
            spl("snp"),
            spl("ucode")
        )
    }
}

/// What AMD's service has above the leaves of a product: the address and the PEM file, ASK or ASVK first and then the ARK.
pub(crate) fn chains(folder: &Path) -> Vec<(String, String)> {
    let mut chains = vec![];
    for product in ["Milan", "Genoa", "Turin"] {
        let file = folder.join(format!("endorsements/{}_ask_ark_asvk.pem", product.to_lowercase()));
        let pem = std::fs::read_to_string(file).expect("one file for each product");
        const BEGIN: &str = "-----BEGIN";
        let blocks: Vec<String> = pem.split(BEGIN).skip(1).map(|block| format!("{BEGIN}{block}")).collect();
        let [ask, ark, asvk] = &blocks[..] else { panic!("{product}: wanted ASK, ARK, ASVK") };
        chains.push((format!("/vcek/v1/{product}/cert_chain"), format!("{ask}{ark}")));
        chains.push((format!("/vlek/v1/{product}/cert_chain"), format!("{asvk}{ark}")));
    }
    chains
}
