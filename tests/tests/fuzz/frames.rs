//! Frames between the server and a worker: a worker that went wrong writes anything.

use proptest::{collection::vec, prelude::*};
use rkllama_protocol::{FromWorker, ToWorker, decode, encode, read_frame};
use serde::{Serialize, de::DeserializeOwned};

use crate::corpus::{cases, spliced};

/// Whatever is read is what can be written: else it is an error.
fn frame_body<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    let mut socket = bytes;
    // As a reader does: frame after frame until the end or a mistake.
    while let Ok(Some(frame)) = read_frame::<T>(&mut socket) {
        let again = encode(&frame).unwrap();
        // NaN is unequal to itself, but its bytes are not.
        assert_eq!(encode(&decode::<T>(&again[4..]).unwrap()).unwrap(), again);
    }
}

fn seeds() -> Vec<Vec<u8>> {
    use rkllama_protocol::{End, Generate, KvOrders, Order, Piece, RunSampling, Stats};
    let sampling = RunSampling {
        temperature: 0.7,
        top_p: 0.8,
        top_k: None,
        repeat_penalty: 1.1,
        frequency_penalty: 0.0,
        presence_penalty: 0.0,
    };
    let generate = Generate {
        run: 7,
        tokens: vec![1, 2, 300],
        pictured: None,
        kv: KvOrders { clear: true, save: Some("/a/b".into()), ..KvOrders::default() },
        sampling,
        tokens_max: 16,
        stop_tokens: vec![2],
    };
    let piece = Piece { run: 7, token: -1, text: "é".as_bytes().to_vec() };
    vec![
        encode(&ToWorker::Run(Order::Generate(generate))).unwrap(),
        encode(&FromWorker::Piece(piece)).unwrap(),
        encode(&FromWorker::End(End::Stop(Stats { run: 7, ..Stats::default() }))).unwrap(),
        encode(&FromWorker::End(End::Failed { run: 7, reason: "no".to_owned() })).unwrap(),
    ]
}

proptest! {
    #![proptest_config(cases(4000))]

    #[test]
    fn any_frame_is_read_or_refused(
        bytes in prop_oneof![spliced(seeds()), vec(any::<u8>(), 0..200)]
    ) {
        frame_body::<ToWorker>(&bytes);
        frame_body::<FromWorker>(&bytes);
    }
}
