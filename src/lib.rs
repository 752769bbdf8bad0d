//! # Aside
//!
//! A reference order and product service that shows cache-aside with explicit invalidation done right, and a test template for
//! teams that copy it. The one idea to remember: **Redis is never believed.** Postgres numbers every change; every cached answer
//! carries the numbers it was read at; every instance knows the lowest number it may still serve. Redis can then be wrong, late
//! or gone without one stale answer.
//!
//! ```text
//!  read    GET /products/42                            write   PATCH /products/42
//!            │                                                   │
//!          http        headers, ETag, Cache-Status             http        If-Match, validation
//!            │                                                   │
//!          domain      CachedProductService                    domain      CachedProductService
//!            │           one get_or_load                         │           begin · store call · invalidate · commit
//!  ┌─ cache ─┴───────────────────────────────┐         ┌─ cache ─┴───────────────────────────────┐
//!  │ L1 memory ──hit──► serve rule ─► answer │         │ ledger: raise the number of each name   │
//!  │    │ miss             ▲                 │         │    │ in the same transaction            │
//!  │ single flight         │ floors          │         │ COMMIT                                  │
//!  │    │                  │                 │         │    │                                    │
//!  │ L2 Redis ──hit────────┤                 │         │ raise own floors, drop L1 ──► answer    │
//!  │    │ miss             │                 │         │    │                                    │
//!  │ Postgres: value + numbers, one snapshot │         │ delete from L2, in the background       │
//!  └────┴─────────────► fill L1 and L2 ──────┘         └──── other instances poll the ledger ────┘
//! ```
//!
//! Where to start reading:
//! - [`domain::products::service`] and [`domain::orders::service`]: the pattern itself, in the one kind of file that has it.
//! - [`cache`]: the tiers, the ledger and the freshness rule; imports nothing else of this crate and can be copied as it is.
//! - [`cdn`]: a shared HTTP cache in front of the service, told of every change by the ledger.
//! - [`http`]: every route and layer on one screen. [`management`]: the second listener, never public.
//! - [`app`]: how the parts are put together, and the order in which they end. [`config`]: every setting.
//!
//! Arrows run one way, and a test checks them: `main → cli → app → http, management → domain, cdn → cache`; `audit`, `config`,
//! `telemetry`, `readiness` and `shutdown` are leaves.

#![forbid(unsafe_code)]

pub mod app;
pub mod audit;
pub mod cache;
pub mod cdn;
pub mod cli;
pub mod config;
pub mod domain;
pub mod http;
pub mod management;
pub mod readiness;
pub mod seed;
pub mod shutdown;
pub mod telemetry;
pub mod warming;
