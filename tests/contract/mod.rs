//! What the tree itself promises: layers, documents that say what the code does, drift that fails a test.

mod dashboards;
mod documents;
mod files;
mod layers;
mod openapi;
mod policies;
mod prove;
mod settings;
mod sources;
