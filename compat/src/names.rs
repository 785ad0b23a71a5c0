//! Names of models in Ollama's grammar: `[host/][namespace/]model[:tag]`.

use std::{fmt, sync::Arc};

use rkllama_core::{Model, ModelError, Models};

const HOST: &str = "registry.ollama.ai";
const NAMESPACE: &str = "library";
const TAG: &str = "latest";
/// Longest host.
const HOST_LEN_MAX: usize = 350;
/// Longest part of any other kind.
const PART_LEN_MAX: usize = 80;

/// A name that follows the grammar, with what it leaves out filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    host: String,
    namespace: String,
    model: String,
    tag: String,
}

impl Name {
    /// Reads a name; blanks around it count for nothing. `None` where it breaks the grammar.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = text.split_once("://").map_or(text, |(_, rest)| rest);
        let (path, tag) = match (text.rfind(':'), text.rfind('/')) {
            (Some(colon), slash) if slash.is_none_or(|slash| slash < colon) => {
                (&text[..colon], &text[colon + 1..])
            }
            _ => (text, TAG),
        };
        let mut parts = path.rsplitn(3, '/');
        let model = parts.next()?;
        let namespace = parts.next().unwrap_or(NAMESPACE);
        let host = parts.next().unwrap_or(HOST);
        let is_name = is_part(host, Kind::Host)
            && is_part(namespace, Kind::Namespace)
            && is_part(model, Kind::Other)
            && is_part(tag, Kind::Other);
        is_name.then(|| Self {
            host: host.to_owned(),
            namespace: namespace.to_owned(),
            model: model.to_owned(),
            tag: tag.to_owned(),
        })
    }

    /// With everything that may be left out.
    pub(crate) fn full(&self) -> String {
        format!("{}/{}/{}:{}", self.host, self.namespace, self.model, self.tag)
    }

    /// Without the tag where it is the usual one, for the list of models.
    pub(crate) fn short(&self) -> String {
        let display = self.to_string();
        display.strip_suffix(":latest").map(str::to_owned).unwrap_or(display)
    }
}

/// As Ollama displays it: without the usual host and namespace, always with the tag.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host != HOST {
            write!(f, "{}/", self.host)?;
        }
        if self.host != HOST || self.namespace != NAMESPACE {
            write!(f, "{}/", self.namespace)?;
        }
        write!(f, "{}:{}", self.model, self.tag)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Host,
    Namespace,
    Other,
}

fn is_part(part: &str, kind: Kind) -> bool {
    let len_max = if kind == Kind::Host { HOST_LEN_MAX } else { PART_LEN_MAX };
    let is_begin = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_rest = |c: char| {
        is_begin(c)
            || c == '-'
            || (c == '.' && kind != Kind::Namespace)
            || (c == ':' && kind == Kind::Host)
    };
    let mut chars = part.chars();
    part.len() <= len_max && chars.next().is_some_and(is_begin) && chars.all(is_rest)
}

/// The name under which a model is listed.
pub(crate) fn listed(model: &Model) -> String {
    let last = model.id.rsplit('/').next().unwrap_or(&model.id);
    if last.contains(':') { model.id.clone() } else { format!("{}:{TAG}", model.id) }
}

/// Finds the model that a client means. The name as it stands comes first: a folder may have a name
/// that breaks the grammar.
pub(crate) fn find(models: &dyn Models, text: &str) -> Result<Arc<Model>, Lookup> {
    let asked = text.trim();
    match models.resolve(asked) {
        Err(ModelError::NotFound { .. }) => {}
        found => return found.map_err(Lookup::Error),
    }
    let name = Name::parse(asked).ok_or(Lookup::Malformed)?;
    match models.resolve(&name.short()) {
        Err(ModelError::NotFound { .. }) => Err(Lookup::NotFound(name)),
        found => found.map_err(Lookup::Error),
    }
}

/// Why no model was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// The name breaks the grammar.
    Malformed,
    /// Nobody has it.
    NotFound(Name),
    /// It is ambiguous.
    Error(ModelError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_grammar() {
        let longest = "x".repeat(PART_LEN_MAX);
        for (text, display) in [
            ("a", "a:latest"),
            (" a:b ", "a:b"),
            ("a/b", "a/b:latest"),
            ("a/b:c", "a/b:c"),
            ("h.io/a/b:c", "h.io/a/b:c"),
            ("h:1/a/b", "h:1/a/b:latest"),
            ("http://h/a/b", "h/a/b:latest"),
            ("A_b.c-d:E", "A_b.c-d:E"),
            ("a..b", "a..b:latest"),
            ("_a", "_a:latest"),
            ("registry.ollama.ai/library/plain:latest", "plain:latest"),
            ("h/library/good", "h/library/good:latest"),
            (&longest, &format!("{longest}:latest")),
        ] {
            assert_eq!(Name::parse(text).unwrap().to_string(), display, "{text}");
        }
        let too_long = "x".repeat(PART_LEN_MAX + 1);
        for text in [
            "",
            "-a",
            ".a",
            "a:",
            "/a",
            "a//b",
            ":x",
            "a b",
            "a:b:c",
            "a/b/c/d",
            "a@sha256:x",
            "é",
            &too_long,
        ] {
            assert_eq!(Name::parse(text), None, "{text}");
        }
    }

    #[test]
    fn full_names_have_all_parts() {
        assert_eq!(Name::parse("plain").unwrap().full(), "registry.ollama.ai/library/plain:latest");
    }
}
