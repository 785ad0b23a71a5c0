//! The names a model answers to.
//!
//! Compared with the list of what was found and nothing else: a client's name never becomes a
//! path, and never matches a part of a name.

use std::sync::Arc;

use rkllama_core::{Model, ModelError};

use crate::folder::Folder;

/// Finds the model a name means. The first kind of name that fits decides: the exact id; the id
/// without regard to case, `:latest` and `.rkllm`; an alias; the weights' file name.
pub(crate) fn resolve<'a>(
    folders: &'a [Arc<Folder>],
    name: &str,
) -> Result<&'a Arc<Folder>, ModelError> {
    let plain = plain(name);
    let kinds: [&dyn Fn(&Folder) -> bool; 4] = [
        &|folder| folder.model.id == name,
        &|folder| self::plain(&folder.model.id) == plain,
        &|folder| folder.aliases.iter().any(|alias| self::plain(alias) == plain),
        &|folder| weights_name(&folder.model).is_some_and(|name| self::plain(name) == plain),
    ];
    for fits in kinds {
        let mut candidates = folders.iter().filter(|folder| fits(folder));
        let Some(first) = candidates.next() else { continue };
        let others: Vec<&Arc<Folder>> = candidates.collect();
        if others.is_empty() {
            return Ok(first);
        }
        let ids = std::iter::once(first).chain(others).map(|folder| folder.model.id.clone());
        return Err(ModelError::Ambiguous { name: name.to_owned(), candidates: ids.collect() });
    }
    Err(ModelError::NotFound { name: name.to_owned() })
}

/// A name without what clients add or leave out at will.
fn plain(name: &str) -> String {
    let lower = name.to_lowercase();
    let name = lower.strip_suffix(":latest").unwrap_or(&lower);
    name.strip_suffix(".rkllm").unwrap_or(name).to_owned()
}

fn weights_name(model: &Model) -> Option<&str> {
    model.weights.file_name().and_then(|name| name.to_str())
}
