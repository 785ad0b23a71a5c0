//! Places on pictures of screens.

use std::sync::Arc;

use crate::{Image, KeepAlive, Model};

/// A picture of a screen, on which the place for a click is looked for.
#[derive(Debug, Clone)]
pub struct PointRequest {
    /// The model, already resolved from the name the client used.
    pub model: Arc<Model>,
    /// What the click is to do; not empty. Names of control tokens in it are text.
    pub task: String,
    /// The picture.
    pub screen: Image,
    /// Whether a picture with the place marked is wanted too.
    pub draws: bool,
    /// How long the model stays loaded afterwards; `None` leaves it to the server.
    pub keep_alive: Option<KeepAlive>,
    /// Who asks: clients take turns.
    pub client: Arc<str>,
}

/// Where to click.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointed {
    /// Pixels from the picture's left edge.
    pub x: u32,
    /// Pixels from its top.
    pub y: u32,
    /// The picture's width, turned upright.
    pub width: u32,
    /// Its height.
    pub height: u32,
    /// The picture with a cross on the place, as a JPEG file, where it was wanted.
    pub drawn: Option<Vec<u8>>,
    /// Tokens that were read, those of the picture among them.
    pub tokens: u32,
}
