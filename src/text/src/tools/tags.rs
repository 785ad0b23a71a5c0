//! Finds which of several tags a text begins with, while it grows.

/// What a text has to do with some tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    /// It is this tag, the whole of it and nothing more.
    Whole(&'a str),
    /// It is the beginning of some.
    Part,
    /// It is neither: its first character belongs to no tag.
    None,
}

/// Compares a text with tags, none of which is the beginning of another.
pub(crate) fn find<'a>(text: &str, tags: impl IntoIterator<Item = &'a str>) -> Found<'a> {
    let mut found = Found::None;
    for tag in tags {
        if tag == text {
            return Found::Whole(tag);
        }
        if tag.starts_with(text) {
            found = Found::Part;
        }
    }
    found
}
