//! What every request for an answer has: sampling, limits, stop texts.

use rkllama_core::{KeepAlive, Sampling};
use rkllama_http::ApiError;

use crate::{
    refusal::{Bound, echo, invalid, string_too_long},
    wire::{
        self, JsonObject, JsonValue, Nullable, STOP_TEXT_BYTES_MAX, Stop, StreamOptions,
        StructuredOutputs, given,
    },
};

/// The fields that every request for an answer has, as they came.
#[derive(Default)]
pub(super) struct CommonFields {
    pub(super) temperature: Option<f64>,
    pub(super) top_p: Option<f64>,
    pub(super) top_k: Option<i64>,
    pub(super) repeat_penalty: Option<f64>,
    pub(super) repetition_penalty: Option<f64>,
    pub(super) frequency_penalty: Option<f64>,
    pub(super) presence_penalty: Option<f64>,
    pub(super) stop: Option<Nullable<Stop>>,
    pub(super) keep_alive: Option<Nullable<wire::KeepAlive>>,
    pub(super) n: Option<i64>,
    pub(super) stream: Option<bool>,
    pub(super) stream_options: Option<Nullable<StreamOptions>>,
    pub(super) json_schema: Option<JsonObject>,
    pub(super) guided_json: Option<JsonValue>,
    pub(super) structured_outputs: Option<Nullable<StructuredOutputs>>,
}

/// Takes the common fields out of a request.
macro_rules! common_fields {
    ($wire:expr) => {
        $crate::convert::common::CommonFields {
            temperature: $wire.temperature,
            top_p: $wire.top_p,
            top_k: $wire.top_k,
            repeat_penalty: $wire.repeat_penalty,
            repetition_penalty: $wire.repetition_penalty,
            frequency_penalty: $wire.frequency_penalty,
            presence_penalty: $wire.presence_penalty,
            stop: $wire.stop.take(),
            keep_alive: $wire.keep_alive.take(),
            n: $wire.n,
            stream: $wire.stream,
            stream_options: $wire.stream_options.take(),
            json_schema: $wire.json_schema.take(),
            guided_json: $wire.guided_json.take(),
            structured_outputs: $wire.structured_outputs.take(),
        }
    };
}
pub(super) use common_fields;

/// Most answers to one prompt. Each is a run of its own, one after the other.
const N_MAX: i32 = 8;

impl CommonFields {
    pub(super) fn sampling(&self) -> Result<Sampling, ApiError> {
        const PENALTY: [Bound; 2] = [Bound::AtLeast(-2.0), Bound::AtMost(2.0)];
        const REPEAT_PENALTY: [Bound; 2] = [
            Bound::AtLeast(Sampling::REPEAT_PENALTY_MIN),
            Bound::AtMost(Sampling::REPEAT_PENALTY_MAX),
        ];
        let repeat = decimal("repeat_penalty", self.repeat_penalty, &REPEAT_PENALTY)?;
        let repetition = decimal("repetition_penalty", self.repetition_penalty, &REPEAT_PENALTY)?;
        Ok(Sampling {
            temperature: decimal(
                "temperature",
                self.temperature,
                &[Bound::AtLeast(0.0), Bound::AtMost(2.0)],
            )?,
            top_p: decimal("top_p", self.top_p, &[Bound::AtLeast(0.0), Bound::AtMost(1.0)])?,
            // 0 and -1 mean "off" in other servers, which is the whole vocabulary and not the
            // model's own number. The runtime's seam clamps it to what the runtime takes.
            top_k: self.top_k.map(|k| if k > 0 { clamp_u32(k) } else { u32::MAX }),
            repeat_penalty: repeat.or(repetition),
            frequency_penalty: decimal("frequency_penalty", self.frequency_penalty, &PENALTY)?,
            presence_penalty: decimal("presence_penalty", self.presence_penalty, &PENALTY)?,
        })
    }

    /// Empty texts are dropped: they would end every answer at once.
    pub(super) fn stop(&mut self) -> Result<Vec<String>, ApiError> {
        let mut texts = match given(self.stop.take()) {
            None => Vec::new(),
            Some(Stop::One(text)) => vec![text],
            Some(Stop::Several(texts)) => texts,
        };
        if let Some(long) = texts.iter().find(|text| text.len() > STOP_TEXT_BYTES_MAX) {
            return Err(string_too_long("stop", STOP_TEXT_BYTES_MAX, long.len()));
        }
        texts.retain(|text| !text.is_empty());
        Ok(texts)
    }

    pub(super) fn keep_alive(&self) -> Result<Option<KeepAlive>, ApiError> {
        let Some(wire) = self.keep_alive.as_ref().and_then(Nullable::as_given) else {
            return Ok(None);
        };
        let read = match wire {
            wire::KeepAlive::Seconds(seconds) => KeepAlive::from_seconds(*seconds),
            wire::KeepAlive::Text(text) => echo(text).parse(),
        };
        read.map(Some).map_err(|error| {
            invalid(format!("Invalid 'keep_alive': {error}"))
                .code("invalid_value")
                .param("keep_alive")
        })
    }

    pub(super) fn n(&self) -> Result<usize, ApiError> {
        check_integer("n", self.n, 1, N_MAX)?;
        Ok(self.n.map_or(1, |n| usize::try_from(n).unwrap_or(1)))
    }

    pub(super) fn is_streamed(&self) -> bool {
        self.stream.unwrap_or(false)
    }

    pub(super) fn includes_usage(&self) -> bool {
        let options = self.stream_options.as_ref().and_then(Nullable::as_given);
        options.is_some_and(|options| options.include_usage.unwrap_or(false))
    }
}

fn decimal(param: &str, value: Option<f64>, bounds: &[Bound]) -> Result<Option<f32>, ApiError> {
    let Some(value) = value else { return Ok(None) };
    bounds.iter().try_for_each(|bound| bound.check(param, value, false))?;
    #[expect(clippy::cast_possible_truncation, reason = "the runtime's parameters are f32")]
    Ok(Some(value as f32))
}

/// Refuses an integer out of its range.
pub(crate) fn check_integer(
    param: &str,
    value: Option<i64>,
    min: i32,
    max: i32,
) -> Result<(), ApiError> {
    let Some(value) = value else { return Ok(()) };
    // Exact where it matters: beyond 2^53 any rounding is still far out of range.
    #[expect(clippy::cast_precision_loss, reason = "only compared with small bounds and printed")]
    let value = value as f64;
    Bound::AtLeast(min.into()).check(param, value, true)?;
    Bound::AtMost(max.into()).check(param, value, true)
}

/// Negative numbers and those too large become the largest.
pub(super) fn clamp_u32(value: i64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
