//! Counts words: what stands between spaces and line ends. A program by itself.
//!
//!     rustc --target wasm32-unknown-unknown --crate-type cdylib -C opt-level=3 -C panic=abort count-words.rs
//!     pfs run count_words.wasm book.txt

mod packetfs;

/// Each byte above a space is of a word, and each such byte behind one that is not begins a word.
///
/// # Safety
/// PacketFS calls it with bytes that it has put where `alloc` said.
#[no_mangle]
pub unsafe extern "C" fn map(place: *const u8, length: usize) -> f64 {
    let mut words = 0u32;
    let mut was_word = false;
    for &byte in packetfs::given(place, length) {
        let is_word = byte > b' ';
        words += (is_word & !was_word) as u32;
        was_word = is_word;
    }
    words as f64
}

#[no_mangle]
pub extern "C" fn combine(a: f64, b: f64) -> f64 {
    a + b
}
