//! The text of keys and tags: segments, each escaped, with colons between them.

use std::{cell::RefCell, fmt, sync::Arc};

use crate::key::Tenant;

/// The segments of a key or a tag after its pattern: nothing, one value, or a tuple of values. Each
/// value becomes one segment, escaped where needed.
pub trait Segments {
    /// Calls `add` with each segment.
    fn each(&self, add: &mut dyn FnMut(&dyn fmt::Display));
}

impl<S: Segments + ?Sized> Segments for &S {
    fn each(&self, add: &mut dyn FnMut(&dyn fmt::Display)) {
        (**self).each(add);
    }
}

macro_rules! one_segment {
    ($($type:ty),*) => {
        $(impl Segments for $type {
            fn each(&self, add: &mut dyn FnMut(&dyn fmt::Display)) {
                add(&self);
            }
        })*
    };
}

one_segment!(i8, i16, i32, i64, i128, isize, u8, u16, u32, u64, u128, usize, bool, char, str, String, uuid::Uuid);

macro_rules! many_segments {
    ($($name:ident),*) => {
        impl<$($name: Segments),*> Segments for ($($name,)*) {
            #[allow(non_snake_case, unused_variables)]
            fn each(&self, add: &mut dyn FnMut(&dyn fmt::Display)) {
                let ($($name,)*) = self;
                $($name.each(add);)*
            }
        }
    };
}

impl<S: Segments> Segments for [S] {
    fn each(&self, add: &mut dyn FnMut(&dyn fmt::Display)) {
        self.iter().for_each(|segment| segment.each(add));
    }
}

many_segments!();
many_segments!(A);
many_segments!(A, B);
many_segments!(A, B, C);
many_segments!(A, B, C, D);
many_segments!(A, B, C, D, E);

pub(crate) fn join(pattern: &str, tenant: Option<&Tenant>, segments: impl Segments) -> Arc<str> {
    use fmt::Write;
    thread_local! {
        /// A buffer in which the text of a tag is built. A new tag then allocates only its own
        /// text.
        static TEXT: RefCell<String> = const { RefCell::new(String::new()) };
    }
    // The buffer is taken out, because a segment's `Display` could build a tag too.
    let mut text = TEXT.take();
    text.push_str(pattern);
    if let Some(tenant) = tenant {
        text.push(':');
        text.push_str(tenant.as_str());
    }
    segments.each(&mut |segment| {
        text.push(':');
        // Writing to a `String` does not fail.
        let _ = write!(Escaped(&mut text), "{segment}");
    });
    let joined = text.as_str().into();
    text.clear();
    TEXT.set(text);
    joined
}

/// Whether a text is a segment in the spelling of keys. Each segment has only one spelling.
///
/// ```
/// use aside_cache::is_segment;
///
/// assert!(is_segment("TROPICAL%20FRUIT"));
/// assert!(!is_segment("TROPICAL FRUIT"));
/// ```
pub fn is_segment(text: &str) -> bool {
    let mut bytes = text.bytes();
    let mut plain = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        plain.push(match byte {
            b'%' => match (digit(bytes.next()), digit(bytes.next())) {
                (Some(high), Some(low)) => (16 * high + low) as u8,
                _ => return false,
            },
            byte => byte,
        });
    }
    !text.is_empty()
        && String::from_utf8(plain).is_ok_and(|plain| *join("", None, plain.as_str()) == *format!(":{text}"))
}

/// Percent-escapes everything but letters, digits, `-`, `.` and `_` in the text of a key.
struct Escaped<'a>(&'a mut String);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        if part.as_bytes().iter().all(plain) {
            self.0.push_str(part);
            return Ok(());
        }
        for byte in part.bytes() {
            if plain(&byte) {
                self.0.push(byte as char);
            } else {
                write!(self.0, "%{byte:02X}")?;
            }
        }
        Ok(())
    }
}
