//! In which language a template is written.

/// A language of templates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    /// `transformers`' and ours.
    Jinja,
    /// Ollama's.
    Go,
}

/// Jinja has tags of its own, and speaks of `messages` where Go speaks of `.Messages`.
pub(crate) fn language(template: &str) -> Language {
    let is_jinja = template.contains("{%") || template.contains("messages");
    if is_jinja { Language::Jinja } else { Language::Go }
}
