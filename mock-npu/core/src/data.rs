//! Runs for data and not for text: hidden rows, logits, prompt-cache files.

use std::path::Path;

use crate::abi::layout::Group;
use crate::faults::Faults;
use crate::hidden::HiddenLayer;
use crate::log;
use crate::prompt_cache::{self, Contents};
use crate::request::Mode;
use crate::run::{OK, Run};
use crate::sink::{Matrix, Output, Perf, Reply, State};

impl Run<'_> {
    /// The rows of the tokens that were computed, in one callback. Whether FINISH follows depends
    /// on the release.
    pub(crate) fn emit_data(&mut self, mode: Mode, perf: Perf, faults: &Faults) -> i32 {
        let model = &self.handle.model;
        let kv = &self.session.readable().into_owned();
        let from = kv.len() - (perf.prefill_tokens as usize).min(kv.len());
        let mut rows = Vec::new();
        let missing = if mode == Mode::Logits { faults.no_logits } else { faults.no_hidden_layer };
        let from = if missing { kv.len() } else { from };
        let row_len = if mode == Mode::Logits {
            for end in from + 1..=kv.len() {
                model.language.read(&kv[..end]).logits().write_row(&mut rows);
            }
            model.language.vocab_len()
        } else {
            let width = model.file.embedding_size as usize;
            rows = HiddenLayer::new(&model.vocabulary, width, model.language.seed()).rows(kv, from);
            width
        };
        let matrix = Some(Matrix { values: &rows, row_len });
        let mut output = Output::default();
        match mode {
            Mode::Logits => output.logits = matrix,
            _ => output.hidden = matrix,
        }
        let group = self.handle.runtime.group;
        let state = if group == Group::C { State::LastHiddenLayer } else { State::Normal };
        if matches!(group, Group::D | Group::D1) {
            self.emit(State::Normal, &Output { text: Some(b""), ..Output::default() });
        }
        output.text = Some(b"");
        if self.emit(state, &output) == Reply::Release {
            drop(rows);
        }
        let finishes = group < Group::E && !faults.data_modes_without_finish;
        if finishes || faults.data_modes_with_finish {
            self.finish(faults, perf);
        }
        OK
    }

    pub(crate) fn save_cache(&self, path: Option<&Path>) {
        if !self.handle.model.file.prompt_cache {
            log::warn("The rwkv model does not support saving prompt cache!");
            return;
        }
        if self.faults_or_default().save_cache_fails {
            return;
        }
        let path = path.unwrap_or_else(|| {
            log::info("prompt_cache_save_path is null, save prompt cache to ./prompt_cache.bin");
            Path::new("./prompt_cache.bin")
        });
        let kv = &self.session.readable();
        let mut logits = Vec::new();
        self.handle.model.language.read(kv).logits().write_row(&mut logits);
        let contents = Contents {
            system_len: self.session.system_len as u32,
            tokens: kv,
            logits: &logits,
            kv_bytes_per_token: self.handle.model.file.kv_bytes_per_token,
        };
        match prompt_cache::save(path, &contents) {
            Ok(()) => log::info(&format!("saved prompt cache to {}", path.display())),
            Err(error) => log::mock(&format!("{}: {error}", path.display())),
        }
    }
}
