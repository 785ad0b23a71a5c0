//! Vectors as clients want them: cut, written as numbers or as base64.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rkllama_core::Embedding;
use rkllama_http::ApiError;

use crate::{
    refusal::Bound,
    wire::{
        EmbeddingList, EmbeddingListObject, EmbeddingObject, EmbeddingObjectName, EmbeddingUsage,
        EmbeddingVector, EncodingFormat,
    },
};

/// The answer to a request for embeddings.
pub(crate) fn embeddings(
    embeddings: Vec<Embedding>,
    model: String,
    encoding: EncodingFormat,
    dimensions: Option<usize>,
) -> Result<EmbeddingList, ApiError> {
    let tokens = embeddings.iter().map(|embedding| embedding.tokens).sum();
    let data = (0..).zip(embeddings).map(|(index, Embedding { vector, .. })| {
        let vector = match dimensions {
            Some(dimensions) => cut(&vector, dimensions)?,
            None => vector,
        };
        let embedding = match encoding {
            EncodingFormat::Float => EmbeddingVector::Numbers(vector),
            EncodingFormat::Base64 => EmbeddingVector::Base64(base64(&vector)),
        };
        Ok(EmbeddingObject { object: EmbeddingObjectName::Embedding, index, embedding })
    });
    Ok(EmbeddingList {
        object: EmbeddingListObject::List,
        data: data.collect::<Result<_, ApiError>>()?,
        model,
        usage: EmbeddingUsage { prompt_tokens: tokens, total_tokens: tokens },
    })
}

/// The first numbers, brought to length 1 again. Models that are trained for it (Matryoshka) say
/// the most in those.
fn cut(vector: &[f32], dimensions: usize) -> Result<Vec<f32>, ApiError> {
    if dimensions > vector.len() {
        #[expect(clippy::cast_precision_loss, reason = "only compared and printed")]
        Bound::AtMost(vector.len() as f64).check("dimensions", dimensions as f64, true)?;
    }
    let head = vector.get(..dimensions).unwrap_or(vector);
    let length = head.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    // All zero: no direction is left that a length could be given to.
    if length == 0.0 {
        return Ok(head.to_vec());
    }
    #[expect(clippy::cast_possible_truncation, reason = "vectors are f32 on every wire")]
    Ok(head.iter().map(|value| (f64::from(*value) / length) as f32).collect())
}

/// Each number as f32, little-endian.
fn base64(vector: &[f32]) -> String {
    let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
    BASE64_STANDARD.encode(bytes)
}
