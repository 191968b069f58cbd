use proptest::prelude::*;

use super::*;

fn encode(chunks: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
        bytes.extend_from_slice(format!("{:X};a=b\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\nX-Sum: 1\r\n\r\n");
    bytes
}

#[test]
fn a_length_counts_down_over_several_reads() {
    let mut body = BodyScan::Length(5);
    assert_eq!(body.feed(b"abc"), Ok(3));
    assert!(!body.is_over());
    assert_eq!(body.feed(b"deGET"), Ok(2));
    assert!(body.is_over());
}

#[test]
fn what_precedes_the_fault_is_good() {
    let mut body = BodyScan::chunked(&Limits::default());
    assert_eq!(body.feed(b"1\r\nxx"), Err((4, Violation::ChunkEnd)));
}

proptest! {
    #[test]
    fn chunks_end_where_they_were_made_to_end(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8),
        after in prop::collection::vec(any::<u8>(), 0..20),
        step in 1_usize..50,
    ) {
        let encoded = encode(&chunks);
        let bytes = [&encoded[..], &after].concat();
        let mut body = BodyScan::chunked(&Limits::default());
        let mut at = 0;
        while !body.is_over() {
            let piece = &bytes[at..(at + step).min(bytes.len())];
            at += body.feed(piece).expect("well-formed");
        }
        prop_assert_eq!(at, encoded.len());
    }
}
