//! All end-to-end tests in one binary.
#![expect(
    unreachable_pub,
    reason = "a test binary exports nothing; `pub` marks what other modules use"
)]

mod harness;

mod oauth;
mod redirect;
mod run_sandbox;
