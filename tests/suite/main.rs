//! All end-to-end tests in one binary.
#![expect(
    unreachable_pub,
    reason = "a test binary exports nothing; `pub` marks what other modules use"
)]
#![expect(
    clippy::unwrap_used,
    reason = "in helpers as in tests: a panic says where, and fails the test"
)]

mod harness;

mod agent;
mod api_server;
mod applications;
mod chart;
mod clients;
mod controller;
mod doctor;
mod documentation;
mod explain;
mod healthcheck;
mod live;
mod namespaces;
mod newer;
mod oauth;
mod redirect;
mod roles;
mod run_sandbox;
mod smuggling;
mod streams;
mod tokens;
