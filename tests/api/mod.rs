//! The service as its HTTP clients see it. Every test has its own database and its own namespace in Redis.

mod bad_input;
mod conditional;
mod consistency;
mod database_outage;
mod directives;
mod disconnects;
mod health;
mod idempotency;
mod identity;
mod instances;
mod kill_at_every_step;
mod limits;
mod lists;
mod management;
mod memory;
mod moments;
mod orders;
mod outside_writers;
mod page;
mod products;
mod redis_outage;
mod rows;
mod sealing;
mod shutdown;
mod stale;
mod traces;
