//! Conversations with images as the runtime takes them: a text with a mark for each image.
//!
//! Only a text can carry images, so here the runtime tokenises, and names of control tokens in it are
//! control tokens. What a message holds of such names is therefore broken with a character that nobody
//! sees. The tokens are counted on that very text, so that they are those that the runtime makes.

use rkllama_core::{Chat, IMAGE_MARK, ImageTags};

use crate::{Codec, Encoded, Rendered, TextError, guard::BREAKER};

/// The runtime's mark for an image, and the one for a film, which would make it look for one.
const MARKS: [(&str, &str); 2] = [(IMAGE, "<\u{200b}image>"), ("<video>", "<\u{200b}video>")];
const IMAGE: &str = "<image>";
/// What a message's control tokens are broken with: a space of no width.
const UNSEEN: &str = "\u{200b}";

/// The id that stands for the image of this place in [`Codec::pictured`]'s tokens.
pub const fn image_placeholder(place: usize) -> i32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        reason = "images are few"
    )]
    let place = place as i32;
    -2 - place
}

/// The place of the image for which this id stands, if it is such a one.
pub fn image_place(id: i32) -> Option<usize> {
    usize::try_from(-2 - i64::from(id)).ok()
}

impl Codec {
    /// A rendered conversation with images as a text, behind the text of its preface, and as tokens with
    /// one [`image_placeholder`] for each image, the tokens around it beside it.
    ///
    /// # Errors
    /// [`TextError::Template`] where the template left an image out; else as [`Codec::encode`].
    pub(crate) fn pictured(
        &self,
        rendered: &Rendered,
        chat: &Chat,
        tokens_max: usize,
    ) -> Result<(String, Encoded), TextError> {
        let images: usize = chat.messages.iter().map(|message| message.images.len()).sum();
        let none = ImageTags::default();
        let tags = self.image_tags().unwrap_or(&none);
        let parts: Vec<String> = rendered.guarded().split(IMAGE_MARK).map(said).collect();
        if parts.len() != images + 1 {
            let reason = "the template leaves out an image".to_owned();
            return Err(TextError::Template { reason });
        }
        // The runtime is given one text and no tokens in front of it.
        let preface = without_marks(&self.text_of(&chat.preface)?);
        let mut tokens = self.ids_of_parts(&[(false, &preface)])?;
        for (place, part) in parts.iter().enumerate() {
            if place > 0 {
                tokens.extend(self.ids_of_parts(&[(false, &tags.start)])?);
                tokens.push(image_placeholder(place - 1));
                tokens.extend(self.ids_of_parts(&[(false, &tags.end)])?);
            }
            match self.encode_part(part, tokens_max)? {
                Encoded::Whole(ids) => tokens.extend(ids),
                too_long @ Encoded::TooLong { .. } => return Ok((String::new(), too_long)),
            }
        }
        Ok((preface + &parts.join(IMAGE), Encoded::Whole(tokens)))
    }

    /// A text around one image that is no conversation: `before` it, and behind it what somebody
    /// has `said` with `behind` around that. As a text and as tokens with [`image_placeholder`] in the
    /// image's place, the tokens around it beside it. In what was said names of control tokens are text.
    ///
    /// # Errors
    /// As [`Codec::encode`].
    pub fn around_image(
        &self,
        before: &str,
        said_by_client: &str,
        behind: &str,
        tokens_max: usize,
    ) -> Result<(String, Encoded), TextError> {
        let none = ImageTags::default();
        let tags = self.image_tags().unwrap_or(&none);
        let said_by_client = said_by_client.replace(IMAGE_MARK, "\u{fffd}");
        let broken = said(&self.guarded(&[(true, &said_by_client)]));
        let text = [&*broken, behind].concat();
        let mut tokens = self.ids_of_parts(&[(false, before)])?;
        tokens.extend(self.ids_of_parts(&[(false, &tags.start)])?);
        tokens.push(image_placeholder(0));
        tokens.extend(self.ids_of_parts(&[(false, &tags.end)])?);
        Ok(match self.encode_part(&text, tokens_max)? {
            Encoded::Whole(ids) => {
                tokens.extend(ids);
                ([before, IMAGE, &*text].concat(), Encoded::Whole(tokens))
            }
            too_long @ Encoded::TooLong { .. } => (String::new(), too_long),
        })
    }
}

/// A part of the text between two images.
fn said(guarded: &str) -> String {
    without_marks(&guarded.replace(BREAKER, UNSEEN))
}

/// A text in which the runtime sees no images.
pub fn without_marks(text: &str) -> String {
    MARKS.iter().fold(text.to_owned(), |text, (mark, broken)| text.replace(mark, broken))
}
