//! Text machines: chat templates, tokenizers, stop strings.
