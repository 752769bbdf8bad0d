//! What the tree itself promises: layers, documents that say what the code does, drift that fails a test.

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
