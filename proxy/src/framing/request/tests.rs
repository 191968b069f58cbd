use proptest::prelude::*;
use tokio::runtime::{Builder, Runtime};

use super::super::corpus::{self, RequestCase, Verdict};
use super::super::script::{Script, read_all};
use super::*;

/// Timers want one.
fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

/// What comes out of a guard: bytes, violations of the requests in their order, and how it ended.
fn pass(script: Script, size: usize) -> (Vec<u8>, Vec<Option<Violation>>, Option<Violation>) {
    let (mut guard, handle) = RequestGuard::new(script, Limits::default(), Deadlines::default());
    let (delivered, end) = read_all(&mut guard, size);
    let turns = (0..guard.delivered())
        .map(|_| handle.begin().violation())
        .collect();
    (
        delivered,
        turns,
        end.err().map(|error| Violation::of(&error).expect("a violation")),
    )
}

fn check(case: &RequestCase, script: Script, size: usize) {
    let (delivered, turns, end) = pass(script, size);
    let name = case.name;
    let good = |count| vec![None; count];
    match case.verdict {
        Verdict::Accept(count) => {
            assert_eq!((turns, end), (good(count), None), "{name}");
            assert_eq!(delivered, case.bytes, "{name}");
        }
        Verdict::Reject(violation) => {
            assert_eq!((turns, end), (vec![Some(violation)], None), "{name}");
            assert_eq!(delivered, REPLACEMENT, "{name}");
        }
        Verdict::RejectAfter(count, violation) => {
            assert_eq!(
                (turns, end),
                ([good(count), vec![Some(violation)]].concat(), None),
                "{name}"
            );
            let passed = delivered.strip_suffix(REPLACEMENT).expect(name);
            assert!(!passed.is_empty() && case.bytes.starts_with(passed), "{name}");
        }
        Verdict::Break(violation) => {
            assert_eq!((turns, end), (good(1), Some(violation)), "{name}");
            assert!(
                !delivered.is_empty() && case.bytes.starts_with(&delivered),
                "{name}"
            );
        }
    }
}

#[test]
fn every_request_of_the_corpus_gets_its_verdict() {
    let runtime = runtime();
    let _context = runtime.enter();
    let cases = corpus::requests();
    assert!(cases.len() >= 60, "{}", cases.len());
    for case in &cases {
        check(case, Script::whole(&case.bytes), 8192);
    }
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let runtime = runtime();
    let _context = runtime.enter();
    for case in corpus::requests() {
        check(&case, Script::bytewise(&case.bytes), 100);
    }
}

#[test]
fn the_names_in_the_corpus_are_unique() {
    let mut names: Vec<_> = corpus::requests().into_iter().map(|case| case.name).collect();
    names.sort_unstable();
    for pair in names.windows(2) {
        assert_ne!(pair[0], pair[1]);
    }
}

#[test]
fn a_protocol_is_known_by_its_first_bytes() {
    assert_eq!(detect(b""), None);
    assert_eq!(detect(b"P"), None);
    assert_eq!(detect(&PREFACE[..23]), None);
    assert_eq!(detect(PREFACE), Some(Protocol::Http2));
    assert_eq!(detect(b"PRI * HTTP/2.0\r\n\r\nSMX"), Some(Protocol::Http1));
    assert_eq!(detect(b"POST"), Some(Protocol::Http1));
    assert_eq!(detect(b"\x16"), Some(Protocol::Http1));
}

proptest! {
    #[test]
    fn it_does_not_matter_how_a_request_is_cut(
        index in any::<prop::sample::Index>(),
        cuts in prop::collection::vec(any::<usize>(), 0..12),
        size in 1_usize..9000,
    ) {
        let runtime = runtime();
        let _context = runtime.enter();
        let cases = corpus::requests();
        let case = index.get(&cases);
        check(case, Script::cut(&case.bytes, &cuts), size);
    }

    #[test]
    fn damaged_streams_are_decided_alike_however_they_are_cut(
        index in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<usize>(), any::<u8>()), 0..4),
        cuts in prop::collection::vec(any::<usize>(), 0..12),
    ) {
        let runtime = runtime();
        let _context = runtime.enter();
        let cases = corpus::requests();
        let mut bytes = index.get(&cases).bytes.clone();
        for (at, byte) in damage {
            let len = bytes.len();
            bytes[at % len] = byte;
        }
        prop_assert_eq!(pass(Script::cut(&bytes, &cuts), 300), pass(Script::whole(&bytes), 8192));
    }
}

mod with_hyper;
