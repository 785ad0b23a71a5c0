//! What the functions beside `rkllm_run` do to a session.

use std::borrow::Cow;
use std::path::Path;

use crate::faults;
use crate::handle::{Handle, Session};
use crate::input::EMBEDDED;
use crate::log;
use crate::lora::Adapter;
use crate::model_file::Template;
use crate::prompt_cache::{self, CacheError};

impl Session {
    /// Empties the cache, or a range of it while a single-turn generation is paused.
    pub(crate) fn clear(&mut self, keep_system_prompt: bool, range: Option<(i32, i32)>) {
        if let Some((start, end)) = range {
            self.clear_range(start, end);
            return;
        }
        let keep = if keep_system_prompt { self.system_len.min(self.kv.len()) } else { 0 };
        self.kv.truncate(keep);
        self.other_kvs.iter_mut().for_each(|kv| kv.truncate(keep));
        self.paused = None;
        self.is_aborted = false;
        self.spoilt = 0;
    }

    fn clear_range(&mut self, start: i32, end: i32) {
        let allowed = self.paused.is_some() && !self.last_keep_history;
        let bounds = usize::try_from(start).ok().zip(usize::try_from(end).ok());
        match bounds.filter(|(start, end)| start <= end && *end <= self.kv.len()) {
            Some((start, end)) if allowed => {
                self.kv.drain(start..end);
            }
            _ => log::warn(
                "start_pos and end_pos are only valid when keep_history == 0 and the generation is paused",
            ),
        }
    }

    /// The cache as tokens, where the caller's embeddings stand for some.
    pub(crate) fn readable(&self) -> Cow<'_, [u32]> {
        if self.embedded.is_empty() && self.spoilt == 0 {
            return Cow::Borrowed(&self.kv);
        }
        let token = |(at, cell): (usize, &u32)| match self.embedded.get(cell) {
            _ if at < self.spoilt => 0,
            Some(token) => *token,
            None => *cell,
        };
        self.kv.iter().enumerate().map(token).collect()
    }

    /// Replaces the template; the vendor's library deletes the cache with it.
    pub(crate) fn set_template(&mut self, system: &str, prefix: &str, postfix: &str) {
        self.template = Template {
            system: system.to_owned(),
            prefix: prefix.to_owned(),
            postfix: postfix.to_owned(),
            ..Template::default()
        };
        self.template_is_custom = true;
        self.kv.clear();
        self.system_len = 0;
        self.paused = None;
        log::info("All kv caches have been deleted!");
    }

    /// Offers tools through the system prompt; refused when there is no template of the model's.
    pub(crate) fn set_tools(&mut self, system: &str, tools: &str, response_tag: &str) -> bool {
        let template = &mut self.template;
        if self.template_is_custom || (template.prefix.is_empty() && template.postfix.is_empty()) {
            return false;
        }
        template.system = format!(
            "{}{system}\n\n# Tools\n\nYou may call these functions:\n<tools>\n{tools}\n</tools>\n\n\
             Write each call as a JSON object with name and arguments between <tool_call> and \
             </tool_call>.{}",
            template.system_open, template.system_close
        );
        let tag = if response_tag.is_empty() { "tool_response" } else { response_tag };
        template.tool_prefix = Some(format!("{}<{tag}>\n", template.prefix));
        template.tool_postfix = Some(format!("\n</{tag}>{}", template.postfix));
        self.kv.clear();
        self.system_len = 0;
        true
    }

    /// Loads an adapter; `false` after the vendor's line.
    pub(crate) fn load_lora(&mut self, name: &str, path: &Path, scale: f32) -> bool {
        if self.adapters.iter().any(|adapter| adapter.name == name) {
            log::out(&format!("Lora adapter '{name}' is already initialized!"));
            return false;
        }
        if !path.exists() {
            log::out("Lora adapter path does not exist!");
            return false;
        }
        match Adapter::load(name, path, scale) {
            Ok(adapter) => self.adapters.push(adapter),
            Err(error) => {
                log::mock(&error);
                return false;
            }
        }
        true
    }

    /// Loads a prompt cache; `false` after the vendor's line.
    pub(crate) fn load_cache(&mut self, handle: &Handle, path: &Path) -> bool {
        if !handle.model.file.prompt_cache {
            log::warn("The rwkv model does not support loading prompt cache!");
            return true;
        }
        let faults = handle.faults_now().unwrap_or_default();
        if self.is_aborted && faults.crash_load_cache_after_abort {
            faults::segfault("crash_load_cache_after_abort");
        }
        if faults.crash_in_load_cache {
            faults::segfault("crash_in_load_cache");
        }
        let shown = path.display();
        if faults.load_cache_fails {
            log::error(&format!("failed to load prompt cache from {shown}"));
            return false;
        }
        let (system_len, tokens) = match prompt_cache::load(path) {
            Ok(loaded) => loaded,
            Err(error) => {
                log::error(&match error {
                    CacheError::Absent => format!("prompt cache file '{shown}' does not exist"),
                    CacheError::Empty => format!("prompt cache file '{shown}' is empty"),
                    CacheError::Foreign => format!("failed to load prompt cache from {shown}"),
                });
                return false;
            }
        };
        let vocab_len = handle.model.language.vocab_len();
        let is_foreign = |cell: &u32| cell & EMBEDDED == 0 && *cell as usize >= vocab_len;
        if tokens.iter().any(is_foreign) {
            let model = &handle.model.file.architecture;
            log::error(&format!("the prompt dose not match the current model[{model}]"));
            return false;
        }
        log::info(&format!("load prompt cache from '{shown}'"));
        log::info(&format!("loaded a prompt cache with prompt size of {} tokens", tokens.len()));
        self.system_len = system_len as usize;
        self.kv = tokens;
        self.paused = None;
        self.cache_is_loaded = true;
        true
    }

    /// Lets go of a loaded prompt cache.
    pub(crate) fn release_cache(&mut self) {
        if std::mem::take(&mut self.cache_is_loaded) {
            self.kv.clear();
            self.system_len = 0;
        }
    }
}
