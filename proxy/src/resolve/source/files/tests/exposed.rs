//! Secrets in files that everybody can read.

use std::path::Path;

use super::*;

const SHOP: &str =
    "Name: shop\nType: HTTP\nURL: https://shop\nAuthentication: BasicAuthentication\nUser: me\n";

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A folder with these modes of its own and of its file.
fn folder(text: &str, modes: (u32, u32)) -> Folder {
    let folder = Folder::new(&[("shop.yaml", text)]);
    set_mode(folder.0.path(), modes.0);
    set_mode(&folder.path("shop.yaml"), modes.1);
    folder
}

fn warnings(folder: &Folder) -> Vec<String> {
    let snapshot = folder.load(None);
    let [loaded] = &snapshot.destinations[..] else {
        panic!("{snapshot:?}");
    };
    let shown = |(place, warning): &(super::super::Place, _)| {
        let line = place.position.map(|position| position.line);
        format!("{}: {warning}", line.unwrap_or_default())
    };
    loaded.warnings.iter().map(shown).collect()
}

#[test]
fn a_secret_that_everybody_can_read_is_pointed_out_once() {
    let text = format!("{SHOP}Password: {MARKER}\nclientSecret: {MARKER}\n");
    let expected = "6: Password is in a file that every user of this machine can read; chmod 600 the file, \
                    or write ${env:NAME} or ${file:PATH} in place of the secret";
    assert_eq!(warnings(&folder(&text, (0o755, 0o644))), [expected]);
    assert_eq!(warnings(&folder(&text, (0o711, 0o604))), [expected]);
}

#[test]
fn a_closed_file_or_folder_keeps_the_secret() {
    let text = format!("{SHOP}Password: {MARKER}\n");
    for modes in [(0o755, 0o600), (0o755, 0o640), (0o700, 0o644)] {
        assert_eq!(warnings(&folder(&text, modes)), [""; 0], "{modes:?}");
    }
}

#[test]
fn references_and_files_without_secrets_may_be_open() {
    let reference = format!("{SHOP}Password: ${{env:SECRET}}\n");
    for text in [reference.as_str(), "Name: a\nType: HTTP\nURL: https://a\n"] {
        assert_eq!(warnings(&folder(text, (0o755, 0o644))), [""; 0], "{text}");
    }
}
