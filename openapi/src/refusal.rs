//! The sentences with which a request is refused, in OpenAI's words.

use poem::http::{HeaderValue, StatusCode, header::WWW_AUTHENTICATE};
use rkllama_http::{ApiError, AuthError, BodyError};

/// Longest piece of a client's value that is repeated to it, in characters: any model's name, and
/// not the 32 MiB that a body may have.
const ECHO_LEN_MAX: usize = 200;

/// The beginning of a client's value, to be repeated to it.
pub(crate) fn echo(value: &str) -> String {
    value.chars().take(ECHO_LEN_MAX).collect()
}

/// A request at fault.
pub(crate) fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
}

/// A required field that is absent or null.
pub(crate) fn missing(param: &str) -> ApiError {
    invalid(format!("Missing required parameter: '{param}'."))
        .code("missing_required_parameter")
        .param(param)
}

/// A field whose capability does not exist here.
pub(crate) fn unsupported(param: &str) -> ApiError {
    invalid(format!(
        "Unsupported parameter: '{param}' with this value is not supported by this server."
    ))
    .code("unsupported_parameter")
    .param(param)
}

/// An array that must not be empty.
pub(crate) fn empty_array(param: &str) -> ApiError {
    invalid(format!(
        "Invalid '{param}': empty array. Expected an array with minimum length 1, but got an \
         empty array instead."
    ))
    .code("empty_array")
    .param(param)
}

/// An image that cannot be used; the reason is the end of a sentence that begins with its name.
pub(crate) fn invalid_image(param: &str, reason: &str) -> ApiError {
    invalid(format!("Invalid image: {param} {reason}.")).code("invalid_image").param(param)
}

/// A field of another type than it has to have, found where serde could not look.
pub(crate) fn invalid_type(param: &str, expected: &str, got: &serde_json::Value) -> ApiError {
    let got = match got {
        serde_json::Value::Null => "null",
        serde_json::Value::Bool(_) => "a boolean",
        serde_json::Value::Number(number) if number.is_f64() => "a decimal",
        serde_json::Value::Number(_) => "an integer",
        serde_json::Value::String(_) => "a string",
        serde_json::Value::Array(_) => "an array",
        serde_json::Value::Object(_) => "an object",
    };
    invalid(format!("Invalid type for '{param}': expected {expected}, but got {got} instead."))
        .code("invalid_type")
        .param(param)
}

/// A value that OpenAI's API knows and this server does not.
pub(crate) fn unsupported_value(param: &str, value: &str, supported: &str) -> ApiError {
    invalid(format!(
        "Unsupported value: '{param}' does not support '{value}' with this server. Only \
         '{supported}' is supported."
    ))
    .code("unsupported_value")
    .param(param)
}

/// An array with more items than it may have.
pub(crate) fn array_too_long(param: &str, len_max: usize, len: usize) -> ApiError {
    invalid(format!(
        "Invalid '{param}': array too long. Expected an array with maximum length {len_max}, but \
         got an array with length {len} instead."
    ))
    .code("array_above_max_length")
    .param(param)
}

/// A text with more bytes than it may have.
pub(crate) fn string_too_long(param: &str, len_max: usize, len: usize) -> ApiError {
    invalid(format!(
        "Invalid '{param}': string too long. Expected a string with maximum length {len_max}, but \
         got a string with length {len} instead."
    ))
    .code("string_above_max_length")
    .param(param)
}

/// A bound of a number's range.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bound {
    /// `>=`
    AtLeast(f64),
    /// `<=`
    AtMost(f64),
}

impl Bound {
    /// The refusal of `value`, if the bound excludes it.
    pub(crate) fn check(self, param: &str, value: f64, is_integer: bool) -> Result<(), ApiError> {
        let (excluded, sign, bound) = match self {
            Self::AtLeast(min) => (value < min, ">=", min),
            Self::AtMost(max) => (value > max, "<=", max),
        };
        if !excluded {
            return Ok(());
        }
        let (kind, side, code) = match (is_integer, self) {
            (true, Self::AtMost(_)) => ("integer", "above maximum", "integer_above_max_value"),
            (true, _) => ("integer", "below minimum", "integer_below_min_value"),
            (false, Self::AtMost(_)) => ("decimal", "above maximum", "decimal_above_max_value"),
            (false, _) => ("decimal", "below minimum", "decimal_below_min_value"),
        };
        // Without an exponent 1e300 has 301 digits.
        let is_long = value != 0.0 && !(1e-6..1e16).contains(&value.abs());
        let got = if is_long { format!("{value:e}") } else { value.to_string() };
        Err(invalid(format!(
            "Invalid '{param}': {kind} {side} value. Expected a value {sign} {bound}, but got \
             {got} instead."
        ))
        .code(code)
        .param(param))
    }
}

/// A body that is no request.
pub(crate) fn body(error: BodyError) -> ApiError {
    match error {
        BodyError::TooLarge { limit_bytes } => ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "invalid_request_error",
            format!(
                "The request body is too large: this server takes at most {limit_bytes} bytes."
            ),
        )
        .code("request_too_large"),
        BodyError::TooSlow { timeout_s } => ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            "invalid_request_error",
            format!("The request body did not arrive within {timeout_s} seconds."),
        )
        .code("request_timeout"),
        BodyError::Unreadable { reason } => {
            invalid("The request body could not be read.").detail_for_log(reason)
        }
        BodyError::Syntax { reason } => {
            invalid(format!("We could not parse the JSON body of your request. (HINT: {reason})"))
        }
        BodyError::Worded(reason) => invalid(reason),
        BodyError::Data { path, reason } => data(path, &reason),
    }
}

