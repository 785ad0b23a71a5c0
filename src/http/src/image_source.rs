//! Where an image is, as clients of several APIs say it.

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use rkllama_core::ImageSource;

/// As programs write it: with the padding or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// An image behind a URL: in it, if it is a data URL. What type it says the image has does not matter:
/// the image itself tells.
///
/// # Errors
/// What is wrong with it, as the end of a sentence that begins with its name.
pub fn image_of_url(url: &str) -> Result<ImageSource, String> {
    let is = |scheme: &str| {
        url.get(..scheme.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(scheme))
    };
    if is("http://") || is("https://") {
        return Ok(ImageSource::Url(url.to_owned()));
    }
    if !is("data:") {
        return Err("is neither a data URL nor an address of http or https".to_owned());
    }
    let (head, data) = url.split_once(',').ok_or("is a data URL without data")?;
    let head = head.get(head.len().saturating_sub(";base64".len())..).unwrap_or_default();
    if !head.eq_ignore_ascii_case(";base64") {
        return Err("is a data URL that is not in base64".to_owned());
    }
    image_of_base64(data)
}

/// An image as one text: an address, a data URL or base64.
///
/// # Errors
/// As [`image_of_url`].
pub fn image_of_text(text: &str) -> Result<ImageSource, String> {
    // No colon is part of base64.
    if text.contains(':') { image_of_url(text) } else { image_of_base64(text) }
}

/// An image in base64; lines may be broken.
///
/// # Errors
/// As [`image_of_url`].
pub fn image_of_base64(data: &str) -> Result<ImageSource, String> {
    let joined: String;
    let data = match data.contains(|c: char| c.is_ascii_whitespace()) {
        false => data,
        true => {
            joined = data.split_ascii_whitespace().collect();
            &joined
        }
    };
    let bytes = BASE64.decode(data).map_err(|error| {
        // Some of its words end with a full stop; the sentence's own comes behind them.
        format!("is no valid base64: {}", error.to_string().trim_end_matches('.'))
    })?;
    Ok(ImageSource::Bytes(bytes.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_come_in_data_urls_or_stay_where_they_are() {
        let bytes = || Ok(ImageSource::Bytes("abcd".into()));
        for url in [
            "data:image/png;base64,YWJjZA==",
            "data:image/png;base64,YWJjZA",
            "DATA:;BASE64,YWJj\r\nZA==",
            "data:text/plain;charset=utf-8;base64,YWJjZA==",
        ] {
            assert_eq!(image_of_url(url), bytes(), "{url}");
        }
        let address = "HTTPS://example.org/a.png";
        assert_eq!(image_of_url(address), Ok(ImageSource::Url(address.to_owned())));
    }

    #[test]
    fn base64_alone_is_an_image_too() {
        for text in ["YWJjZA==", "data:image/png;base64,YWJjZA=="] {
            assert_eq!(image_of_text(text), Ok(ImageSource::Bytes("abcd".into())), "{text}");
        }
        let address = "http://example.org/a.png";
        assert_eq!(image_of_text(address), Ok(ImageSource::Url(address.to_owned())));
        assert!(image_of_text("file:///etc/passwd").is_err() && image_of_text("a b*").is_err());
    }

    #[test]
    fn what_is_wrong_with_a_url_is_said() {
        for (url, expected) in [
            ("file:///etc/passwd", "is neither a data URL nor an address of http or https"),
            ("", "is neither a data URL nor an address of http or https"),
            ("data:image/png;base64", "is a data URL without data"),
            ("data:image/svg+xml,<svg/>", "is a data URL that is not in base64"),
            ("data:é,", "is a data URL that is not in base64"),
            ("data:;base64,YW*j", "is no valid base64: Invalid symbol 42, offset 2"),
        ] {
            assert_eq!(image_of_url(url), Err(expected.to_owned()), "{url}");
        }
    }
}
