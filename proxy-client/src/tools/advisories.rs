//! `evident-client advisories`: the table of published vulnerabilities, without a report.

use ratls::advisories::{Advisory, AdvisoryTable, MAX_AGE_DAYS};
use ratls::tcb::Product;
use ratls::text::json_for_people;
use ratls::time::UnixTime;
use serde_json::{Value, json};

use super::Output;

/// Print the table of published vulnerabilities and what a report must show for each; contacts nothing
#[derive(Debug, clap::Args)]
pub struct AdvisoriesArgs {
    /// Only those that AMD lists for this product
    #[arg(long, value_name = "PRODUCT", value_parser = product)]
    pub product: Option<Product>,
    /// Only the one of this CVE
    #[arg(long, value_name = "CVE")]
    pub cve: Option<String>,
    /// Only the one with this number, with or without AMD- in front, or another publisher's number
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

fn product(text: &str) -> Result<Product, String> {
    let known = Product::ALL.into_iter().find(|product| product.name().eq_ignore_ascii_case(text));
    known.ok_or_else(|| format!("{text:?} is no product; write milan, genoa or turin"))
}

/// Exit code 0; 2 if nothing has the id or CVE that was asked for.
pub fn advisories(args: &AdvisoriesArgs, now: UnixTime) -> Output {
    let table = AdvisoryTable::built_in();
    let of_product = |advisory: &Advisory, product: Product| {
        advisory.rows().iter().any(|row| row.is_affected() && row.lines().iter().any(|line| line.product() == product))
    };
    let wanted = |advisory: &&Advisory| {
        args.product.is_none_or(|product| of_product(advisory, product))
            && args.id.as_ref().is_none_or(|id| advisory.is_named(id))
            && args.cve.as_ref().is_none_or(|cve| advisory.cves().iter().any(|known| known.eq_ignore_ascii_case(cve)))
    };
    let found: Vec<&Advisory> = table.advisories().iter().filter(wanted).collect();
    if found.is_empty() {
        let error = std::io::Error::other("no advisory of the table fits");
        return Output::failed(super::EXIT_USAGE, &error, "evident-client advisories without flags lists all of them.");
    }
    let age = table.as_of().age_days(now);
    let stderr = if age > MAX_AGE_DAYS {
        format!(
            "evident-client: the table of advisories is {age} days old: newer ones are missing. Update evident-client\n"
        )
    } else {
        String::new()
    };
    let stdout = if args.json {
        let list: Vec<Value> = found.iter().map(|advisory| to_json(advisory)).collect();
        json_for_people(&format!("{:#}\n", json!({ "as_of": table.as_of(), "advisories": list })))
    } else {
        let mut text = format!("advisories as of {}\n", table.as_of());
        found.iter().for_each(|advisory| text.push_str(&paragraph(advisory)));
        text
    };
    Output { stdout, coloured: None, stderr, exit: 0 }
}

fn to_json(advisory: &Advisory) -> Value {
    json!({
        "id": advisory.id(),
        "name": advisory.name(),
        "aliases": advisory.aliases(),
        "cves": advisory.cves(),
        "published": advisory.published(),
        "checked": advisory.checked(),
        "forges_reports": advisory.forges_reports(),
        "attack": advisory.attack(),
        "remedy": advisory.remedy(),
        "rows": advisory.rows().iter().map(ToString::to_string).collect::<Vec<_>>(),
        "sources": advisory.sources(),
        "confidence": advisory.confidence(),
    })
}

fn paragraph(advisory: &Advisory) -> String {
    let names: Vec<&str> = advisory.aliases().iter().chain(advisory.cves()).map(String::as_str).collect();
    let also = if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) };
    let forges = if advisory.forges_reports() { "; can forge or extract what a report rests on" } else { "" };
    let mut text = format!(
        "\n{}  {}{also}\n  published {}, checked {}{forges}\n  {}\n  {}\n",
        advisory.id(),
        advisory.name(),
        advisory.published(),
        advisory.checked(),
        advisory.attack(),
        advisory.remedy()
    );
    for row in advisory.rows() {
        text.push_str(&format!("  {row}\n"));
    }
    text.push_str(&format!("  sources: {} [{}]\n", advisory.sources().join("; "), advisory.confidence()));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime::from_secs(1_792_000_000);

    fn args() -> AdvisoriesArgs {
        AdvisoriesArgs { product: None, cve: None, id: None, json: false }
    }

    #[test]
    fn each_flag_selects_and_what_fits_nothing_is_an_error() {
        let count = |args: AdvisoriesArgs| {
            let output = advisories(&AdvisoriesArgs { json: true, ..args }, NOW);
            assert_eq!(output.exit, 0);
            serde_json::from_str::<Value>(&output.stdout).unwrap()["advisories"].as_array().unwrap().len()
        };
        assert_eq!(count(args()), 27);
        assert_eq!(count(AdvisoriesArgs { id: Some("SB-3020".into()), ..args() }), 1);
        assert_eq!(count(AdvisoriesArgs { cve: Some("cve-2025-0033".into()), ..args() }), 1);
        let milan = count(AdvisoriesArgs { product: Some(Product::Milan), ..args() });
        assert!(milan > 10 && milan < 27, "{milan}");
        let nothing = advisories(&AdvisoriesArgs { id: Some("SB-1".into()), ..args() }, NOW);
        assert_eq!(nothing.exit, 2);
        assert!(product("rome").is_err() && product("Milan") == Ok(Product::Milan));
    }

    #[test]
    fn an_old_table_says_so() {
        assert_eq!(advisories(&args(), NOW).stderr, "");
        let later = UnixTime::from_secs(NOW.as_secs() + 200 * 86_400);
        assert!(advisories(&args(), later).stderr.contains("days old"));
    }

    #[test]
    fn a_row_says_what_a_report_must_show() {
        let text = advisories(&AdvisoriesArgs { id: Some("SB-3020".into()), ..args() }, NOW).stdout;
        assert!(text.contains("Milan B1: SNP firmware 27, microcode 222, mitigation bit 1 in both vectors"), "{text}");
    }
}
