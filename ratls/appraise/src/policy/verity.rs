//! `verity_key` and `neutral_words`: what the author says about the initrd behind a root hash of dm-verity.
//!
//! No digest shows what an initrd does with a command line. So the author says that this initrd mounts what is under the
//! hash and nothing else, and which words beside it are harmless. The words that need no naming are those of
//! `measure::measured_boot`.

use super::document::{Entry, Section};
use super::error::PolicyError;
use measure::measured_boot::USR_KEYS;

/// Said by the author: the initrd mounts what is under this root hash, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VerityRules {
    /// The parameter of the command line that carries the root hash.
    pub(crate) key: String,
    /// Words of the command line that do not change what runs, each as it is written.
    pub(crate) neutral_words: Vec<String>,
}

/// `verity_key`, and beside it alone `neutral_words`.
pub(super) fn parse(table: &mut Section<'_>) -> Result<Option<VerityRules>, PolicyError> {
    // Without the key, the words stay unread and are refused as having no effect.
    let Some(entry) = table.optional("verity_key") else { return Ok(None) };
    let key = match entry.text()? {
        text if USR_KEYS.contains(&text) => {
            return Err(entry.value_error(text, "the key of a hash over the whole root: this one covers /usr alone"));
        }
        text if !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) => {
            text.to_owned()
        }
        text => return Err(entry.value_error(text, "the name of a parameter such as \"verity_roothash\"")),
    };
    Ok(Some(VerityRules { key, neutral_words: neutral_words(table)? }))
}

/// Words that the author calls harmless.
pub(super) fn neutral_words(table: &mut Section<'_>) -> Result<Vec<String>, PolicyError> {
    table.optional("neutral_words").map_or(Ok(Vec::new()), |e| e.list(neutral_word))
}

fn neutral_word(entry: &Entry<'_>) -> Result<String, PolicyError> {
    let text = entry.text()?;
    let is_word = !text.is_empty()
        && text != "--"
        && text.chars().all(|c| c.is_ascii_graphic() && !['"', '\'', '\\'].contains(&c));
    if is_word {
        Ok(text.to_owned())
    } else {
        Err(entry.value_error(text, "one word of the command line, without quotes: \"boot=verity\""))
    }
}
