//! End-to-end tests.

mod harness;

mod run_sandbox;
