//! Root hashes of dm-verity images against `veritysetup` (Debian cryptsetup-bin). Skipped by name where it is absent.

use std::path::Path;
use std::process::Command;

use ratls::reference::{SUPERBLOCK_BYTES, VerityFormat};

/// Not on the path of everybody.
const VERITYSETUP: &str = "/usr/sbin/veritysetup";

fn root(format: VerityFormat, image: &Path) -> String {
    let mut hasher = format.hasher();
    std::fs::read(image).unwrap().chunks(70_001).for_each(|piece| hasher.update(piece));
    hasher.finish().unwrap().root().to_string()
}

/// Formats `image` into `tree` and gives the root hash that is printed.
fn veritysetup(image: &Path, tree: &Path, options: &[String]) -> String {
    let done = Command::new(VERITYSETUP).arg("format").args(options).args([image, tree]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let text = String::from_utf8(done.stdout).unwrap();
    let line = text.lines().find(|line| line.starts_with("Root hash:")).unwrap();
    line.split_whitespace().last().unwrap().to_owned()
}

#[test]
fn veritysetup_comes_to_the_same_root_hashes() {
    let test = "veritysetup_comes_to_the_same_root_hashes";
    if !Path::new(VERITYSETUP).is_file() {
        println!("skipped: {test}: no veritysetup");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (image, tree) = (folder.path().join("image"), folder.path().join("tree"));
    // Around each power of the fan-out, where a level is full, and where one block is left over.
    for (data, hash, blocks, salt) in [
        (4096, 4096, 1, "-"),
        (4096, 4096, 2, "ab"),
        (4096, 4096, 127, "00ff"),
        (4096, 4096, 128, "5a5a5a5a"),
        (4096, 4096, 129, "-"),
        (512, 512, 16, "01"),
        (512, 512, 256, "02"),
        (512, 512, 257, "03"),
        (512, 512, 4097, "04"),
        (1024, 512, 33, "05"),
        (512, 4096, 700, "06"),
        (4096, 1024, 1025, "07"),
    ] {
        let bytes: Vec<u8> =
            (0..data * blocks).map(|n: u64| (n.wrapping_mul(0x9E37_79B9) >> 13).to_le_bytes()[0]).collect();
        std::fs::write(&image, bytes).unwrap();
        let _ = std::fs::remove_file(&tree);
        let options =
            [format!("--data-block-size={data}"), format!("--hash-block-size={hash}"), format!("--salt={salt}")];
        let theirs = veritysetup(&image, &tree, &options);

        let salt = if salt == "-" { Vec::new() } else { hex::decode(salt).unwrap() };
        let given = VerityFormat::new(Some(data), Some(hash), salt).unwrap();
        assert_eq!(root(given, &image), theirs, "{data} {hash} {blocks}");
        let superblock = std::fs::read(&tree).unwrap();
        let read = VerityFormat::from_superblock(&superblock[..SUPERBLOCK_BYTES]).unwrap();
        assert_eq!(root(read, &image), theirs, "{data} {hash} {blocks}, from the superblock");
    }
}
