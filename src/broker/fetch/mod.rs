//! Fetch's memory between requests.

pub mod session;
