//! Programs of other people, made available by `cargo xtask test`.
