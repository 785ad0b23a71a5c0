//! In which language a template is written.

use rkllama_core::is_jinja;

/// A language of templates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    /// `transformers`' and ours.
    Jinja,
    /// Ollama's.
    Go,
}

/// The language of a template.
pub(crate) fn language(template: &str) -> Language {
    if is_jinja(template) { Language::Jinja } else { Language::Go }
}
