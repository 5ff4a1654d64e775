//! What a broker meets on an open port: bytes that are no request, requests that lie, clients that crawl or never read.
//!
//! After each of them an honest client is served, the process is the same, and memory is bounded.
//!
//! - `honest`: the client that must not notice.
//! - `samples`: a valid request of every kind, to be spoilt.
//! - `frames`: spoilt frames and requests.
//! - `lengths`: every length of every request, lying.
//! - `batches`: spoilt record batches and topic names.
//! - `connections`: slow, silent and greedy clients.

mod batches;
mod connections;
mod frames;
pub mod honest;
mod lengths;
pub mod samples;
