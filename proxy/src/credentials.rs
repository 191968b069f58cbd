//! Step 4 of the data path: from an authentication type to what is put on the request.

pub mod basic;
pub mod oauth2;
pub mod token_cache;
