//! Frames survive any way the bytes may be cut, and garbage is refused without harm.

use std::io::{Cursor, Read};

use proptest::prelude::*;
use rkllama_protocol::{
    End, FRAME_BYTES_MAX, FrameError, FromWorker, Generate, KvOrders, Order, Piece, RunSampling,
    Stats, ToWorker, decode, encode, read_frame, write_frame,
};

/// Gives at most `step` bytes a call, as a socket may.
struct Trickle<'a> {
    bytes: &'a [u8],
    step: usize,
}

impl Read for Trickle<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let len = self.step.min(into.len()).min(self.bytes.len());
        into[..len].copy_from_slice(&self.bytes[..len]);
        self.bytes = &self.bytes[len..];
        Ok(len)
    }
}

fn generate(run: u64, tokens: Vec<i32>) -> ToWorker {
    ToWorker::Run(Order::Generate(Generate {
        run,
        tokens,
        pictured: None,
        kv: KvOrders { clear: true, save: Some("/cache/a.kv".into()), ..KvOrders::default() },
        sampling: RunSampling {
            temperature: 0.7,
            top_p: 0.8,
            top_k: None,
            repeat_penalty: 1.1,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
        },
        tokens_max: 16,
        stop_tokens: vec![151_645, 151_643],
    }))
}

proptest! {
    #[test]
    fn frames_come_out_as_they_went_in(
        tokens in prop::collection::vec(any::<i32>(), 0..200),
        text in prop::collection::vec(any::<u8>(), 0..200),
        run in any::<u64>(),
        step in 1_usize..9,
    ) {
        let request = generate(run, tokens);
        let piece = FromWorker::Piece(Piece { run, token: -1, text });
        let mut bytes = Vec::new();
        write_frame(&mut bytes, &request).unwrap();
        write_frame(&mut bytes, &piece).unwrap();

        let mut socket = Trickle { bytes: &bytes, step };
        prop_assert_eq!(read_frame(&mut socket).unwrap(), Some(request));
        prop_assert_eq!(read_frame(&mut socket).unwrap(), Some(piece));
        prop_assert_eq!(read_frame::<FromWorker>(&mut socket).unwrap(), None);
    }

    #[test]
    fn garbage_is_an_error_and_never_a_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode::<FromWorker>(&body);
        let _ = read_frame::<ToWorker>(&mut Cursor::new(body));
    }
}

#[test]
fn a_cut_frame_is_not_a_clean_end() {
    let bytes = encode(&FromWorker::End(End::Stop(Stats::default()))).unwrap();
    for len in 1..bytes.len() {
        let cut = read_frame::<FromWorker>(&mut Cursor::new(&bytes[..len]));
        assert!(matches!(cut, Err(FrameError::Io(_))), "{len}: {cut:?}");
    }
}

#[test]
fn a_length_beyond_the_limit_is_refused_before_any_allocation() {
    let length = u32::try_from(FRAME_BYTES_MAX + 1).unwrap().to_le_bytes();
    let refused = read_frame::<FromWorker>(&mut Cursor::new(length));
    assert!(matches!(refused, Err(FrameError::TooLong(len)) if len == FRAME_BYTES_MAX + 1));
}

#[test]
fn bytes_behind_a_frame_are_garbage() {
    let mut bytes = encode(&ToWorker::Abort(7)).unwrap();
    bytes.push(0);
    assert!(matches!(decode::<ToWorker>(&bytes[4..]), Err(FrameError::Garbage(_))));
}

/// 20 µs of CPU a token is the budget of the whole path: the frame must stay small.
#[test]
fn a_token_takes_few_bytes() {
    let piece = FromWorker::Piece(Piece { run: 1, token: 151_645, text: b" the".to_vec() });
    assert!(encode(&piece).unwrap().len() <= 16);
}
