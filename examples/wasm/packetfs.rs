//! What a WebAssembly module for PacketFS exports and imports, for Rust. README.md says what each is.
//!
//!     rustc --target wasm32-unknown-unknown --crate-type cdylib -C opt-level=3 -C panic=abort kernel.rs

#[link(wasm_import_module = "packetfs")]
extern "C" {
    #[link_name = "log"]
    fn packetfs_log(text: *const u8, length: usize);
}

/// One line for the console of the job.
#[allow(dead_code)]
pub fn log(line: &str) {
    unsafe { packetfs_log(line.as_ptr(), line.len()) }
}

/// Bytes that a function gives: their place in the upper half, their length in the lower one. 0 is nothing. They have to stay
/// where they are until the next call: `Box::leak`, or a static.
#[allow(dead_code)]
pub fn give(bytes: &'static [u8]) -> u64 {
    (bytes.as_ptr() as u64) << 32 | bytes.len() as u64
}

/// What PacketFS has given to a function.
///
/// # Safety
/// `place` and `length` are what it was called with, and the bytes are its own until it returns.
pub unsafe fn given<'a>(place: *const u8, length: usize) -> &'a [u8] {
    core::slice::from_raw_parts(place, length)
}

/// Where PacketFS puts what it gives. Nothing is freed: when a packet has ended, all of its memory is as it was before.
#[no_mangle]
pub extern "C" fn alloc(length: usize) -> *mut u8 {
    Box::leak(vec![0u8; length].into_boxed_slice()).as_mut_ptr()
}
