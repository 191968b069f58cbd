//! disturbances
