//! What Kubernetes and we agree on: kinds, labels, annotations, names. Types without behaviour.

pub mod condition;
pub mod destination;
pub mod labels;
pub mod tenant;
