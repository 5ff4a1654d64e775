//! What the fuzz binaries run: one function per target, over any bytes.

pub mod targets;
