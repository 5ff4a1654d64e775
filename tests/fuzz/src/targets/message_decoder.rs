//! Any bytes as any described message, request or response, served or not, in any version. Claims: no panic, memory within the budget,
//! and what was decoded survives being encoded and decoded again.
//!
//! The input: a byte that chooses the message, one that chooses the version (its highest bit: a response's header comes first), the body.

use super::input::Input;
use super::messages::chosen;

pub fn run(input: &[u8]) {
    if let Some((message, version, body)) = chosen(&mut Input(input)) {
        message.canonical(body, version);
    }
}
