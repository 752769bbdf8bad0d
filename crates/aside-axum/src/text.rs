//! Builds header values for every answer without the cost of `format!`.

use axum::http::HeaderValue;

/// The capacity in bytes. The longest value that is built here is far shorter.
const ROOM: usize = 128;

/// A header value under construction. Text beyond the capacity is cut off.
pub struct Text {
    bytes: [u8; ROOM],
    length: usize,
}

impl Default for Text {
    fn default() -> Self {
        Self { bytes: [0; ROOM], length: 0 }
    }
}

impl Text {
    /// Adds visible ASCII.
    pub fn put(&mut self, text: &str) -> &mut Self {
        self.put_bytes(text.as_bytes())
    }

    /// Adds a number in decimal.
    pub fn number(&mut self, number: i64) -> &mut Self {
        self.put(itoa::Buffer::new().format(number))
    }

    /// Adds a number as 16 hexadecimal digits.
    pub fn hex(&mut self, number: u64) -> &mut Self {
        let digit = |place: usize| b"0123456789abcdef"[(number >> (60 - 4 * place)) as usize & 15];
        self.put_bytes(&std::array::from_fn::<u8, 16, _>(digit))
    }

    fn put_bytes(&mut self, bytes: &[u8]) -> &mut Self {
        let free = &mut self.bytes[self.length..];
        let length = bytes.len().min(free.len());
        free[..length].copy_from_slice(&bytes[..length]);
        self.length += length;
        self
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
    }

    /// The header value. It is empty if the text contains a byte that no header may contain.
    pub fn value(&self) -> HeaderValue {
        HeaderValue::from_bytes(&self.bytes[..self.length]).unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_numbers_stand_as_they_would_be_formatted() {
        for number in [0, 1, -7, i64::MAX, i64::MIN] {
            let mut text = Text::default();
            text.put("a-").number(number).put("/").hex(number as u64);
            assert_eq!(text.as_str(), format!("a-{number}/{number:016x}"));
            assert_eq!(text.value(), *format!("a-{number}/{number:016x}"));
        }
    }

    #[test]
    fn text_beyond_the_capacity_is_cut_off() {
        assert_eq!(Text::default().put(&"x".repeat(ROOM)).number(7).as_str().len(), ROOM);
    }
}
