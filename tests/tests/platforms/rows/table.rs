//! docs/table-1, as it stands there.

use evident_tests::binaries::workspace;

use crate::{policies, table_1};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn table_1_in_the_documentation_is_what_the_command_makes() {
    if !policies::proves_aks() {
        println!(
            "skipped: table_1_in_the_documentation_is_what_the_command_makes: this backend cannot ask for the proof of an AK, so its row of the e-vTPM is another one"
        );
        return;
    }
    for (name, made) in table_1::Table::make().await.files() {
        let kept = std::fs::read_to_string(workspace().join("docs").join(name)).unwrap_or_default();
        assert!(kept == made, "docs/{name} is not what `cargo xtask table-1` makes:\n{made}");
    }
}
