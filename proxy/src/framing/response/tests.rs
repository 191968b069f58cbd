use proptest::prelude::*;

use super::super::corpus::{self, ResponseCase, Verdict};
use super::super::script::{Script, read_all};
use super::*;

fn check(case: &ResponseCase, script: Script, size: usize) {
    let (mut guard, handle) = ResponseGuard::new(script, Limits::default());
    handle.expect(case.expected);
    let (delivered, end) = read_all(&mut guard, size);
    let violation = end.err().map(|error| Violation::of(&error).expect("a violation"));
    assert_eq!(handle.violation(), violation, "{}", case.name);
    match case.verdict {
        Verdict::Accept(_) => {
            assert_eq!(violation, None, "{}", case.name);
            assert_eq!(delivered, case.bytes, "{}", case.name);
        }
        Verdict::Reject(expected) => {
            assert_eq!(violation, Some(expected), "{}", case.name);
            assert_eq!(delivered, b"", "{}", case.name);
        }
        Verdict::RejectAfter(_, expected) | Verdict::Break(expected) => {
            assert_eq!(violation, Some(expected), "{}", case.name);
            assert!(
                !delivered.is_empty() && case.bytes.starts_with(&delivered),
                "{}",
                case.name
            );
        }
    }
}

#[test]
fn every_response_of_the_corpus_gets_its_verdict() {
    let cases = corpus::responses();
    assert!(cases.len() >= 30, "{}", cases.len());
    for case in &cases {
        check(case, Script::whole(&case.bytes), 8192);
    }
}

#[test]
fn a_response_may_come_byte_by_byte() {
    for case in corpus::responses() {
        check(&case, Script::bytewise(&case.bytes), 100);
    }
}

#[test]
fn bytes_that_nobody_asked_for_poison_the_connection() {
    let (mut guard, handle) =
        ResponseGuard::new(Script::whole(b"HTTP/1.1 408 Timeout\r\n\r\n"), Limits::default());
    let (delivered, end) = read_all(&mut guard, 100);
    assert_eq!(delivered, b"");
    assert_eq!(Violation::of(&end.unwrap_err()), Some(Violation::Unsolicited));
    assert_eq!(handle.violation(), Some(Violation::Unsolicited));
}

proptest! {
    #[test]
    fn it_does_not_matter_how_a_response_is_cut(
        index in any::<prop::sample::Index>(),
        cuts in prop::collection::vec(any::<usize>(), 0..12),
        size in 1_usize..9000,
    ) {
        let cases = corpus::responses();
        let case = index.get(&cases);
        check(case, Script::cut(&case.bytes, &cuts), size);
    }
}

proptest! {
    #[test]
    fn damaged_responses_are_decided_alike_however_they_are_cut(
        index in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<usize>(), any::<u8>()), 1..4),
        cuts in prop::collection::vec(any::<usize>(), 0..12),
    ) {
        let cases = corpus::responses();
        let case = index.get(&cases);
        let mut bytes = case.bytes.clone();
        for (at, byte) in damage {
            let len = bytes.len();
            bytes[at % len] = byte;
        }
        let pass = |script, size| {
            let (mut guard, handle) = ResponseGuard::new(script, Limits::default());
            handle.expect(case.expected);
            let (delivered, _) = read_all(&mut guard, size);
            (delivered, handle.violation())
        };
        prop_assert_eq!(pass(Script::cut(&bytes, &cuts), 300), pass(Script::whole(&bytes), 8192));
    }
}

mod with_hyper;
