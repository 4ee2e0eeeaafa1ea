//! How is a list of accepted values written in a finding?

/// A list for people: whole while it is short.
pub(super) fn one_of<T: std::fmt::Display>(accepted: &[T]) -> String {
    const SHOWN: usize = 4;
    let mut text = accepted.iter().take(SHOWN).map(T::to_string).collect::<Vec<_>>().join(" or ");
    if accepted.len() > SHOWN {
        text.push_str(&format!(" or one of {} more", accepted.len() - SHOWN));
    }
    text
}
