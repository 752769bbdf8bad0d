//! # Aside
//!
//! A reference order and product service that shows cache-aside with explicit invalidation, and a
//! test template for teams that copy it. The one idea to remember: **Redis is never trusted.**
//! Postgres gives every change a version. Every cached answer carries the versions at which it was
//! read. Every instance knows the lowest version that it may still serve. Redis can then be wrong,
//! late or down, and no answer is stale.
//!
//! ```text
//!  read    GET /products/42                            write   PATCH /products/42
//!            │                                                   │
//!          http        headers, ETag, Cache-Status             http        If-Match, validation
//!            │                                                   │
//!          domain      CachedProductService                    domain      CachedProductService
//!            │           one get_or_load                         │           begin · store call · invalidate · commit
//!  ┌─ cache ─┴───────────────────────────────┐         ┌─ cache ─┴───────────────────────────────┐
//!  │ L1 memory ──hit──► freshness ──► answer │         │ ledger: raise the version of each tag   │
//!  │    │ miss             ▲                 │         │    │ in the same transaction            │
//!  │ single flight         │ floors          │         │ COMMIT                                  │
//!  │    │                  │                 │         │    │                                    │
//!  │ L2 Redis ──hit────────┤                 │         │ raise own floors, drop L1 ──► answer    │
//!  │    │ miss             │                 │         │    │                                    │
//!  │ Postgres: value, versions, one snapshot │         │ delete from L2, in the background       │
//!  └────┴─────────────► fill L1 and L2 ──────┘         └──── other instances poll the ledger ────┘
//! ```
//!
//! Where to start reading:
//! - [`domain::products::service`] and [`domain::orders::service`]: the pattern itself. Only these
//!   files contain it.
//! - [`aside_cache`]: the tiers, the ledger and the freshness rule, and [`aside_axum`]: their
//!   directives, conditions and tokens over HTTP. Both know nothing of this service.
//! - [`cdn`]: a shared HTTP cache in front of the service, which is purged for every change in the
//!   ledger.
//! - [`http`]: every route and layer on one screen. [`management`]: the second listener, which is
//!   never public.
//! - [`app`]: how the parts are connected, and the order in which they stop. [`config`]: every
//!   setting.
//!
//! Dependencies run one way, and a test checks them:
//! `main → cli → app → http, management → domain, cdn`. `audit`, `config`, `telemetry`,
//! `readiness` and `shutdown` depend on no other module.

#![forbid(unsafe_code)]

pub mod app;
pub mod audit;
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
