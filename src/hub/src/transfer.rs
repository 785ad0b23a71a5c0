//! One file, from the hub to the disk.
//!
//! ```text
//!  nothing --> part <--- attempt brings bytes, breaks ---+
//!               |                                        |
//!               +--- wait, ask for what is missing ------+
//!               |
//!               +--- whole, and the checksum fits --> file
//!               +--- too long, or it does not ------> nothing
//! ```

use std::{path::Path, pin::pin};

use futures_util::TryStreamExt;

use crate::{
    HubError, RemoteFile,
    attempts::{Attempts, Fault},
    disk::check_space,
    link::{Link, Question},
    part::{Part, folder_of},
};

/// A file on its way.
pub(crate) struct Transfer<'a> {
    pub(crate) link: &'a Link,
    pub(crate) question: Question,
    pub(crate) file: &'a RemoteFile,
    pub(crate) path: &'a Path,
    /// The length, once anybody has told it.
    pub(crate) bytes: Option<u64>,
    pub(crate) progress: &'a mut (dyn FnMut(u64) + Send),
}

impl Transfer<'_> {
    /// Goes on from what is there until the file is whole.
    pub(crate) async fn run(mut self, mut part: Part) -> Result<(), HubError> {
        match self.bring(&mut part).await {
            Ok(()) => part.finish(self.path).await,
            Err(error) => {
                part.keep().await;
                Err(error)
            }
        }
    }

    async fn bring(&mut self, part: &mut Part) -> Result<(), HubError> {
        if self.bytes.is_some_and(|bytes| part.len() > bytes) {
            part.clear().await?;
        }
        self.check_space(part)?;
        (self.progress)(part.len());
        let what = self.question.what.clone();
        let mut attempts = Attempts::new(&what, &self.link.patience);
        // A server that starts over each time brings bytes, but none that were not there before.
        let mut len_max = part.len();
        while self.bytes.is_none_or(|bytes| part.len() < bytes) {
            match self.attempt(part).await {
                Ok(()) => break,
                Err(fault) => {
                    if part.len() > len_max {
                        len_max = part.len();
                        attempts.forgive();
                    }
                    if let Fault::Useless { .. } = fault {
                        part.clear().await?;
                    }
                    attempts.wait(fault).await?;
                }
            }
        }
        self.check(part).await
    }

    /// Asks once for what is missing.
    async fn attempt(&mut self, part: &mut Part) -> Result<(), Fault> {
        let answer = self.link.ask(&self.question, part.len()).await?;
        let bytes = self.agree(answer.bytes, part)?;
        if answer.start != part.len() {
            part.clear().await?;
        }
        let mut body = pin!(answer.body);
        while let Some(piece) = body.try_next().await? {
            let piece = piece.as_ref();
            let len = part.len() + piece.len() as u64;
            if len > bytes {
                part.clear().await?;
                return Err(self.wrong_size(bytes, len).into());
            }
            part.write(piece).await?;
            (self.progress)(len);
        }
        if part.len() < bytes {
            return Err(Fault::passing("the answer ends before the file does"));
        }
        Ok(())
    }

    /// The length that the hub and the transfer agree on.
    fn agree(&mut self, announced: Option<u64>, part: &Part) -> Result<u64, HubError> {
        match (self.bytes, announced) {
            (Some(known), Some(announced)) if known != announced => {
                Err(self.wrong_size(known, announced))
            }
            (Some(known), _) => Ok(known),
            (None, Some(announced)) => {
                self.bytes = Some(announced);
                self.check_space(part)?;
                Ok(announced)
            }
            (None, None) => Err(HubError::Malformed {
                what: self.question.what.clone(),
                reason: "nothing tells its length".to_owned(),
            }),
        }
    }

    fn check_space(&self, part: &Part) -> Result<(), HubError> {
        let missing_bytes = self.bytes.unwrap_or(0).saturating_sub(part.len());
        check_space(self.path, folder_of(self.path), missing_bytes)
    }

    async fn check(&mut self, part: &mut Part) -> Result<(), HubError> {
        let Some(expected) = self.file.sha256.clone() else { return Ok(()) };
        let got = part.sha256();
        if expected == got {
            return Ok(());
        }
        part.clear().await?;
        Err(HubError::Mismatch { file: self.question.what.clone(), expected, got })
    }

    fn wrong_size(&self, expected: u64, got: u64) -> HubError {
        HubError::Size { file: self.question.what.clone(), expected, got }
    }
}