/// A request that is not let in.
pub(crate) fn auth(error: AuthError) -> ApiError {
    let words = error.to_string();
    let unauthorized = |words: String| {
        ApiError::new(StatusCode::UNAUTHORIZED, "invalid_request_error", words)
            .header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
    };
    let limited = |words: String, retry_after_s| {
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, "requests", words)
            .code("rate_limit_exceeded")
            .retry_after_s(retry_after_s)
    };
    match error {
        AuthError::Missing => unauthorized(
            "You didn't provide an API key. You need to provide your API key in an Authorization \
             header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY)."
                .to_owned(),
        ),
        AuthError::Unknown { hint } => {
            unauthorized(format!("Incorrect API key provided: {hint}.")).code("invalid_api_key")
        }
        AuthError::TooOften { per_minute, retry_after_s, .. } => limited(
            format!(
                "Rate limit reached for this API key: at most {per_minute} requests in a minute. \
                 Please try again in {retry_after_s}s."
            ),
            retry_after_s,
        )
        .detail_for_log(words),
        AuthError::TooMany { concurrent_max, retry_after_s, .. } => limited(
            format!(
                "Rate limit reached for this API key: at most {concurrent_max} requests at once. \
                 Please try again in {retry_after_s}s."
            ),
            retry_after_s,
        )
        .detail_for_log(words),
    }
}

/// JSON of the wrong form. serde has no error codes, only sentences: they are taken apart here,
/// and a test holds each against what serde really says.
fn data(path: Option<String>, reason: &str) -> ApiError {
    if let Some(field) = reason.strip_prefix("missing field `") {
        let field = field.trim_end_matches('`');
        return missing(&path.map_or_else(|| field.to_owned(), |path| format!("{path}.{field}")));
    }
    let param = path.as_deref().unwrap_or("body");
    let error = if let Some(rest) = reason.strip_prefix("unknown variant `") {
        unknown_variant(rest)
    } else if let Some((got, expected)) = reason
        .strip_prefix("invalid type: ")
        // From the right: what was got may be a text with these words in it.
        .and_then(|rest| rest.rsplit_once(", expected "))
    {
        let (got, expected) = (got_in_words(got), expected_in_words(expected));
        invalid(format!("Invalid type for '{param}': expected {expected}, but got {got} instead."))
            .code("invalid_type")
    } else if let Some((len, expected)) =
        reason.strip_prefix("invalid length ").and_then(|rest| rest.split_once(", expected "))
    {
        invalid(format!(
            "Invalid '{param}': array too long. Expected {expected}, but got an array with length \
             {len} instead."
        ))
        .code("array_above_max_length")
    } else if let Some(field) = reason.strip_prefix("duplicate field `") {
        let field = field.trim_end_matches('`');
        invalid(format!("Invalid body: the field '{field}' is there twice.")).code("invalid_value")
    } else {
        invalid(format!("Invalid value for '{param}'."))
            .code("invalid_value")
            .detail_for_log(reason)
    };
    match path {
        Some(path) => error.param(path),
        None => error,
    }
}

/// `rest` is "king`, expected one of `user`, `tool`".
fn unknown_variant(rest: &str) -> ApiError {
    let (value, expected) = rest.rsplit_once("`, expected ").unwrap_or((rest, ""));
    let supported: Vec<_> =
        expected.split('`').skip(1).step_by(2).map(|name| format!("'{name}'")).collect();
    let value = echo(value);
    let supported = match supported.as_slice() {
        [most @ .., last] if !most.is_empty() => format!("{}, and {last}", most.join(", ")),
        few => few.concat(),
    };
    invalid(format!("Invalid value: '{value}'. Supported values are: {supported}."))
        .code("invalid_value")
}

fn got_in_words(got: &str) -> &'static str {
    const WORDS: &[(&str, &str)] = &[
        ("string", "a string"),
        ("integer", "an integer"),
        ("floating point", "a decimal"),
        ("boolean", "a boolean"),
        ("null", "null"),
        ("sequence", "an array"),
        ("map", "an object"),
    ];
    WORDS.iter().find(|(start, _)| got.starts_with(start)).map_or("something else", |(_, w)| w)
}

fn expected_in_words(expected: &str) -> &str {
    match expected {
        "f64" | "f32" => "a decimal",
        "i64" | "u64" | "i32" | "u32" => "an integer",
        "a sequence" => "an array",
        "a map" => "an object",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_looks_like_the_sentence_is_not_taken_for_it() {
        let error = data(Some("n".into()), "invalid type: string \"x, expected y\", expected i64");
        assert_eq!(
            error.message,
            "Invalid type for 'n': expected an integer, but got a string instead."
        );
    }

    #[test]
    fn the_value_of_a_client_is_repeated_in_part_only() {
        let error = unknown_variant(&format!("{}`, expected `a` or `b`", "é".repeat(1000)));
        assert_eq!(
            error.message,
            format!("Invalid value: '{}'. Supported values are: 'a', and 'b'.", "é".repeat(200))
        );
    }

    #[test]
    fn a_bound_includes_itself() {
        assert!(Bound::AtLeast(0.0).check("x", 0.0, false).is_ok());
        assert!(Bound::AtMost(2.0).check("x", 2.0, false).is_ok());
        let error = Bound::AtMost(2.0).check("temperature", 200.0, false).unwrap_err();
        assert_eq!(
            error.message,
            "Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got \
             200 instead."
        );
    }
}
