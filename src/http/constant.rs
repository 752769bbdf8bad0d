//! Answers that stay the same until the next deployment: the pages, the API document, and the types
//! of problem. Each has a validator and is compressed when it is built, not when it is sent.

use std::io::Write;

use aside_axum::{Conditions, EntityTag, Validation};
use axum::{
    body::Bytes,
    http::{HeaderMap, HeaderValue, header},
    response::Response,
};
use flate2::{Compression, write::GzEncoder};

use super::{negotiation, problem::Problem};

/// The minimum size of a compressed body. Smaller bodies gain nothing.
const COMPRESSED_FROM: usize = 1024;

/// The bytes in each of their codings. Each coding has its own entity tag, a digest of its own
/// bytes (RFC 9110, section 8.8.3).
#[derive(Clone, Debug)]
pub struct Constant {
    content_type: HeaderValue,
    plain: (Bytes, EntityTag),
    gzip: Option<(Bytes, EntityTag)>,
}

impl Constant {
    /// Compresses the bytes. This blocks for milliseconds if there are many bytes.
    pub fn new(content_type: HeaderValue, bytes: Bytes) -> Self {
        let gzip = (bytes.len() >= COMPRESSED_FROM).then(|| gzip(&bytes)).flatten();
        Self { content_type, plain: tagged(bytes), gzip: gzip.map(tagged) }
    }

    /// The response to a GET or HEAD: 200, 304, or 412.
    pub fn respond(
        &self,
        headers: &HeaderMap,
        conditions: &Conditions,
        cache_control: HeaderValue,
    ) -> Result<Response, Problem> {
        let gzip = self.gzip.as_ref().filter(|_| negotiation::accepts_gzip(headers));
        let (bytes, tag) = gzip.unwrap_or(&self.plain);
        let validation = conditions.evaluate(tag)?;
        let mut out = HeaderMap::new();
        out.insert(header::ETAG, tag.header());
        out.insert(header::CACHE_CONTROL, cache_control);
        if self.gzip.is_some() {
            out.append(header::VARY, HeaderValue::from_static("accept-encoding"));
        }
        if validation == Validation::Modified {
            out.insert(header::CONTENT_TYPE, self.content_type.clone());
            if gzip.is_some() {
                out.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
        }
        Ok(validation.respond(out, bytes.clone()))
    }
}

fn tagged(bytes: Bytes) -> (Bytes, EntityTag) {
    let tag = EntityTag::of(None, &bytes);
    (bytes, tag)
}

/// Compresses the bytes; `None` if the result is not smaller.
fn gzip(bytes: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).ok()?;
    let packed = encoder.finish().ok()?;
    (packed.len() < bytes.len()).then(|| packed.into())
}
