//! The tests of the tree itself: layers, and agreement between code, documents and configuration. A
//! difference fails a test.

mod adopt;
mod compose;
mod dashboards;
mod dependencies;
mod documents;
mod environment;
mod files;
mod kubernetes;
mod layers;
mod openapi;
mod policies;
mod prose;
mod prove;
mod requests;
mod servers;
mod settings;
mod sources;
