//! What of a secret is left on a thread's stack when the functions that computed with it have returned? Nothing, once the
//! task has yielded: whoever handles keys marks the stack, and [`crate::tasks`] overwrites it below the task's first frame.
//!
//! Zeroizing types wipe the value that they own, and not the copies that a compiler makes when it moves one, spills a
//! register, or that a library's frames leave. Freed heap blocks are the allocator's to wipe (see each program's `main.rs`).

use std::cell::Cell;
use std::hint::black_box;

/// As deep as a handshake goes below a task's first frame, with room to spare; without optimisation frames are larger.
/// Overwriting it takes some microseconds, twice in a connection's life.
const DEPTH: usize = if cfg!(debug_assertions) { 512 * 1024 } else { 128 * 1024 };

thread_local! {
    static MARKED: Cell<bool> = const { Cell::new(false) };
}

/// Notes that this thread's stack holds, or held, parts of secrets.
pub(crate) fn mark() {
    MARKED.set(true);
}

/// Marks the stack when it is dropped: held by what computes with secrets over several polls, all on one thread. However it
/// ends, the last poll is followed by one wipe.
pub(crate) struct Footprint;

impl Drop for Footprint {
    fn drop(&mut self) {
        mark();
    }
}

/// Overwrites what returned functions left on the stack, if somebody marked it.
pub(crate) fn wipe_if_marked() {
    if MARKED.get() {
        MARKED.set(false);
        wipe();
    }
}

/// Calls a function that computes with secrets, and overwrites what it left on the stack. What it returns should hold its
/// secrets behind pointers.
#[inline(never)]
pub(crate) fn wiping<T>(compute: impl FnOnce() -> T) -> T {
    let result = below(compute);
    wipe();
    result
}

/// Gives `function` a frame of its own, below its caller's.
#[inline(never)]
fn below<T>(function: impl FnOnce() -> T) -> T {
    function()
}

/// Its frame lies where those of the functions were that the caller called before.
#[inline(never)]
fn wipe() {
    let block = [0_u8; DEPTH];
    black_box(&block);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stack_is_wiped_once_for_each_mark() {
        wipe_if_marked();
        mark();
        assert!(MARKED.get());
        wipe_if_marked();
        assert!(!MARKED.get());
    }
}
