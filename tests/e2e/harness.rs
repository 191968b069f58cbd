//! What the scenarios are written with.

pub mod cluster;
pub mod destination;
pub mod installation;
pub mod node;
pub mod outside;
pub mod page;
pub mod pod;
pub mod pressure;
pub mod wait;
pub mod world;
